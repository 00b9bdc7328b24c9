//! The other members, as the hot thread sees them: links, who is alive, and where everybody is.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use replica::Epoch;
use transport::join::DirectoryEntry;
use transport::membership::{Membership, Output};
use transport::{Bytes, Delivery, Event, Events, Kind, Lane, LinkFigures, NodeId, Refusal, SendError, Side, Transport};

use super::keeper::Keeper;
use super::outbox::Outbox;
use crate::directory::{self, Directory};
use crate::log::Log;

/// The same refusal of the same member is told again after this: a member that is away is dialled for days.
const REFUSAL_AGAIN_MS: u64 = 10 * 60_000;
/// Refusals that are remembered so as not to be told again. Over it all are forgotten, and some told twice.
const REFUSALS_MAX: usize = 256;
/// Second links are refused for so many idle times of a link at most, until the dead first one is noticed. Longer, and
/// two processes have one name.
const COLLISION_IDLE_TIMES: u64 = 2;

/// The code of two processes under one name.
const COLLISION: &str = "ERR_NODE_ID_COLLISION";

/// What a peer's link and SWIM say together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeerState {
    /// Its link is up, and the members take it for alive.
    Live,
    /// One of the two.
    Suspect,
    /// Neither.
    Dead,
}

/// Packets lost: the transport counts them anew with each link.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    of_link: u64,
    total: u64,
}

/// The other members.
pub(crate) struct Network {
    own: NodeId,
    transport: Arc<dyn Transport>,
    events: Events,
    membership: Membership,
    directory: Directory,
    keeper: Option<Keeper>,
    outbox: Outbox,
    /// The directory is to be written as a whole, because a part of it was not.
    must_keep: bool,
    members: BTreeMap<String, NodeId>,
    up: BTreeSet<NodeId>,
    alive: BTreeSet<NodeId>,
    /// Digests that came, by member.
    digests: BTreeMap<String, u64>,
    lost: BTreeMap<NodeId, Lost>,
    refusals: BTreeMap<&'static str, u64>,
    told: BTreeMap<(Option<NodeId>, &'static str), u64>,
    /// Since when a second link to a member is refused, by us or by it, while the first one stays as it is.
    second_links: BTreeMap<NodeId, u64>,
    collision_ms: u64,
    has_left: bool,
    log: Log,
}

impl Network {
    /// Begins without a peer; see [`Network::set_members`]. `idle_timeout_ms` is that of a link.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        events: Events,
        membership: Membership,
        directory: Directory,
        keeper: Option<Keeper>,
        idle_timeout_ms: u32,
        log: Log,
    ) -> Self {
        Self {
            own: transport.node().clone(),
            transport,
            events,
            membership,
            directory,
            keeper,
            outbox: Outbox::default(),
            must_keep: false,
            members: BTreeMap::new(),
            up: BTreeSet::new(),
            alive: BTreeSet::new(),
            digests: BTreeMap::new(),
            lost: BTreeMap::new(),
            refusals: BTreeMap::new(),
            told: BTreeMap::new(),
            second_links: BTreeMap::new(),
            collision_ms: u64::from(idle_timeout_ms) * COLLISION_IDLE_TIMES,
            has_left: false,
            log,
        }
    }

    /// The next event. When there is none, `waker` is woken by the next one.
    pub(crate) fn next(&mut self, waker: &Waker) -> Option<Event> {
        if let Some(event) = self.events.try_next() {
            return Some(event);
        }
        match pin!(self.events.next()).poll(&mut Context::from_waker(waker)) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    /// Sends a message of the node; batches wait for [`Network::send_due`]. What is lost here is pulled again.
    pub(crate) fn send(&mut self, to: &str, bytes: Vec<u8>) {
        let Some(node) = self.members.get(to) else { return };
        let is_patient = Kind::of(Lane::Replica, &bytes) == Kind::Batches;
        self.outbox.put(node.clone(), bytes.into());
        if !is_patient {
            // In order, behind the batches that wait.
            self.send_all();
        }
    }

    /// Sends the batches that have waited long enough.
    pub(crate) fn send_due(&mut self, mono_us: u64) {
        let messages = self.outbox.take_due(mono_us);
        self.hand_over(messages);
    }

    /// Sends everything that waits.
    pub(crate) fn send_all(&mut self) {
        let messages = self.outbox.take();
        self.hand_over(messages);
    }

    fn hand_over(&self, messages: Vec<(NodeId, Bytes)>) {
        for (to, bytes) in messages {
            match self.transport.send(&to, Lane::Replica, Delivery::Auto, bytes) {
                Ok(()) | Err(SendError::NoLink) => {}
                Err(error) => {
                    self.log.warn(error.code(), "a message was not sent", &[("peer", &to), ("error", &error)]);
                }
            }
        }
    }

    /// Takes the members of an epoch for peers.
    pub(crate) fn set_members(&mut self, epoch: &Epoch) {
        let named = epoch.members.keys().filter_map(|node| Some((node.clone(), NodeId::new(node).ok()?)));
        self.members = named.collect();
        self.set_peers();
    }

    /// Takes other addresses from the configuration.
    pub(crate) fn set_overrides(&mut self, overrides: BTreeMap<NodeId, Vec<String>>) {
        self.directory.set_overrides(overrides);
        self.set_peers();
    }

    fn set_peers(&mut self) {
        if self.has_left {
            return;
        }
        if let Err(error) = self.transport.set_peers(self.directory.peers(self.members.values())) {
            let message = "the addresses of members cannot be used; the old ones stay in use";
            self.log.error(error.code(), message, &[("error", &error)]);
        }
    }

    /// Ends all links for good: this node can promise nothing any more.
    pub(crate) fn leave(&mut self) {
        self.has_left = true;
        if let Err(error) = self.transport.set_peers(Vec::new()) {
            self.log.error(error.code(), "links could not be ended", &[("error", &error)]);
        }
    }

    /// A link came up or went down.
    pub(crate) fn handle_link(&mut self, mono_ms: u64, peer: &NodeId, is_up: bool) {
        self.second_links.remove(peer);
        self.outbox.forget(peer);
        if is_up {
            self.up.insert(peer.clone());
            let entries = self.directory.entries();
            self.tell(peer, &entries);
        } else {
            self.up.remove(peer);
            self.lost.entry(peer.clone()).or_default().of_link = 0;
        }
        self.membership.handle_link(mono_ms, peer, is_up);
        self.carry_out();
    }

    /// A message of the node's lane, before the node gets it.
    pub(crate) fn note_message(&mut self, from: &NodeId, bytes: &[u8]) {
        if Kind::of(Lane::Replica, bytes) == Kind::Digest {
            match self.digests.get_mut(from.as_str()) {
                Some(count) => *count += 1,
                None => {
                    self.digests.insert(from.to_string(), 1);
                }
            }
        }
    }

    /// A message of the lane of membership.
    pub(crate) fn handle_membership(&mut self, mono_ms: u64, from: &NodeId, bytes: &[u8]) {
        match bytes.split_first() {
            Some((&directory::SWIM, packet)) => {
                if let Err(error) = self.membership.handle_packet(mono_ms, from, packet) {
                    self.log.warn(
                        error.code(),
                        "a packet about who is alive was not taken",
                        &[("peer", from), ("error", &error)],
                    );
                }
                self.carry_out();
            }
            Some((&directory::ENTRIES, message)) => match directory::decode(message) {
                Ok(entries) => self.learn(entries, Some(from)),
                Err(error) => {
                    self.log.warn(error.code(), "addresses were not taken", &[("peer", from), ("error", &error)])
                }
            },
            // A later version may say more on this lane.
            _ => self.log.debug("a message about membership is of an unknown kind", &[("peer", from)]),
        }
    }

    /// Takes entries into the directory; what is news is kept, passed on and used.
    pub(crate) fn learn(&mut self, entries: Vec<DirectoryEntry>, from: Option<&NodeId>) {
        let news = self.directory.learn(entries);
        if news.is_empty() {
            return;
        }
        for peer in self.up.iter().filter(|peer| Some(*peer) != from) {
            self.tell(peer, &news);
        }
        self.keep(news);
        self.set_peers();
    }

    fn tell(&self, peer: &NodeId, entries: &[DirectoryEntry]) {
        let message = directory::encode(entries.iter());
        match self.transport.send(peer, Lane::Membership, Delivery::InOrder, message.into()) {
            // All entries are told when the link is up again.
            Ok(()) | Err(SendError::NoLink) => {}
            Err(error) => self.log.warn(error.code(), "addresses were not sent", &[("peer", peer), ("error", &error)]),
        }
    }

    fn keep(&mut self, entries: Vec<DirectoryEntry>) {
        if let Some(keeper) = &self.keeper {
            self.must_keep |= !keeper.keep(entries);
        }
    }

    /// Carries out what SWIM wants.
    fn carry_out(&mut self) {
        while let Some(output) = self.membership.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    let mut message = Vec::with_capacity(bytes.len() + 1);
                    message.push(directory::SWIM);
                    message.extend_from_slice(&bytes);
                    // A packet that is lost counts as one that was lost on its way.
                    let _ = self.transport.send(&to, Lane::Membership, Delivery::Auto, Bytes::from(message));
                }
                Output::Alive(node) => {
                    self.log.info("a member is alive", &[("peer", &node)]);
                    self.alive.insert(node);
                }
                Output::Down(node) => {
                    self.log.warn("ERR_MEMBER_DOWN", "the members take a member for dead", &[("peer", &node)]);
                    self.alive.remove(&node);
                }
                Output::Isolated => self.log.info("no other member is known to be alive", &[]),
                Output::Connected => {}
            }
        }
    }

    /// The next moment at which [`Network::handle_timeout`] or [`Network::send_due`] is wanted.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.membership.poll_timeout().into_iter().chain(self.outbox.poll_timeout()).min()
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, mono_ms: u64) {
        if self.membership.poll_timeout().is_some_and(|at| at <= mono_ms) {
            if let Err(error) = self.membership.handle_timeout(mono_ms) {
                let message = "this node says no more of who is alive until it is restarted";
                self.log.error(error.code(), message, &[("error", &error)]);
            }
            self.carry_out();
        }
    }

    /// Once a second: writes what could not be written, and adds up packets that were lost.
    pub(crate) fn tick(&mut self) {
        self.must_keep |= self.keeper.as_ref().is_some_and(Keeper::take_failure);
        if self.must_keep {
            self.must_keep = false;
            self.keep(self.directory.entries());
        }
        for figures in self.transport.figures() {
            let Some(path) = figures.path else { continue };
            let lost = self.lost.entry(figures.peer).or_default();
            lost.total += path.packets_lost.saturating_sub(lost.of_link);
            lost.of_link = path.packets_lost;
        }
    }

    /// Logs that no link came to be, but the same not again and again.
    pub(crate) fn refused(&mut self, mono_ms: u64, peer: Option<NodeId>, address: &str, by: Side, refusal: &Refusal) {
        *self.refusals.entry(refusal.code()).or_default() += 1;
        let name = peer.as_ref().map_or_else(|| "unknown".to_owned(), NodeId::to_string);
        let side = match by {
            Side::Us => "us",
            Side::Peer => "peer",
        };
        let fields: [(&str, &dyn std::fmt::Display); 4] =
            [("peer", &name), ("address", &address), ("refused_by", &side), ("reason", refusal)];
        if refusal.is_ordinary() {
            self.log.debug("no link came to be", &fields);
            return self.note_second_link(mono_ms, peer, address, refusal);
        }
        if self.told.len() >= REFUSALS_MAX {
            self.told.clear();
        }
        let told_ms = self.told.entry((peer, refusal.code())).or_insert(0);
        if *told_ms == 0 || mono_ms.saturating_sub(*told_ms) >= REFUSAL_AGAIN_MS {
            *told_ms = mono_ms.max(1);
            self.log.warn(refusal.code(), "no link came to be; it is tried again", &fields);
        }
    }

    /// A second link to a member was refused. That is part of ordinary life for as long as it takes to notice that the
    /// first one is dead; after that somebody else lives under the name of one of the two.
    fn note_second_link(&mut self, mono_ms: u64, peer: Option<NodeId>, address: &str, refusal: &Refusal) {
        let Some(peer) = peer.filter(|_| *refusal == Refusal::Duplicate) else { return };
        // Here it is the peer's name that two have, if we have a link to it, and else our own.
        let name = if self.up.contains(&peer) { &peer } else { &self.own };
        let since_ms = *self.second_links.entry(peer.clone()).or_insert(mono_ms);
        let told_ms = self.told.get(&(Some(name.clone()), COLLISION)).copied();
        let is_told = told_ms.is_some_and(|told_ms| mono_ms.saturating_sub(told_ms) < REFUSAL_AGAIN_MS);
        if mono_ms.saturating_sub(since_ms) < self.collision_ms || is_told {
            return;
        }
        self.told.insert((Some(name.clone()), COLLISION), mono_ms);
        let seconds = mono_ms.saturating_sub(since_ms) / 1_000;
        let message = "two processes use one node id: stop one, and join it again under a name of its own";
        let fields: [(&str, &dyn std::fmt::Display); 4] =
            [("node", name), ("peer", &peer), ("address", &address), ("for_seconds", &seconds)];
        self.log.error(COLLISION, message, &fields);
    }

    /// A link is up: what was refused before is told anew if it comes again.
    pub(crate) fn forgive(&mut self, peer: &NodeId) {
        self.told.retain(|(node, _), _| node.as_ref() != Some(peer));
    }

    /// How a peer is.
    pub(crate) fn state_of(&self, node: &str) -> PeerState {
        let Some(node) = self.members.get(node) else { return PeerState::Dead };
        match (self.up.contains(node), self.alive.contains(node)) {
            (true, true) => PeerState::Live,
            (false, false) => PeerState::Dead,
            _ => PeerState::Suspect,
        }
    }

    /// True when a link to a peer is up.
    pub(crate) fn is_up(&self, node: &str) -> bool {
        self.members.get(node).is_some_and(|node| self.up.contains(node))
    }

    /// The other members, by name.
    pub(crate) fn others(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter(|(_, node)| **node != self.own).map(|(name, _)| name.as_str())
    }

    /// True for another member.
    pub(crate) fn is_other(&self, node: &str) -> bool {
        self.members.get(node).is_some_and(|node| *node != self.own)
    }

    /// Digests that came from a peer so far.
    pub(crate) fn digests_of(&self, node: &str) -> u64 {
        self.digests.get(node).copied().unwrap_or_default()
    }

    /// The first address of a member; empty when nobody knows one.
    pub(crate) fn address_of(&self, node: &str) -> &str {
        let addresses = self.members.get(node).map(|node| self.directory.addresses_of(node));
        addresses.unwrap_or_default().first().map_or("", String::as_str)
    }

    /// Figures of the links, by node id.
    pub(crate) fn figures(&self) -> Vec<LinkFigures> {
        self.transport.figures()
    }

    /// Packets to a peer that were lost, over all links.
    pub(crate) fn packets_lost(&self, node: &NodeId) -> u64 {
        self.lost.get(node).map_or(0, |lost| lost.total)
    }

    /// Attempts that failed, by code.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refusals.iter().map(|(code, count)| (*code, *count))
    }
}

impl PeerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Live, Self::Suspect, Self::Dead];

    /// In capitals, as it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Suspect => "SUSPECT",
            Self::Dead => "DEAD",
        }
    }
}
