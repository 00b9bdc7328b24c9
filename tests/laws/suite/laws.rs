//! Laws that hold for every type, by one macro.

use std::collections::{BTreeMap, BTreeSet};

use crdt::pack::{DotTable, Reader, Writer};
use crdt::{Causal, CausalContext, Crdt, Dot, Object, ReplicaId, Tally};
use proptest::prelude::*;

use crate::harness::{
    Network, Shipment, Step, Subject, delta_bytes, delta_from_bytes, hold, hold_for, place, state_bytes,
    state_from_bytes,
};
use crate::picture::{Picture, Shown};
use crate::subjects::{GCounterSubject, MapSubject, PnCounterSubject, RegisterSubject, RowSubject, SetSubject};

/// A state with its past, as some replica had it.
type Version<S> = Causal<<S as Subject>::State>;

/// Everything that must be equal where the vectors are.
type Seen<S> = (<S as Subject>::State, Vec<u8>, Tally);

fn version<S: Subject>(network: &Network<S>, at: usize) -> Version<S> {
    let node = &network.nodes[at];
    Causal { state: node.state.clone(), context: CausalContext::from(node.applied.clone()) }
}

/// Up to `most` versions of the run, evenly over its time, and the last one.
fn versions<S: Subject>(steps: &[Step<S::Intent>], most: usize) -> Vec<Version<S>> {
    let mut seen = Vec::new();
    let network = Network::<S>::run_all(steps, &mut |network, event| seen.push(version(network, event.at())));
    let stride = seen.len().div_ceil(most).max(1);
    seen.into_iter().step_by(stride).chain([version(&network, 0)]).collect()
}

fn joined<T: Crdt>(left: &Causal<T>, right: &Causal<T>) -> Causal<T> {
    let mut join = left.clone();
    join.join(right);
    join
}

fn concurrent_changes_commute<S: Subject>(steps: &[Step<S::Intent>]) {
    Network::<S>::run_all(steps, &mut |network, event| {
        let to = event.at();
        let applicable = network.applicable(to);
        for (place, first) in applicable.iter().enumerate() {
            for second in &applicable[place + 1..] {
                let (first, second) = (&network.batches[*first], &network.batches[*second]);
                let (mut forwards, mut backwards) = (network.nodes[to].clone(), network.nodes[to].clone());
                forwards.receive(first);
                forwards.receive(second);
                backwards.receive(second);
                backwards.receive(first);
                assert_eq!(forwards.state, backwards.state, "{} and {}", first.id, second.id);
                assert_eq!(forwards.tally, backwards.tally, "{} and {}", first.id, second.id);
            }
        }
    });
}

fn joins_are_a_semilattice<S: Subject>(steps: &[Step<S::Intent>]) {
    let versions = versions::<S>(steps, 5);
    for left in &versions {
        assert_eq!(joined(left, left), *left, "idempotent");
        for right in &versions {
            let both = joined(left, right);
            assert_eq!(both, joined(right, left), "commutative");
            assert_eq!(joined(&both, right), both, "absorbing");
            for third in &versions {
                assert_eq!(joined(&both, third), joined(left, &joined(right, third)), "associative");
            }
        }
    }
}

/// Equal vectors mean equal states, bytes and figures, whichever way led there; and figures kept change by
/// change are those counted from scratch.
pub(crate) fn both_ways_lead_to_one_state<S: Subject>(steps: &[Step<S::Intent>]) {
    let mut known: BTreeMap<Vec<(ReplicaId, u64)>, Seen<S>> = BTreeMap::new();
    let mut compare = |network: &Network<S>, at: usize| {
        let node = &network.nodes[at];
        assert_eq!(node.tally, node.state.tally(place()), "figures of replica {at}");
        let now = (node.state.clone(), state_bytes(&node.state), node.tally);
        let before = known.entry(node.applied.iter().collect()).or_insert_with(|| now.clone());
        assert_eq!(now, *before, "replica {at} at {:?}", node.applied);
    };
    let network = Network::<S>::run_all(steps, &mut |network, event| compare(network, event.at()));
    (0..network.nodes.len()).for_each(|at| compare(&network, at));
}

/// A state only goes up, and a dot that is gone stays gone.
fn states_only_grow<S: Subject>(steps: &[Step<S::Intent>]) {
    let mut last: BTreeMap<usize, Version<S>> = BTreeMap::new();
    let mut gone: BTreeMap<usize, BTreeSet<Dot>> = BTreeMap::new();
    Network::<S>::run_all(steps, &mut |network, event| {
        let at = event.at();
        let now = version(network, at);
        if let Some(before) = last.insert(at, now.clone()) {
            assert_eq!(joined(&before, &now), now, "replica {at} went back");
            let counting: BTreeSet<Dot> = network.batches.iter().flat_map(counting_dots).collect();
            let (old, new) = (dots(&before.state), dots(&now.state));
            let gone = gone.entry(at).or_default();
            gone.extend(old.difference(&new).filter(|dot| !counting.contains(dot)));
            assert!(gone.is_disjoint(&new), "replica {at}: {:?} came back", gone.intersection(&new));
        }
    });
}

/// A removed sum stays remembered by its last dot, so these dots may go and come.
fn counting_dots<S: Subject>(batch: &Shipment<S>) -> impl Iterator<Item = Dot> + '_ {
    batch.changes.iter().filter(|sent| S::counts(&sent.delta)).map(|sent| sent.dot)
}

fn dots<T: Crdt>(state: &T) -> BTreeSet<Dot> {
    let mut dots = BTreeSet::new();
    state.dots(&mut |dot| {
        dots.insert(dot);
    });
    dots
}

/// Forgetting journal entries and collecting remains, once everybody has everything, changes nothing that
/// is shown, then or later, also where only some replicas do it.
pub(crate) fn cleaning_changes_nothing_that_is_shown<S: Subject>(steps: &[Step<S::Intent>]) {
    let (before, after) = steps.split_at(steps.len() / 2);
    let restores = |step: &&Step<S::Intent>| match step {
        Step::Write { intents, .. } => intents.iter().any(S::restores),
        _ => false,
    };
    let settled = Network::<S>::run_all(before, &mut |_, _| {});
    for cleaners in 1..1_usize << settled.nodes.len() {
        let (mut plain, mut cleaned) = (settled.clone(), settled.clone());
        let chosen = cleaned.nodes.iter_mut().enumerate().filter(|(at, _)| cleaners >> at & 1 == 1);
        chosen.for_each(|(_, node)| node.clean());
        shows_the_same(&plain, &cleaned);
        for step in after.iter().filter(|step| !restores(step)) {
            plain.run(step, &mut |_, _| {});
            cleaned.run(step, &mut |_, _| {});
            shows_the_same(&plain, &cleaned);
        }
    }
}

fn shows_the_same<S: Subject>(plain: &Network<S>, cleaned: &Network<S>) {
    for (at, node) in cleaned.nodes.iter().enumerate() {
        let plain = &plain.nodes[at];
        assert_eq!(all_shown(&S::observe(&node.state)), all_shown(&S::observe(&plain.state)), "replica {at}");
        for other in cleaned.nodes.iter().filter(|other| other.applied == node.applied) {
            assert_eq!(node.tally.fingerprint, other.tally.fingerprint, "replica {at}");
        }
    }
}

fn all_shown(picture: &Picture) -> BTreeMap<String, Shown> {
    let shown = picture.leaves.iter().map(|(name, leaf)| (name.clone(), leaf.shown.clone()));
    shown.filter(|(_, shown)| *shown != Shown::Nothing).collect()
}

fn encodings_round_trip<S: Subject>(steps: &[Step<S::Intent>]) {
    let network = Network::<S>::run_all(steps, &mut |network, event| {
        let state = &network.nodes[event.at()].state;
        let bytes = state_bytes(state);
        assert_eq!(state_from_bytes::<S::State>(&bytes).as_ref(), Ok(state));
        let object = S::wrap(state.clone());
        assert_eq!(object.to_bytes(), bytes);
        assert_eq!(Object::from_bytes(object.kind(), &bytes), Ok(object));
    });
    for sent in network.batches.iter().flat_map(|batch| &batch.changes) {
        let bytes = delta_bytes::<S::State>(&sent.delta);
        assert_eq!(delta_from_bytes::<S::State>(&bytes).as_ref(), Ok(&sent.delta));
    }
}

/// Every cut and every flipped byte of real bytes either fails or decodes to something that has just these
/// bytes.
fn damage_is_noticed_or_harmless<S: Subject>(steps: &[Step<S::Intent>]) {
    let network = Network::<S>::run_all(steps, &mut |_, _| {});
    let states = network.nodes[..1].iter().map(|node| state_bytes(&node.state));
    let sent = network.batches.iter().flat_map(|batch| &batch.changes);
    let deltas = sent.map(|sent| delta_bytes::<S::State>(&sent.delta));
    for bytes in states.chain(deltas) {
        for at in 0..bytes.len() {
            decodes_to_itself::<S>(&bytes[..at]);
            for mask in [1, 2, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                decodes_to_itself::<S>(&damaged);
            }
        }
    }
}

/// Arbitrary bytes behind a valid table of two replicas.
fn arbitrary_bytes_never_panic<S: Subject>(bytes: &[u8]) {
    decodes_to_itself::<S>(bytes);
    let table = DotTable::new(vec![(ReplicaId(1), 3), (ReplicaId(2), 200)]);
    let mut writer = Writer::new();
    writer.table(&table);
    writer.raw(bytes);
    decodes_to_itself::<S>(&writer.into_bytes());
}

/// Nothing decodes that encoding would not have written: one content has one form.
fn decodes_to_itself<S: Subject>(bytes: &[u8]) {
    let kind = S::wrap(S::State::default()).kind();
    if let Ok(object) = Object::from_bytes(kind, bytes) {
        assert_eq!(object.to_bytes(), bytes, "{object:?}");
        object.tally(place());
        object.journal();
    }
    let mut reader = Reader::new(bytes);
    let Ok(table) = reader.table() else { return };
    let start = reader.at();
    if let Ok(delta) = S::State::decode_delta(&mut reader, &table) {
        let mut writer = Writer::new();
        S::State::encode_delta(&delta, &mut writer, &table);
        assert_eq!(writer.into_bytes(), bytes[start..reader.at()], "{delta:?}");
    }
}

fn bytes() -> BoxedStrategy<Vec<u8>> {
    // Small numbers are valid lengths, marks and dots more often than others.
    prop::collection::vec(prop_oneof![4 => 0..6_u8, 1 => any::<u8>()], 0..60).boxed()
}

macro_rules! laws {
    ($($module:ident: $subject:ty, $cases:expr;)*) => {
        $(
            mod $module {
                use super::*;

                #[test]
                fn concurrent_changes_commute() {
                    hold::<$subject>($cases, 30, super::concurrent_changes_commute::<$subject>);
                }

                #[test]
                fn joins_are_a_semilattice() {
                    hold::<$subject>($cases, 30, super::joins_are_a_semilattice::<$subject>);
                }

                #[test]
                fn both_ways_lead_to_one_state() {
                    hold::<$subject>(2 * $cases, 50, super::both_ways_lead_to_one_state::<$subject>);
                }

                #[test]
                fn states_only_grow() {
                    hold::<$subject>($cases, 50, super::states_only_grow::<$subject>);
                }

                #[test]
                fn cleaning_changes_nothing_that_is_shown() {
                    hold::<$subject>($cases / 2, 40, super::cleaning_changes_nothing_that_is_shown::<$subject>);
                }

                #[test]
                fn encodings_round_trip() {
                    hold::<$subject>($cases, 50, super::encodings_round_trip::<$subject>);
                }

                #[test]
                fn damage_is_noticed_or_harmless() {
                    hold::<$subject>($cases / 4, 20, super::damage_is_noticed_or_harmless::<$subject>);
                }

                #[test]
                fn arbitrary_bytes_never_panic() {
                    hold_for(20 * $cases, &bytes(), |bytes| super::arbitrary_bytes_never_panic::<$subject>(&bytes));
                }
            }
        )*
    };
}

laws! {
    register: RegisterSubject, 100;
    growing_counter: GCounterSubject, 100;
    counter: PnCounterSubject, 100;
    set: SetSubject, 100;
    map: MapSubject, 100;
    row: RowSubject, 150;
}
