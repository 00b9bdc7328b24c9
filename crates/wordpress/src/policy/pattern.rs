//! Patterns for names of rows, in which `*` stands for any run of bytes.

use serde::Deserialize;

/// A pattern. It is compared byte by byte, here and in SQL, whatever the column's collation.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(from = "Box<str>")]
pub struct Pattern {
    text: Box<str>,
}

impl From<Box<str>> for Pattern {
    fn from(text: Box<str>) -> Self {
        Self { text }
    }
}

impl Pattern {
    /// As it stands in the catalogue.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the name fits.
    pub fn fits(&self, name: &[u8]) -> bool {
        let mut parts = self.text.as_bytes().split(|byte| *byte == b'*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // Each part is taken where it comes first: whatever fits later then fits as well.
        for part in parts {
            let Some(at) = (0..=rest.len()).find(|at| rest[*at..].starts_with(part)) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }

    /// A condition on an expression of SQL that is true exactly for what fits.
    pub(crate) fn to_sql(&self, expression: &str) -> String {
        if !self.text.contains('*') {
            return format!("CAST({expression} AS BINARY) = {}", literal(self.text.as_bytes()));
        }
        let mut like = Vec::new();
        for byte in self.text.bytes() {
            match byte {
                b'*' => like.push(b'%'),
                b'%' | b'_' | b'|' => like.extend([b'|', byte]),
                byte => like.push(byte),
            }
        }
        format!("CAST({expression} AS BINARY) LIKE {} ESCAPE '|'", literal(&like))
    }
}

/// Bytes as a literal that no `sql_mode` and no character set of a connection reads differently.
pub(crate) fn literal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut literal = String::from("X'");
    for byte in bytes {
        let _ = write!(literal, "{byte:02X}");
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, fits, does_not) in [
            ("cron", &["cron"][..], &["Cron", "cron ", "crons", ""][..]),
            ("_transient_*", &["_transient_", "_transient_a"], &["transient_a", "_transientXa"]),
            ("*.lock", &[".lock", "core_updater.lock"], &["lock", "a.lock.b", "alock"]),
            ("a*b*c", &["abc", "axxbyyc", "abbcc"], &["ab", "acb", "xabc"]),
            ("*", &["", "x"], &[]),
            ("aa*aa", &["aaaa", "aaxaa"], &["aaa"]),
        ] {
            let pattern = Pattern::from(Box::from(pattern));
            assert!(fits.iter().all(|name| pattern.fits(name.as_bytes())), "{pattern:?}");
            assert!(!does_not.iter().any(|name| pattern.fits(name.as_bytes())), "{pattern:?}");
        }
    }

    #[test]
    fn a_literal_of_sql_needs_no_escaping() {
        assert_eq!(literal(b"a'\\\0"), "X'61275C00'");
        let pattern = Pattern::from(Box::from("_a%*"));
        assert_eq!(pattern.to_sql("NEW.x"), "CAST(NEW.x AS BINARY) LIKE X'7C5F617C2525' ESCAPE '|'");
    }
}
