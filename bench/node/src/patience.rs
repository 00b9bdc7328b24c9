//! Waiting for conditions, and how long each may take.

use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// `init`, `invite`, `join`: a handshake and some fsyncs, on a machine that may be busy.
pub(crate) const COMMAND: Duration = Duration::from_secs(30);
/// A server that starts, or links that come up.
pub(crate) const START: Duration = Duration::from_secs(60);
/// A server that drains.
pub(crate) const STOP: Duration = Duration::from_secs(30);
/// One `redis-benchmark`: a hundred times what the slowest of its runs should take.
pub(crate) const LOAD: Duration = Duration::from_secs(300);
/// Everything written is applied everywhere.
pub(crate) const APPLIED: Duration = Duration::from_secs(300);
/// Between two looks: what a figure about seconds may be off by.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until there is something, for a time. `look` gives what it waits for, or why it is not there yet, or a failure
/// that ends the waiting.
pub(crate) fn wait_for<T>(
    what: &str,
    at_most: Duration,
    mut look: impl FnMut() -> Result<Result<T, String>, Failure>,
) -> Result<T, Failure> {
    let until = Instant::now() + at_most;
    loop {
        match look()? {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= until => {
                return Err(Failure::NotInTime { what: what.to_owned(), waited: at_most, last });
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}
