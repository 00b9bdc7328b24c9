//! Links inside one process, for tests and for a cluster in one binary: no socket, no encryption, no loss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::{LinkEnd, PeersError, SendError};
use crate::event::{self, Event, EventSink, Events, ReceiveRoom};
use crate::figures::{Counters, LinkFigures, PathFigures};
use crate::lane::{Delivery, Kind, Lane};
use crate::limits::{Limits, LimitsError};
use crate::node_id::NodeId;
use crate::peer::{self, Peer};
use crate::{Closing, Transport};

/// Where the nodes of one process meet. A link is up while both ends are there, each lists the other, and nobody has
/// cut it.
#[derive(Clone, Debug, Default)]
pub struct Hub(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeId, Place>,
    /// Pairs that were cut, the smaller node id first.
    cut: BTreeSet<(NodeId, NodeId)>,
    up: BTreeSet<(NodeId, NodeId)>,
}

/// A node at the hub.
#[derive(Debug)]
struct Place {
    sink: EventSink,
    limits: Limits,
    peers: BTreeMap<NodeId, PeerPlace>,
}

#[derive(Debug)]
struct PeerPlace {
    counters: Arc<Counters>,
    room: ReceiveRoom,
}

/// One node's end at a [`Hub`].
#[derive(Debug)]
pub struct Memory {
    node: NodeId,
    hub: Hub,
}

impl Hub {
    /// An empty hub.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node comes to the hub. One that is there already under this id is closed.
    ///
    /// # Errors
    /// [`LimitsError`] for bounds that do not fit each other.
    pub fn join(&self, node: NodeId, limits: Limits) -> Result<(Memory, Events), LimitsError> {
        limits.check()?;
        let (sink, events) = event::channel();
        let mut state = self.lock();
        state.leave(&node, &LinkEnd::Closed);
        state.nodes.insert(node.clone(), Place { sink, limits, peers: BTreeMap::new() });
        drop(state);
        Ok((Memory { node, hub: self.clone() }, events))
    }

    /// Cuts the link of two nodes, and keeps it cut: both see it time out.
    pub fn cut(&self, one: &NodeId, other: &NodeId) {
        let mut state = self.lock();
        state.cut.insert(pair(one, other));
        state.down(one, other, &LinkEnd::TimedOut, &LinkEnd::TimedOut);
    }

    /// Lets two nodes come together again.
    pub fn heal(&self, one: &NodeId, other: &NodeId) {
        let mut state = self.lock();
        state.cut.remove(&pair(one, other));
        state.connect(one, other);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-made change: each method changes the state in whole steps.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(one: &NodeId, other: &NodeId) -> (NodeId, NodeId) {
    if one < other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) }
}

impl State {
    fn lists(&self, node: &NodeId, peer: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|place| place.peers.contains_key(peer))
    }

    fn connect(&mut self, one: &NodeId, other: &NodeId) {
        let link = pair(one, other);
        let may = self.lists(one, other) && self.lists(other, one) && !self.cut.contains(&link);
        if one == other || !may || !self.up.insert(link) {
            return;
        }
        for (node, peer) in [(one, other), (other, one)] {
            if let Some(place) = self.nodes.get(node) {
                if let Some(entry) = place.peers.get(peer) {
                    entry.counters.count_up();
                }
                place.sink.tell_local_link(Event::LinkUp { peer: peer.clone() });
            }
        }
    }

    fn down(&mut self, one: &NodeId, other: &NodeId, end_of_one: &LinkEnd, end_of_other: &LinkEnd) {
        if !self.up.remove(&pair(one, other)) {
            return;
        }
        for (node, peer, end) in [(one, other, end_of_one), (other, one, end_of_other)] {
            if let Some(place) = self.nodes.get(node) {
                place.sink.tell_local_link(Event::LinkDown { peer: peer.clone(), end: end.clone() });
            }
        }
    }

    fn leave(&mut self, node: &NodeId, end: &LinkEnd) {
        let peers: Vec<NodeId> = match self.nodes.get(node) {
            Some(place) => place.peers.keys().cloned().collect(),
            None => return,
        };
        for peer in peers {
            self.down(node, &peer, end, &LinkEnd::PeerLeft);
        }
        self.nodes.remove(node);
    }

    fn send(&mut self, from: &NodeId, to: &NodeId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        if !self.up.contains(&pair(from, to)) {
            return Err(SendError::NoLink);
        }
        let (Some(here), Some(there)) = (self.nodes.get(from), self.nodes.get(to)) else {
            return Err(SendError::NoLink);
        };
        let (Some(sender), Some(receiver)) = (here.peers.get(to), there.peers.get(from)) else {
            return Err(SendError::NoLink);
        };
        let bytes_max = here.limits.message_bytes_max;
        if bytes.len() > bytes_max {
            return Err(SendError::TooLarge { bytes: bytes.len(), bytes_max });
        }
        let there_max = there.limits.message_bytes_max;
        if bytes.len() > there_max {
            let end = LinkEnd::MessageTooLarge { bytes: bytes.len(), bytes_max: there_max };
            self.reset(from, to, &LinkEnd::PeerReset { code: 0 }, &end);
            return Ok(());
        }
        let Some(room) = receiver.room.try_take(bytes.len()) else {
            sender.counters.count_overflow();
            let bytes_max = there.limits.receive_queue_bytes_max;
            let bytes = bytes_max.saturating_add(bytes.len());
            self.reset(from, to, &LinkEnd::SendOverflow, &LinkEnd::PeerReset { code: 0 });
            return Err(SendError::Overflow { bytes, bytes_max });
        };
        let kind = Kind::of(lane, &bytes);
        sender.counters.count_sent(kind, bytes.len(), false);
        receiver.counters.count_received(kind, bytes.len());
        there.sink.tell_received(from.clone(), lane, bytes, room);
        Ok(())
    }

    /// A link goes down, and comes up again at once: that is what a reset is for those who dial again.
    fn reset(&mut self, one: &NodeId, other: &NodeId, end_of_one: &LinkEnd, end_of_other: &LinkEnd) {
        self.down(one, other, end_of_one, end_of_other);
        self.connect(one, other);
    }
}

impl Transport for Memory {
    fn node(&self) -> &NodeId {
        &self.node
    }

    fn set_peers(&self, peers: Vec<Peer>) -> Result<(), PeersError> {
        peer::check(&peers)?;
        let mut state = self.hub.lock();
        let Some(place) = state.nodes.get_mut(&self.node) else { return Ok(()) };
        let wanted: BTreeSet<NodeId> =
            peers.into_iter().map(|peer| peer.node).filter(|peer| *peer != self.node).collect();
        let gone: Vec<NodeId> = place.peers.keys().filter(|peer| !wanted.contains(*peer)).cloned().collect();
        for peer in &wanted {
            let room = ReceiveRoom::new(&place.limits);
            let entry = || PeerPlace { counters: Arc::default(), room };
            place.peers.entry(peer.clone()).or_insert_with(entry);
        }
        for peer in gone {
            state.down(&self.node, &peer, &LinkEnd::Removed, &LinkEnd::PeerLeft);
            if let Some(place) = state.nodes.get_mut(&self.node) {
                place.peers.remove(&peer);
            }
        }
        for peer in wanted {
            state.connect(&self.node, &peer);
        }
        Ok(())
    }

    fn send(&self, to: &NodeId, lane: Lane, _delivery: Delivery, bytes: Bytes) -> Result<(), SendError> {
        self.hub.lock().send(&self.node, to, lane, bytes)
    }

    fn figures(&self) -> Vec<LinkFigures> {
        let state = self.hub.lock();
        let Some(place) = state.nodes.get(&self.node) else { return Vec::new() };
        let read = |(peer, entry): (&NodeId, &PeerPlace)| {
            let is_up = state.up.contains(&pair(&self.node, peer));
            entry.counters.read(peer.clone(), 0, is_up.then(PathFigures::default))
        };
        place.peers.iter().map(read).collect()
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async move { self.hub.lock().leave(&self.node, &LinkEnd::Closed) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.hub.lock().leave(&self.node, &LinkEnd::Closed);
    }
}
