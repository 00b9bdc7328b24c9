//! A daemon that ends with the process that started it, so that a killed demonstration or test leaves nothing behind.

use std::env;
use std::io;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Names the process with which a daemon shall end, by its process id. Set by the demonstration and by tests for
/// their children, never by an operator.
pub const PARENT_VARIABLE: &str = "CRDT_END_WITH_PARENT";

/// Makes this process end, as if it got SIGTERM, when its parent ends, if [`PARENT_VARIABLE`] asks for it. To be
/// called before anything else is started. Gives false when the parent is gone already, so that this process should
/// not begin at all.
///
/// # Errors
/// What the system answers to the wish.
pub fn end_with_parent() -> io::Result<bool> {
    let Some(parent) = env::var(PARENT_VARIABLE).ok().and_then(|text| text.parse::<i32>().ok()) else {
        return Ok(true);
    };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // SUBTLE: looked at afterwards, because a parent that ended before the wish sends no signal.
    Ok(getppid().map(Pid::as_raw_nonzero).is_some_and(|pid| pid.get() == parent))
}
