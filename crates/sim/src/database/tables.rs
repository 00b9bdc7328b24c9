//! The tables of the simulated site: shaped like WordPress, small enough to collide.

use std::collections::{BTreeMap, BTreeSet};

use crdt::Value;
use crdt::row::ColumnName;
use replica::host::{Schema, Table};

/// One table as the database knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Columns {
    /// Every column beside the key, in byte order.
    pub columns: BTreeSet<ColumnName>,
    /// Columns that hold whole numbers and whose differences are increments.
    pub counters: BTreeSet<ColumnName>,
    /// The column whose values only the application keeps unique.
    pub unique: Option<ColumnName>,
    /// True when rows are named by numeric ids of the node's residue class, false for natural keys.
    pub numbered: bool,
    /// Its place in the order of references.
    pub rank: u8,
}

impl Columns {
    /// What an INSERT puts where it names no value.
    pub fn default_of(&self, column: &ColumnName) -> Value {
        if self.counters.contains(column) { Value::from(0_i64) } else { Value::Null }
    }
}

/// All tables by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    tables: BTreeMap<Box<str>, Columns>,
}

/// A column's name.
pub fn column(name: &str) -> ColumnName {
    name.as_bytes().into()
}

impl Tables {
    /// The tables that every simulated site has.
    pub fn wordpress() -> Self {
        let wide: Vec<String> = (0..20).map(|n| format!("field_{n:02}")).collect();
        let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
        let mut tables = Self::default();
        let posts = ["post_title", "post_content", "post_status", "post_name", "post_modified"];
        tables.define("wp_posts", true, &posts, &["comment_count", "views"], Some("post_name"));
        tables.define("wp_postmeta", true, &["post_id", "meta_key", "meta_value"], &[], None);
        tables.define("wp_comments", true, &["comment_post_id", "comment_content", "approved"], &[], None);
        tables.define("wp_terms", true, &["name", "slug"], &["count"], Some("slug"));
        tables.define("wp_options", false, &["option_value", "autoload"], &[], None);
        tables.define("wp_hits", false, &["label"], &["hits"], None);
        tables.define("wp_wide", true, &wide, &[], None);
        tables
    }

    /// One table.
    pub fn table(&self, name: &str) -> Option<&Columns> {
        self.tables.get(name)
    }

    /// All tables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Columns)> {
        self.tables.iter().map(|(name, table)| (name.as_ref(), table))
    }

    /// What the engine is told about them.
    pub fn schema(&self) -> Schema {
        let table = |table: &Columns| Table {
            counters: table.counters.clone(),
            unique: table.unique.clone(),
            rank: table.rank,
        };
        Schema { tables: self.tables.iter().map(|(name, columns)| (name.clone(), table(columns))).collect() }
    }

    fn define(&mut self, name: &str, numbered: bool, values: &[&str], counters: &[&str], unique: Option<&str>) {
        let counters: BTreeSet<ColumnName> = counters.iter().map(|name| column(name)).collect();
        let columns = values.iter().map(|name| column(name)).chain(counters.iter().cloned()).collect();
        let rank = u8::from(matches!(name, "wp_postmeta" | "wp_comments"));
        let table = Columns { columns, counters, unique: unique.map(column), numbered, rank };
        self.tables.insert(name.into(), table);
    }
}
