//! Ctrl-C and its relatives.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::error::DemoError;

/// How often a stop was asked for.
pub(super) struct Stop {
    requests: Mutex<u32>,
    changed: Condvar,
}

impl Stop {
    /// Counts SIGINT, SIGTERM and SIGHUP from now on, on a thread of its own that lives as long as the process.
    pub(super) fn watch() -> Result<Arc<Self>, DemoError> {
        let failed = DemoError::system("cannot watch for Ctrl-C");
        let stop = Arc::new(Self { requests: Mutex::new(0), changed: Condvar::new() });
        let counted = Arc::clone(&stop);
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Err(failed(error)),
        };
        let registered = {
            let _entered = runtime.enter();
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()
        };
        let mut signals = registered.map_err(failed)?;
        let watcher = move || {
            runtime.block_on(async move {
                let [interrupt, terminate, hangup] = signals.as_mut_slice() else { return };
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    counted.request();
                }
            });
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(watcher)
            .map_err(DemoError::system("cannot start a thread for Ctrl-C"))?;
        Ok(stop)
    }

    /// How often it was asked for so far.
    pub(super) fn requests(&self) -> u32 {
        *self.lock()
    }

    /// Waits until it is asked for, at most so long; tells whether it was.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), at_most, |requests| *requests == 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 > 0
    }

    /// An error once it was asked for.
    pub(super) fn check(&self) -> Result<(), DemoError> {
        if self.requests() > 0 { Err(DemoError::Interrupted) } else { Ok(()) }
    }

    fn request(&self) {
        let mut requests = self.lock();
        *requests = requests.saturating_add(1);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
