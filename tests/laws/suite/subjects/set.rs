//! The set.

use crdt::set::SetDelta;
use crdt::{Hlc, Object, OrSet};
use proptest::prelude::*;

use super::SetIntent;
use crate::harness::{Author, Subject};
use crate::naive::SetModel;
use crate::picture::{Leaf, Shown, Touch};

/// Drives [`OrSet`].
#[derive(Clone, Debug)]
pub(crate) struct SetSubject;

impl Subject for SetSubject {
    type State = OrSet;
    type Intent = SetIntent;
    type Shadow = ();
    type Model = SetModel;

    fn intents() -> BoxedStrategy<SetIntent> {
        SetIntent::any().boxed()
    }

    fn act(author: &Author<'_, Self>, intent: &SetIntent) -> Vec<(Hlc, SetDelta)> {
        act(author.state, intent).map(|delta| (author.now, delta)).into_iter().collect()
    }

    fn wrap(state: OrSet) -> Object {
        Object::Set(state)
    }

    fn unwrap(object: Object) -> OrSet {
        match object {
            Object::Set(state) => state,
            other => panic!("a {:?} stands for another type", other.kind()),
        }
    }

    fn touches(_author: &Author<'_, Self>, _delta: &SetDelta) -> Vec<Touch> {
        Vec::new()
    }

    fn counts(_delta: &SetDelta) -> bool {
        false
    }
}

pub(crate) fn act(set: &OrSet, intent: &SetIntent) -> Option<SetDelta> {
    let delta = match intent {
        SetIntent::Add(elements) => set.add(elements.iter().map(Vec::as_slice)),
        SetIntent::Remove(elements) => set.remove(elements.iter().map(Vec::as_slice)),
        SetIntent::Clear => set.clear()?,
    };
    (!delta.elements.is_empty()).then_some(delta)
}

pub(crate) fn observe(set: &OrSet) -> Leaf {
    for element in set.iter() {
        assert!(set.contains(element));
    }
    let shown = if set.is_empty() { Shown::Nothing } else { Shown::Elements(set.iter().map(<[u8]>::to_vec).collect()) };
    Leaf { shown, ..Leaf::default() }
}
