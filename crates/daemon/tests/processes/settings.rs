//! The names of settings that these tests use, all in one place.

use std::time::Duration;

/// Address of the engine on UDP.
pub(crate) const LISTEN: &str = "transport.listen";
/// Addresses that other nodes are told.
pub(crate) const ADVERTISE: &str = "transport.advertise";
/// Address of metrics.
pub(crate) const HTTP: &str = "http.listen";
/// Milliseconds without a sign of life after which a link is down.
pub(crate) const IDLE_TIMEOUT_MS: &str = "transport.idle_timeout_ms";
/// Milliseconds between two signs of life.
pub(crate) const KEEP_ALIVE_MS: &str = "transport.keep_alive_ms";
/// Longest wait between two attempts to dial.
pub(crate) const DIAL_MAX_MS: &str = "transport.dial_max_ms";
/// Bytes of log that are kept for members that are away.
pub(crate) const LOG_BYTES_MAX: &str = "limits.log_bytes_max";
/// When a client is answered: `always` or `everysec`.
pub(crate) const DURABILITY: &str = "store.durability";

/// Added to the wall clock, in milliseconds; read by the engine's clock alone, for tests.
pub(crate) const CLOCK_OFFSET_VARIABLE: &str = "CRDT_TEST_CLOCK_OFFSET_MS";

/// Names of counters that tell of snapshots contain this.
pub(crate) const SNAPSHOT_COUNTERS: &str = "*snapshot*";

/// Most memory that a daemon of these tests may ever have had, in KiB: a few times what the idle one has, and far below
/// what an unbounded queue reaches under these loads.
pub(crate) const MEMORY_KIB_MAX: u64 = 256 << 10;

/// Links that notice a death and come back within seconds, so that scenarios need not take minutes.
pub(crate) fn brisk() -> Vec<(&'static str, String)> {
    let ms = |duration: Duration| duration.as_millis().to_string();
    vec![
        (IDLE_TIMEOUT_MS, ms(Duration::from_secs(3))),
        (KEEP_ALIVE_MS, ms(Duration::from_millis(800))),
        (DIAL_MAX_MS, ms(Duration::from_secs(1))),
    ]
}
