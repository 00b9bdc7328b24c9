//! The daemon's network side: authenticated links to the other members of the cluster.
//!
//! [`Transport`] is what the daemon sees: it says who is in, sends messages, and takes [`Event`]s out of [`Events`].
//! [`Memory`] carries it inside one process, [`Quic`] over UDP with mutual TLS 1.3; HTTPS polling is to be the third.
//! Whatever carries them, messages may be lost, doubled or reordered; `replica` is built for that.
//!
//! [`identity`] makes and reads certificates, keys and join tokens; [`join`] makes a member of who holds a token. [`membership`] is SWIM, and does no I/O: its
//! packets travel as messages of [`Lane::Membership`] over the same links.

mod error;
mod event;
mod figures;
mod frame;
pub mod identity;
pub mod join;
mod lane;
mod limits;
pub mod membership;
mod memory;
mod node_id;
mod peer;
mod quic;

use std::future::Future;
use std::pin::Pin;

pub use bytes::Bytes;

pub use error::{LinkEnd, PeersError, Refusal, SendError, Side};
pub use event::{Event, Events};
pub use figures::{LinkFigures, PathFigures, Traffic};
pub use lane::{Delivery, Kind, Lane};
pub use limits::{Limits, LimitsError, Timing};
pub use memory::{Hub, Memory};
pub use node_id::{NODE_ID_BYTES_MAX, NodeId, NodeIdError};
pub use peer::{ADDRESSES_MAX, Peer};
pub use quic::{DEFAULT_PORT, Quic, QuicConfig, StartError, bind, check_identity};

/// What [`Transport::close`] returns: it ends when the links are closed.
pub type Closing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Links to the members of the cluster.
///
/// At most one link to a member is up at a time. For each, [`Event::LinkUp`], then any number of [`Event::Received`],
/// then [`Event::LinkDown`] come out of the [`Events`] that the constructor returned, in this order. No method but
/// [`Transport::close`] waits, and none needs to be called from within a runtime: the hot path may call them.
///
/// Written so that an implementation without a connection fits: a link that polls over HTTPS is up while polls are
/// answered, takes [`Delivery`] as a hint, and tells what it cannot know (congestion window) as `None`.
pub trait Transport: Send + Sync {
    /// The node id that this end proves to others.
    fn node(&self) -> &NodeId;

    /// Says who is in from now on. A link to somebody who is not goes down ([`LinkEnd::Removed`]); members whose
    /// entry changed are dialled anew if no link is up. Our own entry is ignored.
    ///
    /// # Errors
    /// [`PeersError`] names the entry that breaks a bound; nothing has changed then.
    fn set_peers(&self, peers: Vec<Peer>) -> Result<(), PeersError>;

    /// Queues one message and returns at once. `Ok` says that it was queued, and nothing about its arrival.
    ///
    /// # Errors
    /// [`SendError::NoLink`] when no link to `to` is up, [`SendError::TooLarge`] above
    /// [`Limits::message_bytes_max`] (the link stays), [`SendError::Overflow`] when the queue is full: the link is
    /// reset then, which frees what it holds, and what was lost is pulled again after the next `LinkUp`.
    fn send(&self, to: &NodeId, lane: Lane, delivery: Delivery, bytes: Bytes) -> Result<(), SendError>;

    /// Figures per member of the last [`Transport::set_peers`], in the order of node ids.
    fn figures(&self) -> Vec<LinkFigures>;

    /// Sends what is queued, for at most [`Timing::drain_ms`], then closes all links. No link comes up again.
    fn close(&self) -> Closing<'_>;
}
