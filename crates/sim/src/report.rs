//! What a person reads: violations with their trace, summaries, and one seed told step by step.

use std::fmt::Write;

use crate::coverage::Coverage;
use crate::run::Outcome;
use crate::trace::Line;

/// Lines of the trace that stand under a violation, for each of node and key.
const LINES_MAX: usize = 60;

/// A violation with everything needed to look into it.
pub fn violation(outcome: &Outcome, replay: &str) -> String {
    let mut text = String::new();
    let Some(violation) = &outcome.violation else { return text };
    let _infallible = writeln!(text, "VIOLATION of {violation}\n  {outcome}\n  replay: {replay}");
    for line in &outcome.story {
        let _infallible = writeln!(text, "    story | {line}");
    }
    let named: Vec<&Line> = outcome.lines.iter().filter(|line| names(line, &violation.key)).collect();
    let at_node = outcome.lines.iter().filter(|line| line.node.is_some() && line.node == violation.node);
    let at_node: Vec<&Line> = at_node.collect();
    let last = outcome.lines.iter().collect::<Vec<_>>();
    for (title, lines) in [("key", named), ("node", at_node), ("last", last)] {
        for line in &lines[lines.len().saturating_sub(LINES_MAX)..] {
            let mut shown = line.to_string();
            truncate(&mut shown, 400);
            let _infallible = writeln!(text, "    {title:>5} | {shown}");
        }
    }
    text
}

/// True when a line speaks of the key of a violation: a row is named by its site, table and key, a leaf by its path.
fn names(line: &Line, key: &str) -> bool {
    let words: Vec<&str> = key.split([':', '(']).next().unwrap_or_default().split(' ').collect();
    let name = words[..words.len().min(2)].join(" ");
    let name = name.trim_end();
    // Row 2 is not row 24.
    let ends = |at: usize| !line.text[at + name.len()..].starts_with(|next: char| next.is_ascii_alphanumeric());
    name.len() > 3 && line.text.match_indices(name).any(|(at, _)| ends(at))
}

fn truncate(text: &mut String, characters: usize) {
    if let Some((at, _)) = text.char_indices().nth(characters) {
        text.truncate(at);
        text.push('…');
    }
}

/// The last line of a run.
pub fn summary(seeds: u64, violations: u64, coverage: &Coverage) -> String {
    format!("{seeds} seeds, {violations} violations, coverage {}/{}", coverage.covered(), Coverage::KINDS)
}

/// Every fault and path with its count.
pub fn coverage(coverage: &Coverage) -> String {
    let mut text = String::new();
    for (name, count) in coverage.rows() {
        let _infallible = writeln!(text, "{name:>24} {count:>10}");
    }
    text
}
