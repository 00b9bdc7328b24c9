//! Settings from environment variables: `CRDT_`, section, name, all in capitals: `CRDT_GC_THRESHOLD`.

use std::ffi::OsString;

use super::nearest::nearest;
use super::schema::SETTINGS;
use super::{Layer, Origin, Problem};

/// Begins the names of all our variables.
const PREFIX: &str = "CRDT_";
/// Variables with this beginning are for tests of the engine.
const TEST_PREFIX: &str = "CRDT_TEST_";

/// Variables that are no settings, and what they are.
pub const OTHER_VARIABLES: [(&str, &str); 5] = [
    ("CRDT_FOLDER", "The node folder, as --folder."),
    ("CRDT_NODE_ID", "Belongs to the plugin of WordPress; the engine leaves it alone."),
    ("CRDT_SOCKET", "Belongs to the plugin of WordPress; the engine leaves it alone."),
    ("CRDT_DISABLED", "Belongs to the plugin of WordPress; the engine leaves it alone."),
    (crate::demo::PARENT_VARIABLE, "Set by the demonstration for its nodes."),
];

/// Reads all variables that are ours.
pub(super) fn read(environment: &[(OsString, OsString)]) -> Layer {
    let mut layer = Layer::default();
    for (variable, value) in environment {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if variable.starts_with(TEST_PREFIX) || OTHER_VARIABLES.iter().any(|(name, _)| *name == variable) {
            continue;
        }
        let origin = Origin::Environment { variable: variable.to_owned() };
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == variable) else {
            let names: Vec<String> = SETTINGS.iter().map(|setting| setting.variable()).collect();
            let meant = nearest(variable, names.iter().map(String::as_str)).map(str::to_owned);
            layer.problems.push(Problem::UnknownKey { key: variable.to_owned(), meant, origin });
            continue;
        };
        match value.to_str() {
            Some(text) => layer.put_text(setting.key, text, origin),
            None => {
                let (key, expected) = (setting.key.to_owned(), "text in UTF-8".to_owned());
                layer.problems.push(Problem::Value { key, expected, origin });
            }
        }
    }
    layer
}
