//! The rolling scan, and a database that is not the one we remember.
//!
//! After a restored backup, a power cut that ate writes, or damage, shadow and database may speak of different
//! moments. Then nothing is drained until the state has caught up with the members that can be heard; then
//! every row is looked at once. A row without an outbox entry that shows neither its old shadow nor the
//! cluster's state is reported with its content and overwritten: no rule can tell whether it is newer or
//! older. A row with an entry was written by the site, and is drained against its old shadow, but for what
//! the cluster has already. In a database that went back, entries from before that was noticed are old:
//! their rows are reported as well.

use std::collections::{BTreeMap, BTreeSet};

use crdt::row::ColumnName;
use crdt::row_view::{ViewCell, ViewSum};
use crdt::{Hlc, RowView, Value};

use super::write::differences;
use super::{RowId, RowImage, SqlRequest, Work};
use crate::effect::{Effect, Report};
use crate::node::Node;
use crate::time::Now;

/// Rows looked at in one slice of the scan.
const SCAN_ROWS: usize = 200;

/// Catching up with a database that is not the one we remember.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    /// When it was noticed.
    since: Now,
    /// The database went back behind what this node remembers.
    database_went_back: bool,
    next_look_mono_ms: u64,
    /// The members that can be heard were caught up with.
    caught_up: bool,
    after: Option<RowId>,
    seen: BTreeSet<RowId>,
}

impl Recovery {
    pub(super) fn new(now: Now) -> Self {
        Self {
            since: now,
            database_went_back: false,
            next_look_mono_ms: now.mono_ms,
            caught_up: false,
            after: None,
            seen: BTreeSet::new(),
        }
    }

    pub(super) fn timer(&self) -> u64 {
        self.next_look_mono_ms
    }

    pub(super) fn set_database_went_back(&mut self) {
        self.database_went_back = true;
    }
}

/// How the drain after a recovery looks at rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Recheck {
    /// Entries from before this moment of the site's clock are old.
    old_before_ms: u64,
}

impl Recheck {
    /// True when an entry of this time says nothing about a write that is still to be drained.
    pub(super) fn is_old(&self, time_ms: Option<u64>) -> bool {
        time_ms.is_none_or(|time_ms| time_ms < self.old_before_ms)
    }
}

impl Node {
    /// Whether shadows and database are in doubt, and whether the database went back.
    pub(crate) fn host_doubt(&self) -> (bool, bool) {
        let host = self.host.as_ref();
        let recovery = host.and_then(|host| host.recovery.as_ref());
        let rechecks = host.is_some_and(|host| host.recheck.is_some() || !host.foreign.is_empty());
        (recovery.is_some() || rechecks, recovery.is_some_and(|recovery| recovery.database_went_back))
    }

    /// The last life of this node noticed that the database went back, and had not mended it.
    pub(crate) fn database_went_back(&mut self) {
        if let Some(recovery) = self.host.as_mut().and_then(|host| host.recovery.as_mut()) {
            recovery.set_database_went_back();
        }
    }

    /// Waits until the state has what the members can give, then looks at every row once.
    pub(super) fn work_recovery(&mut self, now: Now) {
        let wait_ms = self.setup.intervals.recovery_wait_ms;
        let retry_ms = self.setup.intervals.retry_ms;
        let caught_up = self.is_caught_up();
        let Some(host) = &mut self.host else { return };
        let Some(recovery) = &mut host.recovery else { return };
        let waited = now.mono_ms >= recovery.since.mono_ms + wait_ms;
        recovery.caught_up |= caught_up || waited;
        if !recovery.caught_up {
            recovery.next_look_mono_ms = now.mono_ms + retry_ms.min(wait_ms);
            return;
        }
        let after = recovery.after.clone();
        host.begin(Work::Scanning { after: after.clone() });
        self.effect(Effect::Sql(SqlRequest::Scan { after, limit: SCAN_ROWS }));
    }

    pub(super) fn begin_scan(&mut self, now: Now) {
        let scan_ms = self.setup.intervals.scan_ms;
        let Some(host) = &mut self.host else { return };
        if now.mono_ms < host.scan_at_mono_ms {
            return;
        }
        host.scan_at_mono_ms = now.mono_ms + scan_ms;
        let after = host.scan_after.clone();
        host.begin(Work::Scanning { after: after.clone() });
        self.effect(Effect::Sql(SqlRequest::Scan { after, limit: SCAN_ROWS }));
    }

    pub(super) fn scanned(&mut self, now: Now, after: Option<RowId>, rows: Vec<(RowId, RowImage)>, done: bool) {
        let Some(host) = &mut self.host else { return };
        let until = if done { None } else { rows.last().map(|(row, _)| row.clone()) };
        if host.recovery.is_some() {
            return self.recovered_rows(now, rows, until);
        }
        host.scan_after.clone_from(&until);
        let present: BTreeSet<&RowId> = rows.iter().map(|(row, _)| row).collect();
        let inside = |row: &&RowId| {
            after.as_ref().is_none_or(|after| *row > after) && until.as_ref().is_none_or(|until| *row <= until)
        };
        let gone = host.shadow.keys().filter(inside).filter(|row| !present.contains(row));
        let moved = rows.iter().filter(|(row, image)| !host.shows(row, Some(image))).map(|(row, _)| row);
        let suspects: Vec<RowId> = gone.chain(moved).cloned().collect();
        host.suspects.extend(suspects);
    }

    /// A slice of the one look at every row.
    fn recovered_rows(&mut self, now: Now, rows: Vec<(RowId, RowImage)>, until: Option<RowId>) {
        for (row, image) in rows {
            self.recover_row(&row, Some(&image));
            if let Some(recovery) = self.host.as_mut().and_then(|host| host.recovery.as_mut()) {
                recovery.seen.insert(row);
            }
        }
        let Some(host) = &mut self.host else { return };
        let Some(recovery) = &mut host.recovery else { return };
        recovery.after.clone_from(&until);
        if until.is_some() {
            return;
        }
        // Rows that the scan did not show are gone, or have an outbox entry: the drain looks at both.
        let seen = core::mem::take(&mut recovery.seen);
        let old_before_ms = if recovery.database_went_back { recovery.since.wall_ms } else { 0 };
        host.recovery = None;
        host.recheck = Some(Recheck { old_before_ms });
        let unseen: Vec<RowId> = host.shadow.keys().filter(|row| !seen.contains(row)).cloned().collect();
        host.suspects.extend(unseen);
        host.notified = true;
        host.drained_last = false;
        host.poll_at_mono_ms = now.mono_ms;
        let states: BTreeSet<RowId> =
            crate::node::rows(&self.keyspace).filter_map(|key| RowId::from_key(&key)).collect();
        states.iter().for_each(|row| self.row_is_dirty(row));
        self.shown_follows();
    }

    /// Decides what a row without an outbox entry is.
    pub(super) fn recover_row(&mut self, row: &RowId, image: Option<&RowImage>) {
        let view = self.repaired_view(row);
        let fits = |view: &RowView| match image {
            Some(image) => view.exists() && differences(view, image).next().is_none(),
            None => !view.exists(),
        };
        if fits(&view) {
            self.set_shadow(row, view);
        } else if self.host.as_ref().is_some_and(|host| !host.shows(row, image)) {
            self.report(Report::Rescued { row: row.clone(), image: image.cloned() });
            if let Some(host) = &mut self.host {
                host.foreign.insert(row.clone(), image.cloned());
            }
        }
        self.check_row(row);
    }

    /// Makes the shadow of a row with an entry say what the cluster has already: the entry may belong to a
    /// batch that only this node forgot. A sum that is neither the old nor the cluster's cannot be told apart
    /// from such a batch, and is reported. False when nothing is left to drain.
    pub(super) fn recover_shadow(&mut self, row: &RowId, image: Option<&RowImage>) -> bool {
        let view = self.repaired_view(row);
        let Some(host) = &self.host else { return false };
        let mut base = host.shadow.get(row).cloned().unwrap_or_default();
        let fits = match image {
            Some(image) => view.exists() && differences(&view, image).next().is_none(),
            None => !view.exists(),
        };
        if fits {
            self.set_shadow(row, view);
            self.check_row(row);
            return false;
        }
        let Some(image) = image.filter(|_| base.exists() && view.exists()) else { return true };
        let mut unknown = false;
        for (column, value) in image {
            match (view.cells.get(column), view.sums.get(column), value) {
                (Some(cell), _, value) if cell.value == *value => {
                    base.cells.insert(column.clone(), cell.clone());
                }
                (_, Some(sum), Value::Integer(number)) if sum.amount == number.get() => {
                    base.sums.insert(column.clone(), sum.clone());
                }
                (_, Some(_), Value::Integer(number)) => {
                    let known = base.sums.entry(column.clone()).or_default();
                    unknown |= known.amount != number.get();
                    known.amount = number.get();
                }
                _ => {}
            }
        }
        if unknown {
            self.report(Report::Rescued { row: row.clone(), image: Some(image.clone()) });
        }
        self.set_shadow(row, base);
        self.check_row(row);
        true
    }

    /// A view for what a restore left in a row: its values, without dots, because nobody is known to have
    /// written them. What is written over it is concurrent to the cluster's values, and loses nothing.
    pub(super) fn view_of_image(&self, row: &RowId, image: &RowImage) -> RowView {
        let mut view = RowView { lives: self.repaired_view(row).lives, ..RowView::default() };
        let counts =
            |column: &ColumnName| self.host.as_ref().is_some_and(|host| host.schema.is_counter(&row.table, column));
        for (column, value) in image {
            match value {
                Value::Integer(number) if counts(column) => {
                    view.sums.insert(column.clone(), ViewSum { amount: number.get(), seen: Vec::new() });
                }
                value => {
                    let cell = ViewCell { value: value.clone(), stamp: Hlc::ZERO, dots: Vec::new() };
                    view.cells.insert(column.clone(), cell);
                }
            }
        }
        view
    }

    /// Turns repairs into operations: where this node owns the row's id and both colliding names are stable.
    pub(super) fn repair(&mut self, now: Now) {
        let Some(host) = &self.host else { return };
        if !host.dirty.is_empty() || self.is_rebuilding() {
            return;
        }
        let mut drafts: BTreeMap<RowId, crate::node::Draft> = BTreeMap::new();
        for row in host.names.repaired() {
            if self.owns(&row)
                && let Some(draft) = self.repair_of(&row)
            {
                drafts.insert(row, draft);
            }
        }
        for (row, draft) in drafts {
            self.report(Report::Repaired { row });
            self.commit_drafts(now, vec![draft]);
        }
    }

    /// The member that has the slot of the row's id, else the one with the lowest slot.
    fn owns(&self, row: &RowId) -> bool {
        let members = self.members();
        let slot = row.number().map(|id| (id.wrapping_sub(1) % 64 + 1) as u8);
        let owner = members.iter().find(|(_, member_slot)| Some(*member_slot) == slot);
        let owner = owner.or_else(|| members.iter().min_by_key(|(_, member_slot)| *member_slot));
        owner.is_some_and(|(node, _)| *node == self.setup.node)
    }

    fn repair_of(&self, row: &RowId) -> Option<crate::node::Draft> {
        let host = self.host.as_ref()?;
        let column = host.schema.unique(&row.table)?;
        let rival = host.names.rival(row)?;
        let cell = self.raw_view(row)?.cells.get(column)?.clone();
        let rival_cell = self.raw_view(&rival)?.cells.get(column)?.clone();
        let stable = |cell: &ViewCell| cell.dots.iter().all(|dot| self.stable().contains(dot.batch()));
        if !stable(&cell) || !stable(&rival_cell) {
            return None;
        }
        let name = Value::bytes(host.names.shown(row)?);
        let change = crdt::row::ColumnDelta {
            name: column.clone(),
            replaces: cell.dots.clone(),
            write: Some(name),
            ..crdt::row::ColumnDelta::default()
        };
        let lives = self.raw_view(row)?.lives;
        let delta = crdt::row::RowDelta { lives, columns: vec![change], ..crdt::row::RowDelta::default() };
        // Without the clock: a repair must not beat a write that a person made meanwhile.
        let stamp = cell.stamp.next();
        let path = vec![row.to_key().name];
        Some(crate::node::Draft { namespace: row.namespace, path, stamp, op: crdt::Op::Row(delta) })
    }
}
