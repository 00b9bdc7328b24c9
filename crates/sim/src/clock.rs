//! A node's two clocks: a wall clock that may be wrong in every way, and a monotone one that is right.

use replica::Now;

/// Where virtual time 0 stands on a right wall clock: 2026-11-22 00:00:00 UTC.
pub const WALL_START_MS: u64 = 1_795_305_600_000;

/// The clock of one machine; the database server on it uses the same one.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Added to the right time, in milliseconds.
    offset_ms: i64,
    /// Gained (or lost) milliseconds per 1,000,000.
    drift_ppm: i64,
    /// Since when the clock drifts at this rate.
    drift_since_us: u64,
    /// The wall time at which the clock stands still.
    frozen_ms: Option<u64>,
}

impl Clock {
    /// What the machine's clocks say at a virtual time.
    pub fn now(&self, time_us: u64) -> Now {
        Now { wall_ms: self.wall_ms(time_us), mono_ms: time_us / 1_000 }
    }

    /// The wall clock in milliseconds since 1970.
    pub fn wall_ms(&self, time_us: u64) -> u64 {
        self.frozen_ms.unwrap_or_else(|| {
            let right = (WALL_START_MS + time_us / 1_000) as i64;
            (right + self.offset_ms + self.drifted_ms(time_us)).max(0) as u64
        })
    }

    /// Wall clock minus right time.
    pub fn error_ms(&self, time_us: u64) -> i64 {
        self.wall_ms(time_us) as i64 - (WALL_START_MS + time_us / 1_000) as i64
    }

    /// Moves the clock by some milliseconds, either way.
    pub fn jump(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
        if let Some(frozen) = &mut self.frozen_ms {
            *frozen = frozen.saturating_add_signed(by_ms);
        }
    }

    /// Lets the clock run at another rate from now on, without a jump.
    pub fn drift(&mut self, time_us: u64, drift_ppm: i64) {
        self.offset_ms += self.drifted_ms(time_us);
        self.drift_since_us = time_us;
        self.drift_ppm = drift_ppm;
    }

    /// Stops the clock.
    pub fn freeze(&mut self, time_us: u64) {
        self.frozen_ms = Some(self.wall_ms(time_us));
    }

    /// Lets a stopped clock run on from where it stands.
    pub fn thaw(&mut self, time_us: u64) {
        if let Some(frozen) = self.frozen_ms.take() {
            self.offset_ms += frozen as i64 - self.wall_ms(time_us) as i64;
        }
    }

    /// Sets the clock right, as the operator does.
    pub fn repair(&mut self) {
        *self = Self::default();
    }

    fn drifted_ms(&self, time_us: u64) -> i64 {
        (time_us.saturating_sub(self.drift_since_us) / 1_000) as i64 * self.drift_ppm / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_frozen_clock_runs_on_from_where_it_stood() {
        let mut clock = Clock::default();
        clock.freeze(10 * SECOND);
        assert_eq!(clock.error_ms(15 * SECOND), -5_000);
        clock.thaw(15 * SECOND);
        assert_eq!(clock.error_ms(25 * SECOND), -5_000);
        assert_eq!(clock.now(25 * SECOND).mono_ms, 25_000);
    }

    #[test]
    fn drift_changes_its_rate_without_a_jump() {
        let mut clock = Clock::default();
        clock.drift(0, 1_000);
        assert_eq!(clock.error_ms(100 * SECOND), 100);
        clock.drift(100 * SECOND, 0);
        assert_eq!(clock.error_ms(200 * SECOND), 100);
        clock.jump(-5_100);
        assert_eq!(clock.error_ms(300 * SECOND), -5_000);
    }
}
