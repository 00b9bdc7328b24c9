//! What anybody can see of a state: the common ground of the real types and their models.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Dot, Hlc, ReplicaId, Value};

/// Everything that is shown or journaled, by the name of its leaf (`""` for a type that is a leaf itself).
/// Leaves with nothing to see are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Picture {
    pub(crate) leaves: BTreeMap<String, Leaf>,
}

impl Picture {
    /// A picture of one leaf.
    pub(crate) fn of(leaf: Leaf) -> Self {
        let mut picture = Self::default();
        picture.insert(String::new(), leaf);
        picture
    }

    pub(crate) fn insert(&mut self, name: String, leaf: Leaf) {
        if leaf != Leaf::default() {
            self.leaves.insert(name, leaf);
        }
    }

    /// True while one leaf shows something.
    pub(crate) fn exists(&self) -> bool {
        self.leaves.values().any(|leaf| leaf.shown != Shown::Nothing)
    }

    /// Values and journaled values at a place.
    pub(crate) fn values_at(&self, spot: &Spot) -> BTreeSet<&Value> {
        let Some(leaf) = self.leaves.get(&spot.leaf) else { return BTreeSet::new() };
        let shown = match &leaf.shown {
            Shown::Value(shown) => Some(shown),
            Shown::Row { cells, .. } => cells.get(&spot.column),
            _ => None,
        };
        let journal = leaf.journal.iter().filter(|entry| entry.column == spot.column);
        shown.map(|shown| &shown.value).into_iter().chain(journal.map(|entry| &entry.value)).collect()
    }
}

/// What one leaf shows and keeps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) shown: Shown,
    pub(crate) journal: BTreeSet<JournalValue>,
    /// Journaled amounts that are not 0, by column and replica.
    pub(crate) amounts: BTreeMap<(String, ReplicaId), i128>,
}

/// What one leaf shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Shown {
    #[default]
    Nothing,
    Value(ShownValue),
    Sum(i128),
    Elements(BTreeSet<Vec<u8>>),
    Row {
        lives: BTreeSet<Dot>,
        cells: BTreeMap<String, ShownValue>,
        sums: BTreeMap<String, i128>,
    },
}

/// A shown value and where it comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ShownValue {
    pub(crate) stamp: Hlc,
    pub(crate) dot: Dot,
    pub(crate) value: Value,
}

/// A value in the journal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct JournalValue {
    /// Empty where the leaf has no columns.
    pub(crate) column: String,
    pub(crate) dot: Dot,
    pub(crate) stamp: Hlc,
    pub(crate) value: Value,
}

/// A place that holds one value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Spot {
    pub(crate) leaf: String,
    pub(crate) column: String,
}

/// What a change did to one place, and what its author saw there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Touch {
    pub(crate) spot: Spot,
    pub(crate) wrote: Option<Value>,
    pub(crate) saw: Option<Value>,
}
