//! `check-config` and `config`.

use serde_json::json;

use super::failure::Failure;
use super::{Context, print};
use crate::cli::{OutputFormat, ShowArgs};
use crate::config::{Origin, Settings, config_text, is_readable_by_others};
use crate::exit::Exit;
use crate::surroundings::{self, Finding};

/// Says that the configuration is good, which loading it has shown, and what else could be better.
pub(super) fn check(context: &Context, format: OutputFormat) -> Result<Exit, Failure> {
    let mut found = surroundings::look();
    found.findings.extend(readable_finding(context));
    let set = context.settings.iter().filter(|(_, given)| given.origin != Origin::Default).count();
    let file = context.file.display().to_string();
    if format == OutputFormat::Json {
        let finding =
            |finding: &Finding| json!({ "code": finding.code, "message": finding.message, "command": finding.command });
        let findings: Vec<serde_json::Value> = found.findings.iter().map(finding).collect();
        let is_there = context.file.exists();
        let value = json!({
            "config": file, "config_exists": is_there, "settings": set, "kernel": found.kernel, "findings": findings,
        });
        return print(&format!("{value:#}\n"));
    }
    let there = if context.file.exists() { "" } else { ", which is not there" };
    let mut text = format!("The configuration is good: {set} settings are set; the file is {file}{there}.\n");
    text.push_str(&format!("Kernel {}.\n", found.kernel));
    for finding in &found.findings {
        text.push_str(&format!("\n{}: {}\n    {}\n", finding.code, finding.message, finding.command));
    }
    if found.findings.is_empty() {
        text.push_str("The machine is as it should be.\n");
    }
    print(&text)
}

/// What is to be said of a configuration file that others may read.
pub(super) fn readable_finding(context: &Context) -> Option<Finding> {
    is_readable_by_others(&context.file).then(|| Finding {
        code: "ERR_CONFIG_READABLE",
        message: format!("others may read {}, and passwords may stand in it", context.file.display()),
        command: format!("chmod o-rwx {}", context.file.display()),
    })
}

pub(super) fn show(context: &Context, arguments: &ShowArgs) -> Result<Exit, Failure> {
    let begin = arguments.key.as_deref().unwrap_or_default();
    let shown: Vec<_> = context.settings.shown().into_iter().filter(|(key, ..)| key.starts_with(begin)).collect();
    let mut text = String::new();
    if arguments.output.format == OutputFormat::Json {
        let entry = |(key, value, origin): &(String, String, String)| match arguments.origin {
            true => json!({ "key": key, "value": value, "origin": origin }),
            false => json!({ "key": key, "value": value }),
        };
        let entries: serde_json::Value = shown.iter().map(entry).collect();
        return print(&format!("{entries:#}\n"));
    }
    for (key, value, origin) in shown {
        text.push_str(&format!("{key} = {value}"));
        if arguments.origin {
            text.push_str(&format!("   # {origin}"));
        }
        text.push('\n');
    }
    print(&text)
}

pub(super) fn default_text() -> Result<Exit, Failure> {
    print(&config_text(&Settings::defaults()))
}
