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
    /// Rows refer to rows of tables with a lower rank: a comment (1) to its post (0). They are written after those, and
    /// removed before. At most 127.
    pub rank: u8,
}

impl Schema {
    /// True when the column of this table is a counter.
    pub fn is_counter(&self, table: &str, column: &[u8]) -> bool {
        self.tables.get(table).is_some_and(|table| table.counters.contains(column))
    }

    /// The table's place in the order of references; 0 for one that is not known.
    pub(crate) fn rank(&self, table: &str) -> u8 {
        self.tables.get(table).map_or(0, |table| table.rank.min(u8::MAX / 2))
    }

    /// The column of this table whose values are kept unique.
    pub fn unique(&self, table: &str) -> Option<&ColumnName> {
        self.tables.get(table)?.unique.as_ref()
    }
}
