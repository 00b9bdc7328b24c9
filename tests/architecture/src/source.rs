//! Just enough of Rust's grammar to tell code from comments, literals and tests.

use std::path::{Path, PathBuf};

/// One source file, reduced to the code that ships.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Code outside test items, line by line as in the file; comments and literals are blank.
    pub production: Vec<String>,
    /// How many lines of the file are outside test items, comments included.
    pub production_line_count: usize,
    /// Modules that the file declares for tests only and that live in files of their own.
    pub test_modules: Vec<String>,
}

/// Reads a file's text.
pub fn read(text: &str) -> Source {
    let mut code = without_comments_and_literals(text);
    let mut test_lines = vec![false; text.lines().count()];
    let mut test_modules = Vec::new();
    let mut at = 0;
    while let Some(item) = next_test_item(&code, at) {
        let words: Vec<String> = words(&code[item.body..item.end]).collect();
        if let Some(place) = words.iter().position(|word| word == "mod")
            && code[item.end - 1] == ';'
        {
            test_modules.extend(words.get(place + 1).cloned());
        }
        let first = line_of(&code, item.start);
        let last = line_of(&code, item.end - 1);
        test_lines[first..=last].fill(true);
        for character in code[item.start..item.end].iter_mut().filter(|character| **character != '\n') {
            *character = ' ';
        }
        at = item.end;
    }
    Source {
        production: code.iter().collect::<String>().lines().map(str::to_owned).collect(),
        production_line_count: test_lines.iter().filter(|in_test| !**in_test).count(),
        test_modules,
    }
}

impl Source {
    /// The paths that `use` declarations import, groups written out, each with its line (from 1).
    pub fn imports(&self) -> Vec<(usize, String)> {
        let code: Vec<char> = self.production.join("\n").chars().collect();
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(start) = find_word(&code, "use", at) {
            at = start + 3;
            let end =
                code[at..].iter().position(|character| *character == ';').map_or(code.len(), |length| at + length);
            let tree: String = code[at..end].iter().collect();
            // `use<'a>` in a type captures lifetimes and imports nothing.
            if !tree.trim_start().starts_with('<') {
                let line = line_of(&code, start) + 1;
                write_out("", &tree, &mut |path| found.push((line, path)));
                at = end;
            }
        }
        found
    }

    /// The names of all modules that the production code declares, each with its line (from 1).
    pub fn modules(&self) -> Vec<(usize, String)> {
        let declared = self.production.iter().enumerate().filter_map(|(index, line)| {
            let chars: Vec<char> = line.chars().collect();
            let name = words(&chars).skip_while(|word| word != "mod").nth(1)?;
            Some((index + 1, name))
        });
        declared.collect()
    }
}

/// Where the module `name`, declared in `file`, may live: a file or a folder.
pub fn module_places(file: &Path, name: &str) -> [PathBuf; 2] {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = match stem {
        "lib" | "main" | "mod" => file.with_file_name(""),
        _ => file.with_extension(""),
    };
    [folder.join(format!("{name}.rs")), folder.join(name)]
}

struct TestItem {
    /// Index of the attribute's `#`.
    start: usize,
    /// Index behind the attribute.
    body: usize,
    /// Index behind the item.
    end: usize,
}

fn next_test_item(code: &[char], from: usize) -> Option<TestItem> {
    let mut at = from;
    loop {
        let start = at + code[at..].iter().position(|character| *character == '#')?;
        let inner = code.get(start + 1) == Some(&'!');
        let open = start + 1 + usize::from(inner);
        if code.get(open) != Some(&'[') {
            at = start + 1;
            continue;
        }
        let body = closing(code, open) + 1;
        let attribute: String = code[open..body].iter().filter(|character| !character.is_whitespace()).collect();
        if attribute == "[cfg(test)]" || attribute.starts_with("[cfg(all(test,") {
            let end = if inner { code.len() } else { end_of_item(code, body) };
            return Some(TestItem { start, body, end });
        }
        at = body;
    }
}

/// Index behind the item that starts at `from`: its closing brace, or its semicolon.
fn end_of_item(code: &[char], from: usize) -> usize {
    let mut at = from;
    while at < code.len() {
        match code[at] {
            '{' => return closing(code, at) + 1,
            '(' | '[' => at = closing(code, at),
            ';' => return at + 1,
            // The end of what surrounds a test-only field or variant.
            '}' | ')' | ']' => return at,
            _ => {}
        }
        at += 1;
    }
    code.len()
}

/// Index of the bracket that closes the one at `open`; the last index when the file is broken.
fn closing(code: &[char], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, character) in code.iter().enumerate().skip(open) {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len() - 1
}

fn without_comments_and_literals(text: &str) -> Vec<char> {
    let source: Vec<char> = text.chars().collect();
    let mut code = source.clone();
    let mut at = 0;
    while at < source.len() {
        let end = match source[at] {
            '/' if source.get(at + 1) == Some(&'/') => end_of_line(&source, at),
            '/' if source.get(at + 1) == Some(&'*') => end_of_block_comment(&source, at),
            '"' => end_of_string(&source, at),
            'r' if !follows_word(&source, at) || is_literal_prefix(&source, at) => end_of_raw_string(&source, at),
            '\'' => end_of_character(&source, at),
            _ => at,
        };
        for character in code[at..end].iter_mut().filter(|character| **character != '\n') {
            *character = ' ';
        }
        at = end.max(at + 1);
    }
    code
}

fn end_of_line(source: &[char], at: usize) -> usize {
    source[at..].iter().position(|character| *character == '\n').map_or(source.len(), |length| at + length)
}

fn end_of_block_comment(source: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < source.len() {
        match (source[at], source.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    source.len()
}

fn end_of_string(source: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < source.len() {
        match source[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    source.len()
}

/// `start` itself when this `r` begins no raw string.
fn end_of_raw_string(source: &[char], start: usize) -> usize {
    let hashes = source[start + 1..].iter().take_while(|character| **character == '#').count();
    let quote = start + 1 + hashes;
    if source.get(quote) != Some(&'"') {
        return start;
    }
    let mut at = quote + 1;
    while at < source.len() {
        let closes = source[at] == '"' && source[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        at += 1;
        if closes {
            return at + hashes;
        }
    }
    source.len()
}

/// `start` itself when this quote begins a lifetime.
fn end_of_character(source: &[char], start: usize) -> usize {
    let content = match source.get(start + 1) {
        // The escaped character may be a quote.
        Some('\\') => start + 3,
        Some(_) if source.get(start + 2) == Some(&'\'') => start + 2,
        _ => return start,
    };
    let rest = source.get(content..).unwrap_or_default();
    rest.iter().position(|character| *character == '\'').map_or(source.len(), |length| content + length + 1)
}

fn follows_word(source: &[char], at: usize) -> bool {
    at > 0 && is_word(source[at - 1])
}

/// True for the `r` of `br"..."` and `cr"..."`.
fn is_literal_prefix(source: &[char], at: usize) -> bool {
    at > 0 && matches!(source[at - 1], 'b' | 'c') && !follows_word(source, at - 1)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn words(code: &[char]) -> impl Iterator<Item = String> {
    code.split(|character| !is_word(*character)).filter(|word| !word.is_empty()).map(|word| word.iter().collect())
}

fn find_word(code: &[char], word: &str, from: usize) -> Option<usize> {
    let word: Vec<char> = word.chars().collect();
    let stands_at = |at: &usize| {
        code[*at..].starts_with(&word)
            && !follows_word(code, *at)
            && !code.get(at + word.len()).is_some_and(|next| is_word(*next))
    };
    (from..code.len()).find(stands_at)
}

fn line_of(code: &[char], at: usize) -> usize {
    code[..at].iter().filter(|character| **character == '\n').count()
}

/// Calls `visit` with each full path of a `use` tree.
fn write_out(prefix: &str, tree: &str, visit: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        if !path.is_empty() {
            visit(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let inside = tree[open + 1..].strip_suffix('}').unwrap_or(&tree[open + 1..]);
    let mut depth = 0_usize;
    let branches = inside.split(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    });
    for branch in branches {
        write_out(&prefix, branch, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn production(text: &str) -> String {
        read(text).production.join("\n")
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = concat!(
            "//! doc BAD\n",
            "let a = \"BAD \\\" BAD\"; // BAD\n",
            "let b = r#\"BAD \" BAD\"#; /* BAD /* BAD */ BAD */ good();\n",
            "let c = b\"BAD\"; let d = br\"BAD\\\"; let e = 'B'; let f = '\\''; let g = '\"'; kept();\n",
            "fn h<'a>(x: &'a str, r#type: u8) -> &'a str { x }\n",
        );
        let code = production(text);
        assert!(!code.contains("BAD"), "{code}");
        for kept in ["good();", "kept();", "fn h<'a>(x: &'a str, r#type: u8) -> &'a str { x }"] {
            assert!(code.contains(kept), "{kept} is missing in\n{code}");
        }
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn test_items_are_no_production_code() {
        let text = "\
#[cfg(test)]
use a::{b, c};
fn ships() {}
#[cfg(all(test, feature = \"x\"))]
#[allow(dead_code)]
fn hidden() -> [u8; 2] { [1; 2] }
#[cfg(test)]
mod laws;
#[cfg(not(test))]
fn ships_too() {}
#[cfg(test)]
mod tests {
    fn hidden_as_well() { if true { } }
}
fn last() {}
";
        let source = read(text);
        let code = source.production.join("\n");
        for ships in ["fn ships()", "fn ships_too()", "fn last()"] {
            assert!(code.contains(ships), "{ships} is missing in\n{code}");
        }
        assert!(!code.contains("hidden") && !code.contains("mod tests"), "{code}");
        assert_eq!(source.test_modules, ["laws"]);
        assert_eq!(source.production_line_count, 4);
    }

    #[test]
    fn a_file_for_tests_alone_has_no_production_code() {
        let source = read("//! Laws.\n#![cfg(test)]\nfn law() {}\n");
        assert_eq!(source.production_line_count, 1);
        assert!(!source.production.join("").contains("law"));
    }

    #[test]
    fn imports_are_written_out() {
        let text = "use std::{fs, collections::{BTreeMap, HashMap as Map}};\npub use crate::dot::Dot;\nfn f() -> impl Sized + use<'_> {}\n";
        let imports = read(text).imports();
        let expected = [
            (1, "std::fs"),
            (1, "std::collections::BTreeMap"),
            (1, "std::collections::HashMap"),
            (2, "crate::dot::Dot"),
        ];
        let expected: Vec<_> = expected.map(|(line, path)| (line, path.to_owned())).into();
        assert_eq!(imports, expected);
    }

    #[test]
    fn modules_are_found_with_their_files() {
        let modules = read("pub mod dot;\n// mod not;\npub(crate) mod inner { }\n").modules();
        assert_eq!(modules, [(1, "dot".to_owned()), (3, "inner".to_owned())]);
        let [file, folder] = module_places(Path::new("src/dot.rs"), "laws");
        assert_eq!((file.to_str(), folder.to_str()), (Some("src/dot/laws.rs"), Some("src/dot/laws")));
        let [file, _] = module_places(Path::new("src/lib.rs"), "laws");
        assert_eq!(file.to_str(), Some("src/laws.rs"));
    }

    #[test]
    fn broken_files_do_not_panic() {
        for text in [
            "fn f() { (",
            "\"open",
            "/* open",
            "r#\"open",
            "'\\",
            "#[cfg(test)",
            "#[cfg(test)]\nmod",
            "use {a",
            "",
            "#",
        ] {
            let source = read(text);
            source.imports();
            source.modules();
        }
    }
}
