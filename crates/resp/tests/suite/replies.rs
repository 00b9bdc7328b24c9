//! Golden bytes of every reply in both versions.

use resp::{ErrorReply, Reply, Version};

fn check(reply: Reply, resp2: &str, resp3: &str) {
    assert_eq!(reply.to_bytes(Version::Resp2).escape_ascii().to_string(), resp2.as_bytes().escape_ascii().to_string());
    assert_eq!(reply.to_bytes(Version::Resp3).escape_ascii().to_string(), resp3.as_bytes().escape_ascii().to_string());
}

fn same(reply: Reply, bytes: &str) {
    check(reply, bytes, bytes);
}

#[test]
fn plain_replies_are_equal_in_both_versions() {
    same(Reply::OK, "+OK\r\n");
    same(Reply::Integer(0), ":0\r\n");
    same(Reply::Integer(i64::MIN), ":-9223372036854775808\r\n");
    same(Reply::bulk("a\r\nb"), "$4\r\na\r\nb\r\n");
    same(Reply::bulk(""), "$0\r\n\r\n");
    same(Reply::Array(Vec::new()), "*0\r\n");
    same(Reply::Array(vec![Reply::Integer(1), Reply::bulk("x")]), "*2\r\n:1\r\n$1\r\nx\r\n");
    same(Reply::Error(ErrorReply::err("no")), "-ERR no\r\n");
}

#[test]
fn richer_replies_have_a_plain_form_in_resp2() {
    check(Reply::Null, "$-1\r\n", "_\r\n");
    check(Reply::NullArray, "*-1\r\n", "_\r\n");
    check(Reply::Boolean(true), ":1\r\n", "#t\r\n");
    check(Reply::Boolean(false), ":0\r\n", "#f\r\n");
    check(Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
    check(Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    check(Reply::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
    check(Reply::BigNumber(1 << 64), "$20\r\n18446744073709551616\r\n", "(18446744073709551616\r\n");
    check(Reply::Text("hi".to_owned()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
    check(Reply::Set(vec![Reply::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n");
    let map = Reply::Map(vec![(Reply::bulk("k"), Reply::Null)]);
    check(map, "*2\r\n$1\r\nk\r\n$-1\r\n", "%1\r\n$1\r\nk\r\n_\r\n");
}

#[test]
fn an_error_cannot_forge_a_second_reply() {
    check(Reply::Error(ErrorReply::err("a\r\n+OK")), "-ERR a  +OK\r\n", "!10\r\nERR a\r\n+OK\r\n");
}
