//! Digest of what is shown, kept up to date change by change.
//!
//! Every shown leaf (a register's value, an element's dot, a cell, a life, a counter's share) has a
//! 128-bit hash; a fingerprint is their sum modulo 2^128 (an AdHash: Bellare and Micciancio, 1997), so
//! one change costs two hashes however many keys there are, and order never matters. The hash is
//! XXH3, which is fast and not cryptographic: members trust each other (see the threat model), and two
//! states that differ by accident collide with probability 2^-128.

use core::fmt;

use xxhash_rust::xxh3::xxh3_128;

use crate::dot::Dot;
use crate::hlc::Hlc;
use crate::value::Value;

/// A sum of leaf hashes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// Adds a part that is now shown.
    pub const fn add(&mut self, part: Self) {
        self.0 = self.0.wrapping_add(part.0);
    }

    /// Takes a part away that is no longer shown.
    pub const fn remove(&mut self, part: Self) {
        self.0 = self.0.wrapping_sub(part.0);
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a change did to the figures that are kept of a whole state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Sum over the shown leaves.
    pub fingerprint: Fingerprint,
    /// Values in the journal.
    pub journal_entries: u64,
}

impl Tally {
    /// Adds what `other` counted.
    pub const fn add(&mut self, other: Self) {
        self.fingerprint.add(other.fingerprint);
        self.journal_entries = self.journal_entries.wrapping_add(other.journal_entries);
    }

    /// Takes away what `other` counted. Wraps in between; a whole before and after is exact.
    pub const fn remove(&mut self, other: Self) {
        self.fingerprint.remove(other.fingerprint);
        self.journal_entries = self.journal_entries.wrapping_sub(other.journal_entries);
    }
}

/// The type stands in the highest byte of a place, and the lower half is the hash.
const KIND_SHIFT: u32 = 120;

/// Where a leaf stands: a hash of namespace, path and kind, under which leaves are hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(u128);

impl Place {
    /// The place of some bytes. That of a key is another one: [`Place::of_key`].
    pub fn root(name: &[u8]) -> Self {
        Self(xxh3_128(name))
    }

    /// The place of an object by the bytes of its key, the first of which is its type. [`Place::hash`] is the same for
    /// every type under one name: what a client looks for side by side stands side by side.
    pub fn of_key(key: &[u8]) -> Self {
        let (kind, name) = key.split_first().map_or((0, key), |(kind, name)| (*kind, name));
        Self(xxh3_128(name) ^ u128::from(kind) << KIND_SHIFT)
    }

    /// A hash that is the same on every node and in every build; shards are cut by it.
    pub const fn hash(self) -> u64 {
        self.0 as u64
    }

    /// A place inside this one.
    pub fn child(self, kind: u8, name: &[u8]) -> Self {
        let mut buffer = Buffer::new(self, kind);
        buffer.extend(name);
        Self(buffer.finish().0)
    }

    /// The leaf of one dot, without a value: a life, or an element of a set.
    pub fn dot(self, tag: Leaf, name: &[u8], dot: Dot) -> Fingerprint {
        let mut buffer = Buffer::new(self, tag as u8);
        buffer.dot(dot);
        buffer.extend(name);
        buffer.finish()
    }

    /// The leaf of a value.
    pub fn value(self, tag: Leaf, name: &[u8], dot: Dot, time: Hlc, value: &Value) -> Fingerprint {
        match value {
            Value::Bytes(bytes) => self.bytes(tag, name, dot, time, bytes),
            Value::Null => self.scalar(tag, name, dot, time, 0, &[]),
            Value::Bool(value) => self.scalar(tag, name, dot, time, 1, &[u8::from(*value)]),
            Value::Integer(value) => self.scalar(tag, name, dot, time, 2, &value.get().to_be_bytes()),
            Value::Float(value) => self.scalar(tag, name, dot, time, 3, &value.to_bits().to_be_bytes()),
        }
    }

    /// The leaf of a byte string, as [`Place::value`] has it.
    pub fn bytes(self, tag: Leaf, name: &[u8], dot: Dot, time: Hlc, bytes: &[u8]) -> Fingerprint {
        self.scalar(tag, name, dot, time, 4, bytes)
    }

    fn scalar(self, tag: Leaf, name: &[u8], dot: Dot, time: Hlc, kind: u8, payload: &[u8]) -> Fingerprint {
        let mut buffer = Buffer::new(self, tag as u8);
        buffer.dot(dot);
        buffer.fixed(time.0.to_be_bytes());
        buffer.fixed([kind]);
        // The name's length keeps (name, payload) apart from another split of the same bytes.
        buffer.fixed((name.len() as u32).to_be_bytes());
        buffer.extend(name);
        buffer.extend(payload);
        buffer.finish()
    }

    /// The leaf of a replica's share in a counter.
    pub fn share(self, name: &[u8], birth: Dot, share: i128) -> Fingerprint {
        let mut buffer = Buffer::new(self, Leaf::Share as u8);
        buffer.dot(birth);
        buffer.fixed(share.to_be_bytes());
        buffer.extend(name);
        buffer.finish()
    }
}

/// Which kind of leaf is hashed, so that no two kinds can be taken for each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Leaf {
    /// The value of a register.
    Register = 1,
    /// An element of a set.
    Element = 2,
    /// A life of a row.
    Life = 3,
    /// A cell of a row.
    Cell = 4,
    /// A replica's share in a counter.
    Share = 5,
}

/// Collects the fields of one leaf on the stack; a part that is too long is hashed on its own first.
struct Buffer {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl Buffer {
    /// XXH3 is fastest up to 240 bytes, and this is enough for a cell of 100 bytes.
    const CAPACITY: usize = 240;

    #[inline(always)]
    fn new(place: Place, tag: u8) -> Self {
        let mut buffer = Self { bytes: [0; Self::CAPACITY], length: 0 };
        buffer.fixed(place.0.to_be_bytes());
        buffer.fixed([tag]);
        buffer
    }

    #[inline(always)]
    fn dot(&mut self, dot: Dot) {
        self.fixed(dot.replica.to_bytes());
        self.fixed(dot.seq.to_be_bytes());
        self.fixed(dot.index.to_be_bytes());
    }

    /// A field whose length is known when this is compiled: a few stores, which a call to copy would outweigh.
    #[inline(always)]
    fn fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.length..self.length + N].copy_from_slice(&bytes);
        self.length += N;
    }

    #[inline(always)]
    fn extend(&mut self, bytes: &[u8]) {
        // 80 bytes are kept free for the fixed fields that may follow a name.
        if bytes.len() + self.length + 80 > Self::CAPACITY && bytes.len() > 16 {
            self.fixed(xxh3_128(bytes).to_be_bytes());
            self.fixed((bytes.len() as u64).to_be_bytes());
            return;
        }
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn finish(&self) -> Fingerprint {
        Fingerprint(xxh3_128(&self.bytes[..self.length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dot::ReplicaId;

    const DOT: Dot = Dot::new(ReplicaId(1), 2, 3);

    #[test]
    fn every_field_counts() {
        let place = Place::root(b"key");
        let value = Value::from("v");
        let base = place.value(Leaf::Cell, b"title", DOT, Hlc(9), &value);
        let others = [
            Place::root(b"kez").value(Leaf::Cell, b"title", DOT, Hlc(9), &value),
            place.value(Leaf::Register, b"title", DOT, Hlc(9), &value),
            place.value(Leaf::Cell, b"titl", DOT, Hlc(9), &Value::from("ev")),
            place.value(Leaf::Cell, b"title", Dot::new(ReplicaId(1), 2, 4), Hlc(9), &value),
            place.value(Leaf::Cell, b"title", DOT, Hlc(8), &value),
            place.value(Leaf::Cell, b"title", DOT, Hlc(9), &Value::from("w")),
            place.value(Leaf::Cell, b"title", DOT, Hlc(9), &Value::Null),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn names_and_values_of_any_length_fit() {
        let place = Place::root(b"key");
        for length in [0, 16, 17, 100, 239, 240, 241, 100_000] {
            let long = vec![b'x'; length];
            let part = place.value(Leaf::Cell, &long, DOT, Hlc(1), &Value::bytes(&long));
            assert_ne!(part, place.value(Leaf::Cell, &long, DOT, Hlc(1), &Value::bytes([&long[..], b"y"].concat())));
            place.dot(Leaf::Element, &long, DOT);
            place.share(&long, DOT, -1);
        }
    }

    #[test]
    fn sums_do_not_depend_on_order_and_can_be_undone() {
        let place = Place::root(b"key");
        let parts: Vec<Fingerprint> = (0..5).map(|n| place.share(b"", DOT, n)).collect();
        let mut forwards = Fingerprint::default();
        parts.iter().for_each(|part| forwards.add(*part));
        let mut backwards = Fingerprint::default();
        parts.iter().rev().for_each(|part| backwards.add(*part));
        assert_eq!(forwards, backwards);
        parts.iter().for_each(|part| forwards.remove(*part));
        assert_eq!(forwards, Fingerprint::default());
    }
}
