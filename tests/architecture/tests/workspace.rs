//! Runs every check of this package on the workspace that it stands in.
#![allow(clippy::unwrap_used, reason = "a test may stop at a file that it cannot read")]

use std::fs;
use std::path::{Path, PathBuf};

use architecture::data_types::{self, Module};
use architecture::ledger::{self, Ledger};
use architecture::manifest::{self, Manifest, Workspace};
use architecture::rooms::{self, Room};
use architecture::source::{self, Source};
use architecture::{purity, style};

/// The workspace as its manifests and documents describe it.
struct Repository {
    workspace: Workspace,
    packages: Vec<Manifest>,
    rooms: Vec<Room>,
    ledger: Ledger,
}

/// One Rust file.
struct File {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
    source: Source,
}

impl Repository {
    fn read() -> Self {
        let workspace = manifest::workspace(&read("Cargo.toml")).unwrap();
        let folders = workspace.members.iter().chain(&workspace.excluded);
        let package = |folder: &String| {
            let text = read(&format!("{folder}/Cargo.toml"));
            manifest::package(folder, &text, &workspace).unwrap()
        };
        Self {
            packages: folders.map(package).collect(),
            rooms: rooms::parse(&read("ARCHITECTURE.md")).unwrap(),
            ledger: ledger::parse(&read("docs/dependencies.md")).unwrap(),
            workspace,
        }
    }

    fn pure_packages(&self) -> Vec<&Manifest> {
        let is_pure = |package: &&Manifest| self.rooms.iter().any(|room| room.pure && room.folder == package.folder);
        self.packages.iter().filter(is_pure).collect()
    }
}

#[test]
fn dependencies_follow_the_table_of_rooms() {
    let repository = Repository::read();
    let is_folder = |folder: &str| root().join(folder).is_dir();
    none(rooms::complaints(&repository.rooms, &repository.packages, is_folder));
}

#[test]
fn every_dependency_has_its_reason() {
    let repository = Repository::read();
    none(ledger::complaints(&repository.ledger, &repository.workspace, &repository.packages));
}

#[test]
fn pure_rooms_depend_on_pure_packages() {
    let repository = Repository::read();
    let pure = repository.pure_packages();
    assert!(pure.len() >= 2, "crdt and replica are pure rooms, and the table names only {}", pure.len());
    none(pure.iter().flat_map(|package| purity::dependency_complaints(package, &repository.ledger)).collect());
}

#[test]
fn pure_rooms_are_pure() {
    let repository = Repository::read();
    let mut complaints = Vec::new();
    for package in repository.pure_packages() {
        let files = rust_files(&format!("{}/src", package.folder));
        assert!(!files.is_empty(), "{} has no source to look at", package.folder);
        for file in shipped(&files) {
            complaints.extend(purity::source_complaints(&file.path, &file.source));
        }
    }
    none(complaints);
}

#[test]
fn names_say_something() {
    let repository = Repository::read();
    let files: Vec<File> = repository.packages.iter().flat_map(|package| rust_files(&package.folder)).collect();
    none(files.iter().flat_map(|file| style::name_complaints(&file.path, &file.source)).collect());
}

#[test]
fn long_files_say_why() {
    let repository = Repository::read();
    let mut complaints = Vec::new();
    for package in &repository.packages {
        let sources = format!("{}/src", package.folder);
        // A package of nothing but tests has none.
        let files = if root().join(&sources).is_dir() { rust_files(&sources) } else { Vec::new() };
        complaints
            .extend(shipped(&files).filter_map(|file| style::length_complaint(&file.path, &file.text, &file.source)));
    }
    none(complaints);
}

#[test]
fn the_table_of_data_types_repeats_the_headers_of_their_modules() {
    let rows = data_types::parse(&read("docs/types.md")).unwrap();
    let files = rust_files("crates/crdt/src");
    let modules: Vec<Module> =
        files.iter().filter_map(|file| Module::read(&file.path, &file.text, &file.source)).collect();
    none(data_types::complaints(&rows, &modules));
}

fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files below `folder`, sorted, without those that builds have made.
fn rust_files(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(root().join(folder))
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    entries.sort();
    for name in entries {
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            if !name.starts_with("target") {
                files.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            let text = read(&path);
            files.push(File { source: source::read(&text), path, text });
        }
    }
    files
}

/// The files that are no modules for tests.
fn shipped(files: &[File]) -> impl Iterator<Item = &File> {
    let declared = files.iter().flat_map(|file| {
        file.source.test_modules.iter().flat_map(|name| source::module_places(Path::new(&file.path), name))
    });
    let for_tests: Vec<PathBuf> = declared.collect();
    files.iter().filter(move |file| !for_tests.iter().any(|place| Path::new(&file.path).starts_with(place)))
}
