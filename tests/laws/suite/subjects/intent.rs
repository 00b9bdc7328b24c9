//! What users want. Few names and few values, so that intents meet.

use std::collections::BTreeMap;

use crdt::{Kind, Value};
use proptest::prelude::*;

/// What a user wants of a register.
#[derive(Clone, Debug)]
pub(crate) enum RegisterIntent {
    Set(Value),
    Remove,
    /// Restores one of the journal's values.
    Restore(usize),
}

/// What a user wants of a counter.
#[derive(Clone, Debug)]
pub(crate) enum CounterIntent {
    Increment(i128),
    Remove,
    /// Sets the value. A growing counter cannot; there it does nothing.
    Reset(i128),
}

/// What a user wants of a set.
#[derive(Clone, Debug)]
pub(crate) enum SetIntent {
    Add(Vec<Vec<u8>>),
    Remove(Vec<Vec<u8>>),
    Clear,
}

/// What a user writes into a column.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Cell(Value),
    Count(i128),
}

/// What a user wants of a row.
#[derive(Clone, Debug)]
pub(crate) enum RowIntent {
    /// INSERT where the database shows no row, else UPDATE; counts are added.
    Put(BTreeMap<&'static str, Input>),
    /// REPLACE; counts are set.
    Replace(BTreeMap<&'static str, Input>),
    Delete,
    /// Writes one of the journal's values anew.
    Restore(usize),
}

/// What a user wants of a leaf of any type.
#[derive(Clone, Debug)]
pub(crate) enum LeafIntent {
    Register(RegisterIntent),
    GCounter(CounterIntent),
    PnCounter(CounterIntent),
    Set(SetIntent),
    Row(RowIntent),
}

/// What a user wants of a map.
#[derive(Clone, Debug)]
pub(crate) enum MapIntent {
    Leaf(Vec<&'static str>, LeafIntent),
    /// Removes everything below a path; below the empty path, everything.
    Remove(Vec<&'static str>),
}

impl LeafIntent {
    /// The type of the leaf.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Register(_) => Kind::Register,
            Self::GCounter(_) => Kind::GCounter,
            Self::PnCounter(_) => Kind::PnCounter,
            Self::Set(_) => Kind::Set,
            Self::Row(_) => Kind::Row,
        }
    }

    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            RegisterIntent::any().prop_map(Self::Register),
            CounterIntent::growing().prop_map(Self::GCounter),
            CounterIntent::any().prop_map(Self::PnCounter),
            SetIntent::any().prop_map(Self::Set),
            RowIntent::any().prop_map(Self::Row),
        ]
    }
}

impl RegisterIntent {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            6 => value().prop_map(Self::Set),
            2 => Just(Self::Remove),
            1 => (0..4_usize).prop_map(Self::Restore),
        ]
    }
}

impl CounterIntent {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            5 => (-4..8_i128).prop_map(Self::Increment),
            2 => Just(Self::Remove),
            2 => (-2..4_i128).prop_map(Self::Reset),
        ]
    }

    pub(crate) fn growing() -> impl Strategy<Value = Self> {
        prop_oneof![4 => (0..8_i128).prop_map(Self::Increment), 1 => Just(Self::Remove)]
    }
}

impl SetIntent {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let element = prop::sample::select(vec![b"x".to_vec(), b"y".to_vec(), b"".to_vec()]);
        let some = prop::collection::vec(element, 1..3).boxed();
        prop_oneof![
            4 => some.clone().prop_map(Self::Add),
            3 => some.prop_map(Self::Remove),
            1 => Just(Self::Clear),
        ]
    }
}

impl RowIntent {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let cell = (prop::sample::select(vec!["status", "title"]), value().prop_map(Input::Cell));
        let count = (Just("views"), (-3..6_i128).prop_map(Input::Count));
        let columns = prop::collection::vec(prop_oneof![3 => cell, 2 => count], 0..4)
            .prop_map(|columns| columns.into_iter().collect::<BTreeMap<_, _>>())
            .boxed();
        prop_oneof![
            8 => columns.clone().prop_map(Self::Put),
            2 => columns.prop_map(Self::Replace),
            3 => Just(Self::Delete),
            1 => (0..4_usize).prop_map(Self::Restore),
        ]
    }
}

impl MapIntent {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let name = prop::sample::select(vec!["a", "b"]);
        let deep = prop::collection::vec(name.clone(), 1..4);
        prop_oneof![
            8 => (deep, LeafIntent::any()).prop_map(|(path, leaf)| Self::Leaf(path, leaf)),
            1 => prop::collection::vec(name, 0..3).prop_map(Self::Remove),
        ]
    }
}

/// Three values that are often equal, and rarely one of another type.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        12 => (0..3_u64).prop_map(Value::from),
        1 => prop::sample::select(vec![Value::Null, Value::from(true), Value::from(-0.0), Value::from("text")]),
    ]
}
