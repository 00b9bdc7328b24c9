//! Steps: their numbers, and how they stand on disk.
//!
//! A step's number says how far the database has come, and on which timeline. When store and database go back, the node
//! counts on from there, and a backup that was taken later on the timeline that it left may still be put back. Were the
//! numbers merely counted, such a database could show the very number that the node has come to, and would pass for its
//! own. So wherever timelines may part the numbers jump: a number is a second of the wall clock, and behind it a count
//! that begins at random. A later timeline has greater numbers, as far as clocks are right, so that the cursor tells
//! which of store and database went back.

use std::collections::{BTreeMap, BTreeSet};

use crdt::error::DecodeError;
use crdt::pack::{Reader, Writer};
use crdt::{ReplicaId, RowView};

use super::{Host, RowId, Step};
use crate::node::Node;
use crate::record::Meta;
use crate::time::Now;

/// Bits of the count. Seconds take 32, and a number must fit the signed 64 bits of the database's column; with few bits
/// two timelines that part in one second could meet.
const COUNT_BITS: u32 = 30;

impl Host {
    /// The first number of a timeline: above all numbers that were given or found.
    fn first_of_timeline(&self, wall_ms: u64, replica: ReplicaId) -> u64 {
        let last = self.next_step.max(self.cursor);
        // A clock that is centuries ahead must not use up the numbers.
        let second = (wall_ms / 1_000).min(u32::MAX.into()).max((last >> COUNT_BITS) + 1);
        let count = replica.0 as u64 & ((1 << COUNT_BITS) - 1);
        (second << COUNT_BITS) | count
    }
}

impl Node {
    /// The store or the database may have gone back: from here on steps have numbers that no other timeline has. What
    /// the cursor is compared with stays as it is, so the database may be asked before or after.
    pub(crate) fn begin_timeline(&mut self, now: Now) {
        let replica = self.replica();
        let Some(host) = &mut self.host else { return };
        host.next_step = host.first_of_timeline(now.wall_ms, replica);
        self.put_step();
    }

    pub(super) fn put_step(&mut self) {
        let Some(host) = &self.host else { return };
        let mut writer = Writer::new();
        writer.varint(host.cursor);
        writer.varint(host.next_step);
        match &host.planned {
            None => writer.byte(0),
            Some((number, Step::Delete(ids))) => {
                writer.byte(1);
                writer.varint(*number);
                writer.varint(ids.len() as u64);
                ids.iter().for_each(|id| writer.varint(*id));
            }
            Some((number, Step::Write(rows))) => {
                writer.byte(2);
                writer.varint(*number);
                writer.varint(rows.len() as u64);
                for (row, view) in rows {
                    writer.bytes(&row.to_bytes());
                    writer.bytes(&view.to_bytes());
                }
            }
        }
        self.put_meta(Meta::Step, writer.into_bytes());
    }
}

/// What a node knows of its steps.
pub(super) struct Steps {
    /// The last that the database is known to hold.
    pub(super) cursor: u64,
    /// The next one's number.
    pub(super) next_step: u64,
    /// The one that is planned.
    pub(super) planned: Option<(u64, Step)>,
}

pub(super) fn read_steps(bytes: &[u8]) -> Result<Steps, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (cursor, next_step) = (reader.varint()?, reader.varint()?);
    let step = match reader.byte()? {
        0 => return Ok(Steps { cursor, next_step, planned: None }),
        1 => {
            let number = reader.varint()?;
            let count = reader.count("number of entries", 1)?;
            let ids = (0..count).map(|_| reader.varint()).collect::<Result<_, _>>()?;
            (number, Step::Delete(ids))
        }
        _ => {
            let number = reader.varint()?;
            let mut rows = BTreeMap::new();
            for _ in 0..reader.count("number of rows", 4)? {
                let row = RowId::from_bytes(reader.bytes("bytes of a row key", 1 << 20)?)?;
                rows.insert(row, RowView::from_bytes(reader.bytes("bytes of a view", usize::MAX)?)?);
            }
            (number, Step::Write(rows))
        }
    };
    Ok(Steps { cursor, next_step, planned: Some(step) })
}

/// Ids of the outbox entries that a batch holds already.
pub(super) fn read_ids(bytes: &[u8]) -> Result<BTreeSet<u64>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut ids = BTreeSet::new();
    while reader.left() > 0 {
        ids.insert(reader.varint()?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Schema;

    /// The first number after a node has come to `cursor`.
    fn first(cursor: u64, wall_ms: u64, replica: u128) -> u64 {
        let host = Host { cursor, next_step: cursor + 1, ..Host::new(Schema::default()) };
        host.first_of_timeline(wall_ms, ReplicaId(replica))
    }

    #[test]
    fn numbers_of_two_timelines_do_not_meet() {
        const NOW_MS: u64 = 1_700_000_000_000;
        let (one, other) = (first(7, NOW_MS, 5), first(7, NOW_MS, 1 << 20));
        assert_ne!(one, other, "two timelines may part from one backup in one second");
        assert!(first(7, NOW_MS + 1_000, 0) > one.max(other), "the later one has greater numbers");
        // A clock that went back, or never was set, makes no number smaller; one that is far ahead fits the column.
        assert!(first(one, 0, 0) > one);
        assert!(i64::try_from(first(7, u64::MAX, u128::MAX)).is_ok());
    }

    #[test]
    fn ids_are_read_whole_or_not_at_all() {
        let mut writer = Writer::new();
        [7, 300].into_iter().for_each(|id| writer.varint(id));
        let bytes = writer.into_bytes();
        assert_eq!(read_ids(&bytes), Ok(BTreeSet::from([7, 300])));
        assert!(read_ids(&bytes[..bytes.len() - 1]).is_err(), "the last id is cut");
    }
}
