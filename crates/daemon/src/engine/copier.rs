//! A copy of all records into a file of the node folder, on a thread of its own: what a backup of a running node is made
//! of. The command that makes the backup takes it from there, so that a client at the door can name no path, and keys
//! never pass the door.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use store::{ArchiveError, ArchiveTotals, Copying, StoreError, write_archive};

use super::core::Core;
use crate::log::Log;

/// The file while it is written, and when it is whole.
const FILE: &str = "records.copy";
const PARTIAL: &str = "records.copy.partial";

/// Where a copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum CopyStage {
    #[default]
    None,
    Running,
    Done,
    Failed,
}

/// How far the last copy has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct CopyState {
    /// Which copy since the start, from 1.
    pub(crate) number: u64,
    pub(crate) stage: CopyStage,
    pub(crate) totals: ArchiveTotals,
    /// Why it failed; empty when it did not.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Why no copy was begun.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// One is under way.
    Running,
    /// The store gives none.
    Store(StoreError),
    /// No thread can be started.
    Thread(io::Error),
}

/// Makes one copy at a time.
pub(crate) struct Copier {
    folder: PathBuf,
    state: Arc<Mutex<CopyState>>,
    is_cancelled: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    log: Log,
}

impl Copier {
    /// For the node folder. What an earlier run left of a copy is removed.
    pub(crate) fn new(folder: PathBuf, log: Log) -> Self {
        for name in [FILE, PARTIAL] {
            // It is not there, or it is replaced by the next copy.
            let _ = fs::remove_file(folder.join(name));
        }
        Self { folder, state: Arc::default(), is_cancelled: Arc::default(), thread: None, log }
    }

    /// Where the copy is once it is done.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// How far the last copy has come.
    pub(crate) fn state(&self) -> CopyState {
        lock(&self.state).clone()
    }

    fn begin(&mut self, copying: Copying) -> Result<(), CopyError> {
        let number = self.state().number + 1;
        let (state, is_cancelled) = (Arc::clone(&self.state), Arc::clone(&self.is_cancelled));
        let (folder, log) = (self.folder.clone(), self.log.clone());
        *lock(&state) = CopyState { number, stage: CopyStage::Running, ..CopyState::default() };
        let work = move || {
            let mut progress = |totals| {
                lock(&state).totals = totals;
                !is_cancelled.load(Ordering::Relaxed)
            };
            let outcome = copy(&folder, copying, &mut progress);
            let mut state = lock(&state);
            match outcome {
                Ok(totals) => {
                    log.info("the records are copied", &[("records", &totals.pairs), ("bytes", &totals.bytes)]);
                    (state.stage, state.totals) = (CopyStage::Done, totals);
                }
                Err(error) => {
                    log.warn(error.code(), "the records were not copied", &[("error", &error)]);
                    // Room on the disk is what may have been missing.
                    let _ = fs::remove_file(folder.join(PARTIAL));
                    (state.stage, state.code, state.message) = (CopyStage::Failed, error.code(), error.to_string());
                }
            }
        };
        match thread::Builder::new().name("copy".to_owned()).spawn(work) {
            Ok(thread) => {
                self.thread = Some(thread);
                Ok(())
            }
            Err(error) => {
                *lock(&self.state) = CopyState { number, stage: CopyStage::Failed, ..CopyState::default() };
                Err(CopyError::Thread(error))
            }
        }
    }
}

/// A copy under way is given up.
impl Drop for Copier {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so by itself.
            let _ = thread.join();
        }
    }
}

impl Core {
    /// Begins a copy of all records, as of a moment from now on.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(crate) fn begin_copy(&mut self) -> Result<(), CopyError> {
        if self.copier.state().stage == CopyStage::Running {
            return Err(CopyError::Running);
        }
        let copying = self.storage.copy().map_err(CopyError::Store)?;
        self.copier.begin(copying)
    }
}

fn copy(
    folder: &Path,
    copying: Copying,
    progress: &mut dyn FnMut(ArchiveTotals) -> bool,
) -> Result<ArchiveTotals, ArchiveError> {
    let (partial, whole) = (folder.join(PARTIAL), folder.join(FILE));
    match fs::remove_file(&whole) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    let mut out = BufWriter::new(file);
    let totals = write_archive(&mut out, copying, progress)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    fs::rename(&partial, &whole)?;
    File::open(folder)?.sync_all()?;
    Ok(totals)
}

fn lock(state: &Mutex<CopyState>) -> MutexGuard<'_, CopyState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CopyStage {
    /// As clients are told.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl CopyError {
    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Running => "ERR_BACKUP_RUNNING",
            Self::Store(error) => error.code(),
            Self::Thread(_) => "ERR_SYSTEM",
        }
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => formatter.write_str("a copy is under way; wait for its end (CRDT.BACKUP STATUS tells)"),
            Self::Store(error) => error.fmt(formatter),
            Self::Thread(error) => write!(formatter, "a thread cannot be started: {error}; look at ulimit -u"),
        }
    }
}
