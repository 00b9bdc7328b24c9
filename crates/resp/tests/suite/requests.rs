//! The parser: split at every byte, and fed with what nobody should send.

use proptest::prelude::*;
use resp::{Limits, Parser, Progress, ProtocolError};

/// One request, or why there is none; `None` while it is incomplete.
type Parsed = Option<Result<(Vec<Vec<u8>>, usize), ProtocolError>>;

fn advance(parser: &mut Parser, bytes: &[u8], limits: &Limits) -> Parsed {
    match parser.advance(bytes, limits) {
        Ok(Progress::Incomplete) => None,
        Ok(Progress::Empty(taken)) => Some(Ok((Vec::new(), taken))),
        Ok(Progress::Complete(taken)) => {
            let arguments = parser.arguments(bytes);
            Some(Ok((arguments.rest(0).map(<[u8]>::to_vec).collect(), taken)))
        }
        Err(error) => Some(Err(error)),
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    advance(&mut Parser::default(), bytes, &Limits::default())
}

/// The same, with one byte more at each step.
fn parse_bytewise(bytes: &[u8]) -> Parsed {
    let mut parser = Parser::default();
    (0..=bytes.len()).find_map(|end| advance(&mut parser, &bytes[..end], &Limits::default()))
}

fn refused(bytes: impl AsRef<[u8]>) -> ProtocolError {
    match (parse(bytes.as_ref()), parse_bytewise(bytes.as_ref())) {
        (Some(Err(whole)), Some(Err(bytewise))) => {
            assert_eq!(whole, bytewise);
            whole
        }
        other => panic!("{} was not refused: {other:?}", bytes.as_ref().escape_ascii()),
    }
}

fn words(bytes: impl AsRef<[u8]>) -> Vec<String> {
    let whole = parse(bytes.as_ref());
    assert_eq!(whole, parse_bytewise(bytes.as_ref()));
    let (words, _) = whole.expect("the request is complete").expect("the request is well formed");
    words.iter().map(|word| word.escape_ascii().to_string()).collect()
}

#[test]
fn an_array_is_whole_at_its_last_byte_and_not_before() {
    let bytes = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n*1\r\n";
    let expected = (vec![b"SET".to_vec(), Vec::new(), b"\r\n*1".to_vec()], bytes.len());
    for split in 0..bytes.len() {
        let mut parser = Parser::default();
        assert_eq!(advance(&mut parser, &bytes[..split], &Limits::default()), None, "at {split}");
        assert_eq!(advance(&mut parser, bytes, &Limits::default()), Some(Ok(expected.clone())), "at {split}");
    }
    assert_eq!(parse(&[&bytes[..], b"*1\r\n"].concat()), Some(Ok(expected)));
}

#[test]
fn lines_are_split_as_redis_splits_them() {
    assert_eq!(words("PING\r\n"), ["PING"]);
    assert_eq!(words("  set\ta   b \n"), ["set", "a", "b"]);
    assert_eq!(words("ECHO \"a b\\x41\\n\\q\" 'it\\'s \\n'\r\n"), ["ECHO", "a bA\\nq", "it\\'s \\\\n"]);
    assert_eq!(words("ECHO \"\" ''\r\n"), ["ECHO", "", ""]);
    for empty in ["\r\n", "\n", "  \r\n", "*0\r\n", "*-1\r\n", "*-9\r\n"] {
        assert_eq!(parse(empty.as_bytes()), Some(Ok((Vec::new(), empty.len()))), "{empty:?}");
    }
    for wrong in ["ECHO \"a\r\n", "ECHO 'a\r\n", "ECHO \"a\"b\r\n", "ECHO 'a'b\r\n", "ECHO \"a\\\"\r\n"] {
        assert_eq!(refused(wrong), ProtocolError::UnbalancedQuotes, "{wrong:?}");
    }
}

#[test]
fn hostile_headers_are_refused() {
    for count in ["a", "", "+1", "01", "1 ", "--1", "65537", "9223372036854775807", "9223372036854775808"] {
        assert_eq!(refused(format!("*{count}\r\n")), ProtocolError::ArgumentCount, "{count:?}");
    }
    for length in ["a", "", "-1", "+1", "00", "4194305", "9223372036854775807", "99999999999999999999"] {
        assert_eq!(refused(format!("*1\r\n${length}\r\n")), ProtocolError::BulkLength, "{length:?}");
    }
    assert_eq!(refused(format!("*{}", "1".repeat(30))), ProtocolError::HeaderTooLong);
    assert_eq!(refused(format!("*1\r\n${}", "1".repeat(30))), ProtocolError::HeaderTooLong);
    assert_eq!(refused("*1\n$1\r\na\r\n"), ProtocolError::MissingLineEnd);
    assert_eq!(refused("*1\r\n$1\r\nabc"), ProtocolError::MissingLineEnd);
    assert_eq!(refused("*1\r\n$1\r\na\rb"), ProtocolError::MissingLineEnd);
    assert_eq!(refused("*1\r\n:1\r\n"), ProtocolError::ExpectedBulk(b':'));
    assert_eq!(refused("*1\r\n".repeat(100_000)), ProtocolError::ExpectedBulk(b'*'));
}

#[test]
fn limits_hold_before_the_bytes_are_there() {
    let limits = Limits { frame_bytes_max: 100, bulk_bytes_max: 90, line_bytes_max: 10, ..Limits::default() };
    let first = |bytes: &str| advance(&mut Parser::default(), bytes.as_bytes(), &limits);
    assert_eq!(first("*2\r\n$90\r\n"), Some(Err(ProtocolError::FrameTooLong)));
    assert_eq!(first("*1\r\n$91\r\n"), Some(Err(ProtocolError::BulkLength)));
    assert_eq!(first("*1\r\n$80\r\n"), None);
    assert_eq!(first("abcdefghij\r"), None);
    assert_eq!(first("abcdefghij\r\n"), Some(Ok((vec![b"abcdefghij".to_vec()], 12))));
    assert_eq!(first("abcdefghijk\n"), Some(Err(ProtocolError::LineTooLong)));
    assert_eq!(first("abcdefghijkl"), Some(Err(ProtocolError::LineTooLong)));
    let strangers = Limits::default().for_strangers();
    let stranger = |bytes: &str| advance(&mut Parser::default(), bytes.as_bytes(), &strangers);
    assert_eq!(stranger("*11\r\n"), Some(Err(ProtocolError::StrangerArgumentCount)));
    assert_eq!(stranger("*10\r\n$16385\r\n"), Some(Err(ProtocolError::StrangerBulkLength)));
    assert_eq!(stranger("a b c d e f g h i j k\n"), Some(Err(ProtocolError::StrangerArgumentCount)));
}

fn array(arguments: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Bytes that look like requests more often than chance would have it.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        proptest::sample::select(vec!["*", "$", "\r\n", "\n", "-1", "0", "1", "2", "3", "\"", "'", "\\x4", " ", "GET"])
            .prop_map(|text| text.as_bytes().to_vec()),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 1..4).prop_map(|words| array(&words)),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read(arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..12)) {
        let bytes = array(&arguments);
        let expected = Some(Ok((arguments, bytes.len())));
        prop_assert_eq!(parse_bytewise(&bytes), expected.clone());
        prop_assert_eq!(parse(&bytes), expected);
    }

    #[test]
    fn no_bytes_make_it_panic_and_no_split_changes_the_outcome(bytes in hostile()) {
        prop_assert_eq!(parse(&bytes), parse_bytewise(&bytes));
    }
}
