//! One shard: a table of addresses of packed records, and the blocks that hold them.
//!
//! ```text
//! cell     0 | varint length, key | replica (2) | seq (6) | index (2) | stamp (8) | value
//! object   1 | varint length, key | slot in the list of objects (4)
//! ```
//! All numbers little endian. A cell costs 18 bytes beside key and value, its two length bytes, and five in
//! the table; a plain hash map of boxed entries takes three times that. Blocks have one size, so that an
//! allocator has nothing to fragment, and nothing is copied while a shard grows. A record that outgrows its
//! place moves to the last block; the blocks are written anew when a quarter of them is garbage.

use std::borrow::Cow;

use hashbrown::HashTable;

use super::{Interner, Key, Located};
use crate::change::CellWrite;
use crate::dot::Dot;
use crate::fingerprint::{Fingerprint, Leaf, Place, Tally};
use crate::hlc::Hlc;
use crate::object::{Kind, KindSet, Object};
use crate::pack::{HEAD_BYTES_MAX, Reader, ValueRef, Writer};
use crate::register::{Entry, Register};
use crate::value::Value;

/// A longer value stands as an object: it would leave too much of a block unused, and its own bytes outweigh
/// the difference. Up to here one byte says the length.
const CELL_VALUE_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// Bytes of a block. A shard of a hundred cells has seven; half a block is unused on average. A record that
/// is longer, because its key is, has a block of its own.
const BLOCK_BYTES: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: u32 = 10;
const TAG_CELL: u8 = 0;
const TAG_OBJECT: u8 = 1;
/// A record is often longer than what comes from memory in one piece.
const LINE_BYTES: usize = 64;
const CELL_FIXED_BYTES: usize = 18;

/// Where a record begins: its block, and the offset there.
type Address = u32;

/// The blocks of a shard.
#[derive(Clone, Debug, Default)]
struct Blocks {
    blocks: Vec<Vec<u8>>,
    garbage_bytes: usize,
}

/// A record's parts.
#[derive(Clone, Copy)]
struct Record<'a> {
    tag: u8,
    key: &'a [u8],
    /// What follows the key, and everything behind it in the block.
    payload: &'a [u8],
}

impl Blocks {
    #[inline]
    fn at(&self, address: Address) -> &[u8] {
        &self.blocks[(address >> BLOCK_BITS) as usize][address as usize & (BLOCK_BYTES - 1)..]
    }

    #[inline]
    fn record(&self, address: Address) -> Record<'_> {
        let bytes = self.at(address);
        let (length, from) = match bytes[1] {
            short if short < 0x80 => (usize::from(short), 2),
            _ => {
                let mut reader = Reader::new(&bytes[1..]);
                let length = reader.varint().expect("records are written by this module alone");
                (length as usize, 1 + reader.at())
            }
        };
        let (key, payload) = bytes[from..].split_at(length);
        Record { tag: bytes[0], key, payload }
    }

    fn record_bytes(&self, address: Address) -> usize {
        let found = self.record(address);
        let payload = match found.tag {
            TAG_CELL => CELL_FIXED_BYTES + cell_value(found.payload).1,
            _ => 4,
        };
        self.at(address).len() - found.payload.len() + payload
    }

    /// The payload of a record, to be overwritten by one of the same length.
    fn payload_mut(&mut self, address: Address, key: &[u8]) -> &mut [u8] {
        let block = &mut self.blocks[(address >> BLOCK_BITS) as usize];
        let head = 1 + length_bytes(key.len()) + key.len();
        &mut block[(address as usize & (BLOCK_BYTES - 1)) + head..]
    }

    /// Appends the head of a record whose payload the caller writes next.
    fn begin(&mut self, tag: u8, key: &[u8], payload_bytes: usize) -> (Address, &mut Vec<u8>) {
        let record_bytes = 1 + length_bytes(key.len()) + key.len() + payload_bytes;
        if self.blocks.last().is_none_or(|block| block.len() + record_bytes > BLOCK_BYTES) {
            self.blocks.push(Vec::with_capacity(record_bytes.max(BLOCK_BYTES)));
        }
        let place = self.blocks.len() - 1;
        let block = &mut self.blocks[place];
        let address = (place << BLOCK_BITS) + block.len();
        block.push(tag);
        let mut number = key.len();
        while number >= 0x80 {
            block.push(number as u8 | 0x80);
            number >>= 7;
        }
        block.push(number as u8);
        block.extend_from_slice(key);
        (Address::try_from(address).expect("a shard has fewer than four million blocks"), block)
    }
}

fn length_bytes(length: usize) -> usize {
    match length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

/// The fixed part of a cell.
struct CellHead {
    dot: Dot,
    stamp: Hlc,
}

impl CellHead {
    fn read(payload: &[u8], interner: &Interner) -> Self {
        let field = |from: usize, to: usize| {
            let mut bytes = [0_u8; 8];
            bytes[..to - from].copy_from_slice(&payload[from..to]);
            u64::from_le_bytes(bytes)
        };
        let replica = interner.id(field(0, 2) as u16);
        let dot = Dot { replica, seq: field(2, 8), index: field(8, 10) as u32 };
        Self { dot, stamp: Hlc(field(10, 18)) }
    }

    /// The bytes of the fixed part. `None` when an index does not fit.
    fn pack(&self, number: u16) -> Option<[u8; CELL_FIXED_BYTES]> {
        let mut fixed = [0; CELL_FIXED_BYTES];
        fixed[..2].copy_from_slice(&number.to_le_bytes());
        fixed[2..8].copy_from_slice(&self.dot.seq.to_le_bytes()[..6]);
        fixed[8..10].copy_from_slice(&u16::try_from(self.dot.index).ok()?.to_le_bytes());
        fixed[10..].copy_from_slice(&self.stamp.0.to_le_bytes());
        Some(fixed)
    }

    fn leaf(&self, place: Place, value: &ValueRef<'_>) -> Fingerprint {
        match value {
            ValueRef::Bytes(bytes) => place.bytes(Leaf::Register, &[], self.dot, self.stamp, bytes),
            ValueRef::Scalar(value) => place.value(Leaf::Register, &[], self.dot, self.stamp, value),
        }
    }
}

/// The value behind the fixed part, and its encoded length.
fn cell_value(payload: &[u8]) -> (ValueRef<'_>, usize) {
    let mut reader = Reader::new(&payload[CELL_FIXED_BYTES..]);
    let value = reader.value_ref().expect("cells are written by this module alone");
    (value, reader.at())
}

/// A value as a cell holds it: its head and the bytes behind. `None` for one that is too long.
fn packed_value<'a>(value: &'a ValueRef<'_>, scalar: &'a mut Writer) -> Option<([u8; 1], &'a [u8])> {
    match value {
        ValueRef::Bytes(bytes) if bytes.len() > CELL_VALUE_BYTES_MAX => None,
        ValueRef::Bytes(bytes) => Some(([bytes.len() as u8], bytes)),
        ValueRef::Scalar(value) => {
            scalar.value(value);
            let (head, rest) = scalar.as_slice().split_first()?;
            Some(([*head], rest))
        }
    }
}

/// Objects of one shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Shard {
    /// Addresses of records, by the hash of their key.
    table: HashTable<Address>,
    blocks: Blocks,
    objects: Vec<Object>,
    free: Vec<u32>,
    tally: Tally,
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
        let head = CellHead { dot, stamp: cell.stamp };
        let fixed = head.pack(interner.intern(dot.replica)?)?;
        let mut scalar = Writer::new();
        let (value_head, value_rest) = packed_value(&cell.value, &mut scalar)?;
        let parts = [&fixed[..], &value_head, value_rest];
        let mut tally = Tally::default();
        let address = self.find(key, place.hash);
        // Hashed here, this keeps the processor busy while the record comes from memory.
        tally.fingerprint.add(head.leaf(place.place, &cell.value));
        if let Some(address) = address {
            let found = self.blocks.record(address);
            if found.tag != TAG_CELL {
                return None;
            }
            let present = CellHead::read(found.payload, interner);
            if cell.replaces != Some(present.dot) {
                return None;
            }
            let (value, value_bytes) = cell_value(found.payload);
            tally.fingerprint.remove(present.leaf(place.place, &value));
            self.rewrite(key, place.hash, address, CELL_FIXED_BYTES + value_bytes, parts);
        } else {
            let address = self.push(TAG_CELL, key, parts);
            self.enter(place.hash, address);
        }
        self.count(tally);
        Some(tally)
    }

    /// Overwrites a cell in place where the new one is as long, else moves it to the end.
    fn rewrite(&mut self, key: &[u8], hash: u64, address: Address, payload_bytes: usize, parts: [&[u8]; 3]) {
        if payload_bytes == parts.iter().map(|part| part.len()).sum::<usize>() {
            let mut rest = self.blocks.payload_mut(address, key);
            for part in parts {
                let (here, behind) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = behind;
            }
            return;
        }
        self.blocks.garbage_bytes += self.blocks.record_bytes(address);
        let moved = self.push(TAG_CELL, key, parts);
        self.redirect(hash, address, moved);
        self.compact();
    }

    fn push(&mut self, tag: u8, key: &[u8], parts: [&[u8]; 3]) -> Address {
        let (address, block) = self.blocks.begin(tag, key, parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| block.extend_from_slice(part));
        address
    }

    fn enter(&mut self, hash: u64, address: Address) {
        let Self { table, blocks, .. } = self;
        table.insert_unique(hash, address, |address| Place::of_key(blocks.record(*address).key).hash());
    }

    fn redirect(&mut self, hash: u64, from: Address, to: Address) {
        *self.table.find_mut(hash, |address| *address == from).expect("the record was found by this hash") = to;
    }

    /// Reads from the record that this hash most likely stands for, so that it is near when it is needed.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u8 {
        let likely = self.table.find(hash, |_| true);
        likely.map_or(0, |address| {
            let record = self.blocks.at(*address);
            record[0] ^ record.get(LINE_BYTES).copied().unwrap_or(0)
        })
    }

    /// Reads from the object behind that record, once the record is near.
    #[inline]
    pub(super) fn touch_object(&self, hash: u64) -> u8 {
        let likely = self.table.find(hash, |_| true).map(|address| self.blocks.record(*address));
        let object = likely.filter(|record| record.tag == TAG_OBJECT).map(|record| Self::slot(&record));
        object.and_then(|slot| self.objects.get(slot as usize)).map_or(0, Object::touch)
    }

    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Option<Address> {
        self.table.find(hash, |address| self.blocks.record(*address).key == key).copied()
    }

    fn compact(&mut self) {
        let total_bytes = self.blocks.blocks.len() * BLOCK_BYTES;
        if self.blocks.garbage_bytes * 4 <= total_bytes {
            return;
        }
        let old = core::mem::take(&mut self.blocks);
        for address in &mut self.table {
            let found = old.record(*address);
            let payload_bytes = old.record_bytes(*address) - (1 + length_bytes(found.key.len()) + found.key.len());
            let (moved, block) = self.blocks.begin(found.tag, found.key, payload_bytes);
            block.extend_from_slice(&found.payload[..payload_bytes]);
            *address = moved;
        }
    }

    fn slot(found: &Record<'_>) -> u32 {
        u32::from_le_bytes(found.payload[..4].try_into().expect("four bytes were taken"))
    }

    fn unpacked(found: &Record<'_>, interner: &Interner) -> Object {
        let head = CellHead::read(found.payload, interner);
        let value = cell_value(found.payload).0.into_owned();
        Object::Register(Register::from_single(Entry { dot: head.dot, stamp: head.stamp, value }))
    }

    /// The object under a key in its canonical bytes.
    pub(super) fn object_bytes(&self, key: &[u8], hash: u64, interner: &Interner) -> Option<Vec<u8>> {
        let found = self.blocks.record(self.find(key, hash)?);
        Some(match found.tag {
            TAG_CELL => {
                let head = CellHead::read(found.payload, interner);
                let (_, value_bytes) = cell_value(found.payload);
                let value = &found.payload[CELL_FIXED_BYTES..][..value_bytes];
                Register::single_to_bytes(head.dot, head.stamp, value)
            }
            _ => self.objects[Self::slot(&found) as usize].to_bytes(),
        })
    }

    /// Types of the objects whose keys differ from this one by no more than their type.
    pub(super) fn kinds(&self, key: &[u8], hash: u64) -> KindSet {
        let keys = self.table.iter_hash(hash).map(|address| self.blocks.record(*address).key);
        keys.filter(|found| found[1..] == key[1..]).filter_map(Key::kind_of).collect()
    }

    /// Dot and stamp of a cell.
    pub(super) fn single(&self, key: &[u8], hash: u64, interner: &Interner) -> Option<(Dot, Hlc)> {
        let found = self.blocks.record(self.find(key, hash)?);
        let head = (found.tag == TAG_CELL).then(|| CellHead::read(found.payload, interner))?;
        Some((head.dot, head.stamp))
    }

    /// The object under a key.
    pub(super) fn get(&self, key: &[u8], hash: u64, interner: &Interner) -> Option<Cow<'_, Object>> {
        let found = self.blocks.record(self.find(key, hash)?);
        Some(match found.tag {
            TAG_CELL => Cow::Owned(Self::unpacked(&found, interner)),
            _ => Cow::Borrowed(&self.objects[Self::slot(&found) as usize]),
        })
    }

    /// Makes sure that the key has an object of its own, and returns its slot.
    pub(super) fn unpack(&mut self, key: &[u8], hash: u64, kind: Kind, interner: &Interner) -> u32 {
        let address = self.find(key, hash);
        let object = match address.map(|address| self.blocks.record(address)) {
            Some(found) if found.tag == TAG_OBJECT => return Self::slot(&found),
            Some(found) => Self::unpacked(&found, interner),
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
        self.blocks.garbage_bytes += address.map_or(0, |address| self.blocks.record_bytes(address));
        let moved = self.push(TAG_OBJECT, key, [&slot.to_le_bytes(), &[], &[]]);
        match address {
            Some(address) => self.redirect(hash, address, moved),
            None => self.enter(hash, moved),
        }
        slot
    }

    pub(super) fn object_mut(&mut self, slot: u32) -> &mut Object {
        &mut self.objects[slot as usize]
    }

    /// Packs the object in `slot` again, or takes it out, where it became that simple.
    pub(super) fn repack(&mut self, key: &[u8], hash: u64, slot: u32, interner: &mut Interner) {
        let object = &self.objects[slot as usize];
        let single = match object {
            Object::Register(register) => register.as_single().cloned(),
            _ => None,
        };
        let gone = object.is_bottom();
        let packed = single.and_then(|entry| {
            let head = CellHead { dot: entry.dot, stamp: entry.stamp };
            let fixed = head.pack(interner.intern(entry.dot.replica)?)?;
            let value = match entry.value {
                Value::Bytes(bytes) if bytes.len() > CELL_VALUE_BYTES_MAX => return None,
                value => value,
            };
            let mut writer = Writer::new();
            writer.value(&value);
            Some((fixed, writer))
        });
        if !gone && packed.is_none() {
            return;
        }
        let address = self.find(key, hash).expect("the object was entered under this key");
        self.blocks.garbage_bytes += self.blocks.record_bytes(address);
        self.objects[slot as usize] = Object::new(Kind::Register);
        self.free.push(slot);
        match packed {
            Some((fixed, writer)) => {
                let moved = self.push(TAG_CELL, key, [&fixed, writer.as_slice(), &[]]);
                self.redirect(hash, address, moved);
            }
            None => {
                if let Ok(entry) = self.table.find_entry(hash, |present| *present == address) {
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
        self.table.iter().map(|address| self.blocks.record(*address).key)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
