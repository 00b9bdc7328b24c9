//! Naive models: the whole history as a set of operations with what happened before each of them. What is
//! shown and journaled is computed from the rules' own words, every time anew, and without any join.
//!
//! A model shares no code with its type: it takes intents and sets of dots, and tracks itself what each
//! author was shown.

mod counter;
mod map;
mod register;
mod row;
mod set;

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Dot, Hlc};

use crate::picture::Picture;

pub(crate) use counter::CounterModel;
pub(crate) use map::MapModel;
pub(crate) use register::RegisterModel;
pub(crate) use row::RowModel;
pub(crate) use set::SetModel;

/// Everything that a replica has applied: all that happened before what it does next.
pub(crate) type Past = BTreeSet<Dot>;

/// One operation of the history.
#[derive(Debug)]
pub(crate) struct Record<O> {
    pub(crate) stamp: Hlc,
    /// What happened before it.
    pub(crate) past: Past,
    pub(crate) op: O,
}

/// Operations by their dots.
pub(crate) type History<O> = BTreeMap<Dot, Record<O>>;

/// Who acts in a model: what happened before, and what the database shows.
pub(crate) struct Scene<'a, S> {
    pub(crate) past: &'a Past,
    pub(crate) shadow: &'a S,
    pub(crate) now: Hlc,
}

/// A naive model of one type.
pub(crate) trait Model: Default {
    /// What users want.
    type Intent;
    /// What a database shows.
    type Shadow: Default + Clone + PartialEq;
    /// One operation.
    type Op;

    /// The operations that an intent must lead to, with their stamps.
    fn plan(&self, scene: &Scene<'_, Self::Shadow>, intent: &Self::Intent) -> Vec<(Hlc, Self::Op)>;

    /// Adds an operation to the history.
    fn record(&mut self, dot: Dot, record: Record<Self::Op>);

    /// What a database in step shows.
    fn look(&self, _past: &Past) -> Self::Shadow {
        Self::Shadow::default()
    }

    /// What a database shows after a local operation.
    fn follow(&self, _shadow: &mut Self::Shadow, _dot: Dot, _stamp: Hlc, _op: &Self::Op) {}

    /// Everything that must be shown and journaled where exactly `past` was applied.
    fn picture(&self, past: &Past) -> Picture;

    /// What can be seen in the database.
    fn picture_of_shadow(&self, _shadow: &Self::Shadow) -> Picture {
        Picture::default()
    }
}

/// The operations of a history that are part of a past.
fn applied<'a, O>(history: &'a History<O>, past: &'a Past) -> impl Iterator<Item = (Dot, &'a Record<O>)> {
    history.iter().filter(|(dot, _)| past.contains(dot)).map(|(dot, record)| (*dot, record))
}
