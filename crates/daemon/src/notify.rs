//! What the service manager is told (sd_notify(3)). Without one, all of it does nothing.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::engine::EngineHandle;
use crate::log::Log;

/// Says that the node serves: its sockets are bound, its records are read.
pub fn ready(log: &Log, node: &str, door: &str) {
    let status = format!("{node} serves at {door}");
    told(log, sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]));
}

/// Says that an orderly end has begun.
pub fn stopping(log: &Log) {
    told(log, sd_notify::notify(&[NotifyState::Stopping]));
}

/// Tells the watchdog, if one is asked for, that the hot thread is alive, for as long as it is: each time it is asked,
/// and only its answer counts. Ends with the engine.
pub async fn watch(handle: EngineHandle, log: Log) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    // Half of what is asked for, as sd_watchdog_enabled(3) advises.
    let pause = (limit / 2).max(Duration::from_millis(1));
    loop {
        tokio::time::sleep(pause).await;
        if handle.held().await.is_err() {
            return;
        }
        told(&log, sd_notify::notify(&[NotifyState::Watchdog]));
    }
}

fn told(log: &Log, result: io::Result<()>) {
    if let Err(error) = result {
        log.warn(
            "ERR_NOTIFY",
            "the service manager was not told; it may take this node for hung",
            &[("error", &error)],
        );
    }
}
