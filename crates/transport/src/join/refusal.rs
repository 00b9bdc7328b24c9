//! Why a node was not let in.

use std::fmt;

use super::codec::{Fields, Malformed};
use crate::error::Refusal;
use crate::identity::{IdentityError, TokenError};
use crate::node_id::NodeId;

/// Longest reason that is sent.
const REASON_BYTES_MAX: usize = 512;

/// What the member that was asked says. Nothing has changed on either side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinRefusal {
    /// No invitation has this secret.
    TokenUnknown,
    /// Somebody joined with it, under another key.
    TokenUsed,
    /// It has expired, by the clock of the member.
    TokenExpired {
        /// When, in seconds since 1970.
        expires_s: u64,
    },
    /// It invites another node.
    OtherNode {
        /// Whom.
        invited: NodeId,
    },
    /// A member has this node id.
    NodeIdTaken {
        /// The node id.
        node: NodeId,
    },
    /// The member belongs to another cluster than the token.
    WrongCluster,
    /// The cluster speaks no protocol version that the joining node speaks.
    VersionSkew {
        /// Least version of the cluster.
        least: u16,
        /// Greatest version of the member that was asked.
        most: u16,
    },
    /// All slots are taken.
    Full {
        /// Members that there may be.
        members_max: usize,
    },
    /// Others join at this moment.
    Busy,
    /// The cluster takes certificates of its own CA only, and none was shown, or one of another name.
    CertificateNeeded,
    /// The proof of the private key does not hold.
    BadProof,
    /// The request does not decode.
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The member could not do it: its disk, its keys.
    Unable {
        /// What it says.
        reason: String,
    },
}

/// Why a join came to nothing, as the node that joins sees it.
#[derive(Debug)]
pub enum JoinError {
    /// The member said no.
    Refused(JoinRefusal),
    /// The token cannot be used.
    Token(TokenError),
    /// No connection came to be.
    Unreachable {
        /// `host:port` of the token.
        address: String,
        /// Why.
        reason: String,
    },
    /// Nobody answered.
    TimedOut {
        /// `host:port` of the token.
        address: String,
    },
    /// Who answered does not have the token's CA: another cluster, or somebody in between.
    WrongAuthority {
        /// `host:port` of the token.
        address: String,
    },
    /// The certificate of who answered is not valid now: it has expired, or a clock is wrong.
    Expired {
        /// `host:port` of the token.
        address: String,
    },
    /// Who answered takes no joins, or speaks another version of joining.
    NotInviting {
        /// `host:port` of the token.
        address: String,
    },
    /// What was answered does not fit the token or the key; nothing of it was kept.
    BadAnswer {
        /// What is wrong.
        reason: String,
    },
    /// The own identity cannot be used.
    Identity(IdentityError),
}

impl JoinRefusal {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TokenUnknown => "ERR_TOKEN_UNKNOWN",
            Self::TokenUsed => "ERR_TOKEN_USED",
            Self::TokenExpired { .. } => "ERR_TOKEN_EXPIRED",
            Self::OtherNode { .. } => "ERR_TOKEN_OTHER_NODE",
            Self::NodeIdTaken { .. } => "ERR_NODE_ID_TAKEN",
            Self::WrongCluster => "ERR_WRONG_CLUSTER",
            Self::VersionSkew { .. } => "ERR_VERSION_SKEW",
            Self::Full { .. } => "ERR_CLUSTER_FULL",
            Self::Busy => "ERR_JOIN_BUSY",
            Self::CertificateNeeded => "ERR_JOIN_CERT_NEEDED",
            Self::BadProof | Self::Malformed { .. } => "ERR_JOIN_MALFORMED",
            Self::Unable { .. } => "ERR_JOIN_FAILED",
        }
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        let put_text = |bytes: &mut Vec<u8>, text: &str| {
            let cut = text.floor_char_boundary(REASON_BYTES_MAX.min(text.len()));
            let text = text.get(..cut).unwrap_or_default();
            let length = u16::try_from(text.len()).expect("a reason was cut to 512 bytes");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        match self {
            Self::TokenUnknown => bytes.push(1),
            Self::TokenUsed => bytes.push(2),
            Self::TokenExpired { expires_s } => {
                bytes.push(3);
                bytes.extend_from_slice(&expires_s.to_be_bytes());
            }
            Self::OtherNode { invited } => {
                bytes.push(4);
                put_text(bytes, invited.as_str());
            }
            Self::NodeIdTaken { node } => {
                bytes.push(5);
                put_text(bytes, node.as_str());
            }
            Self::WrongCluster => bytes.push(6),
            Self::VersionSkew { least, most } => {
                bytes.push(7);
                bytes.extend_from_slice(&least.to_be_bytes());
                bytes.extend_from_slice(&most.to_be_bytes());
            }
            Self::Full { members_max } => {
                bytes.push(8);
                let most = u16::try_from(*members_max).unwrap_or(u16::MAX);
                bytes.extend_from_slice(&most.to_be_bytes());
            }
            Self::Busy => bytes.push(9),
            Self::CertificateNeeded => bytes.push(10),
            Self::BadProof => bytes.push(11),
            Self::Malformed { reason } => {
                bytes.push(12);
                put_text(bytes, reason);
            }
            Self::Unable { reason } => {
                bytes.push(13);
                put_text(bytes, reason);
            }
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let text = |fields: &mut Fields<'_>| {
            let length = fields.u16("length of a reason")?;
            fields.text(length.into(), REASON_BYTES_MAX, "reason").map(str::to_owned)
        };
        let node = |fields: &mut Fields<'_>| {
            let name = text(fields)?;
            NodeId::new(&name).map_err(|_| Malformed("node id"))
        };
        Ok(match fields.byte("refusal")? {
            1 => Self::TokenUnknown,
            2 => Self::TokenUsed,
            3 => Self::TokenExpired { expires_s: fields.u64("expiry")? },
            4 => Self::OtherNode { invited: node(fields)? },
            5 => Self::NodeIdTaken { node: node(fields)? },
            6 => Self::WrongCluster,
            7 => Self::VersionSkew { least: fields.u16("version")?, most: fields.u16("version")? },
            8 => Self::Full { members_max: fields.u16("members")?.into() },
            9 => Self::Busy,
            10 => Self::CertificateNeeded,
            11 => Self::BadProof,
            12 => Self::Malformed { reason: text(fields)? },
            13 => Self::Unable { reason: text(fields)? },
            _ => return Err(Malformed("kind of a refusal")),
        })
    }
}

impl fmt::Display for JoinRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenUnknown => formatter.write_str(
                "the member knows no invitation with this token; print a new one there: crdt-engine invite --node-id ID",
            ),
            Self::TokenUsed => formatter.write_str(
                "the token was used already, with another key; print a new one on the member that invited: \
                 crdt-engine invite --node-id ID",
            ),
            Self::TokenExpired { expires_s } => write!(
                formatter,
                "the token expired at {expires_s} (seconds since 1970, clock of the member); print a new one there: \
                 crdt-engine invite --node-id ID"
            ),
            Self::OtherNode { invited } => {
                write!(formatter, "the token invites {invited}; join as {invited}, or print a token for this node")
            }
            Self::NodeIdTaken { node } => write!(
                formatter,
                "a member has the node id {node} already; invite under another one, or, to give {node} a new \
                 certificate: crdt-engine invite --node-id {node} --renew"
            ),
            Self::WrongCluster => formatter
                .write_str("the member belongs to another cluster than the token; print a token in the right cluster"),
            Self::VersionSkew { least, most } => write!(
                formatter,
                "the cluster speaks protocol versions {least} to {most}, and this build none of them; install the \
                 version of crdt-engine that the members run"
            ),
            Self::Full { members_max } => {
                write!(formatter, "the cluster has {members_max} members, which is the most")
            }
            Self::Busy => formatter.write_str("other nodes join at this moment; try again in a few seconds"),
            Self::CertificateNeeded => formatter.write_str(
                "the cluster uses certificates of its own CA, and none that names this node was shown; join with \
                 --certificate FILE --key FILE --ca FILE",
            ),
            Self::BadProof => formatter.write_str("the proof of the private key does not hold; run join again"),
            Self::Malformed { reason } => write!(
                formatter,
                "the request does not decode ({reason}); install the same version of crdt-engine on both machines"
            ),
            Self::Unable { reason } => {
                write!(formatter, "the member could not let this node in: {reason}; mend that there, then join again")
            }
        }
    }
}

impl std::error::Error for JoinRefusal {}

impl JoinError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Token(error) => error.code(),
            Self::Unreachable { .. } => "ERR_JOIN_UNREACHABLE",
            Self::TimedOut { .. } => "ERR_JOIN_TIMED_OUT",
            Self::WrongAuthority { .. } => "ERR_JOIN_WRONG_AUTHORITY",
            Self::Expired { .. } => "ERR_CERT_EXPIRED",
            Self::NotInviting { .. } => "ERR_JOIN_NOT_OFFERED",
            Self::BadAnswer { .. } => "ERR_JOIN_BAD_ANSWER",
            Self::Identity(error) => error.code(),
        }
    }

    /// What a handshake that failed means for who joins.
    pub(super) fn of_handshake(address: &str, refusal: Refusal) -> Self {
        let address = address.to_owned();
        match refusal {
            Refusal::WrongAuthority => Self::WrongAuthority { address },
            Refusal::Expired => Self::Expired { address },
            // No common protocol: joining is offered only where invitations are made. A node that takes no joins may
            // also miss a certificate first.
            Refusal::WrongCluster | Refusal::NoCertificate => Self::NotInviting { address },
            Refusal::TimedOut => Self::TimedOut { address },
            Refusal::Unreachable { reason } => Self::Unreachable { address, reason },
            other => Self::Unreachable { address, reason: other.to_string() },
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(formatter),
            Self::Token(error) => error.fmt(formatter),
            Self::Unreachable { address, reason } => write!(
                formatter,
                "{address} cannot be reached: {reason}; check the address (crdt-engine invite --address HOST:PORT \
                 prints a token with another one) and that the node there runs"
            ),
            Self::TimedOut { address } => write!(
                formatter,
                "nobody answered at {address}; check that crdt-engine runs there, and that UDP to this port passes the \
                 firewalls between"
            ),
            Self::WrongAuthority { address } => write!(
                formatter,
                "who answered at {address} does not belong to the token's cluster; check the address, or print a new \
                 token if the cluster was made anew"
            ),
            Self::Expired { address } => write!(
                formatter,
                "the certificate of the node at {address} is not valid now; check the clocks of both machines \
                 (timedatectl), then renew it"
            ),
            Self::NotInviting { address } => write!(
                formatter,
                "the node at {address} takes no joins, or speaks another version; ask the node that printed the token, \
                 and run the same version of crdt-engine on both machines"
            ),
            Self::BadAnswer { reason } => write!(
                formatter,
                "the answer of the member does not fit: {reason}; nothing was kept. Run the same version of crdt-engine \
                 on both machines, then print a new token"
            ),
            Self::Identity(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for JoinError {}
