//! The register, by its definition: a write is present unless an applied operation named it.

use std::collections::BTreeSet;

use crdt::{Dot, Hlc, Value};

use super::{History, Model, Past, Record, Scene, applied};
use crate::picture::{JournalValue, Leaf, Picture, Shown, ShownValue};
use crate::subjects::RegisterIntent;

/// What one operation did.
#[derive(Debug, Clone)]
pub(crate) struct RegisterOp {
    write: Option<Value>,
    /// Writes that are gone: what the author was shown, all known equal values, and what was restored.
    names: BTreeSet<Dot>,
    /// Writes that were there and not shown to the author, who decided on top of them.
    hides: BTreeSet<Dot>,
}

/// All operations on one register.
#[derive(Debug, Default)]
pub(crate) struct RegisterModel {
    history: History<RegisterOp>,
}

impl RegisterModel {
    pub(crate) fn leaf(&self, past: &Past) -> Leaf {
        let shown = self.shown(past);
        let journal =
            self.present(past).into_iter().filter(|entry| shown.as_ref().is_none_or(|s| s.value != entry.value));
        let journal = journal
            .map(|ShownValue { stamp, dot, value }| JournalValue { column: String::new(), dot, stamp, value })
            .collect();
        Leaf { shown: shown.map_or(Shown::Nothing, Shown::Value), journal, ..Leaf::default() }
    }

    /// The removal that a map asks for.
    pub(crate) fn removal(&self, past: &Past) -> Option<RegisterOp> {
        self.shown(past).map(|shown| self.over(past, Some(&shown), None))
    }

    /// Writes that no operation named.
    fn present(&self, past: &Past) -> Vec<ShownValue> {
        let named = |dot: Dot| applied(&self.history, past).any(|(_, record)| record.op.names.contains(&dot));
        applied(&self.history, past)
            .filter(|(dot, _)| !named(*dot))
            .filter_map(|(dot, Record { stamp, op, .. })| {
                op.write.clone().map(|value| ShownValue { stamp: *stamp, dot, value })
            })
            .collect()
    }

    /// The present write with the greatest stamp that nobody hid by writing over what stood above it.
    fn shown(&self, past: &Past) -> Option<ShownValue> {
        let hidden = |dot: Dot| applied(&self.history, past).any(|(_, record)| record.op.hides.contains(&dot));
        self.present(past).into_iter().filter(|entry| !hidden(entry.dot)).max_by_key(|entry| (entry.stamp, entry.dot))
    }

    /// An operation on top of what is shown.
    fn over(&self, past: &Past, shown: Option<&ShownValue>, write: Option<Value>) -> RegisterOp {
        let Some(shown) = shown else {
            return RegisterOp { write, names: BTreeSet::new(), hides: BTreeSet::new() };
        };
        let (equal, other): (Vec<_>, Vec<_>) =
            self.present(past).into_iter().partition(|entry| entry.value == shown.value);
        let dots = |entries: Vec<ShownValue>| entries.into_iter().map(|entry| entry.dot).collect();
        RegisterOp { write, names: dots(equal), hides: dots(other) }
    }
}

impl Model for RegisterModel {
    type Intent = RegisterIntent;
    type Shadow = ();
    type Op = RegisterOp;

    fn plan(&self, scene: &Scene<'_, ()>, intent: &RegisterIntent) -> Vec<(Hlc, RegisterOp)> {
        let shown = self.shown(scene.past);
        let stamp = shown.as_ref().map_or(scene.now, |shown| scene.now.max(Hlc(shown.stamp.0 + 1)));
        match intent {
            RegisterIntent::Set(value) => vec![(stamp, self.over(scene.past, shown.as_ref(), Some(value.clone())))],
            RegisterIntent::Remove => self.removal(scene.past).map(|op| (scene.now, op)).into_iter().collect(),
            RegisterIntent::Restore(pick) => {
                let journal = self.leaf(scene.past).journal;
                let Some(entry) = journal.iter().nth(pick % journal.len().max(1)) else { return Vec::new() };
                let mut op = self.over(scene.past, shown.as_ref(), Some(entry.value.clone()));
                op.names.insert(entry.dot);
                op.hides.remove(&entry.dot);
                vec![(stamp, op)]
            }
        }
    }

    fn record(&mut self, dot: Dot, record: Record<RegisterOp>) {
        self.history.insert(dot, record);
    }

    fn picture(&self, past: &Past) -> Picture {
        Picture::of(self.leaf(past))
    }
}
