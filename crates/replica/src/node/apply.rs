//! Applying: in causal order, one group of batches after the other, round robin over the origins.

use std::collections::BTreeSet;

use crdt::change::Envelope;
use crdt::counter::CounterDelta;
use crdt::mutant::{Mutant, active};
use crdt::{
    BatchId, CellWrite, Change, ChangeRef, Content, Dot, Hlc, Key, Kind, LOOK_AHEAD, Located, Object, Op, PartName,
    ReplicaId, part,
};
use hashbrown::HashTable;

use super::{Hold, Node, Then};
use crate::effect::Report;
use crate::host::RowId;
use crate::message::write_vector;
use crate::record::{Meta, RecordKey};
use crate::time::Now;

/// Batches of one replica that belong together.
#[derive(Clone, Copy, Debug)]
struct Group {
    first: BatchId,
    /// Sequence of the last.
    until: u64,
}

/// What the changes of one batch touched.
#[derive(Debug, Default)]
pub(super) struct Absorbed {
    touched: Touched,
    /// Objects with removed sums, whose remains wait for stability.
    remains: BTreeSet<Key>,
}

/// Objects, in the order in which they were touched first.
#[derive(Debug, Default)]
struct Touched {
    objects: Vec<TouchedObject>,
    /// Places in the list, by the hash of the key.
    index: HashTable<usize>,
}

#[derive(Debug)]
struct TouchedObject {
    key: Vec<u8>,
    place: Located,
    /// Those of its parts that are to be stored anew.
    parts: BTreeSet<PartName>,
}

impl Touched {
    fn note(&mut self, key: Vec<u8>, place: Located) -> &mut TouchedObject {
        let Self { objects, index } = self;
        let next = objects.len();
        let found = index.entry(place.hash(), |at| objects[*at].key == key, |at| objects[*at].place.hash());
        let at = *found.or_insert(next).get();
        if at == next {
            objects.push(TouchedObject { key, place, parts: BTreeSet::new() });
        }
        &mut objects[at]
    }
}

impl Node {
    /// Applies every group of batches that can be applied. With a database, one at a time: the next waits until the
    /// rows of the one before are written.
    pub(super) fn apply_ready(&mut self, now: Now) {
        while self.may_apply() {
            let Some(group) = self.next_group(now) else { return };
            self.apply_group(now, group);
        }
    }

    fn may_apply(&self) -> bool {
        let joining = self.is_joining() && !active(Mutant::ApplyDuringJoin);
        !joining && !self.rebuild && self.host_may_apply()
    }

    /// The next group, giving every origin its turn.
    fn next_group(&mut self, now: Now) -> Option<Group> {
        if let Some((replica, changes)) = self.turn
            && changes < self.setup.limits.origin_turn_changes
            && let Some(group) = self.ready_group(now, replica)
        {
            return Some(group);
        }
        let last = self.turn.map(|(replica, _)| replica);
        let waiting = self.log.streams().filter(|(replica, stream)| stream.head() > self.applied.seq(*replica));
        let waiting: Vec<ReplicaId> = waiting.map(|(replica, _)| replica).collect();
        let (before, after): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|replica| Some(*replica) <= last);
        for replica in after.into_iter().chain(before) {
            if let Some(group) = self.ready_group(now, replica) {
                self.turn = Some((replica, 0));
                return Some(group);
            }
        }
        self.turn = None;
        None
    }

    /// The next group of this replica, if all of it is here and nothing holds it back: what one snapshot of an outbox
    /// showed becomes visible as a whole, however many batches it was split into.
    fn ready_group(&mut self, now: Now, replica: ReplicaId) -> Option<Group> {
        if self.waits_for_a_person(replica) {
            return None;
        }
        let first = BatchId { replica, seq: self.applied.seq(replica) + 1 };
        let seal = self.epoch.seals.get(&replica).copied().unwrap_or(u64::MAX);
        let received_mono_ms = self.log.get(first)?.received_mono_ms;
        let (mut until, mut hlc) = (first.seq, Hlc::ZERO);
        loop {
            let Some(logged) = self.log.get(BatchId { replica, seq: until }) else {
                if !self.is_abandoned(replica) {
                    return None;
                }
                until -= 1;
                break;
            };
            let mut context = logged.header.context.iter();
            let covered = context.all(|(other, seq)| other == replica || self.applied.seq(other) >= seq);
            if until > seal || !(covered || active(Mutant::DependencySkipped)) {
                return None;
            }
            hlc = hlc.max(logged.header.hlc);
            // Of a group that a seal cuts through, nobody has more.
            if !logged.header.more || until == seal {
                break;
            }
            until += 1;
        }
        let admitted = self.clock_admits(now, first, hlc, received_mono_ms);
        admitted.then_some(Group { first, until })
    }

    /// True when no member has more of a replica, each was heard, and its node writes under another id by now: the rest of
    /// a group was lost with a disk.
    fn is_abandoned(&self, replica: ReplicaId) -> bool {
        let rows = self.matrix.rows().map(|row| row.replicas.as_slice());
        let mut nodes = rows.chain([self.replicas.as_slice()]).filter(|used| used.contains(&replica)).peekable();
        let own = self.log.head(replica);
        self.has_heard_everybody()
            && nodes.peek().is_some()
            && nodes.all(|used| used.last() != Some(&replica))
            && self.links.values().all(|link| link.heads.get(&replica).is_none_or(|head| *head <= own))
    }

    /// True when nothing of a replica is applied until a person acts. What was logged before a fork was noticed is applied:
    /// what others wrote later may build on it.
    pub(super) fn waits_for_a_person(&self, replica: ReplicaId) -> bool {
        self.held.get(&replica).is_some_and(|(_, hold)| *hold != Hold::Forked)
    }

    fn apply_group(&mut self, now: Now, group: Group) {
        let Group { first, until } = group;
        let mut batches = Vec::new();
        for seq in first.seq..=until {
            let Some(logged) = self.log.get(BatchId { seq, ..first }) else { return };
            match Envelope::parse(&logged.bytes).and_then(|envelope| envelope.knows_all()) {
                Ok(true) => batches.push(logged.bytes.clone()),
                Ok(false) => {
                    self.hold(first, Hold::Quarantined);
                    return self.report(Report::UnknownChange { batch: first });
                }
                Err(_) => {
                    // It was checked when it came; only damage in memory or another build leads here.
                    self.hold(first, Hold::Quarantined);
                    return self.report(Report::Quarantined { batch: first });
                }
            }
        }
        self.skew_reported.remove(&first);
        for batch in &batches {
            let envelope = Envelope::parse(batch).expect("it was read just now");
            self.follow_clock(now, envelope.header.hlc);
            if let Some((_, changes)) = &mut self.turn {
                *changes += envelope.changes().left();
            }
            if active(Mutant::JournalByContext) {
                let batch = envelope.to_batch().expect("it was read just now");
                self.absorb_changes(batch.header.id, batch.changes);
            } else {
                self.absorb_envelope(&envelope);
            }
        }
        self.put_clock();
        self.shown_follows();
    }

    /// Makes the changes of a batch of another replica, which decodes, part of the state.
    fn absorb_envelope(&mut self, envelope: &Envelope<'_>) {
        let id = envelope.header.id;
        let mut absorbed = Absorbed::default();
        let mut changes = envelope.changes();
        let mut ahead: Vec<(Dot, Coming<'_>)> = Vec::new();
        loop {
            while ahead.len() < LOOK_AHEAD
                && let Some((index, change)) = changes.next().expect("it was read just now")
            {
                ahead.push((Dot::new(id.replica, id.seq, index), Coming::new(change)));
            }
            if ahead.is_empty() {
                return self.settle_absorbed(id, absorbed);
            }
            self.keyspace.look_ahead(ahead.iter().filter_map(|(_, coming)| coming.place()));
            for (dot, coming) in ahead.drain(..) {
                match coming {
                    Coming::Cell(cell, key, place) => self.absorb_cell(dot, &cell, (key, place), &mut absorbed),
                    Coming::Change(change, Some(at)) => self.absorb_change(dot, &change, at, &mut absorbed),
                    Coming::Change(_, None) => {}
                }
            }
        }
    }

    /// Makes the changes of a batch, own or not, part of the state.
    pub(super) fn absorb_changes(&mut self, batch: BatchId, mut changes: Vec<Change>) {
        if active(Mutant::JournalByContext) {
            changes.iter_mut().for_each(|change| self.name_what_is_covered(batch, change));
        }
        let mut absorbed = Absorbed::default();
        self.absorb(batch, 0, &changes, &mut absorbed);
        self.settle_absorbed(batch, absorbed);
    }

    /// Joins changes of a batch, the first of which has this index in it, into the objects, and nothing else:
    /// [`Node::settle_absorbed`] must follow before anybody looks.
    pub(super) fn absorb(&mut self, batch: BatchId, first: usize, changes: &[Change], absorbed: &mut Absorbed) {
        for (index, change) in (first..).zip(changes) {
            let dot = Dot::new(batch.replica, batch.seq, index as u32);
            match CellWrite::of_change(change) {
                Some(cell) => {
                    let key = cell.key_bytes();
                    let place = Located::new(&key);
                    self.absorb_cell(dot, &cell, (key, place), absorbed);
                }
                None => {
                    if let Some(at) = object_of(change) {
                        self.absorb_change(dot, change, at, absorbed);
                    }
                }
            }
        }
    }

    fn absorb_cell(
        &mut self,
        dot: Dot,
        cell: &CellWrite<'_>,
        (key, place): (Vec<u8>, Located),
        absorbed: &mut Absorbed,
    ) {
        self.keep_preimage(&key, place);
        self.follow_stamp(cell.stamp);
        self.keyspace.write_cell(&key, place, dot, cell);
        absorbed.touched.note(key, place);
    }

    fn absorb_change(&mut self, dot: Dot, change: &Change, (key, place): (Vec<u8>, Located), absorbed: &mut Absorbed) {
        if leaves_remains(change) {
            absorbed.remains.extend(Key::of_change(change));
        }
        self.keep_preimage(&key, place);
        self.follow_stamp(change.stamp);
        // A sum that leaves its range is refused by every node alike: the sum travels with the change.
        let _refused_everywhere = self.keyspace.apply_at(&key, place, dot, change);
        absorbed.touched.note(key, place).parts.extend(part::of_change(change));
    }

    /// All changes of a batch are absorbed: vector, records and rows follow.
    pub(super) fn settle_absorbed(&mut self, batch: BatchId, absorbed: Absorbed) {
        let Absorbed { touched, remains } = absorbed;
        self.applied.advance(batch.replica, batch.seq);
        self.put_applied();
        self.note_remains(batch, remains);
        self.population.changes(touched.objects.len());
        let mut objects = touched.objects;
        for some in objects.chunks_mut(LOOK_AHEAD) {
            self.keyspace.look_ahead(some.iter().map(|object| object.place));
            for TouchedObject { key, place, parts } in some {
                self.put_touched(core::mem::take(key), *place, parts);
            }
        }
    }

    fn put_touched(&mut self, key: Vec<u8>, place: Located, parts: &BTreeSet<PartName>) {
        match Key::kind_of(&key) {
            Some(kind) if kind.has_parts() => {
                let key = Key::from_bytes(&key).expect("it was made of a key");
                self.put_parts(&key, parts);
            }
            Some(Kind::Row) => {
                let row = Key::from_bytes(&key).expect("it was made of a key");
                self.put_object(key, place);
                self.row_changed(&row);
            }
            _ => self.put_object(key, place),
        }
    }

    /// The mutant's journal: a write takes every hidden value away that its batch's context covers.
    fn name_what_is_covered(&self, batch: BatchId, change: &mut Change) {
        let Some(logged) = self.log.get(batch) else { return };
        let context = &logged.header.context;
        let covered = |dot: Dot| {
            let BatchId { replica, seq } = dot.batch();
            context.seq(replica) >= seq || (replica == batch.replica && seq < batch.seq)
        };
        let (namespace, path) = (change.namespace, change.path.as_slice());
        match &mut change.content {
            Content::Op(Op::Register(delta)) if delta.write.is_some() => {
                let leaf = self.leaf(namespace, path, Kind::Register);
                let Object::Register(register) = &*leaf else { return };
                delta.replaces.extend(register.journal().map(|entry| entry.dot).filter(|dot| covered(*dot)));
            }
            Content::Op(Op::Row(delta)) => {
                let leaf = self.leaf(namespace, path, Kind::Row);
                let Object::Row(row) = &*leaf else { return };
                for column in delta.columns.iter_mut().filter(|column| column.write.is_some()) {
                    let hidden = row.journal().filter(|entry| entry.column == &*column.name).map(|entry| entry.dot);
                    let hidden: Vec<Dot> = hidden.filter(|dot| covered(*dot)).collect();
                    column.replaces.extend(hidden);
                }
            }
            _ => {}
        }
    }

    pub(super) fn put_applied(&mut self) {
        let mut writer = crdt::pack::Writer::new();
        write_vector(&mut writer, &self.applied);
        self.put_meta(Meta::Applied, writer.into_bytes());
    }

    pub(super) fn put_object(&mut self, key: Vec<u8>, place: Located) {
        let object = self.keyspace.object_bytes(&key, place);
        self.put(RecordKey::Object(key), object);
    }

    /// Stores parts of an object anew; those that are gone are removed.
    fn put_parts<'a>(&mut self, key: &Key, parts: impl IntoIterator<Item = &'a PartName>) {
        let object = self.keyspace.object(key);
        let part = |name: &PartName| object.as_ref().and_then(|object| object.part(name)).map(|part| part.to_bytes());
        let stored: Vec<_> = parts.into_iter().map(|name| (name.clone(), part(name))).collect();
        let key = key.to_bytes();
        for (name, bytes) in stored {
            self.put(RecordKey::Part(key.clone(), name.into_vec()), bytes);
        }
    }

    /// Names of the parts of an object as they are stored now: for [`Node::put_changed`], before the object changes.
    pub(super) fn stored_parts(&self, key: &Key) -> Vec<PartName> {
        let object = key.kind.has_parts().then(|| self.keyspace.object(key)).flatten();
        object.map_or(Vec::new(), |object| object.part_names())
    }

    /// Stores an object of which anything may have changed, after it was stored as `before` tells. O(object).
    pub(super) fn put_changed(&mut self, key: &Key, before: Vec<PartName>) {
        if key.kind.has_parts() {
            let parts: BTreeSet<PartName> = before.into_iter().chain(self.stored_parts(key)).collect();
            self.put_parts(key, &parts);
        } else {
            let key = key.to_bytes();
            let place = Located::new(&key);
            self.put_object(key, place);
        }
    }

    /// A row's state changed: its name may have, and the database may have to be told.
    pub(super) fn row_changed(&mut self, key: &Key) {
        if key.kind == Kind::Row
            && let Some(row) = RowId::from_key(key)
        {
            self.row_is_dirty(&row);
        }
    }

    /// Lets others know what the database shows, once there is nothing left to write.
    pub(crate) fn shown_follows(&mut self) {
        if self.host_shows_all() && !self.is_joining() {
            self.after_durable(Then::Shown(self.applied.clone()));
        }
    }
}

/// A change of a batch, and where a cell among them goes.
enum Coming<'a> {
    Cell(CellWrite<'a>, Vec<u8>, Located),
    Change(Box<Change>, Option<(Vec<u8>, Located)>),
}

impl<'a> Coming<'a> {
    fn new(change: ChangeRef<'a>) -> Self {
        match change {
            ChangeRef::Cell(cell) => {
                let key = cell.key_bytes();
                let place = Located::new(&key);
                Self::Cell(cell, key, place)
            }
            ChangeRef::Change(change) => {
                let at = object_of(&change);
                Self::Change(change, at)
            }
        }
    }

    fn place(&self) -> Option<Located> {
        match self {
            Self::Cell(_, _, place) => Some(*place),
            Self::Change(_, at) => at.as_ref().map(|(_, place)| *place),
        }
    }
}

/// Key and place of the object that a change goes to; `None` for a change of an unknown kind.
fn object_of(change: &Change) -> Option<(Vec<u8>, Located)> {
    let key = Key::of_change(change)?.to_bytes();
    let place = Located::new(&key);
    Some((key, place))
}

/// True for a change that removes sums: what they leave behind waits for stability.
fn leaves_remains(change: &Change) -> bool {
    let removes = |delta: &CounterDelta| !delta.removes.is_empty();
    match &change.content {
        Content::Op(Op::GCounter(delta) | Op::PnCounter(delta)) => removes(delta),
        Content::Op(Op::Row(delta)) => {
            !delta.ends.is_empty() || delta.columns.iter().any(|column| !column.removes.is_empty())
        }
        _ => false,
    }
}
