//! `docs/metrics.md` is what the catalogue says.

use std::fs;
use std::path::Path;

use stats::document::metrics_markdown;

#[test]
fn the_document_of_metrics_is_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let catalogue = metrics_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &catalogue).unwrap();
    }
    let document = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = catalogue.lines().zip(document.lines()).find(|(catalogue, document)| catalogue != document);
    assert!(
        catalogue == document,
        "docs/metrics.md is not what the catalogue says; write it with `UPDATE_DOCS=1 cargo test -p stats --test suite \
         documents`. First difference: {differs:?}"
    );
}
