//! The table in docs/types.md: one row for each CRDT type, whose cells repeat the header of its module.

use std::collections::BTreeMap;

use crate::markdown::{code_span, table};
use crate::source::Source;

/// Header of the table in docs/types.md.
pub const COLUMNS: [&str; 7] = ["type", "module", "intent", "who wins", "tie-break", "what a delete costs", "paper"];

/// The fields of a module's header that the columns behind `module` repeat, in the same order.
const FIELDS: [&str; 5] = ["Intent", "Who wins", "Tie-break", "Cost of a delete", "Paper"];

/// What a file says to declare a CRDT type.
const IMPLEMENTATION: &str = " Crdt for ";

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Name of the Rust type.
    pub type_name: String,
    /// Name of its module.
    pub module: String,
    /// The cells behind it, one a field of the header.
    cells: Vec<String>,
}

/// A module that holds CRDT types.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// Relative to the workspace, with `/`.
    path: String,
    /// The types that implement `Crdt`.
    types: Vec<String>,
    /// The lines `- **Name**: text` of its header, by name.
    fields: BTreeMap<String, String>,
}

impl Module {
    /// The module in the file `path`; `None` where no CRDT type lives.
    pub fn read(path: &str, text: &str, source: &Source) -> Option<Self> {
        let declared = source.production.iter().filter(|line| line.trim_start().starts_with("impl"));
        let named = declared.filter_map(|line| {
            let (_, rest) = line.split_once(IMPLEMENTATION)?;
            rest.split(|character: char| !character.is_alphanumeric()).next().map(str::to_owned)
        });
        let types: Vec<String> = named.collect();
        (!types.is_empty()).then(|| Self { path: path.to_owned(), types, fields: fields(text) })
    }

    fn name(&self) -> &str {
        let file = self.path.rsplit('/').next().unwrap_or(&self.path);
        file.strip_suffix(".rs").unwrap_or(file)
    }
}

/// Reads the table.
///
/// # Errors
/// A sentence about the table or the row that has not the expected form.
pub fn parse(document: &str) -> Result<Vec<Row>, String> {
    table(document, &COLUMNS)?.iter().map(|cells| row(cells)).collect()
}

fn row(cells: &[String]) -> Result<Row, String> {
    let [name, module, cells @ ..] = cells else {
        return Err(format!("a row of data types has {} cells", cells.len()));
    };
    let spans = code_span(name).zip(code_span(module));
    let (type_name, module) =
        spans.ok_or_else(|| format!("the row {name} has no Rust type or no module between backticks"))?;
    Ok(Row { type_name: type_name.to_owned(), module: module.to_owned(), cells: cells.to_vec() })
}

/// Where the table and the headers differ.
pub fn complaints(rows: &[Row], modules: &[Module]) -> Vec<String> {
    let mut found = Vec::new();
    for module in modules {
        for name in &module.types {
            match rows.iter().filter(|row| row.module == module.name() && row.type_name == *name).count() {
                1 => {}
                0 => found.push(format!("{name} of {} has no row in docs/types.md", module.path)),
                count => found.push(format!("{name} of {} has {count} rows in docs/types.md", module.path)),
            }
        }
    }
    for row in rows {
        let Row { type_name, module, .. } = row;
        let home = modules.iter().find(|known| known.name() == module && known.types.contains(type_name));
        match home {
            Some(home) => found.extend(row_complaints(row, home)),
            None => found.push(format!("docs/types.md: the module {module} holds no CRDT type {type_name}")),
        }
    }
    found
}

fn row_complaints(row: &Row, home: &Module) -> Vec<String> {
    let (type_name, path) = (&row.type_name, &home.path);
    let columns = COLUMNS[2..].iter().zip(FIELDS).zip(&row.cells);
    let complaint = |((column, field), cell): ((&&str, &str), &String)| {
        let Some(header) = home.fields.get(field) else {
            return Some(format!("{path}: the header has no line `//! - **{field}**: ...`"));
        };
        let (said, meant) = (plain(cell), plain(header));
        (said != meant).then(|| {
            format!(
                "docs/types.md, row {type_name}, cell \"{column}\" says\n    {said}\n  \
                 and the header of {path} says\n    {meant}"
            )
        })
    };
    columns.filter_map(complaint).collect()
}

/// The list `- **Name**: text` in the comment that opens a module. A text goes on in indented lines.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().map_while(|line| line.strip_prefix("//!")) {
        if let Some((name, said)) = line.strip_prefix(" - **").and_then(|rest| rest.split_once("**:")) {
            fields.entry(name.to_owned()).or_default().push_str(said);
            current = Some(name);
        } else if let Some(name) = current.filter(|_| line.starts_with("   ")) {
            fields.entry(name.to_owned()).or_default().push_str(line);
        } else {
            current = None;
        }
    }
    fields
}

/// The text without the syntax of links, and with single spaces.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, name, behind)) = split_link(rest) {
        plain.push_str(before);
        plain.push_str(name);
        let target = behind.strip_prefix('(').and_then(|target| target.split_once(')'));
        rest = target.map_or(behind, |(_, behind)| behind);
    }
    plain.push_str(rest);
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands before the first link, its name, and what stands behind the name.
fn split_link(text: &str) -> Option<(&str, &str, &str)> {
    let (before, inside) = text.split_once('[')?;
    let (name, behind) = inside.split_once(']')?;
    Some((before, name, behind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source;

    const SET: &str = "\
//! A set.
//!
//! - **Intent**: elements.
//! - **Who wins**: an add, see
//!   [`crate::register`].
//! - **Tie-break**: none needed.
//! - **Concurrent values**: all.
//! - **Cost of a delete**: none.
//! - **Paper**: Somebody (2012).
//!
//! What follows is no field.
impl Crdt for OrSet {}
#[cfg(test)]
impl Crdt for Fake {}
";
    const DOCUMENT: &str = "\
| type | module | intent | who wins | tie-break | what a delete costs | paper |
|---|---|---|---|---|---|---|
| OR-Set (`OrSet`) | [`set`](../crates/crdt/src/set.rs) | elements. | an add,  see [`crate::register`](x.rs). | none needed. | none. | [Somebody](https://x) (2012). |
";

    fn complaints_about(document: &str, text: &str) -> Vec<String> {
        let module = Module::read("crates/crdt/src/set.rs", text, &source::read(text));
        complaints(&parse(document).unwrap(), module.as_slice())
    }

    #[test]
    fn whitespace_and_links_do_not_matter() {
        assert_eq!(complaints_about(DOCUMENT, SET), [""; 0]);
        assert_eq!(plain("a [`b`] [c](d)  [e"), "a `b` c [e");
    }

    #[test]
    fn another_cell_is_named_with_its_row() {
        let found = complaints_about(&DOCUMENT.replace("none needed.", "by name."), SET);
        assert_eq!(found.len(), 1, "{found:?}");
        for part in ["row OrSet", "\"tie-break\"", "by name.", "none needed.", "crates/crdt/src/set.rs"] {
            assert!(found[0].contains(part), "{part} is missing in {}", found[0]);
        }
    }

    #[test]
    fn a_header_must_have_every_field() {
        let found = complaints_about(DOCUMENT, &SET.replace("**Paper**", "**Source**"));
        assert_eq!(found, ["crates/crdt/src/set.rs: the header has no line `//! - **Paper**: ...`"]);
    }

    #[test]
    fn every_type_has_one_row_and_every_row_a_type() {
        let found = complaints_about(DOCUMENT, &SET.replace("for OrSet", "for Bag"));
        let expected = [
            "Bag of crates/crdt/src/set.rs has no row in docs/types.md",
            "docs/types.md: the module set holds no CRDT type OrSet",
        ];
        assert_eq!(found, expected);
        let line = DOCUMENT.lines().last().unwrap();
        let found = complaints_about(&format!("{DOCUMENT}{line}\n"), SET);
        assert_eq!(found, ["OrSet of crates/crdt/src/set.rs has 2 rows in docs/types.md"]);
    }

    #[test]
    fn refuses_rows_that_it_cannot_read() {
        assert!(parse(&DOCUMENT.replace("`OrSet`", "OrSet")).unwrap_err().contains("backticks"));
    }
}
