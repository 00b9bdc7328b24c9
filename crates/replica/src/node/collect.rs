//! Garbage collection: only what every member has, in slices.

use std::collections::{BTreeMap, BTreeSet};

use crdt::mutant::{Mutant, active};
use crdt::pack::Writer;
use crdt::{BatchId, Dot, Key, Kind, Name, ReplicaId, VersionVector};

use super::Node;
use crate::effect::Report;
use crate::log::Stream;
use crate::message::write_vector;
use crate::record::{Meta, RecordKey};
use crate::time::Now;

/// Least time between two cuts of a long log. A cut walks over all streams and writes the floors down: with each batch it
/// would cost more than the batch. Memory may exceed the cap by what comes in this time.
const CUT_MS: u64 = 1_000;

/// Removals whose remains wait for stability.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remains {
    by_batch: BTreeMap<BatchId, BTreeSet<Key>>,
    by_key: BTreeMap<Key, BTreeSet<BatchId>>,
}

impl Remains {
    /// Lets a batch hold keys; returns all that it holds.
    pub(crate) fn add(&mut self, batch: BatchId, keys: BTreeSet<Key>) -> &BTreeSet<Key> {
        for key in &keys {
            self.by_key.entry(key.clone()).or_default().insert(batch);
        }
        let held = self.by_batch.entry(batch).or_default();
        held.extend(keys);
        held
    }

    pub(crate) fn len(&self) -> usize {
        self.by_batch.values().map(BTreeSet::len).sum()
    }

    /// Takes a batch off the list; returns the keys that no other removal holds.
    fn take(&mut self, batch: BatchId) -> Vec<Key> {
        let mut free = Vec::new();
        for key in self.by_batch.remove(&batch).unwrap_or_default() {
            let holders = self.by_key.entry(key.clone()).or_default();
            holders.remove(&batch);
            if holders.is_empty() {
                self.by_key.remove(&key);
                free.push(key);
            }
        }
        free
    }
}

impl Node {
    pub(super) fn note_remains(&mut self, batch: BatchId, keys: BTreeSet<Key>) {
        if keys.is_empty() {
            return;
        }
        let held = self.remains.add(batch, keys);
        let mut writer = Writer::new();
        writer.varint(held.len() as u64);
        held.iter().for_each(|key| writer.bytes(&key.to_bytes()));
        self.put(RecordKey::Remains(batch), Some(writer.into_bytes()));
    }

    /// Notes what removals left behind that came with a snapshot and in no batch. Which batches they were is not known:
    /// they wait until all that the snapshot's cut has beyond `noted` is stable.
    ///
    /// SUBTLE: collection takes everything that is dead in an object. Held by the removals of the log alone, an object
    /// would lose the sums that the snapshot's removals name as well; a member that has not heard of those, and counted
    /// on, would bring the sums back.
    pub(super) fn note_joined_remains(&mut self, cut: &VersionVector, noted: &VersionVector) {
        if active(Mutant::JoinedRemainsForgotten) {
            return;
        }
        let may_have = |key: &Key| !matches!(key.kind, Kind::Register | Kind::Set);
        let has = |key: &Key| self.keyspace.object(key).is_some_and(|object| object.has_remains());
        let keys: BTreeSet<Key> = self.keyspace.keys().filter(|key| may_have(key) && has(key)).collect();
        for (replica, seq) in cut.iter().filter(|(replica, seq)| noted.seq(*replica) < *seq) {
            self.note_remains(BatchId { replica, seq }, keys.clone());
        }
    }

    /// A slice of collection, when it is due. After one that left much to collect the next is due sooner.
    pub(super) fn tick_collect(&mut self, now: Now) {
        if now.mono_ms < self.gc_at_mono_ms {
            return;
        }
        self.gc_at_mono_ms = now.mono_ms + self.setup.intervals.gc_ms;
        if self.is_joining() || self.rebuild {
            return;
        }
        self.advance_stable();
        self.cut_log();
        let attempted = self.remains.len() as u64;
        let collected = self.collect_remains();
        self.forget_journal(now);
        if attempted > 0 {
            self.report(Report::Collected { attempted, collected });
        }
        if self.remains.len() as u64 > self.setup.limits.gc_threshold && collected > 0 {
            // More than a slice is waiting.
            self.gc_at_mono_ms = now.mono_ms + self.setup.intervals.gc_ms / 10;
        }
    }

    fn advance_stable(&mut self) {
        let own = self.own_row();
        let node = self.setup.node.clone();
        self.matrix.learn(&node, own);
        if self.epoch_forked {
            return;
        }
        let before = self.matrix.stable().clone();
        self.matrix.advance_stable(&self.epoch, &self.applied);
        if before != *self.matrix.stable() {
            let mut writer = Writer::new();
            write_vector(&mut writer, self.matrix.stable());
            self.put_meta(Meta::Stable, writer.into_bytes());
            self.repairs_are_due();
        }
    }

    /// Cuts what every member has in its log, and more if the log is over its cap.
    pub(super) fn cut_log(&mut self) {
        let everybody = self.matrix.received_by_all(&self.epoch);
        let mut floors: BTreeMap<ReplicaId, u64> = BTreeMap::new();
        for (replica, stream) in self.log.streams() {
            let here = self.spare(replica, stream) + stream.floor();
            floors.insert(replica, everybody.seq(replica).min(here));
        }
        let mut cut = false;
        for (replica, floor) in floors {
            cut |= self.cut_stream(replica, floor);
        }
        while self.log.bytes() > self.setup.limits.log_bytes_max {
            // The longest stream gives most.
            let longest = self.log.streams().filter_map(|(replica, stream)| {
                let spare = self.spare(replica, stream);
                (spare > 0).then_some((spare, replica, stream.floor() + spare.div_ceil(2)))
            });
            let Some((_, replica, floor)) = longest.max() else { break };
            cut |= self.cut_stream(replica, floor);
            self.report(Report::LogCut { replica, floor });
        }
        if cut {
            self.put_floors();
        }
    }

    /// Cuts a long log without waiting for the next slice of collection: at most once in [`CUT_MS`].
    pub(super) fn cut_long_log(&mut self, now: Now) {
        let may_cut = !self.is_installing() && !self.is_joining() && !self.rebuild;
        let is_long = may_cut && self.log.bytes() > self.setup.limits.log_bytes_usual;
        if now.mono_ms >= self.cut_at_mono_ms && (is_long || self.log_wants_cut()) {
            self.cut_at_mono_ms = now.mono_ms + CUT_MS;
            // What every member has goes first, and this node is one of them.
            let (node, own) = (self.setup.node.clone(), self.own_row());
            self.matrix.learn(&node, own);
            self.cut_log();
        }
    }

    /// True when the log is over its cap and a cut would take something. Only then is there a timer for it: what every
    /// member has is cut when something else happens, and nothing else may be there to be cut.
    fn log_wants_cut(&self) -> bool {
        let is_over = self.log.bytes() > self.setup.limits.log_bytes_max;
        is_over && !self.is_installing() && self.log.streams().any(|(replica, stream)| self.spare(replica, stream) > 0)
    }

    /// Batches of a stream that a log over its cap can do without: what is applied here, and not held, can be had by
    /// snapshot.
    fn spare(&self, replica: ReplicaId, stream: &Stream) -> u64 {
        self.shown.seq(replica).min(self.offered(replica)).saturating_sub(stream.floor())
    }

    /// When a log over its cap is cut; `None` while no cut would take anything.
    pub(super) fn cut_timer(&self) -> Option<u64> {
        self.log_wants_cut().then_some(self.cut_at_mono_ms)
    }

    fn cut_stream(&mut self, replica: ReplicaId, floor: u64) -> bool {
        let gone = self.log.cut(replica, floor);
        for batch in &gone {
            self.put(RecordKey::Batch(*batch), None);
        }
        !gone.is_empty()
    }

    /// Collects what removals left behind, where they are stable. Returns how many remains went.
    fn collect_remains(&mut self) -> u64 {
        let stable = self.matrix.stable().clone();
        let slice = self.setup.limits.gc_slice_keys;
        let ripe: Vec<BatchId> =
            self.remains.by_batch.keys().filter(|batch| stable.contains(**batch)).take(slice).copied().collect();
        let mut collected = 0;
        for batch in ripe {
            collected += self.remains.by_batch.get(&batch).map_or(0, |keys| keys.len() as u64);
            for key in self.remains.take(batch) {
                let (before, parts) = (self.preimage(&key), self.stored_parts(&key));
                if self.keyspace.collect(&key) > 0 {
                    self.population.changes(1);
                    self.keep_preimage_as(&key, before);
                    self.put_changed(&key, parts);
                    self.row_changed(&key);
                }
            }
            self.put(RecordKey::Remains(batch), None);
        }
        collected
    }

    /// Drops journal entries whose retention is over and whose writer's batch is stable.
    ///
    /// This is where the age of an entry is defined: from the first slice in this process that saw it, on the monotonic
    /// clock, which means nothing to the next process. So ages are not stored, and begin anew with each start.
    fn forget_journal(&mut self, now: Now) {
        let retention_ms = self.setup.intervals.journal_retention_ms;
        let present: Vec<(Key, Vec<Name>, Dot)> =
            self.journal().into_iter().map(|(key, entry)| (key, entry.path, entry.dot)).collect();
        let mut ages = BTreeMap::new();
        for entry in present {
            let since = self.ages.get(&entry).copied().unwrap_or(now.mono_ms);
            ages.insert(entry, since);
        }
        let stable = self.matrix.stable().clone();
        let slice = self.setup.limits.gc_slice_keys;
        let over = ages.iter().filter(|((_, _, dot), since)| {
            now.mono_ms.saturating_sub(**since) >= retention_ms && stable.contains(dot.batch())
        });
        let over: BTreeSet<(Key, Vec<Name>, Dot)> = over.map(|(entry, _)| entry.clone()).collect();
        self.ages = ages;
        // Entries that are still needed stay; each slice goes on where the last one ended, so that they hold up nobody.
        let last = self.forgotten_until.take();
        let (before, after): (Vec<_>, Vec<_>) = over.into_iter().partition(|entry| Some(entry) <= last.as_ref());
        for entry in after.into_iter().chain(before).take(slice) {
            let (key, path, dot) = &entry;
            let (before, parts) = (self.preimage(key), self.stored_parts(key));
            if self.keyspace.forget(key, path, *dot) {
                self.population.changes(1);
                self.keep_preimage_as(key, before);
                self.put_changed(key, parts);
            }
            self.forgotten_until = Some(entry);
        }
    }
}
