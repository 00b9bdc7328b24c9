//! What a session can ask, and what a site's statements do.

use std::collections::BTreeMap;

use crdt::row::ColumnName;
use replica::host::{RowId, RowImage, RowOperation, SqlError, SqlRequest, SqlResponse};

use super::session::Transaction;
use super::store::{Image, Store};
use super::{Database, SessionId};

/// One statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Statement {
    /// A request of the engine.
    Engine(SqlRequest),
    /// Opens a transaction of the site.
    Begin {
        /// False for a writer that the triggers do not see.
        is_captured: bool,
    },
    /// A plain SELECT by keys.
    Read(Vec<RowId>),
    /// INSERT: 1062 on a row that is there.
    Insert {
        /// The row.
        row: RowId,
        /// Its columns; those left out get their defaults.
        image: RowImage,
    },
    /// UPDATE of all these rows that are there.
    Update {
        /// The rows, in key order.
        rows: Vec<RowId>,
        /// `column = value`.
        set: RowImage,
        /// `column = column + amount`.
        add: BTreeMap<ColumnName, i64>,
    },
    /// DELETE of all these rows that are there.
    Delete {
        /// The rows, in key order.
        rows: Vec<RowId>,
    },
    /// REPLACE: a DELETE where the row is there, then an INSERT; the triggers see both.
    Replace {
        /// The row.
        row: RowId,
        /// Its columns; those left out get their defaults.
        image: RowImage,
    },
    /// INSERT ... ON DUPLICATE KEY UPDATE.
    Upsert {
        /// The row.
        row: RowId,
        /// Its columns where it is new.
        image: RowImage,
        /// `column = value` where it is there.
        set: RowImage,
        /// `column = column + amount` where it is there.
        add: BTreeMap<ColumnName, i64>,
    },
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
}

/// What a statement came to.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The answer to the engine.
    Engine(SqlResponse),
    /// Number of rows that a write met.
    Affected(u64),
    /// The rows that were read.
    Rows(Vec<(RowId, Image)>),
    /// Committed.
    Committed,
    /// It failed. After 1062 the transaction stands, after everything else it is rolled back.
    Failed(SqlError),
}

impl Statement {
    /// The rows whose locks the statement needs, in the order in which it takes them.
    pub(super) fn rows_to_lock(&self) -> Vec<RowId> {
        match self {
            Self::Engine(request) => super::engine::rows_to_lock(request),
            Self::Insert { row, .. } | Self::Replace { row, .. } | Self::Upsert { row, .. } => vec![row.clone()],
            Self::Update { rows, .. } | Self::Delete { rows } => rows.clone(),
            Self::Begin { .. } | Self::Read(_) | Self::Commit | Self::Rollback => Vec::new(),
        }
    }

    /// True for a locking read, which keeps no lock on a row that is not there. The site's UPDATE and DELETE
    /// keep theirs: the gap locks of REPEATABLE READ.
    pub(super) fn reads_under_lock(&self) -> bool {
        matches!(self, Self::Engine(SqlRequest::Lock { .. }))
    }
}

impl Database {
    /// Carries a statement out; its locks are held.
    pub(super) fn execute(&mut self, session: SessionId, statement: Statement) -> Outcome {
        match statement {
            Statement::Engine(request) => self.execute_engine(session, request),
            Statement::Begin { is_captured } => {
                self.open_transaction(session, Transaction { is_captured, ..Transaction::default() });
                Outcome::Affected(0)
            }
            Statement::Read(rows) => self.read(session, rows),
            Statement::Insert { row, image } => self.insert(session, &row, image),
            Statement::Update { rows, set, add } => self.update(session, &rows, &set, &add),
            Statement::Delete { rows } => self.delete(session, &rows),
            Statement::Replace { row, image } => self.replace(session, &row, image),
            Statement::Upsert { row, image, set, add } => self.upsert(session, &row, image, (&set, &add)),
            Statement::Commit => {
                self.commit(session);
                Outcome::Committed
            }
            Statement::Rollback => {
                self.end_transaction(session);
                Outcome::Affected(0)
            }
        }
    }

    pub(super) fn open_transaction(&mut self, session: SessionId, transaction: Transaction) {
        self.end_transaction(session);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.transaction = Some(transaction);
        }
    }

    fn read(&mut self, session: SessionId, rows: Vec<RowId>) -> Outcome {
        let now = self.store.commits();
        let snapshot = match self.transaction(session) {
            Some(transaction) => *transaction.snapshot.get_or_insert(now),
            None => now,
        };
        let own = |row: &RowId| self.sessions.get(&session)?.transaction.as_ref()?.writes.get(row).cloned();
        let image = |row: &RowId| own(row).unwrap_or_else(|| self.store.row_at(row, snapshot).cloned());
        let images = rows.iter().map(image).collect::<Vec<_>>();
        Outcome::Rows(rows.into_iter().zip(images).collect())
    }

    fn insert(&mut self, session: SessionId, row: &RowId, image: RowImage) -> Outcome {
        if self.current(session, row).is_some() {
            return Outcome::Failed(SqlError::DuplicateKey);
        }
        let image = self.store.complete(row, image);
        self.write(session, row, Some(image), RowOperation::Insert);
        Outcome::Affected(1)
    }

    fn update(
        &mut self,
        session: SessionId,
        rows: &[RowId],
        set: &RowImage,
        add: &BTreeMap<ColumnName, i64>,
    ) -> Outcome {
        let mut affected = 0;
        for row in rows {
            let Some(before) = self.current(session, row) else { continue };
            let mut image = before.as_ref().clone();
            image.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
            add.iter().for_each(|(name, amount)| Store::add(&mut image, name, *amount));
            // MariaDB fires AFTER UPDATE also for a row that is written with what it holds.
            self.write(session, row, Some(image), RowOperation::Update);
            affected += 1;
        }
        Outcome::Affected(affected)
    }

    fn delete(&mut self, session: SessionId, rows: &[RowId]) -> Outcome {
        let mut affected = 0;
        for row in rows {
            if self.current(session, row).is_some() {
                self.write(session, row, None, RowOperation::Delete);
                affected += 1;
            }
        }
        Outcome::Affected(affected)
    }

    fn replace(&mut self, session: SessionId, row: &RowId, image: RowImage) -> Outcome {
        let present = self.current(session, row).is_some();
        if present {
            self.write(session, row, None, RowOperation::Delete);
        }
        let image = self.store.complete(row, image);
        self.write(session, row, Some(image), RowOperation::Insert);
        Outcome::Affected(1 + u64::from(present))
    }

    fn upsert(
        &mut self,
        session: SessionId,
        row: &RowId,
        image: RowImage,
        (set, add): (&RowImage, &BTreeMap<ColumnName, i64>),
    ) -> Outcome {
        if self.current(session, row).is_some() {
            self.update(session, std::slice::from_ref(row), set, add)
        } else {
            self.insert(session, row, image)
        }
    }
}
