//! Invariant 2: every acknowledged write is shown, in the journal, or named as replaced by a later one.
//!
//! Three parts. At rest every acknowledged door batch is part of every state, unless the disk that lost it was the only
//! one that had it. At every step a leaf of the door is exactly what the applied batches make of it: nothing missing
//! (invariant 2), nothing too much (6), sets and registers alike; counters are invariant 7. Too much is not what is still
//! journaled because whoever replaced it had forgotten it, its retention being over. At rest a row exists when
//! an INSERT was committed that no DELETE had seen. Values of cells are invariant 9.

use std::collections::BTreeSet;

use crdt::{BatchId, Kind, Value};

use super::{Checker, LeafView, NodeRead, Verdict, WorldRead, refuse, rescued, show_leaf, show_row};
use crate::history::{Leaf, NodeIndex};
use crate::oracle::lives::Lives;
use crate::oracle::{Expected, Oracle, Truth};

/// Leaves looked at in one step: a snapshot brings thousands of batches at once, and they are all looked at at rest.
const LEAVES_A_STEP: usize = 4;
/// A leaf with more writes than this is looked at at one applied write in [`LONG_LEAF_STRIDE`], because a look costs
/// as much as it has writes.
const LONG_LEAF_WRITES: usize = 64;
/// See [`LONG_LEAF_WRITES`].
const LONG_LEAF_STRIDE: usize = 16;

/// See the module's documentation.
#[derive(Default)]
pub struct Acknowledged {
    advances: usize,
    looks: usize,
}

impl Checker for Acknowledged {
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, _node: NodeIndex) -> Verdict {
        let mut looks = self.looks;
        let result = super::touched_leaves(world, oracle, &mut self.advances, LEAVES_A_STEP, |node, state, leaf| {
            looks += 1;
            let long = oracle.door().writes(leaf) > LONG_LEAF_WRITES;
            if long && !looks.is_multiple_of(LONG_LEAF_STRIDE) {
                Ok(())
            } else {
                check_leaf(world, oracle, node, state, leaf)
            }
        });
        self.looks = looks;
        result
    }

    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        let rescued = rescued(world.history());
        for node in world.core() {
            let Some(state) = world.node(node) else { continue };
            check_batches(world, node, state)?;
            oracle.door().leaves().try_for_each(|leaf| check_leaf(world, oracle, node, state, leaf))?;
        }
        for ledger in oracle.rows().filter(|ledger| !rescued.contains(&ledger.row)) {
            if ledger.events.is_empty() || Lives::of(world.history(), ledger).exists() != Truth::Yes {
                continue;
            }
            for node in world.core() {
                let gone = world.node(node).is_some_and(|state| state.row(&ledger.row).shown.is_none());
                if gone {
                    let what = "the row is gone, but an INSERT of it was committed that no DELETE has seen".to_owned();
                    return refuse(2, Some(node), show_row(&ledger.row), what);
                }
            }
        }
        Ok(())
    }
}

fn check_batches(world: &dyn WorldRead, node: NodeIndex, state: &dyn NodeRead) -> Verdict {
    let history = world.history();
    for door in history.doors().iter().filter(|door| door.acknowledged && !door.void) {
        if !history.is_gone(door.batch) && !state.applied().contains(door.batch) {
            let what = format!("acknowledged on node {} at {} us, and not applied here", door.node, door.time_us);
            return refuse(2, Some(node), door.batch, what);
        }
    }
    Ok(())
}

fn check_leaf(world: &dyn WorldRead, oracle: &Oracle, node: NodeIndex, state: &dyn NodeRead, leaf: &Leaf) -> Verdict {
    if matches!(leaf.kind, Kind::PnCounter | Kind::GCounter) {
        return Ok(());
    }
    let history = world.history();
    match (oracle.door().expect(history, leaf, state.applied()), state.leaf(leaf)) {
        (Expected::Values(expected), LeafView::Register(shown, journal)) => {
            let present: BTreeSet<Value> = shown.iter().cloned().chain(journal).collect();
            for (value, door) in &expected {
                let written_us = history.doors()[*door].time_us;
                if !present.contains(value) && !super::retention_is_over(world, written_us) {
                    let what = format!("{value:?} is neither shown nor journaled, and nothing applied replaced it");
                    return refuse(2, Some(node), show_leaf(leaf), what);
                }
            }
            // Never the shown one: only a retired value is forgotten, and nobody shows one.
            let retention_ms = world.intervals().journal_retention_ms;
            let may_linger = |value: &Value| {
                Some(value) != shown.as_ref()
                    && oracle.door().may_linger(history, leaf, state.applied(), value, retention_ms)
            };
            let extra = present.into_iter().find(|value| !expected.contains_key(value) && !may_linger(value));
            extra.map_or(Ok(()), |value| {
                let written = oracle.door().was_written(history, leaf, &value);
                let why = if written { "was replaced by what is applied here" } else { "was never written" };
                refuse(6, Some(node), show_leaf(leaf), format!("{value:?} is there and {why}"))
            })
        }
        (Expected::Values(expected), LeafView::Nothing) => {
            let missing = expected.iter().find(|(_, door)| {
                let written_us = history.doors()[**door].time_us;
                !super::retention_is_over(world, written_us)
            });
            missing.map_or(Ok(()), |(value, _)| {
                refuse(2, Some(node), show_leaf(leaf), format!("nothing is there, but {value:?} was written"))
            })
        }
        (Expected::Elements(expected), LeafView::Elements(elements)) => {
            check_elements(node, leaf, &expected, &elements)
        }
        (Expected::Elements(expected), LeafView::Nothing) => check_elements(node, leaf, &expected, &BTreeSet::new()),
        (_, other) => refuse(2, Some(node), show_leaf(leaf), format!("it holds {other:?}: another type")),
    }
}

fn check_elements(
    node: NodeIndex,
    leaf: &Leaf,
    expected: &BTreeSet<crdt::Name>,
    elements: &BTreeSet<crdt::Name>,
) -> Verdict {
    let show = |element: &crdt::Name| element.escape_ascii().to_string();
    if let Some(missing) = expected.difference(elements).next() {
        let what = format!("element {} was added and no applied removal has seen that", show(missing));
        return refuse(2, Some(node), show_leaf(leaf), what);
    }
    if let Some(extra) = elements.difference(expected).next() {
        let what = format!("element {} is there, but no add of it is left", show(extra));
        return refuse(6, Some(node), show_leaf(leaf), what);
    }
    Ok(())
}

/// Whether a batch belongs to the door, for callers that walk over batches.
pub(super) fn leaves_of<'a>(
    world: &'a dyn WorldRead,
    oracle: &Oracle,
    batch: BatchId,
) -> impl Iterator<Item = &'a Leaf> + use<'a> {
    let door = oracle.door().of_batch(batch).and_then(|number| world.history().doors().get(number));
    door.into_iter().flat_map(|door| &door.writes).map(|write| &write.leaf).filter(|leaf| leaf.kind != Kind::Row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stand::{Stand, leaf, row};
    use crate::history::DoorAction;

    fn set(value: &str, saw: Option<&str>) -> DoorAction {
        DoorAction::Set { value: value.into(), saw: saw.map(Value::from) }
    }

    fn rest(stand: &Stand) -> Result<(), u8> {
        let oracle = stand.oracle();
        Acknowledged::default().check_rest(stand, &oracle).map_err(|violation| violation.invariant)
    }

    fn step(stand: &Stand) -> Result<(), u8> {
        let oracle = stand.oracle();
        Acknowledged::default().check_step(stand, &oracle, 0).map_err(|violation| violation.invariant)
    }

    /// Both nodes write a register without knowing of each other; node 1 applies both.
    fn siblings(shown: Option<&str>, journal: &[&str]) -> Stand {
        let mut stand = Stand::new(2);
        let register = leaf(Kind::Register);
        stand.door(0, 1, &register, set("a", None));
        stand.door(1, 1, &register, set("b", None));
        stand.edit(0).leaves.insert(register.clone(), LeafView::Register(Some("a".into()), vec![]));
        let journal = journal.iter().map(|value| Value::from(*value)).collect();
        stand.edit(1).leaves.insert(register, LeafView::Register(shown.map(Value::from), journal));
        let replica = stand.replica(0);
        stand.apply(1, replica, 1);
        stand
    }

    #[test]
    fn a_sibling_may_be_journaled_but_not_missing() {
        assert_eq!(step(&siblings(Some("b"), &["a"])), Ok(()));
        assert_eq!(step(&siblings(Some("b"), &[])), Err(2));
        assert_eq!(step(&siblings(Some("b"), &["a", "c"])), Err(6));
    }

    #[test]
    fn a_journaled_value_may_go_after_its_retention() {
        let mut stand = siblings(Some("b"), &[]);
        stand.intervals.journal_retention_ms = 1_000;
        stand.history.at(2_000_000);
        assert_eq!(step(&stand), Ok(()));
    }

    #[test]
    fn a_replaced_value_must_be_gone() {
        let mut stand = siblings(Some("b"), &["a"]);
        let register = leaf(Kind::Register);
        stand.door(1, 2, &register, set("c", Some("b")));
        let found = |shown: &str, journal: &[&str]| {
            let journal = journal.iter().map(|value| Value::from(*value)).collect();
            LeafView::Register(Some(shown.into()), journal)
        };
        stand.edit(1).leaves.insert(register.clone(), found("c", &["a"]));
        assert_eq!(step(&stand), Ok(()));
        stand.edit(1).leaves.insert(register, found("c", &["a", "b"]));
        assert_eq!(step(&stand), Err(6));
    }

    #[test]
    fn an_acknowledged_batch_must_arrive_unless_its_only_disk_lost_it() {
        let mut stand = Stand::new(2);
        let counter = leaf(Kind::PnCounter);
        let batch = stand.door(0, 1, &counter, DoorAction::Add(1));
        assert_eq!(rest(&stand), Ok(()), "nobody was told yet");
        stand.history.acknowledged(batch);
        assert_eq!(rest(&stand), Err(2));
        stand.lose(0);
        assert_eq!(rest(&stand), Ok(()));
    }

    #[test]
    fn a_row_stays_until_somebody_who_saw_it_deletes_it() {
        let mut stand = Stand::new(2);
        stand.insert(0, &row(1), &[("title", "w1")]);
        assert_eq!(rest(&stand), Err(2));
        stand.show_everywhere(&row(1), &[("title", "w1")]);
        assert_eq!(rest(&stand), Ok(()));
        stand.delete(0, &row(1));
        stand.hide_everywhere(&row(1));
        assert_eq!(rest(&stand), Ok(()));
        // A second INSERT elsewhere, at a node that had never applied the delete.
        stand.insert(1, &row(1), &[("title", "w2")]);
        assert_eq!(rest(&stand), Err(2));
    }
}
