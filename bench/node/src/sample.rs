//! Medians and quantiles.

use std::time::Duration;

/// The place `share` of the way through the sorted samples, by the nearest rank; 0 without samples.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// Milliseconds, sorted.
pub(crate) fn sorted_ms(durations: impl IntoIterator<Item = Duration>) -> Vec<f64> {
    let mut sorted: Vec<f64> = durations.into_iter().map(|duration| duration.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// What latencies look like, in words.
pub(crate) fn told_ms(sorted: &[f64]) -> String {
    let at = |share| quantile(sorted, share);
    let [p50, p99, p999] = [at(0.5), at(0.99), at(0.999)];
    let max = sorted.last().copied().unwrap_or_default();
    format!("{} samples: p50 {p50:.3}, p99 {p99:.3}, p99.9 {p999:.3}, max {max:.3} ms", sorted.len())
}

/// The pair whose ratio is the median, of an odd number of pairs: `(ours, theirs)`. Its two figures belong together,
/// which the medians of each side would not.
pub(crate) fn median_pair(pairs: &[(f64, f64)]) -> (f64, f64) {
    let mut by_ratio = pairs.to_vec();
    by_ratio.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    by_ratio.get(by_ratio.len() / 2).copied().unwrap_or_default()
}

/// All ratios in the order of the run, in words.
pub(crate) fn told_ratios(pairs: &[(f64, f64)]) -> String {
    pairs.iter().map(|(ours, theirs)| format!("{:.3}", ours / theirs)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_the_nearest_rank() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 0.999, 1.0].map(|share| quantile(&sorted, share)), [1.0, 50.0, 99.0, 100.0, 100.0]);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!(quantile(&[], 0.99), 0.0);
    }

    #[test]
    fn the_median_pair_is_one_that_was_measured() {
        assert_eq!(median_pair(&[(3.0, 1.0), (1.0, 1.0), (50.0, 25.0)]), (50.0, 25.0));
        assert_eq!(median_pair(&[(3.0, 1.0)]), (3.0, 1.0));
    }
}
