//! Time comes in as an argument of every event.

/// What the host's two clocks say at an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Milliseconds since 1970. May jump, stand still or be wrong.
    pub wall_ms: u64,
    /// Milliseconds since some start. Never goes back while the process runs; all timers use it.
    pub mono_ms: u64,
}
