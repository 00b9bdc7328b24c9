//! The state of a node: every object by its key, with its digest.
//!
//! Keys are spread over [`SHARDS`] shards by a hash that is the same on every node, so two nodes can compare
//! shard by shard where they differ, and a snapshot can travel shard by shard. Nearly all objects are
//! registers with one value; those stand packed in their shard (see `shard.rs`), the others as objects.

mod shard;

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::change::{CellWrite, Change, ChangeRef, Changes, Content, Namespace};
use crate::dot::{BatchId, Dot, ReplicaId};
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Fingerprint, Place, Tally};
use crate::hlc::Hlc;
use crate::object::{Kind, KindSet, Name, Object};
use crate::pack::Reader;
use crate::set::NAME_BYTES_MAX;
use crate::vector::Covers;
use shard::Shard;

/// Number of shards. With a million keys a shard holds a thousand, about 100 kB: one chunk of a snapshot;
/// an empty node spends 150 kB on them.
pub const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 10;
/// How many changes of a batch are looked up before the first of them is applied.
pub const LOOK_AHEAD: usize = 32;

/// Names an object: site, type and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// The type.
    pub kind: Kind,
    /// Site of the network.
    pub namespace: Namespace,
    /// The name.
    pub name: Name,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: Namespace, kind: Kind, name: impl AsRef<[u8]>) -> Self {
        Self { kind, namespace, name: name.as_ref().into() }
    }

    /// The object that a change goes to.
    pub fn of_change(change: &Change) -> Option<Self> {
        let Content::Op(op) = &change.content else { return None };
        let kind = if change.path.len() == 1 { op.kind() } else { Kind::Map };
        Some(Self { kind, namespace: change.namespace, name: change.path.first()?.clone() })
    }

    /// The bytes under which the object is hashed and stored: type, namespace (varint), name.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_key(&mut bytes, self.kind, self.namespace, &self.name);
        bytes
    }

    /// The type in a key's bytes.
    pub fn kind_of(bytes: &[u8]) -> Option<Kind> {
        bytes.first().and_then(|code| Kind::from_code(*code))
    }

    /// The inverse of [`Key::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that name no object.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, namespace, name) = Self::split(bytes)?;
        Ok(Self::new(namespace, kind, name))
    }

    /// As [`Key::from_bytes`], with the name where it stands.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that name no object.
    pub fn split(bytes: &[u8]) -> Result<(Kind, Namespace, &[u8]), DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = Kind::from_code(reader.byte()?).ok_or(DecodeError::Invalid { what: "type", at: 0 })?;
        let namespace = Namespace(reader.bounded("namespace", u32::MAX.into())? as u32);
        let (value, bound) = (reader.left() as u64, NAME_BYTES_MAX as u64);
        if value > bound {
            return Err(DecodeError::Limit { what: "name length", value, bound });
        }
        Ok((kind, namespace, reader.raw(reader.left())?))
    }

    /// The shard that holds the object.
    pub fn shard(&self) -> usize {
        Located::new(&self.to_bytes()).shard
    }
}

pub(crate) fn write_key(bytes: &mut Vec<u8>, kind: Kind, namespace: Namespace, name: &[u8]) {
    bytes.reserve(name.len() + 6);
    bytes.push(kind as u8);
    let mut number = namespace.0;
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes.extend_from_slice(name);
}

/// Where a key stands: one hash serves the table, the shard and the fingerprint.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    place: Place,
    hash: u64,
    shard: usize,
}

impl Located {
    /// Where an object stands whose key has these bytes.
    pub fn new(key: &[u8]) -> Self {
        let place = Place::of_key(key);
        let hash = place.hash();
        // The table uses the lowest and the highest bits, so the shard is cut from the middle.
        Self { place, hash, shard: (hash >> 40) as usize & (SHARDS - 1) }
    }

    /// The same for all types under one name, on every node and in every build.
    pub const fn hash(self) -> u64 {
        self.hash
    }
}

/// Replica ids of packed cells as two-byte numbers, in the order in which this node met them. They never
/// leave the node.
#[derive(Clone, Debug, Default)]
struct Interner {
    ids: Vec<ReplicaId>,
}

impl Interner {
    fn intern(&mut self, replica: ReplicaId) -> Option<u16> {
        let known = self.ids.iter().position(|id| *id == replica);
        let place = known.unwrap_or_else(|| {
            self.ids.push(replica);
            self.ids.len() - 1
        });
        u16::try_from(place).ok()
    }

    fn id(&self, number: u16) -> ReplicaId {
        self.ids[usize::from(number)]
    }
}

/// Every object of a node.
#[derive(Clone, Debug)]
pub struct Keyspace {
    shards: Vec<Shard>,
    interner: Interner,
    tally: Tally,
    /// Keys of the objects that have journal entries.
    journaled: BTreeSet<Vec<u8>>,
    /// The key at hand, kept to spare an allocation a change.
    scratch: Vec<u8>,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyspace {
    /// An empty state.
    pub fn new() -> Self {
        Self {
            shards: vec![Shard::default(); SHARDS],
            interner: Interner::default(),
            tally: Tally::default(),
            journaled: BTreeSet::new(),
            scratch: Vec::new(),
        }
    }

    /// Applies the changes of a batch, which comes in causal order. A change of a kind that is unknown here does
    /// nothing, and so does one that would take a sum out of its range: every node refuses it alike.
    ///
    /// Changes go some at a time: where they go is looked up for all of them before the first is applied, so that their
    /// records come from memory side by side and not one after the other.
    ///
    /// # Errors
    /// [`DecodeError`] for a change that does not decode; those before it may be applied. Who must have all or nothing
    /// decodes the batch first.
    pub fn apply_batch(&mut self, batch: BatchId, mut changes: Changes<'_>) -> Result<(), DecodeError> {
        let dot = |index| Dot::new(batch.replica, batch.seq, index);
        if changes.left() == 1 {
            if let Some((index, change)) = changes.next()? {
                let _refused_everywhere = self.apply(dot(index), &change);
            }
            return changes.next().map(|_| ());
        }
        let mut ahead = Vec::with_capacity(LOOK_AHEAD.min(changes.left()));
        loop {
            while ahead.len() < LOOK_AHEAD
                && let Some((index, change)) = changes.next()?
            {
                let place = match &change {
                    ChangeRef::Cell(cell) => Some(self.place_of(cell)),
                    ChangeRef::Change(_) => None,
                };
                ahead.push((index, change, place));
            }
            if ahead.is_empty() {
                return Ok(());
            }
            self.look_ahead(ahead.iter().filter_map(|(_, _, place)| *place));
            for (index, change, place) in ahead.drain(..) {
                match (change, place) {
                    (ChangeRef::Cell(cell), Some(place)) => {
                        self.key_of(&cell);
                        self.write_scratch(dot(index), &cell, place);
                    }
                    (change, _) => {
                        let _refused_everywhere = self.apply_edit(dot(index), &change.into_change());
                    }
                }
            }
        }
    }

    /// Asks for the records of these places, so that they come from memory side by side and not one after the other. Of
    /// use for up to [`LOOK_AHEAD`] of them, right before they are read or written.
    pub fn look_ahead(&self, places: impl Iterator<Item = Located> + Clone) {
        // Loops of their own: they must be short enough for the processor to have much of them under way at once.
        let records = places.clone().fold(0, |bits, place| bits ^ self.shards[place.shard].touch(place.hash));
        let objects = places.fold(0, |bits, place| bits ^ self.shards[place.shard].touch_object(place.hash));
        core::hint::black_box(records ^ objects);
    }

    /// Applies one change of a batch in causal order; see [`Keyspace::apply_change`].
    ///
    /// # Errors
    /// [`CounterOverflow`] when a sum leaves its range; the state is as before.
    pub fn apply(&mut self, dot: Dot, change: &ChangeRef<'_>) -> Result<(), CounterOverflow> {
        match change {
            ChangeRef::Cell(cell) => {
                let place = self.place_of(cell);
                self.write_scratch(dot, cell, place);
                Ok(())
            }
            ChangeRef::Change(change) => self.apply_edit(dot, change),
        }
    }

    /// The cell's key becomes the one at hand.
    fn key_of(&mut self, cell: &CellWrite<'_>) {
        self.scratch.clear();
        write_key(&mut self.scratch, Kind::Register, cell.namespace, cell.name);
    }

    fn place_of(&mut self, cell: &CellWrite<'_>) -> Located {
        self.key_of(cell);
        Located::new(&self.scratch)
    }

    /// Applies one change in causal order. A change of a kind that is unknown here does nothing.
    ///
    /// # Errors
    /// [`CounterOverflow`] when a sum leaves its range; the state is as before.
    pub fn apply_change(&mut self, dot: Dot, change: &Change) -> Result<(), CounterOverflow> {
        match CellWrite::of_change(change) {
            Some(cell) => {
                let place = self.place_of(&cell);
                self.write_scratch(dot, &cell, place);
                Ok(())
            }
            None => self.apply_edit(dot, change),
        }
    }

    /// Applies one change to its object, which is unpacked for that.
    fn apply_edit(&mut self, dot: Dot, change: &Change) -> Result<(), CounterOverflow> {
        let Content::Op(op) = &change.content else { return Ok(()) };
        let Some((name, rest)) = change.path.split_first() else { return Ok(()) };
        let kind = if rest.is_empty() { op.kind() } else { Kind::Map };
        let mut key = core::mem::take(&mut self.scratch);
        key.clear();
        write_key(&mut key, kind, change.namespace, name);
        let result = self.apply_at(&key, Located::new(&key), dot, change);
        self.scratch = key;
        result
    }

    /// As [`Keyspace::apply_change`], for a change that goes to the object whose key and place these are.
    ///
    /// # Errors
    /// [`CounterOverflow`] when a sum leaves its range; the state is as before.
    pub fn apply_at(&mut self, key: &[u8], place: Located, dot: Dot, change: &Change) -> Result<(), CounterOverflow> {
        let Content::Op(op) = &change.content else { return Ok(()) };
        let (Some(kind), [_, rest @ ..]) = (Key::kind_of(key), change.path.as_slice()) else { return Ok(()) };
        self.edit(key, place, kind, |object, tally| object.apply(dot, change.stamp, rest, op, place.place, tally))
    }

    /// Writes the cell whose key is at hand.
    fn write_scratch(&mut self, dot: Dot, cell: &CellWrite<'_>, place: Located) {
        let key = core::mem::take(&mut self.scratch);
        self.write_cell(&key, place, dot, cell);
        self.scratch = key;
    }

    /// Writes a cell whose key and place are known, in causal order.
    pub fn write_cell(&mut self, key: &[u8], place: Located, dot: Dot, cell: &CellWrite<'_>) {
        let written = self.shards[place.shard].write_cell(key, place, dot, cell, &mut self.interner);
        if let Some(tally) = written {
            self.tally.add(tally);
            return;
        }
        // Not the plain case: a concurrent value, or an object that is not packed. A register has no sum to refuse.
        let _never_refused = self.apply_edit(dot, &ChangeRef::Cell(cell.clone()).into_change());
    }

    /// Changes one object and keeps the figures true. The closure either counts into the tally what it
    /// changed, or leaves the object as it was.
    fn edit<E>(
        &mut self,
        key: &[u8],
        place: Located,
        kind: Kind,
        change: impl FnOnce(&mut Object, &mut Tally) -> Result<(), E>,
    ) -> Result<(), E> {
        let shard = &mut self.shards[place.shard];
        let slot = shard.unpack(key, place.hash, kind, &self.interner);
        let mut tally = Tally::default();
        let result = change(shard.object_mut(slot), &mut tally);
        if tally.journal_entries != 0 {
            if shard.object_mut(slot).tally(place.place).journal_entries == 0 {
                self.journaled.remove(key);
            } else if !self.journaled.contains(key) {
                self.journaled.insert(key.to_vec());
            }
        }
        shard.repack(key, place.hash, slot, &mut self.interner);
        shard.count(tally);
        self.tally.add(tally);
        result
    }

    /// Changes one object in a way that its own methods do not count, and counts it anew: O(object).
    fn edit_counted(&mut self, key: &Key, change: impl FnOnce(&mut Object)) {
        let bytes = key.to_bytes();
        let place = Located::new(&bytes);
        let edited: Result<(), core::convert::Infallible> = self.edit(&bytes, place, key.kind, |object, tally| {
            tally.remove(object.tally(place.place));
            change(object);
            tally.add(object.tally(place.place));
            Ok(())
        });
        match edited {
            Ok(()) => {}
        }
    }

    /// The object under a key's bytes, in canonical bytes: those of [`Object::to_bytes`], without making the object.
    pub fn object_bytes(&self, key: &[u8], place: Located) -> Option<Vec<u8>> {
        self.shards[place.shard].object_bytes(key, place.hash, &self.interner)
    }

    /// Types of the objects under a name, whether they show something or not.
    pub fn kinds(&self, namespace: Namespace, name: &[u8]) -> KindSet {
        let mut key = Vec::new();
        write_key(&mut key, Kind::ALL[0], namespace, name);
        let place = Located::new(&key);
        self.shards[place.shard].kinds(&key, place.hash)
    }

    /// Dot and stamp of a register's one value; `None` where nothing is there, or more than that.
    pub fn single(&self, key: &Key) -> Option<(Dot, Hlc)> {
        let bytes = key.to_bytes();
        let place = Located::new(&bytes);
        self.shards[place.shard].single(&bytes, place.hash, &self.interner)
    }

    /// The object under `key`.
    pub fn object(&self, key: &Key) -> Option<Cow<'_, Object>> {
        let bytes = key.to_bytes();
        let place = Located::new(&bytes);
        self.shards[place.shard].get(&bytes, place.hash, &self.interner)
    }

    /// Puts an object as it was stored or as a snapshot brought it, in place of whatever is there.
    pub fn load(&mut self, key: &Key, object: Object) {
        self.edit_counted(key, |present| *present = object);
    }

    /// Takes an object out altogether.
    pub fn remove(&mut self, key: &Key) {
        self.edit_counted(key, |present| *present = Object::new(key.kind));
    }

    /// Joins another node's object, whose past is `theirs`, into the one here, whose past is `mine`. A key
    /// that the other node lacks is joined with an empty object of its type.
    pub fn join(&mut self, key: &Key, other: &Object, mine: &dyn Covers, theirs: &dyn Covers) {
        self.edit_counted(key, |present| present.join(mine, other, theirs));
    }

    /// Drops a journal entry of the object whose retention is over; true when it went.
    pub fn forget(&mut self, key: &Key, path: &[Name], dot: Dot) -> bool {
        let mut gone = false;
        self.edit_counted(key, |object| gone = object.forget(path, dot));
        gone
    }

    /// Drops what no longer counts anywhere in the object: only once the removals are stable. Returns how
    /// many remains went.
    pub fn collect(&mut self, key: &Key) -> usize {
        let mut collected = 0;
        self.edit_counted(key, |object| collected = object.collect());
        collected
    }

    /// Keys of one shard, in the order of their bytes.
    pub fn shard_keys(&self, shard: usize) -> Vec<Key> {
        self.shard_key_bytes(shard).into_iter().filter_map(|key| Key::from_bytes(key).ok()).collect()
    }

    /// The bytes of the keys of one shard, in order.
    pub fn shard_key_bytes(&self, shard: usize) -> Vec<&[u8]> {
        let mut keys: Vec<&[u8]> = self.shards[shard].keys().collect();
        keys.sort_unstable();
        keys
    }

    /// All keys, in the order of shards and inside a shard in that of their bytes.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..SHARDS).flat_map(|shard| self.shard_keys(shard))
    }

    /// Keys of the objects with journal entries, in the order of their bytes.
    pub fn journaled(&self) -> impl Iterator<Item = Key> + '_ {
        self.journaled.iter().filter_map(|key| Key::from_bytes(key).ok())
    }

    /// Values in the journal.
    pub fn journal_entries(&self) -> u64 {
        self.tally.journal_entries
    }

    /// Digest of everything that is shown. O(1): it is kept up to date.
    pub fn fingerprint(&self) -> Fingerprint {
        self.tally.fingerprint
    }

    /// Digest of one shard.
    pub fn shard_fingerprint(&self, shard: usize) -> Fingerprint {
        self.shards[shard].fingerprint()
    }

    /// Number of objects, also those of which only remains are left.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    /// True when there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Figures counted from scratch, for tests and for the audit's own check.
    pub fn recount(&self) -> Tally {
        let mut tally = Tally::default();
        for key in self.keys() {
            if let Some(object) = self.object(&key) {
                tally.add(object.tally(Located::new(&key.to_bytes()).place));
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests;
