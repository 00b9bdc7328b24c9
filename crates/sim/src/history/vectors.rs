//! Vectors as nodes publish them, copied into a form of our own.

use std::rc::Rc;

use crdt::{BatchId, Hlc, ReplicaId, VersionVector};

use super::{NodeIndex, Opened, Order};

/// Per replica the greatest sequence; zeros are not stored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Vector {
    entries: Vec<(ReplicaId, u64)>,
}

impl Vector {
    /// The sequence of a replica, 0 where there is none.
    pub fn seq(&self, replica: ReplicaId) -> u64 {
        let found = self.entries.binary_search_by_key(&replica, |entry| entry.0);
        found.map_or(0, |at| self.entries[at].1)
    }

    /// True when the batch is included.
    pub fn contains(&self, batch: BatchId) -> bool {
        batch.seq <= self.seq(batch.replica)
    }

    /// The first batch that `other` includes and this vector does not.
    pub fn first_missing(&self, other: &Self) -> Option<BatchId> {
        let mut missing = other.iter().filter(|(replica, seq)| self.seq(*replica) < *seq);
        missing.next().map(|(replica, _)| BatchId { replica, seq: self.seq(replica) + 1 })
    }

    /// What stands in either.
    pub fn union(&self, other: &Self) -> Self {
        let more = other.iter().filter(|(replica, seq)| self.seq(*replica) < *seq);
        let own = self.iter().filter(|(replica, seq)| *seq >= other.seq(*replica));
        own.chain(more).collect()
    }

    /// Entries in the order of replica ids.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// True when it says the same as a node's vector. No allocation: it is asked after every step.
    pub fn same(&self, vector: &VersionVector) -> bool {
        self.entries.len() == vector.len() && self.iter().eq(vector.iter())
    }
}

impl From<&VersionVector> for Vector {
    fn from(vector: &VersionVector) -> Self {
        Self { entries: vector.iter().filter(|(_, seq)| *seq > 0).collect() }
    }
}

impl FromIterator<(ReplicaId, u64)> for Vector {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, u64)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().filter(|(_, seq)| *seq > 0).collect();
        entries.sort_unstable();
        Self { entries }
    }
}

/// What a node publishes, as it stands now.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// `Node::replica`.
    pub replica: ReplicaId,
    /// `Node::applied`.
    pub applied: &'a VersionVector,
    /// `Node::shown`.
    pub shown: &'a VersionVector,
    /// `Node::received`.
    pub received: &'a VersionVector,
    /// `Node::stable`, where it was asked for; it may be left out in most steps, because it is not cheap.
    pub stable: Option<&'a VersionVector>,
    /// `Node::clock`.
    pub clock: Hlc,
}

/// What a node published when it was last observed. Copies are cheap.
#[derive(Clone, Debug, Default)]
pub struct Vectors {
    /// Its replica id.
    pub replica: ReplicaId,
    /// What its state includes.
    pub applied: Rc<Vector>,
    /// What its database shows.
    pub shown: Rc<Vector>,
    /// What it has logged.
    pub received: Rc<Vector>,
    /// The cut below which it collects.
    pub stable: Rc<Vector>,
    /// Its clock.
    pub clock: Hlc,
}

/// Which published figure is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// What the state includes.
    Applied,
    /// What the database shows.
    Shown,
    /// What is logged.
    Received,
    /// The stable cut.
    Stable,
    /// The hybrid clock.
    Clock,
    /// The hybrid clock in milliseconds, where it went on beyond all that it may follow.
    ClockAhead,
}

/// A published figure that went back, or a clock that went too far.
#[derive(Clone, Copy, Debug)]
pub struct Setback {
    /// When.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
    /// Whose.
    pub node: NodeIndex,
    /// What.
    pub which: Which,
    /// Which entry of the vector; for the clock, the node's own replica.
    pub replica: ReplicaId,
    /// Before; of a clock that went too far, the latest that it might say.
    pub from: u64,
    /// After.
    pub to: u64,
    /// The restart over which it happened; `None` inside the life of one process.
    pub over: Option<Opened>,
}

/// Entries of `before` that are smaller in `after`: (replica, before, after).
pub(super) fn lowered<'a>(before: &'a Vector, after: &'a Vector) -> impl Iterator<Item = (ReplicaId, u64, u64)> + 'a {
    let both = before.iter().map(|(replica, seq)| (replica, seq, after.seq(replica)));
    both.filter(|(_, before, after)| after < before)
}
