//! Why a store cannot do what it was asked.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store cannot do what it was asked. Each has a stable code, and says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The system refused something.
    Io {
        /// What was tried, as in "open".
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// No space is left on the disk, or Redis is at its `maxmemory`.
    Full {
        /// Where: a folder or an address.
        place: String,
        /// The words of the system or the server.
        message: String,
    },
    /// Another process has the store open.
    Locked {
        /// The state folder.
        folder: PathBuf,
    },
    /// The files are of a format that this build does not know.
    Format {
        /// Which file, folder or database.
        what: String,
    },
    /// Stored bytes do not read. At the start this leads to quarantine instead; this comes while running.
    Corrupt {
        /// What.
        what: String,
    },
    /// A record is above its bound.
    TooLarge {
        /// "value of a record".
        what: &'static str,
        /// Its bytes.
        bytes: u64,
        /// The bound.
        bound: u64,
    },
    /// A durable write failed before: nothing is taken any more.
    Refused {
        /// The failure.
        because: Box<StoreError>,
    },
    /// A commit has not come back.
    Stalled {
        /// For so long.
        seconds: u64,
    },
    /// More was written during a copy than could wait for it. The store goes on, and the copy is given up.
    CopyTooSlow {
        /// Bytes that may wait.
        bound: u64,
    },
    /// The store was closed.
    Closed,
    /// Records are to be brought to a place that holds some already.
    Occupied {
        /// The place.
        place: String,
    },
    /// Everything can only be loaded before the first write.
    AlreadyRunning,
    /// The store's own thread could not be started or ended by a panic, which is a bug.
    Thread {
        /// Its last words.
        message: String,
    },
    /// The address of the server does not parse or asks for what is not built.
    Address {
        /// The reason, without the password.
        message: String,
    },
    /// The server does not answer.
    Unreachable {
        /// The address, without the password.
        address: String,
        /// The words of the system or the server.
        message: String,
    },
    /// TLS with the server did not come about: one side does not trust the other, or one speaks no TLS.
    Tls {
        /// The address, without the password.
        address: String,
        /// The words of TLS.
        message: String,
    },
    /// The server refused the password or a command.
    Denied {
        /// The server's words.
        message: String,
    },
    /// The server takes no writes: it is a replica, or cannot write its own files.
    ReadOnly {
        /// The server's words.
        message: String,
    },
    /// The server promises less than the durability asked for.
    Weak {
        /// What it must be set to, as in `appendonly yes`.
        needed: String,
        /// What it is set to.
        found: String,
    },
    /// The server is another process than the one that had acknowledged: its last second may be gone.
    Restarted {
        /// `run_id` before.
        before: String,
        /// `run_id` now.
        now: String,
    },
    /// The store holds less than it had acknowledged.
    WentBack {
        /// Number of its last group.
        found: u64,
        /// Number of the last group that was called durable.
        known: u64,
    },
    /// Another process writes into the same place.
    Owned {
        /// The place.
        place: String,
    },
    /// The server answered something else than expected.
    Service {
        /// To what, and the answer.
        message: String,
    },
}

impl StoreError {
    /// The stable code; `crdt-engine explain CODE` tells more.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "ERR_STORE_IO",
            Self::Full { .. } => "ERR_STORE_FULL",
            Self::Locked { .. } => "ERR_STORE_LOCKED",
            Self::Format { .. } => "ERR_STORE_FORMAT",
            Self::Corrupt { .. } => "ERR_STORE_CORRUPT",
            Self::TooLarge { .. } => "ERR_STORE_TOO_LARGE",
            Self::Refused { .. } => "ERR_STORE_FAILED",
            Self::Stalled { .. } => "ERR_STORE_STALLED",
            Self::CopyTooSlow { .. } => "ERR_BACKUP_SLOW",
            Self::Closed => "ERR_BACKUP_CANCELLED",
            Self::Occupied { .. } => "ERR_STORE_OCCUPIED",
            Self::AlreadyRunning => "ERR_STORE_RUNNING",
            Self::Thread { .. } => "ERR_STORE_THREAD",
            Self::Address { .. } => "ERR_STORE_ADDRESS",
            Self::Unreachable { .. } => "ERR_STORE_UNREACHABLE",
            Self::Tls { .. } => "ERR_STORE_TLS",
            Self::Denied { .. } => "ERR_STORE_DENIED",
            Self::ReadOnly { .. } => "ERR_STORE_READ_ONLY",
            Self::Weak { .. } => "ERR_STORE_DURABILITY",
            Self::Restarted { .. } => "ERR_STORE_RESTARTED",
            Self::WentBack { .. } => "ERR_STORE_WENT_BACK",
            Self::Owned { .. } => "ERR_STORE_OWNED",
            Self::Service { .. } => "ERR_STORE_SERVICE",
        }
    }

    /// The system's error for a file.
    pub(crate) fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { place: path.display().to_string(), message: error.to_string() }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { message: format!("{}: {error}", path.display()) },
            _ => Self::Io { doing, path: path.to_owned(), message: error.to_string() },
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, message } => write!(f, "cannot {doing} {}: {message}", path.display()),
            Self::Full { place, message } => write!(f, "{place} is full ({message}); free space there, then restart"),
            Self::Locked { folder } => {
                write!(f, "{} is in use by another process; stop it, or point to another folder", folder.display())
            }
            Self::Format { what } => {
                write!(
                    f,
                    "{what} is of a format that this build does not know; use the build that wrote it, or move its folder \
                     away: peers fill the node again"
                )
            }
            Self::Corrupt { what } => {
                write!(f, "{what} does not read; restart: it is set aside and repaired from peers")
            }
            Self::TooLarge { what, bytes, bound } => write!(f, "the {what} has {bytes} bytes, above {bound}"),
            Self::Refused { because } => write!(f, "writes are refused since a durable write failed: {because}"),
            Self::Stalled { seconds } => {
                write!(f, "a commit has not come back for {seconds} s; look at the disk or the server, then restart")
            }
            Self::CopyTooSlow { bound } => write!(
                f,
                "more than {bound} bytes were written while the store was copied; copy it when less is written, or to a \
                 faster disk"
            ),
            Self::Closed => f.write_str("the store was closed; start the node and try again"),
            Self::Occupied { place } => {
                write!(f, "{place} holds the state of a node; nothing was written: name an empty place")
            }
            Self::AlreadyRunning => f.write_str("everything can be loaded before the first write only"),
            Self::Thread { message } => write!(f, "the store's thread ended: {message}"),
            Self::Address { message } => write!(f, "the address of Redis is not usable: {message}"),
            Self::Unreachable { address, message } => write!(f, "Redis at {address} does not answer: {message}"),
            Self::Tls { address, message } => write!(
                f,
                "no TLS with Redis at {address}: {message}; look at redis.tls_ca, and at the certificate of the server"
            ),
            Self::Denied { message } => write!(f, "Redis denies access ({message}); check user, password and ACL"),
            Self::ReadOnly { message } => {
                write!(f, "the store takes no writes ({message}); make it writable, then restart")
            }
            Self::Weak { needed, found } => write!(f, "Redis must have {needed} and has {found}; set it in redis.conf"),
            Self::Restarted { before, now } => {
                write!(f, "Redis was restarted (run_id {before}, now {now}); restart this node")
            }
            Self::WentBack { found, known } => {
                write!(f, "the store holds groups up to {found} and had acknowledged {known}; restart this node")
            }
            Self::Owned { place } => {
                write!(f, "another process writes into {place}; give each node a prefix of its own")
            }
            Self::Service { message } => write!(f, "unexpected answer from Redis: {message}"),
        }
    }
}

impl core::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused { because } => Some(because.as_ref()),
            _ => None,
        }
    }
}
