//! Reading rows by their keys, and one after another.

use std::collections::BTreeMap;
use std::fmt::Write;

use crdt::Value;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, Row};
use replica::host::{RowId, RowImage};

use super::error::DatabaseError;
use crate::key::{self, KeyPart};
use crate::shape::{Column, Shape, TableShape};
use crate::triggers::quoted;
use crate::value::{from_sql, to_sql};

/// How many keys one statement names. Few sizes, so that few statements are prepared; the last key fills up.
const KEYS_AT_ONCE: [usize; 4] = [1, 4, 16, 64];

/// Whether rows are locked as they are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// What the snapshot shows.
    Plain,
    /// As they are now, and they stay so until the transaction ends.
    ForUpdate,
}

/// A row, and whether the catalogue lets it go.
struct Found {
    row: RowId,
    image: RowImage,
    leaves: bool,
}

/// The rows with these keys, which all are of this table, and perhaps some beside them; those that are not there, or
/// stay in their region, are left out.
pub(super) async fn by_keys(
    connection: &mut Conn,
    shape: &Shape,
    table: &TableShape,
    rows: &[RowId],
    reading: Reading,
) -> Result<BTreeMap<RowId, RowImage>, DatabaseError> {
    let keys: Vec<Vec<Value>> = rows.iter().filter_map(|row| key::decode(&table.key, &row.key)).collect();
    let mut images = BTreeMap::new();
    let mut left = keys.as_slice();
    while !left.is_empty() {
        let fits = KEYS_AT_ONCE.iter().copied().find(|size| *size >= left.len());
        let size = fits.unwrap_or(KEYS_AT_ONCE[KEYS_AT_ONCE.len() - 1]);
        let (now, later) = left.split_at(size.min(left.len()));
        left = later;
        let filled = now.iter().chain(std::iter::repeat(&now[now.len() - 1])).take(size);
        let values: Vec<mysql_async::Value> = filled.flatten().map(to_sql).collect();
        let statement = select_by_keys(table, size, reading);
        let found: Vec<Row> = connection.exec(statement, Params::Positional(values)).await?;
        for row in found {
            // SUBTLE: a collation finds `Cafe` for `café`. Under its own id nobody takes it for the one that was meant.
            if let Some(found) = to_found(shape, table, row)
                && found.leaves
            {
                images.insert(found.row, found.image);
            }
        }
    }
    Ok(images)
}

/// What was read of a table behind a key.
pub(super) struct Slice {
    /// The rows that leave their region, in the order of their ids.
    pub(super) rows: Vec<(RowId, RowImage)>,
    /// Where it ended; `None` at the table's end.
    pub(super) until: Option<RowId>,
}

/// Up to `limit` rows of a table behind `after`.
pub(super) async fn slice(
    connection: &mut Conn,
    shape: &Shape,
    table: &TableShape,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Slice, DatabaseError> {
    let after = after.and_then(|after| key::decode(&table.key, after));
    let mut values = Vec::new();
    // A negative number is no key of ours: without this a slice of them would pass for the end of the table.
    let sayable = table.key_columns().iter().zip(&table.key).filter(|(_, part)| **part == KeyPart::Number);
    let mut conditions: Vec<String> = sayable.map(|(column, _)| format!("{} >= 0", quoted(&column.name))).collect();
    if let Some(after) = &after {
        // (a, b) > (x, y), said in a way that every version searches by the index.
        let mut behind = Vec::new();
        for place in 0..table.key.len() {
            let mut equal = Vec::new();
            for (column, value) in after.iter().enumerate().take(place + 1) {
                let relation = if column == place { ">" } else { "=" };
                equal.push(format!("{} {relation} ?", ordered(table, column)));
                values.push(to_sql(value));
            }
            behind.push(format!("({})", equal.join(" AND ")));
        }
        conditions.push(format!("({})", behind.join(" OR ")));
    }
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let order: Vec<String> = (0..table.key.len()).map(|column| ordered(table, column)).collect();
    let statement = format!("{}{condition} ORDER BY {} LIMIT {limit}", select(table), order.join(", "));
    let read: Vec<Row> = connection.exec(statement, Params::Positional(values)).await?;
    let is_end = read.len() < limit;
    let found: Vec<Found> = read.into_iter().filter_map(|row| to_found(shape, table, row)).collect();
    let until = found.last().map(|found| found.row.clone()).filter(|_| !is_end);
    let rows = found.into_iter().filter(|found| found.leaves).map(|found| (found.row, found.image));
    Ok(Slice { rows: rows.collect(), until })
}

/// A column of the key by its bytes, as row ids are ordered, and not by its collation.
fn ordered(table: &TableShape, column: usize) -> String {
    let name = quoted(&table.columns[column].name);
    match table.key[column] {
        KeyPart::Number => name,
        KeyPart::Bytes => format!("CAST({name} AS BINARY)"),
    }
}

/// `SELECT` of all columns, and whether the row to which a row belongs lets it go.
fn select(table: &TableShape) -> String {
    let mut columns = String::new();
    for column in &table.columns {
        let _ = write!(columns, "t.{}, ", quoted(&column.name));
    }
    let owner = match &table.owner {
        None => "NULL".to_owned(),
        Some(owner) => format!(
            "(SELECT CAST(o.{} AS BINARY) FROM {} o WHERE o.{} = t.{})",
            quoted(&owner.column),
            quoted(&owner.physical),
            quoted(&owner.key),
            quoted(&owner.by)
        ),
    };
    format!("SELECT {columns}{owner} FROM {} t", quoted(&table.physical))
}

fn select_by_keys(table: &TableShape, count: usize, reading: Reading) -> String {
    let mut statement = format!("{} WHERE ", select(table));
    if let [only] = table.key_columns() {
        let places = vec![bound(only); count].join(", ");
        let _ = write!(statement, "t.{} IN ({places})", quoted(&only.name));
    } else {
        let one = format!("({})", where_key(table, "t."));
        statement.push_str(&vec![one; count].join(" OR "));
    }
    if reading == Reading::ForUpdate {
        let order: Vec<String> =
            table.key_columns().iter().map(|column| format!("t.{}", quoted(&column.name))).collect();
        let _ = write!(statement, " ORDER BY {} FOR UPDATE", order.join(", "));
    }
    statement
}

/// The condition that names one row by its key.
pub(super) fn where_key(table: &TableShape, alias: &str) -> String {
    let same = |column: &Column| format!("{alias}{} = {}", quoted(&column.name), bound(column));
    table.key_columns().iter().map(same).collect::<Vec<_>>().join(" AND ")
}

/// The place of a value that is compared with a column. Bytes take the column's character set and collation, or no
/// index would be searched.
fn bound(column: &Column) -> String {
    match &column.charset {
        Some((charset, collation)) => format!("CONVERT(? USING {charset}) COLLATE {collation}"),
        None => "?".to_owned(),
    }
}

/// A row as it was read. `None` for one whose key cannot be said: a NULL or a negative number in it.
fn to_found(shape: &Shape, table: &TableShape, row: Row) -> Option<Found> {
    let mut values = row.unwrap();
    let owner = values.pop()?;
    let values: Vec<Value> =
        table.columns.iter().zip(values).map(|(column, value)| from_sql(column.kind, value)).collect();
    let row = table.row_of(&values)?;
    let image: RowImage = table.columns.iter().map(|column| column.cell.clone()).zip(values).collect();
    let belongs = match (&table.owner, from_sql(crate::shape::ColumnKind::Bytes, owner)) {
        (Some(owner), Value::Bytes(is)) => *is != *owner.is.as_bytes(),
        _ => true,
    };
    let leaves = belongs && shape.is_replicated(table, &image);
    Some(Found { row, image, leaves })
}
