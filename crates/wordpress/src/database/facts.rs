//! What `information_schema` says of a database.

use std::collections::BTreeSet;
use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::error::DatabaseError;
use crate::policy::Catalogue;
use crate::shape::{ColumnFacts, Shape};
use crate::triggers::quoted;

/// One line of `information_schema.COLUMNS`, as it is asked for below.
type Line = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, Option<u64>, Vec<u8>, Vec<u8>);

const COLUMNS: &str = "SELECT c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, c.CHARACTER_SET_NAME, \
    c.COLLATION_NAME, CAST(s.SEQ_IN_INDEX AS UNSIGNED), c.EXTRA, t.ENGINE \
    FROM information_schema.COLUMNS c \
    JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
    LEFT JOIN information_schema.STATISTICS s ON s.TABLE_SCHEMA = c.TABLE_SCHEMA AND s.TABLE_NAME = c.TABLE_NAME \
    AND s.COLUMN_NAME = c.COLUMN_NAME AND s.INDEX_NAME = 'PRIMARY' \
    WHERE c.TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE = 'BASE TABLE' AND LEFT(c.TABLE_NAME, ?) = ? \
    ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION";

/// Reads what the tables are like.
pub(super) async fn read_shape(
    connection: &mut Conn,
    prefix: &str,
    catalogue: &Arc<Catalogue>,
) -> Result<Shape, DatabaseError> {
    let lines: Vec<Line> = connection.exec(COLUMNS, (prefix.chars().count(), prefix)).await?;
    let mut facts = Vec::with_capacity(lines.len());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned().into_boxed_str();
    let mut engines = Vec::new();
    for (table, name, data_type, column_type, charset, collation, key_place, extra, engine) in lines {
        let extra = String::from_utf8_lossy(&extra).to_ascii_lowercase();
        let table = text(table);
        if !engine.eq_ignore_ascii_case(b"InnoDB") {
            engines.push((table.clone(), text(engine)));
        }
        facts.push(ColumnFacts {
            table,
            name: text(name),
            data_type: text(data_type),
            column_type: text(column_type),
            charset: charset.map(text).zip(collation.map(text)),
            key_place,
            counts_up: extra.contains("auto_increment"),
            is_generated: extra.contains("generated"),
        });
    }
    let sites = read_sites(connection, prefix, &facts).await?;
    let shape = Shape::new(prefix, &sites, catalogue.clone(), &facts);
    if shape.tables().next().is_none() {
        return Err(DatabaseError::NoSite { prefix: prefix.into() });
    }
    let ours = |(table, _): &(Box<str>, Box<str>)| shape.tables().any(|shape| shape.physical == *table);
    match engines.into_iter().find(ours) {
        Some((table, engine)) => Err(DatabaseError::Engine { table, engine }),
        None => Ok(shape),
    }
}

/// The sites of a network; none for a single site.
async fn read_sites(
    connection: &mut Conn,
    prefix: &str,
    facts: &[ColumnFacts],
) -> Result<BTreeSet<u32>, DatabaseError> {
    let blogs = format!("{prefix}blogs");
    if !facts.iter().any(|fact| *fact.table == *blogs) {
        return Ok(BTreeSet::new());
    }
    let sites: Vec<u32> = connection.query(format!("SELECT blog_id FROM {}", quoted(&blogs))).await?;
    Ok(sites.into_iter().collect())
}
