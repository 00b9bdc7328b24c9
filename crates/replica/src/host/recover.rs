//! The rolling scan, and a database or a store that is not the one we remember.
//!
//! What an honest disk keeps through a power cut is a moment that the database agrees with: each of our steps is
//! planned durably before the database is asked for it, and a batch is durable before anybody hears of it. So a
//! start whose continuity is not proven only *listens* first: whether a peer knows more of our replicas than our
//! log does. The evidence that shadow and database speak of different moments is that, a cursor that is not ours, or
//! damage to what we know of our own steps. A shadow whose checksum does not fit concerns its own row alone, and what the
//! state has of the row stands in for it. One whose checksum fits and that does not decode is evidence against all of
//! them: no disk does that, so another build or a bug wrote it.
//!
//! A start whose continuity is not proven drains nothing as long as it hears no member at all: nobody could be told anyway,
//! and a backup of store and database may hold writes that still wait to be drained here and that the cluster has had, and
//! changed, for long. Drained once more they would bring back rows that were deleted, and count twice.
//!
//! With evidence nothing is drained until the state has caught up with the members that can be heard; then every row
//! is looked at once. A row that shows neither its old shadow nor the cluster's state is reported with its content,
//! because no rule can tell whether that is newer or older. Without an outbox entry it is overwritten with the
//! cluster's state. With one, the site wrote it: values that are neither its old shadow's nor the cluster's are
//! written beside the cluster's, naming none of them, so that nothing is lost; counters are left as they are. In a
//! database that went back, entries from before that was noticed are old, and count as none.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crdt::row::{ColumnName, RowDelta};
use crdt::row_view::{ViewCell, ViewSum, Write};
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
    /// When this process began it.
    since: Now,
    /// From when on members are waited for: while none is heard, the wait does not begin.
    waits_since_mono_ms: u64,
    /// When it was noticed that the database went back, by this process or by one before it, on the wall clock.
    noticed_wall_ms: u64,
    /// The store may be of an earlier moment than the database: members are waited for longer.
    is_unproven: bool,
    /// Shadow and database are known to speak of different moments.
    has_evidence: bool,
    /// The database went back behind what this node remembers.
    database_went_back: bool,
    next_look_mono_ms: u64,
    /// The members that can be heard were caught up with.
    caught_up: bool,
    after: Option<RowId>,
    seen: BTreeSet<RowId>,
}

impl Recovery {
    pub(super) fn new(now: Now, is_unproven: bool) -> Self {
        Self {
            since: now,
            waits_since_mono_ms: now.mono_ms,
            noticed_wall_ms: now.wall_ms,
            is_unproven,
            has_evidence: false,
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

    /// An earlier process had noticed it then: what the site wrote since stays new over a crash.
    pub(super) fn was_noticed(&mut self, wall_ms: u64) {
        self.noticed_wall_ms = wall_ms;
    }

    /// The database went back in this process's sight, maybe once more.
    pub(super) fn is_noticed(&mut self) {
        self.noticed_wall_ms = self.since.wall_ms;
    }

    /// Shadow and database speak of different moments, or the database went back as well.
    pub(super) fn set_evidence(&mut self, database_went_back: bool) {
        (self.has_evidence, self.is_unproven) = (true, true);
        self.database_went_back |= database_went_back;
    }
}

impl Node {
    /// What is in doubt of the database, as bits: listening or recovering, the database went back, evidence.
    pub(crate) fn host_doubt(&self) -> u8 {
        let Some(host) = &self.host else { return 0 };
        let rechecks = host.rechecks || !host.foreign.is_empty() || !host.lost.is_empty();
        let Some(recovery) = &host.recovery else {
            let went_back = rechecks && host.old_before_ms > 0;
            return u8::from(rechecks) | u8::from(went_back) << 1 | u8::from(rechecks) << 2;
        };
        u8::from(recovery.is_unproven)
            | u8::from(recovery.database_went_back) << 1
            | u8::from(recovery.has_evidence || rechecks) << 2
    }

    /// When it was noticed that the database went back; stored beside the doubt.
    pub(crate) fn noticed_wall_ms(&self) -> u64 {
        let Some(host) = &self.host else { return 0 };
        host.recovery.as_ref().map_or(host.old_before_ms, |recovery| recovery.noticed_wall_ms)
    }

    /// A peer knows more of our replicas than our log does: what this node did since its store's moment, it forgot.
    pub(crate) fn history_is_lost(&mut self, now: Now) {
        if let Some(host) = &mut self.host {
            host.recovery.get_or_insert_with(|| Recovery::new(now, true)).set_evidence(false);
        }
    }

    /// Listens, or waits until the state has what the members can give; then looks at every row once.
    pub(super) fn work_recovery(&mut self, now: Now) {
        let intervals = self.setup.intervals.clone();
        let (is_heard, is_caught_up) = (self.has_heard_everybody(), self.is_caught_up());
        let hears_nobody = self.hears_nobody();
        let Some(host) = &mut self.host else { return };
        let Some(recovery) = &mut host.recovery else { return };
        let wait_ms = if recovery.is_unproven { intervals.recovery_wait_ms } else { intervals.listen_ms };
        if recovery.is_unproven && hears_nobody {
            recovery.waits_since_mono_ms = now.mono_ms;
        }
        let waited = now.mono_ms >= recovery.waits_since_mono_ms + wait_ms;
        if !recovery.has_evidence && (is_heard || waited) {
            // Everything that the database shows and this node does not know is what the site wrote.
            host.recovery = None;
            host.notified = true;
            self.shown_follows();
            return self.work_host(now);
        }
        recovery.caught_up |= recovery.has_evidence && ((is_heard && is_caught_up) || waited);
        if !recovery.caught_up {
            recovery.next_look_mono_ms = now.mono_ms + intervals.retry_ms.min(wait_ms);
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
        let is_joining = self.is_joining();
        let Some(host) = &mut self.host else { return };
        let until = if done { None } else { rows.last().map(|(row, _)| row.clone()) };
        if let Some(recovery) = &host.recovery {
            // A slice that was asked for before the doubt arose says nothing: the one look at every row comes later.
            // One that comes while a snapshot is joined is asked for again: the state is that of no vector.
            if !recovery.caught_up || is_joining {
                return;
            }
            return self.recovered_rows(now, rows, until);
        }
        host.scan_after.clone_from(&until);
        let present: BTreeSet<&RowId> = rows.iter().map(|(row, _)| row).collect();
        let behind = (after.as_ref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let shadows = host.shadow.range::<RowId, _>(behind).map(|(row, _)| row);
        let inside = shadows.take_while(|row| until.as_ref().is_none_or(|until| *row <= until));
        let gone = inside.filter(|row| !present.contains(row));
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
        let old_before_ms = if recovery.database_went_back { recovery.noticed_wall_ms } else { 0 };
        host.recovery = None;
        (host.rechecks, host.old_before_ms) = (true, old_before_ms);
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

    /// What the state has of a row stands in for its damaged shadow: the database showed that, unless a step was still
    /// to come. Without it every value in the row would count as the site's: older ones would win over what the cluster
    /// has by now, and rows that it deleted would come back. Its counters are left out: equal sums are not equal
    /// increments.
    pub(super) fn stand_in_for_lost_shadows(&mut self) {
        let lost = self.host.as_ref().map_or_else(BTreeSet::new, |host| host.lost.clone());
        for row in lost {
            let mut view = self.repaired_view(&row);
            // Where a snapshot was joined in part, the state holds what its vector does not cover.
            let mut is_covered = true;
            view.dots(&mut |dot| is_covered &= self.applied.contains(dot.batch()));
            if view.exists() && is_covered {
                view.sums.clear();
                self.set_shadow(&row, view);
            }
            self.check_row(&row);
        }
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

    /// A row that the site wrote, in a database of another moment: what is new in it is written beside what the
    /// cluster has, and the row is reported.
    pub(super) fn recover_written(
        &mut self,
        row: &RowId,
        time: Hlc,
        image: Option<&RowImage>,
        mut push: impl FnMut(Hlc, RowDelta),
    ) {
        let view = self.repaired_view(row);
        let fits = match image {
            Some(image) => view.exists() && differences(&view, image).next().is_none(),
            None => !view.exists(),
        };
        let shadow = self.host.as_ref().and_then(|host| host.shadow.get(row)).cloned().unwrap_or_default();
        // Equal sums are not equal increments: what the site counted may be missing although the sums agree.
        let has_counted =
            view.sums.iter().any(|(name, sum)| shadow.sums.get(name).map(|sum| sum.amount) != Some(sum.amount));
        if !fits || has_counted {
            self.report(Report::Rescued { row: row.clone(), image: image.cloned() });
        }
        if fits {
            self.set_shadow(row, view);
            return self.check_row(row);
        }
        if let Some(host) = &mut self.host {
            host.foreign.insert(row.clone(), image.cloned());
        }
        self.check_row(row);
        let Some(image) = image else { return };
        let columns = self.columns(row, image);
        if !view.exists() && !shadow.exists() {
            return push(time, RowView::default().insert(columns));
        }
        let is_known = |name: &ColumnName, value: &Value| {
            let shows = |view: &RowView| view.cells.get(name).map_or(Value::Null, |cell| cell.value.clone()) == *value;
            shows(&view) || shows(&shadow)
        };
        let fresh = columns.into_iter().filter(|(name, write)| match write {
            Write::Set(value) => !is_known(name, value),
            Write::Count(_) => false,
        });
        // A row that the cluster deleted keeps what is written to it in its journal.
        let lives = if view.exists() { view.lives.clone() } else { shadow.lives.clone() };
        let base = RowView { lives, ..RowView::default() };
        base.update(self.replica(), time, fresh).into_iter().for_each(|(stamp, delta)| push(stamp, delta));
    }

    /// A view for what a restore left in a row: its values, without dots, because nobody is known to have
    /// written them. What is written over it is concurrent to the cluster's values, and loses nothing.
    pub(super) fn view_of_image(&self, row: &RowId, image: &RowImage) -> RowView {
        let shadow = self.host.as_ref().and_then(|host| host.shadow.get(row));
        let mut view = RowView { lives: self.repaired_view(row).lives, ..RowView::default() };
        if view.lives.is_empty() {
            // The cluster deleted it: what is written to it goes to the journal, and makes no new row.
            view.lives = shadow.map_or_else(Vec::new, |shadow| shadow.lives.clone());
        }
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

    /// The stable cut or the members changed.
    pub(crate) fn repairs_are_due(&mut self) {
        if let Some(host) = &mut self.host {
            host.repairs_due = true;
        }
    }

    /// Turns repairs into operations: where this node owns the row's id and both colliding names are stable.
    pub(super) fn repair(&mut self, now: Now) {
        let rebuilding = self.is_rebuilding();
        let Some(host) = &mut self.host else { return };
        if rebuilding || !host.dirty.is_empty() || !core::mem::take(&mut host.repairs_due) {
            return;
        }
        let repaired = host.names.repaired();
        let mut drafts: BTreeMap<RowId, crate::node::Draft> = BTreeMap::new();
        for row in repaired {
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
