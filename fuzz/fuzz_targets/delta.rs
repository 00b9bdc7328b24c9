//! Deltas as peers send them: whatever decodes can be applied, in every order that causality leaves open, and
//! leads to the same state; and that state can be stored and read again.
//!
//! The input is a script of turns; see [`fuzz::history`].
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use crdt::chain::{Increment, Seen};
use crdt::change::seal;
use crdt::{
    Batch, Change, Content, Dot, Envelope, Key, Keyspace, Name, Namespace, Object, Op, Place, Tally, VersionVector,
};
use fuzz::envelope::{KEY_ID, MAC};
use fuzz::history::{History, play};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (batches, history) = play(input);
    if batches.is_empty() {
        return;
    }
    let keys: BTreeSet<Key> = batches.iter().flat_map(|batch| &batch.changes).filter_map(Key::of_change).collect();
    let states = [borrowed(&batches), owned(reordered(&batches))];
    states.iter().for_each(|state| holds_together(state, &keys));
    assert_eq!(states[0].recount().fingerprint, states[0].fingerprint());
    // A peer that lies about its sums can make replicas differ; the audit tells. Everything else must agree.
    if sums_are_true(&batches) {
        same(&states[0], &states[1], &keys);
        if batches.len() > 1 {
            joins_agree(&batches, &history, &keys);
        }
    }
});

/// Applies the batches from their bytes, as a node does that has just received them.
fn borrowed(batches: &[Batch]) -> Keyspace {
    let mut keyspace = Keyspace::new();
    for batch in batches {
        let bytes = seal(batch.to_signed_bytes(KEY_ID), MAC);
        let envelope = Envelope::parse(&bytes).expect("own bytes parse");
        let mut changes = envelope.changes();
        while let Some((index, change)) = changes.next().expect("own changes decode") {
            // A sum that leaves its range is refused by everybody alike.
            let _overflow = keyspace.apply(dot(batch, index), &change);
        }
    }
    keyspace
}

/// Applies the batches one change after the other.
fn owned<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Keyspace {
    let mut keyspace = Keyspace::new();
    for batch in batches {
        for (index, change) in (0..).zip(&batch.changes) {
            let _overflow = keyspace.apply_change(dot(batch, index), change);
        }
    }
    keyspace
}

fn dot(batch: &Batch, index: u32) -> Dot {
    Dot::new(batch.header.id.replica, batch.header.id.seq, index)
}

/// Another order that causality allows: always the last batch that can go next, so that what is concurrent
/// comes the other way round.
fn reordered(batches: &[Batch]) -> Vec<&Batch> {
    let mut applied = VersionVector::new();
    let mut waiting: Vec<&Batch> = batches.iter().collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let ready = |batch: &&Batch| {
            let id = batch.header.id;
            id.seq == applied.seq(id.replica) + 1 && applied.dominates(&batch.header.context)
        };
        let place = waiting.iter().rposition(ready).expect("batches were made in a causal order");
        let batch = waiting.remove(place);
        applied.advance(batch.header.id.replica, batch.header.id.seq);
        order.push(batch);
    }
    order
}

/// The figures are those of a fresh count, and every object can be stored and read again. A walk over all
/// shards takes longer than all the rest, so only the keys that were written are looked at.
fn holds_together(keyspace: &Keyspace, keys: &BTreeSet<Key>) {
    let mut counted = Tally::default();
    let mut journaled = BTreeSet::new();
    for key in keys {
        let Some(object) = keyspace.object(key) else { continue };
        assert!(!object.is_bottom(), "nothing is left of {key:?}");
        assert_eq!(Object::from_bytes(key.kind, &object.to_bytes()).as_ref(), Ok(object.as_ref()));
        let bytes = key.to_bytes();
        counted.add(object.tally(Place::of_key(&bytes)));
        if !object.journal().is_empty() {
            journaled.insert(bytes);
        }
    }
    assert_eq!(counted.fingerprint, keyspace.fingerprint());
    assert_eq!(counted.journal_entries, keyspace.journal_entries());
    assert_eq!(keyspace.journaled().map(|key| key.to_bytes()).collect::<BTreeSet<_>>(), journaled);
}

fn same(left: &Keyspace, right: &Keyspace, keys: &BTreeSet<Key>) {
    for key in keys {
        assert_eq!(left.object(key), right.object(key), "{key:?}");
    }
    assert_eq!(left.fingerprint(), right.fingerprint());
}

/// Joining the states of two replicas is the same as applying what either has.
fn joins_agree(batches: &[Batch], history: &History, keys: &BTreeSet<Key>) {
    let [mine, theirs, _] = history.pasts();
    let part = |past: &VersionVector| owned(batches.iter().filter(|batch| past.contains(batch.header.id)));
    let (mut joined, other) = (part(mine), part(theirs));
    for key in keys {
        let object = other.object(key).map_or_else(|| Object::new(key.kind), |object| object.into_owned());
        joined.join(key, &object, mine, theirs);
    }
    holds_together(&joined, keys);
    let mut both = mine.clone();
    both.join(theirs);
    same(&joined, &part(&both), keys);
}

/// Where a counter stands.
type Column = (Namespace, Vec<Name>, Option<Name>);

/// What each increment made of its chain.
#[derive(Default)]
struct Sums {
    ends: BTreeMap<(Column, Dot), Seen>,
}

/// True when every sum that a change names is one that its chain had at that place.
fn sums_are_true(batches: &[Batch]) -> bool {
    let mut sums = Sums::default();
    batches.iter().all(|batch| {
        let mut changes = (0..).zip(&batch.changes);
        changes.all(|(index, change)| sums.follow(dot(batch, index), change))
    })
}

impl Sums {
    fn follow(&mut self, dot: Dot, change: &Change) -> bool {
        let place = |column: Option<&Name>| (change.namespace, change.path.clone(), column.cloned());
        match &change.content {
            Content::Op(Op::GCounter(delta) | Op::PnCounter(delta)) => {
                self.learn(dot, vec![(place(None), &delta.removes, delta.add)])
            }
            Content::Op(Op::Row(delta)) => {
                let columns = delta.columns.iter();
                self.learn(dot, columns.map(|c| (place(Some(&c.name)), &c.removes, c.add)).collect())
            }
            _ => true,
        }
    }

    fn learn(&mut self, dot: Dot, counts: Vec<(Column, &Vec<Seen>, Option<Increment>)>) -> bool {
        let mut ends = Vec::new();
        for (place, removes, add) in counts {
            let known = |seen: &Seen| self.ends.get(&(place.clone(), seen.tip)) == Some(seen);
            if !removes.iter().chain(add.iter().filter_map(|add| add.extends.as_ref())).all(known) {
                return false;
            }
            let Some(add) = add else { continue };
            let (birth, before) = add.extends.map_or((dot, 0), |seen| (seen.birth, seen.total));
            match before.checked_add(add.amount) {
                Some(total) => ends.push(((place, dot), Seen { birth, tip: dot, total })),
                // The whole change is refused.
                None => return true,
            }
        }
        self.ends.extend(ends);
        true
    }
}
