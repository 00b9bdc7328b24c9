//! What goes wrong at the door: broken frames, and commands that cannot be carried out.

use core::fmt;
use std::borrow::Cow;

use replica::CommitError;

/// Bytes that are no request. The connection is told and closed, because where the next request begins is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// A request in one line is longer than [`crate::Limits::line_bytes_max`].
    LineTooLong,
    /// A quote in a line is not closed, or goes on after its end.
    UnbalancedQuotes,
    /// A header line does not end after a number's length.
    HeaderTooLong,
    /// The number of arguments is no number, or above [`crate::Limits::arguments_max`].
    ArgumentCount,
    /// The length of an argument is no number, is negative, or above [`crate::Limits::bulk_bytes_max`].
    BulkLength,
    /// An argument is no bulk string: arrays inside of arrays are no requests.
    ExpectedBulk(u8),
    /// The request would exceed [`crate::Limits::frame_bytes_max`].
    FrameTooLong,
    /// CR LF is missing where a header or an argument ends.
    MissingLineEnd,
    /// More arguments than a stranger may send.
    StrangerArgumentCount,
    /// A longer argument than a stranger may send.
    StrangerBulkLength,
    /// Somebody speaks HTTP: a page in a browser may try to reach the door.
    Http,
}

impl ProtocolError {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::LineTooLong | Self::HeaderTooLong | Self::FrameTooLong => "ERR_DOOR_FRAME_SIZE",
            Self::ArgumentCount | Self::StrangerArgumentCount => "ERR_DOOR_ARGUMENT_COUNT",
            Self::BulkLength | Self::StrangerBulkLength => "ERR_DOOR_BULK_LENGTH",
            Self::UnbalancedQuotes | Self::ExpectedBulk(_) | Self::MissingLineEnd => "ERR_DOOR_MALFORMED",
            Self::Http => "ERR_DOOR_HTTP",
        }
    }
}

impl fmt::Display for ProtocolError {
    /// Redis' words where Redis has some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineTooLong => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::HeaderTooLong => "too big count string",
            Self::ArgumentCount => "invalid multibulk length",
            Self::BulkLength => "invalid bulk length",
            Self::ExpectedBulk(found) => {
                let shown = if found.is_ascii_graphic() { char::from(*found) } else { ' ' };
                return write!(f, "expected '$', got '{shown}'");
            }
            Self::FrameTooLong => "too big request",
            Self::MissingLineEnd => "expected CR LF",
            Self::StrangerArgumentCount => "unauthenticated multibulk length",
            Self::StrangerBulkLength => "unauthenticated bulk length",
            Self::Http => "this is no HTTP server",
        })
    }
}

impl core::error::Error for ProtocolError {}

/// An error as a client sees it: Redis' prefix, then a sentence. Errors of our own end with their stable code in
/// parentheses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorReply {
    /// First word, by which clients tell errors apart: `ERR`, `WRONGTYPE`, `NOAUTH`...
    pub prefix: &'static str,
    /// The sentence.
    pub message: Cow<'static, str>,
}

impl ErrorReply {
    /// An error from its parts.
    pub fn new(prefix: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { prefix, message: message.into() }
    }

    /// An error with the prefix `ERR`.
    pub fn err(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("ERR", message)
    }

    pub(crate) fn wrong_type() -> Self {
        Self::new("WRONGTYPE", "Operation against a key holding the wrong kind of value")
    }

    pub(crate) fn syntax() -> Self {
        Self::err("syntax error")
    }

    pub(crate) fn not_an_integer() -> Self {
        Self::err("value is not an integer or out of range")
    }

    pub(crate) fn overflow() -> Self {
        Self::err("increment or decrement would overflow")
    }

    pub(crate) fn arity(name: &str) -> Self {
        Self::err(format!("wrong number of arguments for '{}' command", name.to_ascii_lowercase()))
    }

    /// A write that the node accepted and could not make durable.
    pub(crate) fn not_durable() -> Self {
        Self::new(
            "MISCONF",
            "the write could not be made durable and may or may not survive; restart the node (ERR_STORE_FAILED)",
        )
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.prefix, self.message)
    }
}

impl core::error::Error for ErrorReply {}

impl From<ProtocolError> for ErrorReply {
    fn from(error: ProtocolError) -> Self {
        Self::err(format!("Protocol error: {error}"))
    }
}

impl From<CommitError> for ErrorReply {
    /// `LOADING` and `MISCONF` are what clients of Redis know to wait for and to give up at.
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::StoreFailed => Self::new("MISCONF", format!("{error} (ERR_STORE_FAILED)")),
            CommitError::NotReady => Self::new("LOADING", format!("{error} (ERR_NOT_READY)")),
            CommitError::Overflow => Self::overflow(),
            CommitError::TooLarge => Self::err(format!("{error} (ERR_TOO_LARGE)")),
            CommitError::Path => Self::err(format!("{error} (ERR_PATH)")),
        }
    }
}
