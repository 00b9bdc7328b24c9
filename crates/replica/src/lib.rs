//! One node of the cluster as a state machine without I/O.
//!
//! Events go in with the time (`handle_*`), effects come out ([`Node::poll_effect`]); the node never
//! reads a clock, a disk or a socket.

pub mod config;
pub mod effect;
pub mod epoch;
pub mod host;
pub mod log;
pub mod matrix;
pub mod message;
pub mod node;
pub mod record;
pub mod signer;
mod snapshot;
pub mod time;
pub mod topology;

pub use config::{Intervals, Limits};
pub use effect::{Effect, Installed, MintReason, Report};
pub use epoch::{Epoch, Member, SignedEpoch};
pub use node::{
    Action, Blast, BlastEnd, BlastView, CommitError, Continuity, GATHERED_BYTES_MAX, GATHERED_CHANGES_MAX, Gauges,
    HeldError, HeldReason, HeldView, Intent, Node, OpenError, PeerView, Setup, Start, Unready,
};
pub use record::{Durable, Found, Meta, Record, RecordKey, Ticket, WriteGroup};
pub use signer::Signer;
pub use time::Now;
