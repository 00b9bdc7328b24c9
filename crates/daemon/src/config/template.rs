//! The commented file that `init` and `join` write, and `docs/configuration.md`.

use std::fmt::Write;

use super::environment::OTHER_VARIABLES;
use super::schema::{PEERS, PEERS_MEANING, SECTIONS, SETTINGS, Setting};
use super::value::Value;
use super::{Origin, Settings};

/// Longest line of a comment.
const LINE_CHARS_MAX: usize = 110;

const HEAD: &str = "\
# The configuration of a crdt-engine node.
#
# Every setting stands here with its default, commented out. Flags win over environment variables, those over this
# file, and this file over defaults. `crdt-engine check-config` looks for mistakes; `crdt-engine config show --origin`
# tells each value and where it comes from. Changes take effect at the next start.
";

/// The text of a new `config.toml`: all defaults as comments. What the command line of `init` or `join` set stands there
/// as a value, so that `run` knows it too.
pub fn config_text(settings: &Settings) -> String {
    let mut text = HEAD.to_owned();
    for (section, about) in SECTIONS {
        text.push('\n');
        comment(&mut text, about);
        line(&mut text, &format!("[{section}]"));
        for setting in SETTINGS.iter().filter(|setting| setting.parts().0 == section) {
            text.push('\n');
            comment(&mut text, &described(setting));
            let (value, is_set) = value(settings, setting.key);
            let mark = if is_set { "" } else { "#" };
            line(&mut text, &format!("{mark}{} = {value}", setting.parts().1));
        }
    }
    text.push('\n');
    comment(&mut text, PEERS_MEANING);
    line(&mut text, &format!("[{PEERS}]"));
    line(&mut text, "#node_02 = [\"b.example.org:8888\"]");
    for (key, given) in settings.iter().filter(|(key, _)| key.starts_with("peers.")) {
        if matches!(given.origin, Origin::Flag { .. }) {
            line(&mut text, &format!("{} = {}", key.trim_start_matches("peers."), given.value));
        }
    }
    text
}

/// The value for the file, and whether the command line gave it.
fn value(settings: &Settings, key: &str) -> (Value, bool) {
    match settings.iter().find(|(found, _)| found == key) {
        Some((_, given)) if matches!(given.origin, Origin::Flag { .. }) => (given.value.clone(), true),
        _ => (Settings::defaults().value(key).clone(), false),
    }
}

fn described(setting: &Setting) -> String {
    format!("{} Takes {}.", setting.meaning, setting.kind.expected())
}

fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}

/// Comment lines that are not longer than [`LINE_CHARS_MAX`].
fn comment(text: &mut String, words: &str) {
    let mut chars = 0;
    for word in words.split_whitespace() {
        let count = word.chars().count() + 1;
        if chars == 0 || chars + count > LINE_CHARS_MAX {
            text.push_str(if chars == 0 { "#" } else { "\n#" });
            chars = 1;
        }
        text.push(' ');
        text.push_str(word);
        chars += count;
    }
    text.push('\n');
}

/// `docs/configuration.md`.
pub fn configuration_markdown() -> String {
    let mut text = "\
# Configuration

Written by `daemon::config::configuration_markdown` from the schema in `crates/daemon/src/config/schema.rs`; a test
compares. To write it anew: `UPDATE_DOCS=1 cargo test -p daemon --lib config`.

Flags (`--set section.name=value` and the common ones of each command) win over environment variables, those over
`config.toml` in the node folder, and that over defaults. A key or a variable that begins with `CRDT_` and is not listed
here is refused. `crdt-engine config show --origin` tells each value and where it comes from.
"
    .to_owned();
    for (section, about) in SECTIONS {
        // Writing into a String does not fail, here and below.
        let _ = write!(text, "\n## {section}\n{about}\n\n");
        text.push_str("| key | variable | default | takes | meaning |\n|---|---|---|---|---|\n");
        for setting in SETTINGS.iter().filter(|setting| setting.parts().0 == section) {
            let default = Settings::defaults().value(setting.key).to_string();
            let cells = [setting.kind.expected(), setting.meaning.replace('|', "\\|")].join(" | ");
            let _ = writeln!(text, "| `{}` | `{}` | `{default}` | {cells} |", setting.key, setting.variable());
        }
    }
    let _ = write!(text, "\n## {PEERS}\n{PEERS_MEANING}\n\n## Other variables\n| variable | meaning |\n|---|---|\n");
    for (variable, meaning) in OTHER_VARIABLES {
        let _ = writeln!(text, "| `{variable}` | {meaning} |");
    }
    text
}
