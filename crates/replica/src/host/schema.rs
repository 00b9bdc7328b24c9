//! What a host must know of tables. The `wordpress` crate makes it from `information_schema` and its policy
//! catalogue, the simulator by hand.

use std::collections::{BTreeMap, BTreeSet};

use crdt::row::ColumnName;

/// The replicated tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schema {
    /// By table name without the site's prefix.
    pub tables: BTreeMap<Box<str>, Table>,
}

/// One replicated table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Columns whose differences are increments.
    pub counters: BTreeSet<ColumnName>,
    /// A column whose values must be unique although the database has no unique index on it: slug, login.
    /// The table's keys are numeric ids.
    pub unique: Option<ColumnName>,
}

impl Schema {
    /// True when the column of this table is a counter.
    pub fn is_counter(&self, table: &str, column: &[u8]) -> bool {
        self.tables.get(table).is_some_and(|table| table.counters.contains(column))
    }

    /// The column of this table whose values are kept unique.
    pub fn unique(&self, table: &str) -> Option<&ColumnName> {
        self.tables.get(table)?.unique.as_ref()
    }
}
