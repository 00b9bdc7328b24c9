//! The table of rooms in ARCHITECTURE.md, and the direction of dependencies.

use crate::manifest::Manifest;
use crate::markdown::{code_span, code_spans, table};

/// Header of the table in ARCHITECTURE.md.
pub const COLUMNS: [&str; 5] = ["folder", "state", "purity", "what lives there", "may depend on"];

/// Which of our packages a room may depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// "nothing of ours".
    Nothing,
    /// "all rooms above".
    AllAbove,
    /// The rooms named between backticks.
    Rooms(Vec<String>),
    /// Words about something that Cargo does not know; only for rooms without a package.
    Words,
}

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    /// Relative to the workspace, without a slash at the end.
    pub folder: String,
    /// False for a room that is only planned.
    pub here: bool,
    /// No I/O, no clock, no randomness, no async.
    pub pure: bool,
    /// The last cell.
    pub allowed: Allowed,
}

impl Room {
    /// The package's name too: the folder within its shelf, with hyphens where a room stands within another.
    pub fn name(&self) -> String {
        let shelves = ["crates/", "tests/"];
        let within = shelves.iter().find_map(|shelf| self.folder.strip_prefix(shelf)).unwrap_or(&self.folder);
        within.replace('/', "-")
    }
}

/// Reads the table.
///
/// # Errors
/// A sentence about the table or the row that has not the expected form.
pub fn parse(document: &str) -> Result<Vec<Room>, String> {
    table(document, &COLUMNS)?.iter().map(|cells| room(cells)).collect()
}

fn room(cells: &[String]) -> Result<Room, String> {
    let [folder, state, purity, _, allowed] = cells else {
        return Err(format!("a row of rooms has {} cells", cells.len()));
    };
    let folder = code_span(folder).ok_or_else(|| format!("{folder} is no folder between backticks"))?;
    let here = match state.as_str() {
        "here" => true,
        "planned" => false,
        other => {
            return Err(format!("the state of {folder} is \"{other}\", not here or planned"));
        }
    };
    let pure = match purity.as_str() {
        "pure" => true,
        "" => false,
        other => {
            return Err(format!("the purity of {folder} is \"{other}\", not pure or empty"));
        }
    };
    let allowed = match allowed.as_str() {
        "nothing of ours" => Allowed::Nothing,
        "all rooms above" => Allowed::AllAbove,
        text if text.contains('`') => Allowed::Rooms(code_spans(text).map(str::to_owned).collect()),
        _ => Allowed::Words,
    };
    Ok(Room { folder: folder.trim_end_matches('/').to_owned(), here, pure, allowed })
}

/// What is wrong with the table, or with the packages when measured by it. `exists` tells whether a
/// folder is there.
pub fn complaints(rooms: &[Room], packages: &[Manifest], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (place, room) in rooms.iter().enumerate() {
        if room.here != exists(&room.folder) {
            found.push(match room.here {
                true => format!("{} is marked as here and is not there", room.folder),
                false => format!("{} exists and is still marked as planned", room.folder),
            });
        }
        let above = &rooms[..place];
        if let Allowed::Rooms(names) = &room.allowed {
            let unknown = names.iter().filter(|name| named(above, name).is_none());
            found.extend(unknown.map(|name| {
                format!("{} may depend on {name}, which is no room above it: arrows run downwards", room.folder)
            }));
        }
    }
    for package in packages {
        match rooms.iter().position(|room| room.folder == package.folder) {
            Some(place) => found.extend(package_complaints(&rooms[place], &rooms[..place], package)),
            None => found.push(format!("{} has no row in the table of rooms", package.folder)),
        }
    }
    found
}

fn package_complaints(room: &Room, above: &[Room], package: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    if package.package != room.name() {
        found.push(format!("the package in {} is called {}", room.folder, package.package));
    }
    if room.allowed == Allowed::Words {
        found.push(format!("the table does not say which of our packages {} may depend on", room.folder));
    }
    for dependency in package.dependencies.iter().filter(|dependency| dependency.ours) {
        let name = &dependency.package;
        let allowed = match &room.allowed {
            Allowed::Nothing | Allowed::Words => false,
            Allowed::AllAbove => named(above, name).is_some(),
            Allowed::Rooms(names) => names.contains(name),
        };
        if !allowed {
            found.push(format!("{} depends on {name}, and the table of rooms does not allow it", room.folder));
        } else if room.pure && named(above, name).is_some_and(|other| !other.pure) {
            found.push(format!("{} is pure and depends on {name}, which is not", room.folder));
        }
    }
    if let Allowed::Rooms(names) = &room.allowed {
        for name in names.iter().filter(|name| package.dependencies.iter().all(|used| used.package != **name)) {
            found.push(format!("{} may depend on {name} and does not: take it off its row", room.folder));
        }
    }
    found
}

fn named<'a>(rooms: &'a [Room], name: &str) -> Option<&'a Room> {
    rooms.iter().find(|room| room.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Dependency, Kind};

    const DOCUMENT: &str = "\
| folder | state | purity | what lives there | may depend on |
|---|---|---|---|---|
| `crates/core` | here | pure | types | nothing of ours |
| `crates/node` | here | pure | machine | `core` |
| `crates/disk` | here |  | files | `core` |
| `crates/later` | planned |  | later | `node` |
| `crates/all` | here |  | binary | all rooms above |
| `docs/` | here |  | documents | - |
";
    const HERE: [&str; 5] = ["crates/core", "crates/node", "crates/disk", "crates/all", "docs"];

    fn package(folder: &str, ours: &[&str]) -> Manifest {
        let dependency = |name: &&str| Dependency { package: (*name).to_owned(), kind: Kind::Dev, ours: true };
        Manifest {
            folder: folder.to_owned(),
            package: folder.rsplit('/').next().unwrap().to_owned(),
            dependencies: ours.iter().map(dependency).collect(),
        }
    }

    fn complaints_about(document: &str, packages: &[Manifest]) -> Vec<String> {
        complaints(&parse(document).unwrap(), packages, |folder| HERE.contains(&folder))
    }

    #[test]
    fn accepts_what_the_table_allows() {
        let packages = [
            package("crates/core", &[]),
            package("crates/node", &["core"]),
            package("crates/all", &["core", "node", "disk"]),
        ];
        assert_eq!(complaints_about(DOCUMENT, &packages), [""; 0]);
    }

    #[test]
    fn refuses_an_arrow_that_the_table_does_not_have() {
        let found = complaints_about(DOCUMENT, &[package("crates/disk", &["core", "node"])]);
        assert_eq!(found, ["crates/disk depends on node, and the table of rooms does not allow it"]);
        let found = complaints_about(DOCUMENT, &[package("crates/core", &["node"])]);
        assert_eq!(found, ["crates/core depends on node, and the table of rooms does not allow it"]);
        let found = complaints_about(DOCUMENT, &[package("crates/all", &["ghost"])]);
        assert_eq!(found, ["crates/all depends on ghost, and the table of rooms does not allow it"]);
    }

    #[test]
    fn refuses_an_arrow_that_nobody_uses() {
        let found = complaints_about(DOCUMENT, &[package("crates/disk", &[])]);
        assert_eq!(found, ["crates/disk may depend on core and does not: take it off its row"]);
    }

    #[test]
    fn refuses_a_table_with_an_arrow_upwards() {
        let upwards = DOCUMENT.replace("| machine | `core` |", "| machine | `core`, `disk` |");
        let found = complaints_about(&upwards, &[]);
        assert_eq!(found, ["crates/node may depend on disk, which is no room above it: arrows run downwards"]);
    }

    #[test]
    fn refuses_a_pure_room_that_leans_on_an_impure_one() {
        let impure = DOCUMENT.replace("| `crates/core` | here | pure |", "| `crates/core` | here |  |");
        let found = complaints_about(&impure, &[package("crates/node", &["core"])]);
        assert_eq!(found, ["crates/node is pure and depends on core, which is not"]);
    }

    #[test]
    fn refuses_a_table_that_is_out_of_date() {
        let found = complaints_about(&DOCUMENT.replace("| here |  | files", "| planned |  | files"), &[]);
        assert_eq!(found, ["crates/disk exists and is still marked as planned"]);
        let found = complaints_about(&DOCUMENT.replace("| planned |", "| here |"), &[]);
        assert_eq!(found, ["crates/later is marked as here and is not there"]);
        let found = complaints_about(DOCUMENT, &[package("crates/new", &[])]);
        assert_eq!(found, ["crates/new has no row in the table of rooms"]);
    }

    #[test]
    fn refuses_a_package_that_its_row_does_not_describe() {
        let mut renamed = package("crates/core", &[]);
        renamed.package = "kernel".to_owned();
        assert_eq!(complaints_about(DOCUMENT, &[renamed]), ["the package in crates/core is called kernel"]);
        let found = complaints_about(DOCUMENT, &[package("docs", &[])]);
        assert_eq!(found, ["the table does not say which of our packages docs may depend on"]);
    }

    #[test]
    fn refuses_rows_that_it_cannot_read() {
        for (good, bad) in [("| here | pure |", "| done | pure |"), ("| pure |", "| mostly |"), ("`docs/`", "docs")] {
            assert!(parse(&DOCUMENT.replacen(good, bad, 1)).is_err(), "{bad}");
        }
        assert!(parse("no table").is_err());
    }
}
