//! Version vectors: per replica, how many batches without a hole.

use std::collections::BTreeMap;

use crate::dot::{BatchId, Dot, ReplicaId};

/// Says whether a change is part of some causal past.
pub trait Covers {
    /// True when the change `dot` is in this past.
    fn covers(&self, dot: &Dot) -> bool;
}

/// Per replica the greatest sequence up to which every batch is included (Fidge and Mattern, 1988).
///
/// Entries of 0 are never stored, so that equal vectors are equal maps and have equal bytes.
#[derive(Clone, PartialEq, Eq, Default, Debug, Hash)]
pub struct VersionVector {
    entries: BTreeMap<ReplicaId, u64>,
}

impl VersionVector {
    /// The empty past.
    pub const fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// Batches of `replica` that are included: all from 1 to this number, 0 for none.
    pub fn seq(&self, replica: ReplicaId) -> u64 {
        self.entries.get(&replica).copied().unwrap_or(0)
    }

    /// True when `batch` is included.
    pub fn contains(&self, batch: BatchId) -> bool {
        batch.seq <= self.seq(batch.replica)
    }

    /// Includes everything of `replica` up to `seq`. Never goes back.
    pub fn advance(&mut self, replica: ReplicaId, seq: u64) {
        if seq == 0 {
            return;
        }
        let entry = self.entries.entry(replica).or_insert(0);
        *entry = (*entry).max(seq);
    }

    /// Least upper bound of both.
    pub fn join(&mut self, other: &Self) {
        for (replica, seq) in other.iter() {
            self.advance(replica, seq);
        }
    }

    /// Greatest lower bound of both: what stands in each of them.
    pub fn meet(&self, other: &Self) -> Self {
        let mut meet = Self::new();
        for (replica, seq) in self.iter() {
            meet.advance(replica, seq.min(other.seq(replica)));
        }
        meet
    }

    /// True when everything that `other` includes is included here.
    pub fn dominates(&self, other: &Self) -> bool {
        other.iter().all(|(replica, seq)| self.seq(replica) >= seq)
    }

    /// Batches that stand here and not in `other`: the drift of the two clocks, in batches.
    pub fn ahead_of(&self, other: &Self) -> u64 {
        self.iter().map(|(replica, seq)| seq.saturating_sub(other.seq(replica))).sum()
    }

    /// Entries in the order of replica ids; none is 0.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.entries.iter().map(|(replica, seq)| (*replica, *seq))
    }

    /// Number of replicas that wrote at least one batch.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True for the empty past.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets a retired replica. Only for collection below the stable cut, where nobody asks again.
    pub fn forget(&mut self, replica: ReplicaId) {
        self.entries.remove(&replica);
    }
}

impl Covers for VersionVector {
    fn covers(&self, dot: &Dot) -> bool {
        self.contains(dot.batch())
    }
}

impl FromIterator<(ReplicaId, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, u64)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (replica, seq) in entries {
            vector.advance(replica, seq);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(entries: &[(u128, u64)]) -> VersionVector {
        entries.iter().map(|(replica, seq)| (ReplicaId(*replica), *seq)).collect()
    }

    #[test]
    fn zero_entries_are_not_stored() {
        assert_eq!(vector(&[(1, 0)]), VersionVector::new());
    }

    #[test]
    fn join_and_meet_bound_both() {
        let left = vector(&[(1, 3), (2, 5)]);
        let right = vector(&[(2, 2), (3, 7)]);
        let mut join = left.clone();
        join.join(&right);
        assert_eq!(join, vector(&[(1, 3), (2, 5), (3, 7)]));
        assert_eq!(left.meet(&right), vector(&[(2, 2)]));
        assert!(join.dominates(&left) && join.dominates(&right));
        assert!(!left.dominates(&right));
        assert_eq!(join.ahead_of(&right), 3 + 3);
    }

    #[test]
    fn advance_never_goes_back() {
        let mut clock = vector(&[(1, 9)]);
        clock.advance(ReplicaId(1), 4);
        assert_eq!(clock.seq(ReplicaId(1)), 9);
    }
}
