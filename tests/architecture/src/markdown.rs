//! Tables in Markdown documents.

/// The rows of the first table in `document` whose header is `columns`, each with as many cells.
///
/// # Errors
/// A sentence that says which table is missing or which row has another number of cells.
pub fn table(document: &str, columns: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let mut lines = document.lines().skip_while(|line| cells(line) != columns);
    if lines.next().is_none() {
        return Err(format!("there is no table with the columns {}", columns.join(" | ")));
    }
    let mut rows = Vec::new();
    for line in lines.skip(1).take_while(|line| line.trim_start().starts_with('|')) {
        let row = cells(line);
        if row.len() != columns.len() {
            return Err(format!("this row has {} cells instead of {}: {line}", row.len(), columns.len()));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The first text between backticks, which is how the tables write names.
pub fn code_span(cell: &str) -> Option<&str> {
    code_spans(cell).next()
}

/// Every text between backticks.
pub fn code_spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn cells(line: &str) -> Vec<String> {
    let Some(inner) = line.trim().strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else {
        return Vec::new();
    };
    inner.split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
| a | b |
|---|---|
| not | this |

| name | why |
|---|---|
| `x` | because of `y` |
| z |  |

| after | it |
";

    #[test]
    fn finds_the_table_by_its_header_and_stops_at_its_end() {
        let rows = table(DOCUMENT, &["name", "why"]).unwrap();
        assert_eq!(rows, [["`x`", "because of `y`"], ["z", ""]]);
        assert_eq!(code_span(&rows[0][1]), Some("y"));
        assert_eq!(code_span(&rows[1][0]), None);
    }

    #[test]
    fn says_which_table_is_missing() {
        let message = table(DOCUMENT, &["name", "licence"]).unwrap_err();
        assert!(message.contains("name | licence"), "{message}");
    }

    #[test]
    fn says_which_row_is_broken() {
        let broken = "| a | b |\n|---|---|\n| 1 | 2 | 3 |\n";
        let message = table(broken, &["a", "b"]).unwrap_err();
        assert!(message.contains("| 1 | 2 | 3 |"), "{message}");
    }
}
