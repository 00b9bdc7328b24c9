//! Errors of the links.

use std::fmt;

use crate::node_id::NodeId;

/// Why a message was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// No link to that member is up. Nothing has changed.
    NoLink,
    /// The message is larger than the bound. Nothing has changed.
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// [`crate::Limits::message_bytes_max`].
        bytes_max: usize,
    },
    /// The peer takes less than is sent to it, and the queue is full. The link is reset.
    Overflow {
        /// Bytes that would be queued.
        bytes: usize,
        /// [`crate::Limits::send_queue_bytes_max`].
        bytes_max: usize,
    },
}

/// Why a list of members was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeersError {
    /// More members than an epoch record holds.
    TooMany {
        /// How many.
        peers: usize,
    },
    /// One member stands in the list twice.
    Twice {
        /// It.
        node: NodeId,
    },
    /// A member has more than [`crate::ADDRESSES_MAX`] addresses.
    TooManyAddresses {
        /// It.
        node: NodeId,
        /// How many.
        addresses: usize,
    },
    /// An address is not `host:port`.
    Address {
        /// The member.
        node: NodeId,
        /// The beginning of the address.
        address: String,
    },
}

/// Which of the two ends did something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// This one.
    Us,
    /// The other one.
    Peer,
}

/// Why two nodes did not come to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The certificate was not issued by the cluster's CA.
    WrongAuthority,
    /// The certificate has expired, or is not valid yet.
    Expired,
    /// No certificate was shown.
    NoCertificate,
    /// The certificate does not fit: encoding, purpose or signature.
    BadCertificate,
    /// The certificate does not name exactly one node id.
    NoNodeId,
    /// The certificate names a node that is not a member.
    NotMember {
        /// Whom it names; `None` when the peer refused us and did not say.
        node: Option<NodeId>,
    },
    /// The certificate names another node than the one that was dialled.
    OtherNode {
        /// Whom we wanted; `None` when the peer refused us.
        dialled: Option<NodeId>,
        /// Whom the certificate names; `None` when the peer refused us.
        found: Option<NodeId>,
    },
    /// The member is pinned to another certificate.
    NotPinned,
    /// The certificate names the node that it was shown to: two processes use one identity, or a node dialled itself.
    OwnNodeId,
    /// The other end belongs to another cluster, or speaks another version of the link.
    WrongCluster,
    /// A link is up already, and that one is kept. No fault: the dialler waits.
    Duplicate,
    /// The other end is closing down.
    Closing,
    /// No answer in time.
    TimedOut,
    /// The address does not resolve, or cannot be sent to.
    Unreachable {
        /// What the system says.
        reason: String,
    },
    /// The other end does not speak as a node of this version does.
    Malformed {
        /// What was found.
        reason: String,
    },
}

/// Why a link went down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkEnd {
    /// Nothing was heard for [`crate::Timing::idle_timeout_ms`].
    TimedOut,
    /// The peer closed it in good order.
    PeerLeft,
    /// The peer ended it for a reason of its own; this is its application code.
    PeerReset {
        /// The code; 0x100 and above are TLS alerts.
        code: u64,
    },
    /// The peer refused us after all: TLS 1.3 lets a dialler finish before its certificate is checked.
    Refused(Refusal),
    /// Our queue to it was full.
    SendOverflow,
    /// The peer announced a message above the bound; nothing was allocated for it.
    MessageTooLarge {
        /// Bytes that it announced.
        bytes: usize,
        /// [`crate::Limits::message_bytes_max`].
        bytes_max: usize,
    },
    /// The peer sent what is no frame.
    Malformed,
    /// A newer link to the same peer took its place.
    Replaced,
    /// The peer is no member any more.
    Removed,
    /// This end closes.
    Closed,
    /// The connection failed otherwise.
    Failed {
        /// What the connection says.
        reason: String,
    },
}

impl SendError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLink => "ERR_LINK_DOWN",
            Self::TooLarge { .. } => "ERR_MESSAGE_TOO_LARGE",
            Self::Overflow { .. } => "ERR_LINK_OVERFLOW",
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink => formatter.write_str("no link to this member is up"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(formatter, "a message of {bytes} bytes is larger than the bound of {bytes_max}")
            }
            Self::Overflow { bytes, bytes_max } => write!(
                formatter,
                "the queue to this member would hold {bytes} bytes, more than {bytes_max}: the link was reset, and what \
                 is missing is pulled when it is up again"
            ),
        }
    }
}

impl std::error::Error for SendError {}

impl PeersError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        "ERR_PEERS_INVALID"
    }
}

impl fmt::Display for PeersError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { peers } => {
                write!(formatter, "{peers} members are more than {}", replica::epoch::MEMBERS_MAX)
            }
            Self::Twice { node } => write!(formatter, "member {node} stands in the list twice"),
            Self::TooManyAddresses { node, addresses } => {
                write!(formatter, "member {node} has {addresses} addresses; the most are {}", crate::ADDRESSES_MAX)
            }
            Self::Address { node, address } => {
                write!(formatter, "address {address:?} of member {node} is not host:port")
            }
        }
    }
}

impl std::error::Error for PeersError {}

impl Refusal {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongAuthority => "ERR_PEER_WRONG_CA",
            Self::Expired => "ERR_CERT_EXPIRED",
            Self::NoCertificate | Self::BadCertificate | Self::NoNodeId => "ERR_PEER_CERT_INVALID",
            Self::NotMember { .. } => "ERR_PEER_NOT_MEMBER",
            Self::OtherNode { .. } => "ERR_PEER_OTHER_NODE",
            Self::NotPinned => "ERR_PEER_NOT_PINNED",
            Self::OwnNodeId => "ERR_NODE_ID_COLLISION",
            Self::WrongCluster => "ERR_WRONG_CLUSTER",
            Self::Duplicate => "ERR_LINK_DUPLICATE",
            Self::Closing => "ERR_PEER_CLOSING",
            Self::TimedOut | Self::Unreachable { .. } => "ERR_PEER_UNREACHABLE",
            Self::Malformed { .. } => "ERR_PEER_MALFORMED",
        }
    }

    /// True for what is part of ordinary life and needs nobody's attention.
    pub const fn is_ordinary(&self) -> bool {
        matches!(self, Self::Duplicate | Self::Closing)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongAuthority => formatter.write_str(
                "the certificate was not issued by this cluster's CA; join the node again with a token of this cluster",
            ),
            Self::Expired => formatter.write_str(
                "the certificate has expired or is not valid yet; check the clock of both machines, then renew the \
                 certificate",
            ),
            Self::NoCertificate => formatter.write_str("no certificate was shown; a node must show its own"),
            Self::BadCertificate => {
                formatter.write_str("the certificate does not fit: its encoding, purpose or signature is wrong")
            }
            Self::NoNodeId => formatter.write_str(
                "the certificate does not name exactly one node id; issue one whose only DNS name is the node id",
            ),
            Self::NotMember { node: Some(node) } => write!(
                formatter,
                "the certificate names {node}, which is not a member; invite it, or wait until its epoch record is here"
            ),
            Self::NotMember { node: None } => {
                formatter.write_str("the peer does not know this node as a member; its epoch record may still be on its way")
            }
            Self::OtherNode { dialled: Some(dialled), found: Some(found) } => {
                write!(formatter, "dialled {dialled}, and {found} answered; correct the address of {dialled}")
            }
            Self::OtherNode { .. } => {
                formatter.write_str("the peer dialled another node at our address; correct the address there")
            }
            Self::NotPinned => {
                formatter.write_str("the member is pinned to another certificate; renew the pin, or use that certificate")
            }
            Self::OwnNodeId => formatter.write_str(
                "the certificate names the node that it was shown to: two processes use one identity, or a node dialled \
                 itself; give each node its own",
            ),
            Self::WrongCluster => {
                formatter.write_str("the other end belongs to another cluster, or speaks another version of the link")
            }
            Self::Duplicate => formatter.write_str("a link is up already"),
            Self::Closing => formatter.write_str("the other end is closing down"),
            Self::TimedOut => {
                formatter.write_str("no answer in time; is the node running, and does UDP pass the firewalls between?")
            }
            Self::Unreachable { reason } => write!(formatter, "the address cannot be reached: {reason}"),
            Self::Malformed { reason } => write!(formatter, "the other end does not speak as a node does: {reason}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl LinkEnd {
    /// The stable code; `None` for what is no error.
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::PeerLeft | Self::Replaced | Self::Removed | Self::Closed => None,
            Self::TimedOut => Some("ERR_LINK_TIMED_OUT"),
            Self::PeerReset { .. } | Self::Failed { .. } => Some("ERR_LINK_FAILED"),
            Self::Refused(refusal) => Some(refusal.code()),
            Self::SendOverflow => Some("ERR_LINK_OVERFLOW"),
            Self::MessageTooLarge { .. } => Some("ERR_MESSAGE_TOO_LARGE"),
            Self::Malformed => Some("ERR_PEER_MALFORMED"),
        }
    }
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => formatter.write_str("nothing was heard from the peer for the idle timeout"),
            Self::PeerLeft => formatter.write_str("the peer closed the link"),
            Self::PeerReset { code } => write!(formatter, "the peer reset the link with code {code:#x}"),
            Self::Refused(refusal) => write!(formatter, "the peer refused this node: {refusal}"),
            Self::SendOverflow => formatter.write_str("the peer takes less than is sent to it, and the queue was full"),
            Self::MessageTooLarge { bytes, bytes_max } => {
                write!(formatter, "the peer announced a message of {bytes} bytes; the bound is {bytes_max}")
            }
            Self::Malformed => formatter.write_str("the peer sent what is no frame"),
            Self::Replaced => formatter.write_str("a newer link took its place"),
            Self::Removed => formatter.write_str("the peer is no member any more"),
            Self::Closed => formatter.write_str("this node closes"),
            Self::Failed { reason } => write!(formatter, "the connection failed: {reason}"),
        }
    }
}
