//! Invariant 13: every fault and every recovery path really happened, over a run of seeds.
//!
//! A single seed draws its own mix, so this is asked of the sum over a run, and only of a run that is long enough.

use super::{Verdict, refuse};
use crate::coverage::Coverage;

/// Seeds after which a kind that never happened is a fault of the simulator, not of chance. With each kind drawn in one
/// seed of ten or more often, a run of this length misses one with a probability below 1e-9.
pub const SEEDS_MIN: u64 = 200;

/// Checks what a run of seeds covered.
///
/// # Errors
/// A violation that names what never happened.
pub fn check(seeds: u64, covered: &Coverage) -> Verdict {
    let missing = covered.missing();
    if seeds < SEEDS_MIN || missing.is_empty() {
        return Ok(());
    }
    refuse(13, None, "coverage", format!("never happened in {seeds} seeds: {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Fault, Path};

    #[test]
    fn all_kinds_pass_and_a_missing_one_is_refused_in_a_long_run() {
        let mut covered = Coverage::default();
        Fault::ALL.iter().for_each(|fault| covered.fault(*fault));
        Path::ALL.iter().skip(1).for_each(|path| covered.path(*path));
        assert_eq!(check(SEEDS_MIN - 1, &covered), Ok(()));
        let violation = check(SEEDS_MIN, &covered).expect_err("a path is missing");
        assert!(violation.what.ends_with(Path::ALL[0].name()));
        covered.path(Path::ALL[0]);
        assert_eq!(check(SEEDS_MIN, &covered), Ok(()));
    }
}
