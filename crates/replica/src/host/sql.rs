//! What the drain and apply machine asks of a database, and what it gets.
//!
//! One connection, one request at a time: each [`SqlRequest`] is answered by exactly one [`SqlResponse`]
//! before the next one is made. The simulator answers from a model of MariaDB, the `wordpress` crate from a
//! real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crdt::error::DecodeError;
use crdt::row::ColumnName;
use crdt::{Key, Kind, Namespace, Value};

/// Names a row: site, table and primary (or natural) key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowId {
    /// Site of the network.
    pub namespace: Namespace,
    /// Table name without the site's prefix.
    pub table: Arc<str>,
    /// The key's bytes. Numeric ids are eight bytes, big endian, so that byte order is id order.
    pub key: Box<[u8]>,
}

impl RowId {
    /// A row by its numeric id.
    pub fn numbered(namespace: Namespace, table: &str, id: u64) -> Self {
        Self { namespace, table: table.into(), key: id.to_be_bytes().into() }
    }

    /// A row by a natural key.
    pub fn named(namespace: Namespace, table: &str, key: &[u8]) -> Self {
        Self { namespace, table: table.into(), key: key.into() }
    }

    /// The numeric id, where there is one.
    pub fn number(&self) -> Option<u64> {
        self.key.as_ref().try_into().map(u64::from_be_bytes).ok()
    }

    /// The object that holds the row's state.
    pub fn to_key(&self) -> Key {
        let name = [self.table.as_bytes(), &[0], &self.key].concat();
        Key::new(self.namespace, Kind::Row, name)
    }

    /// The row whose state an object holds. `None` for objects that are no rows of a table.
    pub fn from_key(key: &Key) -> Option<Self> {
        let at = key.name.iter().position(|byte| *byte == 0).filter(|_| key.kind == Kind::Row)?;
        let table = core::str::from_utf8(&key.name[..at]).ok()?;
        Some(Self { namespace: key.namespace, table: table.into(), key: key.name[at + 1..].into() })
    }

    /// Bytes that name the row in records.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_key().to_bytes()
    }

    /// The inverse of [`RowId::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that name no row.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let key = Key::from_bytes(bytes)?;
        Self::from_key(&key).ok_or(DecodeError::Invalid { what: "row key", at: 0 })
    }
}

/// A row as the database has it: every column of the table, counters as whole numbers.
pub type RowImage = BTreeMap<ColumnName, Value>;

/// What a trigger saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowOperation {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

/// A line of the outbox, written by a trigger in the same transaction as the row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutboxEntry {
    /// Auto-increment: ids become visible out of order.
    pub id: u64,
    /// The row.
    pub row: RowId,
    /// What happened to it.
    pub operation: RowOperation,
    /// The database server's clock at the statement, in milliseconds since 1970.
    pub time_ms: u64,
}

/// What a row becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowWrite {
    /// A plain INSERT: never REPLACE, never ON DUPLICATE KEY.
    Insert(RowImage),
    /// An UPDATE of the columns that differ.
    Update(RowImage),
    /// A DELETE.
    Delete,
}

/// A request to the database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SqlRequest {
    /// The step number that the database holds: below 2^63, 0 in a fresh one.
    ReadCursor,
    /// In one REPEATABLE READ snapshot: all outbox entries that it shows, without a limit, and the rows
    /// that they name, and the rows named here.
    Drain {
        /// Rows to be read as well: a difference without an entry was seen there.
        also: Vec<RowId>,
    },
    /// In one READ COMMITTED transaction: delete these entries one id a statement, and set the cursor.
    DeleteOutbox {
        /// Ids of entries.
        ids: Vec<u64>,
        /// The step that this transaction is.
        cursor: u64,
    },
    /// Begin a READ COMMITTED transaction with the apply mark set, lock the rows in key order, read the
    /// outbox for them and the rows themselves. The transaction stays open until Write or Rollback.
    Lock {
        /// Rows in key order.
        rows: Vec<RowId>,
    },
    /// In the open transaction: write, set the cursor, commit.
    Write {
        /// Rows and what they become.
        rows: Vec<(RowId, RowWrite)>,
        /// The step that this transaction is.
        cursor: u64,
    },
    /// Roll the open transaction back.
    Rollback,
    /// Up to `limit` rows after `after` in the order of row ids, in one snapshot, with their outbox
    /// entries: the rolling scan that finds writes which bypassed the triggers.
    Scan {
        /// Where the last scan ended; `None` starts over.
        after: Option<RowId>,
        /// Most rows.
        limit: usize,
    },
}

/// Why the database did not do what was asked. The transaction is rolled back in each case but the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SqlError {
    /// 1213.
    Deadlock,
    /// 1205.
    LockTimeout,
    /// 1020 under `innodb_snapshot_isolation`.
    RecordChanged,
    /// 1062: a plain INSERT met a row.
    DuplicateKey,
    /// The connection broke: a commit may or may not have happened.
    ConnectionLost,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SqlResponse {
    /// To ReadCursor.
    Cursor(u64),
    /// To Drain.
    Drained {
        /// All entries that the snapshot shows, in any order.
        entries: Vec<OutboxEntry>,
        /// The rows that they name and those asked for; `None` for a row that is not there.
        rows: BTreeMap<RowId, Option<RowImage>>,
    },
    /// To DeleteOutbox.
    Deleted,
    /// To Lock.
    Locked {
        /// Ids of outbox entries for these rows.
        entries: Vec<u64>,
        /// The rows under lock; `None` for a row that is not there.
        rows: BTreeMap<RowId, Option<RowImage>>,
    },
    /// To Write: committed.
    Written,
    /// To Rollback.
    RolledBack,
    /// To Scan.
    Scanned {
        /// Rows in order; rows that have an outbox entry in the same snapshot are left out.
        rows: Vec<(RowId, RowImage)>,
        /// True when the end was reached.
        done: bool,
    },
    /// To any request.
    Failed(SqlError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_through_keys() {
        for row in [RowId::numbered(Namespace(3), "wp_posts", 256), RowId::named(Namespace(0), "wp_options", b"a\0b")] {
            assert_eq!(RowId::from_bytes(&row.to_bytes()), Ok(row.clone()));
        }
        assert_eq!(RowId::numbered(Namespace(1), "t", 9).number(), Some(9));
        assert_eq!(RowId::from_key(&Key::new(Namespace(1), Kind::Set, b"t\0k")), None);
    }
}
