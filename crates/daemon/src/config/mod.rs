//! The configuration: flags over environment over the file over defaults. Every value knows where it comes from, and a
//! key that nobody knows is refused, with the one that was probably meant.
//!
//! [`Settings::load`] reads, [`Config::new`] gives the same as numbers and addresses, checked against each other.
//! [`schema::SETTINGS`] is the one list that all of this goes by.

mod environment;
mod error;
mod file;
mod nearest;
pub mod schema;
mod sections;
mod template;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use transport::NodeId;

pub use environment::OTHER_VARIABLES;
pub use error::{ConfigError, Problem};
pub use sections::{Config, Door, Http, LogSection, Redis, StoreSection, TransportSection};
pub use template::{config_text, configuration_markdown};
pub use value::{Kind, LIST_LEN_MAX, OFF, Value};

use schema::{PEERS, SETTINGS, Setting};

/// Shown in the place of secrets.
pub const HIDDEN: &str = "(hidden)";

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// Which.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// The command line.
    Flag {
        /// The flag, as in `--set`.
        flag: String,
    },
}

/// A value and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// One setting on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlagValue {
    /// The flag, as it was typed.
    pub flag: String,
    /// The key that it sets.
    pub key: String,
    /// The value.
    pub text: String,
}

/// What there is to read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; one that is not there is like an empty one, unless `file_needed`.
    pub file: Option<PathBuf>,
    /// A file that is not there is an error: somebody named it.
    pub file_needed: bool,
    /// The environment, all of it: what does not begin with `CRDT_` is left alone.
    pub environment: Vec<(OsString, OsString)>,
    /// The command line; of two for one key the later one counts.
    pub flags: Vec<FlagValue>,
}

/// All values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    given: BTreeMap<&'static str, Given>,
    peers: BTreeMap<NodeId, Given>,
}

/// What one source says: values of settings and addresses of members, and all that is wrong.
#[derive(Debug, Default)]
struct Layer {
    given: BTreeMap<&'static str, Given>,
    peers: BTreeMap<NodeId, Given>,
    problems: Vec<Problem>,
}

impl Settings {
    /// The defaults.
    pub fn defaults() -> Self {
        let given = SETTINGS.iter().map(|setting| {
            let value = setting.kind.read(setting.default).expect("a test reads every default");
            (setting.key, Given { value, origin: Origin::Default })
        });
        Self { given: given.collect(), peers: BTreeMap::new() }
    }

    /// Reads all sources.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, not only the first.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut settings = Self::defaults();
        let mut problems = Vec::new();
        let file = match &sources.file {
            Some(path) => file::read(path, sources.file_needed)?,
            None => Layer::default(),
        };
        for layer in [file, environment::read(&sources.environment), flags(&sources.flags)] {
            settings.given.extend(layer.given);
            settings.peers.extend(layer.peers);
            problems.extend(layer.problems);
        }
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError::Invalid { problems }) }
    }

    /// All settings in the order of the schema, then the members, each with its key.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Given)> {
        let settings =
            SETTINGS.iter().filter_map(|setting| Some((setting.key.to_owned(), self.given.get(setting.key)?)));
        settings.chain(self.peers.iter().map(|(node, given)| (format!("{PEERS}.{node}"), given)))
    }

    /// All settings as they may be shown: key, value as TOML, origin.
    pub fn shown(&self) -> Vec<(String, String, String)> {
        let shown = |(key, given): (String, &Given)| {
            let is_secret = Setting::find(&key).is_some_and(|setting| setting.is_secret);
            let is_set = given.value != Value::Text(String::new());
            let value = if is_secret && is_set { HIDDEN.to_owned() } else { given.value.to_string() };
            (key, value, given.origin.to_string())
        };
        self.iter().map(shown).collect()
    }

    /// Where a setting comes from; [`Origin::Default`] for a key that does not exist.
    pub fn origin(&self, key: &str) -> &Origin {
        self.given.get(key).map_or(&Origin::Default, |given| &given.origin)
    }

    /// Addresses of members that the configuration names.
    pub fn peers(&self) -> BTreeMap<NodeId, Vec<String>> {
        let list = |given: &Given| match &given.value {
            Value::List(list) => list.clone(),
            _ => Vec::new(),
        };
        self.peers.iter().map(|(node, given)| (node.clone(), list(given))).collect()
    }

    fn value(&self, key: &str) -> &Value {
        &self.given.get(key).expect("only keys of the schema are asked for, and a test asks for all of them").value
    }
}

impl Layer {
    /// Takes a text for a key.
    fn put_text(&mut self, key: &str, text: &str, origin: Origin) {
        self.put_read(key, origin, |kind| kind.read(text));
    }

    /// Takes what `read` makes of a value for a key.
    fn put_read(&mut self, key: &str, origin: Origin, read: impl FnOnce(Kind) -> Result<Value, String>) {
        if let Some(node) = key.strip_prefix(PEERS).and_then(|rest| rest.strip_prefix('.')) {
            let node = match NodeId::new(node) {
                Ok(node) => node,
                Err(error) => return self.problems.push(Problem::node_id(key, &error, origin)),
            };
            match read(Kind::Addresses) {
                Ok(value) => drop(self.peers.insert(node, Given { value, origin })),
                Err(expected) => self.problems.push(Problem::Value { key: key.to_owned(), expected, origin }),
            }
            return;
        }
        let Some(setting) = Setting::find(key) else {
            let known = SETTINGS.iter().map(|setting| setting.key);
            let meant = nearest::nearest(key, known).map(str::to_owned);
            return self.problems.push(Problem::UnknownKey { key: key.to_owned(), meant, origin });
        };
        match read(setting.kind) {
            Ok(value) => drop(self.given.insert(setting.key, Given { value, origin })),
            Err(expected) => self.problems.push(Problem::Value { key: key.to_owned(), expected, origin }),
        }
    }
}

fn flags(flags: &[FlagValue]) -> Layer {
    let mut layer = Layer::default();
    for FlagValue { flag, key, text } in flags {
        layer.put_text(key, text, Origin::Flag { flag: flag.clone() });
    }
    layer
}

/// Splits `key=value` as it comes behind `--set`.
///
/// # Errors
/// What it should look like.
pub fn split_set(text: &str) -> Result<FlagValue, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok(FlagValue { flag: "--set".to_owned(), key: key.trim().to_owned(), text: value.trim().to_owned() })
        }
        _ => Err("it must be KEY=VALUE, such as http.listen=127.0.0.1:9101".to_owned()),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "file {}:{line}", path.display()),
            Self::Environment { variable } => write!(formatter, "environment {variable}"),
            Self::Flag { flag } => write!(formatter, "flag {flag}"),
        }
    }
}

/// True when others than its owner may read a file that passwords may stand in.
pub fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|stat| stat.permissions().mode() & 0o007 != 0)
}

#[cfg(test)]
mod tests;
