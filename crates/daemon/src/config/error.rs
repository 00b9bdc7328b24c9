//! What is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use transport::NodeIdError;

use super::Origin;

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The file is larger than any configuration.
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// The file is no TOML.
    Syntax {
        /// Which.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What was found, without the line itself: a password may stand in it.
        reason: String,
    },
    /// Values or keys are wrong.
    Invalid {
        /// All of them; at least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// A key or variable that nobody knows.
    UnknownKey {
        /// It.
        key: String,
        /// What was probably meant.
        meant: Option<String>,
        /// Where it stands.
        origin: Origin,
    },
    /// A value that does not fit. It is not told: it may be a secret.
    Value {
        /// The key.
        key: String,
        /// What the value must be.
        expected: String,
        /// Where it stands.
        origin: Origin,
    },
    /// Values that do not fit each other.
    Conflict {
        /// What, and what to do.
        reason: String,
        /// Where the first of them stands.
        origin: Origin,
    },
}

impl Problem {
    pub(super) fn node_id(key: &str, error: &NodeIdError, origin: Origin) -> Self {
        Self::Value { key: key.to_owned(), expected: format!("named after a node id: {error}"), origin }
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownKey { .. } => "ERR_CONFIG_UNKNOWN_KEY",
            Self::Value { .. } | Self::Conflict { .. } => "ERR_CONFIG_INVALID",
        }
    }
}

impl ConfigError {
    /// The stable code; that of the first problem where there are several.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::TooLarge { .. } => "ERR_CONFIG_FILE",
            Self::Syntax { .. } => "ERR_CONFIG_SYNTAX",
            Self::Invalid { problems } => problems.first().map_or("ERR_CONFIG_INVALID", Problem::code),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, meant: Some(meant), origin } => {
                write!(formatter, "{origin}: {key} is no setting; did you mean {meant}?")
            }
            Self::UnknownKey { key, meant: None, origin } => {
                write!(formatter, "{origin}: {key} is no setting; crdt-engine config show lists all")
            }
            Self::Value { key, expected, origin } => write!(formatter, "{origin}: {key} must be {expected}"),
            Self::Conflict { reason, origin } => write!(formatter, "{origin}: {reason}"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(formatter, "{}: {error}; run as the owner of the node folder", path.display())
            }
            Self::File { path, error } if error.kind() == io::ErrorKind::NotFound => {
                write!(formatter, "there is no configuration {}; correct --config, or leave it out", path.display())
            }
            Self::File { path, error } => {
                write!(formatter, "the configuration {} cannot be read: {error}", path.display())
            }
            Self::TooLarge { path, bytes, bytes_max } => {
                write!(formatter, "{} has {bytes} bytes; the bound of a configuration is {bytes_max}", path.display())
            }
            Self::Syntax { path, line, reason } => {
                write!(formatter, "{}:{line}: this is no TOML: {reason}", path.display())
            }
            Self::Invalid { problems } => {
                for (place, problem) in problems.iter().enumerate() {
                    let gap = if place > 0 { "\n" } else { "" };
                    write!(formatter, "{gap}{problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}
