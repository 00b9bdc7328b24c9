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
    /// The batch whose value it wrote anew, out of the journal.
    restores: Option<BatchId>,
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
                let restores = if let Matches::Restored(_, _, from) = matches { Some(from) } else { None };
                entries.push(Entry { door: number, batch: door.batch, content, kills, restores });
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

    /// True when a replaced value of a register may still be journaled at a node whose state includes `applied`: a write
    /// of it is there that whoever replaced it may have forgotten before.
    ///
    /// A retired value goes at each node by itself when its retention is over, and nobody can name what he has
    /// forgotten. Where a writer replaced several writes of one value, only the one that was shown to him was there for
    /// certain. It is the one whose author knew the others, if there is such a one: he retired or replaced them.
    pub fn may_linger(
        &self,
        history: &History,
        leaf: &Leaf,
        applied: &VersionVector,
        value: &Value,
        retention_ms: u64,
    ) -> bool {
        let entries = self.leaves.get(leaf).map_or(&[][..], Vec::as_slice);
        let door = |place: usize| &history.doors()[entries[place].door];
        let writes_it = |place: usize| {
            let is_it = entries[place].value() == Some(value);
            is_it && applied.contains(entries[place].batch) && !door(place).void
        };
        let is_named_for_certain = |place: usize, killer: usize| {
            let age_ms = door(killer).time_us.saturating_sub(door(place).time_us) / 1_000;
            let mut others = entries[killer].kills.iter().filter(|other| **other != place && writes_it(**other));
            age_ms < retention_ms
                || entries[killer].restores == Some(entries[place].batch)
                || others.all(|other| door(place).saw.contains(entries[*other].batch))
        };
        (0..entries.len()).filter(|place| writes_it(*place)).any(|place| {
            let counts = |killer: usize| applied.contains(entries[killer].batch) && !door(killer).void;
            let mut killers = (0..entries.len()).filter(|killer| entries[*killer].kills.contains(&place));
            !killers.any(|killer| counts(killer) && is_named_for_certain(place, killer))
        })
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
    fn only_an_equal_value_that_may_be_forgotten_lingers() {
        let mut history = History::new(3);
        let set = |value: &str, saw: Option<&str>| DoorAction::Set { value: value.into(), saw: saw.map(Value::from) };
        let restore = |saw: &str| {
            let from = BatchId { replica: ReplicaId(3), seq: 1 };
            DoorAction::Restore { value: "a".into(), from, saw: Some(saw.into()) }
        };
        // Two nodes write "a" anew without knowing of each other; the first one sees both, and replaces both.
        write(&mut history, 3, 1, Kind::Register, set("a", None));
        let start = vector(&[(3, 1)]);
        (0..2).for_each(|node| observed(&mut history, node, &start));
        write(&mut history, 1, 1, Kind::Register, restore("b"));
        write(&mut history, 2, 1, Kind::Register, restore("b"));
        let both = vector(&[(1, 1), (2, 1), (3, 1)]);
        observed(&mut history, 0, &both);
        history.at(5_000_000);
        write(&mut history, 1, 2, Kind::Register, set("c", Some("a")));
        // A single "c" that was shown to its writer was there, whatever its age.
        let second = vector(&[(1, 2), (2, 1), (3, 1)]);
        observed(&mut history, 0, &second);
        history.at(50_000_000);
        write(&mut history, 1, 3, Kind::Register, set("d", Some("c")));
        let ledger = ledger(&history);
        let lingers = |applied: &VersionVector, value: &str, retention_ms| {
            ledger.may_linger(&history, &leaf(Kind::Register), applied, &Value::from(value), retention_ms)
        };
        assert!(!lingers(&second, "a", 5_001), "whoever replaced them knew both");
        assert!(lingers(&second, "a", 5_000), "one of them was shown, the other one may be forgotten");
        assert!(!lingers(&vector(&[(1, 3), (2, 1), (3, 1)]), "c", 1_000));
        assert!(!lingers(&vector(&[(1, 1), (3, 1)]), "b", 1_000), "nobody wrote it");
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
