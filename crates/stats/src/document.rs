//! `docs/metrics.md`, written from the catalogue: nobody edits it by hand.

use crate::catalogue::CATALOGUE;

const HEAD: &str = "\
# Metrics

Written by `stats::document::metrics_markdown` from the catalogue in `crates/stats`; a test compares. To write it anew:
`UPDATE_DOCS=1 cargo test -p stats --test suite documents`.

`http.listen` serves them under `/metrics`, in the classic text form of Prometheus, or as OpenMetrics where `Accept` asks for
it; `CRDT.STATS [pattern]` tells the same numbers over the local door. Counters begin at 0 with the process. A series that
is told per peer, origin, code or kind appears with the first of its kind.

| metric | kind | labels | meaning |
|---|---|---|---|
";

/// The whole document.
pub fn metrics_markdown() -> String {
    let mut text = HEAD.to_owned();
    for metric in CATALOGUE {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, help) = (metric.name, metric.kind.name(), metric.help.replace('|', "\\|"));
        text.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    text
}
