//! A copy of all records while the store goes on.
//!
//! The writer's thread begins it between two commits, and another thread reads it. What is read is one moment of the
//! store, groups whole. A medium with snapshots gives the moment at which the copy began. One without (Redis) is read
//! as it changes, and what is committed meanwhile follows behind it: a later pair of a key replaces an earlier one, so
//! that both together are the moment at which the copy ended.
//!
//! SUBTLE: what was committed is taken up only between two batches of the medium, when all that was read is handed on.
//! So a pair that was read never comes behind a commit that it does not know.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::StoreError;
use crate::frame::Changes;

/// Bytes committed during a copy that may wait to be taken up. Above it the copy is given up, and the store goes on: a
/// medium that is read so slowly, or a target that takes so little, will not come to an end under this load.
const TAIL_BYTES_MAX: usize = 64 << 20;
/// How often one who waits looks whether the writer's thread is still there.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A stored pair as it lies in the medium: key and value framed with a checksum, or `None` for one that was removed.
/// Of two pairs with one key the later one counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredPair {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// Batches of pairs of a medium.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<Vec<StoredPair>, StoreError>> + Send>;

/// How a medium is read beside its writer.
pub(crate) struct Reading {
    pub(crate) batches: Batches,
    /// It is read as it changes.
    pub(crate) is_live: bool,
}

/// What was committed since a copy began.
#[derive(Default)]
pub(crate) struct Tail(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    changes: VecDeque<Changes>,
    bytes: usize,
    has_overflown: bool,
}

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer has committed this.
    pub(crate) fn put(&self, changes: &Changes) {
        let bytes: usize = changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        let mut waiting = self.lock();
        if waiting.has_overflown || waiting.bytes + bytes > TAIL_BYTES_MAX {
            *waiting = Waiting { has_overflown: true, ..Waiting::default() };
            return;
        }
        waiting.bytes += bytes;
        waiting.changes.push_back(changes.clone());
    }

    fn take(&self) -> Result<Vec<StoredPair>, StoreError> {
        let mut waiting = self.lock();
        if waiting.has_overflown {
            return Err(StoreError::CopyTooSlow { bound: TAIL_BYTES_MAX as u64 });
        }
        waiting.bytes = 0;
        let changes = std::mem::take(&mut waiting.changes);
        drop(waiting);
        Ok(changes.into_iter().flatten().map(|(key, value)| StoredPair { key, value }).collect())
    }
}

/// What the writer's thread hands over when a copy begins.
pub(crate) struct Begun {
    pub(crate) batches: Batches,
    /// For a medium that is read as it changes.
    pub(crate) tail: Option<Arc<Tail>>,
}

/// Asks the writer's thread. A request is served between two commits, in the order of all requests.
pub(crate) trait CopyDesk: Send {
    /// Wants [`Begun`].
    fn begin(&self, answer: SyncSender<Result<Begun, StoreError>>);
    /// Wants no more of what is committed; answered when that is so.
    fn end(&self, tail: Arc<Tail>, answer: SyncSender<Result<(), StoreError>>);
    /// Why there will be no answer.
    fn failure(&self) -> Option<StoreError>;
}

enum Stage {
    Asked(Receiver<Result<Begun, StoreError>>),
    /// Batches of the medium, each followed by what was committed meanwhile.
    Base(Batches, Option<Arc<Tail>>),
    /// What was committed until the end.
    Rest(Arc<Tail>),
    Over,
}

/// All pairs of one moment of a store, in batches; to be read on a thread that may wait. An error ends it, and what
/// came before is no complete picture.
pub struct Copying {
    desk: Option<Box<dyn CopyDesk>>,
    stage: Stage,
}

impl Copying {
    /// Begins at the writer's thread.
    pub(crate) fn ask(desk: Box<dyn CopyDesk>) -> Self {
        let (sender, receiver) = sync_channel(1);
        desk.begin(sender);
        Self { desk: Some(desk), stage: Stage::Asked(receiver) }
    }

    /// Of pairs that are there.
    pub(crate) fn of(pairs: Vec<StoredPair>) -> Self {
        let batches: Batches = Box::new(std::iter::once(Ok(pairs)));
        Self { desk: None, stage: Stage::Base(batches, None) }
    }

    fn wait<T>(&self, answer: &Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        loop {
            match answer.recv_timeout(LOOK_EVERY) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(failure) = self.desk.as_ref().and_then(|desk| desk.failure()) {
                        return Err(failure);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let failure = self.desk.as_ref().and_then(|desk| desk.failure());
                    return Err(failure.unwrap_or(StoreError::Closed));
                }
            }
        }
    }

    fn step(&mut self) -> Result<Option<Vec<StoredPair>>, StoreError> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Over => return Ok(None),
                Stage::Asked(answer) => {
                    let Begun { batches, tail } = self.wait(&answer)?;
                    self.stage = Stage::Base(batches, tail);
                }
                Stage::Base(mut batches, tail) => {
                    let committed = tail.as_ref().map_or(Ok(Vec::new()), |tail| tail.take())?;
                    if !committed.is_empty() {
                        self.stage = Stage::Base(batches, tail);
                        return Ok(Some(committed));
                    }
                    match (batches.next(), tail) {
                        (Some(batch), tail) => {
                            let batch = batch?;
                            self.stage = Stage::Base(batches, tail);
                            return Ok(Some(batch));
                        }
                        (None, Some(tail)) => self.end(tail)?,
                        (None, None) => {}
                    }
                }
                Stage::Rest(tail) => {
                    let rest = tail.take()?;
                    return Ok((!rest.is_empty()).then_some(rest));
                }
            }
        }
    }

    fn end(&mut self, tail: Arc<Tail>) -> Result<(), StoreError> {
        let (sender, receiver) = sync_channel(1);
        if let Some(desk) = &self.desk {
            desk.end(Arc::clone(&tail), sender);
            self.wait(&receiver)?;
        }
        self.stage = Stage::Rest(tail);
        Ok(())
    }
}

impl Iterator for Copying {
    type Item = Result<Vec<StoredPair>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.stage = Stage::Over;
        }
        step.transpose()
    }
}
