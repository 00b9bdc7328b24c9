//! The only reader of clocks: everything else is told the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use replica::Now;

use super::error::EngineError;

/// Added to the wall clock, in milliseconds, may be negative. For tests of clock skew alone: a node whose clock is
/// wrong on purpose writes stamps that are wrong for ever.
pub const OFFSET_VARIABLE: &str = "CRDT_TEST_CLOCK_OFFSET_MS";

/// Reads both clocks. Cheap to copy: all copies have one zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    offset_ms: i64,
}

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    /// As the node takes it.
    pub(crate) now: Now,
    /// Microseconds on the monotonic clock, for durations.
    pub(crate) mono_us: u64,
}

impl Clock {
    /// Starts the monotonic clock at 0.
    ///
    /// # Errors
    /// [`EngineError::ClockOffset`] when [`OFFSET_VARIABLE`] is set to what is no number.
    pub(crate) fn start() -> Result<Self, EngineError> {
        let offset_ms = match std::env::var(OFFSET_VARIABLE) {
            Ok(text) => text.trim().parse().map_err(|_| EngineError::ClockOffset { text })?,
            Err(_) => 0,
        };
        Ok(Self { start: Instant::now(), offset_ms })
    }

    /// Reads both clocks.
    pub(crate) fn read(&self) -> Moment {
        let mono_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Moment { now: Now { wall_ms: self.wall_ms(), mono_ms: mono_us / 1_000 }, mono_us }
    }

    /// Seconds since 1970.
    pub(crate) fn wall_s(&self) -> i64 {
        i64::try_from(self.wall_ms() / 1_000).unwrap_or(i64::MAX)
    }

    fn wall_ms(&self) -> u64 {
        // A clock before 1970 is as good as none.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add_signed(self.offset_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_moves_the_wall_clock_alone() {
        let right = Clock { start: Instant::now(), offset_ms: 0 };
        let ahead = Clock { offset_ms: 10_000, ..right };
        let (one, other) = (right.read(), ahead.read());
        assert!((9_000..11_000).contains(&(other.now.wall_ms - one.now.wall_ms)));
        assert!(other.now.mono_ms - one.now.mono_ms < 1_000);
        let before = Clock { offset_ms: i64::MIN, ..right };
        assert_eq!(before.read().now.wall_ms, 0);
    }
}
