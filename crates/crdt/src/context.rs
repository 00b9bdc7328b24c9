//! Causal contexts: a past that may have holes.
//!
//! What a node has *applied* is a [`VersionVector`], because it applies in causal order. What it has
//! *received* may have holes, which close again as the missing batches arrive (Almeida, Shoker, Baquero,
//! "Delta State Replicated Data Types", 2018, section 7.2: compaction).

use std::collections::BTreeSet;

use crate::dot::{BatchId, Dot};
use crate::vector::{Covers, VersionVector};

/// A set of changes, compact where it has no holes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CausalContext {
    /// Everything up to here, per replica.
    vector: VersionVector,
    /// Whole batches beyond a hole.
    batches: BTreeSet<BatchId>,
}

impl CausalContext {
    /// The empty past.
    pub fn new() -> Self {
        Self::default()
    }

    /// Includes the whole batch.
    pub fn insert_batch(&mut self, batch: BatchId) {
        if !self.vector.contains(batch) {
            self.batches.insert(batch);
            self.compact();
        }
    }

    /// True when the batch is included.
    pub fn contains(&self, batch: BatchId) -> bool {
        self.vector.contains(batch) || self.batches.contains(&batch)
    }

    /// Batches beyond a hole.
    pub fn beyond(&self) -> impl Iterator<Item = BatchId> + '_ {
        self.batches.iter().copied()
    }

    /// Forgets a batch beyond a hole, so that it is asked for again.
    pub fn drop_beyond(&mut self, batch: BatchId) {
        self.batches.remove(&batch);
    }

    /// Union of both.
    pub fn join(&mut self, other: &Self) {
        self.vector.join(&other.vector);
        self.batches.extend(other.batches.iter().copied());
        self.compact();
    }

    /// The part without holes.
    pub fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// True when no hole is left, so that the vector says it all.
    pub fn is_compact(&self) -> bool {
        self.batches.is_empty()
    }

    /// Moves what no longer stands beyond a hole into the vector.
    fn compact(&mut self) {
        let Self { vector, batches } = self;
        // Batches come in the order of (replica, seq), so one pass closes every hole that can close.
        batches.retain(|batch| {
            if batch.seq == vector.seq(batch.replica) + 1 {
                vector.advance(batch.replica, batch.seq);
            }
            !vector.contains(*batch)
        });
    }
}

impl Covers for CausalContext {
    fn covers(&self, dot: &Dot) -> bool {
        self.contains(dot.batch())
    }
}

impl From<VersionVector> for CausalContext {
    fn from(vector: VersionVector) -> Self {
        Self { vector, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dot::ReplicaId;

    const A: ReplicaId = ReplicaId(1);

    #[test]
    fn holes_close_in_any_order() {
        let mut context = CausalContext::new();
        for seq in [3, 2] {
            context.insert_batch(BatchId { replica: A, seq });
        }
        assert!(!context.is_compact());
        context.insert_batch(BatchId { replica: A, seq: 1 });
        assert!(context.is_compact());
        assert_eq!(context.vector().seq(A), 3);
    }

    #[test]
    fn a_dropped_batch_is_missing_again() {
        let mut context = CausalContext::new();
        let batch = BatchId { replica: A, seq: 2 };
        context.insert_batch(batch);
        assert!(context.covers(&Dot::new(A, 2, 4)) && !context.covers(&Dot::new(A, 1, 0)));
        context.drop_beyond(batch);
        assert_eq!(context, CausalContext::new());
    }
}
