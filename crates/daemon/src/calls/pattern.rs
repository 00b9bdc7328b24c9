//! Patterns over names, as in Redis' KEYS: `*` for any text, `?` for one character.

/// True when the whole name fits. Takes time in the product of both lengths at most.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(in_name) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                at = place + 1;
                in_name = taken + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "crdt_rtt_seconds"),
            ("*snapshot*", "crdt_snapshot_bytes_total{direction=\"sent\"}"),
            ("door.*", "door.listen"),
            ("crdt_?og_bytes", "crdt_log_bytes"),
            ("a*b*c", "aXbXbXc"),
            ("**", "x"),
            ("plain", "plain"),
        ] {
            assert!(matches(pattern, name), "{pattern} and {name}");
        }
        for (pattern, name) in
            [("", "x"), ("?", ""), ("door", "door.listen"), ("*b", "abc"), ("a*b", "acbc"), ("x*", "y")]
        {
            assert!(!matches(pattern, name), "{pattern} and {name}");
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        assert!(!matches(&format!("{}b", "*a".repeat(100)), &"a".repeat(10_000)));
        assert!(matches(&"*a".repeat(100), &"a".repeat(10_000)));
    }
}
