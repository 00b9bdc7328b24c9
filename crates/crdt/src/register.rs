//! Last-writer-wins register that forgets nothing unlisted.
//!
//! - **Intent**: one value; the latest write counts.
//! - **Who wins**: the value with the greatest write stamp. A write that saw another stands after it
//!   whatever the clocks say, because its stamp is made greater than the one it replaces.
//! - **Tie-break**: replica id, then place in the batch.
//! - **Concurrent values**: all stay; those not shown form the journal, until a write names them.
//! - **Cost of a delete**: none. Removing names the dots; a concurrent write survives (add-wins). Values
//!   that were hidden from the author of a write or removal are *retired*: kept in the journal, never
//!   shown again.
//! - **Paper**: Johnson and Thomas, RFC 677 (1975), for the rule; Preguiça et al., "Dotted Version
//!   Vectors" (2010), for keeping siblings.

use crate::crdt::{Crdt, distinct, survives};
use crate::dot::{Dot, ReplicaId};
use crate::error::{CounterOverflow, DecodeError};
use crate::fingerprint::{Leaf, Place, Tally};
use crate::hlc::{Hlc, write_stamp};
use crate::mutant::{Mutant, active};
use crate::pack::{CHANGES_MAX, DotTable, Reader, SEQ_MAX, ValueRef, Writer};
use crate::value::Value;
use crate::vector::Covers;

/// Bytes beside the value of an object with one plain entry: table, dot, stamp, and three lengths.
const SINGLE_BYTES_MAX: usize = 48;

/// One written value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Who wrote it.
    pub dot: Dot,
    /// Its write stamp.
    pub stamp: Hlc,
    /// The value.
    pub value: Value,
}

impl Entry {
    /// Total order of values in one place: later stamps are greater, replica ids break ties.
    pub(crate) fn rank(&self) -> (Hlc, Dot) {
        if active(Mutant::AsymmetricTieBreak) {
            return (self.stamp, Dot::new(crate::ReplicaId(0), 0, 0));
        }
        (self.stamp, self.dot)
    }
}

/// A last-writer-wins register.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Register {
    /// Greatest rank first.
    entries: Vec<Entry>,
    /// Entries that are never shown again, sorted.
    retired: Vec<Dot>,
}

/// What a write, a removal or a restore does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegisterDelta {
    /// Values that the author saw and that are gone.
    pub replaces: Vec<Dot>,
    /// Values that the author's register held without showing them: hidden for good, and journaled.
    pub retires: Vec<Dot>,
    /// The new value, if there is one.
    pub write: Option<Value>,
}

impl Register {
    /// See [`crate::Object::touch`].
    #[inline]
    pub(crate) fn touch(&self) -> u8 {
        self.entries.first().map_or(0, |entry| entry.dot.seq as u8)
    }

    /// Sets `value` at time `now`: returns the write stamp and the delta.
    pub fn set(&self, value: Value, now: Hlc) -> (Hlc, RegisterDelta) {
        let stamp = write_stamp(now, self.shown().map(|shown| shown.stamp));
        let (replaces, retires) = self.seen();
        (stamp, RegisterDelta { replaces, retires, write: Some(value) })
    }

    /// [`Register::set`] where one plain entry is, of which dot and stamp are known.
    pub fn set_single(dot: Dot, stamp: Hlc, value: Value, now: Hlc) -> (Hlc, RegisterDelta) {
        let delta = RegisterDelta { replaces: vec![dot], retires: Vec::new(), write: Some(value) };
        (write_stamp(now, Some(stamp)), delta)
    }

    /// Removes the value that is shown. `None` when there is none.
    pub fn remove(&self) -> Option<RegisterDelta> {
        self.shown()?;
        let (replaces, retires) = self.seen();
        Some(RegisterDelta { replaces, retires, write: None })
    }

    /// Writes a journaled value anew, so that its entry vanishes everywhere. `None` when it is not in the
    /// journal any more.
    pub fn restore(&self, dot: Dot, now: Hlc) -> Option<(Hlc, RegisterDelta)> {
        let entry = self.journal().find(|entry| entry.dot == dot)?;
        let (stamp, mut delta) = self.set(entry.value.clone(), now);
        delta.retires.retain(|retired| *retired != dot);
        delta.replaces.push(dot);
        Some((stamp, delta))
    }

    /// The value that counts.
    pub fn shown(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| !self.is_retired(entry.dot))
    }

    /// Values that are present and neither shown nor equal to the shown one.
    pub fn journal(&self) -> impl Iterator<Item = &Entry> {
        let shown = self.shown().map(|entry| &entry.value);
        self.entries.iter().filter(move |entry| Some(&entry.value) != shown)
    }

    /// Drops a journal entry whose retention is over.
    ///
    /// SUBTLE: only retired entries go. Another one is shown again when everything above it is removed,
    /// and would then be missing here alone; the next write retires it.
    pub fn forget(&mut self, dot: Dot) -> bool {
        let Ok(at) = self.retired.binary_search(&dot) else { return false };
        self.retired.remove(at);
        self.entries.retain(|entry| entry.dot != dot);
        true
    }

    /// The register as one plain entry, which is what nearly all of them are.
    pub fn as_single(&self) -> Option<&Entry> {
        match self.entries.as_slice() {
            [entry] if self.retired.is_empty() => Some(entry),
            _ => None,
        }
    }

    /// A register that holds one plain entry.
    pub fn from_single(entry: Entry) -> Self {
        Self { entries: vec![entry], retired: Vec::new() }
    }

    /// The canonical bytes of an object that is a register with one plain entry, whose value is encoded already.
    pub(crate) fn single_to_bytes(dot: Dot, stamp: Hlc, value: &[u8]) -> Vec<u8> {
        let table = DotTable::new([(dot.replica, dot.seq)]);
        let mut writer = Writer::with_capacity(SINGLE_BYTES_MAX + value.len());
        writer.table(&table);
        writer.varint(1);
        writer.dot(dot, &table);
        writer.varint(stamp.0);
        writer.raw(value);
        writer.dots(&[], &table);
        writer.into_bytes()
    }

    /// Dot, stamp and value in the canonical bytes of an object that is a register with one plain entry, without making
    /// the object; `None` for any other bytes.
    pub fn read_single(bytes: &[u8]) -> Option<(Dot, Hlc, ValueRef<'_>)> {
        let mut reader = Reader::new(bytes);
        let expect = |reader: &mut Reader<'_>, byte| (reader.byte().ok()? == byte).then_some(());
        expect(&mut reader, 1)?;
        let replica = ReplicaId::from_bytes(reader.array().ok()?);
        let seq = reader.bounded("sequence", SEQ_MAX).ok().filter(|seq| *seq > 0)?;
        expect(&mut reader, 1)?;
        // The one replica of the table, and the greatest sequence that it names.
        expect(&mut reader, 0)?;
        let index = reader.bounded("index of a change", (CHANGES_MAX - 1).into()).ok()? as u32;
        let stamp = Hlc(reader.varint().ok()?);
        let value = reader.value_ref().ok()?;
        expect(&mut reader, 0)?;
        reader.finish().ok()?;
        Some((Dot { replica, seq, index }, stamp, value))
    }

    /// What a writer has seen: dots of the shown value and of every known value equal to it, retired or
    /// not, which is no conflict; and the dots that its register held hidden.
    fn seen(&self) -> (Vec<Dot>, Vec<Dot>) {
        let (mut equal, mut hidden) = (Vec::new(), Vec::new());
        let Some(shown) = self.shown() else { return (equal, hidden) };
        for entry in &self.entries {
            if entry.value == shown.value {
                equal.push(entry.dot);
            } else if !self.is_retired(entry.dot) {
                hidden.push(entry.dot);
            }
        }
        (equal, hidden)
    }

    fn is_retired(&self, dot: Dot) -> bool {
        self.retired.binary_search(&dot).is_ok()
    }

    fn retire(&mut self, dot: Dot) {
        if let Err(at) = self.retired.binary_search(&dot) {
            self.retired.insert(at, dot);
        }
    }

    fn holds(&self, dot: Dot) -> bool {
        self.entries.iter().any(|entry| entry.dot == dot)
    }

    fn insert(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|present| present.rank() > entry.rank());
        self.entries.insert(at, entry);
    }
}

impl Crdt for Register {
    type Delta = RegisterDelta;

    fn apply(
        &mut self,
        dot: Dot,
        stamp: Hlc,
        delta: &RegisterDelta,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), CounterOverflow> {
        tally.remove(self.tally(place));
        self.entries.retain(|entry| !delta.replaces.contains(&entry.dot));
        self.retired.retain(|dot| !delta.replaces.contains(dot));
        for dot in &delta.retires {
            if self.holds(*dot) {
                self.retire(*dot);
            }
        }
        if let Some(value) = &delta.write {
            if active(Mutant::JournalEntryLost) {
                self.entries.retain(|entry| entry.stamp > stamp);
            }
            self.insert(Entry { dot, stamp, value: value.clone() });
        }
        tally.add(self.tally(place));
        Ok(())
    }

    fn named(delta: &RegisterDelta, visit: &mut dyn FnMut(Dot)) {
        delta.replaces.iter().chain(&delta.retires).copied().for_each(visit);
    }

    fn join(&mut self, mine: &dyn Covers, other: &Self, theirs: &dyn Covers) {
        self.entries.retain(|entry| survives(&entry.dot, other.holds(entry.dot), theirs));
        for entry in &other.entries {
            if !self.holds(entry.dot) && !mine.covers(&entry.dot) {
                self.insert(entry.clone());
            }
        }
        other.retired.iter().for_each(|dot| self.retire(*dot));
        let mut retired = core::mem::take(&mut self.retired);
        retired.retain(|dot| self.holds(*dot));
        self.retired = retired;
    }

    fn tally(&self, place: Place) -> Tally {
        let mut tally = Tally { journal_entries: self.journal().count() as u64, ..Tally::default() };
        if let Some(shown) = self.shown() {
            tally.fingerprint.add(place.value(Leaf::Register, &[], shown.dot, shown.stamp, &shown.value));
        }
        tally
    }

    fn is_bottom(&self) -> bool {
        self.entries.is_empty()
    }

    fn dots(&self, visit: &mut dyn FnMut(Dot)) {
        self.entries.iter().map(|entry| entry.dot).for_each(visit);
    }

    fn encode(&self, writer: &mut Writer, table: &DotTable) {
        writer.varint(self.entries.len() as u64);
        for entry in &self.entries {
            writer.dot(entry.dot, table);
            writer.varint(entry.stamp.0);
            writer.value(&entry.value);
        }
        writer.dots(&self.retired, table);
    }

    fn decode(reader: &mut Reader<'_>, table: &DotTable) -> Result<Self, DecodeError> {
        let count = reader.count("number of values", 4)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            let at = reader.at();
            let dot = reader.dot(table)?;
            let stamp = Hlc(reader.varint()?);
            let entry = Entry { dot, stamp, value: reader.value()? };
            if entries.last().is_some_and(|last| (last.stamp, last.dot) <= (entry.stamp, entry.dot)) {
                return Err(DecodeError::NotCanonical { what: "order of values", at });
            }
            entries.push(entry);
        }
        let at = reader.at();
        let written = distinct(entries.iter().map(|entry| entry.dot));
        let written = written.ok_or(DecodeError::Invalid { what: "two values of one dot", at })?;
        let retired = reader.sorted_dots(table)?;
        if retired.iter().any(|dot| written.binary_search(dot).is_err()) {
            return Err(DecodeError::Invalid { what: "retired value", at });
        }
        Ok(Self { entries, retired })
    }

    fn encode_delta(delta: &RegisterDelta, writer: &mut Writer, table: &DotTable) {
        // One head byte for the usual cases: a write (1) that replaces one value (2) and retires none (4).
        let flags = u8::from(delta.write.is_some())
            | u8::from(delta.replaces.len() == 1) << 1
            | u8::from(!delta.retires.is_empty()) << 2;
        writer.byte(flags);
        match delta.replaces.as_slice() {
            [dot] => writer.dot(*dot, table),
            dots => writer.dots(dots, table),
        }
        if !delta.retires.is_empty() {
            writer.dots(&delta.retires, table);
        }
        if let Some(value) = &delta.write {
            writer.value(value);
        }
    }

    fn decode_delta(reader: &mut Reader<'_>, table: &DotTable) -> Result<RegisterDelta, DecodeError> {
        let at = reader.at();
        let flags = reader.bounded("flags of a register change", 7)?;
        let replaces = if flags & 2 != 0 { vec![reader.dot(table)?] } else { reader.dots(table)? };
        let retires = if flags & 4 != 0 { reader.dots(table)? } else { Vec::new() };
        if (flags & 2 == 0 && replaces.len() == 1) || (flags & 4 != 0 && retires.is_empty()) {
            return Err(DecodeError::NotCanonical { what: "flags of a register change", at });
        }
        let write = if flags & 1 != 0 { Some(reader.value()?) } else { None };
        Ok(RegisterDelta { replaces, retires, write })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Kind, Object};

    /// Reads a register with these values, by index of the change and stamp, and these retired ones.
    fn read(values: &[(u32, u64)], retired: &[u32]) -> Result<Register, DecodeError> {
        let dot = |index: &u32| Dot::new(ReplicaId(1), 1, *index);
        let entry = |(index, stamp): &(u32, u64)| Entry { dot: dot(index), stamp: Hlc(*stamp), value: Value::Null };
        let register =
            Register { entries: values.iter().map(entry).collect(), retired: retired.iter().map(dot).collect() };
        let table = DotTable::gather(|visit| register.dots(visit));
        let mut writer = Writer::new();
        register.encode(&mut writer, &table);
        Register::decode(&mut Reader::new(&writer.into_bytes()), &table)
    }

    #[test]
    fn a_dot_writes_one_value() {
        assert!(read(&[(2, 9), (1, 5)], &[1]).is_ok());
        let twice = DecodeError::Invalid { what: "two values of one dot", at: 9 };
        assert_eq!(read(&[(1, 9), (1, 5)], &[]), Err(twice));
    }

    #[test]
    fn only_a_value_that_is_there_can_be_retired() {
        assert!(read(&[(2, 9), (1, 5)], &[1, 2]).is_ok());
        assert!(matches!(read(&[(2, 9), (1, 5)], &[0]), Err(DecodeError::Invalid { what: "retired value", .. })));
    }
    #[test]
    fn a_plain_entry_is_read_from_just_the_bytes_of_its_object() {
        let values =
            [Value::Null, Value::from(7_u64), Value::from(-7_i64), Value::from("x"), Value::from(&*"y".repeat(300))];
        for value in values {
            let dot = Dot::new(ReplicaId(9), 300, 7);
            let entry = Entry { dot, stamp: Hlc(1 << 50), value: value.clone() };
            let bytes = Object::Register(Register::from_single(entry)).to_bytes();
            assert_eq!(Register::read_single(&bytes), Some((dot, Hlc(1 << 50), ValueRef::from(&value))));
            // Whatever else is made of them is read just where the object is, and as the same.
            for at in 0..bytes.len() {
                for byte in 0..=u8::MAX {
                    let mut other = bytes.clone();
                    other[at] = byte;
                    assert_same_reading(&other);
                }
                assert_same_reading(&bytes[..at]);
            }
            assert_same_reading(&[&bytes[..], &[0]].concat());
        }
        assert_same_reading(&Object::Register(Register::default()).to_bytes());
    }

    fn assert_same_reading(bytes: &[u8]) {
        let object = Object::from_bytes(Kind::Register, bytes).ok();
        let single = object.as_ref().and_then(|object| match object {
            Object::Register(register) => register.as_single(),
            _ => None,
        });
        let expected = single.map(|entry| (entry.dot, entry.stamp, ValueRef::from(&entry.value)));
        assert_eq!(Register::read_single(bytes), expected, "{bytes:02x?}");
    }
}
