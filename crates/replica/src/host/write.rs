//! The machine's course, and the writing of dirty rows.

use std::collections::{BTreeMap, BTreeSet};

use crdt::mutant::{Mutant, active};
use crdt::row::ColumnName;
use crdt::row_view::Write;
use crdt::value::Integer;
use crdt::{BatchId, Key, Object, RowView, Value};

use super::recover::Recovery;
use super::step::{read_ids, read_steps};
use super::{Doubts, Host, Phase, RowId, RowImage, RowWrite, SqlError, SqlRequest, SqlResponse, Step, Work};
use crate::effect::{Effect, MintReason, Report};
use crate::node::{Node, Then};
use crate::record::RecordKey;
use crate::time::Now;

impl Node {
    /// The database's answer to the request that is under way.
    pub fn handle_sql(&mut self, now: Now, response: SqlResponse) {
        if !self.enter(now) {
            return;
        }
        let Some(host) = &mut self.host else { return };
        let Phase::Busy(work) = core::mem::take(&mut host.phase) else { return };
        match (work, response) {
            (work, SqlResponse::Failed(error)) => self.sql_failed(now, work, error),
            (Work::Settling, SqlResponse::Cursor(cursor)) => self.settle(now, cursor),
            (Work::Draining(also), SqlResponse::Drained { entries, rows }) => self.drained(now, &also, entries, &rows),
            (Work::Deleting, SqlResponse::Deleted) | (Work::Writing, SqlResponse::Written) => self.step_done(),
            (Work::Locking, SqlResponse::Locked { entries, rows }) => self.locked(&entries, &rows),
            (Work::RollingBack(rows), SqlResponse::RolledBack) => self.rolled_back(rows),
            (Work::Scanning { after }, SqlResponse::Scanned { rows, done }) => self.scanned(now, after, rows, done),
            // An answer to something else: the connection is out of step, so begin with the cursor.
            _ => host.unsettled = true,
        }
        self.work(now);
    }

    /// The site says that it has written.
    pub fn handle_notify(&mut self, now: Now) {
        if !self.enter(now) {
            return;
        }
        if let Some(host) = &mut self.host {
            host.notified = true;
        }
        self.work(now);
    }

    /// Starts the next thing that the database is needed for.
    pub(crate) fn work_host(&mut self, now: Now) {
        let joining = self.is_joining() && !active(Mutant::ApplyDuringJoin);
        let rebuilding = self.is_rebuilding();
        let Some(host) = &mut self.host else { return };
        if !host.is_idle() || joining || now.mono_ms < host.retry_at_mono_ms {
            return;
        }
        if host.must_settle() {
            host.begin(Work::Settling);
            return self.effect(Effect::Sql(SqlRequest::ReadCursor));
        }
        // A damaged state is nothing to judge rows by.
        if rebuilding {
            return;
        }
        if host.recovery.is_some() {
            return self.work_recovery(now);
        }
        let ids: Vec<u64> = host.drained_ids().copied().collect();
        if !ids.is_empty() {
            return self.plan(Step::Delete(ids));
        }
        let wants_drain = host.notified || !host.suspects.is_empty() || now.mono_ms >= host.poll_at_mono_ms;
        let wants_write = !host.dirty.is_empty();
        if wants_drain && !(wants_write && host.drained_last) {
            return self.begin_drain(now);
        }
        host.drained_last = false;
        if wants_write && self.begin_write() {
            return;
        }
        self.repair(now);
        self.begin_scan(now);
    }

    pub(crate) fn host_timer(&self) -> Option<u64> {
        let host = self.host.as_ref()?;
        if !host.is_idle() || self.is_joining() {
            return None;
        }
        if host.must_settle() {
            return Some(host.retry_at_mono_ms);
        }
        if self.is_rebuilding() {
            return None;
        }
        if let Some(recovery) = &host.recovery {
            return Some(recovery.timer().max(host.retry_at_mono_ms));
        }
        let next = host.poll_at_mono_ms.min(host.scan_at_mono_ms);
        Some(next.max(host.retry_at_mono_ms))
    }

    /// True when the next batch may be joined.
    pub(crate) fn host_may_apply(&self) -> bool {
        self.host.as_ref().is_none_or(|host| !host.must_settle() && (host.dirty.is_empty() || host.recovery.is_some()))
    }

    /// True when the database shows all of the state.
    pub(crate) fn host_shows_all(&self) -> bool {
        self.host.as_ref().is_none_or(|host| host.dirty.is_empty() && host.recovery.is_none() && !host.must_settle())
    }

    pub(crate) fn host_is_settled(&self) -> bool {
        let quiet = |host: &Host| host.suspects.is_empty() && host.drained.is_empty() && !host.notified;
        self.host_shows_all() && self.host.as_ref().is_none_or(|host| quiet(host) && host.only_looks())
    }

    /// What the database shall show of a row: its view, under the name that it is assigned.
    pub(crate) fn repaired_view(&self, row: &RowId) -> RowView {
        let Some(mut view) = self.raw_view(row) else { return RowView::default() };
        let Some(host) = &self.host else { return view };
        if let Some(column) = host.schema.unique(&row.table)
            && let Some(name) = host.names.shown(row)
            && let Some(cell) = view.cells.get_mut(column)
        {
            cell.value = Value::bytes(name);
        }
        view
    }

    pub(super) fn raw_view(&self, row: &RowId) -> Option<RowView> {
        let object = self.keyspace.object(&row.to_key())?;
        let Object::Row(state) = object.as_ref() else { return None };
        // A counter that left its range keeps its last shown amount: the database cannot hold it either.
        state.view().ok().or_else(|| self.host.as_ref()?.shadow.get(row).cloned())
    }

    /// A row's state changed: its name and those of its rivals may have, and each may have to be written.
    pub(crate) fn row_is_dirty(&mut self, row: &RowId) {
        let Some(host) = &self.host else { return };
        let mut rows = BTreeSet::from([row.clone()]);
        if let Some(column) = host.schema.unique(&row.table).cloned() {
            let name = self.own_name(row, &column);
            if let Some(host) = &mut self.host {
                let affected = host.names.set(row, name.as_deref());
                host.repairs_due |= !affected.is_empty();
                if !active(Mutant::RepairOnlyBatchRows) {
                    rows.extend(affected);
                }
            }
        }
        rows.iter().for_each(|row| self.check_row(row));
    }

    fn own_name(&self, row: &RowId, column: &[u8]) -> Option<Vec<u8>> {
        match &self.raw_view(row)?.cells.get(column)?.value {
            Value::Bytes(name) if !name.is_empty() => Some(name.to_vec()),
            _ => None,
        }
    }

    /// Puts a row on the list of rows to be written, or takes it off.
    pub(super) fn check_row(&mut self, row: &RowId) {
        let view = self.repaired_view(row);
        let Some(host) = &mut self.host else { return };
        let shown = host.shadow.get(row);
        let differs = shown.map_or(view.exists(), |shown| *shown != view);
        // A foreign row is to be overwritten; of one whose shadow was damaged nobody knows yet what it shows.
        if differs || host.foreign.contains_key(row) || host.lost.contains(row) {
            host.set_dirty(row, view.exists());
        } else {
            host.set_clean(row);
        }
    }

    /// Plans a step: it becomes durable before the database is asked for it.
    fn plan(&mut self, step: Step) {
        let Some(host) = &mut self.host else { return };
        let number = host.next_step;
        let (work, request) = match &step {
            Step::Delete(ids) => (Work::Deleting, SqlRequest::DeleteOutbox { ids: ids.clone(), cursor: number }),
            Step::Write(rows) => (Work::Locking, SqlRequest::Lock { rows: rows.keys().cloned().collect() }),
        };
        host.begin(work);
        host.planned = Some((number, step));
        self.put_step();
        self.after_durable(Then::Sql(request));
    }

    /// The cursor tells whether the planned step happened.
    fn settle(&mut self, now: Now, cursor: u64) {
        let Some(host) = &mut self.host else { return };
        host.unsettled = false;
        let planned = host.planned.as_ref().map(|(number, _)| *number);
        if planned == Some(cursor) {
            self.step_done();
        } else if cursor == host.cursor {
            host.planned = None;
        } else {
            let known = host.cursor;
            let found_older = cursor < known;
            host.planned = None;
            host.cursor = cursor;
            // A database that is not ours may give the ids of drained entries to others.
            let drained = core::mem::take(&mut host.drained);
            let recovery = host.recovery.get_or_insert_with(|| Recovery::new(now, true));
            recovery.set_evidence(found_older);
            if found_older {
                recovery.is_noticed();
            }
            drained.into_keys().for_each(|batch| self.put(RecordKey::Drained(batch), None));
            self.report(Report::DatabaseRestored { found: cursor, known });
            if !found_older && !active(Mutant::SequenceReused) {
                // It is our store that went back, and with it the sequence that it had used.
                self.mint(MintReason::ContinuityNotProven);
            }
            self.begin_timeline(now);
        }
        self.shown_follows();
    }

    /// The planned step stands in the database.
    fn step_done(&mut self) {
        let Some(host) = &mut self.host else { return };
        let Some((number, step)) = host.planned.take() else { return };
        host.cursor = number;
        host.next_step = host.next_step.max(number + 1);
        host.failures = 0;
        match step {
            Step::Delete(_) => {
                let batches: Vec<BatchId> = core::mem::take(&mut host.drained).into_keys().collect();
                batches.into_iter().for_each(|batch| self.put(RecordKey::Drained(batch), None));
            }
            Step::Write(rows) => {
                for (row, view) in rows {
                    // The bug under test: a repaired name is not what the shadow says.
                    let raw = if active(Mutant::ShadowIsRaw) { self.raw_view(&row) } else { None };
                    let view = raw.unwrap_or(view);
                    self.set_shadow(&row, view);
                    self.check_row(&row);
                }
                self.shown_follows();
            }
        }
        self.put_step();
    }

    pub(super) fn set_shadow(&mut self, row: &RowId, view: RowView) {
        let Some(host) = &mut self.host else { return };
        host.foreign.remove(row);
        let bytes = view.exists().then(|| view.to_bytes());
        if view.exists() {
            host.shadow.insert(row.clone(), view);
        } else {
            host.shadow.remove(row);
        }
        self.put(RecordKey::Shadow(row.to_bytes()), bytes);
    }

    /// Plans to write the next dirty rows. False when there were none after all.
    fn begin_write(&mut self) -> bool {
        let Some(host) = &self.host else { return false };
        let next = host.order.values().take(self.setup.limits.rows_per_step).cloned();
        let next: Vec<RowId> = next.collect();
        if next.is_empty() {
            return false;
        }
        // They stand on the list until they are written.
        let rows = next.into_iter().map(|row| (row.clone(), self.repaired_view(&row))).collect();
        self.plan(Step::Write(rows));
        true
    }

    /// The rows are locked: the second look decides whether they may be written.
    fn locked(&mut self, entries: &[u64], rows: &BTreeMap<RowId, Option<RowImage>>) {
        let Some(host) = &mut self.host else { return };
        let Some((number, Step::Write(views))) = host.planned.clone() else { return };
        let drained: BTreeSet<u64> = host.drained_ids().copied().collect();
        let fresh = entries.iter().any(|id| !drained.contains(id));
        let moved: BTreeSet<RowId> =
            views.keys().filter(|row| !host.shows(row, rows.get(*row).and_then(Option::as_ref))).cloned().collect();
        if (fresh || !moved.is_empty()) && !active(Mutant::NoSecondLook) {
            host.begin(Work::RollingBack(if fresh { BTreeSet::new() } else { moved }));
            host.notified |= fresh;
            return self.effect(Effect::Sql(SqlRequest::Rollback));
        }
        let writes = views.iter().filter_map(|(row, view)| {
            let image = rows.get(row).and_then(Option::as_ref);
            Some((row.clone(), row_write(view, image)?))
        });
        let request = SqlRequest::Write { rows: writes.collect(), cursor: number };
        host.begin(Work::Writing);
        self.effect(Effect::Sql(request));
    }

    /// The second look found something: it is drained first, then the step is planned anew.
    fn rolled_back(&mut self, rows: BTreeSet<RowId>) {
        let Some(host) = &mut self.host else { return };
        host.planned = None;
        host.suspects.extend(rows);
        host.notified = true;
        host.drained_last = false;
    }

    fn sql_failed(&mut self, now: Now, work: Work, error: SqlError) {
        let retry_ms = self.setup.intervals.retry_ms;
        let Some(host) = &mut self.host else { return };
        host.failures = host.failures.saturating_add(1);
        // The first retries come at once: a deadlock is over when its victim is gone.
        let wait_ms = if host.failures < 4 { 0 } else { (u64::from(host.failures) * 10).min(retry_ms) };
        host.retry_at_mono_ms = now.mono_ms + wait_ms;
        // Whether the last request happened is asked of the cursor first.
        host.unsettled |= error == SqlError::ConnectionLost;
        match (&work, error) {
            (Work::Locking | Work::Writing | Work::Deleting, SqlError::ConnectionLost) => {}
            (Work::Locking | Work::Writing, _) => {
                if error == SqlError::DuplicateKey {
                    host.notified = true;
                    host.drained_last = false;
                }
                host.planned = None;
            }
            (Work::Settling, _) => host.unsettled = true,
            (Work::Draining(also), _) => {
                host.suspects.extend(also.iter().cloned());
                host.notified = true;
            }
            (Work::Deleting, _) => host.planned = None,
            (Work::RollingBack(rows), _) => self.rolled_back(rows.clone()),
            (Work::Scanning { .. }, _) => {}
        }
    }

    /// What stands on disk of the machine.
    pub(crate) fn open_host(
        &mut self,
        now: Now,
        shadows: &BTreeMap<Vec<u8>, Vec<u8>>,
        drained: &BTreeMap<BatchId, Vec<u8>>,
        lost: &[Vec<u8>],
        step: Option<&Vec<u8>>,
        doubts: Doubts,
    ) {
        let intervals = self.setup.intervals.clone();
        let Some(host) = &mut self.host else { return };
        // Records with a checksum that fits and a content that does not decode: no disk does that, so all are in doubt.
        let mut intact = true;
        host.lost = lost.iter().filter_map(|row| RowId::from_bytes(row).ok()).collect();
        host.notified |= !host.lost.is_empty();
        let mut garbled = Vec::new();
        for (row, view) in shadows {
            match (RowId::from_bytes(row), RowView::from_bytes(view)) {
                (Ok(row), Ok(view)) => drop(host.shadow.insert(row, view)),
                _ => garbled.push(RecordKey::Shadow(row.clone())),
            }
        }
        if !active(Mutant::DrainedIdsForgotten) {
            for (batch, ids) in drained {
                match read_ids(ids) {
                    Ok(ids) => drop(host.drained.insert(*batch, ids)),
                    Err(_) => garbled.push(RecordKey::Drained(*batch)),
                }
            }
        }
        intact &= garbled.is_empty();
        match step.map(|bytes| read_steps(bytes)) {
            Some(Ok(steps)) => {
                (host.cursor, host.next_step, host.planned) = (steps.cursor, steps.next_step, steps.planned)
            }
            Some(Err(_)) => intact = false,
            None => {}
        }
        host.poll_at_mono_ms = now.mono_ms;
        host.scan_at_mono_ms = now.mono_ms + intervals.scan_ms;
        if !doubts.is_first_start {
            let recovery = host.recovery.insert(Recovery::new(now, doubts.is_unproven));
            if doubts.is_damaged || !intact {
                recovery.set_evidence(doubts.database_went_back);
            }
            if let Some(wall_ms) = doubts.noticed_wall_ms {
                recovery.was_noticed(wall_ms);
            }
        }
        // What was in them is not known: the recovery looks at every row.
        garbled.into_iter().for_each(|record| self.put(record, None));
        if doubts.is_first_start || doubts.is_unproven {
            self.begin_timeline(now);
        }
        let rows: Vec<RowId> = {
            let states = crate::node::rows(&self.keyspace).filter_map(|key: Key| RowId::from_key(&key));
            states.collect::<BTreeSet<_>>().into_iter().collect()
        };
        rows.iter().for_each(|row| self.row_is_dirty(row));
        let shadows = self.host.as_ref().map_or_else(Vec::new, |host| host.shadow.keys().cloned().collect());
        shadows.iter().for_each(|row| self.check_row(row));
        self.stand_in_for_lost_shadows();
    }
}

impl Host {
    /// True when the row in the database is what we know it to show.
    pub(super) fn shows(&self, row: &RowId, image: Option<&RowImage>) -> bool {
        if let Some(foreign) = self.foreign.get(row) {
            return foreign.as_ref() == image;
        }
        match (self.shadow.get(row), image) {
            (None, None) => true,
            (Some(view), Some(image)) => differences(view, image).next().is_none(),
            _ => false,
        }
    }
}

/// Columns in which a row differs from a view of it.
pub(super) fn differences<'a>(view: &'a RowView, image: &'a RowImage) -> impl Iterator<Item = &'a ColumnName> {
    image.iter().filter(|(name, value)| !shows_value(view, name, value)).map(|(name, _)| name)
}

/// True when a view shows this value in a column: `NULL` in one that it does not know.
fn shows_value(view: &RowView, column: &ColumnName, value: &Value) -> bool {
    if let Some(sum) = view.sums.get(column) {
        return number(sum.amount) == *value;
    }
    view.cells.get(column).map_or(&Value::Null, |cell| &cell.value) == value
}

/// A counter's amount as the column can hold it.
fn number(amount: i128) -> Value {
    let clamped = amount.clamp(i64::MIN.into(), u64::MAX.into());
    Integer::from_i128(clamped).map_or(Value::Null, Value::Integer)
}

/// How a row becomes what the view says; `None` where it is that already.
fn row_write(view: &RowView, image: Option<&RowImage>) -> Option<RowWrite> {
    let values = || {
        let value = |write| match write {
            Write::Set(value) => value,
            Write::Count(amount) => number(amount),
        };
        view.values().into_iter().map(move |(name, write)| (name, value(write)))
    };
    match (view.exists(), image) {
        (false, None) => None,
        (false, Some(_)) => Some(RowWrite::Delete),
        (true, None) => Some(RowWrite::Insert(values().collect())),
        (true, Some(image)) => {
            let changed: RowImage = values().filter(|(name, value)| image.get(name) != Some(value)).collect();
            (!changed.is_empty()).then_some(RowWrite::Update(changed))
        }
    }
}
