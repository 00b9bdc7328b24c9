//! The set: an element is there when it was added and nobody who knew of that add removed or added it since.

use std::collections::BTreeSet;

use crdt::{Dot, Hlc};

use super::{History, Model, Past, Record, Scene, applied};
use crate::picture::{Leaf, Picture, Shown};
use crate::subjects::SetIntent;

/// What one operation did.
#[derive(Debug, Clone)]
pub(crate) struct SetOp {
    adds: bool,
    elements: BTreeSet<Vec<u8>>,
}

/// All operations on one set.
#[derive(Debug, Default)]
pub(crate) struct SetModel {
    history: History<SetOp>,
}

impl SetModel {
    pub(crate) fn leaf(&self, past: &Past) -> Leaf {
        let elements = self.elements(past);
        let shown = if elements.is_empty() { Shown::Nothing } else { Shown::Elements(elements) };
        Leaf { shown, ..Leaf::default() }
    }

    /// The removal that a map asks for.
    pub(crate) fn removal(&self, past: &Past) -> Option<SetOp> {
        let elements = self.elements(past);
        (!elements.is_empty()).then_some(SetOp { adds: false, elements })
    }

    fn elements(&self, past: &Past) -> BTreeSet<Vec<u8>> {
        let overtaken = |element: &Vec<u8>, add: Dot| {
            applied(&self.history, past)
                .any(|(_, record)| record.op.elements.contains(element) && record.past.contains(&add))
        };
        let adds = applied(&self.history, past).filter(|(_, record)| record.op.adds);
        let standing = adds.flat_map(|(dot, record)| record.op.elements.iter().map(move |element| (dot, element)));
        standing.filter(|(dot, element)| !overtaken(element, *dot)).map(|(_, element)| element.clone()).collect()
    }
}

impl Model for SetModel {
    type Intent = SetIntent;
    type Shadow = ();
    type Op = SetOp;

    fn plan(&self, scene: &Scene<'_, ()>, intent: &SetIntent) -> Vec<(Hlc, SetOp)> {
        let there = self.elements(scene.past);
        let op = match intent {
            SetIntent::Add(elements) => SetOp { adds: true, elements: elements.iter().cloned().collect() },
            SetIntent::Remove(elements) => {
                SetOp { adds: false, elements: elements.iter().filter(|e| there.contains(*e)).cloned().collect() }
            }
            SetIntent::Clear => SetOp { adds: false, elements: there },
        };
        if op.elements.is_empty() { Vec::new() } else { vec![(scene.now, op)] }
    }

    fn record(&mut self, dot: Dot, record: Record<SetOp>) {
        self.history.insert(dot, record);
    }

    fn picture(&self, past: &Past) -> Picture {
        Picture::of(self.leaf(past))
    }
}
