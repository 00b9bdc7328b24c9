//! Whole conversations with a real node behind.

use crdt::{Namespace, Value};
use replica::{Action, Intent};
use resp::{Call, HeldCall, Limits, Password, Session, SessionConfig, Step};

use crate::node::Door;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

/// Sends one line after the other and compares each answer.
fn talk(door: &mut Door, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        let answer = door.send(format!("{line}\r\n"));
        assert_eq!(answer.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string(), "{line}");
    }
}

fn intent(path: &[&str], action: Action) -> Intent {
    let path = path.iter().map(|name| name.as_bytes().into()).collect();
    Intent { namespace: Namespace(0), path, action }
}

#[test]
fn strings_and_counters_answer_as_redis_does() {
    talk(
        &mut Door::new(),
        &[
            ("GET a", "$-1\r\n"),
            ("SET a 1", "+OK\r\n"),
            ("GET a", "$1\r\n1\r\n"),
            ("MSET a 2 b 3 a 4", "+OK\r\n"),
            ("MGET a b c", "*3\r\n$1\r\n4\r\n$1\r\n3\r\n$-1\r\n"),
            ("EXISTS a a c", ":2\r\n"),
            ("INCR n", ":1\r\n"),
            ("INCRBY n 41", ":42\r\n"),
            ("DECR n", ":41\r\n"),
            ("DECRBY n 43", ":-2\r\n"),
            ("GET n", "$2\r\n-2\r\n"),
            ("TYPE n", "+string\r\n"),
            ("INCRBY n 9223372036854775807", ":9223372036854775805\r\n"),
            ("INCRBY n 3", "-ERR increment or decrement would overflow\r\n"),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n"),
            ("INCRBY n 1x", "-ERR value is not an integer or out of range\r\n"),
            ("INCR a", WRONG_TYPE),
            ("SET n text", "+OK\r\n"),
            ("GET n", "$4\r\ntext\r\n"),
            ("DEL a b c a", ":2\r\n"),
            ("TYPE a", "+none\r\n"),
            ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
            ("SET a 1 SIDEWAYS", "-ERR syntax error\r\n"),
        ],
    );
}

#[test]
fn sets_and_maps_answer_as_redis_does() {
    talk(
        &mut Door::new(),
        &[
            ("SADD s b a b", ":2\r\n"),
            ("SADD s b c", ":1\r\n"),
            ("SMEMBERS s", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"),
            ("SCARD s", ":3\r\n"),
            ("SISMEMBER s a", ":1\r\n"),
            ("SREM s a x", ":1\r\n"),
            ("SREM none a", ":0\r\n"),
            ("SISMEMBER s a", ":0\r\n"),
            ("GET s", WRONG_TYPE),
            ("HGET s a", WRONG_TYPE),
            ("HSET h f 1 g 2", ":2\r\n"),
            ("HSET h f 3", ":0\r\n"),
            ("HINCRBY h n 5", ":5\r\n"),
            ("HGET h n", "$1\r\n5\r\n"),
            ("HGETALL h", "*6\r\n$1\r\nf\r\n$1\r\n3\r\n$1\r\ng\r\n$1\r\n2\r\n$1\r\nn\r\n$1\r\n5\r\n"),
            ("HMGET h f x", "*2\r\n$1\r\n3\r\n$-1\r\n"),
            ("HSET h n 7", ":0\r\n"),
            ("HGET h n", "$1\r\n7\r\n"),
            ("HDEL h f g n x", ":3\r\n"),
            ("EXISTS h", ":0\r\n"),
            ("HGETALL h", "*0\r\n"),
            ("HSET h f", "-ERR wrong number of arguments for 'hset' command\r\n"),
            ("HSET h f 1 g", "-ERR wrong number of arguments for 'hset' command\r\n"),
            ("TYPE s", "+set\r\n"),
            ("SREM s b c", ":2\r\n"),
            ("TYPE s", "+none\r\n"),
        ],
    );
}

#[test]
fn resp3_tells_maps_and_sets() {
    let mut door = Door::new();
    let greeting = door.send("HELLO 3\r\n");
    assert!(greeting.starts_with(b"%7\r\n$6\r\nserver\r\n"), "{}", greeting.escape_ascii());
    talk(
        &mut door,
        &[
            ("GET a", "_\r\n"),
            ("HSET h f 1", ":1\r\n"),
            ("HGETALL h", "%1\r\n$1\r\nf\r\n$1\r\n1\r\n"),
            ("SADD s a", ":1\r\n"),
            ("SMEMBERS s", "~1\r\n$1\r\na\r\n"),
            ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
            ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
            ("HELLO 3 NOISE", "-ERR Syntax error in HELLO option 'NOISE'\r\n"),
        ],
    );
    assert!(door.send("HELLO 2\r\n").starts_with(b"*14\r\n"));
}

#[test]
fn several_types_under_one_name_follow_the_documented_order() {
    let mut door = Door::new();
    let name = || "x".as_bytes().into();
    door.commit(&[
        intent(&["k"], Action::Set(Value::from("register"))),
        intent(&["k"], Action::Increment(7)),
        intent(&["k"], Action::Add(vec![name()])),
        intent(&["k", "f"], Action::Set(Value::from("field"))),
        intent(&["k", "f"], Action::Increment(3)),
    ]);
    talk(
        &mut door,
        &[
            ("TYPE k", "+string\r\n"),
            ("GET k", "$8\r\nregister\r\n"),
            ("INCR k", ":8\r\n"),
            ("SCARD k", ":1\r\n"),
            ("HGET k f", "$5\r\nfield\r\n"),
            ("HINCRBY k f 1", ":4\r\n"),
            ("HDEL k f", ":1\r\n"),
            ("HGET k f", WRONG_TYPE),
            ("SET k one", "+OK\r\n"),
            ("SCARD k", WRONG_TYPE),
            ("DEL k", ":1\r\n"),
            ("EXISTS k", ":0\r\n"),
        ],
    );
}

#[test]
fn a_transaction_is_one_commit_that_sees_itself() {
    let mut door = Door::new();
    talk(
        &mut door,
        &[
            ("SADD s old", ":1\r\n"),
            ("MULTI", "+OK\r\n"),
            ("INCR n", "+QUEUED\r\n"),
            ("INCR n", "+QUEUED\r\n"),
            ("DEL s", "+QUEUED\r\n"),
            ("SADD s new", "+QUEUED\r\n"),
            ("SMEMBERS s", "+QUEUED\r\n"),
            ("SET n x", "+QUEUED\r\n"),
            ("INCR n", "+QUEUED\r\n"),
            ("GET n", "+QUEUED\r\n"),
            (
                "EXEC",
                format!("*8\r\n:1\r\n:2\r\n:1\r\n:1\r\n*1\r\n$3\r\nnew\r\n+OK\r\n{WRONG_TYPE}$1\r\nx\r\n").as_str(),
            ),
            ("SMEMBERS s", "*1\r\n$3\r\nnew\r\n"),
            ("GET n", "$1\r\nx\r\n"),
            ("TYPE n", "+string\r\n"),
        ],
    );
    assert_eq!(door.commits.len(), 2);
}

#[test]
fn broken_and_empty_transactions() {
    let mut door = Door::new();
    talk(
        &mut door,
        &[
            ("EXEC", "-ERR EXEC without MULTI\r\n"),
            ("DISCARD", "-ERR DISCARD without MULTI\r\n"),
            ("MULTI", "+OK\r\n"),
            ("MULTI", "-ERR MULTI calls can not be nested\r\n"),
            ("EXEC", "*0\r\n"),
            ("MULTI", "+OK\r\n"),
            ("SET a 1", "+QUEUED\r\n"),
            ("SET a", "-ERR wrong number of arguments for 'set' command\r\n"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
            ("MULTI", "+OK\r\n"),
            ("HELLO 3", "-ERR Command not allowed inside a transaction\r\n"),
            ("DISCARD", "+OK\r\n"),
            ("GET a", "$-1\r\n"),
        ],
    );
    assert!(door.commits.is_empty());
}

#[test]
fn a_database_is_a_namespace_also_inside_a_transaction() {
    let mut door = Door::new();
    talk(
        &mut door,
        &[
            ("SET a 0", "+OK\r\n"),
            ("MULTI", "+OK\r\n"),
            ("SELECT 1", "+QUEUED\r\n"),
            ("SET a 1", "+QUEUED\r\n"),
            ("EXEC", "*2\r\n+OK\r\n+OK\r\n"),
            ("GET a", "$1\r\n1\r\n"),
            ("SELECT 0", "+OK\r\n"),
            ("GET a", "$1\r\n0\r\n"),
            ("SELECT 16", "-ERR DB index is out of range\r\n"),
            ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        ],
    );
    assert_eq!(door.commits[1][0].namespace, Namespace(1));
}

#[test]
fn a_write_is_told_when_it_is_durable_and_what_follows_waits_behind_it() {
    let mut door = Door::new();
    door.holds_disk = true;
    assert_eq!(door.send("SET a 1\r\nGET a\r\nSET a 2\r\nPING\r\n"), b"");
    assert_eq!(door.commits.len(), 2, "a later command does not wait for the disk");
    assert_eq!(door.release_disk(), b"+OK\r\n$1\r\n1\r\n+OK\r\n+PONG\r\n");
}

#[test]
fn a_write_that_never_becomes_durable_is_told_as_an_error() {
    let mut door = Door::new();
    door.holds_disk = true;
    assert_eq!(door.send("SET a 1\r\nPING\r\n"), b"");
    door.session.fail_writes();
    let answer = String::from_utf8(door.send("")).unwrap();
    assert!(answer.starts_with("-MISCONF ") && answer.contains("ERR_STORE_FAILED"), "{answer}");
    assert!(answer.ends_with("\r\n+PONG\r\n"), "{answer}");
}

#[test]
fn a_refused_commit_is_an_error_and_aborts_a_transaction() {
    let mut door = Door::outside_a_cluster(SessionConfig::default());
    let answer = String::from_utf8(door.send("SET a 1\r\n")).unwrap();
    assert!(answer.starts_with("-LOADING ") && answer.contains("ERR_NOT_READY"), "{answer}");
    let answer = String::from_utf8(door.send("MULTI\r\nSELECT 3\r\nSET a 1\r\nEXEC\r\nCLIENT INFO\r\n")).unwrap();
    assert!(answer.contains("-EXECABORT Transaction discarded because of: LOADING "), "{answer}");
    assert!(answer.contains(" db=0 "), "the database is the one from before: {answer}");
}

#[test]
fn strangers_may_only_greet() {
    let password = Password::new(b"secret");
    let mut door = Door::with(SessionConfig { password, ..SessionConfig::default() });
    talk(
        &mut door,
        &[
            ("PING", "-NOAUTH Authentication required.\r\n"),
            ("AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
            ("AUTH other secret", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
            ("AUTH default secret", "+OK\r\n"),
            ("PING", "+PONG\r\n"),
        ],
    );
    let mut door = Door::with(SessionConfig { password: Password::new(b"secret"), ..SessionConfig::default() });
    assert!(door.send("HELLO 3\r\n").starts_with(b"-NOAUTH HELLO must be called"));
    assert!(door.send("HELLO 3 AUTH default secret SETNAME me\r\n").starts_with(b"%7\r\n"));
    talk(&mut door, &[("CLIENT GETNAME", "$2\r\nme\r\n")]);
    let mut door = Door::with(SessionConfig { password: Password::new(b"secret"), ..SessionConfig::default() });
    assert_eq!(door.send("*11\r\n"), b"-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert!(door.is_closed);
}

#[test]
fn every_other_command_says_why() {
    let mut door = Door::new();
    for (line, part) in [
        ("SETNX a 1", "no safe meaning across nodes"),
        ("GETSET a 1", "no safe meaning"),
        ("incrbyfloat a 1", "'INCRBYFLOAT' has no safe meaning"),
        ("LPUSH a 1", "no safe meaning"),
        ("ZADD a 1 b", "no safe meaning"),
        ("EXPIRE a 1", "clocks differ"),
        ("EVAL x 0", "a script"),
        ("WATCH a", "no safe meaning"),
        ("SET a 1 NX", "'SET NX' has no safe meaning"),
        ("SET a 1 EX 10", "clocks differ"),
        ("STRLEN a", "is not built (ERR_NOT_BUILT)"),
        ("BGSAVE", "belongs to how Redis"),
    ] {
        let answer = String::from_utf8(door.send(format!("{line}\r\n"))).unwrap();
        assert!(answer.starts_with("-ERR ") && answer.contains(part), "{line}: {answer}");
    }
    talk(
        &mut door,
        &[
            ("NOISE a b", "-ERR unknown command 'NOISE', with args beginning with: 'a' 'b' \r\n"),
            ("CLIENT NOISE", "-ERR unknown subcommand 'NOISE'. Try CLIENT HELP.\r\n"),
        ],
    );
}

#[test]
fn the_daemon_answers_what_one_connection_does_not_know() {
    let mut door = Door::new();
    talk(&mut door, &[("CRDT.PEERS", ":0\r\n"), ("SET a 1", "+OK\r\n"), ("CRDT.WAIT 2 500", ":0\r\n")]);
    talk(&mut door, &[("CRDT.HELD RELEASE 7", ":0\r\n"), ("INFO Server", ":0\r\n")]);
    talk(&mut door, &[("CRDT.HELD RELEASE", "-ERR wrong number of arguments for 'crdt.held' command\r\n")]);
    let written = door.node.applied().iter().next().map(|(replica, seq)| crdt::BatchId { replica, seq });
    assert!(written.is_some());
    let expected = [
        Call::Peers,
        Call::Wait { members: 2, timeout_ms: 500, after: written },
        Call::Held(HeldCall::Release("7".to_owned())),
        Call::Info { sections: vec!["server".to_owned()] },
    ];
    assert_eq!(door.calls, expected);
}

#[test]
fn the_table_is_told() {
    let mut door = Door::new();
    let get = "*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n";
    talk(&mut door, &[("COMMAND INFO get nope", format!("*2\r\n{get}*-1\r\n").as_str())]);
    let count = resp::table::TABLE.len();
    talk(&mut door, &[("COMMAND COUNT", format!(":{count}\r\n").as_str())]);
    assert!(door.send("COMMAND DOCS get\r\n").starts_with(b"*2\r\n$3\r\nget\r\n*14\r\n$7\r\nsummary\r\n"));
}

#[test]
fn a_broken_frame_and_quit_close_after_what_came_before() {
    let mut door = Door::new();
    assert_eq!(door.send("SET a 1\r\n*1\r\n:\r\nGET a\r\n"), b"+OK\r\n-ERR Protocol error: expected '$', got ':'\r\n");
    assert!(door.is_closed);
    let mut door = Door::new();
    assert_eq!(door.send("SET a 1\r\nQUIT\r\nGET a\r\n"), b"+OK\r\n+OK\r\n");
    assert!(door.is_closed);
    let mut door = Door::new();
    assert_eq!(door.send("POST / HTTP/1.1\r\nHost: x\r\n"), b"-ERR Protocol error: this is no HTTP server\r\n");
    assert!(door.is_closed);
}

#[test]
fn a_client_that_reads_nothing_is_not_read() {
    let limits = Limits { output_bytes_max: 100, input_bytes_max: 1_000, ..Limits::default() };
    let view = crdt::Keyspace::new();
    let mut session = Session::new(1, SessionConfig { limits, ..SessionConfig::default() });
    let flood = b"PING\r\n".repeat(1_000);
    let taken = session.feed(&flood);
    assert_eq!(taken, 1_000);
    assert_eq!(session.poll(&view), Step::Blocked);
    assert_eq!(session.output().len(), 105, "the last reply may go over the limit");
    session.consume(105);
    assert_eq!(session.poll(&view), Step::Blocked);
    assert!(session.room() < 1_000);
}
