//! The medium: log, table and tree, and the two threads beside the writer's.
//!
//! The writer appends groups to the log and puts their records into the table. When the table or the log has its size,
//! the table is *frozen*: the log begins another segment, the writer another table, and a thread of its own takes the
//! frozen one into the tree and then deletes the segments before. A crash at any point leaves a tree that knows its last
//! group, and a log of at least all groups behind.

use std::sync::Arc;

use replica::{Found, RecordKey, WriteGroup};

use super::Limits;
use super::background::Background;
use super::copy;
use super::log::{self, Log, Segment, Unsynced};
use super::table::{Filter, Table};
use super::tree::Tree;
use crate::copying::Reading;
use crate::frame::{self, Read};
use crate::writer::Medium;
use crate::{Durability, Records, StoreError};

/// Keys that a filter may have gathered, and times the keys that it was made of, before it is made anew: batches that
/// once reached the tree and are long gone.
const FILTER_KEYS_STALE: usize = 1 << 20;

/// A frozen table on its way into the tree.
struct Checkpoint {
    table: Arc<Table>,
    /// Number of its last group.
    sequence: u64,
    /// Its log, to be deleted when the tree holds it.
    segments: Vec<Segment>,
    /// Whether to gather what the tree holds.
    wants_filter: bool,
}

/// The open store.
pub(super) struct Files {
    log: Log,
    table: Table,
    seed: u64,
    /// What the checkpoint on its way takes in, and its bytes in the log.
    frozen: Option<(Arc<Table>, u64)>,
    filter: Filter,
    /// Keys of the filter when it was made.
    filter_keys: usize,
    tree: Tree,
    durability: Durability,
    limits: Limits,
    /// Number of the last group.
    sequence: u64,
    /// Segments of the log before the one that is written to.
    segments: Vec<Segment>,
    /// Keys that are no record's, to be removed with the first group; with any of them, something was lost that cannot
    /// be put to a key.
    strays: Vec<Vec<u8>>,
    has_begun: bool,
    checkpoints: Option<Background<Checkpoint, Option<Filter>>>,
    syncs: Option<Background<Unsynced, ()>>,
}

/// What the start found, put together.
pub(super) struct Parts {
    pub(super) log: Log,
    pub(super) table: Table,
    pub(super) seed: u64,
    pub(super) filter: Filter,
    pub(super) tree: Tree,
    pub(super) sequence: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) strays: Vec<Vec<u8>>,
}

impl Files {
    pub(super) fn new(parts: Parts, durability: Durability, limits: Limits) -> Self {
        let Parts { log, table, seed, filter, tree, sequence, segments, strays } = parts;
        Self {
            log,
            table,
            seed,
            frozen: None,
            filter_keys: filter.keys(),
            filter,
            tree,
            durability,
            limits,
            sequence,
            segments,
            strays,
            has_begun: false,
            checkpoints: None,
            syncs: None,
        }
    }

    /// What was replayed goes into the tree at once: else a node that is killed over and over reads more each time.
    fn begin(&mut self) -> Result<(), StoreError> {
        if !self.has_begun && !self.segments.is_empty() {
            self.freeze()?;
        }
        self.has_begun = true;
        Ok(())
    }

    /// Freezes the table if it has its size; waits for the checkpoint before if there is no room without.
    fn make_room(&mut self) -> Result<(), StoreError> {
        if let Some(checkpoints) = &mut self.checkpoints
            && let Some(filter) = checkpoints.poll()?
        {
            self.finish(filter);
        }
        let (table, log) = (self.table.bytes(), self.log.bytes());
        if table < self.limits.table_bytes && log < self.limits.log_bytes {
            return Ok(());
        }
        if self.frozen.is_some() {
            if table < self.limits.table_bytes_max && log < self.limits.log_bytes_max {
                return Ok(());
            }
            self.wait_for_checkpoint()?;
        }
        self.freeze()
    }

    fn wait_for_checkpoint(&mut self) -> Result<(), StoreError> {
        if let Some(checkpoints) = &mut self.checkpoints
            && let Some(filter) = checkpoints.wait()?
        {
            self.finish(filter);
        }
        Ok(())
    }

    fn finish(&mut self, filter: Option<Filter>) {
        self.frozen = None;
        if let Some(filter) = filter {
            self.filter_keys = filter.keys();
            self.filter = filter;
        }
    }

    fn freeze(&mut self) -> Result<(), StoreError> {
        let table = Arc::new(std::mem::replace(&mut self.table, Table::new(self.seed)));
        table.present().for_each(|hash| self.filter.insert(hash));
        self.segments.extend(self.log.roll());
        let segments = std::mem::take(&mut self.segments);
        self.frozen = Some((Arc::clone(&table), log::bytes(&segments)));
        let wants_filter = self.filter.keys() > 2 * self.filter_keys + FILTER_KEYS_STALE;
        let checkpoint = Checkpoint { table, sequence: self.sequence, segments, wants_filter };
        if self.checkpoints.is_none() {
            let tree = self.tree.clone();
            self.checkpoints = Some(Background::start("store-tree", move |job| check_in(&tree, &job))?);
        }
        self.checkpoints.as_mut().map_or(Ok(()), |checkpoints| checkpoints.submit(checkpoint))
    }

    fn put(&mut self, key: Vec<u8>, body: Option<Vec<u8>>) {
        let hash = self.table.hash(&key);
        let is_frozen = |(frozen, _): &(Arc<Table>, u64)| frozen.get(hash, &key).is_some();
        if body.is_none() && !self.frozen.as_ref().is_some_and(is_frozen) && !self.filter.may_hold(hash) {
            self.table.forget(hash, &key);
        } else {
            self.table.put(hash, key, body);
        }
    }

    fn sync_now(&mut self) -> Result<(), StoreError> {
        if let Some(syncs) = &mut self.syncs {
            syncs.wait()?;
        }
        self.log.take_unsynced().sync()
    }
}

/// Takes a table into the tree, and deletes its log.
fn check_in(tree: &Tree, job: &Checkpoint) -> Result<Option<Filter>, StoreError> {
    tree.take(&job.table, job.sequence)?;
    log::remove(&job.segments)?;
    job.wants_filter.then(|| tree.filter(|key| job.table.hash(key))).transpose()
}

impl Medium for Files {
    fn commit(&mut self, groups: Vec<WriteGroup>, sequence: u64) -> Result<(), StoreError> {
        self.begin()?;
        self.make_room()?;
        let first = sequence - groups.len() as u64;
        for (before, group) in (first..).zip(groups) {
            let strays = std::mem::take(&mut self.strays);
            let mut records: Vec<_> = group.records.into_iter().map(frame::parts).collect();
            records.extend(strays.into_iter().map(|key| (key, None)));
            self.log.gather(before, records.iter().map(|(key, body)| (key.as_slice(), body.as_deref())))?;
            // SUBTLE: in the table before they are in the log. Nothing reads them there if the write fails: no request is
            // answered any more, and no table frozen.
            records.into_iter().for_each(|(key, body)| self.put(key, body));
        }
        self.log.write()?;
        self.sequence = sequence;
        if self.durability == Durability::Always {
            self.log.take_unsynced().sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<bool, StoreError> {
        // A disk that takes longer than the policy allows lets the writer wait here: what a power cut takes stays bounded.
        if let Some(syncs) = &mut self.syncs {
            syncs.wait()?;
        }
        let unsynced = self.log.take_unsynced();
        if unsynced.is_empty() {
            return Ok(false);
        }
        if self.syncs.is_none() {
            self.syncs = Some(Background::start("store-sync", Unsynced::sync)?);
        }
        self.syncs.as_mut().map_or(Ok(()), |syncs| syncs.submit(unsynced))?;
        Ok(true)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.sync_now()?;
        self.wait_for_checkpoint()
    }

    fn read(&mut self, key: &RecordKey) -> Result<Option<Found>, StoreError> {
        self.begin()?;
        let bytes = key.to_bytes();
        let stored = frame::stored_key(&bytes);
        let hash = self.table.hash(&stored);
        let frozen = self.frozen.as_ref().and_then(|(frozen, _)| frozen.get(hash, &stored));
        if let Some(slot) = self.table.get(hash, &stored).or(frozen) {
            let body = slot.body.as_deref();
            return Ok(body.map(|body| frame::same(key, frame::read_body(&stored, Some(body)))));
        }
        Ok(self.tree.get(&stored)?.map(|bytes| frame::found(key, &bytes)))
    }

    fn load(&mut self) -> Result<Records<'_>, StoreError> {
        // Nothing is frozen before the first write.
        let table = &self.table;
        let record = |read| match read {
            Read::Record(key, found) => Some(Ok((key, found))),
            Read::Unplaced => None,
        };
        let below = self.tree.pairs().filter_map(move |pair| match pair {
            Ok((key, _)) if table.get(table.hash(&key), &key).is_some() => None,
            Ok((key, value)) => record(frame::read(&key, &value)),
            Err(error) => Some(Err(error)),
        });
        let above =
            table.slots().filter_map(move |slot| record(frame::read_body(&slot.key, Some(slot.body.as_ref()?))));
        let lost = (!self.strays.is_empty()).then(|| frame::unplaced().map(Ok)).into_iter().flatten();
        Ok(Box::new(lost.chain(below).chain(above)))
    }

    fn copy(&mut self) -> Result<Reading, StoreError> {
        let frozen = self.frozen.as_ref().map(|(frozen, _)| Arc::clone(frozen));
        Ok(Reading { batches: copy::batches(&self.tree, frozen, &self.table), is_live: false })
    }

    fn stored_bytes(&mut self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, |(_, bytes)| *bytes);
        self.tree.bytes() + self.log.bytes() + log::bytes(&self.segments) + frozen
    }
}
