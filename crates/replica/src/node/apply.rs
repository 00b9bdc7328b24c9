//! Applying: in causal order, one batch after the other, round robin over the origins.

use std::collections::BTreeSet;

use crdt::change::Envelope;
use crdt::counter::CounterDelta;
use crdt::mutant::{Mutant, active};
use crdt::{BatchId, Change, Content, Dot, Key, Kind, Op, ReplicaId};

use super::{Hold, Node, Then};
use crate::effect::Report;
use crate::host::RowId;
use crate::message::write_vector;
use crate::record::{Meta, RecordKey};
use crate::time::Now;

impl Node {
    /// Applies every batch that can be applied. With a database, one at a time: the next waits until the
    /// rows of the one before are written.
    pub(super) fn apply_ready(&mut self, now: Now) {
        while self.may_apply() {
            let Some(batch) = self.next_batch(now) else { return };
            self.apply_batch(now, batch);
        }
    }

    fn may_apply(&self) -> bool {
        let joining = self.is_joining() && !active(Mutant::ApplyDuringJoin);
        !joining && !self.rebuild && self.host_may_apply()
    }

    /// The next batch, giving every origin its turn.
    fn next_batch(&mut self, now: Now) -> Option<BatchId> {
        if let Some((replica, changes)) = self.turn
            && changes < self.setup.limits.origin_turn_changes
            && let Some(batch) = self.ready_batch(now, replica)
        {
            return Some(batch);
        }
        let last = self.turn.map(|(replica, _)| replica);
        let waiting = self.log.streams().filter(|(replica, stream)| stream.head() > self.applied.seq(*replica));
        let waiting: Vec<ReplicaId> = waiting.map(|(replica, _)| replica).collect();
        let (before, after): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|replica| Some(*replica) <= last);
        for replica in after.into_iter().chain(before) {
            if let Some(batch) = self.ready_batch(now, replica) {
                self.turn = Some((replica, 0));
                return Some(batch);
            }
        }
        self.turn = None;
        None
    }

    /// The next batch of this replica, if nothing holds it back.
    fn ready_batch(&mut self, now: Now, replica: ReplicaId) -> Option<BatchId> {
        if self.held.contains_key(&replica) {
            return None;
        }
        let batch = BatchId { replica, seq: self.applied.seq(replica) + 1 };
        let logged = self.log.get(batch)?;
        let covered = self.applied.dominates(&logged.header.context) || active(Mutant::DependencySkipped);
        let (hlc, received_mono_ms) = (logged.header.hlc, logged.received_mono_ms);
        let sealed = self.epoch.seals.get(&replica).is_some_and(|seal| batch.seq > *seal);
        (covered && !sealed && self.clock_admits(now, batch, hlc, received_mono_ms)).then_some(batch)
    }

    fn apply_batch(&mut self, now: Now, batch: BatchId) {
        let Some(logged) = self.log.get(batch) else { return };
        let hlc = logged.header.hlc;
        let decoded = Envelope::parse(&logged.bytes).and_then(|envelope| envelope.to_batch());
        let Ok(decoded) = decoded else {
            // It was checked when it came; only damage in memory or another build leads here.
            self.hold(batch, Hold::Quarantined);
            self.report(Report::Quarantined { batch });
            return;
        };
        if decoded.changes.iter().any(|change| matches!(change.content, Content::Unknown { .. })) {
            self.hold(batch, Hold::Quarantined);
            self.report(Report::UnknownChange { batch });
            return;
        }
        self.skew_reported.remove(&batch);
        self.follow_clock(now, hlc);
        if let Some((_, changes)) = &mut self.turn {
            *changes += decoded.changes.len();
        }
        self.absorb_changes(batch, decoded.changes);
        self.put_clock();
        self.shown_follows();
    }

    /// Makes the changes of a batch, own or not, part of the state.
    pub(super) fn absorb_changes(&mut self, batch: BatchId, changes: Vec<Change>) {
        let mut touched = BTreeSet::new();
        let mut remains = BTreeSet::new();
        for (index, change) in changes.iter().enumerate() {
            let Some(key) = Key::of_change(change) else { continue };
            if touched.insert(key.clone()) {
                self.keep_preimage(&key);
            }
            if leaves_remains(change) {
                remains.insert(key);
            }
            self.follow_stamp(change.stamp);
            // A sum that leaves its range is refused by every node alike: the sum travels with the change.
            let _refused_everywhere =
                self.keyspace.apply_change(Dot::new(batch.replica, batch.seq, index as u32), change);
        }
        self.applied.advance(batch.replica, batch.seq);
        self.put_applied();
        self.note_remains(batch, remains);
        for key in &touched {
            self.put_object(key);
            self.row_changed(key);
        }
    }

    pub(super) fn put_applied(&mut self) {
        let mut writer = crdt::pack::Writer::new();
        write_vector(&mut writer, &self.applied);
        self.put_meta(Meta::Applied, writer.into_bytes());
    }

    pub(super) fn put_object(&mut self, key: &Key) {
        let bytes = self.keyspace.object(key).map(|object| object.to_bytes());
        self.put(RecordKey::Object(key.to_bytes()), bytes);
    }

    /// A row's state changed: its name may have, and the database may have to be told.
    pub(super) fn row_changed(&mut self, key: &Key) {
        if key.kind == Kind::Row
            && let Some(row) = RowId::from_key(key)
        {
            self.row_is_dirty(&row);
        }
    }

    /// Lets others know what the database shows, once there is nothing left to write.
    pub(crate) fn shown_follows(&mut self) {
        if self.host_shows_all() && !self.is_joining() {
            self.after_durable(Then::Shown(self.applied.clone()));
        }
    }
}

/// True for a change that removes sums: what they leave behind waits for stability.
fn leaves_remains(change: &Change) -> bool {
    let removes = |delta: &CounterDelta| !delta.removes.is_empty();
    match &change.content {
        Content::Op(Op::GCounter(delta) | Op::PnCounter(delta)) => removes(delta),
        Content::Op(Op::Row(delta)) => {
            !delta.ends.is_empty() || delta.columns.iter().any(|column| !column.removes.is_empty())
        }
        _ => false,
    }
}
