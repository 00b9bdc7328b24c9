//! `docs/commands.md` is what the tables say.

use std::fs;
use std::path::Path;

use resp::document::commands_markdown;

#[test]
fn the_document_of_commands_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    let table = commands_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let document = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = table.lines().zip(document.lines()).find(|(table, document)| table != document);
    assert!(
        table == document,
        "docs/commands.md is not what the tables say; write it with `UPDATE_DOCS=1 cargo test -p resp --test suite \
         documents`. First difference: {differs:?}"
    );
}
