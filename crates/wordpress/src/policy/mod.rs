//! The policy catalogue: what becomes of each table, row and column of a site.
//!
//! The catalogue is data: `policy/core.toml` holds the rows for WordPress itself, packs of the same form add those for
//! plugins. The first rule that fits decides, packs before the core; what no rule names is LWW per cell.
//!
//! The same rule is asked in two places, in the trigger (SQL) and here (Rust), and both compare bytes, so that they
//! cannot judge differently: see [`Pattern`].

mod pattern;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use pattern::Pattern;
pub(crate) use pattern::literal;

/// The rows for WordPress itself.
const CORE: &str = include_str!("../../policy/core.toml");

/// The catalogue's form.
const VERSION: u32 = 1;

/// What becomes of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Never captured, never compared, never applied.
    Excluded,
    /// Kept by each region for itself.
    Local,
    /// Computed by each region from what is replicated.
    Derived,
    /// Differences are added up.
    Counter,
    /// The last writer wins; the other value stands in the journal.
    Lww,
}

impl Policy {
    /// True for what leaves its region.
    pub fn is_replicated(self) -> bool {
        matches!(self, Self::Counter | Self::Lww)
    }

    /// The word in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Local => "local",
            Self::Derived => "derived",
            Self::Counter => "counter",
            Self::Lww => "lww",
        }
    }
}

/// Whether a network of sites has one table of a name, or each of its sites has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One for all sites.
    Network,
    /// One for each site.
    Site,
}

/// A table that is replicated.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableRule {
    /// Without the prefix.
    pub name: Box<str>,
    /// One for all sites, or one for each.
    pub scope: Scope,
    /// Rows refer to rows of tables with a lower rank: 0 to 127.
    pub rank: u8,
    /// The column that names a row, which patterns are compared with.
    pub names: Option<Box<str>>,
    /// The columns that tell rows apart in every region; without it, the primary key.
    pub key: Option<Vec<Box<str>>>,
    /// Rows are excluded together with the row that they belong to.
    pub owner: Option<Owner>,
}

/// To which row a row belongs.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The table of that row, without the prefix.
    pub table: Box<str>,
    /// The column with that table's number.
    pub key: Box<str>,
    /// The column with that number here.
    pub by: Box<str>,
}

/// One row of the catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Without the prefix.
    pub table: Box<str>,
    /// Rows whose name fits.
    pub name: Option<Pattern>,
    /// This column; with [`Self::is`], rows that have a value there.
    pub column: Option<Box<str>>,
    /// The value.
    pub is: Option<Box<str>>,
    /// What becomes of it.
    pub policy: Policy,
    /// What would go wrong otherwise.
    pub why: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default, rename = "table")]
    tables: Vec<TableRule>,
    #[serde(default, rename = "rule")]
    rules: Vec<Rule>,
}

/// A catalogue that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyError {
    /// It is no TOML of this form.
    Malformed {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// It is of another version.
    Version {
        /// The one that was found.
        found: u32,
    },
    /// A rule contradicts itself or the tables.
    Rule {
        /// Its table.
        table: Box<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed { reason } => write!(f, "the policy catalogue is malformed: {reason}"),
            Self::Version { found } => {
                write!(f, "the policy catalogue has version {found}, and this build reads version {VERSION}")
            }
            Self::Rule { table, reason } => write!(f, "a rule for table {table} in the policy catalogue: {reason}"),
        }
    }
}

impl std::error::Error for PolicyError {}

/// The rules that are in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Catalogue {
    tables: BTreeMap<Box<str>, TableRule>,
    rules: Vec<Rule>,
}

impl Catalogue {
    /// The rules for WordPress itself.
    pub fn core() -> Self {
        Self::with_packs(&[]).expect("a test reads the core's catalogue")
    }

    /// Those and the packs' before them.
    ///
    /// # Errors
    /// [`PolicyError`] for the first pack that cannot be used.
    pub fn with_packs(packs: &[&str]) -> Result<Self, PolicyError> {
        let mut catalogue = Self { tables: BTreeMap::new(), rules: Vec::new() };
        for text in packs.iter().copied().chain([CORE]) {
            let file: File =
                toml::from_str(text).map_err(|error| PolicyError::Malformed { reason: error.to_string() })?;
            if file.version != VERSION {
                return Err(PolicyError::Version { found: file.version });
            }
            for table in file.tables {
                catalogue.tables.entry(table.name.clone()).or_insert(table);
            }
            catalogue.rules.extend(file.rules);
        }
        catalogue.rules.iter().try_for_each(|rule| catalogue.check(rule))?;
        Ok(catalogue)
    }

    fn check(&self, rule: &Rule) -> Result<(), PolicyError> {
        let wrong = |reason| Err(PolicyError::Rule { table: rule.table.clone(), reason });
        let Some(table) = self.tables.get(&rule.table) else { return wrong("there is no such table") };
        if rule.name.is_some() && (table.names.is_none() || rule.column.is_some()) {
            return wrong("`name` fits rows of a table that has `names`, and takes no `column` beside it");
        }
        if rule.is.is_some() && rule.column.is_none() {
            return wrong("`is` needs a `column`");
        }
        if rule.policy == Policy::Counter && (rule.column.is_none() || rule.is.is_some()) {
            return wrong("a counter is a column");
        }
        if rule.why.is_empty() {
            return wrong("`why` is empty");
        }
        Ok(())
    }

    /// The rule for a table; `None` for one that is not replicated.
    pub fn table(&self, name: &str) -> Option<&TableRule> {
        self.tables.get(name)
    }

    /// All replicated tables.
    pub fn tables(&self) -> impl Iterator<Item = &TableRule> {
        self.tables.values()
    }

    /// Rules that keep whole rows of a table out, in their order.
    pub fn row_rules<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| *rule.table == *table && (rule.name.is_some() || rule.is.is_some()))
    }

    /// The rule that decides about a column of all rows.
    pub fn column_rule(&self, table: &str, column: &str) -> Option<&Rule> {
        let mut rules = self.rules.iter();
        rules.find(|rule| *rule.table == *table && rule.is.is_none() && rule.column.as_deref() == Some(column))
    }

    /// The rule that decides about rows of a name.
    pub fn name_rule(&self, table: &str, name: &[u8]) -> Option<&Rule> {
        let mut rules = self.rules.iter();
        rules.find(|rule| *rule.table == *table && rule.name.as_ref().is_some_and(|pattern| pattern.fits(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_catalogue_can_be_read() {
        let catalogue = Catalogue::with_packs(&[]).expect("the core's rows");
        assert_eq!(catalogue.tables().count(), 16);
        let policy = |name: &str| catalogue.name_rule("options", name.as_bytes()).map(|rule| rule.policy);
        assert_eq!(policy("_transient_doing_cron"), Some(Policy::Excluded));
        assert_eq!(policy("core_updater.lock"), Some(Policy::Excluded));
        assert_eq!(policy("cron"), Some(Policy::Local));
        assert_eq!(policy("category_children"), Some(Policy::Derived));
        assert_eq!(policy("blogname"), None);
        assert_eq!(catalogue.column_rule("posts", "comment_count").map(|rule| rule.policy), Some(Policy::Derived));
        assert_eq!(catalogue.column_rule("posts", "post_status"), None, "a rule with `is` is about rows");
    }

    #[test]
    fn a_pack_goes_before_the_core() {
        let pack = "version = 1\n[[rule]]\ntable = \"options\"\nname = \"cron\"\npolicy = \"lww\"\nwhy = \"a try\"\n";
        let catalogue = Catalogue::with_packs(&[pack]).expect("a pack");
        assert_eq!(catalogue.name_rule("options", b"cron").map(|rule| rule.policy), Some(Policy::Lww));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused() {
        let pack = |rule: &str| format!("version = 1\n[[rule]]\n{rule}\nwhy = \"x\"\n");
        for (rule, reason) in [
            ("table = \"nosuch\"\npolicy = \"local\"", "there is no such table"),
            ("table = \"posts\"\nname = \"a*\"\npolicy = \"local\"", "`name` fits rows"),
            ("table = \"posts\"\nis = \"a\"\npolicy = \"local\"", "`is` needs a `column`"),
            ("table = \"options\"\nname = \"a\"\npolicy = \"counter\"", "a counter is a column"),
        ] {
            let error = Catalogue::with_packs(&[&pack(rule)]).expect_err(rule);
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(Catalogue::with_packs(&["version = 2"]), Err(PolicyError::Version { found: 2 }));
        assert!(matches!(Catalogue::with_packs(&["version = "]), Err(PolicyError::Malformed { .. })));
    }
}
