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
//! before anything is drained.

mod drain;
mod names;
mod recover;
mod schema;
mod sql;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crdt::{BatchId, RowView};

use names::Names;
use recover::{Recheck, Recovery};

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

/// How far what stands on disk of the machine can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trust {
    /// It is of the moment in which the last process ended.
    Whole,
    /// It may be of an earlier moment: peers are listened to.
    Unproven,
    /// It is of another moment than the database, or damaged.
    None,
}

/// A step that the database may or may not hold yet.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// Drained entries are deleted.
    Delete(Vec<u64>),
    /// Rows become what these views say.
    Write(BTreeMap<RowId, RowView>),
}

/// The machine's memory.
#[derive(Debug)]
pub(crate) struct Host {
    schema: Schema,
    phase: Phase,
    shadow: BTreeMap<RowId, RowView>,
    /// Rows that show something that no shadow explains, after a restore.
    foreign: BTreeMap<RowId, Option<RowImage>>,
    names: Names,
    dirty: BTreeSet<RowId>,
    /// The order in which dirty rows are written: that of the batches.
    order: VecDeque<RowId>,
    /// Outbox entries whose changes stand in these batches already.
    drained: BTreeMap<BatchId, BTreeSet<u64>>,
    /// The last step that the database is known to hold.
    cursor: u64,
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
    recheck: Option<Recheck>,
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
            foreign: BTreeMap::new(),
            names: Names::default(),
            dirty: BTreeSet::new(),
            order: VecDeque::new(),
            drained: BTreeMap::new(),
            cursor: 0,
            planned: None,
            unsettled: true,
            notified: false,
            suspects: BTreeSet::new(),
            drained_last: false,
            poll_at_mono_ms: 0,
            scan_at_mono_ms: 0,
            scan_after: None,
            recovery: None,
            recheck: None,
            failures: 0,
            retry_at_mono_ms: 0,
            max_id: 0,
        }
    }

    fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    fn begin(&mut self, work: Work) {
        self.phase = Phase::Busy(work);
    }

    fn drained_ids(&self) -> impl Iterator<Item = &u64> {
        self.drained.values().flatten()
    }
}
