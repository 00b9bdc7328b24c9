//! Pure rooms: no I/O, no clock, no randomness, no async, no order that a hash map chose.

use crate::ledger::Ledger;
use crate::manifest::{Kind, Manifest};
use crate::source::Source;

/// What the code of a pure room must not say, and why.
const FORBIDDEN: [(&str, &str); 24] = [
    ("std::time", CLOCK),
    ("SystemTime", CLOCK),
    ("Instant::now", CLOCK),
    ("std::fs", IO),
    ("std::io", IO),
    ("std::net", IO),
    ("std::os", IO),
    ("std::env", IO),
    ("std::process", IO),
    ("print!", IO),
    ("println!", IO),
    ("eprint!", IO),
    ("eprintln!", IO),
    ("std::thread", THREADS),
    ("thread::", THREADS),
    ("async", THREADS),
    ("await", THREADS),
    ("tokio::", THREADS),
    ("rand::", RANDOMNESS),
    ("getrandom::", RANDOMNESS),
    ("RandomState", RANDOMNESS),
    ("std::collections::HashMap", RANDOMNESS),
    ("std::collections::HashSet", RANDOMNESS),
    ("std::collections::hash_", RANDOMNESS),
];
const CLOCK: &str = "time comes in as an argument";
const IO: &str = "a pure room returns effects and does no I/O";
const THREADS: &str = "a pure room is driven from outside, without threads or async";
const RANDOMNESS: &str = "the same seed must give the same run, so entropy comes in as an argument";

/// Packages that no row of docs/dependencies.md can admit to a pure room.
const FORBIDDEN_PACKAGES: [&str; 13] = [
    "async-std",
    "chrono",
    "fastrand",
    "futures",
    "getrandom",
    "jiff",
    "libc",
    "mio",
    "rand",
    "smol",
    "socket2",
    "time",
    "tokio",
];

/// What `path`, a source file of a pure room, must not contain.
pub fn source_complaints(path: &str, source: &Source) -> Vec<String> {
    let imports = source.imports();
    let lines = source.production.iter().enumerate().map(|(index, line)| (index + 1, line));
    let mut found: Vec<(usize, &str, &str)> = Vec::new();
    for (line, text) in lines.chain(imports.iter().map(|(line, path)| (*line, path))) {
        let said = FORBIDDEN.iter().filter(|(words, _)| says(text, words));
        found.extend(said.map(|(words, why)| (line, *words, *why)));
    }
    found.sort_unstable();
    found.dedup();
    found.iter().map(|(line, words, why)| format!("{path}:{line} says `{words}`: {why}")).collect()
}

/// What a pure room must not depend on. Its tests may use what they like.
pub fn dependency_complaints(package: &Manifest, ledger: &Ledger) -> Vec<String> {
    let shipped = package.dependencies.iter().filter(|dependency| !dependency.ours && dependency.kind != Kind::Dev);
    let impure = shipped.filter(|dependency| {
        let admitted = ledger.get(&dependency.package).is_some_and(|row| row.pure);
        !admitted || FORBIDDEN_PACKAGES.contains(&dependency.package.as_str())
    });
    let complaint = |name: &str| {
        format!("{} is pure and depends on {name}, which docs/dependencies.md keeps out of pure rooms", package.folder)
    };
    impure.map(|dependency| complaint(&dependency.package)).collect()
}

/// True when `words` occur in `text` and are not part of longer words there.
fn says(text: &str, words: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let open_ended = !words.ends_with(|character: char| character.is_alphanumeric());
    text.match_indices(words).any(|(at, _)| {
        let joined_before = text[..at].ends_with(is_word);
        let joined_after = !open_ended && text[at + words.len()..].starts_with(is_word);
        !joined_before && !joined_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger, manifest, source};

    fn complaints(text: &str) -> Vec<String> {
        source_complaints("src/x.rs", &source::read(text))
    }

    #[test]
    fn every_forbidden_word_is_found() {
        for (words, why) in FORBIDDEN {
            let found = complaints(&format!("fn f() {{\n    {words};\n}}\n"));
            let expected = format!("src/x.rs:2 says `{words}`: {why}");
            assert!(found.contains(&expected), "{words}: {found:?}");
        }
    }

    #[test]
    fn grouped_imports_do_not_hide_anything() {
        let found = complaints(
            "use core::fmt;\nuse std::{\n    collections::{BTreeMap, HashMap},\n    fs,\n    time::Instant,\n};\n",
        );
        let words: Vec<_> = found.iter().filter_map(|complaint| complaint.split('`').nth(1)).collect();
        assert_eq!(words, ["std::collections::HashMap", "std::fs", "std::time"]);
        assert_eq!(complaints("use std::thread;\n").len(), 1);
    }

    #[test]
    fn words_that_only_look_alike_are_fine() {
        let text = "\
//! Unlike std::time, and async code: nothing.
use core::time::Duration;
use hashbrown::HashMap;
fn operand(x: u8) { operand::f(\"std::fs\"); async_like(); std::times::x(); Instant::nowhere(); std::thread_local!() }
#[cfg(test)]
mod tests { use std::collections::HashMap; }
";
        assert_eq!(complaints(text), [""; 0]);
    }

    #[test]
    fn only_admitted_packages_enter_a_pure_room() {
        let ledger = ledger::parse(
            "| dependency | used in | in pure rooms | why this one |\n|---|---|---|---|\n\
             | `map` | `core` | yes | x |\n| `net` | `core` | no | x |\n| `tokio` | `core` | yes | x |\n",
        )
        .unwrap();
        let root = manifest::workspace("[workspace]\n").unwrap();
        let text = "[package]\nname = \"core\"\n[dependencies]\nmap = \"1\"\nnet = \"1\"\n\
                    [build-dependencies]\ntokio = \"1\"\n[dev-dependencies]\nrand = \"1\"\n";
        let package = manifest::package("crates/core", text, &root).unwrap();
        let found = dependency_complaints(&package, &ledger);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("on net,") && found[1].contains("on tokio,"), "{found:?}");
    }
}
