//! The drain and apply machine: keeps one database and the node's state in step.
//!
//! The machine asks one thing of its database at a time ([`SqlRequest`]). It knows of each row what the database
//! shows: its *shadow*, with the dots behind each value. A local write is the difference between a row and
//! its shadow, and replaces what the shadow names. A remote batch is joined into the state as a whole; then
//! every row whose (repaired) view differs from its shadow is *dirty*, and is written in small steps, each
//! under row locks and after a second look into the outbox. The next batch is joined when no row is dirty.
//!
//! Each of our transactions in the database sets its cursor to the number of the step that it is. The step is
//! planned durably before, so that after a crash the cursor tells whether it happened; that is settled
//! before anything is drained. The numbers differ between timelines of one database: see `step`.

mod drain;
mod names;
mod recover;
mod schema;
mod sql;
mod step;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use crdt::mutant::{Mutant, active};
use crdt::{BatchId, RowView};

use names::Names;
use recover::Recovery;

pub use schema::{Schema, Table};
pub use sql::{OutboxEntry, RowId, RowImage, RowOperation, RowWrite, SqlError, SqlRequest, SqlResponse};

/// What the machine waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// Nothing is under way.
    #[default]
    Idle,
    /// A plan is not durable yet, or a request is not answered yet.
    Busy(Work),
}

/// What is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Work {
    /// Reading the cursor.
    Settling,
    /// Reading the outbox; these rows are looked at as well.
    Draining(BTreeSet<RowId>),
    /// Deleting drained entries.
    Deleting,
    /// Locking the rows of the planned step.
    Locking,
    /// Writing the planned step.
    Writing,
    /// Rolling back, because of these rows.
    RollingBack(BTreeSet<RowId>),
    /// Scanning.
    Scanning { after: Option<RowId> },
}

/// What is not certain about what stands on disk of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Doubts {
    /// Nothing stands there, and nothing ever did.
    pub(crate) is_first_start: bool,
    /// It may be of an earlier moment than the database.
    pub(crate) is_unproven: bool,
    /// It is of another moment than the database, or what it says of our own steps is damaged.
    pub(crate) is_damaged: bool,
    /// The last process had found that the database went back.
    pub(crate) database_went_back: bool,
    /// And when, on the wall clock.
    pub(crate) noticed_wall_ms: Option<u64>,
}

/// A step that the database may or may not hold yet.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// Drained entries are deleted.
    Delete(Vec<u64>),
    /// Rows become what these views say.
    Write(BTreeMap<RowId, RowView>),
}

/// When a dirty row is written: rows appear after those that they refer to, and vanish before them; beyond that, in
/// the order in which they became dirty.
type Turn = (u8, u64);

/// The machine's memory.
#[derive(Debug)]
pub(crate) struct Host {
    schema: Schema,
    phase: Phase,
    shadow: BTreeMap<RowId, RowView>,
    /// Rows whose shadow was damaged: what stands in for it may not be what the database showed.
    lost: BTreeSet<RowId>,
    /// Rows that show something that no shadow explains, after a restore.
    foreign: BTreeMap<RowId, Option<RowImage>>,
    names: Names,
    /// A repair may have become due: names, the stable cut or the members changed.
    repairs_due: bool,
    /// Rows whose view differs from their shadow, with their turn.
    dirty: BTreeMap<RowId, Turn>,
    /// Dirty rows in the order in which they are written.
    order: BTreeMap<Turn, RowId>,
    /// Rows that ever became dirty.
    turns: u64,
    /// Outbox entries whose changes stand in these batches already.
    drained: BTreeMap<BatchId, BTreeSet<u64>>,
    /// The last step that the database is known to hold.
    cursor: u64,
    /// The number of the next step: above the cursor, and not always the next above.
    next_step: u64,
    planned: Option<(u64, Step)>,
    /// The cursor must be read before anything else.
    unsettled: bool,
    /// The outbox may hold something.
    notified: bool,
    /// Rows that differ from their shadow without an entry.
    suspects: BTreeSet<RowId>,
    /// The last thing done was a drain, so that a busy site does not starve the apply.
    drained_last: bool,
    poll_at_mono_ms: u64,
    scan_at_mono_ms: u64,
    scan_after: Option<RowId>,
    recovery: Option<Recovery>,
    /// The next drain looks at rows as after a recovery.
    rechecks: bool,
    /// After the database went back: entries from before this moment of the wall clock are old.
    old_before_ms: u64,
    failures: u32,
    retry_at_mono_ms: u64,
    /// Greatest entry seen: only for the mutant that trusts it.
    max_id: u64,
}

impl Host {
    pub(crate) fn new(schema: Schema) -> Self {
        Self {
            schema,
            phase: Phase::Idle,
            shadow: BTreeMap::new(),
            lost: BTreeSet::new(),
            foreign: BTreeMap::new(),
            names: Names::default(),
            repairs_due: true,
            dirty: BTreeMap::new(),
            order: BTreeMap::new(),
            turns: 0,
            drained: BTreeMap::new(),
            cursor: 0,
            next_step: 1,
            planned: None,
            unsettled: true,
            notified: false,
            suspects: BTreeSet::new(),
            drained_last: false,
            poll_at_mono_ms: 0,
            scan_at_mono_ms: 0,
            scan_after: None,
            recovery: None,
            rechecks: false,
            old_before_ms: 0,
            failures: 0,
            retry_at_mono_ms: 0,
            max_id: 0,
        }
    }

    /// Puts a row on the list of rows to be written: one that is to exist or one that is to go.
    fn set_dirty(&mut self, row: &RowId, exists: bool) {
        let rank = self.schema.rank(&row.table);
        let class = if exists { rank } else { u8::MAX - rank };
        if self.dirty.get(row).is_some_and(|(present, _)| *present == class) {
            return;
        }
        self.set_clean(row);
        self.turns += 1;
        self.dirty.insert(row.clone(), (class, self.turns));
        self.order.insert((class, self.turns), row.clone());
    }

    /// Takes a row off that list.
    fn set_clean(&mut self, row: &RowId) {
        if let Some(turn) = self.dirty.remove(row) {
            self.order.remove(&turn);
        }
    }

    /// True while the cursor must be read before anything else.
    fn must_settle(&self) -> bool {
        self.unsettled && !(active(Mutant::DrainBeforeSettle) && self.cursor > 0)
    }

    fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// True when nothing is under way but a look at the outbox or at rows, without a reason to expect anything there.
    fn only_looks(&self) -> bool {
        match &self.phase {
            Phase::Idle | Phase::Busy(Work::Scanning { .. }) => true,
            Phase::Busy(Work::Draining(rows)) => rows.is_empty(),
            Phase::Busy(_) => false,
        }
    }

    fn begin(&mut self, work: Work) {
        self.phase = Phase::Busy(work);
    }

    fn drained_ids(&self) -> impl Iterator<Item = &u64> {
        self.drained.values().flatten()
    }
}
