//! The table in docs/dependencies.md: one row with a reason for each dependency from outside.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Manifest, Workspace};
use crate::markdown::{code_span, code_spans, table};

/// Header of the table in docs/dependencies.md.
pub const COLUMNS: [&str; 4] = ["dependency", "used in", "in pure rooms", "why this one"];

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Our packages that name it.
    pub used_in: BTreeSet<String>,
    /// True when it does no I/O, reads no clock and draws no randomness, so that a pure room may have it.
    pub pure: bool,
    /// The reason in words.
    pub why: String,
}

/// The rows by name of the dependency.
pub type Ledger = BTreeMap<String, Row>;

/// Reads the table.
///
/// # Errors
/// A sentence about the table or the row that has not the expected form.
pub fn parse(document: &str) -> Result<Ledger, String> {
    let mut ledger = Ledger::new();
    for cells in table(document, &COLUMNS)? {
        let [name, used_in, pure, why] = &cells[..] else {
            return Err(format!("a row of dependencies has {} cells", cells.len()));
        };
        let name = code_span(name).ok_or_else(|| format!("{name} is no name between backticks"))?;
        let pure = match pure.as_str() {
            "yes" => true,
            "no" => false,
            other => {
                return Err(format!("{name}: \"in pure rooms\" is \"{other}\", not yes or no"));
            }
        };
        let used_in = code_spans(used_in).map(str::to_owned).collect();
        if ledger.insert(name.to_owned(), Row { used_in, pure, why: why.clone() }).is_some() {
            return Err(format!("{name} has two rows"));
        }
    }
    Ok(ledger)
}

/// Where manifests and ledger differ.
pub fn complaints(ledger: &Ledger, workspace: &Workspace, packages: &[Manifest]) -> Vec<String> {
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let shared = workspace.dependencies.values().filter(|(_, ours)| !ours);
    used.extend(shared.map(|(name, _)| (name.as_str(), BTreeSet::new())));
    for package in packages {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.ours) {
            used.entry(&dependency.package).or_default().insert(package.package.clone());
        }
    }

    let mut found = Vec::new();
    for (name, users) in &used {
        let Some(row) = ledger.get(*name) else {
            found.push(format!("{name} has no row in docs/dependencies.md: add one with the reason for it"));
            continue;
        };
        if row.why.is_empty() {
            found.push(format!("{name} has no reason in docs/dependencies.md"));
        }
        if users.is_empty() {
            found.push(format!("{name} stands in [workspace.dependencies] and no package uses it"));
        } else if *users != row.used_in {
            let (real, said) = (listed(users), listed(&row.used_in));
            found.push(format!("{name} is used in {real}; docs/dependencies.md says {said}"));
        }
    }
    let gone = ledger.keys().filter(|name| !used.contains_key(name.as_str()));
    found.extend(gone.map(|name| format!("{name} has a row in docs/dependencies.md and is used nowhere")));
    found
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{package, workspace};

    const DOCUMENT: &str = "\
| dependency | used in | in pure rooms | why this one |
|---|---|---|---|
| `map` | `core`, `node` | yes | fast |
| `net` | `node` | no | sockets |
";
    const ROOT: &str = "[workspace.dependencies]\nmap = \"1\"\ncore = { path = \"core\" }\n[workspace]\nmembers = []\n";
    const CORE: &str = "[package]\nname = \"core\"\n[dependencies]\nmap.workspace = true\n";
    const NODE: &str = "[package]\nname = \"node\"\n[dependencies]\nmap.workspace = true\nnet = \"2\"\n";

    fn complaints_about(document: &str, root: &str, manifests: &[&str]) -> Vec<String> {
        let workspace = workspace(root).unwrap();
        let packages: Vec<_> = manifests.iter().map(|text| package("x", text, &workspace).unwrap()).collect();
        complaints(&parse(document).unwrap(), &workspace, &packages)
    }

    #[test]
    fn accepts_a_true_table() {
        assert_eq!(complaints_about(DOCUMENT, ROOT, &[CORE, NODE]), [""; 0]);
    }

    #[test]
    fn refuses_a_dependency_without_a_row() {
        let more = format!("{CORE}left-pad = \"1\"\n");
        let found = complaints_about(DOCUMENT, ROOT, &[&more, NODE]);
        assert_eq!(found, ["left-pad has no row in docs/dependencies.md: add one with the reason for it"]);
    }

    #[test]
    fn refuses_a_row_without_a_reason() {
        let found = complaints_about(&DOCUMENT.replace("fast", ""), ROOT, &[CORE, NODE]);
        assert_eq!(found, ["map has no reason in docs/dependencies.md"]);
    }

    #[test]
    fn refuses_rows_and_shared_dependencies_that_nobody_uses() {
        let found = complaints_about(DOCUMENT, &ROOT.replace("map", "idle"), &[]);
        let expected = [
            "idle has no row in docs/dependencies.md: add one with the reason for it",
            "map has a row in docs/dependencies.md and is used nowhere",
            "net has a row in docs/dependencies.md and is used nowhere",
        ];
        assert_eq!(found, expected);
        let found = complaints_about(&DOCUMENT.replace("net", "map2"), ROOT, &[CORE]);
        assert!(found.iter().any(|complaint| complaint.starts_with("map is used in core; ")), "{found:?}");
        let unused = complaints_about(DOCUMENT, ROOT, &["[package]\nname = \"node\"\n[dependencies]\nnet = \"2\""]);
        assert_eq!(unused, ["map stands in [workspace.dependencies] and no package uses it"]);
    }

    #[test]
    fn refuses_rows_that_it_cannot_read() {
        assert!(parse(&DOCUMENT.replace("| yes |", "| maybe |")).unwrap_err().contains("maybe"));
        assert!(parse(&DOCUMENT.replace("`net`", "`map`")).unwrap_err().contains("two rows"));
        assert!(parse(&DOCUMENT.replace("`net`", "net")).unwrap_err().contains("backticks"));
    }
}
