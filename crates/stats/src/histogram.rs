//! Counts by magnitude.

/// Upper bounds in seconds: from what a system call takes to what a person calls broken. Two or three a decade are
/// enough to tell a quantile within a factor of two.
pub const SECONDS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// How often something took at most so much.
#[derive(Clone, PartialEq, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last one is for what is above all of them.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty one. `bounds` ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// An empty one for durations in seconds.
    pub fn seconds() -> Self {
        Self::new(SECONDS)
    }

    /// Counts one.
    pub fn record(&mut self, value: f64) {
        self.record_many(value, 1);
    }

    /// Counts `times` of the same value.
    pub fn record_many(&mut self, value: f64, times: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count += times;
        }
        self.sum += value * times as f64;
    }

    /// Counts everything that another one has counted.
    ///
    /// # Panics
    /// When their bounds differ.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "histograms of one metric have the same bounds");
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Upper bound and how many were at most that, for each bound but infinity.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut total = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            total += count;
            (*bound, total)
        })
    }

    /// The bound below which a share of all lies, `share` from 0 to 1; `None` when nothing was counted, and infinity
    /// when it lies above all bounds.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = (share * count as f64).ceil().max(1.0);
        let found = self.buckets().find(|(_, total)| *total as f64 >= wanted);
        Some(found.map_or(f64::INFINITY, |(bound, _)| bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_up_to_their_bound() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        histogram.record(1.0);
        histogram.record_many(1.5, 2);
        histogram.record(9.0);
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(1.0, 1), (2.0, 3)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 13.0));
        let mut other = Histogram::new(&[1.0, 2.0]);
        other.record(0.5);
        other.add(&histogram);
        assert_eq!(other.buckets().collect::<Vec<_>>(), [(1.0, 2), (2.0, 4)]);
        assert_eq!((other.count(), other.sum()), (5, 13.5));
    }

    #[test]
    fn quantiles_are_bounds() {
        let mut histogram = Histogram::seconds();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.record_many(0.000_3, 99);
        histogram.record(60.0);
        assert_eq!(histogram.quantile(0.5), Some(0.000_5));
        assert_eq!(histogram.quantile(0.99), Some(0.000_5));
        assert_eq!(histogram.quantile(1.0), Some(f64::INFINITY));
    }
}
