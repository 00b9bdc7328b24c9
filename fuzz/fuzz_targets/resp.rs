//! Requests and replies of the local door, with `redis-protocol` as oracle.
//!
//! Every input is read three ways: as bytes of a client, as arguments that are encoded first, and as a reply of ours
//! that the oracle has to read. What is stricter here on purpose: one form of each number, CR LF after each argument,
//! no arrays inside of arrays, limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode as decode_resp2;
use redis_protocol::resp2::types::OwnedFrame;
use redis_protocol::resp3::decode::complete::decode as decode_resp3;
use resp::{ErrorReply, Limits, Parser, Progress, ProtocolError, Reply, Version};

/// Arguments and bytes of one request; `None` while it is incomplete.
type Parsed = Result<Option<(Vec<Vec<u8>>, usize)>, ProtocolError>;

fuzz_target!(|input: &[u8]| {
    let whole = parse(&mut Parser::default(), input);
    assert_eq!(whole, parse_in_parts(input), "where bytes are cut must not matter");
    if input.first() == Some(&b'*') {
        compare(input, &whole);
    }
    encoded_arguments(input);
    encoded_reply(input);
});

fn parse(parser: &mut Parser, bytes: &[u8]) -> Parsed {
    Ok(match parser.advance(bytes, &Limits::default())? {
        Progress::Incomplete => None,
        Progress::Empty(taken) => Some((Vec::new(), taken)),
        Progress::Complete(taken) => Some((parser.arguments(bytes).rest(0).map(<[u8]>::to_vec).collect(), taken)),
    })
}

/// The same with ever more bytes, cut at places that the input chooses.
fn parse_in_parts(bytes: &[u8]) -> Parsed {
    let mut parser = Parser::default();
    let mut end = 0;
    while end < bytes.len() {
        let outcome = parse(&mut parser, &bytes[..end])?;
        if outcome.is_some() {
            return Ok(outcome);
        }
        end += 1 + usize::from(bytes[end] % 7);
    }
    parse(&mut parser, bytes)
}

/// What we take, the oracle takes and means the same by it.
///
/// SUBTLE: what we refuse is not shown to the oracle. It recurses without a bound, so a nest of arrays ends it.
fn compare(input: &[u8], ours: &Parsed) {
    let Ok(ours) = ours else { return };
    let theirs = decode_resp2(input);
    match ours {
        // Of a negative count the oracle knows -1 alone.
        Some((arguments, taken)) if arguments.is_empty() => {
            if let Ok(Some((_, theirs))) = theirs {
                assert_eq!(*taken, theirs);
            }
        }
        Some((arguments, taken)) => {
            let (frame, theirs) = theirs.expect("we took it").expect("it is complete");
            let expected = arguments.iter().cloned().map(OwnedFrame::BulkString).collect();
            assert_eq!((frame, theirs), (OwnedFrame::Array(expected), *taken));
        }
        None => assert_eq!(theirs.expect("it may go on well"), None),
    }
}

/// Arguments cut out of the input: a length byte, then the argument.
fn pieces(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = input.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        pieces.push(piece.to_vec());
        input = rest;
    }
    pieces
}

/// What any client encodes is taken, with nothing lost and nothing of the next request.
fn encoded_arguments(input: &[u8]) {
    let arguments = pieces(input);
    if arguments.is_empty() || arguments.len() > Limits::default().arguments_max {
        return;
    }
    let request = Reply::Array(arguments.iter().map(Reply::bulk).collect()).to_bytes(Version::Resp2);
    let expected = Ok(Some((arguments, request.len())));
    assert_eq!(parse(&mut Parser::default(), &request), expected);
    assert_eq!(parse(&mut Parser::default(), &[&request, input].concat()), expected);
}

/// The oracle reads every reply of ours to its last byte, in both versions.
fn encoded_reply(input: &[u8]) {
    let reply = Reply::Array(pieces(input).iter().map(|piece| reply(piece)).collect());
    let (resp2, resp3) = (reply.to_bytes(Version::Resp2), reply.to_bytes(Version::Resp3));
    let read = decode_resp2(&resp2).expect("our RESP2 is well formed").expect("and complete");
    assert_eq!(read.1, resp2.len());
    let read = decode_resp3(&resp3).expect("our RESP3 is well formed").expect("and complete");
    assert_eq!(read.1, resp3.len());
}

fn reply(piece: &[u8]) -> Reply {
    let (kind, rest) = piece.split_first().map_or((0, piece), |(kind, rest)| (*kind, rest));
    let number = rest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let text = || String::from_utf8_lossy(rest).into_owned();
    match kind % 12 {
        0 => Reply::OK,
        1 => Reply::Error(ErrorReply::err(text())),
        2 => Reply::Integer(number as i64),
        3 => Reply::bulk(rest),
        4 => Reply::Null,
        5 => Reply::NullArray,
        6 => Reply::Boolean(number % 2 == 0),
        7 => Reply::Double(f64::from_bits(number)),
        8 => Reply::BigNumber(i128::from(number) << 32),
        9 => Reply::Text(text()),
        // The oracle keeps maps and sets in hash maps and hashes no nested aggregate, so their content stays flat.
        10 => Reply::Map(rest.chunks(2).map(|pair| (Reply::bulk(&pair[..1]), Reply::bulk(pair))).collect()),
        _ => Reply::Set(rest.iter().map(|byte| Reply::bulk([*byte])).collect()),
    }
}
