//! Taking a held group back: own operations that write the values from before again.
//!
//! Nobody else has seen a held group, so nobody else's operation names anything that it wrote. What it replaced is gone
//! from the state and can only be written anew, from what its objects were before:
//!
//! | leaf | undo |
//! |---|---|
//! | register, cell of a row | the value from before, with the stamp that it had, in place of the group's. So whatever others wrote meanwhile wins or loses against it as it would have against the old value; the clock plays no part |
//! | set | elements that the group added go, by the group's dots; those that it removed are added |
//! | counter, counter in a row | the difference is added back; what others counted stays |
//! | row that it inserted | its life ends, with the group's own values |
//! | row that it deleted | a new life with the values and amounts from before: a life that ended does not come back |
//! | growing counter that it made grow | cannot be taken back, so the group is not discarded |
//!
//! A leaf that this node wrote again behind the group stays as it is, and so does an inserted or deleted row that it touched
//! again; but for what belongs to other groups that are discarded, which counts as not written. Where one of those stands
//! before this group, the value from before *it* is the one that is written.

use std::collections::{BTreeMap, BTreeSet};

use crdt::change::Envelope;
use crdt::register::RegisterDelta;
use crdt::{BatchId, Change, Content, Dot, Hlc, Key, Kind, Name, Object, Op, Place, Tally};

use super::{Before, HeldError, Range};
use crate::node::{Draft, Node};

/// A leaf below an object: the object's key, names below it, the leaf's type.
pub(super) type LeafId = (Key, Vec<Name>, Kind);

/// What own batches wrote.
#[derive(Default)]
pub(super) struct Written {
    /// Leaves, and of rows their lives (without a part); columns of rows and elements of sets (with one).
    parts: BTreeSet<(LeafId, Option<Box<[u8]>>)>,
    pub(super) rows: BTreeSet<Key>,
}

impl Written {
    fn add(&mut self, change: &Change) {
        let Content::Op(op) = &change.content else { return };
        let Some(leaf) = leaf_id(change) else { return };
        match op {
            Op::Register(_) => drop(self.parts.insert((leaf, None))),
            Op::Set(delta) => {
                let parts = delta.elements.iter().map(|element| (leaf.clone(), Some(element.element.clone())));
                self.parts.extend(parts);
            }
            Op::Row(delta) => {
                self.rows.insert(leaf.0.clone());
                if delta.insert || !delta.ends.is_empty() {
                    self.parts.insert((leaf.clone(), None));
                }
                let parts = delta.columns.iter().map(|column| (leaf.clone(), Some(column.name.as_ref().into())));
                self.parts.extend(parts);
            }
            // What is counted is taken back by counting: it commutes with everything.
            Op::GCounter(_) | Op::PnCounter(_) => {}
        }
    }

    fn has(&self, leaf: &LeafId, part: Option<&[u8]>) -> bool {
        self.parts.contains(&(leaf.clone(), part.map(Into::into)))
    }

    /// True when a column of a row was written, or the row as a whole.
    pub(super) fn has_column(&self, leaf: &LeafId, column: &[u8]) -> bool {
        self.has(leaf, Some(column)) || self.has(leaf, None)
    }
}

fn leaf_id(change: &Change) -> Option<LeafId> {
    let Content::Op(op) = &change.content else { return None };
    Some((Key::of_change(change)?, change.path.get(1..)?.to_vec(), op.kind()))
}

/// The leaf below an object, empty where there is none.
fn leaf_in(root: Option<&Object>, names: &[Name], kind: Kind) -> Object {
    let (missing, Some(mut object)) = (Object::new(kind), root) else { return Object::new(kind) };
    for (depth, name) in names.iter().enumerate() {
        let below = if depth + 1 == names.len() { kind } else { Kind::Map };
        let Object::Map(map) = object else { return missing };
        let Some(child) = map.entry(name, below) else { return missing };
        object = child;
    }
    object.clone()
}

/// An earlier group that is discarded as well, and what this node wrote between it and the one at hand.
struct Earlier<'a> {
    before: &'a BTreeMap<Key, Option<Vec<u8>>>,
    between: Written,
}

/// All that the undo of one group is made from.
pub(super) struct Undo<'a> {
    node: &'a Node,
    before: &'a BTreeMap<Key, Option<Vec<u8>>>,
    earlier: Vec<Earlier<'a>>,
    /// What was written behind the group, and counts.
    pub(super) later: Written,
    /// Batches that count no more: this group, others that are discarded, and their undos.
    cancelled: Vec<Range>,
    drafts: Vec<Draft>,
}

/// One leaf that the group changed.
pub(super) struct Leaf<'a> {
    pub(super) id: LeafId,
    path: Vec<Name>,
    pub(super) changes: Vec<&'a (Dot, Change)>,
}

impl Node {
    /// The operations that take the group of a hold back.
    pub(super) fn undo_drafts(&self, place: usize) -> Result<Vec<Draft>, HeldError> {
        let brake = &self.brakes[place];
        if brake.undo.is_some() {
            return Err(HeldError::Discarded);
        }
        let Before::Kept(before) = &brake.before else {
            return Err(brake.before.refusal().unwrap_or(HeldError::Lost));
        };
        let discarded = self.brakes.iter().filter(|brake| brake.undo.is_some());
        let cancelled =
            discarded.flat_map(|brake| [Some(brake.group), brake.undo.and_then(|undo| undo.batches)]).flatten();
        let cancelled: Vec<Range> = cancelled.chain([brake.group]).collect();
        let counts = |batch: BatchId| !cancelled.iter().any(|range| is_in(range, batch));
        let earlier = self.brakes[..place].iter().filter(|brake| brake.undo.is_some());
        let earlier = earlier.filter_map(|other| match &other.before {
            Before::Kept(before) => {
                let between = self.written(other.group.last(), Some(brake.group.first), &counts);
                Some(Earlier { before, between })
            }
            _ => None,
        });
        let earlier = earlier.collect();
        let later = self.written(brake.group.last(), None, &counts);
        let changes = self.changes_of(brake.group).ok_or(HeldError::Lost)?;
        let mut undo = Undo { node: self, before, earlier, later, cancelled, drafts: Vec::new() };
        undo.take_back(&changes)?;
        Ok(undo.drafts)
    }

    /// What own batches behind one wrote, up to another, as far as they count.
    fn written(&self, after: BatchId, until: Option<BatchId>, counts: &dyn Fn(BatchId) -> bool) -> Written {
        let mut written = Written::default();
        let from = self.place_of(after).0;
        for replica in self.replicas.iter().skip(from) {
            let Some(stream) = self.log.stream(*replica) else { continue };
            let first = if *replica == after.replica { after.seq } else { stream.floor() };
            for seq in first + 1..=stream.head() {
                let batch = BatchId { replica: *replica, seq };
                if until.is_some_and(|until| self.place_of(batch) >= self.place_of(until)) || !counts(batch) {
                    continue;
                }
                for (_, change) in self.changes_of(Range { first: batch, until: seq }).unwrap_or_default() {
                    written.add(&change);
                }
            }
        }
        written
    }

    /// The changes of own batches; `None` when they are not in the log.
    fn changes_of(&self, range: Range) -> Option<Vec<(Dot, Change)>> {
        let mut changes = Vec::new();
        for seq in range.first.seq..=range.until {
            let id = BatchId { seq, ..range.first };
            let batch = Envelope::parse(&self.log.get(id)?.bytes).and_then(|envelope| envelope.to_batch()).ok()?;
            let dots = (0..).map(|index| Dot::new(id.replica, seq, index));
            changes.extend(dots.zip(batch.changes));
        }
        Some(changes)
    }
}

fn is_in(range: &Range, batch: BatchId) -> bool {
    batch.replica == range.first.replica && (range.first.seq..=range.until).contains(&batch.seq)
}

impl Undo<'_> {
    fn take_back(&mut self, changes: &[(Dot, Change)]) -> Result<(), HeldError> {
        let mut leaves: BTreeMap<LeafId, Leaf<'_>> = BTreeMap::new();
        for entry in changes {
            let Some(id) = leaf_id(&entry.1) else { continue };
            let leaf = || Leaf { id: id.clone(), path: entry.1.path.clone(), changes: Vec::new() };
            leaves.entry(id.clone()).or_insert_with(leaf).changes.push(entry);
        }
        for leaf in leaves.values() {
            match leaf.id.2 {
                Kind::Register => self.register(leaf)?,
                Kind::Set => self.set(leaf)?,
                Kind::PnCounter => self.counter(leaf)?,
                Kind::GCounter => self.growing_counter(leaf)?,
                Kind::Row => self.row(leaf)?,
                Kind::Map => {}
            }
        }
        Ok(())
    }

    pub(super) fn is_cancelled(&self, dot: &Dot) -> bool {
        self.cancelled.iter().any(|range| is_in(range, dot.batch()))
    }

    pub(super) fn push(&mut self, leaf: &Leaf<'_>, stamp: Hlc, op: Op) {
        self.drafts.push(Draft { namespace: leaf.id.0.namespace, path: leaf.path.clone(), stamp, op });
    }

    /// The leaf as it is now.
    pub(super) fn current(&self, leaf: &Leaf<'_>) -> Object {
        self.node.leaf(leaf.id.0.namespace, &leaf.path, leaf.id.2).into_owned()
    }

    fn stored(&self, before: &BTreeMap<Key, Option<Vec<u8>>>, leaf: &Leaf<'_>) -> Result<Object, HeldError> {
        let (key, names, kind) = &leaf.id;
        let bytes = before.get(key).and_then(Option::as_deref);
        let root = bytes.map(|bytes| Object::from_bytes(key.kind, bytes)).transpose().map_err(|_| HeldError::Lost)?;
        Ok(leaf_in(root.as_ref(), names, *kind))
    }

    /// The leaf as it was before the group.
    pub(super) fn before(&self, leaf: &Leaf<'_>) -> Result<Object, HeldError> {
        self.stored(self.before, leaf)
    }

    /// What the leaf is to become: as it was before the first discarded group behind which nothing that counts was
    /// written to it.
    pub(super) fn target(&self, leaf: &Leaf<'_>, is_written: impl Fn(&Written) -> bool) -> Result<Object, HeldError> {
        let mut earlier = self.earlier.iter().filter(|earlier| earlier.before.contains_key(&leaf.id.0));
        let first = earlier.find(|earlier| !is_written(&earlier.between));
        self.stored(first.map_or(self.before, |earlier| earlier.before), leaf)
    }

    /// The leaf as the group alone made it out of what was before.
    pub(super) fn after(&self, leaf: &Leaf<'_>) -> Result<Object, HeldError> {
        let mut object = self.before(leaf)?;
        for (dot, change) in leaf.changes.iter().copied() {
            if let Content::Op(op) = &change.content {
                let (place, mut tally) = (Place::root(&[]), Tally::default());
                // A sum that leaves its range was refused when the group was committed.
                let _refused_then = object.apply(*dot, change.stamp, &[], op, place, &mut tally);
            }
        }
        Ok(object)
    }

    /// Dots of an object that count no more.
    pub(super) fn cancelled_dots(&self, object: &Object) -> Vec<Dot> {
        let mut dots = BTreeSet::new();
        object.dots(&mut |dot| {
            if self.is_cancelled(&dot) {
                dots.insert(dot);
            }
        });
        dots.into_iter().collect()
    }

    /// The stamp of what carries no value.
    pub(super) fn clock(&self) -> Hlc {
        self.node.clock()
    }

    fn register(&mut self, leaf: &Leaf<'_>) -> Result<(), HeldError> {
        if self.later.has(&leaf.id, None) {
            return Ok(());
        }
        let replaces = self.cancelled_dots(&self.current(leaf));
        let Object::Register(target) = self.target(leaf, |written| written.has(&leaf.id, None))? else { return Ok(()) };
        let write = target.shown();
        if replaces.is_empty() && write.is_none() {
            return Ok(());
        }
        let stamp = write.map_or_else(|| self.clock(), |entry| entry.stamp);
        let delta = RegisterDelta { replaces, retires: Vec::new(), write: write.map(|entry| entry.value.clone()) };
        self.push(leaf, stamp, Op::Register(delta));
        Ok(())
    }

    fn set(&mut self, leaf: &Leaf<'_>) -> Result<(), HeldError> {
        let Object::Set(current) = self.current(leaf) else { return Ok(()) };
        let mut elements: BTreeSet<&[u8]> = BTreeSet::new();
        for (_, change) in leaf.changes.iter().copied() {
            if let Content::Op(Op::Set(delta)) = &change.content {
                elements.extend(delta.elements.iter().map(|element| element.element.as_ref()));
            }
        }
        let mut undo = crdt::set::SetDelta::default();
        for element in elements {
            if self.later.has(&leaf.id, Some(element)) {
                continue;
            }
            let target = self.target(leaf, |written| written.has(&leaf.id, Some(element)))?;
            let was_there = matches!(&target, Object::Set(target) if target.contains(element));
            let removes = current.remove([element]).elements.into_iter().flat_map(|element| element.removes);
            let removes: Vec<Dot> = removes.filter(|dot| self.is_cancelled(dot)).collect();
            // One that the group added again is there, as it was.
            if was_there != current.contains(element) || (!was_there && !removes.is_empty()) {
                let element = element.into();
                undo.elements.push(crdt::set::ElementDelta { element, removes, add: was_there });
            }
        }
        undo.elements.retain(|element| element.add || !element.removes.is_empty());
        if !undo.elements.is_empty() {
            self.push(leaf, self.clock(), Op::Set(undo));
        }
        Ok(())
    }

    fn counter(&mut self, leaf: &Leaf<'_>) -> Result<(), HeldError> {
        let (Object::PnCounter(before), Object::PnCounter(after), Object::PnCounter(current)) =
            (self.before(leaf)?, self.after(leaf)?, self.current(leaf))
        else {
            return Ok(());
        };
        let removed = current.remove().unwrap_or_default().removes;
        let is_own = |seen: &crdt::chain::Seen| self.is_cancelled(&seen.birth) && self.is_cancelled(&seen.tip);
        if !before.exists() && !removed.is_empty() && removed.iter().all(is_own) {
            // Nobody else has counted in it: it goes as a whole.
            let delta = crdt::counter::CounterDelta { removes: removed, add: None };
            self.push(leaf, self.clock(), Op::PnCounter(delta));
            return Ok(());
        }
        let sums = before.value().ok().zip(after.value().ok());
        let amount = sums.and_then(|(before, after)| before.checked_sub(after)).ok_or(HeldError::Overflow)?;
        if amount != 0 {
            let delta = current.increment(self.node.replica(), amount).map_err(|_| HeldError::Overflow)?;
            self.push(leaf, self.clock(), Op::PnCounter(delta));
        }
        Ok(())
    }

    /// A growing counter that the group removed: what it had counted is counted again.
    fn growing_counter(&mut self, leaf: &Leaf<'_>) -> Result<(), HeldError> {
        let (Object::GCounter(before), Object::GCounter(after), Object::GCounter(current)) =
            (self.before(leaf)?, self.after(leaf)?, self.current(leaf))
        else {
            return Ok(());
        };
        let sums = before.value().ok().zip(after.value().ok());
        let amount = sums.and_then(|(before, after)| before.checked_sub(after)).ok_or(HeldError::Overflow)?;
        let amount =
            u64::try_from(amount).map_err(|_| if amount < 0 { HeldError::Grows } else { HeldError::Overflow })?;
        if amount > 0 {
            let delta = current.increment(self.node.replica(), amount).map_err(|_| HeldError::Overflow)?;
            self.push(leaf, self.clock(), Op::GCounter(delta));
        }
        Ok(())
    }
}
