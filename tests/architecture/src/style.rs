//! Names that say something, and files that fit into a head.

use crate::source::Source;

/// Names that could hold anything, and so say nothing. Name the noun instead.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "misc", "types", "util", "utils"];

/// Lines of production code in one file. Measured on the code bases that we learn from, the median is
/// 100 to 330; above 500 a reader no longer holds the file in mind.
const PRODUCTION_LINES_MAX: usize = 500;

/// What opens the line in which a longer file says why.
const LONG_MARK: &str = "//! LONG:";

/// What is wrong with the names along `path`, relative to the workspace, and of the modules in the file.
pub fn name_complaints(path: &str, source: &Source) -> Vec<String> {
    let parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let in_path = parts.filter(|part| EMPTY_NAMES.contains(part)).map(|part| (path.to_owned(), part.to_owned()));
    let modules = source.modules().into_iter().filter(|(_, name)| EMPTY_NAMES.contains(&name.as_str()));
    let in_file = modules.map(|(line, name)| (format!("{path}:{line}"), name));
    in_path
        .chain(in_file)
        .map(|(place, name)| format!("{place}: the name {name} says nothing: name the noun"))
        .collect()
}

/// Says when a file is long and gives no reason.
pub fn length_complaint(path: &str, text: &str, source: &Source) -> Option<String> {
    let mut marks = text.lines().filter_map(|line| line.strip_prefix(LONG_MARK));
    let explained = marks.any(|reason| !reason.trim().is_empty());
    (source.production_line_count > PRODUCTION_LINES_MAX && !explained).then(|| {
        let count = source.production_line_count;
        format!("{path} has {count} lines of production code: split it, or say why not in a line `{LONG_MARK} ...`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::read;

    #[test]
    fn empty_names_are_found_in_paths_and_modules() {
        let source = read("pub mod dot;\nmod helpers {\n}\n");
        let found = name_complaints("crates/x/src/utils/dot.rs", &source);
        let expected = [
            "crates/x/src/utils/dot.rs: the name utils says nothing: name the noun",
            "crates/x/src/utils/dot.rs:2: the name helpers says nothing: name the noun",
        ];
        assert_eq!(found, expected);
        assert_eq!(name_complaints("crates/x/src/misc.rs", &read("")).len(), 1);
        assert_eq!(name_complaints("crates/x/src/prototypes.rs", &read("mod commons;\n")), [""; 0]);
    }

    #[test]
    fn a_long_file_says_why() {
        let complaint = |text: &str| length_complaint("x.rs", text, &read(text));
        let fits = "fn f() {}\n".repeat(PRODUCTION_LINES_MAX);
        assert_eq!(complaint(&fits), None);
        let long = format!("{fits}fn g() {{}}\n");
        assert!(complaint(&long).is_some_and(|text| text.contains("x.rs has 501 lines")));
        assert_eq!(complaint(&format!("//! LONG: one table that must not be torn apart.\n{long}")), None);
        assert!(complaint(&format!("//! LONG:\n{long}")).is_some(), "a mark without a reason is none");
        let tests = format!("{fits}#[cfg(test)]\nmod tests {{\n{fits}}}\n");
        assert_eq!(complaint(&tests), None);
    }
}
