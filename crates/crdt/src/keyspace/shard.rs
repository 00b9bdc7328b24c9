//! One shard: a table of offsets into an arena of packed records.
//!
//! ```text
//! cell     0 | varint length, key | replica (2) | seq (6) | index (2) | stamp (8) | value
//! object   1 | varint length, key | slot in the list of objects (4)
//! ```
//! All numbers little endian. A cell costs 18 bytes beside key and value, its two length bytes, and five in
//! the table; a plain hash map of boxed entries takes three times that. A record that grows moves to the
//! end of the arena; the arena is written anew when a quarter of it is garbage.

use std::borrow::Cow;

use hashbrown::HashTable;

use super::{Interner, Located};
use crate::change::CellWrite;
use crate::dot::Dot;
use crate::fingerprint::{Fingerprint, Leaf, Place, Tally};
use crate::hlc::Hlc;
use crate::object::{Kind, Object};
use crate::pack::{Reader, ValueRef, Writer};
use crate::register::{Entry, Register};
use crate::value::Value;

/// A longer value stands as an object, so that moving records stays cheap. Its own bytes outweigh the
/// difference.
const CELL_VALUE_BYTES_MAX: usize = 1_024;
/// An arena stays below this, so that offsets fit into 32 bits; what does not fit stands as objects.
const ARENA_BYTES_MAX: usize = 1 << 31;
const TAG_CELL: u8 = 0;
const TAG_OBJECT: u8 = 1;
const CELL_FIXED_BYTES: usize = 18;

/// Objects of one shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Shard {
    /// Offsets of records, by the hash of their key.
    table: HashTable<u32>,
    arena: Vec<u8>,
    garbage_bytes: usize,
    objects: Vec<Object>,
    free: Vec<u32>,
    tally: Tally,
}

/// A record's parts, as offsets into the arena.
#[derive(Clone, Copy)]
struct Record<'a> {
    tag: u8,
    key: &'a [u8],
    /// Offset of what follows the key.
    payload_at: usize,
}

fn record(arena: &[u8], offset: u32) -> Record<'_> {
    let mut reader = Reader::new(&arena[offset as usize..]);
    let mut parse = || Some((reader.byte().ok()?, reader.bytes("key", usize::MAX).ok()?, reader.at()));
    let (tag, key, at) = parse().expect("records are written by this module alone");
    Record { tag, key, payload_at: offset as usize + at }
}

/// The fixed part of a cell.
struct CellHead {
    dot: Dot,
    stamp: Hlc,
}

fn cell_head(arena: &[u8], at: usize, interner: &Interner) -> CellHead {
    let field = |from: usize, to: usize| {
        let mut bytes = [0_u8; 8];
        bytes[..to - from].copy_from_slice(&arena[at + from..at + to]);
        u64::from_le_bytes(bytes)
    };
    let replica = interner.id(field(0, 2) as u16);
    let dot = Dot { replica, seq: field(2, 8), index: field(8, 10) as u32 };
    CellHead { dot, stamp: Hlc(field(10, 18)) }
}

fn cell_value(arena: &[u8], at: usize) -> (ValueRef<'_>, usize) {
    let mut reader = Reader::new(&arena[at + CELL_FIXED_BYTES..]);
    let value = reader.value_ref().expect("cells are written by this module alone");
    (value, reader.at())
}

fn leaf(place: Place, head: &CellHead, value: &ValueRef<'_>) -> Fingerprint {
    match value {
        ValueRef::Bytes(bytes) => place.bytes(Leaf::Register, &[], head.dot, head.stamp, bytes),
        ValueRef::Scalar(value) => place.value(Leaf::Register, &[], head.dot, head.stamp, value),
    }
}

/// Head and value of a cell as bytes. `None` when they do not fit the packed form.
fn pack_cell(dot: Dot, stamp: Hlc, number: u16, value: &ValueRef<'_>) -> Option<([u8; CELL_FIXED_BYTES], Writer)> {
    let index = u16::try_from(dot.index).ok()?;
    let mut head = [0; CELL_FIXED_BYTES];
    head[..2].copy_from_slice(&number.to_le_bytes());
    head[2..8].copy_from_slice(&dot.seq.to_le_bytes()[..6]);
    head[8..10].copy_from_slice(&index.to_le_bytes());
    head[10..].copy_from_slice(&stamp.0.to_le_bytes());
    let mut writer = Writer::new();
    match value {
        ValueRef::Bytes(bytes) if bytes.len() > CELL_VALUE_BYTES_MAX => return None,
        ValueRef::Bytes(bytes) => writer.value_bytes(bytes),
        ValueRef::Scalar(value) => writer.value(value),
    }
    Some((head, writer))
}

impl Shard {
    /// Writes a cell if that is all there is to do: the key is new, or its one value is the one replaced.
    /// Returns what changed, `None` where the change needs the object.
    pub(super) fn write_cell(
        &mut self,
        key: &[u8],
        place: Located,
        dot: Dot,
        cell: &CellWrite<'_>,
        interner: &mut Interner,
    ) -> Option<Tally> {
        let number = interner.intern(dot.replica)?;
        let head = CellHead { dot, stamp: cell.stamp };
        let mut tally = Tally::default();
        if let Some(offset) = self.find(key, place.hash) {
            let found = record(&self.arena, offset);
            if found.tag != TAG_CELL {
                return None;
            }
            let payload_at = found.payload_at;
            let present = cell_head(&self.arena, payload_at, interner);
            if cell.replaces != Some(present.dot) {
                return None;
            }
            let (fixed, writer) = pack_cell(dot, cell.stamp, number, &cell.value)?;
            let (value, value_bytes) = cell_value(&self.arena, payload_at);
            tally.fingerprint.remove(leaf(place.place, &present, &value));
            let payload = (payload_at, CELL_FIXED_BYTES + value_bytes);
            self.rewrite(key, place.hash, offset, payload, &fixed, &writer.into_bytes());
        } else {
            let (fixed, writer) = pack_cell(dot, cell.stamp, number, &cell.value)?;
            self.append(key, place.hash, &fixed, &writer.into_bytes())?;
        }
        tally.fingerprint.add(leaf(place.place, &head, &cell.value));
        self.count(tally);
        Some(tally)
    }

    /// Overwrites a cell in place where the new one is as long, else moves it to the end.
    fn rewrite(&mut self, key: &[u8], hash: u64, offset: u32, payload: (usize, usize), fixed: &[u8], value: &[u8]) {
        let (at, length) = payload;
        if length == fixed.len() + value.len() {
            self.arena[at..at + fixed.len()].copy_from_slice(fixed);
            self.arena[at + fixed.len()..at + length].copy_from_slice(value);
            return;
        }
        self.garbage_bytes += at + length - offset as usize;
        let moved = self.push(TAG_CELL, key, &[fixed, value]);
        self.redirect(hash, offset, moved);
        self.compact();
    }

    fn append(&mut self, key: &[u8], hash: u64, fixed: &[u8], value: &[u8]) -> Option<()> {
        if self.arena.len() + key.len() + value.len() + 64 > ARENA_BYTES_MAX {
            return None;
        }
        let offset = self.push(TAG_CELL, key, &[fixed, value]);
        self.enter(hash, offset);
        Some(())
    }

    fn push(&mut self, tag: u8, key: &[u8], payload: &[&[u8]]) -> u32 {
        let offset = self.arena.len();
        let length = 12 + key.len() + payload.iter().map(|part| part.len()).sum::<usize>();
        if self.arena.capacity() - offset < length {
            // Growing by an eighth instead of doubling keeps the slack at six per cent on average.
            self.arena.reserve_exact(length.max(offset / 8));
        }
        self.arena.push(tag);
        let mut number = key.len();
        while number >= 0x80 {
            self.arena.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.arena.push(number as u8);
        self.arena.extend_from_slice(key);
        payload.iter().for_each(|part| self.arena.extend_from_slice(part));
        u32::try_from(offset).expect("an arena stays below 2^31 bytes")
    }

    fn enter(&mut self, hash: u64, offset: u32) {
        let Self { table, arena, .. } = self;
        table.insert_unique(hash, offset, |offset| Place::root(record(arena, *offset).key).hash());
    }

    fn redirect(&mut self, hash: u64, from: u32, to: u32) {
        *self.table.find_mut(hash, |offset| *offset == from).expect("the record was found by this hash") = to;
    }

    fn find(&self, key: &[u8], hash: u64) -> Option<u32> {
        self.table.find(hash, |offset| record(&self.arena, *offset).key == key).copied()
    }

    fn record_bytes(&self, offset: u32) -> usize {
        let found = record(&self.arena, offset);
        let payload = match found.tag {
            TAG_CELL => CELL_FIXED_BYTES + cell_value(&self.arena, found.payload_at).1,
            _ => 4,
        };
        found.payload_at + payload - offset as usize
    }

    fn compact(&mut self) {
        if self.garbage_bytes * 4 <= self.arena.len() || self.garbage_bytes < 1_024 {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage_bytes);
        let offsets: Vec<(u32, usize)> =
            self.table.iter().map(|offset| (*offset, self.record_bytes(*offset))).collect();
        for ((from, length), entry) in offsets.into_iter().zip(self.table.iter_mut()) {
            let to = arena.len() as u32;
            arena.extend_from_slice(&self.arena[from as usize..from as usize + length]);
            *entry = to;
        }
        self.arena = arena;
        self.garbage_bytes = 0;
    }

    fn slot(&self, found: &Record<'_>) -> u32 {
        let bytes = self.arena[found.payload_at..found.payload_at + 4].try_into();
        u32::from_le_bytes(bytes.expect("four bytes were taken"))
    }

    fn unpacked(&self, found: &Record<'_>, interner: &Interner) -> Object {
        let head = cell_head(&self.arena, found.payload_at, interner);
        let value = cell_value(&self.arena, found.payload_at).0.into_owned();
        Object::Register(Register::from_single(Entry { dot: head.dot, stamp: head.stamp, value }))
    }

    /// The object under a key.
    pub(super) fn get(&self, key: &[u8], hash: u64, interner: &Interner) -> Option<Cow<'_, Object>> {
        let found = record(&self.arena, self.find(key, hash)?);
        Some(match found.tag {
            TAG_CELL => Cow::Owned(self.unpacked(&found, interner)),
            _ => Cow::Borrowed(&self.objects[self.slot(&found) as usize]),
        })
    }

    /// Makes sure that the key has an object of its own, and returns its slot.
    pub(super) fn unpack(&mut self, key: &[u8], hash: u64, kind: Kind, interner: &Interner) -> u32 {
        let offset = self.find(key, hash);
        let object = match offset.map(|offset| record(&self.arena, offset)) {
            Some(found) if found.tag == TAG_OBJECT => return self.slot(&found),
            Some(found) => self.unpacked(&found, interner),
            None => Object::new(kind),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.objects[slot as usize] = object;
                slot
            }
            None => {
                self.objects.push(object);
                (self.objects.len() - 1) as u32
            }
        };
        let garbage = offset.map_or(0, |offset| self.record_bytes(offset));
        let moved = self.push(TAG_OBJECT, key, &[&slot.to_le_bytes()]);
        match offset {
            Some(offset) => self.redirect(hash, offset, moved),
            None => self.enter(hash, moved),
        }
        self.garbage_bytes += garbage;
        slot
    }

    pub(super) fn object_mut(&mut self, slot: u32) -> &mut Object {
        &mut self.objects[slot as usize]
    }

    /// Packs the object in `slot` again, or takes it out, where it became that simple.
    pub(super) fn repack(&mut self, key: &[u8], hash: u64, slot: u32, interner: &mut Interner) {
        let object = &self.objects[slot as usize];
        let packed = match object {
            Object::Register(register) => register.as_single().and_then(|entry| {
                let number = interner.intern(entry.dot.replica)?;
                let value = match &entry.value {
                    Value::Bytes(bytes) => ValueRef::Bytes(bytes),
                    scalar => ValueRef::Scalar(scalar.clone()),
                };
                pack_cell(entry.dot, entry.stamp, number, &value)
            }),
            _ => None,
        };
        let gone = object.is_bottom();
        if !gone && packed.is_none() {
            return;
        }
        let offset = self.find(key, hash).expect("the object was entered under this key");
        self.garbage_bytes += self.record_bytes(offset);
        self.objects[slot as usize] = Object::new(Kind::Register);
        self.free.push(slot);
        match packed {
            Some((fixed, writer)) => {
                let moved = self.push(TAG_CELL, key, &[&fixed, &writer.into_bytes()]);
                self.redirect(hash, offset, moved);
            }
            None => {
                if let Ok(entry) = self.table.find_entry(hash, |present| *present == offset) {
                    entry.remove();
                }
            }
        }
        self.compact();
    }

    pub(super) fn count(&mut self, tally: Tally) {
        self.tally.add(tally);
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.tally.fingerprint
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.table.iter().map(|offset| record(&self.arena, *offset).key)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
