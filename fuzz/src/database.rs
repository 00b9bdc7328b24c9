//! A database behind a node: rows, an outbox that triggers fill, and a cursor. One writer, no isolation levels:
//! the simulator has those.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crdt::{Namespace, Value};
use replica::host::{
    OutboxEntry, RowId, RowImage, RowOperation, RowWrite, Schema, SqlError, SqlRequest, SqlResponse, Table,
};

/// The tables: one with a counter and a unique name, one with natural keys.
pub fn schema() -> Schema {
    let posts = Table { counters: BTreeSet::from([b"views"[..].into()]), unique: Some(b"slug"[..].into()), rank: 0 };
    Schema { tables: BTreeMap::from([("posts".into(), posts), ("options".into(), Table::default())]) }
}

/// The row of `posts` with this id.
pub fn post(id: u64) -> RowId {
    RowId::numbered(Namespace(0), "posts", id)
}

/// The database.
#[derive(Clone, Debug, Default)]
pub struct Database {
    rows: BTreeMap<RowId, RowImage>,
    outbox: BTreeMap<u64, OutboxEntry>,
    next_entry: u64,
    cursor: u64,
    /// What the next requests fail with.
    failures: VecDeque<SqlError>,
}

impl Database {
    /// The site writes a row, or deletes it, and the trigger notes it.
    pub fn site_writes(&mut self, row: RowId, image: Option<RowImage>, time_ms: u64) {
        let before = self.rows.contains_key(&row);
        let operation = match (before, &image) {
            (_, None) => RowOperation::Delete,
            (false, Some(_)) => RowOperation::Insert,
            (true, Some(_)) => RowOperation::Update,
        };
        match image {
            Some(image) => drop(self.rows.insert(row.clone(), image)),
            None => drop(self.rows.remove(&row)),
        }
        self.next_entry += 1;
        self.outbox.insert(self.next_entry, OutboxEntry { id: self.next_entry, row, operation, time_ms });
    }

    /// The row, with columns and their defaults where it does not exist.
    pub fn row_or_default(&self, row: &RowId) -> RowImage {
        let fresh = [("slug", Value::from("")), ("title", Value::Null), ("views", Value::from(0_u64))];
        let fresh = || fresh.into_iter().map(|(name, value)| (name.as_bytes().into(), value)).collect();
        self.rows.get(row).cloned().unwrap_or_else(fresh)
    }

    /// Lets the next request fail.
    pub fn fail_next(&mut self, error: SqlError) {
        self.failures.push_back(error);
    }

    /// Answers a request.
    pub fn answer(&mut self, request: SqlRequest) -> SqlResponse {
        if let Some(error) = self.failures.pop_front() {
            return SqlResponse::Failed(error);
        }
        match request {
            SqlRequest::ReadCursor => SqlResponse::Cursor(self.cursor),
            SqlRequest::Drain { also } => {
                let named = self.outbox.values().map(|entry| entry.row.clone());
                let rows = self.look(named.chain(also));
                SqlResponse::Drained { entries: self.outbox.values().cloned().collect(), rows }
            }
            SqlRequest::DeleteOutbox { ids, cursor } => {
                self.outbox.retain(|id, _| !ids.contains(id));
                self.cursor = cursor;
                SqlResponse::Deleted
            }
            SqlRequest::Lock { rows } => {
                let noted = self.outbox.values().filter(|entry| rows.contains(&entry.row));
                SqlResponse::Locked { entries: noted.map(|entry| entry.id).collect(), rows: self.look(rows) }
            }
            SqlRequest::Write { rows, cursor } => {
                rows.into_iter().for_each(|(row, write)| self.write(row, write));
                self.cursor = cursor;
                SqlResponse::Written
            }
            SqlRequest::Rollback => SqlResponse::RolledBack,
            SqlRequest::Scan { after, limit } => self.scan(after, limit),
        }
    }

    fn look(&self, rows: impl IntoIterator<Item = RowId>) -> BTreeMap<RowId, Option<RowImage>> {
        rows.into_iter().map(|row| (row.clone(), self.rows.get(&row).cloned())).collect()
    }

    fn write(&mut self, row: RowId, write: RowWrite) {
        match write {
            RowWrite::Insert(image) => drop(self.rows.insert(row, image)),
            RowWrite::Update(columns) => self.rows.entry(row).or_default().extend(columns),
            RowWrite::Delete => drop(self.rows.remove(&row)),
        }
    }

    fn scan(&self, after: Option<RowId>, limit: usize) -> SqlResponse {
        let behind = self.rows.iter().filter(|(row, _)| after.as_ref().is_none_or(|after| *row > after));
        let noted = |row: &RowId| self.outbox.values().any(|entry| entry.row == *row);
        let rows: Vec<_> = behind.filter(|(row, _)| !noted(row)).take(limit).collect();
        let done = rows.len() < limit;
        SqlResponse::Scanned { rows: rows.into_iter().map(|(row, image)| (row.clone(), image.clone())).collect(), done }
    }
}
