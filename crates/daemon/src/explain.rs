//! `crdt-engine explain CODE`, and `docs/errors.md`.

use std::fmt::Write;

use crate::codes::{self, CHAPTERS, Code};

/// Longest line of what is printed.
const LINE_CHARS_MAX: usize = 100;

/// What is printed for one code.
pub fn explanation(entry: &Code) -> String {
    let Code { code, exit, meaning, cause, remedy } = entry;
    let mut text = format!("{code}\n\n");
    for (title, words) in [("What it means", meaning), ("Why it happens", cause), ("What to do", remedy)] {
        // Writing into a String does not fail, here and below.
        let _ = writeln!(text, "{title}:\n{}", wrapped(words));
    }
    let _ = writeln!(text, "Exit code of a command that ends with it: {} ({})", *exit as u8, exit.name());
    text
}

/// What is printed without a code: all of them, each with its meaning.
pub fn list() -> String {
    let mut text = String::new();
    for chapter in CHAPTERS {
        let _ = writeln!(text, "{}", chapter.title);
        for entry in chapter.codes {
            let _ = writeln!(text, "  {:<26}  {}", entry.code, first_sentence(entry.meaning));
        }
        text.push('\n');
    }
    text.push_str("crdt-engine explain CODE tells causes and what to do.\n");
    text
}

/// `docs/errors.md`.
pub fn errors_markdown() -> String {
    let mut text = "\
# Errors

Written by `daemon::explain::errors_markdown` from the catalogue in `crates/daemon/src/codes`; a test compares. To write
it anew: `UPDATE_DOCS=1 cargo test -p daemon --lib explain`.

Codes are stable: they stand in the log, behind messages of commands, and at the end of the door's errors.
`crdt-engine explain CODE` prints the same text. A command that ends with a code has the exit status that stands behind
it (`sysexits.h`).
"
    .to_owned();
    for chapter in CHAPTERS {
        let _ = write!(text, "\n## {}\n", chapter.title);
        for Code { code, exit, meaning, cause, remedy } in chapter.codes {
            let _ = write!(text, "\n### {code}\n{meaning}\n\n*Why:* {cause}\n\n*What to do:* {remedy}\n\n");
            let _ = writeln!(text, "*Exit status:* {} ({})", *exit as u8, exit.name());
        }
    }
    text
}

/// The page of a code as the user typed it; the error text names what is near.
///
/// # Errors
/// A sentence for somebody who typed a code that does not exist.
pub fn explain(code: &str) -> Result<String, String> {
    match codes::find(code) {
        Some(entry) => Ok(explanation(entry)),
        None => {
            let shown: String = code.chars().take(80).collect();
            Err(format!("there is no code {shown:?}; crdt-engine explain lists all"))
        }
    }
}

fn first_sentence(text: &str) -> &str {
    text.find(". ").and_then(|end| text.get(..=end)).unwrap_or(text)
}

/// Indented lines of bounded length.
fn wrapped(words: &str) -> String {
    let mut text = String::new();
    let mut chars = 0;
    for word in words.split_whitespace() {
        let count = word.chars().count() + 1;
        if chars == 0 || chars + count > LINE_CHARS_MAX {
            text.push_str(if chars == 0 { " " } else { "\n " });
            chars = 1;
        }
        text.push(' ');
        text.push_str(word);
        chars += count;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_explained_in_lines_that_fit_a_terminal() {
        for entry in codes::all() {
            let text = explain(entry.code).unwrap();
            assert!(text.starts_with(entry.code));
            assert!(text.lines().all(|line| line.chars().count() <= LINE_CHARS_MAX), "{text}");
        }
        assert!(explain("ERR_NO").unwrap_err().contains("ERR_NO"));
    }

    #[test]
    fn the_list_has_a_line_for_each() {
        let text = list();
        assert!(codes::all().all(|entry| text.contains(entry.code)));
        assert_eq!(first_sentence("One. Two."), "One.");
        assert_eq!(first_sentence("One."), "One.");
    }

    #[test]
    fn the_document_is_up_to_date() {
        codes::assert_document("docs/errors.md", &errors_markdown());
    }
}
