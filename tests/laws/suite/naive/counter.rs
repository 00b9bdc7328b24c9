//! Both counters: an increment counts unless an applied operation named it.

use std::collections::BTreeSet;

use crdt::{Dot, Hlc};

use super::{History, Model, Past, Record, Scene, applied};
use crate::picture::{Leaf, Picture, Shown};
use crate::subjects::CounterIntent;

/// What one operation did.
#[derive(Debug, Clone)]
pub(crate) struct CounterOp {
    add: Option<i128>,
    /// Increments that the author saw counted, and that count no more.
    names: BTreeSet<Dot>,
}

/// All operations on one counter.
#[derive(Debug, Default)]
pub(crate) struct CounterModel {
    history: History<CounterOp>,
}

impl CounterModel {
    pub(crate) fn leaf(&self, past: &Past) -> Leaf {
        let counting = self.counting(past);
        let amounts = counting.iter().filter_map(|dot| self.history[dot].op.add);
        let shown = if counting.is_empty() { Shown::Nothing } else { Shown::Sum(amounts.sum()) };
        Leaf { shown, ..Leaf::default() }
    }

    /// The removal that a map asks for.
    pub(crate) fn removal(&self, past: &Past) -> Option<CounterOp> {
        let names = self.counting(past);
        (!names.is_empty()).then_some(CounterOp { add: None, names })
    }

    fn counting(&self, past: &Past) -> BTreeSet<Dot> {
        let named = |dot: Dot| applied(&self.history, past).any(|(_, record)| record.op.names.contains(&dot));
        let increments = applied(&self.history, past).filter(|(_, record)| record.op.add.is_some());
        increments.map(|(dot, _)| dot).filter(|dot| !named(*dot)).collect()
    }
}

impl Model for CounterModel {
    type Intent = CounterIntent;
    type Shadow = ();
    type Op = CounterOp;

    fn plan(&self, scene: &Scene<'_, ()>, intent: &CounterIntent) -> Vec<(Hlc, CounterOp)> {
        let op = match intent {
            CounterIntent::Increment(amount) => Some(CounterOp { add: Some(*amount), names: BTreeSet::new() }),
            CounterIntent::Remove => self.removal(scene.past),
            CounterIntent::Reset(amount) => Some(CounterOp { add: Some(*amount), names: self.counting(scene.past) }),
        };
        op.map(|op| (scene.now, op)).into_iter().collect()
    }

    fn record(&mut self, dot: Dot, record: Record<CounterOp>) {
        self.history.insert(dot, record);
    }

    fn picture(&self, past: &Past) -> Picture {
        Picture::of(self.leaf(past))
    }
}
