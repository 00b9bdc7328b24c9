//! Why the daemon could not be asked.

use std::fmt;
use std::path::{Path, PathBuf};

use redis::{ErrorKind, RedisError};

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

impl AdminError {
    pub(super) fn unreachable(socket: &Path, error: &RedisError) -> Self {
        Self::Unreachable { socket: socket.into(), reason: shown(error) }
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
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "ERR_DAEMON_UNREACHABLE",
            Self::Refused { .. } => "ERR_DAEMON_REFUSED",
            Self::Answer { .. } => "ERR_DAEMON_ANSWER",
            Self::NotConfirmed => "ERR_CONFIRMATION_NEEDED",
        }
    }
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
            Self::Unreachable { socket, reason } => write!(
                formatter,
                "no daemon answers at {} ({reason}); start it with crdt-engine run, or name its folder with --folder",
                socket.display()
            ),
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
