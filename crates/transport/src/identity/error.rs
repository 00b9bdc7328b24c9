//! Errors of identities and join tokens: what happened, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::node_id::NodeIdError;

/// Why an identity was not made or read.
#[derive(Debug)]
pub enum IdentityError {
    /// A file could not be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others than the owner may read a secret.
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is larger than any of its kind.
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// A text is not the PEM that is needed.
    Pem {
        /// What was to be read.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A certificate does not decode.
    Certificate {
        /// What is wrong.
        reason: String,
    },
    /// A certificate does not have exactly one name, a DNS name.
    Names {
        /// Names it has.
        names: usize,
    },
    /// The one name of a certificate is no node id.
    NodeId(NodeIdError),
    /// A certificate has expired.
    Expired {
        /// Whose.
        whose: String,
        /// When, in seconds since 1970.
        not_after_s: i64,
        /// The clock.
        now_s: i64,
    },
    /// A certificate is not valid yet.
    NotYetValid {
        /// Whose.
        whose: String,
        /// From when on, in seconds since 1970.
        not_before_s: i64,
        /// The clock.
        now_s: i64,
    },
    /// Certificate, key and CA do not fit each other, or cannot be used for TLS.
    Unusable {
        /// What is wrong.
        reason: String,
    },
}

/// Why a join token was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// It does not begin as a token does.
    NotAToken,
    /// It is of a version that this build does not know.
    Version {
        /// Its version.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// It is not base64url.
    Encoding,
    /// It is shorter or longer than what it says.
    Length,
    /// Its checksum does not fit: a character was lost or changed.
    Checksum,
    /// A field is out of its range.
    Field {
        /// Which.
        what: &'static str,
    },
    /// It has expired.
    Expired {
        /// When, in seconds since 1970.
        expires_s: u64,
        /// The clock.
        now_s: u64,
    },
}

/// Why a text is no key for MACs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyTokenError {
    /// It does not begin as a key does.
    NotAKey,
    /// It is of a version that this build does not know.
    Version {
        /// Its version.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// A character was lost or changed.
    Damaged,
}

impl IdentityError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::FileTooLarge { .. } => "ERR_IDENTITY_FILE",
            Self::Readable { .. } => "ERR_KEY_READABLE",
            Self::Pem { .. } | Self::Certificate { .. } | Self::Names { .. } | Self::NodeId(_) => "ERR_CERT_INVALID",
            Self::Expired { .. } | Self::NotYetValid { .. } => "ERR_CERT_EXPIRED",
            Self::Unusable { .. } => "ERR_IDENTITY_UNUSABLE",
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(formatter, "{}: {error}", path.display()),
            Self::Readable { path, mode } => {
                let path = path.display();
                write!(formatter, "{path} has mode {mode:04o}, and others may read it; run: chmod 600 {path}")
            }
            Self::FileTooLarge { path, bytes, bytes_max } => {
                write!(formatter, "{} has {bytes} bytes; the bound is {bytes_max}", path.display())
            }
            Self::Pem { what, reason } => write!(formatter, "the PEM of {what} cannot be read: {reason}"),
            Self::Certificate { reason } => write!(formatter, "the certificate cannot be read: {reason}"),
            Self::Names { names } => write!(
                formatter,
                "the certificate has {names} names; issue one whose only subject alternative name is the node id, as \
                 DNS name"
            ),
            Self::NodeId(error) => write!(formatter, "the name in the certificate is no node id: {error}"),
            Self::Expired { whose, not_after_s, now_s } => write!(
                formatter,
                "the certificate of {whose} expired {} hours ago; check the clock, then renew it: \
                 crdt-engine invite --node-id {whose} --renew on a member, and crdt-engine join TOKEN here",
                now_s.saturating_sub(*not_after_s) / 3_600
            ),
            Self::NotYetValid { whose, not_before_s, now_s } => write!(
                formatter,
                "the certificate of {whose} is valid only in {} seconds; check the clock of this machine (timedatectl)",
                not_before_s.saturating_sub(*now_s)
            ),
            Self::Unusable { reason } => write!(formatter, "the identity cannot be used: {reason}"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl TokenError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "ERR_TOKEN_EXPIRED",
            Self::Version { .. } => "ERR_VERSION_SKEW",
            _ => "ERR_TOKEN_INVALID",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAToken => formatter.write_str("this is no join token; copy the whole line that invite printed"),
            Self::Version { found, known } => write!(
                formatter,
                "the token is of version {found}, and this build knows {known}; install the same version on both machines"
            ),
            Self::Encoding => formatter.write_str("the token holds a character that no token has; copy it again"),
            Self::Length => formatter.write_str("the token is cut or something was added; copy the whole line"),
            Self::Checksum => formatter.write_str("a character of the token was lost or changed; copy it again"),
            Self::Field { what } => write!(formatter, "the {what} of the token is out of its range"),
            Self::Expired { expires_s, now_s } => write!(
                formatter,
                "the token expired {} minutes ago; print a new one: crdt-engine invite",
                now_s.saturating_sub(*expires_s) / 60
            ),
        }
    }
}

impl std::error::Error for TokenError {}

impl KeyTokenError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Version { .. } => "ERR_VERSION_SKEW",
            Self::NotAKey | Self::Damaged => "ERR_KEY_INVALID",
        }
    }
}

impl fmt::Display for KeyTokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAKey => {
                formatter.write_str("this is no key; copy the whole line that `crdt-engine key new` printed")
            }
            Self::Version { found, known } => write!(
                formatter,
                "the key is of version {found}, and this build knows {known}; install the same version on all machines"
            ),
            Self::Damaged => {
                formatter.write_str("a character of the key was lost, changed or added; copy the whole line")
            }
        }
    }
}

impl std::error::Error for KeyTokenError {}
