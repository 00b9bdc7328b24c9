//! Replies and their two encodings.
//!
//! | reply | RESP2 | RESP3 |
//! |---|---|---|
//! | simple, error, integer, bulk, array | `+` `-` `:` `$` `*` | the same |
//! | null, null array | `$-1`, `*-1` | `_` |
//! | boolean | `:1`, `:0` | `#t`, `#f` |
//! | double, big number | bulk string | `,` `(` |
//! | map | array of twice the length | `%` |
//! | set | array | `~` |
//! | text | bulk string | `=` with the format `txt` |
//! | error with line ends | `-`, line ends become spaces | `!` |

use crdt::Name;

use crate::error::ErrorReply;
use crate::number::write_integer;

/// Version of the protocol on one connection. It begins with RESP2; HELLO switches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// As in Redis before 6.
    #[default]
    Resp2,
    /// With maps, sets and more.
    Resp3,
}

impl Version {
    /// 2 or 3.
    pub const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// What a client is told. Not compared by numbers: a NaN equals no reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// `OK`, `PONG`, `QUEUED` and names of types. Without CR and LF.
    Simple(&'static str),
    /// An error.
    Error(ErrorReply),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Name),
    /// No value.
    Null,
    /// No array: RESP2 has a form of its own for it.
    NullArray,
    /// True or false.
    Boolean(bool),
    /// A floating-point number.
    Double(f64),
    /// A number beyond 64 bits.
    BigNumber(i128),
    /// Text for a person.
    Text(String),
    /// Replies in order.
    Array(Vec<Reply>),
    /// Names and what they stand for, in order.
    Map(Vec<(Reply, Reply)>),
    /// Replies of which none is there twice.
    Set(Vec<Reply>),
}

impl Reply {
    /// `OK`.
    pub const OK: Self = Self::Simple("OK");

    /// Bytes, copied.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bulk(bytes.as_ref().into())
    }

    /// A count. Above the greatest i64 it stays there, which no count in memory reaches.
    pub fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Appends the reply's bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => line(out, b'+', text.as_bytes()),
            Self::Error(error) => encode_error(error, version, out),
            Self::Integer(number) => header(out, b':', *number),
            Self::Bulk(bytes) => bulk(out, b'$', bytes),
            Self::Null if version == Version::Resp2 => out.extend_from_slice(b"$-1\r\n"),
            Self::NullArray if version == Version::Resp2 => out.extend_from_slice(b"*-1\r\n"),
            Self::Null | Self::NullArray => out.extend_from_slice(b"_\r\n"),
            Self::Boolean(value) if version == Version::Resp2 => header(out, b':', (*value).into()),
            Self::Boolean(value) => line(out, b'#', if *value { b"t" } else { b"f" }),
            Self::Double(number) => plain(out, b',', double(*number).as_bytes(), version),
            Self::BigNumber(number) => plain(out, b'(', number.to_string().as_bytes(), version),
            Self::Text(text) if version == Version::Resp2 => bulk(out, b'$', text.as_bytes()),
            Self::Text(text) => {
                count(out, b'=', text.len() + 4);
                out.extend_from_slice(b"txt:");
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Self::Array(replies) => aggregate(out, b'*', replies, version),
            Self::Set(replies) => aggregate(out, if version == Version::Resp2 { b'*' } else { b'~' }, replies, version),
            Self::Map(pairs) => {
                match version {
                    Version::Resp2 => count(out, b'*', pairs.len() * 2),
                    Version::Resp3 => count(out, b'%', pairs.len()),
                }
                for (name, value) in pairs {
                    name.encode(version, out);
                    value.encode(version, out);
                }
            }
        }
    }

    /// The reply's bytes.
    pub fn to_bytes(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(version, &mut out);
        out
    }
}

impl From<ErrorReply> for Reply {
    fn from(error: ErrorReply) -> Self {
        Self::Error(error)
    }
}

impl From<Result<Reply, ErrorReply>> for Reply {
    fn from(result: Result<Reply, ErrorReply>) -> Self {
        result.unwrap_or_else(Self::Error)
    }
}

fn line(out: &mut Vec<u8>, mark: u8, text: &[u8]) {
    out.push(mark);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, mark: u8, number: i64) {
    out.push(mark);
    write_integer(out, number);
    out.extend_from_slice(b"\r\n");
}

fn count(out: &mut Vec<u8>, mark: u8, count: usize) {
    header(out, mark, i64::try_from(count).unwrap_or(i64::MAX));
}

fn bulk(out: &mut Vec<u8>, mark: u8, bytes: &[u8]) {
    count(out, mark, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn plain(out: &mut Vec<u8>, mark: u8, text: &[u8], version: Version) {
    match version {
        Version::Resp2 => bulk(out, b'$', text),
        Version::Resp3 => line(out, mark, text),
    }
}

fn aggregate(out: &mut Vec<u8>, mark: u8, replies: &[Reply], version: Version) {
    count(out, mark, replies.len());
    replies.iter().for_each(|reply| reply.encode(version, out));
}

fn encode_error(error: &ErrorReply, version: Version, out: &mut Vec<u8>) {
    let text = error.to_string();
    let has_line_end = text.bytes().any(|byte| matches!(byte, b'\r' | b'\n'));
    match version {
        Version::Resp3 if has_line_end => bulk(out, b'!', text.as_bytes()),
        // An argument of the client may stand in the text: with its line ends it could forge a reply.
        _ if has_line_end => line(out, b'-', text.replace(['\r', '\n'], " ").as_bytes()),
        _ => line(out, b'-', text.as_bytes()),
    }
}

/// As RESP3 writes doubles.
pub(crate) fn double(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    format!("{number}")
}
