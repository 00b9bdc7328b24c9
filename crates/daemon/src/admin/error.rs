//! Why the daemon could not be asked.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use redis::{ErrorKind, RedisError};

use crate::codes;

/// Longest text of the daemon that is shown.
const SHOWN_CHARS_MAX: usize = 2_000;

/// Why the daemon could not be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminError {
    /// Nobody answers at the door.
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The words of the system.
        reason: String,
        /// What is to be done follows from it.
        cause: Cause,
    },
    /// The daemon answered with an error.
    Refused {
        /// The command of the door.
        command: String,
        /// Its words.
        reason: String,
    },
    /// The daemon answered otherwise than expected.
    Answer {
        /// The command of the door.
        command: String,
        /// What was missing.
        reason: String,
    },
    /// Somebody is to say yes, and did not.
    NotConfirmed,
}

/// Why nobody answers at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// There is no socket.
    NoSocket,
    /// A socket is left, of a daemon that is gone.
    NobodyListens,
    /// Its mode keeps this user out.
    NotAllowed,
    /// Anything else, such as a daemon that does not answer in time.
    Other,
}

impl AdminError {
    pub(super) fn unreachable(socket: &Path, error: &RedisError) -> Self {
        // Asked anew: the client's error has the system's words, and not its kind.
        let cause = match UnixStream::connect(socket).map_err(|error| error.kind()) {
            Err(io::ErrorKind::NotFound) => Cause::NoSocket,
            Err(io::ErrorKind::ConnectionRefused) => Cause::NobodyListens,
            Err(io::ErrorKind::PermissionDenied) => Cause::NotAllowed,
            _ => Cause::Other,
        };
        Self::Unreachable { socket: socket.into(), reason: shown(error), cause }
    }

    pub(super) fn of_answer(socket: &Path, words: &[&str], error: &RedisError) -> Self {
        let command = words.join(" ");
        match error.kind() {
            ErrorKind::Io => Self::unreachable(socket, error),
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused { command, reason: shown(error) },
            _ => Self::Answer { command, reason: shown(error) },
        }
    }

    pub(super) fn answer(command: &str, reason: impl Into<String>) -> Self {
        Self::Answer { command: command.to_owned(), reason: reason.into() }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "ERR_DAEMON_UNREACHABLE",
            // The daemon's own code tells more than that it refused.
            Self::Refused { reason, .. } => told_code(reason).unwrap_or("ERR_DAEMON_REFUSED"),
            Self::Answer { .. } => "ERR_DAEMON_ANSWER",
            Self::NotConfirmed => "ERR_CONFIRMATION_NEEDED",
        }
    }
}

/// The code in brackets at the end of what the daemon said.
fn told_code(reason: &str) -> Option<&'static str> {
    let (_, code) = reason.strip_suffix(')')?.rsplit_once('(')?;
    codes::find(code).map(|found| found.code)
}

/// Without control characters: a terminal shows it.
fn shown(error: &RedisError) -> String {
    // What a server says stands in the detail; what comes before it is the library's word for its first word.
    let text = match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => error.detail().map_or_else(|| error.to_string(), str::to_owned),
        _ => error.to_string(),
    };
    text.chars().filter(|character| !character.is_control()).take(SHOWN_CHARS_MAX).collect()
}

impl fmt::Display for AdminError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { socket, reason, cause } => {
                let socket = socket.display();
                match cause {
                    Cause::NoSocket => write!(
                        formatter,
                        "no node runs here: there is no socket {socket}; start it with crdt-engine run (or systemctl start \
                         crdt-engine), or name the folder of the one that runs with --folder"
                    ),
                    Cause::NobodyListens => write!(
                        formatter,
                        "the node has ended without taking its socket {socket} away, as after a crash or kill -9; look at \
                         the end of its log, then start it with crdt-engine run"
                    ),
                    Cause::NotAllowed => write!(
                        formatter,
                        "this user may not open {socket}; run the command as the user of the node, or let this one into \
                         its group (door.socket_mode)"
                    ),
                    Cause::Other => write!(
                        formatter,
                        "the node does not answer at {socket} ({reason}); it may be busy or hang: look at its log and at \
                         /healthz"
                    ),
                }
            }
            Self::Refused { command, reason } => write!(formatter, "the daemon refused {command}: {reason}"),
            Self::Answer { command, reason } => write!(
                formatter,
                "the daemon's answer to {command} was not understood ({reason}); restart it if it was upgraded"
            ),
            Self::NotConfirmed => formatter.write_str("nothing was dropped, because nobody confirmed it; add --yes"),
        }
    }
}

impl std::error::Error for AdminError {}
