//! What somebody meant who wrote a name that nobody knows.

/// The known name that is nearest to `unknown`, if one is near enough to be meant.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong is still a slip; more is another word.
    let most = (unknown.len() / 3).max(2);
    let scored = known.filter_map(|name| match distance(unknown, name) {
        near if near <= most => Some((near, name)),
        // The right word in another section, or in none.
        _ if after(unknown) == after(name) => Some((most + 1, name)),
        _ => None,
    });
    scored.min_by_key(|(score, _)| *score).map(|(_, name)| name)
}

/// What stands behind the last dot.
fn after(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Edits (insert, delete, replace) that lead from one to the other; by Wagner and Fischer, 1974.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, left) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (place, above) in row.iter_mut().skip(1).enumerate() {
            let replaced = diagonal + usize::from(other.get(place) != Some(&left));
            diagonal = *above;
            before = replaced.min(diagonal + 1).min(before + 1);
            *above = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn slips_find_their_word_and_other_words_find_none() {
        let known = ["transport.listen", "http.listen", "store.durability", "gc.threshold"];
        let near = |unknown| nearest(unknown, known.into_iter());
        assert_eq!(near("transport.lisen"), Some("transport.listen"));
        assert_eq!(near("store.durabilty"), Some("store.durability"));
        assert_eq!(near("durability"), Some("store.durability"));
        assert_eq!(near("limits.threshold"), Some("gc.threshold"));
        assert_eq!(near("wordpress.prefix"), None);
    }
}
