//! One thread that writes, and the queues before and behind it: group commit for every medium.
//!
//! While one commit is on its way, groups gather; the next commit takes all of them. So a slow sync makes the groups a
//! commit larger and not the queue longer.

mod desk;

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use replica::{Found, RecordKey, Ticket, WriteGroup};

use self::desk::Desk;
use crate::copying::{Begun, Reading, Tail};
use crate::frame;
use crate::ledger::Ledger;
use crate::{Completion, Copying, Durability, Proof, Records, Sizes, Store, StoreError, Wake};

/// Bytes of groups that may wait. Above it a writer waits too; with less, a burst (a chunk of a snapshot, a pull)
/// makes the node stand still although the disk would keep up.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A commit that takes longer counts as failed: a disk that hangs gives no error. A
/// disk that answers later than this is of no use to anybody who waits for an acknowledgement.
pub const STALL_SECONDS_MAX: u64 = 60;

/// Bytes of one commit. More would let the first group wait for the last one.
const COMMIT_BYTES_MAX: usize = 4 << 20;

/// How old the bytes on the medium may be when they are shown.
const SIZES_AGE_MAX: Duration = Duration::from_secs(2);

/// A medium, as the thread uses it.
pub(crate) trait Medium: Send + 'static {
    /// Writes groups, of which the last has the number `sequence`; they are durable by the policy on return.
    fn commit(&mut self, groups: Vec<WriteGroup>, sequence: u64) -> Result<(), StoreError>;

    /// Sees to it that what [`Durability::Everysec`] has left is synced, and tells how the sync before went. True when
    /// there is more to hear: it is asked again within [`Durability::EVERYSEC`].
    fn sync(&mut self) -> Result<bool, StoreError>;

    /// Syncs all that was committed, before the mark of an orderly end is made.
    fn close(&mut self) -> Result<(), StoreError>;

    /// One record.
    fn read(&mut self, key: &RecordKey) -> Result<Option<Found>, StoreError>;

    /// Every record.
    fn load(&mut self) -> Result<Records<'_>, StoreError>;

    /// Everything as it is now, to be read on another thread while this one goes on.
    fn copy(&mut self) -> Result<Reading, StoreError>;

    /// Bytes on the medium, 0 when unknown.
    fn stored_bytes(&mut self) -> u64;
}

enum Request {
    Write(WriteGroup, usize),
    Read(RecordKey),
    Copy(SyncSender<Result<Begun, StoreError>>),
    EndCopy(Arc<Tail>, SyncSender<Result<(), StoreError>>),
}

#[derive(Default)]
struct Queues {
    requests: VecDeque<Request>,
    completions: VecDeque<Completion>,
    failure: Option<StoreError>,
    /// The last ticket that was called durable; groups behind it are in doubt when something fails.
    durable: Ticket,
    busy_since: Option<Instant>,
    is_closing: bool,
    has_ended: bool,
    sizes: Sizes,
}

struct Shared {
    queues: Mutex<Queues>,
    /// Requests came, or the end.
    asked: Condvar,
    /// Room came, or a completion, or a failure.
    answered: Condvar,
    wake: Wake,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // A panic while the lock was held leaves plain queues, and the thread's end is noticed apart from it.
        self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn fail(&self, error: StoreError) {
        let mut queues = self.lock();
        if queues.failure.is_none() {
            let ticket = Ticket(queues.durable.0 + 1);
            queues.completions.push_back(Completion::Failed { ticket, error: error.clone() });
            queues.failure = Some(error);
        }
        drop(queues);
        self.answered.notify_all();
        (self.wake)();
    }
}

/// A medium behind its thread. The thread starts with the first write or read.
pub(crate) struct Writer<M: Medium> {
    shared: Arc<Shared>,
    proof: Proof,
    durability: Durability,
    /// Until the thread starts.
    idle: Option<(M, Ledger)>,
    thread: Option<JoinHandle<Option<(M, Ledger)>>>,
}

impl<M: Medium> Writer<M> {
    /// A medium and its ledger, whose run has begun.
    pub(crate) fn new(medium: M, ledger: Ledger, proof: Proof, durability: Durability, wake: Wake) -> Self {
        let sizes = Sizes { sequence: proof.sequence, ..Sizes::default() };
        let queues = Mutex::new(Queues { sizes, ..Queues::default() });
        let shared = Arc::new(Shared { queues, asked: Condvar::new(), answered: Condvar::new(), wake });
        Self { shared, proof, durability, idle: Some((medium, ledger)), thread: None }
    }

    fn start(&mut self) -> Result<(), StoreError> {
        let Some((medium, ledger)) = self.idle.take() else { return Ok(()) };
        let (shared, durability, sequence) = (Arc::clone(&self.shared), self.durability, self.proof.sequence);
        let worker = Worker {
            shared,
            medium,
            ledger,
            durability,
            sequence,
            dirty_since: None,
            sized_at: None,
            tails: Vec::new(),
        };
        let thread = thread::Builder::new().name("store".into()).spawn(move || worker.run());
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                let error = StoreError::Thread { message: error.to_string() };
                self.shared.fail(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    fn refused(&self) -> Option<StoreError> {
        let failure = self.failure()?;
        Some(StoreError::Refused { because: Box::new(failure) })
    }

    /// A thread that stands still, or is gone without a word, is a failure too.
    fn watch(&self) {
        let queues = self.shared.lock();
        let limit = Duration::from_secs(STALL_SECONDS_MAX);
        let stalled = queues.busy_since.is_some_and(|since| since.elapsed() > limit);
        let gone = !queues.has_ended && self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        drop(queues);
        if stalled {
            self.shared.fail(StoreError::Stalled { seconds: STALL_SECONDS_MAX });
        } else if gone {
            self.shared.fail(StoreError::Thread { message: "it panicked".into() });
        }
    }
}

impl<M: Medium> Store for Writer<M> {
    fn proof(&self) -> &Proof {
        &self.proof
    }

    fn load(&mut self) -> Result<Records<'_>, StoreError> {
        match &mut self.idle {
            Some((medium, _)) => medium.load(),
            None => Err(StoreError::AlreadyRunning),
        }
    }

    fn write(&mut self, group: WriteGroup) -> Result<(), StoreError> {
        frame::check(&group)?;
        if let Some(refused) = self.refused() {
            return Err(refused);
        }
        self.start()?;
        let bytes = group.records.iter().map(|record| 64 + record.value.as_ref().map_or(0, Vec::len)).sum();
        let mut queues = self.shared.lock();
        while queues.sizes.queued_bytes >= QUEUE_BYTES_MAX && queues.failure.is_none() {
            let waited = self.shared.answered.wait_timeout(queues, Duration::from_secs(1));
            drop(waited.unwrap_or_else(std::sync::PoisonError::into_inner));
            self.watch();
            queues = self.shared.lock();
        }
        if let Some(failure) = &queues.failure {
            return Err(StoreError::Refused { because: Box::new(failure.clone()) });
        }
        queues.sizes.queued_groups += 1;
        queues.sizes.queued_bytes += bytes;
        queues.requests.push_back(Request::Write(group, bytes));
        drop(queues);
        self.shared.asked.notify_one();
        Ok(())
    }

    fn read(&mut self, key: RecordKey) -> Result<(), StoreError> {
        if let Some(refused) = self.refused() {
            return Err(refused);
        }
        self.start()?;
        self.shared.lock().requests.push_back(Request::Read(key));
        self.shared.asked.notify_one();
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        self.watch();
        self.shared.lock().completions.pop_front()
    }

    fn wait(&mut self, timeout: Duration) -> Option<Completion> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(completion) = self.poll() {
                return Some(completion);
            }
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let queues = self.shared.lock();
            if queues.completions.is_empty() {
                // At most a second, so that a thread that is gone is noticed.
                let waited = self.shared.answered.wait_timeout(queues, left.min(Duration::from_secs(1)));
                drop(waited.unwrap_or_else(std::sync::PoisonError::into_inner));
            }
        }
    }

    fn copy(&mut self) -> Result<Copying, StoreError> {
        if let Some(refused) = self.refused() {
            return Err(refused);
        }
        self.start()?;
        Ok(Copying::ask(Box::new(Desk(Arc::clone(&self.shared)))))
    }

    fn sizes(&self) -> Sizes {
        self.shared.lock().sizes
    }

    fn failure(&self) -> Option<StoreError> {
        self.shared.lock().failure.clone()
    }

    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        let parts = match self.stop() {
            Some(parts) => Some(parts),
            None => self.idle.take(),
        };
        if let Some(refused) = self.refused() {
            return Err(refused);
        }
        let Some((mut medium, ledger)) = parts else {
            return Err(StoreError::Thread { message: "it panicked".into() });
        };
        medium.close()?;
        drop(medium);
        let sequence = self.shared.lock().sizes.sequence;
        ledger.close(sequence)
    }
}

impl<M: Medium> Writer<M> {
    /// Lets the thread finish what is queued, and takes its parts back. A thread that stands still is left alone: it
    /// may never come back.
    fn stop(&mut self) -> Option<(M, Ledger)> {
        let thread = self.thread.take()?;
        self.shared.lock().is_closing = true;
        self.shared.asked.notify_all();
        while !thread.is_finished() {
            let queues = self.shared.lock();
            let stalled = matches!(queues.failure, Some(StoreError::Stalled { .. }));
            let limit = Duration::from_secs(STALL_SECONDS_MAX);
            if stalled || queues.busy_since.is_some_and(|since| since.elapsed() > limit) {
                drop(queues);
                self.shared.fail(StoreError::Stalled { seconds: STALL_SECONDS_MAX });
                return None;
            }
            if queues.has_ended {
                break;
            }
            let waited = self.shared.answered.wait_timeout(queues, Duration::from_millis(100));
            drop(waited.unwrap_or_else(std::sync::PoisonError::into_inner));
        }
        thread.join().ok().flatten()
    }
}

impl<M: Medium> Drop for Writer<M> {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

enum Work {
    Commit(Vec<WriteGroup>, usize),
    Read(RecordKey),
    Copy(SyncSender<Result<Begun, StoreError>>),
    EndCopy(Arc<Tail>, SyncSender<Result<(), StoreError>>),
    Sync,
    End,
}

struct Worker<M: Medium> {
    shared: Arc<Shared>,
    medium: M,
    ledger: Ledger,
    durability: Durability,
    sequence: u64,
    /// When the oldest commit that is not synced was made, or the sync began of which nothing was heard yet.
    dirty_since: Option<Instant>,
    sized_at: Option<Instant>,
    /// Copies that want to know what is committed.
    tails: Vec<Weak<Tail>>,
}

impl<M: Medium> Worker<M> {
    /// Works until the end or a failure. The parts come back unless the medium is in an unknown state.
    fn run(mut self) -> Option<(M, Ledger)> {
        let outcome = loop {
            let outcome = match self.next() {
                Work::Commit(groups, bytes) => self.commit(groups, bytes),
                Work::Read(key) => self.read(key),
                Work::Copy(answer) => {
                    self.begin_copy(&answer);
                    Ok(())
                }
                Work::EndCopy(tail, answer) => {
                    self.tails.retain(|other| other.as_ptr() != Arc::as_ptr(&tail));
                    // Whoever asked may have given up.
                    let _ = answer.send(Ok(()));
                    Ok(())
                }
                Work::Sync => self.sync(),
                Work::End => break Ok(()),
            };
            if outcome.is_err() {
                break outcome;
            }
        };
        if let Err(error) = &outcome {
            self.ledger.fail(self.sequence);
            self.shared.fail(error.clone());
        }
        let mut queues = self.shared.lock();
        queues.busy_since = None;
        queues.has_ended = true;
        drop(queues);
        self.shared.answered.notify_all();
        outcome.ok().map(|()| (self.medium, self.ledger))
    }

    fn next(&mut self) -> Work {
        let mut queues = self.shared.lock();
        queues.busy_since = None;
        loop {
            let left = self.dirty_since.map(|since| Durability::EVERYSEC.saturating_sub(since.elapsed()));
            // SUBTLE: under a steady load the queue is never empty, so the sync that is due goes first.
            if left.is_some_and(|left| left.is_zero()) {
                queues.busy_since = Some(Instant::now());
                return Work::Sync;
            }
            if queues.failure.is_some() {
                return Work::End;
            }
            if let Some(work) = take(&mut queues.requests) {
                queues.busy_since = Some(Instant::now());
                return work;
            }
            if queues.is_closing {
                return Work::End;
            }
            queues = match left {
                Some(left) => {
                    let waited = self.shared.asked.wait_timeout(queues, left);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
                None => self.shared.asked.wait(queues).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
    }

    fn commit(&mut self, groups: Vec<WriteGroup>, bytes: usize) -> Result<(), StoreError> {
        let (count, last) = (groups.len(), groups.last().map(|group| group.ticket).unwrap_or_default());
        let sequence = self.sequence + count as u64;
        let told = (!self.tails.is_empty()).then(|| frame::changes(groups.clone()));
        self.medium.commit(groups, sequence)?;
        if let Some(changes) = told {
            self.tails.retain(|tail| {
                tail.upgrade().is_some_and(|tail| {
                    tail.put(&changes);
                    true
                })
            });
        }
        self.ledger.acknowledge(sequence)?;
        self.sequence = sequence;
        if self.durability == Durability::Everysec {
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        let stored = self.stored_bytes();
        let mut queues = self.shared.lock();
        if queues.failure.is_some() {
            // It was given up as stalled, and nobody believes it any more.
            return Ok(());
        }
        queues.durable = last;
        queues.completions.push_back(Completion::Durable(last));
        let sizes = &mut queues.sizes;
        sizes.queued_groups -= count;
        sizes.queued_bytes -= bytes;
        sizes.commits += 1;
        sizes.groups += count as u64;
        sizes.sequence = sequence;
        if let Some(stored) = stored {
            sizes.stored_bytes = stored;
        }
        drop(queues);
        self.tell();
        Ok(())
    }

    fn read(&mut self, key: RecordKey) -> Result<(), StoreError> {
        let found = self.medium.read(&key)?;
        self.shared.lock().completions.push_back(Completion::Loaded { key, found });
        self.tell();
        Ok(())
    }

    /// A copy that does not begin is no failure of the store.
    fn begin_copy(&mut self, answer: &SyncSender<Result<Begun, StoreError>>) {
        let begun = self.medium.copy().map(|Reading { batches, is_live }| {
            let tail = is_live.then(Arc::<Tail>::default);
            self.tails.extend(tail.as_ref().map(Arc::downgrade));
            Begun { batches, tail }
        });
        // Whoever asked may have given up.
        let _ = answer.send(begun);
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.dirty_since = self.medium.sync()?.then(Instant::now);
        Ok(())
    }

    fn stored_bytes(&mut self) -> Option<u64> {
        if self.sized_at.is_some_and(|at| at.elapsed() < SIZES_AGE_MAX) {
            return None;
        }
        self.sized_at = Some(Instant::now());
        Some(self.medium.stored_bytes())
    }

    fn tell(&self) {
        self.shared.answered.notify_all();
        (self.shared.wake)();
    }
}

/// All groups at the front up to the bound of a commit, at least one; or one of anything else.
fn take(requests: &mut VecDeque<Request>) -> Option<Work> {
    let mut groups = Vec::new();
    let mut total = 0;
    loop {
        let fits = match requests.front() {
            Some(Request::Write(_, bytes)) => groups.is_empty() || total + bytes <= COMMIT_BYTES_MAX,
            Some(Request::Read(_) | Request::Copy(_) | Request::EndCopy(..)) => groups.is_empty(),
            None => false,
        };
        if !fits {
            break;
        }
        match requests.pop_front() {
            Some(Request::Write(group, bytes)) => {
                groups.push(group);
                total += bytes;
            }
            Some(Request::Read(key)) => return Some(Work::Read(key)),
            Some(Request::Copy(answer)) => return Some(Work::Copy(answer)),
            Some(Request::EndCopy(tail, answer)) => return Some(Work::EndCopy(tail, answer)),
            None => break,
        }
    }
    (!groups.is_empty()).then_some(Work::Commit(groups, total))
}
