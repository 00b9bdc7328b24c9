//! Leaves of the door: exact, because a door write names its dot and what its node had applied is known.
//!
//! A leaf at a node is a function of the batches that the node has applied: a write is there unless an applied one
//! replaced it, and what a write replaced is what its client's node showed and had applied. No clock, no stamp.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{BatchId, Kind, Name, Value, VersionVector};

use crate::history::{DoorAction, DoorCommit, DoorWrite, History, Leaf};

/// One write to a leaf.
#[derive(Clone, Debug)]
struct Entry {
    /// Number of the door write in the history.
    door: usize,
    batch: BatchId,
    content: Content,
    /// Entries of the same leaf that it replaced, by their place.
    kills: Vec<usize>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Content {
    Value(Value),
    Amount(i128),
    Element(Name),
    Nothing,
}

/// What a leaf must come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Values that are present, shown or journaled, each with the number of its youngest write in [`History::doors`].
    Values(BTreeMap<Value, usize>),
    /// The amount of a counter; `None` when nothing counts.
    Count(Option<i128>),
    /// The elements of a set.
    Elements(BTreeSet<Name>),
}

/// All leaves.
#[derive(Debug, Default)]
pub struct DoorLedger {
    leaves: BTreeMap<Leaf, Vec<Entry>>,
    by_batch: BTreeMap<BatchId, usize>,
}

impl DoorLedger {
    /// Takes in an accepted door write.
    pub(super) fn commit(&mut self, number: usize, door: &DoorCommit) {
        self.by_batch.insert(door.batch, number);
        for write in door.writes.iter().filter(|write| write.leaf.kind != Kind::Row) {
            let entries = self.leaves.entry(write.leaf.clone()).or_default();
            for (content, matches) in effects(write) {
                let seen = entries.iter().enumerate().filter(|(_, entry)| door.saw.contains(entry.batch));
                let kills = seen.filter(|(_, entry)| matches.fits(entry)).map(|(at, _)| at).collect();
                entries.push(Entry { door: number, batch: door.batch, content, kills });
            }
        }
    }

    /// All leaves that anybody wrote.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.keys()
    }

    /// The newest door write with this dot, by its number in [`History::doors`].
    pub fn of_batch(&self, batch: BatchId) -> Option<usize> {
        self.by_batch.get(&batch).copied()
    }

    /// Number of writes to a leaf: what [`DoorLedger::expect`] costs.
    pub fn writes(&self, leaf: &Leaf) -> usize {
        self.leaves.get(leaf).map_or(0, Vec::len)
    }

    /// What the leaf must be at a node whose state includes `applied`.
    pub fn expect(&self, history: &History, leaf: &Leaf, applied: &VersionVector) -> Expected {
        let entries = self.leaves.get(leaf).map_or(&[][..], Vec::as_slice);
        let counts = |entry: &Entry| applied.contains(entry.batch) && !history.doors()[entry.door].void;
        let mut alive: Vec<bool> = entries.iter().map(counts).collect();
        for (at, entry) in entries.iter().enumerate() {
            // Whoever replaced something was there, even if it was itself replaced since.
            if counts(entry) {
                entry.kills.iter().for_each(|killed| alive[*killed] = false);
            }
            debug_assert!(entry.kills.iter().all(|killed| *killed < at), "a write replaces earlier ones");
        }
        let alive = entries.iter().zip(alive).filter(|(_, alive)| *alive).map(|(entry, _)| entry);
        match leaf.kind {
            Kind::GCounter | Kind::PnCounter => Expected::Count(count(alive)),
            Kind::Set => Expected::Elements(alive.filter_map(Entry::element).cloned().collect()),
            Kind::Register | Kind::Map | Kind::Row => {
                let values = alive.filter_map(|entry| Some((entry.value()?.clone(), entry.door)));
                Expected::Values(values.collect())
            }
        }
    }

    /// True when somebody wrote this value to this leaf, and the write was not taken back before anybody saw it.
    pub fn was_written(&self, history: &History, leaf: &Leaf, value: &Value) -> bool {
        let entries = self.leaves.get(leaf).map_or(&[][..], Vec::as_slice);
        entries.iter().any(|entry| entry.value() == Some(value) && !history.doors()[entry.door].void)
    }
}

impl Entry {
    fn value(&self) -> Option<&Value> {
        if let Content::Value(value) = &self.content { Some(value) } else { None }
    }

    fn element(&self) -> Option<&Name> {
        if let Content::Element(element) = &self.content { Some(element) } else { None }
    }
}

/// Which of the writes that its node had applied a write replaces.
enum Matches<'a> {
    Nothing,
    Everything,
    /// Writes of this value: of the shown one all that are known.
    Value(Option<&'a Value>),
    /// Writes of the shown value, and one batch's write of the restored one.
    Restored(Option<&'a Value>, &'a Value, BatchId),
    Element(&'a Name),
}

impl Matches<'_> {
    fn fits(&self, entry: &Entry) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => entry.content != Content::Nothing,
            Self::Value(value) => value.is_some() && entry.value() == *value,
            Self::Restored(shown, restored, from) => {
                let shown = shown.is_some() && entry.value() == *shown;
                shown || (entry.batch == *from && entry.value() == Some(restored))
            }
            Self::Element(element) => entry.element() == Some(element),
        }
    }
}

fn effects(write: &DoorWrite) -> Vec<(Content, Matches<'_>)> {
    match &write.action {
        DoorAction::Set { value, saw } => vec![(Content::Value(value.clone()), Matches::Value(saw.as_ref()))],
        DoorAction::Remove { saw } => vec![(Content::Nothing, Matches::Value(saw.as_ref()))],
        DoorAction::Restore { value, from, saw } => {
            vec![(Content::Value(value.clone()), Matches::Restored(saw.as_ref(), value, *from))]
        }
        DoorAction::Add(amount) => vec![(Content::Amount(*amount), Matches::Nothing)],
        DoorAction::RemoveCounter | DoorAction::Clear => vec![(Content::Nothing, Matches::Everything)],
        DoorAction::Include(elements) => {
            elements.iter().map(|element| (Content::Element(element.clone()), Matches::Element(element))).collect()
        }
        DoorAction::Exclude(elements) => {
            elements.iter().map(|element| (Content::Nothing, Matches::Element(element))).collect()
        }
    }
}

fn count<'a>(alive: impl Iterator<Item = &'a Entry>) -> Option<i128> {
    let amounts =
        alive.filter_map(|entry| if let Content::Amount(amount) = entry.content { Some(amount) } else { None });
    amounts.fold(None, |sum, amount| Some(sum.unwrap_or(0) + amount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Observed;
    use crdt::{Hlc, Namespace, ReplicaId};

    fn observed(history: &mut History, node: usize, applied: &VersionVector) {
        let none = VersionVector::new();
        let replica = ReplicaId(node as u128 + 1);
        let seen = Observed { replica, applied, shown: &none, received: applied, stable: None, clock: Hlc(1) };
        history.observe(node, seen);
    }

    fn vector(entries: &[(u128, u64)]) -> VersionVector {
        entries.iter().map(|(replica, seq)| (ReplicaId(*replica), *seq)).collect()
    }

    fn leaf(kind: Kind) -> Leaf {
        Leaf { namespace: Namespace(1), path: vec![b"k".as_slice().into()], kind }
    }

    fn write(history: &mut History, replica: u128, seq: u64, kind: Kind, action: DoorAction) {
        let batch = BatchId { replica: ReplicaId(replica), seq };
        history.door_commit(replica as usize - 1, batch, vec![DoorWrite { leaf: leaf(kind), action }]);
    }

    fn ledger(history: &History) -> DoorLedger {
        let mut ledger = DoorLedger::default();
        history.doors().iter().enumerate().for_each(|(number, door)| ledger.commit(number, door));
        ledger
    }

    #[test]
    fn a_register_keeps_what_nobody_saw() {
        let mut history = History::new(2);
        let set = |value: &str, saw: Option<&str>| DoorAction::Set { value: value.into(), saw: saw.map(Value::from) };
        write(&mut history, 1, 1, Kind::Register, set("a", None));
        write(&mut history, 2, 1, Kind::Register, set("b", None));
        observed(&mut history, 0, &vector(&[(1, 1), (2, 1)]));
        write(&mut history, 1, 2, Kind::Register, set("c", Some("b")));
        let ledger = ledger(&history);
        let expect = |applied| match ledger.expect(&history, &leaf(Kind::Register), &applied) {
            Expected::Values(values) => values.into_keys().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(expect(vector(&[(1, 2), (2, 1)])), vec![Value::from("a"), Value::from("c")]);
        assert_eq!(expect(vector(&[(2, 1)])), vec![Value::from("b")]);
    }

    #[test]
    fn a_removed_counter_keeps_what_the_remover_had_not_seen() {
        let mut history = History::new(2);
        write(&mut history, 1, 1, Kind::PnCounter, DoorAction::Add(5));
        write(&mut history, 2, 1, Kind::PnCounter, DoorAction::Add(-7));
        observed(&mut history, 0, &vector(&[(1, 1)]));
        write(&mut history, 1, 2, Kind::PnCounter, DoorAction::RemoveCounter);
        let ledger = ledger(&history);
        let expect = |applied| ledger.expect(&history, &leaf(Kind::PnCounter), &applied);
        assert_eq!(expect(vector(&[(1, 2), (2, 1)])), Expected::Count(Some(-7)));
        assert_eq!(expect(vector(&[(1, 2)])), Expected::Count(None));
        assert_eq!(expect(vector(&[(1, 1), (2, 1)])), Expected::Count(Some(-2)));
    }

    #[test]
    fn a_set_is_add_wins() {
        let mut history = History::new(2);
        let x: Name = b"x".as_slice().into();
        write(&mut history, 1, 1, Kind::Set, DoorAction::Include(vec![x.clone()]));
        observed(&mut history, 0, &vector(&[(1, 1)]));
        observed(&mut history, 1, &vector(&[(1, 1)]));
        write(&mut history, 1, 2, Kind::Set, DoorAction::Exclude(vec![x.clone()]));
        write(&mut history, 2, 1, Kind::Set, DoorAction::Include(vec![x.clone()]));
        let ledger = ledger(&history);
        let expect = |applied| ledger.expect(&history, &leaf(Kind::Set), &applied);
        assert_eq!(expect(vector(&[(1, 2), (2, 1)])), Expected::Elements([x].into()));
        assert_eq!(expect(vector(&[(1, 2)])), Expected::Elements([].into()));
    }
}
