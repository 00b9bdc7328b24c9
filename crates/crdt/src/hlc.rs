//! Hybrid logical clocks (Kulkarni et al., "Logical Physical Clocks", 2014).
//!
//! One u64: 48 bits of milliseconds since 1970, 16 bits that count events inside a millisecond. It
//! orders as a number. The clock reads no time itself: `now_ms` comes in as an argument.

use core::fmt;

/// Bits of the counter inside one millisecond.
const COUNTER_BITS: u32 = 16;
/// Greatest millisecond that fits: the year 10889.
pub const MILLIS_MAX: u64 = (1 << 48) - 1;

/// A moment of the hybrid clock, also the form of every write stamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Before every write.
    pub const ZERO: Self = Self(0);
    /// No moment stands after this one.
    pub const MAX: Self = Self(u64::MAX);

    /// The first moment of a millisecond; milliseconds above [`MILLIS_MAX`] are cut to it.
    pub const fn from_millis(ms: u64) -> Self {
        let ms = if ms > MILLIS_MAX { MILLIS_MAX } else { ms };
        Self(ms << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Events counted inside the millisecond.
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The next moment. A full counter borrows one millisecond, so the form stays monotone.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.counter())
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The stamp of a write that replaces a value stamped `replaced`: later than what its author saw,
/// whatever the author's clock says.
pub fn write_stamp(time: Hlc, replaced: Option<Hlc>) -> Hlc {
    replaced.map_or(time, |replaced| time.max(replaced.next()))
}

/// The clock of one node: gives each commit a moment later than all before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HybridClock {
    last: Hlc,
}

impl HybridClock {
    /// A clock that never gives a moment at or before `last`, as persisted before a restart.
    pub const fn resume(last: Hlc) -> Self {
        Self { last }
    }

    /// The last moment given or followed.
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// The moment of a new commit at local time `now_ms`.
    pub fn tick(&mut self, now_ms: u64) -> Hlc {
        self.last = Hlc::from_millis(now_ms).max(self.last.next());
        self.last
    }

    /// Follows the moment of a remote commit, so that later local commits stand after it.
    ///
    /// SUBTLE: only for moments within the skew bound, and never for write stamps: one poisoned cell
    /// would drag every clock of the cluster with it.
    pub fn follow(&mut self, remote: Hlc) {
        self.last = self.last.max(remote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_monotone_when_time_goes_back() {
        let mut clock = HybridClock::default();
        let first = clock.tick(1_000);
        let second = clock.tick(400);
        assert!(second > first);
        assert_eq!(second.millis(), 1_000);
    }

    #[test]
    fn a_full_counter_borrows_a_millisecond() {
        let full = Hlc((7 << 16) | 0xffff);
        assert_eq!(full.next().millis(), 8);
        assert_eq!(full.next().counter(), 0);
    }

    #[test]
    fn a_followed_moment_is_before_the_next_commit() {
        let mut clock = HybridClock::default();
        clock.follow(Hlc::from_millis(5_000));
        assert!(clock.tick(10) > Hlc::from_millis(5_000));
    }

    #[test]
    fn a_write_stands_after_what_it_replaces() {
        let replaced = Hlc::from_millis(9_000);
        assert_eq!(write_stamp(Hlc::from_millis(1), Some(replaced)), replaced.next());
        assert_eq!(write_stamp(Hlc::from_millis(9_500), Some(replaced)).millis(), 9_500);
    }
}
