//! Connections: what the transport tells a node about its neighbours, and messages that arrive.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::World;
use super::event::Event;
use crate::coverage::{Fault, Path};
use crate::swarm::SECOND_US;

/// Longest queue of a connection that outlives the end of all faults.
const QUEUE_US_MAX: u64 = 10 * SECOND_US;

/// The kinds of messages that faults look for, by the byte behind the version.
mod kind {
    pub(super) const MANIFEST: u8 = 8;
    pub(super) const CHUNK: u8 = 10;
}

/// What one side of a pair was told.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    is_up: bool,
    /// Number of the connection that it was told of; ascending over the whole world.
    connection: u32,
}

/// Every machine's view of every other one.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    sides: BTreeMap<(usize, usize), Side>,
    last: u32,
}

impl Connections {
    /// The connection that `at` has to `peer`.
    fn of(&self, at: usize, peer: usize) -> Option<u32> {
        self.sides.get(&(at, peer)).filter(|side| side.is_up).map(|side| side.connection)
    }

    /// Forgets what a machine that died was told.
    pub(super) fn forget(&mut self, machine: usize) {
        self.sides.iter_mut().filter(|((at, _), _)| *at == machine).for_each(|(_, side)| side.is_up = false);
    }
}

impl World {
    fn may_connect(&self, one: usize, other: usize) -> bool {
        // Nobody looks for itself, so two machines of one name do not meet.
        let strangers = self.machines[one].name != self.machines[other].name;
        strangers && self.is_running(one) && self.is_running(other) && self.network.connects(one, other)
    }

    /// Reachability may have changed: plans what both sides of each pair will notice, each in its own time.
    pub(super) fn review_links(&mut self) {
        for one in 0..self.machines.len() {
            for other in one + 1..self.machines.len() {
                self.review_link(one, other);
            }
        }
    }

    fn review_link(&mut self, one: usize, other: usize) {
        let (mine, theirs) = (self.connections.of(one, other), self.connections.of(other, one));
        if self.may_connect(one, other) {
            if mine.is_none() || mine != theirs {
                let delay_us = self.random.range(50_000, SECOND_US);
                self.plan_in(delay_us, Event::Connect { one, other });
            }
            return;
        }
        for (at, peer, connection) in [(one, other, mine), (other, one, theirs)] {
            if let Some(connection) = connection {
                // A process that died is noticed sooner than silence.
                let longest_us = if self.is_running(peer) { 6 * SECOND_US } else { 2 * SECOND_US };
                let delay_us = self.random.range(100_000, longest_us);
                self.plan_in(delay_us, Event::LinkLost { at, peer, connection });
            }
        }
    }

    pub(super) fn connect(&mut self, one: usize, other: usize) {
        let same = self.connections.of(one, other).is_some_and(|mine| self.connections.of(other, one) == Some(mine));
        if !self.may_connect(one, other) || same {
            return;
        }
        self.network.renew(one, other);
        self.connections.last += 1;
        let connection = self.connections.last;
        self.note(1, &[one as u64, other as u64]);
        for (at, peer) in [(one, other), (other, one)] {
            self.tell_link(at, peer, false);
            self.drop_namesakes(at, peer);
            self.connections.sides.insert((at, peer), Side { is_up: true, connection });
            self.begin_catching_up(at, peer);
            self.tell_link(at, peer, true);
        }
    }

    /// Ends connections whose queue takes longer than [`QUEUE_US_MAX`]: with the last fault a slow peer becomes a fast one,
    /// and a transport would have ended them long before.
    pub(super) fn end_long_queues(&mut self) {
        for one in 0..self.machines.len() {
            for other in one + 1..self.machines.len() {
                if self.network.backlog_us(self.now_us, one, other) > QUEUE_US_MAX {
                    self.tell_link(one, other, false);
                    self.tell_link(other, one, false);
                }
            }
        }
    }

    /// One connection a name: the newer one ends that of another machine of the same name, which will try again.
    fn drop_namesakes(&mut self, at: usize, peer: usize) {
        for other in 0..self.machines.len() {
            let same_name = other != peer && self.machines[other].name == self.machines[peer].name;
            if same_name && self.connections.of(at, other).is_some() {
                self.tell_link(at, other, false);
                self.tell_link(other, at, false);
                let delay_us = self.random.range(SECOND_US, 4 * SECOND_US);
                self.plan_in(delay_us, Event::Connect { one: at, other });
            }
        }
    }

    pub(super) fn link_lost(&mut self, at: usize, peer: usize, connection: u32) {
        if self.connections.of(at, peer) != Some(connection) || self.may_connect(at, peer) {
            return;
        }
        self.note(2, &[at as u64, peer as u64]);
        if self.machines[at].donor == Some(peer) {
            let died = !self.is_running(peer);
            self.fault(if died { Fault::DonorDied } else { Fault::SnapshotInterrupted });
        }
        self.tell_link(at, peer, false);
        self.review_link(at.min(peer), at.max(peer));
    }

    fn tell_link(&mut self, at: usize, peer: usize, up: bool) {
        let was_up = self.connections.of(at, peer).is_some();
        if !up {
            if !was_up {
                return;
            }
            self.connections.sides.entry((at, peer)).or_default().is_up = false;
        }
        let (now, name) = (self.clock_of(at), self.machines[peer].name.clone());
        let Some(process) = &mut self.machines[at].process else { return };
        process.node.handle_link(now, &name, up);
        self.line(Some(at), || format!("link to {name} is {}", if up { "up" } else { "down" }));
        self.settle(at);
    }

    /// A link comes up to a peer that has more: notes what has to come over the log.
    fn begin_catching_up(&mut self, at: usize, peer: usize) {
        let Some(theirs) = self.shown_of(peer).cloned() else { return };
        let lacks = self.machines[at].process.as_ref().is_some_and(|process| !process.received.dominates(&theirs));
        if lacks {
            self.machines[at].catching_up = Some(theirs);
        }
    }

    pub(super) fn review_catching_up(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let (Some(goal), Some(process)) = (&machine.catching_up, &machine.process) else { return };
        if process.received.dominates(goal) {
            machine.catching_up = None;
            self.path(Path::LogCatchUp);
        }
    }

    /// The machine that a name leads to: of several that use it, the one that connected last.
    fn resolve(&self, from: usize, name: &str) -> Option<(usize, u32)> {
        let named = (0..self.machines.len()).filter(|peer| *peer != from && self.machines[*peer].name == name);
        let connected = named.filter_map(|peer| Some((peer, self.connections.of(from, peer)?)));
        connected.max_by_key(|(_, connection)| *connection)
    }

    pub(super) fn send(&mut self, from: usize, name: &str, bytes: &[u8]) {
        let Some((to, connection)) = self.resolve(from, name) else { return };
        self.history.sent(from, to, bytes.len());
        let (random, coverage) = (&mut self.network_random, &mut self.coverage);
        let deliveries = self.network.carry(self.now_us, (from, to), bytes, random, coverage);
        if deliveries.is_empty() {
            self.note(3, &[from as u64, to as u64, bytes.len() as u64]);
        }
        for delivery in deliveries {
            self.late_messages += u64::from(delivery.is_late);
            let connection = (!delivery.is_late).then_some(connection);
            self.plan_at(delivery.at_us, Event::Deliver { from, to, connection, bytes: delivery.bytes });
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, connection: Option<u32>, bytes: &Rc<[u8]>) {
        self.late_messages -= u64::from(connection.is_none());
        let standing = self.connections.of(to, from);
        if standing.is_none() || connection.is_some_and(|connection| standing != Some(connection)) {
            return;
        }
        if connection.is_none() {
            self.history.came_late(from, to);
        }
        self.note(4, &[from as u64, to as u64, bytes.len() as u64]);
        self.trace.bytes(bytes);
        if let Some(&(kind::MANIFEST | kind::CHUNK)) = bytes.get(1) {
            self.machines[to].donor = Some(from);
        }
        let (now, name) = (self.clock_of(to), self.machines[from].name.clone());
        let Some(process) = &mut self.machines[to].process else { return };
        process.node.handle_message(now, &name, bytes);
        self.line(Some(to), || describe(&name, bytes));
        self.settle(to);
    }
}

/// A message for a person: the kinds are those of `replica::message`.
fn describe(from: &str, bytes: &[u8]) -> String {
    match replica::message::Message::from_bytes(bytes) {
        Ok(message) => {
            let text = format!("{message:?}");
            let name = text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
            let text = match &message {
                replica::message::Message::WantChunk(id, place) => format!(" {place} of {id:016x}"),
                replica::message::Message::SnapshotGone(id, place) => format!(" {place} of {id:016x}"),
                replica::message::Message::Manifest(manifest) => format!(" {:016x}", manifest.id),
                replica::message::Message::Chunk(chunk) => format!(" {} of {:016x}", chunk.place, chunk.id),
                _ => String::new(),
            };
            format!("hears {name}{text} from {from}, {} bytes", bytes.len())
        }
        Err(error) => format!("hears {} bytes from {from} that do not decode: {error}", bytes.len()),
    }
}
