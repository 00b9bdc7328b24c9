//! Answers to the engine's requests.

use std::collections::{BTreeMap, BTreeSet};

use replica::host::{RowId, RowImage, RowOperation, RowWrite, SqlError, SqlRequest, SqlResponse};

use super::session::Transaction;
use super::statement::Outcome;
use super::{Database, SessionId};

/// The rows that a request locks.
pub(super) fn rows_to_lock(request: &SqlRequest) -> Vec<RowId> {
    match request {
        SqlRequest::Lock { rows } => rows.clone(),
        // The other rows were locked by the Lock before.
        SqlRequest::Write { rows, .. } => {
            let inserts = rows.iter().filter(|(_, write)| matches!(write, RowWrite::Insert(_)));
            inserts.map(|(row, _)| row.clone()).collect()
        }
        _ => Vec::new(),
    }
}

impl Database {
    /// Carries a request out; its locks are held.
    pub(super) fn execute_engine(&mut self, session: SessionId, request: SqlRequest) -> Outcome {
        let is_open = self.transaction(session).is_some();
        let wants_open = matches!(request, SqlRequest::Write { .. } | SqlRequest::Rollback);
        if is_open != wants_open {
            self.misuse
                .push(format!("{request:?} while a transaction is {}", if is_open { "open" } else { "not open" }));
        }
        let response = match request {
            SqlRequest::ReadCursor => SqlResponse::Cursor(self.store.cursor()),
            SqlRequest::Drain { also } => self.drain(also),
            SqlRequest::DeleteOutbox { ids, cursor } => self.delete_outbox(session, ids, cursor),
            SqlRequest::Lock { rows } => self.lock(session, rows),
            SqlRequest::Write { rows, cursor } => self.engine_write(session, rows, cursor),
            SqlRequest::Rollback => {
                self.end_transaction(session);
                SqlResponse::RolledBack
            }
            SqlRequest::Scan { after, limit } => self.scan(after.as_ref(), limit),
        };
        Outcome::Engine(response)
    }

    fn committed(&self, row: &RowId) -> Option<RowImage> {
        self.store.row(row).map(|image| image.as_ref().clone())
    }

    fn drain(&self, also: Vec<RowId>) -> SqlResponse {
        let entries: Vec<_> = self.store.outbox().values().cloned().collect();
        let named = entries.iter().map(|entry| entry.row.clone()).chain(also);
        let rows = named.map(|row| (row.clone(), self.committed(&row))).collect();
        SqlResponse::Drained { entries, rows }
    }

    fn delete_outbox(&mut self, session: SessionId, outbox_deletes: Vec<u64>, cursor: u64) -> SqlResponse {
        let transaction =
            Transaction { by_engine: true, outbox_deletes, cursor: Some(cursor), ..Transaction::default() };
        self.open_transaction(session, transaction);
        self.commit(session);
        SqlResponse::Deleted
    }

    fn lock(&mut self, session: SessionId, rows: Vec<RowId>) -> SqlResponse {
        if !rows.is_sorted() {
            self.misuse.push(format!("rows are locked out of order: {rows:?}"));
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.transaction = Some(Transaction { by_engine: true, ..Transaction::default() });
        }
        // A row that was not there when its turn came keeps no lock, and was read as missing.
        let held = |row: &RowId| self.locks.holds(session, row).then(|| self.committed(row)).flatten();
        let images: BTreeMap<_, _> = rows.into_iter().map(|row| (row.clone(), held(&row))).collect();
        let outbox = self.store.outbox().values();
        let entries = outbox.filter(|entry| images.contains_key(&entry.row)).map(|entry| entry.id).collect();
        SqlResponse::Locked { entries, rows: images }
    }

    fn engine_write(&mut self, session: SessionId, rows: Vec<(RowId, RowWrite)>, cursor: u64) -> SqlResponse {
        for (row, write) in rows {
            let before = self.current(session, &row);
            if before.is_some() && !self.locks.holds(session, &row) {
                self.misuse.push(format!("{row:?} is written without its lock"));
            }
            match (write, before) {
                (RowWrite::Insert(_), Some(_)) => {
                    self.end_transaction(session);
                    return SqlResponse::Failed(SqlError::DuplicateKey);
                }
                (RowWrite::Insert(image), None) => {
                    let image = self.store.complete(&row, image);
                    self.write(session, &row, Some(image), RowOperation::Insert);
                }
                (RowWrite::Update(columns), Some(before)) => {
                    let mut image = before.as_ref().clone();
                    image.extend(columns);
                    self.write(session, &row, Some(image), RowOperation::Update);
                }
                (RowWrite::Delete, Some(_)) => self.write(session, &row, None, RowOperation::Delete),
                (write, None) => self.misuse.push(format!("{write:?} of {row:?}, which is not there")),
            }
        }
        if let Some(transaction) = self.transaction(session) {
            transaction.cursor = Some(cursor);
        }
        self.commit(session);
        SqlResponse::Written
    }

    fn scan(&self, after: Option<&RowId>, limit: usize) -> SqlResponse {
        let pending: BTreeSet<&RowId> = self.store.outbox().values().map(|entry| &entry.row).collect();
        let mut following = self.store.rows_after(after).filter(|(row, _)| !pending.contains(row));
        let rows = following.by_ref().take(limit).map(|(row, image)| (row.clone(), image.as_ref().clone())).collect();
        SqlResponse::Scanned { rows, done: following.next().is_none() }
    }
}
