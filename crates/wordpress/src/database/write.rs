//! Writing rows: a plain INSERT, an UPDATE of what differs, a DELETE; each finds exactly the row that it names.

use std::fmt::Write;

use crdt::Value;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params};
use replica::host::{RowId, RowImage, RowWrite};

use super::error::DatabaseError;
use super::read::where_key;
use crate::key;
use crate::shape::{Shape, TableShape};
use crate::triggers::quoted;
use crate::value::to_sql;

/// Writes one row. Columns that this region does not have are left out: they stay in the engine.
pub(super) async fn write_row(
    connection: &mut Conn,
    shape: &Shape,
    row: &RowId,
    write: &RowWrite,
) -> Result<(), DatabaseError> {
    let missing = || DatabaseError::Refused { code: 1146, message: format!("there is no table {}", row.table) };
    let table = shape.table(row.namespace, &row.table).ok_or_else(missing)?;
    let Some(key) = key::decode(&table.key, &row.key) else {
        let message = format!("the key of a row of {} does not fit this region's table", table.physical);
        return Err(DatabaseError::Refused { code: 1054, message });
    };
    let (statement, values) = match write {
        RowWrite::Insert(image) => insert(table, &key, image),
        RowWrite::Update(image) => match update(table, &key, image) {
            Some(update) => update,
            None => return Ok(()),
        },
        RowWrite::Delete => {
            let statement = format!("DELETE FROM {} WHERE {}", quoted(&table.physical), where_key(table, ""));
            (statement, key.iter().map(to_sql).collect())
        }
    };
    connection.exec_drop(statement, Params::Positional(values)).await?;
    Ok(())
}

type Statement = (String, Vec<mysql_async::Value>);

fn insert(table: &TableShape, key: &[Value], image: &RowImage) -> Statement {
    let (mut names, mut places, mut values) = (String::new(), String::new(), Vec::new());
    for (at, column) in table.columns.iter().enumerate() {
        let Some(value) = key.get(at).or_else(|| image.get(&column.cell)) else { continue };
        let joint = if values.is_empty() { "" } else { ", " };
        let _ = write!(names, "{joint}{}", quoted(&column.name));
        let _ = write!(places, "{joint}?");
        values.push(to_sql(value));
    }
    (format!("INSERT INTO {} ({names}) VALUES ({places})", quoted(&table.physical)), values)
}

/// `None` when no column of this region changes.
fn update(table: &TableShape, key: &[Value], image: &RowImage) -> Option<Statement> {
    let (mut changes, mut values) = (String::new(), Vec::new());
    for column in &table.columns[table.key.len()..] {
        let Some(value) = image.get(&column.cell) else { continue };
        let joint = if values.is_empty() { "" } else { ", " };
        let _ = write!(changes, "{joint}{} = ?", quoted(&column.name));
        values.push(to_sql(value));
    }
    if values.is_empty() {
        return None;
    }
    values.extend(key.iter().map(to_sql));
    Some((format!("UPDATE {} SET {changes} WHERE {}", quoted(&table.physical), where_key(table, "")), values))
}
