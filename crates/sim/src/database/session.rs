//! Connections and their transactions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use replica::host::{OutboxEntry, RowId};

use super::statement::Statement;
use super::store::{Image, Store};

/// Names a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u32);

/// One connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) transaction: Option<Transaction>,
    /// A statement that waits for locks.
    pub(super) pending: Option<Pending>,
}

/// A statement with the locks that it still needs.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) statement: Statement,
    pub(super) rows: VecDeque<RowId>,
    /// Number of the wait that it is in; 0 before the first.
    pub(super) wait: u64,
}

/// An open transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Transaction {
    /// The moment that plain reads see, from the first read on.
    pub(super) snapshot: Option<u64>,
    pub(super) writes: BTreeMap<RowId, Image>,
    /// Rows that a statement of it deleted.
    pub(super) deleted: BTreeSet<RowId>,
    pub(super) outbox: Vec<OutboxEntry>,
    pub(super) outbox_deletes: Vec<u64>,
    pub(super) cursor: Option<u64>,
    /// False for a writer that the triggers do not see.
    pub(super) is_captured: bool,
    /// True for the engine's own transactions, which triggers ignore by their mark.
    pub(super) by_engine: bool,
}

/// What a commit did to a row.
#[derive(Clone, PartialEq, Debug)]
pub struct RowChange {
    /// The row.
    pub row: RowId,
    /// As the database showed it before.
    pub before: Image,
    /// As the database shows it now.
    pub after: Image,
    /// True when the transaction deleted the row and inserted it again.
    pub recreated: bool,
}

/// One committed transaction that changed something.
#[derive(Clone, PartialEq, Debug)]
pub struct Committed {
    /// Who.
    pub session: SessionId,
    /// True for the engine.
    pub by_engine: bool,
    /// False when no trigger saw the transaction.
    pub is_captured: bool,
    /// Rows that were written, in the order of their ids; also those written with what they held.
    pub changes: Vec<RowChange>,
    /// Ids of the outbox entries that became visible.
    pub outbox: Vec<u64>,
    /// Ids of the outbox entries that the engine took out.
    pub drained: Vec<u64>,
}

impl Transaction {
    /// What a commit would change.
    pub(super) fn changes(&self, store: &Store) -> Vec<RowChange> {
        let change = |(row, image): (&RowId, &Image)| RowChange {
            row: row.clone(),
            before: store.row(row).cloned(),
            after: image.clone(),
            recreated: image.is_some() && self.deleted.contains(row),
        };
        self.writes.iter().map(change).collect()
    }
}
