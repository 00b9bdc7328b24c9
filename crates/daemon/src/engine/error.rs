//! Why the engine did not start, or ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use replica::{HeldError, OpenError};
use store::StoreError;
use transport::membership::MembershipError;
use transport::{PeersError, StartError};

use super::clock::OFFSET_VARIABLE;
use crate::door::DoorError;
use crate::folder::FolderError;

/// Why the engine did not start, or ended.
#[derive(Debug)]
pub enum EngineError {
    /// The variable that moves the clock in tests is no number.
    ClockOffset {
        /// Its value.
        text: String,
    },
    /// The UDP socket cannot be bound.
    Bind {
        /// To which address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The links cannot be started.
    Transport(StartError),
    /// The addresses of members cannot be used.
    Peers(PeersError),
    /// The store does not open, or failed.
    Store(StoreError),
    /// The records are not this node's.
    Open(OpenError),
    /// The local door cannot be opened.
    Door(DoorError),
    /// The node folder does not do.
    Folder(FolderError),
    /// Liveness cannot be started.
    Membership(MembershipError),
    /// The system refused a thread, a runtime or its poll.
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The hot thread ended by a panic, which is a bug.
    Panicked,
}

/// Why a request to the engine was not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// The engine has stopped.
    Stopped,
    /// There is no such member.
    NotMember {
        /// The name that was given.
        node: String,
    },
    /// Nothing of this name is held.
    NotHeld {
        /// The name that was given.
        id: String,
    },
    /// Two versions of one batch exist: releasing would let one of them win by chance.
    Forked {
        /// The name that was given.
        id: String,
    },
    /// What is held stays held, and why.
    Held(HeldError),
    /// It is not built.
    NotBuilt {
        /// What.
        what: &'static str,
    },
    /// The addresses cannot be used. The old ones stay in use.
    Peers(PeersError),
}

impl EngineError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ClockOffset { .. } => "ERR_CONFIG_INVALID",
            Self::Bind { .. } => "ERR_BIND_FAILED",
            Self::Transport(error) => error.code(),
            Self::Peers(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Open(OpenError::Foreign { .. }) => "ERR_STATE_FOREIGN",
            Self::Open(OpenError::NodeId(_)) => "ERR_NODE_ID_INVALID",
            Self::Door(error) => error.code(),
            Self::Folder(error) => error.code(),
            Self::Membership(error) => error.code(),
            Self::System { .. } => "ERR_SYSTEM",
            Self::Panicked => "ERR_INTERNAL",
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockOffset { text } => {
                write!(formatter, "{OFFSET_VARIABLE} is {text:?}; it must be a whole number of milliseconds, or unset")
            }
            Self::Bind { address, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                formatter,
                "UDP {address} is taken by another process; see who has it with: ss -ulpn, or set transport.listen to \
                 another port"
            ),
            Self::Bind { address, error } => {
                write!(
                    formatter,
                    "UDP {address} cannot be bound: {error}; set transport.listen to an address of this machine"
                )
            }
            Self::Transport(error) => error.fmt(formatter),
            Self::Peers(error) => error.fmt(formatter),
            Self::Store(error) => error.fmt(formatter),
            Self::Open(error) => error.fmt(formatter),
            Self::Door(error) => error.fmt(formatter),
            Self::Folder(error) => error.fmt(formatter),
            Self::Membership(error) => error.fmt(formatter),
            Self::System { what, error } => write!(formatter, "the system refused {what}: {error}"),
            Self::Panicked => formatter.write_str("the engine's own thread ended by a panic; the log says where"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DoorError> for EngineError {
    fn from(error: DoorError) -> Self {
        Self::Door(error)
    }
}

impl From<FolderError> for EngineError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<PeersError> for EngineError {
    fn from(error: PeersError) -> Self {
        Self::Peers(error)
    }
}

impl RequestError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Stopped => "ERR_ENGINE_STOPPED",
            Self::NotMember { .. } => "ERR_NOT_MEMBER",
            Self::NotHeld { .. } => "ERR_NOT_HELD",
            Self::Forked { .. } => "ERR_IDEMPOTENCY_VIOLATION",
            Self::Held(error) => error.code(),
            Self::NotBuilt { .. } => "ERR_NOT_BUILT",
            Self::Peers(error) => error.code(),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => formatter.write_str("the engine stops, or has stopped"),
            Self::NotMember { node } => {
                write!(formatter, "{node:?} is no other member of this cluster; CRDT.PEERS lists them")
            }
            Self::NotHeld { id } => write!(formatter, "{id:?} is not held; CRDT.HELD lists what is"),
            Self::Forked { id } => write!(
                formatter,
                "{id:?} exists in two versions and cannot be released; let the node that wrote both join anew, under another id"
            ),
            Self::Held(error) => error.fmt(formatter),
            Self::NotBuilt { what } => write!(formatter, "{what} is not built yet; nothing has changed"),
            Self::Peers(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for RequestError {}
