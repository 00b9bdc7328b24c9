//! Invariant 12: the same seed gives the same trace hash.

use super::{Verdict, refuse};

/// What identifies a run: its seed and the hash over all its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The seed.
    pub seed: u64,
    /// Hash over every event.
    pub hash: u128,
    /// Number of events: tells a person whether the runs differ early or by a last step.
    pub events: u64,
}

/// Holds two runs of one seed against each other.
///
/// # Errors
/// A violation when they differ.
pub fn check(first: Trace, second: Trace) -> Verdict {
    if first == second {
        return Ok(());
    }
    let what = format!(
        "one run had {} events with hash {:032x}, another {} with {:032x}",
        first.events, first.hash, second.events, second.hash
    );
    refuse(12, None, format!("seeds {} and {}", first.seed, second.seed), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_runs_pass_and_others_are_refused() {
        let trace = Trace { seed: 1, hash: 2, events: 3 };
        assert_eq!(check(trace, trace), Ok(()));
        assert!(check(trace, Trace { hash: 4, ..trace }).is_err());
        assert!(check(trace, Trace { events: 4, ..trace }).is_err());
    }
}
