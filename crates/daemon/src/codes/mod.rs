//! The catalogue of stable codes: what each means, why it happens, what to do, and how a command ends with it.
//!
//! `crdt-engine explain CODE` and `docs/errors.md` are written from it, and a test looks through the sources of all
//! shipped crates for codes that are missing here.

mod commands;
mod door;
mod joining;
mod links;
mod replication;
mod storage;

use crate::exit::Exit;

/// A stable code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    /// `ERR_...`; never changes.
    pub code: &'static str,
    /// How a command ends with it.
    pub exit: Exit,
    /// What it means, and what state things are in.
    pub meaning: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Codes of one matter.
#[derive(Clone, Copy, Debug)]
pub struct Chapter {
    /// What they are about.
    pub title: &'static str,
    /// They.
    pub codes: &'static [Code],
}

/// All codes.
pub const CHAPTERS: &[Chapter] = &[
    Chapter { title: "Commands, configuration and machine", codes: commands::CODES },
    Chapter { title: "Identity and joining", codes: joining::CODES },
    Chapter { title: "Links to members", codes: links::CODES },
    Chapter { title: "Replication", codes: replication::CODES },
    Chapter { title: "Store", codes: storage::CODES },
    Chapter { title: "The local door", codes: door::CODES },
];

/// One line of the catalogue.
const fn code(
    code: &'static str,
    exit: Exit,
    meaning: &'static str,
    cause: &'static str,
    remedy: &'static str,
) -> Code {
    Code { code, exit, meaning, cause, remedy }
}

/// All codes, chapter by chapter.
pub fn all() -> impl Iterator<Item = &'static Code> {
    CHAPTERS.iter().flat_map(|chapter| chapter.codes)
}

/// The entry of a code, also without its `ERR_` and in small letters.
pub fn find(text: &str) -> Option<&'static Code> {
    let asked = text.trim().to_ascii_uppercase();
    all().find(|entry| entry.code == asked || entry.code.strip_prefix("ERR_") == Some(asked.as_str()))
}

/// Compares a generated document with the one in the repository, or writes it when `UPDATE_DOCS` is set.
#[cfg(test)]
pub(crate) fn assert_document(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{} is not up to date: UPDATE_DOCS=1 cargo test -p daemon --lib", path.display());
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The crates that the binary is made of.
    const SHIPPED: [&str; 7] = ["crdt", "replica", "resp", "stats", "store", "transport", "daemon"];

    fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                rust_files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// Codes in a text: `ERR_` and at least one letter of a name.
    fn codes_in(text: &str) -> impl Iterator<Item = String> {
        let is_of_code = |byte: char| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == '_';
        let starts = text.match_indices("ERR_").map(|(at, _)| &text[at..]);
        starts.filter_map(move |rest| {
            let end = rest.find(|byte| !is_of_code(byte)).unwrap_or(rest.len());
            let code = rest[..end].trim_end_matches('_');
            (code.len() > "ERR_".len()).then(|| code.to_owned())
        })
    }

    /// Code -> a file that has it, outside of tests and of this catalogue.
    fn codes_of_the_source() -> BTreeMap<String, PathBuf> {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = Vec::new();
        for name in SHIPPED {
            rust_files(&crates.join(name).join("src"), &mut files);
        }
        assert!(files.len() > 50, "the sources are where they are looked for");
        let catalogue = crates.join("daemon/src/codes");
        let mut found = BTreeMap::new();
        for path in files {
            if path.starts_with(&catalogue) || path.ends_with("tests.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            // Tests stand at the end of a file.
            let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for code in codes_in(production) {
                found.entry(code).or_insert_with(|| path.clone());
            }
        }
        found
    }

    #[test]
    fn every_code_of_the_sources_is_in_the_catalogue() {
        let known: BTreeSet<&str> = all().map(|entry| entry.code).collect();
        let missing: Vec<String> = codes_of_the_source()
            .into_iter()
            .filter(|(code, _)| !known.contains(code.as_str()))
            .map(|(code, path)| format!("{code} in {}", path.display()))
            .collect();
        assert!(missing.is_empty(), "add to crates/daemon/src/codes:\n{}", missing.join("\n"));
    }

    #[test]
    fn every_code_of_the_catalogue_is_in_the_sources() {
        let used = codes_of_the_source();
        let idle: Vec<&str> = all().map(|entry| entry.code).filter(|code| !used.contains_key(*code)).collect();
        assert!(idle.is_empty(), "nobody uses {idle:?}");
    }

    #[test]
    fn entries_are_whole_sentences_and_codes_are_there_once() {
        let mut seen = BTreeSet::new();
        for entry in all() {
            assert!(seen.insert(entry.code), "{} is there twice", entry.code);
            for text in [entry.meaning, entry.cause, entry.remedy] {
                assert!(text.ends_with('.'), "{}: {text}", entry.code);
            }
        }
    }

    #[test]
    fn codes_are_found_as_people_type_them() {
        for text in ["ERR_TOKEN_EXPIRED", "err_token_expired", " token_expired "] {
            assert_eq!(find(text).map(|entry| entry.code), Some("ERR_TOKEN_EXPIRED"));
        }
        assert_eq!(find("ERR_"), None);
    }
}
