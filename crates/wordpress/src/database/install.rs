//! Putting the engine's tables and triggers into a database, finding out whether they are still there, and taking them
//! away again.

use std::collections::BTreeMap;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::Database;
use super::error::DatabaseError;
use super::request::CURSOR;
use crate::triggers::{self, Definition, quoted};

/// Seconds that a `CREATE TRIGGER` waits for transactions that are open on its table. While it waits, new ones wait
/// behind it: so it gives up early, and is tried again.
const TABLE_WAIT_SECONDS: u32 = 1;

/// How often each is tried.
const ATTEMPTS: u32 = 5;

/// What was done to a database, or would have to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repairs {
    /// Triggers that were missing or had another text.
    pub triggers: Vec<String>,
    /// The engine's own tables that were missing.
    pub tables: Vec<String>,
    /// Triggers of ours that nothing needs any more.
    pub left_over: Vec<String>,
}

impl Repairs {
    /// True when everything stood as it should: then nothing was written past the triggers.
    pub fn is_empty(&self) -> bool {
        self.triggers.is_empty() && self.tables.is_empty() && self.left_over.is_empty()
    }
}

impl Database {
    /// Compares tables and triggers with what they should be.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database does not answer.
    pub async fn check(&mut self) -> Result<Repairs, DatabaseError> {
        let wanted = self.definitions();
        let prefix = self.options.prefix.clone();
        let connection = self.connection().await?;
        let found = read_triggers(connection, &prefix).await?;
        let stands = |definition: &&Definition| {
            found
                .get(&definition.name)
                .is_some_and(|(table, body)| **table == *definition.table && *body == definition.body)
        };
        let left_over = found.keys().filter(|name| !wanted.iter().any(|definition| definition.name == **name));
        let mut repairs = Repairs {
            triggers: wanted.iter().filter(|definition| !stands(definition)).map(|one| one.name.clone()).collect(),
            tables: Vec::new(),
            left_over: left_over.cloned().collect(),
        };
        for table in [triggers::outbox(&prefix), triggers::state(&prefix)] {
            let statement = "SELECT COUNT(*) FROM information_schema.TABLES \
                             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
            if connection.exec_first::<u64, _, _>(statement, (table.as_str(),)).await? == Some(0) {
                repairs.tables.push(table);
            }
        }
        Ok(repairs)
    }

    /// Makes what [`Self::check`] misses. The site's writes go on meanwhile; those that came before a trigger stood are
    /// found by a scan of all rows, which is due whenever this did anything.
    ///
    /// # Errors
    /// [`DatabaseError`] for the first thing that could not be made; what was made before stays.
    pub async fn install(&mut self) -> Result<Repairs, DatabaseError> {
        let repairs = self.check().await?;
        let wanted = self.definitions();
        let prefix = self.options.prefix.clone();
        let connection = self.connection().await?;
        for statement in triggers::own_tables(&prefix) {
            connection.query_drop(statement).await?;
        }
        let cursor = format!("INSERT IGNORE INTO {} (name, value) VALUES (?, 0)", quoted(&triggers::state(&prefix)));
        connection.exec_drop(cursor, (CURSOR,)).await?;
        for name in &repairs.left_over {
            patiently(connection, &format!("DROP TRIGGER IF EXISTS {}", quoted(name))).await?;
        }
        for definition in wanted.iter().filter(|definition| repairs.triggers.contains(&definition.name)) {
            let drop = format!("DROP TRIGGER IF EXISTS {}", quoted(&definition.name));
            patiently(connection, &drop).await?;
            patiently(connection, &definition.sql).await?;
        }
        Ok(repairs)
    }

    /// Takes everything of ours out of the database, and leaves a plain one.
    ///
    /// # Errors
    /// [`DatabaseError`] for the first thing that could not be removed.
    pub async fn uninstall(&mut self) -> Result<(), DatabaseError> {
        let prefix = self.options.prefix.clone();
        let connection = self.connection().await?;
        for name in read_triggers(connection, &prefix).await?.into_keys() {
            patiently(connection, &format!("DROP TRIGGER IF EXISTS {}", quoted(&name))).await?;
        }
        for table in [triggers::outbox(&prefix), triggers::state(&prefix)] {
            patiently(connection, &format!("DROP TABLE IF EXISTS {}", quoted(&table))).await?;
        }
        Ok(())
    }

    fn definitions(&self) -> Vec<Definition> {
        let tables = self.shape.tables();
        tables.flat_map(|table| triggers::triggers(&self.shape, table, self.options.class)).collect()
    }
}

/// Our triggers: the table and the text of each.
async fn read_triggers(
    connection: &mut Conn,
    prefix: &str,
) -> Result<BTreeMap<String, (String, String)>, DatabaseError> {
    let statement = "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_STATEMENT FROM information_schema.TRIGGERS \
                     WHERE TRIGGER_SCHEMA = DATABASE() AND LEFT(TRIGGER_NAME, ?) = ?";
    let begin = format!("{prefix}crdt_");
    let found: Vec<(String, String, String)> = connection.exec(statement, (begin.len(), begin.as_str())).await?;
    Ok(found.into_iter().map(|(name, table, body)| (name, (table, body))).collect())
}

/// A statement that waits for a whole table, given up early and tried again, so that the site never waits for long.
async fn patiently(connection: &mut Conn, statement: &str) -> Result<(), DatabaseError> {
    connection.query_drop(format!("SET lock_wait_timeout = {TABLE_WAIT_SECONDS}")).await?;
    let mut attempt = 1;
    loop {
        match connection.query_drop(statement).await.map_err(DatabaseError::from) {
            Err(DatabaseError::Refused { code: 1205, .. }) if attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}
