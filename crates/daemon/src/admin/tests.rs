//! A real socket and a real session, whose calls are answered as a daemon would.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use crdt::{Key, KindSet, Namespace, Object};
use resp::{Call, ErrorReply, HeldCall, Reply, Session, SessionConfig, Step, View};

use super::*;

/// A state without keys.
struct Nothing;

impl View for Nothing {
    fn object(&self, _key: &Key) -> Option<Cow<'_, Object>> {
        None
    }

    fn kinds(&self, _namespace: Namespace, _name: &[u8]) -> KindSet {
        KindSet::default()
    }
}

fn map(pairs: &[(&str, Reply)]) -> Reply {
    Reply::Map(pairs.iter().map(|(name, value)| (Reply::bulk(name), value.clone())).collect())
}

fn peer(node: &str, state: &str, link: &str) -> Reply {
    map(&[
        ("node", Reply::bulk(node)),
        ("state", Reply::bulk(state)),
        ("link", Reply::bulk(link)),
        ("rtt_us", Reply::Integer(120)),
        ("lag_ops", Reply::Integer(3)),
        ("skew_ms", Reply::Integer(0)),
        ("skew_known", Reply::Boolean(false)),
        ("address", Reply::bulk("b.example:8888")),
    ])
}

fn verdict(is_fresh: bool, vector: bool, digest: bool) -> Reply {
    map(&[
        ("vector_equal", Reply::Boolean(vector)),
        ("digest_equal", Reply::Boolean(digest)),
        ("digest", Reply::bulk("00ff")),
        ("fresh", Reply::Boolean(is_fresh)),
    ])
}

/// As a node with one member that is there and one that is not.
fn answer(call: Call) -> Result<Reply, ErrorReply> {
    match call {
        Call::Clock => Ok(map(&[
            ("node", Reply::bulk("node_01")),
            ("replica", Reply::bulk("aa")),
            ("applied", map(&[("aa", Reply::Integer(4))])),
            ("digest", Reply::bulk("00ff")),
        ])),
        Call::Info { .. } => Ok(Reply::Text(
            "# Replication\r\nunreplicated_ops:0\r\nheld_streams:1\r\nrefuses_writes0:ERR_STORE_FULL the disk is full\r\n"
                .to_owned(),
        )),
        Call::Peers => Ok(Reply::Array(vec![peer("node_02", "LIVE", "up"), peer("node_03", "DEAD", "down")])),
        Call::Verify { node: Some(_) } => Ok(map(&[("node_02", verdict(true, true, true))])),
        Call::Verify { node: None } => {
            Ok(map(&[("node_02", verdict(true, true, false)), ("node_03", verdict(false, false, false))]))
        }
        Call::Held(HeldCall::List) => {
            Ok(Reply::Array(vec![map(&[("id", Reply::bulk("aa:7")), ("reason", Reply::bulk("fenced"))])]))
        }
        Call::Held(HeldCall::Release(id)) if id == "aa:7" => Ok(Reply::OK),
        Call::Gc => Ok(map(&[("attempted", Reply::Integer(9)), ("collected", Reply::Integer(8))])),
        _ => Err(ErrorReply::err("there is no such thing (ERR_PATH)")),
    }
}

fn serve(mut stream: UnixStream) {
    let mut session = Session::new(1, SessionConfig::default());
    let mut bytes = [0; 4_096];
    loop {
        match session.poll(&Nothing) {
            Step::Call { ticket, call } => session.reply(ticket, answer(call)),
            Step::Commit { .. } => panic!("nobody writes here"),
            Step::Idle => {
                let output = session.output().to_vec();
                stream.write_all(&output).unwrap();
                session.consume(output.len());
                match stream.read(&mut bytes) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => assert_eq!(session.feed(&bytes[..count]), count),
                }
            }
            Step::Blocked | Step::Close => return,
        }
    }
}

fn with_daemon(check: impl FnOnce(&mut Daemon)) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let mut daemon = Daemon::connect(&socket).unwrap();
    check(&mut daemon);
    drop(daemon);
    server.join().unwrap();
}

#[test]
fn status_names_who_is_away_and_ends_so() {
    with_daemon(|daemon| {
        let report = daemon.status(OutputFormat::Table).unwrap();
        assert_eq!(report.exit, Exit::Unwell);
        let expected = "\
node     node_01
replica  aa
digest   00ff
writes   REFUSED: ERR_STORE_FULL the disk is full
held     1 streams wait for a decision: crdt-engine held list
members  this one and 2 more, NOT THERE: node_03

node     state  link  rtt us  lag ops  skew ms  address
node_02  LIVE   up    120     3        ?        b.example:8888
node_03  DEAD   down  120     3        ?        b.example:8888
";
        assert_eq!(report.text, expected);
        let json = daemon.status(OutputFormat::Json).unwrap();
        let read: serde_json::Value = serde_json::from_str(&json.text).unwrap();
        assert_eq!(read["away"], json!(["node_03"]));
        assert_eq!(read["clock"]["applied"]["aa"], 4);
        assert_eq!(read["peers"][0]["skew_known"], false);
        assert_eq!(read["refuses_writes"], json!(["ERR_STORE_FULL the disk is full"]));
    });
}

#[test]
fn verify_is_content_with_proof_alone() {
    with_daemon(|daemon| {
        let equal = daemon.verify(Some("node_02"), OutputFormat::Table).unwrap();
        assert_eq!(equal.exit, Exit::Ok);
        assert_eq!(equal.text, "node     state  digest\nnode_02  equal  00ff\n");
        let report = daemon.verify(None, OutputFormat::Table).unwrap();
        assert_eq!(report.exit, Exit::Unwell);
        assert!(report.text.contains("node_02  DIFFERENT (ERR_DIVERGED)"), "{}", report.text);
        assert!(report.text.contains("node_03  not heard of"), "{}", report.text);
    });
}

#[test]
fn held_things_are_listed_and_released() {
    with_daemon(|daemon| {
        assert_eq!(daemon.held_list(OutputFormat::Table).unwrap().text, "id    reason\naa:7  fenced\n");
        assert_eq!(daemon.held_release("aa:7").unwrap().text, "released aa:7\n");
        let error = daemon.held_discard("bb:1").unwrap_err();
        assert_eq!(error.code(), "ERR_PATH");
        assert!(error.to_string().contains("there is no such thing (ERR_PATH)"), "{error}");
        assert_eq!(daemon.gc(OutputFormat::Table).unwrap().text, "collected 8 of 9 remains\n");
        assert_eq!(daemon.node_list(OutputFormat::Table).unwrap().text.lines().count(), 3);
    });
}

#[test]
fn a_door_without_a_daemon_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = Daemon::connect(&folder.path().join("door.sock")).err().unwrap();
    assert_eq!(error.code(), "ERR_DAEMON_UNREACHABLE");
    assert!(
        error.to_string().contains("there is no socket") && error.to_string().contains("crdt-engine run"),
        "{error}"
    );
    let socket = folder.path().join("left.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let error = Daemon::connect(&socket).err().unwrap();
    assert!(error.to_string().contains("has ended without taking its socket"), "{error}");
}

#[test]
fn the_code_of_the_daemon_is_the_code_of_the_command() {
    let refused = |reason: &str| AdminError::Refused { command: "X".to_owned(), reason: reason.to_owned() }.code();
    assert_eq!(refused("\"foo\" is not held; CRDT.HELD lists what is (ERR_NOT_HELD)"), "ERR_NOT_HELD");
    assert_eq!(refused("unknown command (see above)"), "ERR_DAEMON_REFUSED");
    assert_eq!(refused("NOAUTH"), "ERR_DAEMON_REFUSED");
}
