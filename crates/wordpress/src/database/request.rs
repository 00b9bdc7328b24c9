//! What the machine asks, answered by a real database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crdt::Namespace;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use replica::host::{OutboxEntry, RowId, RowImage, RowOperation, RowWrite, SqlError, SqlRequest, SqlResponse};

use super::Database;
use super::error::DatabaseError;
use super::read::{self, Reading};
use super::write::write_row;
use crate::key;
use crate::shape::Shape;
use crate::triggers::{self, quoted};

/// The name of the cursor in the table of single values.
pub(super) const CURSOR: &str = "applied.seq";

/// Rows of one table that a scan reads at once.
const SLICE_ROWS_MAX: usize = 1_000;

/// One line of the outbox.
type Line = (u64, u32, Vec<u8>, Vec<u8>, u8, u64);

/// Rows, and those that are not there.
type Rows = BTreeMap<RowId, Option<RowImage>>;

impl Database {
    /// Answers one request. A failure is told twice: to the machine by what it must do, and in words to whoever runs it.
    pub async fn ask(&mut self, request: SqlRequest) -> (SqlResponse, Option<DatabaseError>) {
        let answer = match request {
            SqlRequest::ReadCursor => self.read_cursor().await,
            SqlRequest::Drain { also } => self.drain(also).await,
            SqlRequest::DeleteOutbox { ids, cursor } => self.delete_outbox(ids, cursor).await,
            SqlRequest::Lock { rows } => self.lock(&rows).await,
            SqlRequest::Write { rows, cursor } => self.write(&rows, cursor).await,
            SqlRequest::Rollback => self.rollback().await,
            SqlRequest::Scan { after, limit } => self.scan(after, limit).await,
        };
        match answer {
            Ok(response) => (response, None),
            Err(error) => {
                let told = self.failed(&error).await;
                (SqlResponse::Failed(told), Some(error))
            }
        }
    }

    /// Ends what is open, and says what the machine must do about it.
    async fn failed(&mut self, error: &DatabaseError) -> SqlError {
        let told = match error {
            DatabaseError::Refused { code: 1213, .. } => SqlError::Deadlock,
            DatabaseError::Refused { code: 1205, .. } => SqlError::LockTimeout,
            DatabaseError::Refused { code: 1020, .. } => SqlError::RecordChanged,
            DatabaseError::Refused { code: 1062, .. } => SqlError::DuplicateKey,
            _ => SqlError::ConnectionLost,
        };
        // 1205 ends the statement and leaves the transaction open.
        if told == SqlError::ConnectionLost || self.rollback().await.is_err() {
            self.hang_up();
            return SqlError::ConnectionLost;
        }
        told
    }

    async fn read_cursor(&mut self) -> Result<SqlResponse, DatabaseError> {
        // Another answer may be on its way on the old one, and a transaction open there.
        self.hang_up();
        // SUBTLE: a commit of the old connection may still be under way. It holds this row, so it is waited for.
        let state = quoted(&triggers::state(&self.options.prefix));
        let statement = format!("SELECT value FROM {state} WHERE name = ? FOR UPDATE");
        let cursor: Option<u64> = self.connection().await?.exec_first(statement, (CURSOR,)).await?;
        Ok(SqlResponse::Cursor(cursor.unwrap_or(0)))
    }

    async fn drain(&mut self, also: Vec<RowId>) -> Result<SqlResponse, DatabaseError> {
        let (shape, outbox) = (self.shape.clone(), triggers::outbox(&self.options.prefix));
        let connection = self.connection().await?;
        begin_snapshot(connection).await?;
        let lines: Vec<Line> =
            connection.query(format!("SELECT id, site, tbl, k, op, t FROM {}", quoted(&outbox))).await?;
        let (mut entries, mut strays) = (Vec::new(), BTreeSet::new());
        for (id, site, table, key, operation, time_ms) in lines {
            match to_row(&shape, site, &table, key).zip(to_operation(operation)) {
                Some((row, operation)) => entries.push(OutboxEntry { id, row, operation, time_ms }),
                None => drop(strays.insert(id)),
            }
        }
        entries.extend(dependents(connection, &shape, &entries).await?);
        let mut wanted: BTreeSet<RowId> = also.into_iter().collect();
        wanted.extend(entries.iter().map(|entry| entry.row.clone()));
        let rows = read_rows(connection, &shape, wanted, Reading::Plain).await?;
        connection.query_drop("COMMIT").await?;
        self.strays = strays;
        Ok(SqlResponse::Drained { entries, rows })
    }

    async fn delete_outbox(&mut self, ids: Vec<u64>, cursor: u64) -> Result<SqlResponse, DatabaseError> {
        let prefix = self.options.prefix.clone();
        let strays = std::mem::take(&mut self.strays);
        let connection = self.connection().await?;
        connection.query_drop("START TRANSACTION").await?;
        // SUBTLE: one id a statement. A list inside a transaction met 1020 where rows came and went beside it.
        let statement = format!("DELETE FROM {} WHERE id = ?", quoted(&triggers::outbox(&prefix)));
        for id in strays.into_iter().chain(ids) {
            connection.exec_drop(statement.as_str(), (id,)).await?;
        }
        set_cursor(connection, &prefix, cursor).await?;
        connection.query_drop("COMMIT").await?;
        Ok(SqlResponse::Deleted)
    }

    async fn lock(&mut self, rows: &[RowId]) -> Result<SqlResponse, DatabaseError> {
        let (shape, outbox) = (self.shape.clone(), triggers::outbox(&self.options.prefix));
        let connection = self.connection().await?;
        connection.query_drop("START TRANSACTION").await?;
        let wanted: BTreeSet<RowId> = rows.iter().cloned().collect();
        let images = read_rows(connection, &shape, wanted, Reading::ForUpdate).await?;
        // The second look: whoever wrote one of them has committed by now, with its entry.
        let mut entries = Vec::new();
        let statement = format!("SELECT id FROM {} WHERE site = ? AND tbl = ? AND k = ?", quoted(&outbox));
        for row in rows {
            let values = (row.namespace.0, row.table.as_bytes(), row.key.as_ref());
            entries.extend(connection.exec::<u64, _, _>(statement.as_str(), values).await?);
        }
        Ok(SqlResponse::Locked { entries, rows: images })
    }

    async fn write(&mut self, rows: &[(RowId, RowWrite)], cursor: u64) -> Result<SqlResponse, DatabaseError> {
        let (shape, prefix) = (self.shape.clone(), self.options.prefix.clone());
        let connection = self.connection().await?;
        for (row, write) in rows {
            write_row(connection, &shape, row, write).await?;
        }
        set_cursor(connection, &prefix, cursor).await?;
        connection.query_drop("COMMIT").await?;
        Ok(SqlResponse::Written)
    }

    async fn rollback(&mut self) -> Result<SqlResponse, DatabaseError> {
        if let Some(connection) = &mut self.connection {
            connection.query_drop("ROLLBACK").await?;
        }
        Ok(SqlResponse::RolledBack)
    }

    async fn scan(&mut self, after: Option<RowId>, limit: usize) -> Result<SqlResponse, DatabaseError> {
        let (shape, outbox) = (self.shape.clone(), triggers::outbox(&self.options.prefix));
        let connection = self.connection().await?;
        begin_snapshot(connection).await?;
        let lines: Vec<(u32, Vec<u8>, Vec<u8>)> =
            connection.query(format!("SELECT site, tbl, k FROM {}", quoted(&outbox))).await?;
        let noted: BTreeSet<RowId> =
            lines.into_iter().filter_map(|(site, table, key)| to_row(&shape, site, &table, key)).collect();
        let mut rows = Vec::new();
        let mut done = true;
        'tables: for table in shape.tables() {
            let place = (table.namespace, &table.table);
            let mut behind = match &after {
                Some(row) if (row.namespace, &row.table) > place => continue,
                Some(row) if (row.namespace, &row.table) == place => Some(row.key.clone()),
                _ => None,
            };
            loop {
                let slice =
                    read::slice(connection, &shape, table, behind.as_deref(), SLICE_ROWS_MAX.min(limit)).await?;
                rows.extend(slice.rows.into_iter().filter(|(row, _)| !noted.contains(row)));
                if rows.len() >= limit {
                    done = false;
                    break 'tables;
                }
                let Some(until) = slice.until else { break };
                behind = Some(until.key);
            }
        }
        connection.query_drop("COMMIT").await?;
        Ok(SqlResponse::Scanned { rows, done })
    }
}

async fn begin_snapshot(connection: &mut Conn) -> Result<(), DatabaseError> {
    connection.query_drop("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    connection.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
    Ok(())
}

async fn set_cursor(connection: &mut Conn, prefix: &str, cursor: u64) -> Result<(), DatabaseError> {
    let statement = format!(
        "INSERT INTO {} (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = VALUES(value)",
        quoted(&triggers::state(prefix))
    );
    connection.exec_drop(statement, (CURSOR, cursor)).await?;
    Ok(())
}

/// The rows with these ids. Those of tables that this region does not have are left out of the answer.
async fn read_rows(
    connection: &mut Conn,
    shape: &Shape,
    wanted: BTreeSet<RowId>,
    reading: Reading,
) -> Result<Rows, DatabaseError> {
    let mut by_table: BTreeMap<(Namespace, Arc<str>), Vec<RowId>> = BTreeMap::new();
    for row in wanted {
        by_table.entry((row.namespace, row.table.clone())).or_default().push(row);
    }
    let mut rows = Rows::new();
    for ((namespace, table), wanted) in by_table {
        let Some(table) = shape.table(namespace, &table) else { continue };
        let mut images = read::by_keys(connection, shape, table, &wanted, reading).await?;
        rows.extend(wanted.into_iter().map(|row| {
            let image = images.remove(&row);
            (row, image)
        }));
    }
    Ok(rows)
}

/// A row that leaves its region from now on takes along what belongs to it, under the entry that tells so. As updates:
/// most rows that are inserted never were kept here, and what belongs to them has entries of its own.
async fn dependents(
    connection: &mut Conn,
    shape: &Shape,
    entries: &[OutboxEntry],
) -> Result<Vec<OutboxEntry>, DatabaseError> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.operation == RowOperation::Insert) {
        let Some(number) = entry.row.number() else { continue };
        let belongs = |table: &&crate::shape::TableShape| {
            let owner = table.owner.as_ref();
            table.namespace == entry.row.namespace && owner.is_some_and(|owner| owner.table == entry.row.table)
        };
        for table in shape.tables().filter(belongs) {
            let (Some(owner), [key]) = (&table.owner, table.key_columns()) else { continue };
            let statement = format!(
                "SELECT {} FROM {} WHERE {} = ?",
                quoted(&key.name),
                quoted(&table.physical),
                quoted(&owner.by)
            );
            let keys: Vec<u64> = connection.exec(statement, (number,)).await?;
            found.extend(
                keys.into_iter()
                    .map(|key| OutboxEntry { row: table.row_id(key.to_be_bytes().into()), ..entry.clone() }),
            );
        }
    }
    Ok(found)
}

fn to_row(shape: &Shape, site: u32, table: &[u8], key: Vec<u8>) -> Option<RowId> {
    let table = shape.table(Namespace(site), std::str::from_utf8(table).ok()?)?;
    key::decode(&table.key, &key)?;
    Some(table.row_id(key.into()))
}

fn to_operation(operation: u8) -> Option<RowOperation> {
    match operation {
        triggers::INSERT => Some(RowOperation::Insert),
        triggers::UPDATE => Some(RowOperation::Update),
        triggers::DELETE => Some(RowOperation::Delete),
        _ => None,
    }
}
