//! A row's events as lines for a person.

use std::fmt::Write;

use super::rows::{EventKind, RowLedger};
use crate::history::History;

pub(super) fn of_row(history: &History, ledger: &RowLedger) -> Vec<String> {
    let mut lines = Vec::new();
    for event in &ledger.events {
        let commit = &history.commits()[event.commit];
        let change = &commit.changes[event.place];
        let verb = match event.kind {
            EventKind::Insert => "INSERT",
            EventKind::Update => "UPDATE",
            EventKind::Replace => "REPLACE",
            EventKind::Delete => "DELETE",
        };
        let mut line = format!("{:>12} us  node {}  {verb}", commit.time_us, event.node);
        let columns = change.after.as_ref().or(change.before.as_ref()).into_iter().flat_map(|image| image.keys());
        for column in columns {
            let cell = |image: &crate::history::Image| image.as_ref().and_then(|image| image.get(column)).cloned();
            let (saw, wrote) = (cell(&change.before), cell(&change.after));
            if saw != wrote {
                let show = |value: Option<crdt::Value>| value.map_or_else(|| "-".into(), |value| format!("{value:?}"));
                let _ = write!(line, "  {}: {} -> {}", column.escape_ascii(), show(saw), show(wrote));
            }
        }
        for (mark, what) in [(!commit.captured, "bypassed capture"), (commit.dropped, "lost by a restored database")] {
            if mark {
                let _ = write!(line, "  ({what})");
            }
        }
        lines.push(line);
    }
    for (column, cell) in &ledger.cells {
        for (value, known) in cell.values.iter().filter(|(_, known)| !known.carriers.is_empty()) {
            let carriers: Vec<String> = known.carriers.iter().map(ToString::to_string).collect();
            lines.push(format!("{} = {value:?} travels in {}", column.escape_ascii(), carriers.join(", ")));
        }
    }
    lines
}
