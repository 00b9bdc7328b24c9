//! What a `Cargo.toml` says about dependencies.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// The tables of a manifest that name dependencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `[dependencies]`.
    Normal,
    /// `[build-dependencies]`.
    Build,
    /// `[dev-dependencies]`.
    Dev,
}

impl Kind {
    const ALL: [(Self, &str); 3] =
        [(Self::Normal, "dependencies"), (Self::Build, "build-dependencies"), (Self::Dev, "dev-dependencies")];
}

/// One dependency of one package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// The package's own name, also where the manifest renames it.
    pub package: String,
    /// The table it stands in.
    pub kind: Kind,
    /// True for a package of this repository.
    pub ours: bool,
}

/// One package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Folder of the `Cargo.toml`, relative to the workspace, with `/`.
    pub folder: String,
    /// The package's name.
    pub package: String,
    /// All its dependencies, those for single platforms included.
    pub dependencies: Vec<Dependency>,
}

/// The root manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workspace {
    /// Folders of the members.
    pub members: Vec<String>,
    /// Folders that the workspace excludes: packages of ours all the same.
    pub excluded: Vec<String>,
    /// `[workspace.dependencies]`: key to package name and whether it is ours.
    pub dependencies: BTreeMap<String, (String, bool)>,
}

/// Reads the root manifest.
///
/// # Errors
/// A sentence when the text is no TOML, has no `[workspace]`, or lists members by pattern.
pub fn workspace(text: &str) -> Result<Workspace, String> {
    let root = parse(text)?;
    let table = root.get("workspace").and_then(Value::as_table).ok_or("there is no [workspace]")?;
    let members = folders(table, "members")?;
    if let Some(pattern) = members.iter().find(|member| member.contains('*')) {
        return Err(format!("the member {pattern} is a pattern: name each member, so that the tests see it"));
    }
    let dependencies =
        entries(table, "dependencies").map(|(key, entry)| (key.clone(), described(key, entry))).collect();
    Ok(Workspace { members, excluded: folders(table, "exclude")?, dependencies })
}

/// Reads the manifest of the package in `folder`.
///
/// # Errors
/// A sentence when the text is no TOML, names no package, or inherits what the workspace does not have.
pub fn package(folder: &str, text: &str, workspace: &Workspace) -> Result<Manifest, String> {
    let root = parse(text)?;
    let name = root.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    let package = name.ok_or_else(|| format!("{folder}/Cargo.toml names no package"))?.to_owned();
    let mut dependencies = dependencies_of(&root, workspace)?;
    for platform in entries(&root, "target").filter_map(|(_, platform)| platform.as_table()) {
        dependencies.extend(dependencies_of(platform, workspace)?);
    }
    Ok(Manifest { folder: folder.to_owned(), package, dependencies })
}

fn parse(text: &str) -> Result<Table, String> {
    text.parse::<Table>().map_err(|error| error.to_string())
}

fn dependencies_of(table: &Table, workspace: &Workspace) -> Result<Vec<Dependency>, String> {
    let mut found = Vec::new();
    for (kind, section) in Kind::ALL {
        for (key, entry) in entries(table, section) {
            let inherited = entry.get("workspace").and_then(Value::as_bool) == Some(true);
            let (package, ours) = if inherited {
                let known = workspace.dependencies.get(key);
                known.cloned().ok_or_else(|| format!("{key} is not in [workspace.dependencies]"))?
            } else {
                described(key, entry)
            };
            found.push(Dependency { package, kind, ours });
        }
    }
    Ok(found)
}

/// Package name of a dependency's entry, and whether it lies in this repository.
fn described(key: &str, entry: &Value) -> (String, bool) {
    let package = entry.get("package").and_then(Value::as_str).unwrap_or(key);
    (package.to_owned(), entry.get("path").is_some())
}

fn entries<'a>(table: &'a Table, section: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    table.get(section).and_then(Value::as_table).into_iter().flatten()
}

fn folders(table: &Table, key: &str) -> Result<Vec<String>, String> {
    let list = table.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = list.iter().map(|folder| folder.as_str().map(str::to_owned));
    names.collect::<Option<_>>().ok_or_else(|| format!("workspace.{key} holds something that is no folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = r#"
        [workspace]
        members = ["crates/a", "bench"]
        exclude = ["fuzz"]
        [workspace.dependencies]
        a = { path = "crates/a" }
        digest = { package = "sha2", version = "1" }
        plain = "1"
    "#;

    #[test]
    fn reads_members_and_shared_dependencies() {
        let workspace = workspace(ROOT).unwrap();
        assert_eq!(workspace.members, ["crates/a", "bench"]);
        assert_eq!(workspace.excluded, ["fuzz"]);
        assert_eq!(workspace.dependencies["a"], ("a".to_owned(), true));
        assert_eq!(workspace.dependencies["digest"], ("sha2".to_owned(), false));
    }

    #[test]
    fn reads_every_table_of_dependencies() {
        let text = r#"
            [package]
            name = "b"
            [dependencies]
            a.workspace = true
            [build-dependencies]
            plain = { workspace = true }
            [dev-dependencies]
            digest.workspace = true
            [target.'cfg(unix)'.dependencies]
            near = { path = "../near" }
        "#;
        let manifest = package("crates/b", text, &workspace(ROOT).unwrap()).unwrap();
        let seen: Vec<_> = manifest.dependencies.iter().map(|d| (d.package.as_str(), d.kind, d.ours)).collect();
        let expected = [
            ("a", Kind::Normal, true),
            ("plain", Kind::Build, false),
            ("sha2", Kind::Dev, false),
            ("near", Kind::Normal, true),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn refuses_what_it_cannot_check() {
        let pattern = "[workspace]\nmembers = [\"crates/*\"]";
        assert!(workspace(pattern).unwrap_err().contains("crates/*"));
        assert!(workspace("[package]").unwrap_err().contains("[workspace]"));
        assert!(workspace("[workspace").is_err());
        let unknown = "[package]\nname = \"b\"\n[dependencies]\nghost.workspace = true";
        assert!(package("b", unknown, &workspace(ROOT).unwrap()).unwrap_err().contains("ghost"));
    }
}
