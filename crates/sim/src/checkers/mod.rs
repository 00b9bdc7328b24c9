//! One checker for each invariant of the protocol, and what they may look at.
//!
//! The world calls [`Checkers::check_step`] after every event with the node that the event went to,
//! [`Checkers::check_opened`] after a process was opened, and [`Checkers::check_rest`] when everything has come to rest.
//! Costs are bounded by construction: what a step changed is looked at at once where that is cheap, by a fixed stride
//! where it is not, and all of it at rest.
//!
//! | invariant | file | at a step | at rest |
//! |---|---|---|---|
//! | 1 equal vectors, equal states | [`convergence`] | every new vector | journals of all |
//! | 2 acknowledged writes are there | [`acknowledged`] | touched door leaves | all |
//! | 3 one hash per dot | [`one_hash`] | all | all |
//! | 4 nothing goes back, clocks stay in bounds | [`monotone`] | all | all |
//! | 5 nothing before its context | [`causality`] | every applied batch, every row that appears | parents of all rows |
//! | 6 nothing comes back | [`resurrection`] | every batch that is written, stable cuts | all values, all rows |
//! | 7 counters | [`counters`] | touched door counters | all, rows too |
//! | 8 caps | [`caps`] | all | all |
//! | 9 no lost update | [`lost_update`] | cells of applied batches | all |
//! | 10 database = state | [`database`] | | all |
//! | 11 idle rate | [`idle`] | | a window |
//! | 12 same seed, same hash | [`determinism`] | | two runs |
//! | 13 coverage | [`coverage`] | | all seeds |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crdt::object::{JournalContent, JournalEntry};
use crdt::row::ColumnName;
use crdt::{BatchId, Fingerprint, Hlc, Key, Name, ReplicaId, Value, VersionVector};
use replica::host::{RowId, RowImage, Schema};
use replica::{Intervals, Limits, Report};

use crate::history::{History, Leaf, NodeIndex};
use crate::oracle::Oracle;
use crate::oracle::names::base;

pub mod acknowledged;
pub mod caps;
pub mod causality;
pub mod convergence;
pub mod counters;
pub mod coverage;
pub mod database;
pub mod determinism;
pub mod idle;
pub mod lost_update;
pub mod monotone;
pub mod one_hash;
pub mod resurrection;
#[cfg(test)]
pub(crate) mod stand;

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its number in PROTOCOL.md, 1 to 13.
    pub invariant: u8,
    /// The node where it was seen, where there is one.
    pub node: Option<NodeIndex>,
    /// The key, row, dot or link concerned.
    pub key: String,
    /// What is wrong, for a person.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}", self.invariant)?;
        if let Some(node) = self.node {
            write!(f, ", node {node}")?;
        }
        write!(f, ", {}: {}", self.key, self.what)
    }
}

/// What a check finds.
pub type Verdict = Result<(), Violation>;

/// Refuses.
pub(crate) fn refuse(invariant: u8, node: Option<NodeIndex>, key: impl fmt::Display, what: String) -> Verdict {
    Err(Violation { invariant, node, key: key.to_string(), what })
}

/// What a node's state says about one leaf of the door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeafView {
    /// Nothing is there, nor was anything ever known.
    Nothing,
    /// A register: what is shown, and what stands in its journal.
    Register(Option<Value>, Vec<Value>),
    /// A counter of either kind; `None` when it does not exist.
    Count(Option<i128>),
    /// A set.
    Elements(BTreeSet<Name>),
}

/// What a node's state says about one row.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowContent {
    /// The repaired view, counters as whole numbers; `None` for a row that does not exist.
    pub shown: Option<RowImage>,
    /// Journaled values by column.
    pub values: Vec<(ColumnName, Value)>,
    /// Journaled amounts by column.
    pub amounts: Vec<(ColumnName, i128)>,
}

/// Figures that have caps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Batches kept beyond a gap.
    pub beyond_gap_batches: usize,
    /// Bytes of the log.
    pub log_bytes: usize,
    /// Bytes of old object states kept for a snapshot that is being sent.
    pub snapshot_preimage_bytes: usize,
    /// Batches held back from applying or sending.
    pub held: usize,
}

/// The public reads of one node.
pub trait NodeRead {
    /// Its replica id.
    fn replica(&self) -> ReplicaId;
    /// Vector of its state.
    fn applied(&self) -> &VersionVector;
    /// Vector of what its database shows.
    fn shown(&self) -> &VersionVector;
    /// Vector of its log.
    fn received(&self) -> &VersionVector;
    /// Its stable cut.
    fn stable(&self) -> VersionVector;
    /// Number of the epoch that it knows; 0 for none.
    fn epoch(&self) -> u64;
    /// Its clock.
    fn clock(&self) -> Hlc;
    /// Digest of its state.
    fn fingerprint(&self) -> Fingerprint;
    /// Number of journal entries.
    fn journal_entries(&self) -> u64;
    /// The whole journal.
    fn journal(&self) -> Vec<(Key, JournalEntry)>;
    /// One leaf of the door.
    fn leaf(&self, leaf: &Leaf) -> LeafView;
    /// One row.
    fn row(&self, row: &RowId) -> RowContent;
    /// True when nothing is on its way through it.
    fn is_settled(&self) -> bool;
    /// True while its state is not what its vector says: a snapshot is being joined, or damaged objects are fetched.
    fn is_installing(&self) -> bool;
    /// Figures that have caps.
    fn figures(&self) -> Figures;
}

/// One database.
pub trait DatabaseRead {
    /// The row as it is committed now.
    fn row(&self, row: &RowId) -> Option<&RowImage>;
    /// All rows in the order of their ids.
    fn rows(&self) -> Box<dyn Iterator<Item = (&RowId, &RowImage)> + '_>;
}

impl DatabaseRead for BTreeMap<RowId, RowImage> {
    fn row(&self, row: &RowId) -> Option<&RowImage> {
        self.get(row)
    }

    fn rows(&self) -> Box<dyn Iterator<Item = (&RowId, &RowImage)> + '_> {
        Box::new(self.iter())
    }
}

/// The world as the checkers see it.
pub trait WorldRead {
    /// The record.
    fn history(&self) -> &History;
    /// A running node; `None` while it is down.
    fn node(&self, node: NodeIndex) -> Option<&dyn NodeRead>;
    /// A database, also of a node that is down; `None` where there is none.
    fn database(&self, node: NodeIndex) -> Option<&dyn DatabaseRead>;
    /// Limits of a node.
    fn limits(&self, node: NodeIndex) -> &Limits;
    /// Intervals, the same on all nodes.
    fn intervals(&self) -> &Intervals;
    /// The tables.
    fn schema(&self) -> &Schema;
    /// Nodes that must agree at rest: members that were not evicted, in the connected core.
    fn core(&self) -> Vec<NodeIndex>;
}

/// Checks one invariant.
pub trait Checker {
    /// After every event that went to `node`.
    ///
    /// # Errors
    /// The first violation.
    fn check_step(&mut self, world: &dyn WorldRead, oracle: &Oracle, node: NodeIndex) -> Verdict {
        let _ = (world, oracle, node);
        Ok(())
    }

    /// When everything has come to rest: all of the core runs, nothing is on its way.
    ///
    /// # Errors
    /// The first violation.
    fn check_rest(&mut self, world: &dyn WorldRead, oracle: &Oracle) -> Verdict {
        let _ = (world, oracle);
        Ok(())
    }
}

/// All checkers of one run, with their oracle. Determinism and coverage compare runs: see [`determinism`], [`coverage`].
pub struct Checkers {
    oracle: Oracle,
    checkers: Vec<Box<dyn Checker>>,
}

impl Default for Checkers {
    fn default() -> Self {
        let checkers: Vec<Box<dyn Checker>> = vec![
            Box::new(convergence::Convergence::default()),
            Box::new(acknowledged::Acknowledged::default()),
            Box::new(one_hash::OneHash::default()),
            Box::new(monotone::Monotone::default()),
            Box::new(causality::Causality::default()),
            Box::new(resurrection::Resurrection::default()),
            Box::new(counters::Counters::default()),
            Box::new(caps::Caps::default()),
            Box::new(lost_update::LostUpdate::default()),
            Box::new(database::Database),
            Box::new(idle::Idle::default()),
        ];
        Self { oracle: Oracle::default(), checkers }
    }
}

impl Checkers {
    /// After every event that went to `node`.
    ///
    /// # Errors
    /// The first violation.
    pub fn check_step(&mut self, world: &dyn WorldRead, node: NodeIndex) -> Verdict {
        self.oracle.read(world.history(), world.schema());
        let Self { oracle, checkers } = self;
        checkers.iter_mut().try_for_each(|checker| checker.check_step(world, oracle, node))
    }

    /// When everything has come to rest. May be called again later: the idle rate is taken between two calls.
    ///
    /// # Errors
    /// The first violation.
    pub fn check_rest(&mut self, world: &dyn WorldRead) -> Verdict {
        self.oracle.read(world.history(), world.schema());
        let Self { oracle, checkers } = self;
        checkers.iter_mut().try_for_each(|checker| checker.check_rest(world, oracle))
    }

    /// What the oracle knows of the row that a violation names, line by line; empty when it names none.
    pub fn explain(&self, history: &History, violation: &Violation) -> Vec<String> {
        let named = |row: &RowId| {
            let name = show_row(row);
            violation.key.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let ledger = self.oracle.rows().find(|ledger| named(&ledger.row));
        ledger.map_or_else(Vec::new, |ledger| self.oracle.story(history, &ledger.row))
    }
}

/// Sorts a row's journal into what the checkers read.
pub fn row_content(shown: Option<RowImage>, journal: impl IntoIterator<Item = JournalEntry>) -> RowContent {
    let mut content = RowContent { shown, ..RowContent::default() };
    for entry in journal {
        let Some(column) = entry.path.last().cloned() else { continue };
        match entry.content {
            JournalContent::Value(value) => content.values.push((column, value)),
            JournalContent::Amount(amount) => content.amounts.push((column, amount)),
        }
    }
    content
}

/// True when a journal entry of a value that was written then may have been collected. Nodes take ages on their
/// monotone clock, which is right whatever the wall clock does.
pub(crate) fn retention_is_over(world: &dyn WorldRead, written_us: u64) -> bool {
    let age_ms = world.history().time_us().saturating_sub(written_us) / 1_000;
    age_ms >= world.intervals().journal_retention_ms
}

/// Values that a node shows or journals, by column, repairs taken off.
pub(crate) fn present(schema: &Schema, row: &RowId, content: &RowContent) -> lost_update::Present {
    let mut present = lost_update::Present::new();
    let shown = content.shown.iter().flatten();
    let journaled = content.values.iter().map(|(column, value)| (column, value));
    for (column, value) in shown.chain(journaled) {
        present.entry(column.clone()).or_default().insert(base(schema, row, column, value));
    }
    present
}

/// Rows whose content went to a person.
pub(crate) fn rescued(history: &History) -> BTreeSet<RowId> {
    let rows = history.reports().iter().filter_map(|reported| match &reported.report {
        Report::Rescued { row, .. } => Some(row.clone()),
        _ => None,
    });
    rows.collect()
}

/// Calls `look` for the leaves of door batches that a node applied since the last call, at most `most` of them a move.
pub(crate) fn touched_leaves(
    world: &dyn WorldRead,
    oracle: &Oracle,
    advances: &mut usize,
    most: usize,
    mut look: impl FnMut(NodeIndex, &dyn NodeRead, &Leaf) -> Verdict,
) -> Verdict {
    let new = &world.history().advances()[*advances..];
    *advances = world.history().advances().len();
    for advance in new {
        let Some(state) = world.node(advance.node).filter(|state| !state.is_installing()) else { continue };
        let batches = (advance.from + 1..=advance.to).rev().map(|seq| BatchId { replica: advance.replica, seq });
        let leaves = batches.flat_map(|batch| acknowledged::leaves_of(world, oracle, batch));
        leaves.take(most).try_for_each(|leaf| look(advance.node, state, leaf))?;
    }
    Ok(())
}

/// A row for a person.
pub(crate) fn show_row(row: &RowId) -> String {
    // A natural key may have eight bytes as well.
    let text = row.key.iter().all(|byte| (0x20..0x7f).contains(byte));
    let number = row.number().filter(|_| !text);
    let key = number.map_or_else(|| row.key.escape_ascii().to_string(), |number| number.to_string());
    format!("{}/{} {key}", row.namespace.0, row.table)
}

/// A leaf of the door for a person.
pub(crate) fn show_leaf(leaf: &Leaf) -> String {
    let path: Vec<String> = leaf.path.iter().map(|name| name.escape_ascii().to_string()).collect();
    format!("{}/{} ({:?})", leaf.namespace.0, path.join("."), leaf.kind)
}

/// An object's key for a person.
pub(crate) fn show_key(key: &Key) -> String {
    RowId::from_key(key).map_or_else(
        || format!("{}/{} ({:?})", key.namespace.0, key.name.escape_ascii(), key.kind),
        |row| show_row(&row),
    )
}
