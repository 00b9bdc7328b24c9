//! Errors of the node folder: what happened, to what, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use transport::identity::IdentityError;

/// Why something in a node folder was not read or written.
#[derive(Debug)]
pub enum FolderError {
    /// A file or folder could not be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No node lives in the folder.
    NotInitialised {
        /// The folder.
        folder: PathBuf,
    },
    /// A node lives in the folder already.
    AlreadyInitialised {
        /// The folder.
        folder: PathBuf,
        /// Which.
        node: String,
    },
    /// Another daemon runs on the folder.
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// Others than the owner have a right to a folder with secrets.
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not read as what it should be.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is larger than any of its kind.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// Two epoch records have one number.
    EpochFork {
        /// The number.
        number: u64,
    },
    /// A certificate or key cannot be used.
    Identity(IdentityError),
}

impl FolderError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "ERR_FOLDER_FILE",
            Self::NotInitialised { .. } => "ERR_NOT_INITIALISED",
            Self::AlreadyInitialised { .. } => "ERR_ALREADY_INITIALISED",
            Self::InUse { .. } => "ERR_FOLDER_IN_USE",
            Self::Open { .. } => "ERR_KEY_READABLE",
            Self::Damaged { .. } | Self::TooLarge { .. } => "ERR_FOLDER_DAMAGED",
            Self::EpochFork { .. } => "ERR_EPOCH_FORK",
            Self::Identity(error) => error.code(),
        }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, reason: impl fmt::Display) -> Self {
        Self::Damaged { path: path.into(), reason: reason.to_string() }
    }
}

impl From<IdentityError> for FolderError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl fmt::Display for FolderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } if error.kind() == io::ErrorKind::PermissionDenied => write!(
                formatter,
                "{}: {error}; run as the owner of the folder, or name another one with --folder",
                path.display()
            ),
            Self::File { path, error } => write!(formatter, "{}: {error}", path.display()),
            Self::NotInitialised { folder } => write!(
                formatter,
                "no node lives in {}; begin a cluster with: crdt-engine init --node-id node_01, or enter one with: \
                 crdt-engine join TOKEN",
                folder.display()
            ),
            Self::AlreadyInitialised { folder, node } => write!(
                formatter,
                "the node {node} lives in {} already, and nothing was changed; name another folder with --folder",
                folder.display()
            ),
            Self::InUse { folder } => write!(
                formatter,
                "another crdt-engine runs on {}; stop it first, or name another folder with --folder",
                folder.display()
            ),
            Self::Open { path, mode } => {
                let path = path.display();
                write!(formatter, "{path} has mode {mode:04o}, and others may look into it; run: chmod 700 {path}")
            }
            Self::Damaged { path, reason } => write!(
                formatter,
                "{} does not read: {reason}; bring it back from a backup, or renew this node: crdt-engine invite \
                 --node-id ID --renew on a member, and crdt-engine join TOKEN here",
                path.display()
            ),
            Self::TooLarge { path, bytes, bytes_max } => {
                write!(formatter, "{} has {bytes} bytes; the bound is {bytes_max}", path.display())
            }
            Self::EpochFork { number } => write!(
                formatter,
                "two different epoch records have the number {number}: the CA's key is used in two places; keep it in \
                 one"
            ),
            Self::Identity(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for FolderError {}
