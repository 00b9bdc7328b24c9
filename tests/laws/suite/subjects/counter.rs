//! Both counters.

use crdt::counter::CounterDelta;
use crdt::{GCounter, Hlc, Object, PnCounter, ReplicaId};
use proptest::prelude::*;

use super::CounterIntent;
use crate::harness::{Author, Subject};
use crate::naive::CounterModel;
use crate::picture::{Leaf, Shown, Touch};

/// Drives [`GCounter`].
#[derive(Clone, Debug)]
pub(crate) struct GCounterSubject;

/// Drives [`PnCounter`].
#[derive(Clone, Debug)]
pub(crate) struct PnCounterSubject;

impl Subject for GCounterSubject {
    type State = GCounter;
    type Intent = CounterIntent;
    type Shadow = ();
    type Model = CounterModel;

    fn intents() -> BoxedStrategy<CounterIntent> {
        CounterIntent::growing().boxed()
    }

    fn act(author: &Author<'_, Self>, intent: &CounterIntent) -> Vec<(Hlc, CounterDelta)> {
        let delta = act_growing(author.state, author.replica, intent);
        delta.map(|delta| (author.now, delta)).into_iter().collect()
    }

    fn wrap(state: GCounter) -> Object {
        Object::GCounter(state)
    }

    fn unwrap(object: Object) -> GCounter {
        match object {
            Object::GCounter(state) => state,
            other => panic!("a {:?} stands for another type", other.kind()),
        }
    }

    fn touches(_author: &Author<'_, Self>, _delta: &CounterDelta) -> Vec<Touch> {
        Vec::new()
    }

    fn counts(_delta: &CounterDelta) -> bool {
        true
    }
}

impl Subject for PnCounterSubject {
    type State = PnCounter;
    type Intent = CounterIntent;
    type Shadow = ();
    type Model = CounterModel;

    fn intents() -> BoxedStrategy<CounterIntent> {
        CounterIntent::any().boxed()
    }

    fn act(author: &Author<'_, Self>, intent: &CounterIntent) -> Vec<(Hlc, CounterDelta)> {
        act(author.state, author.replica, intent).map(|delta| (author.now, delta)).into_iter().collect()
    }

    fn wrap(state: PnCounter) -> Object {
        Object::PnCounter(state)
    }

    fn unwrap(object: Object) -> PnCounter {
        match object {
            Object::PnCounter(state) => state,
            other => panic!("a {:?} stands for another type", other.kind()),
        }
    }

    fn touches(_author: &Author<'_, Self>, _delta: &CounterDelta) -> Vec<Touch> {
        Vec::new()
    }

    fn counts(_delta: &CounterDelta) -> bool {
        true
    }
}

pub(crate) fn act(counter: &PnCounter, replica: ReplicaId, intent: &CounterIntent) -> Option<CounterDelta> {
    match intent {
        CounterIntent::Increment(amount) => Some(counter.increment(replica, *amount).expect("amounts are small")),
        CounterIntent::Remove => counter.remove(),
        CounterIntent::Reset(amount) => Some(counter.reset(*amount)),
    }
}

pub(crate) fn act_growing(counter: &GCounter, replica: ReplicaId, intent: &CounterIntent) -> Option<CounterDelta> {
    match intent {
        CounterIntent::Increment(amount) => {
            let amount = u64::try_from(*amount).expect("a growing counter is driven by amounts from 0");
            Some(counter.increment(replica, amount).expect("amounts are small"))
        }
        CounterIntent::Remove => counter.remove(),
        CounterIntent::Reset(_) => None,
    }
}

pub(crate) fn observe(counter: &PnCounter) -> Leaf {
    leaf(counter.exists(), counter.value().expect("amounts are small"))
}

pub(crate) fn observe_growing(counter: &GCounter) -> Leaf {
    leaf(counter.exists(), counter.value().expect("amounts are small"))
}

fn leaf(exists: bool, value: i128) -> Leaf {
    assert!(exists || value == 0, "a counter of which everything was removed counts {value}");
    Leaf { shown: if exists { Shown::Sum(value) } else { Shown::Nothing }, ..Leaf::default() }
}
