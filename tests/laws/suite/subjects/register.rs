//! The register.

use std::collections::BTreeSet;

use crdt::register::RegisterDelta;
use crdt::{Hlc, Object, Register};
use proptest::prelude::*;

use super::RegisterIntent;
use crate::harness::{Author, Subject};
use crate::naive::RegisterModel;
use crate::picture::{JournalValue, Leaf, Shown, ShownValue, Spot, Touch};

/// Drives [`Register`].
#[derive(Clone, Debug)]
pub(crate) struct RegisterSubject;

impl Subject for RegisterSubject {
    type State = Register;
    type Intent = RegisterIntent;
    type Shadow = ();
    type Model = RegisterModel;

    fn intents() -> BoxedStrategy<RegisterIntent> {
        RegisterIntent::any().boxed()
    }

    fn act(author: &Author<'_, Self>, intent: &RegisterIntent) -> Vec<(Hlc, RegisterDelta)> {
        act(author.state, author.now, intent).into_iter().collect()
    }

    fn wrap(state: Register) -> Object {
        Object::Register(state)
    }

    fn unwrap(object: Object) -> Register {
        match object {
            Object::Register(state) => state,
            other => panic!("a {:?} stands for another type", other.kind()),
        }
    }

    fn restores(intent: &RegisterIntent) -> bool {
        matches!(intent, RegisterIntent::Restore(_))
    }

    fn touches(author: &Author<'_, Self>, delta: &RegisterDelta) -> Vec<Touch> {
        touches(author.state, delta)
    }

    fn counts(_delta: &RegisterDelta) -> bool {
        false
    }
}

pub(crate) fn act(register: &Register, now: Hlc, intent: &RegisterIntent) -> Option<(Hlc, RegisterDelta)> {
    match intent {
        RegisterIntent::Set(value) => Some(register.set(value.clone(), now)),
        RegisterIntent::Remove => register.remove().map(|delta| (now, delta)),
        RegisterIntent::Restore(pick) => {
            let journal = observe(register).journal;
            let entry = journal.iter().nth(pick % journal.len().max(1))?;
            register.restore(entry.dot, now)
        }
    }
}

pub(crate) fn observe(register: &Register) -> Leaf {
    let shown = register.shown().map(|entry| {
        let (stamp, dot, value) = (entry.stamp, entry.dot, entry.value.clone());
        Shown::Value(ShownValue { stamp, dot, value })
    });
    let journal: BTreeSet<JournalValue> = register
        .journal()
        .map(|entry| JournalValue {
            column: String::new(),
            dot: entry.dot,
            stamp: entry.stamp,
            value: entry.value.clone(),
        })
        .collect();
    Leaf { shown: shown.unwrap_or_default(), journal, ..Leaf::default() }
}

pub(crate) fn touches(register: &Register, delta: &RegisterDelta) -> Vec<Touch> {
    let saw = register.shown().map(|entry| entry.value.clone());
    vec![Touch { spot: Spot::default(), wrote: delta.write.clone(), saw }]
}
