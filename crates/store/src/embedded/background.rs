//! A thread that does one job at a time for the writer, which looks for its outcome when it likes.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use crate::StoreError;

/// Does jobs `J` with outcomes `D`. Dropping it waits for the job that is on its way.
pub(super) struct Background<J, D> {
    jobs: Option<Sender<J>>,
    outcomes: Receiver<Result<D, StoreError>>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
}

impl<J: Send + 'static, D: Send + 'static> Background<J, D> {
    /// Starts the thread.
    pub(super) fn start(
        name: &str,
        mut work: impl FnMut(J) -> Result<D, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = channel();
        let (answers, outcomes) = channel();
        let run = move || {
            // Ends when either side is gone.
            while let Ok(job) = queue.recv() {
                if answers.send(work(job)).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(|error| StoreError::Thread { message: error.to_string() })?;
        Ok(Self { jobs: Some(jobs), outcomes, thread: Some(thread), is_busy: false })
    }

    /// Hands over a job; the outcome of the one before was seen.
    pub(super) fn submit(&mut self, job: J) -> Result<(), StoreError> {
        debug_assert!(!self.is_busy, "one job at a time");
        self.is_busy = true;
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)
    }

    /// The outcome, if there is one.
    pub(super) fn poll(&mut self) -> Result<Option<D>, StoreError> {
        match self.outcomes.try_recv() {
            Ok(outcome) => {
                self.is_busy = false;
                outcome.map(Some)
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    /// Waits for the job that is on its way, if there is one.
    pub(super) fn wait(&mut self) -> Result<Option<D>, StoreError> {
        if !self.is_busy {
            return Ok(None);
        }
        self.is_busy = false;
        self.outcomes.recv().map_err(|_| gone())?.map(Some)
    }
}

fn gone() -> StoreError {
    StoreError::Thread { message: "a thread of the store panicked".into() }
}

impl<J, D> Drop for Background<J, D> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic was told to whoever waited for the outcome.
            let _ = thread.join();
        }
    }
}
