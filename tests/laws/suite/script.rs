//! Runs that are told step by step.

use crdt::Value;

use crate::harness::{Event, Network, REPLICAS, Subject};
use crate::picture::{Leaf, Shown};

/// The three replicas of a told run. B has the smallest id, C the greatest.
pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
pub(crate) const C: usize = 2;

impl<S: Subject> Network<S> {
    /// One batch with one intent, made at the local time `time`; its number.
    pub(crate) fn does(&mut self, at: usize, time: u64, intent: S::Intent) -> usize {
        let event = self.write(at, time, &[intent]).expect("the intent changes something");
        self.look(at);
        match event {
            Event::Wrote { batch, .. } => batch,
            other => panic!("{other:?} after a write"),
        }
    }

    /// The replica applies these batches, in this order.
    pub(crate) fn hears(&mut self, to: usize, batches: &[usize]) {
        for batch in batches {
            assert!(self.applicable(to).contains(batch), "batch {batch} cannot be applied at {to} now");
            self.nodes[to].receive(&self.batches[*batch]);
        }
        self.look(to);
    }

    /// The replica joins the whole state of another.
    pub(crate) fn joins(&mut self, into: usize, from: usize) {
        self.join(from, into);
        self.look(into);
    }

    /// Everybody hears of everything; all must then be equal. What they see.
    pub(crate) fn agree(&mut self) -> Leaf {
        self.settle(&mut |_, _| {});
        (0..REPLICAS).for_each(|at| self.look(at));
        for node in &self.nodes[1..] {
            assert_eq!(node.state, self.nodes[0].state);
            assert_eq!(node.tally, self.nodes[0].tally);
        }
        self.sees(A)
    }

    /// What a replica sees of a type that is one leaf; of a map, of its only leaf.
    pub(crate) fn sees(&self, at: usize) -> Leaf {
        let leaves = S::observe(&self.nodes[at].state).leaves;
        assert!(leaves.len() <= 1, "{leaves:?} are several leaves");
        leaves.into_values().next().unwrap_or_default()
    }

    fn look(&mut self, at: usize) {
        self.nodes[at].shadow = S::look(&self.nodes[at].state);
    }
}

impl Leaf {
    /// The value that is shown.
    pub(crate) fn value(&self) -> Option<Value> {
        match &self.shown {
            Shown::Value(shown) => Some(shown.value.clone()),
            _ => None,
        }
    }

    /// The value that a column shows.
    pub(crate) fn cell(&self, column: &str) -> Option<Value> {
        match &self.shown {
            Shown::Row { cells, .. } => cells.get(column).map(|cell| cell.value.clone()),
            _ => None,
        }
    }

    /// The sum that a column shows.
    pub(crate) fn sum(&self, column: &str) -> Option<i128> {
        match &self.shown {
            Shown::Row { sums, .. } => sums.get(column).copied(),
            _ => None,
        }
    }

    /// The elements of a set.
    pub(crate) fn elements(&self) -> Vec<Vec<u8>> {
        match &self.shown {
            Shown::Elements(elements) => elements.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Values in the journal, in their order.
    pub(crate) fn journaled(&self) -> Vec<Value> {
        self.journal.iter().map(|entry| entry.value.clone()).collect()
    }
}
