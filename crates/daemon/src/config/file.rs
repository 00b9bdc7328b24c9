//! Settings from the file: TOML, tables are sections.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};
use super::nearest::nearest;
use super::schema::{PEERS, SECTIONS};
use super::value::{Kind, Value};
use super::{Layer, Origin};

/// Largest configuration that is read: a thousand times the one that `init` writes with all comments is below.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads the file; what is wrong with keys and values goes into the layer.
pub(super) fn read(path: &Path, needed: bool) -> Result<Layer, ConfigError> {
    let failed = |error| ConfigError::File { path: path.into(), error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => return Ok(Layer::default()),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    let bytes = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)? as u64;
    if bytes > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.into(), bytes, bytes_max: CONFIG_BYTES_MAX });
    }
    read_text(path, &text)
}

fn read_text(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let reason = match (error.message(), text.lines().nth(line - 1).and_then(|line| line.split_once('='))) {
            // The key alone: a password may stand behind it.
            ("duplicate key", Some((key, _))) => format!("{} stands there twice; keep one of them", key.trim()),
            (message, _) => message.to_owned(),
        };
        ConfigError::Syntax { path: path.into(), line, reason }
    })?;
    let mut layer = Layer::default();
    let document = Document { path, text };
    document.walk("", table.get_ref(), &mut layer);
    Ok(layer)
}

struct Document<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Document<'_> {
    /// Takes a table in. The parser bounds how deep tables may nest.
    fn walk(&self, prefix: &str, table: &DeTable<'_>, layer: &mut Layer) {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let line = line_of(self.text, name.span().start);
            let origin = Origin::File { path: self.path.into(), line };
            match value.get_ref() {
                DeValue::Table(inner) if prefix.is_empty() && !is_section(&key) => {
                    layer.problems.push(unknown_section(key, inner, origin));
                }
                DeValue::Table(inner) if prefix.is_empty() => self.walk(&key, inner, layer),
                // A line at the end of the file, `gc.threshold = 5`, belongs to the section before it.
                DeValue::Table(inner) if is_section(name.get_ref()) => {
                    let (section, first) = (name.get_ref(), inner.keys().next().map_or("", |name| &**name.get_ref()));
                    let reason = format!(
                        "{section}.{first} stands under [{prefix}]; move it above the first section of the file, or under \
                         [{section}]"
                    );
                    layer.problems.push(Problem::Conflict { reason, origin });
                }
                value => layer.put_read(&key, origin, |kind| take(kind, value)),
            }
        }
    }
}

fn is_section(name: &str) -> bool {
    name == PEERS || SECTIONS.iter().any(|(section, _)| *section == name)
}

fn unknown_section(key: String, inner: &DeTable<'_>, origin: Origin) -> Problem {
    let known = SECTIONS.iter().map(|(section, _)| *section).chain([PEERS]);
    let meant = nearest(&key, known).map(|section| match inner.keys().next() {
        Some(name) => format!("{section}.{}", name.get_ref()),
        None => section.to_owned(),
    });
    let key = inner.keys().next().map_or(key.clone(), |name| format!("{key}.{}", name.get_ref()));
    Problem::UnknownKey { key, meant, origin }
}

/// What a value of TOML is for a setting; types are not guessed: `"9100"` is no number.
fn take(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    let value = match value {
        DeValue::String(text) => match kind {
            Kind::Addresses => Value::List(vec![text.to_string()]),
            _ => Value::Text(text.to_string()),
        },
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => return Err(kind.expected()),
        },
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(array) => {
            let texts = array.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            Value::List(texts.collect::<Option<Vec<String>>>().ok_or_else(|| kind.expected())?)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => return Err(kind.expected()),
    };
    kind.check(value)
}

/// Line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at.min(text.len())).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
