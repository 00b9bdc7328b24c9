//! Records of held groups: one for each, and parts with what its objects were before.
//!
//! ```text
//! Brake(first batch):       last sequence, wall clock at the commit, parts, what is kept, mark [discarded: replica and
//!                           sequence it goes with, mark [undo: replica, first, last]]
//!                           namespace, type, mark [table], objects touched, objects there
//! Preimage(first, part):    for each object: key, mark [bytes]
//! ```

use std::collections::BTreeMap;

use crdt::error::DecodeError;
use crdt::pack::{Reader, SEQ_MAX, Writer};
use crdt::{BatchId, Key, Kind, Namespace, Object};

use super::{Before, Blast, BlastEnd, Brake, Range, Undone};
use crate::effect::Report;
use crate::message::read_replica;
use crate::node::Node;
use crate::record::RecordKey;
use crate::time::Now;

/// Bytes of a part of what was before, if no single object is larger: a record that a store takes in one piece.
const PART_BYTES: usize = 256 << 10;
/// Most parts of a group: what is kept has a limit, and this bounds what a damaged record can ask for.
const PARTS_MAX: u64 = 1 << 20;

/// Records of holds as they were found at start; `None` for damaged ones.
#[derive(Default)]
pub(in crate::node) struct Found {
    pub(in crate::node) brakes: BTreeMap<BatchId, Option<Vec<u8>>>,
    pub(in crate::node) preimages: BTreeMap<(BatchId, u32), Option<Vec<u8>>>,
}

/// A record of a hold, read.
struct Stored {
    until: u64,
    since_wall_ms: u64,
    parts: u32,
    before: Before,
    undo: Option<Undone>,
    blast: Option<Blast>,
}

impl Stored {
    fn to_bytes(brake: &Brake) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.varint(brake.group.until);
        writer.varint(brake.since_wall_ms);
        writer.varint(brake.parts.into());
        writer.byte(match &brake.before {
            Before::Kept(_) => 0,
            Before::TooLarge => 1,
            Before::Lost => 2,
            Before::Grows => 3,
        });
        writer.byte(brake.undo.is_some().into());
        if let Some(undo) = &brake.undo {
            write_batch(&mut writer, undo.until);
            writer.byte(undo.batches.is_some().into());
            if let Some(range) = &undo.batches {
                write_batch(&mut writer, range.first);
                writer.varint(range.until);
            }
        }
        writer.byte(brake.blast.is_some().into());
        if let Some(blast) = &brake.blast {
            writer.varint(blast.namespace.0.into());
            writer.byte(blast.kind as u8);
            writer.byte(blast.table.is_some().into());
            writer.bytes(blast.table.as_deref().unwrap_or_default().as_bytes());
            writer.varint(blast.touched);
            writer.varint(blast.rows);
        }
        writer.into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let until = reader.bounded("sequence", SEQ_MAX)?;
        let since_wall_ms = reader.varint()?;
        let parts = reader.bounded("parts", PARTS_MAX)? as u32;
        let before = match reader.bounded("mark of what was kept", 3)? {
            0 => Before::Kept(BTreeMap::new()),
            1 => Before::TooLarge,
            2 => Before::Lost,
            _ => Before::Grows,
        };
        let mut undo = None;
        if reader.bounded("mark of an undo", 1)? == 1 {
            let last = read_batch(&mut reader)?;
            let mut batches = None;
            if reader.bounded("mark of batches", 1)? == 1 {
                let first = read_batch(&mut reader)?;
                batches = Some(Range { first, until: reader.bounded("sequence", SEQ_MAX)? });
            }
            undo = Some(Undone { batches, until: last });
        }
        let mut blast = None;
        if reader.bounded("mark of a finding", 1)? == 1 {
            let namespace = Namespace(reader.bounded("namespace", u32::MAX.into())? as u32);
            let at = reader.at();
            let kind = Kind::from_code(reader.byte()?).ok_or(DecodeError::Invalid { what: "type", at })?;
            let has_table = reader.bounded("mark of a table", 1)? == 1;
            let at = reader.at();
            let table = core::str::from_utf8(reader.bytes("name of a table", crdt::set::NAME_BYTES_MAX)?);
            let table = table.map_err(|_| DecodeError::Invalid { what: "name of a table", at })?;
            let table = has_table.then(|| table.into());
            blast = Some(Blast { namespace, kind, table, touched: reader.varint()?, rows: reader.varint()? });
        }
        reader.finish()?;
        Ok(Self { until, since_wall_ms, parts, before, undo, blast })
    }
}

fn write_batch(writer: &mut Writer, batch: BatchId) {
    writer.raw(&batch.replica.to_bytes());
    writer.varint(batch.seq);
}

fn read_batch(reader: &mut Reader<'_>) -> Result<BatchId, DecodeError> {
    Ok(BatchId { replica: read_replica(reader)?, seq: reader.bounded("sequence", SEQ_MAX)? })
}

fn read_part(bytes: &[u8], objects: &mut BTreeMap<Key, Option<Vec<u8>>>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    while reader.left() > 0 {
        let key = Key::from_bytes(reader.bytes("bytes of a key", 1 << 20)?)?;
        let mut object = None;
        if reader.bounded("mark of an object", 1)? == 1 {
            let bytes = reader.bytes("bytes of an object", usize::MAX)?;
            Object::from_bytes(key.kind, bytes)?;
            object = Some(bytes.to_vec());
        }
        objects.insert(key, object);
    }
    Ok(())
}

impl Node {
    /// Writes the record of a hold.
    pub(super) fn put_brake(&mut self, place: usize) {
        let brake = &self.brakes[place];
        let (key, bytes) = (RecordKey::Brake(brake.group.first), Stored::to_bytes(brake));
        self.put(key, Some(bytes));
    }

    /// Writes what the objects of a held group were before it.
    pub(super) fn put_preimages(&mut self, place: usize) {
        let brake = &mut self.brakes[place];
        let Before::Kept(objects) = &brake.before else { return };
        let mut parts = vec![Writer::new()];
        let mut bytes = 0;
        for (key, object) in objects {
            let key = key.to_bytes();
            let object_bytes = key.len() + object.as_ref().map_or(0, Vec::len);
            if bytes > 0 && bytes + object_bytes > PART_BYTES {
                parts.push(Writer::new());
                bytes = 0;
            }
            bytes += object_bytes;
            let part = parts.last_mut().expect("there is always one");
            part.bytes(&key);
            part.byte(object.is_some().into());
            if let Some(object) = object {
                part.bytes(object);
            }
        }
        brake.parts = parts.len() as u32;
        let first = brake.group.first;
        for (part, writer) in parts.into_iter().enumerate() {
            self.put(RecordKey::Preimage(first, part as u32), Some(writer.into_bytes()));
        }
    }

    /// Takes up the holds of the process before, once identity and log are there.
    pub(in crate::node) fn load_brakes(&mut self, now: Now, mut found: Found) {
        let hold_ms = self.setup.intervals.blast_hold_ms;
        for (first, bytes) in core::mem::take(&mut found.brakes) {
            let stored = bytes.and_then(|bytes| Stored::from_bytes(&bytes).ok());
            let stored = stored.filter(|stored| stored.until >= first.seq).unwrap_or_else(|| Stored {
                until: self.end_of_group(first),
                since_wall_ms: now.wall_ms,
                parts: 0,
                before: Before::Lost,
                undo: None,
                blast: None,
            });
            let before = self.load_preimages(first, &stored, &mut found);
            let group = Range { first, until: stored.until };
            let left_ms = stored.since_wall_ms.saturating_add(hold_ms).saturating_sub(now.wall_ms).min(hold_ms);
            let Stored { since_wall_ms, parts, undo, blast, .. } = stored;
            let until_mono_ms = now.mono_ms + left_ms;
            let brake = Brake { group, blast, since_wall_ms, until_mono_ms, before, parts, undo };
            let is_whole = self
                .log
                .stream(first.replica)
                .is_some_and(|stream| (stream.floor() < first.seq || undo.is_some()) && stream.head() >= group.until);
            self.brakes.push(brake);
            // A damaged record was taken off the disk, and a batch may have been told to be lost with what is behind it.
            let place = self.brakes.len() - 1;
            if is_whole && self.replicas.contains(&first.replica) {
                self.put_brake(place);
            } else {
                self.drop_brake(place);
                self.report(Report::BlastEnded { batch: first, end: BlastEnd::LogDamaged });
            }
        }
        // Parts that no record names.
        for (first, part) in found.preimages.into_keys() {
            self.put(RecordKey::Preimage(first, part), None);
        }
        let mut brakes = core::mem::take(&mut self.brakes);
        brakes.sort_by_key(|brake| self.place_of(brake.group.first));
        self.brakes = brakes;
    }

    fn load_preimages(&self, first: BatchId, stored: &Stored, found: &mut Found) -> Before {
        let mut objects = BTreeMap::new();
        let mut is_lost = false;
        for part in 0..stored.parts {
            let bytes = found.preimages.remove(&(first, part)).flatten();
            is_lost |= bytes.is_none_or(|bytes| read_part(&bytes, &mut objects).is_err());
        }
        match &stored.before {
            Before::Kept(_) if is_lost => Before::Lost,
            Before::Kept(_) => Before::Kept(objects),
            other => other.clone(),
        }
    }

    /// The last sequence of the group that begins with a batch, by what the batches say.
    fn end_of_group(&self, first: BatchId) -> u64 {
        let goes_on = |seq: &u64| self.log.get(BatchId { seq: *seq, ..first }).is_some_and(|logged| logged.header.more);
        (first.seq..).find(|seq| !goes_on(seq)).unwrap_or(first.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crdt::ReplicaId;

    #[test]
    fn a_record_round_trips() {
        let first = BatchId { replica: ReplicaId(7), seq: 9 };
        let blast =
            Blast { namespace: Namespace(3), kind: Kind::Row, table: Some("posts".into()), touched: 2, rows: 4 };
        let whole = Brake {
            group: Range { first, until: 11 },
            blast: Some(blast),
            since_wall_ms: 1_700_000_000_000,
            until_mono_ms: 0,
            before: Before::Kept(BTreeMap::new()),
            parts: 3,
            undo: Some(Undone {
                batches: Some(Range { first: BatchId { seq: 12, ..first }, until: 13 }),
                until: BatchId { seq: 13, ..first },
            }),
        };
        let over = Brake { undo: Some(Undone { batches: None, until: first }), ..whole.clone() };
        let bare = Brake { blast: None, undo: None, before: Before::Grows, ..whole.clone() };
        for brake in [whole, over, bare] {
            let bytes = Stored::to_bytes(&brake);
            let stored = Stored::from_bytes(&bytes).expect("own bytes");
            assert_eq!(
                (stored.until, stored.since_wall_ms, stored.parts, &stored.before, stored.undo, &stored.blast),
                (11, brake.since_wall_ms, 3, &brake.before, brake.undo, &brake.blast)
            );
            assert!(Stored::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
