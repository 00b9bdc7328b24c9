//! Draining: the difference between rows and their shadows becomes a batch of local writes.

use std::collections::{BTreeMap, BTreeSet};

use crdt::mutant::{Mutant, active};
use crdt::pack::Writer;
use crdt::row_view::Write;
use crdt::{BatchId, Dot, Hlc, Kind, Object, Op, RowView, Value};

use super::{OutboxEntry, RowId, RowImage, RowOperation, SqlRequest, Work};
use crate::effect::{Effect, Report};
use crate::node::{Draft, Node};
use crate::record::RecordKey;
use crate::time::Now;

/// What the outbox says of one row.
#[derive(Default)]
struct Noted {
    /// The latest statement's time; `None` for a row without an entry.
    time_ms: Option<u64>,
    /// The row was inserted or deleted in between: what is there now is another row.
    replaced: bool,
}

impl Node {
    /// Reads the outbox in one snapshot.
    pub(super) fn begin_drain(&mut self, now: Now) {
        let poll_ms = self.setup.intervals.outbox_poll_ms;
        let Some(host) = &mut self.host else { return };
        let mut also = core::mem::take(&mut host.suspects);
        also.extend(host.lost.iter().cloned());
        host.notified = false;
        host.drained_last = true;
        host.poll_at_mono_ms = now.mono_ms + poll_ms;
        host.begin(Work::Draining(also.clone()));
        self.effect(Effect::Sql(SqlRequest::Drain { also: also.into_iter().collect() }));
    }

    /// A snapshot of the outbox came: everything in it becomes one batch. Unless nothing may be drained by now, because
    /// meanwhile a peer told what this node forgot, or a snapshot is being joined: then it is asked for again later.
    pub(super) fn drained(
        &mut self,
        now: Now,
        also: &BTreeSet<RowId>,
        entries: Vec<OutboxEntry>,
        rows: &BTreeMap<RowId, Option<RowImage>>,
    ) {
        let stands_still = self.is_rebuilding() || (self.is_joining() && !active(Mutant::ApplyDuringJoin));
        let Some(host) = &mut self.host else { return };
        if stands_still || host.recovery.is_some() {
            host.suspects.extend(also.iter().cloned());
            host.notified = true;
            return;
        }
        let had_to_write = !host.dirty.is_empty();
        let known: BTreeSet<u64> = host.drained_ids().copied().collect();
        let (known, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| known.contains(&entry.id));
        if active(Mutant::DrainerRemembersMaxId) {
            // The bug under test: ids become visible out of order.
            entries.retain(|entry| entry.id > host.max_id);
            host.max_id = entries.iter().map(|entry| entry.id).max().unwrap_or(host.max_id);
        }
        entries.sort_by_key(|entry| entry.id);
        let mut noted: BTreeMap<&RowId, Noted> = also.iter().map(|row| (row, Noted::default())).collect();
        for entry in &entries {
            let note = noted.entry(&entry.row).or_default();
            note.time_ms = note.time_ms.max(Some(entry.time_ms));
            note.replaced |= entry.operation != RowOperation::Update;
        }
        let rechecks = core::mem::take(&mut host.rechecks);
        let old_before_ms = host.old_before_ms;
        if rechecks {
            // The recovery's scan left their rows to the drain.
            for entry in &known {
                noted.entry(&entry.row).or_default();
            }
        }
        let mut drafts = Vec::new();
        for (row, note) in noted {
            let Some(image) = rows.get(row) else { continue };
            let is_lost = self.host.as_mut().is_some_and(|host| host.lost.remove(row));
            // An entry from before the database went back says nothing about a write that is still to be drained.
            let is_old = note.time_ms.is_none_or(|time_ms| rechecks && time_ms < old_before_ms);
            let is_doubtful = is_lost || rechecks;
            if is_doubtful && is_old {
                self.recover_row(row, image.as_ref());
            } else {
                self.difference(now, row, &note, image.as_ref(), is_doubtful, &mut drafts);
            }
        }
        let ids: BTreeSet<u64> = entries.iter().map(|entry| entry.id).collect();
        self.commit_drain(now, drafts, ids);
        if had_to_write {
            // The site's write may have made the last dirty row what the state says: then no step is left to tell so.
            self.shown_follows();
        }
    }

    /// Commits what a drain found, and remembers its entries with the batch.
    fn commit_drain(&mut self, now: Now, drafts: Vec<(RowId, Draft)>, ids: BTreeSet<u64>) {
        let replica = self.replica();
        let first = self.log.head(replica) + 1;
        if drafts.is_empty() {
            if let Some(host) = &mut self.host
                && !ids.is_empty()
            {
                // Nothing changed after all; the entries still have to go.
                host.drained.insert(BatchId { replica, seq: first - 1 }, ids);
            }
            return;
        }
        let (rows, drafts): (Vec<RowId>, Vec<Draft>) = drafts.into_iter().unzip();
        let followed = drafts.clone();
        let batches = self.commit_drafts(now, drafts);
        let last = batches.last().copied().unwrap_or(BatchId { replica, seq: first });
        self.follow_drafts(&batches, &rows, followed);
        if ids.is_empty() {
            return;
        }
        let mut writer = Writer::new();
        ids.iter().for_each(|id| writer.varint(*id));
        self.put(RecordKey::Drained(last), Some(writer.into_bytes()));
        if let Some(host) = &mut self.host {
            host.drained.insert(last, ids);
        }
    }

    /// The database shows its own writes already: the shadow follows.
    fn follow_drafts(&mut self, batches: &[BatchId], rows: &[RowId], drafts: Vec<Draft>) {
        let mut dots = batches.iter().flat_map(|batch| {
            let count = self
                .log
                .get(*batch)
                .map_or(0, |logged| crdt::Envelope::parse(&logged.bytes).map_or(0, |envelope| envelope.change_count));
            (0..count).map(|index| Dot::new(batch.replica, batch.seq, index))
        });
        let dots: Vec<Dot> = dots.by_ref().collect();
        let mut views: BTreeMap<RowId, RowView> = BTreeMap::new();
        let foreign = |row: &RowId| self.host.as_ref().is_some_and(|host| host.foreign.contains_key(row));
        for ((row, draft), dot) in rows.iter().zip(drafts).zip(dots) {
            if foreign(row) {
                // What is known of it is what the drain saw, not what is behind it.
                continue;
            }
            let Op::Row(delta) = &draft.op else { continue };
            let view = views.entry(row.clone()).or_insert_with(|| self.base(row));
            // An amount that leaves its range was refused by the state as well; the next scan sees the difference.
            let _amount_out_of_range = view.follow(dot, draft.stamp, delta);
        }
        for (row, view) in views {
            self.set_shadow(&row, view);
        }
        rows.iter().for_each(|row| self.row_is_dirty(row));
    }

    /// What the database showed of a row before the local write: its shadow, or what a restore left there.
    fn base(&self, row: &RowId) -> RowView {
        let Some(host) = &self.host else { return RowView::default() };
        let shadow = || host.shadow.get(row).cloned().unwrap_or_default();
        match host.foreign.get(row) {
            None => shadow(),
            Some(None) => RowView::default(),
            Some(Some(image)) => self.view_of_image(row, image),
        }
    }

    /// What changed in a row against its shadow, as changes to its state.
    fn difference(
        &mut self,
        now: Now,
        row: &RowId,
        note: &Noted,
        image: Option<&RowImage>,
        recovered: bool,
        drafts: &mut Vec<(RowId, Draft)>,
    ) {
        let key = row.to_key();
        let path = vec![key.name];
        let namespace = row.namespace;
        let mut push =
            |stamp, op| drafts.push((row.clone(), Draft { namespace, path: path.clone(), stamp, op: Op::Row(op) }));
        let time = Hlc::from_millis(self.corrected_ms(note.time_ms.unwrap_or(now.wall_ms)));
        if recovered {
            return self.recover_written(row, time, image, push);
        }
        let Some(host) = &self.host else { return };
        if note.time_ms.is_none() {
            if host.shows(row, image) {
                return;
            }
            self.report(Report::OutOfBandWrite { row: row.clone() });
        }
        let base = self.base(row);
        if let Some(foreign) = self.host.as_mut().and_then(|host| host.foreign.get_mut(row)) {
            *foreign = image.cloned();
        }
        match (base.exists(), image) {
            (false, None) => {}
            (true, None) => base.delete().into_iter().for_each(|delta| push(time, delta)),
            (false, Some(image)) => push(time, base.insert(self.columns(row, image))),
            (true, Some(image)) => {
                let columns = self.columns(row, image);
                let replaced = note.replaced && note.time_ms.is_some();
                let deltas = if replaced {
                    base.replace(self.replica(), time, columns)
                } else {
                    base.update(self.replica(), time, columns)
                };
                for (stamp, mut delta) in deltas {
                    self.name_equal_entries(row, &mut delta);
                    push(stamp, delta);
                }
            }
        }
    }

    /// The columns of an image: values, and amounts of counters.
    pub(super) fn columns(&self, row: &RowId, image: &RowImage) -> Vec<(crdt::row::ColumnName, Write)> {
        let Some(host) = &self.host else { return Vec::new() };
        let write = |(name, value): (&crdt::row::ColumnName, &Value)| {
            let counts = host.schema.is_counter(&row.table, name);
            let write = match value {
                Value::Integer(number) if counts => Write::Count(number.get()),
                _ if counts => Write::Count(0),
                value => Write::Set(value.clone()),
            };
            (name.clone(), write)
        };
        image.iter().map(write).collect()
    }

    /// A value written anew takes its entries out of the journal: that is how a restore is captured.
    fn name_equal_entries(&self, row: &RowId, delta: &mut crdt::row::RowDelta) {
        let key = row.to_key();
        debug_assert_eq!(key.kind, Kind::Row);
        let Some(object) = self.keyspace.object(&key) else { return };
        let Object::Row(state) = object.as_ref() else { return };
        for entry in state.journal() {
            let crdt::row::RowJournalContent::Value(_, value) = entry.content else { continue };
            let column = delta.columns.iter_mut().find(|column| &*column.name == entry.column);
            if let Some(column) = column
                && column.write.as_ref() == Some(value)
                && !column.replaces.contains(&entry.dot)
            {
                column.replaces.push(entry.dot);
            }
        }
    }
}
