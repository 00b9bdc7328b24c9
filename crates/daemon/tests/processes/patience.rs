//! Waiting for conditions.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// For what takes milliseconds when all is well: a busy machine may take long.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// For convergence: what is asked for again is asked for after seconds, and links dial anew after up to 15.
pub(crate) const EVENTUALLY: Duration = Duration::from_secs(45);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` gives something, and panics with the last reason that it gave why not.
pub(crate) fn wait_for<T, E: Display>(what: &str, at_most: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + at_most;
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) => assert!(Instant::now() < until, "after {at_most:?} still not {what}: {reason}"),
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// For looks that only know whether.
pub(crate) fn yes(is_so: bool) -> Result<(), &'static str> {
    if is_so { Ok(()) } else { Err("it is not so") }
}
