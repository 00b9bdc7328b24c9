//! Why there is no backup, or nothing was restored.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use store::ArchiveError;

use crate::folder::FolderError;

/// Why there is no backup, or nothing was restored. The node is as it was.
#[derive(Debug)]
pub enum BackupError {
    /// The node folder.
    Folder(FolderError),
    /// The folder of the backup is there already.
    Exists {
        /// It.
        path: PathBuf,
    },
    /// A file cannot be copied.
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The folder is no whole backup.
    Invalid {
        /// It.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The records of a running node cannot be read, or not be brought back.
    Records {
        /// The file with them.
        path: PathBuf,
        /// Why.
        error: ArchiveError,
    },
    /// The backup is of another node than the one that lives in the folder.
    OtherNode {
        /// The folder.
        folder: PathBuf,
        /// Who lives there.
        found: String,
        /// Of whom the backup is.
        named: String,
    },
}

impl BackupError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            Self::Exists { .. } => "ERR_BACKUP_EXISTS",
            Self::File { .. } => "ERR_BACKUP_FILE",
            Self::Invalid { .. } => "ERR_BACKUP_INVALID",
            Self::Records { error, .. } => error.code(),
            Self::OtherNode { .. } => "ERR_BACKUP_OTHER_NODE",
        }
    }
}

/// The system's words for a path.
pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |error| BackupError::File { path: path.clone(), error }
}

impl From<FolderError> for BackupError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(formatter),
            Self::Exists { path } => {
                write!(
                    formatter,
                    "{} is there already; backups are never overwritten: name a new folder",
                    path.display()
                )
            }
            Self::File { path, error } => write!(
                formatter,
                "{}: {error}; nothing that was there before has changed: mend it and start again",
                path.display()
            ),
            Self::Invalid { path, reason } => {
                write!(formatter, "{} is no whole backup: {reason}; take another one", path.display())
            }
            Self::Records { path, error } => {
                write!(formatter, "{}: {error}; nothing that was there before has changed", path.display())
            }
            Self::OtherNode { folder, found, named } => write!(
                formatter,
                "the backup is of {named}, and {found} lives in {}; name another folder with --folder",
                folder.display()
            ),
        }
    }
}

impl std::error::Error for BackupError {}
