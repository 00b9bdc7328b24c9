//! What this region's tables look like, and what of them is replicated.
//!
//! A [`Shape`] is made of what `information_schema` says and of the policy catalogue. It names every column that is
//! read, written and compared; nothing else ever reaches a statement of SQL as an identifier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crdt::{Namespace, Value};
use replica::host::{RowId, RowImage, Schema};

use crate::key::{self, KeyPart};
use crate::policy::{Catalogue, Policy, Scope};

/// The namespace of the tables that all sites of a network share.
pub const NETWORK: Namespace = Namespace(0);

/// One column, as `information_schema.COLUMNS` tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnFacts {
    /// The table's whole name.
    pub table: Box<str>,
    /// The column's.
    pub name: Box<str>,
    /// `DATA_TYPE`: lower case, without length and sign.
    pub data_type: Box<str>,
    /// `COLUMN_TYPE`: with length and sign.
    pub column_type: Box<str>,
    /// `CHARACTER_SET_NAME` and `COLLATION_NAME` of text.
    pub charset: Option<(Box<str>, Box<str>)>,
    /// Its place in the primary key, from 1 on.
    pub key_place: Option<u64>,
    /// True for `auto_increment`.
    pub counts_up: bool,
    /// True for a column that the server computes.
    pub is_generated: bool,
}

/// One replicated column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// The name as the core has it.
    pub cell: crdt::row::ColumnName,
    /// The character set and the collation of text.
    pub charset: Option<(Box<str>, Box<str>)>,
    /// How a value of it is read.
    pub kind: ColumnKind,
}

/// How values of a column are read and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnKind {
    /// A whole number.
    Number,
    /// A floating-point number.
    Float,
    /// A date and a time, with so many digits of a second.
    DateTime(u8),
    /// A date.
    Date,
    /// A span of time, with so many digits of a second.
    Time(u8),
    /// Text, bytes, decimals, everything else: as the server gives it.
    Bytes,
}

/// One replicated table of one site.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableShape {
    /// The site.
    pub namespace: Namespace,
    /// The name without the prefix.
    pub table: Arc<str>,
    /// The name in the database.
    pub physical: Box<str>,
    /// What is read of each row, the columns of the key first.
    pub columns: Vec<Column>,
    /// How many of them are the key, and how it is written.
    pub key: Vec<KeyPart>,
    /// The place in [`Self::columns`] of the column that names a row for the catalogue.
    pub names: Option<usize>,
    /// Where its rows belong.
    pub owner: Option<OwnerShape>,
    /// The column that counts up, where it is the whole key: rows of this region get numbers of its own class.
    pub counting: Option<Box<str>>,
}

/// See [`TableShape::owner`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerShape {
    /// The table, without the prefix.
    pub table: Arc<str>,
    /// The table in the database.
    pub physical: Box<str>,
    /// Its key.
    pub key: Box<str>,
    /// Our column with its number.
    pub by: Box<str>,
    /// The column that tells whether it stays in its region.
    pub column: Box<str>,
    /// What stands there then.
    pub is: Box<str>,
}

/// A table that should be replicated and cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfit {
    /// The name in the database.
    pub physical: Box<str>,
    /// Why.
    pub reason: &'static str,
}

/// All replicated tables of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// What every table of WordPress begins with.
    pub prefix: Box<str>,
    /// The catalogue that it was made with.
    pub catalogue: Arc<Catalogue>,
    tables: BTreeMap<(Namespace, Arc<str>), TableShape>,
    /// Tables that should be replicated and cannot be.
    pub unfit: Vec<Unfit>,
}

impl Shape {
    /// Makes the shape of a database. `sites` are the numbers of a network's further sites, none for a single site.
    pub fn new(prefix: &str, sites: &BTreeSet<u32>, catalogue: Arc<Catalogue>, facts: &[ColumnFacts]) -> Self {
        let mut by_table: BTreeMap<&str, Vec<&ColumnFacts>> = BTreeMap::new();
        for fact in facts {
            by_table.entry(&fact.table).or_default().push(fact);
        }
        let mut shape =
            Self { prefix: prefix.into(), catalogue: catalogue.clone(), tables: BTreeMap::new(), unfit: Vec::new() };
        for rule in catalogue.tables() {
            let mut places =
                vec![(if rule.scope == Scope::Network { NETWORK } else { Namespace(1) }, prefix.to_owned())];
            if rule.scope == Scope::Site {
                let further = sites.iter().filter(|site| **site > 1);
                places.extend(further.map(|site| (Namespace(*site), format!("{prefix}{site}_"))));
            }
            for (namespace, prefix) in places {
                let physical = format!("{prefix}{}", rule.name);
                let Some(facts) = by_table.get(physical.as_str()) else { continue };
                match shape.table_of(namespace, &prefix, &rule.name, facts) {
                    Ok(table) => drop(shape.tables.insert((namespace, table.table.clone()), table)),
                    Err(reason) => shape.unfit.push(Unfit { physical: physical.into(), reason }),
                }
            }
        }
        shape
    }

    fn table_of(
        &self,
        namespace: Namespace,
        prefix: &str,
        name: &str,
        facts: &[&ColumnFacts],
    ) -> Result<TableShape, &'static str> {
        let rule = self.catalogue.table(name).ok_or("the catalogue does not name it")?;
        let find = |name: &str| facts.iter().copied().find(|fact| *fact.name == *name);
        let keys: Vec<&ColumnFacts> = match &rule.key {
            Some(names) => {
                let keys: Option<_> = names.iter().map(|name| find(name)).collect();
                keys.ok_or("a column of its key is missing")?
            }
            None => {
                let mut keys: Vec<_> = facts.iter().copied().filter(|fact| fact.key_place.is_some()).collect();
                keys.sort_by_key(|fact| fact.key_place);
                keys
            }
        };
        if keys.is_empty() {
            return Err("it has no primary key, so its rows cannot be told apart");
        }
        let key = keys.iter().map(|fact| key_part(fact)).collect::<Option<Vec<KeyPart>>>();
        let key = key.ok_or("its key has a column that is neither a whole number nor text")?;
        let is_key = |fact: &ColumnFacts| keys.iter().any(|key| key.name == fact.name);
        let is_replicated = |fact: &ColumnFacts| {
            let rule = self.catalogue.column_rule(name, &fact.name);
            !fact.is_generated && rule.is_none_or(|rule| rule.policy.is_replicated())
        };
        let others = facts.iter().copied().filter(|fact| !is_key(fact) && is_replicated(fact));
        let columns: Vec<Column> = keys.iter().copied().chain(others).map(column_of).collect();
        let names = match &rule.names {
            None => None,
            Some(names) => {
                let at = columns.iter().position(|column| *column.name == **names);
                Some(at.ok_or("the column that names its rows is missing")?)
            }
        };
        let owner = rule.owner.as_ref().and_then(|owner| {
            // Which rows of that table stay in their region: one value of one column, as of now.
            let kept = self.catalogue.row_rules(&owner.table).find(|rule| !rule.policy.is_replicated())?;
            Some(OwnerShape {
                table: owner.table.as_ref().into(),
                physical: format!("{prefix}{}", owner.table).into(),
                key: owner.key.clone(),
                by: owner.by.clone(),
                column: kept.column.clone()?,
                is: kept.is.clone()?,
            })
        });
        let counting = match keys.as_slice() {
            [only] if only.counts_up => Some(only.name.clone()),
            _ => None,
        };
        Ok(TableShape {
            namespace,
            table: name.into(),
            physical: format!("{prefix}{name}").into(),
            columns,
            key,
            names,
            owner,
            counting,
        })
    }

    /// A table of a site.
    pub fn table(&self, namespace: Namespace, table: &str) -> Option<&TableShape> {
        self.tables.get(&(namespace, Arc::from(table)))
    }

    /// All tables, in the order of row ids.
    pub fn tables(&self) -> impl Iterator<Item = &TableShape> {
        self.tables.values()
    }

    /// What the node must know of the tables.
    pub fn to_schema(&self) -> Schema {
        let table = |rule: &crate::policy::TableRule| {
            let columns = self.tables().filter(|table| *table.table == *rule.name).flat_map(|table| &table.columns);
            let counts = |name: &str| {
                let rule = self.catalogue.column_rule(&rule.name, name);
                rule.is_some_and(|rule| rule.policy == Policy::Counter)
            };
            let counters = columns.filter(|column| counts(&column.name)).map(|column| column.cell.clone()).collect();
            (rule.name.clone(), replica::host::Table { counters, unique: None, rank: rule.rank })
        };
        Schema { tables: self.catalogue.tables().map(table).collect() }
    }

    /// True for a row that leaves its region, apart from where it belongs.
    pub(crate) fn is_replicated(&self, table: &TableShape, image: &RowImage) -> bool {
        let value = |name: &str| {
            let column = table.columns.iter().find(|column| *column.name == *name)?;
            match image.get(&column.cell)? {
                Value::Bytes(bytes) => Some(bytes),
                _ => None,
            }
        };
        for rule in self.catalogue.row_rules(&table.table) {
            let fits = match (&rule.name, &rule.column, &rule.is) {
                (Some(pattern), _, _) => {
                    let name = table.names.and_then(|at| table.columns.get(at)).and_then(|column| value(&column.name));
                    name.is_some_and(|name| pattern.fits(name))
                }
                (None, Some(column), Some(is)) => value(column).is_some_and(|value| **value == *is.as_bytes()),
                _ => false,
            };
            if fits {
                return rule.policy.is_replicated();
            }
        }
        true
    }
}

impl TableShape {
    /// The id of a row of this table.
    pub(crate) fn row_id(&self, key: Box<[u8]>) -> RowId {
        RowId { namespace: self.namespace, table: self.table.clone(), key }
    }

    /// The id of a row with these values, which begin with the key's.
    pub(crate) fn row_of(&self, values: &[Value]) -> Option<RowId> {
        Some(self.row_id(key::encode(&self.key, values.get(..self.key.len())?)?))
    }

    /// The columns of the key.
    pub(crate) fn key_columns(&self) -> &[Column] {
        &self.columns[..self.key.len()]
    }
}

fn key_part(fact: &ColumnFacts) -> Option<KeyPart> {
    match kind_of(fact) {
        ColumnKind::Number => Some(KeyPart::Number),
        ColumnKind::Bytes if fact.charset.is_some() || fact.data_type.ends_with("binary") => Some(KeyPart::Bytes),
        _ => None,
    }
}

fn column_of(fact: &ColumnFacts) -> Column {
    Column {
        name: fact.name.as_ref().into(),
        cell: fact.name.as_bytes().into(),
        charset: fact.charset.clone(),
        kind: kind_of(fact),
    }
}

fn kind_of(fact: &ColumnFacts) -> ColumnKind {
    // `datetime(3)`: the digits stand in the whole type.
    let digits = || {
        let digits = fact.column_type.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
        digits.and_then(|(digits, _)| digits.parse().ok()).unwrap_or(0)
    };
    match &*fact.data_type {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => ColumnKind::Number,
        "float" | "double" => ColumnKind::Float,
        "datetime" | "timestamp" => ColumnKind::DateTime(digits()),
        "date" => ColumnKind::Date,
        "time" => ColumnKind::Time(digits()),
        _ => ColumnKind::Bytes,
    }
}
