//! Packed fields: the smallest parts of every format.
//!
//! | field | bytes |
//! |---|---|
//! | varint | LEB128, at most 10 bytes, shortest form only |
//! | signed | zigzag, then LEB128 up to 19 bytes (128-bit sums) |
//! | bytes | varint length, then the bytes |
//! | value | one head byte: 0..=223 that many bytes follow; 224 null, 225 false, 226 true, 227 varint, 228 varint n for -1-n, 229 eight bytes of a float, 230 varint length and bytes |
//! | dot | varint `distance * table length + place in the table`, varint index; see [`DotTable`] |
//!
//! A reader checks each length against what is left before it allocates, so decoding never takes more
//! memory than a constant times its input.

use crate::dot::{Dot, ReplicaId};
use crate::error::DecodeError;
use crate::value::{Float, Integer, VALUE_BYTES_MAX, Value};

/// Greatest sequence number. 2^48 batches at a million a second last nine years; the rest of the u64
/// is room for the place in the table.
pub const SEQ_MAX: u64 = (1 << 48) - 1;
/// Most changes in one batch; larger groups are split with `more` before dots are given.
pub const CHANGES_MAX: u32 = 10_000;
/// Most replicas that one table names: 64 slots with sixteen replica ids each.
pub const REPLICAS_MAX: usize = 1_024;

/// Longest byte string whose length stands in the head byte of a value.
pub(crate) const HEAD_BYTES_MAX: usize = 223;
const HEAD_NULL: u8 = 224;
const HEAD_FALSE: u8 = 225;
const HEAD_TRUE: u8 = 226;
const HEAD_POSITIVE: u8 = 227;
const HEAD_NEGATIVE: u8 = 228;
const HEAD_FLOAT: u8 = 229;
const HEAD_LONG: u8 = 230;

/// The replicas that dots of one encoding refer to, each with the greatest sequence that occurs. A dot
/// is stored as its distance back from there: one or two bytes instead of 24.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DotTable {
    /// Apart, because most batches name the dots of one replica, and a list would cost them an allocation.
    first: Option<(ReplicaId, u64)>,
    rest: Vec<(ReplicaId, u64)>,
}

impl DotTable {
    /// A table from (replica, greatest sequence) entries, in the order in which they are encoded.
    pub fn new(entries: impl IntoIterator<Item = (ReplicaId, u64)>) -> Self {
        let mut entries = entries.into_iter();
        let mut table = Self { first: entries.next(), rest: Vec::new() };
        entries.for_each(|entry| table.rest.push(entry));
        table
    }

    /// The table of exactly the dots that `visit` names, ordered by replica id.
    pub fn gather(visit: impl FnOnce(&mut dyn FnMut(Dot))) -> Self {
        let mut entries: Vec<(ReplicaId, u64)> = Vec::new();
        visit(&mut |dot: Dot| match entries.iter_mut().find(|(replica, _)| *replica == dot.replica) {
            Some((_, base)) => *base = (*base).max(dot.seq),
            None => entries.push((dot.replica, dot.seq)),
        });
        entries.sort_unstable();
        Self::new(entries)
    }

    /// The entries in encoding order.
    pub fn entries(&self) -> impl Iterator<Item = (ReplicaId, u64)> + '_ {
        self.first.iter().chain(&self.rest).copied()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// True when no dot can be written relative to this table.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn get(&self, place: usize) -> Option<(ReplicaId, u64)> {
        if place == 0 { self.first } else { self.rest.get(place - 1).copied() }
    }

    fn place(&self, replica: ReplicaId) -> Option<usize> {
        self.entries().position(|(entry, _)| entry == replica)
    }

    /// True when a dot can be written relative to this table.
    pub fn holds(&self, dot: &Dot) -> bool {
        self.entries().any(|(replica, base)| replica == dot.replica && dot.seq <= base)
    }
}

/// Appends packed fields.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// An empty writer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An unsigned number.
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A signed 128-bit sum.
    pub fn signed(&mut self, number: i128) {
        let mut zigzag = ((number << 1) ^ (number >> 127)) as u128;
        while zigzag >= 0x80 {
            self.bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        self.bytes.push(zigzag as u8);
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A value.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.byte(HEAD_NULL),
            Value::Bool(false) => self.byte(HEAD_FALSE),
            Value::Bool(true) => self.byte(HEAD_TRUE),
            Value::Integer(number) => match u64::try_from(number.get()) {
                Ok(number) => {
                    self.byte(HEAD_POSITIVE);
                    self.varint(number);
                }
                Err(_) => {
                    self.byte(HEAD_NEGATIVE);
                    self.varint((-1 - number.get()) as u64);
                }
            },
            Value::Float(number) => {
                self.byte(HEAD_FLOAT);
                self.raw(&number.to_bits().to_be_bytes());
            }
            Value::Bytes(bytes) => self.value_bytes(bytes),
        }
    }

    /// A value that is a byte string.
    pub fn value_bytes(&mut self, bytes: &[u8]) {
        if bytes.len() <= HEAD_BYTES_MAX {
            self.byte(bytes.len() as u8);
            self.raw(bytes);
        } else {
            self.byte(HEAD_LONG);
            self.bytes(bytes);
        }
    }

    /// A dot, relative to a table that must hold it.
    pub fn dot(&mut self, dot: Dot, table: &DotTable) {
        let place = table.place(dot.replica).expect("the table was gathered over every dot that is written");
        let base = table.get(place).map_or(0, |(_, base)| base);
        let distance = base.checked_sub(dot.seq).expect("the table's sequence is the greatest");
        self.varint(distance * table.len() as u64 + place as u64);
        self.varint(dot.index.into());
    }

    /// A list of dots behind its length.
    pub fn dots(&mut self, dots: &[Dot], table: &DotTable) {
        self.varint(dots.len() as u64);
        for dot in dots {
            self.dot(*dot, table);
        }
    }

    /// A table of replicas.
    pub fn table(&mut self, table: &DotTable) {
        self.varint(table.len() as u64);
        for (replica, base) in table.entries() {
            self.raw(&replica.to_bytes());
            self.varint(base);
        }
    }
}

/// A value as it stands in its encoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueRef<'a> {
    /// Bytes, borrowed.
    Bytes(&'a [u8]),
    /// Anything else.
    Scalar(Value),
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Bytes(bytes) => Self::Bytes(bytes),
            scalar => Self::Scalar(scalar.clone()),
        }
    }
}

impl ValueRef<'_> {
    /// The value on its own.
    pub fn into_owned(self) -> Value {
        match self {
            Self::Bytes(bytes) => Value::bytes(bytes),
            Self::Scalar(value) => value,
        }
    }
}

/// Takes packed fields from bytes that anybody may have sent.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Fails unless everything was read.
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.left() == 0 { Ok(()) } else { Err(DecodeError::Trailing { at: self.at }) }
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(DecodeError::Truncated { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    /// Exactly `length` bytes, borrowed.
    #[inline]
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        let bytes = rest.get(..length).ok_or(DecodeError::Truncated { at: self.bytes.len() })?;
        self.at += length;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let at = self.at;
        self.raw(N)?.try_into().map_err(|_| DecodeError::Truncated { at })
    }

    /// An unsigned number in its shortest form.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 { Ok(first.into()) } else { self.varint_long(first) }
    }

    fn varint_long(&mut self, first: u8) -> Result<u64, DecodeError> {
        let at = self.at - 1;
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Invalid { what: "number above 64 bits", at });
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 { Err(DecodeError::NotCanonical { what: "number", at }) } else { Ok(number) };
            }
        }
        Err(DecodeError::Invalid { what: "number above 64 bits", at })
    }

    /// A number with a bound.
    #[inline]
    pub fn bounded(&mut self, what: &'static str, bound: u64) -> Result<u64, DecodeError> {
        let value = self.varint()?;
        if value > bound { Err(DecodeError::Limit { what, value, bound }) } else { Ok(value) }
    }

    /// A signed 128-bit sum.
    pub fn signed(&mut self) -> Result<i128, DecodeError> {
        let at = self.at;
        let mut zigzag = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            if shift == 126 && byte > 3 {
                break;
            }
            zigzag |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::NotCanonical { what: "sum", at });
                }
                return Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128));
            }
        }
        Err(DecodeError::Invalid { what: "sum above 128 bits", at })
    }

    /// The length of a list whose items take at least `item_bytes_min` bytes each: a length that
    /// cannot fit into what is left is refused before anything is allocated for it.
    pub fn count(&mut self, what: &'static str, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let value = self.varint()?;
        let bound = (self.left() / item_bytes_min.max(1)) as u64;
        if value > bound { Err(DecodeError::Limit { what, value, bound }) } else { Ok(value as usize) }
    }

    /// The length of a list and a mark in its lowest bit, checked like [`Reader::count`].
    pub fn flagged_count(&mut self, what: &'static str, item_bytes_min: usize) -> Result<(usize, bool), DecodeError> {
        let head = self.varint()?;
        let (value, bound) = (head / 2, (self.left() / item_bytes_min.max(1)) as u64);
        if value > bound {
            return Err(DecodeError::Limit { what, value, bound });
        }
        Ok((value as usize, head % 2 == 1))
    }

    /// Bytes behind their length, borrowed.
    #[inline]
    pub fn bytes(&mut self, what: &'static str, bound: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.bounded(what, bound as u64)?;
        self.raw(length as usize)
    }

    /// A value.
    pub fn value(&mut self) -> Result<Value, DecodeError> {
        self.value_ref().map(ValueRef::into_owned)
    }

    /// A value whose bytes stay where they are.
    #[inline]
    pub fn value_ref(&mut self) -> Result<ValueRef<'a>, DecodeError> {
        let at = self.at;
        Ok(ValueRef::Scalar(match self.byte()? {
            HEAD_NULL => Value::Null,
            HEAD_FALSE => Value::Bool(false),
            HEAD_TRUE => Value::Bool(true),
            HEAD_POSITIVE => Value::from(self.varint()?),
            HEAD_NEGATIVE => {
                let below = self.bounded("negative number", i64::MAX as u64)?;
                Value::Integer(Integer::from(-1 - below as i64))
            }
            HEAD_FLOAT => {
                let bits = u64::from_be_bytes(self.array()?);
                let float = Float::from(f64::from_bits(bits));
                if float.to_bits() != bits {
                    return Err(DecodeError::NotCanonical { what: "NaN", at });
                }
                Value::Float(float)
            }
            HEAD_LONG => {
                let bytes = self.bytes("value length", VALUE_BYTES_MAX)?;
                if bytes.len() <= HEAD_BYTES_MAX {
                    return Err(DecodeError::NotCanonical { what: "value length", at });
                }
                return Ok(ValueRef::Bytes(bytes));
            }
            length if usize::from(length) <= HEAD_BYTES_MAX => return Ok(ValueRef::Bytes(self.raw(length.into())?)),
            _ => return Err(DecodeError::Invalid { what: "value", at }),
        }))
    }

    /// A dot relative to `table`.
    #[inline]
    pub fn dot(&mut self, table: &DotTable) -> Result<Dot, DecodeError> {
        let at = self.at;
        let invalid = DecodeError::Invalid { what: "dot", at };
        let packed = self.varint()?;
        let length = table.len() as u64;
        let place = packed.checked_rem(length).ok_or(invalid)?;
        let (replica, base) = table.get(place as usize).ok_or(invalid)?;
        let seq = base.checked_sub(packed / length).filter(|seq| *seq > 0).ok_or(invalid)?;
        let index = self.bounded("index of a change", (CHANGES_MAX - 1).into())? as u32;
        Ok(Dot { replica, seq, index })
    }

    /// A list of dots behind its length, in any order.
    pub fn dots(&mut self, table: &DotTable) -> Result<Vec<Dot>, DecodeError> {
        let count = self.count("number of dots", 2)?;
        let mut dots = Vec::with_capacity(count);
        for _ in 0..count {
            dots.push(self.dot(table)?);
        }
        Ok(dots)
    }

    /// A list of dots that must stand in ascending order without doubles.
    pub fn sorted_dots(&mut self, table: &DotTable) -> Result<Vec<Dot>, DecodeError> {
        let at = self.at;
        let dots = self.dots(table)?;
        if dots.is_sorted_by(|left, right| left < right) {
            Ok(dots)
        } else {
            Err(DecodeError::NotCanonical { what: "order of dots", at })
        }
    }

    /// A table of replicas without doubles.
    pub fn table(&mut self) -> Result<DotTable, DecodeError> {
        let at = self.at;
        let count = self.count("number of replicas", ReplicaId::BYTES + 1)?;
        if count > REPLICAS_MAX {
            let (value, bound) = (count as u64, REPLICAS_MAX as u64);
            return Err(DecodeError::Limit { what: "number of replicas", value, bound });
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let replica = ReplicaId::from_bytes(self.array()?);
            entries.push((replica, self.bounded("sequence", SEQ_MAX)?));
        }
        let mut ids: Vec<ReplicaId> = entries.iter().map(|(replica, _)| *replica).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DecodeError::NotCanonical { what: "replica named twice", at });
        }
        Ok(DotTable::new(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_in_their_shortest_form() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut writer = Writer::new();
            writer.varint(number);
            let bytes = writer.into_bytes();
            assert_eq!(Reader::new(&bytes).varint(), Ok(number));
        }
        assert!(matches!(Reader::new(&[0x80, 0]).varint(), Err(DecodeError::NotCanonical { .. })));
        assert!(matches!(Reader::new(&[0xff; 11]).varint(), Err(DecodeError::Invalid { .. })));
        assert!(matches!(Reader::new(&[0x80]).varint(), Err(DecodeError::Truncated { at: 1 })));
    }

    #[test]
    fn sums_round_trip_to_both_ends() {
        for number in [0, -1, 1, 63, -64, 64, i128::from(i64::MIN), i128::MAX, i128::MIN] {
            let mut writer = Writer::new();
            writer.signed(number);
            let bytes = writer.into_bytes();
            assert_eq!(Reader::new(&bytes).signed(), Ok(number), "{number}");
        }
        assert!(Reader::new(&[0xff; 20]).signed().is_err());
    }

    #[test]
    fn values_round_trip_and_have_one_form() {
        let values = [
            Value::Null,
            Value::from(true),
            Value::from(i64::MIN),
            Value::from(u64::MAX),
            Value::from(-0.0),
            Value::bytes([7; 223]),
            Value::bytes([7; 224]),
            Value::bytes([]),
        ];
        for value in values {
            let mut writer = Writer::new();
            writer.value(&value);
            let bytes = writer.into_bytes();
            assert_eq!(Reader::new(&bytes).value(), Ok(value));
        }
        assert!(matches!(Reader::new(&[HEAD_LONG, 1, 9]).value(), Err(DecodeError::NotCanonical { .. })));
        let nan = [HEAD_FLOAT, 0xff, 0xf8, 0, 0, 0, 0, 0, 0];
        assert!(matches!(Reader::new(&nan).value(), Err(DecodeError::NotCanonical { .. })));
    }

    #[test]
    fn a_length_bomb_is_refused_before_memory_is_taken() {
        let mut writer = Writer::new();
        writer.varint(u64::MAX >> 1);
        let bytes = writer.into_bytes();
        assert!(matches!(Reader::new(&bytes).count("items", 1), Err(DecodeError::Limit { .. })));
        assert!(matches!(Reader::new(&bytes).bytes("text", 10), Err(DecodeError::Limit { .. })));
    }

    #[test]
    fn dots_are_relative_to_their_table() {
        let dots = [Dot::new(ReplicaId(1), 500, 3), Dot::new(ReplicaId(2), 7, 0), Dot::new(ReplicaId(1), 1, 0)];
        let table = DotTable::gather(|visit| dots.into_iter().for_each(visit));
        let mut writer = Writer::new();
        writer.dots(&dots, &table);
        let bytes = writer.into_bytes();
        assert_eq!(Reader::new(&bytes).dots(&table), Ok(dots.to_vec()));
        let before_the_first = [2 * 7 + 1, 0];
        assert!(Reader::new(&before_the_first).dot(&table).is_err(), "sequences start at 1");
        assert!(Reader::new(&[0, 0]).dot(&DotTable::default()).is_err(), "an empty table names nobody");
    }
}
