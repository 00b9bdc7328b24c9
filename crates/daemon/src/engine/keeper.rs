//! What the hot thread wants to stand in the node folder, written by a thread that may wait for the disk.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use transport::identity::{read_public, write_public};
use transport::join::DirectoryEntry;
use transport::membership::StoreGeneration;

use super::error::EngineError;
use crate::folder::{Folder, FolderError};
use crate::log::Log;

/// Lists of entries that wait for the disk. Over it the whole directory is offered again later.
const LISTS_MAX: usize = 64;
/// Generations that are taken from the disk at once: so many times the cluster may take this node for dead before
/// another write is needed, which the hot thread then waits for.
const GENERATIONS_RESERVED: u64 = 1_024;
/// The file with the last reserved generation, in the node folder.
const GENERATION_FILE: &str = "generation";

/// Writes into the node folder.
pub(crate) struct Keeper {
    sender: Option<SyncSender<Vec<DirectoryEntry>>>,
    thread: Option<JoinHandle<()>>,
    has_failed: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`EngineError::System`].
    pub(crate) fn start(folder: Folder, log: Log) -> Result<Self, EngineError> {
        let (sender, receiver) = sync_channel::<Vec<DirectoryEntry>>(LISTS_MAX);
        let has_failed = Arc::new(AtomicBool::new(false));
        let failed = Arc::clone(&has_failed);
        let work = move || {
            while let Ok(entries) = receiver.recv() {
                match write(&folder, &entries) {
                    Ok(()) => {}
                    Err(error) => {
                        let code = error.code();
                        log.warn(
                            code,
                            "the directory of members cannot be written; it is tried again",
                            &[("error", &error)],
                        );
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("folder".to_owned()).spawn(work);
        let thread = thread.map_err(|error| EngineError::System { what: "a thread", error })?;
        Ok(Self { sender: Some(sender), thread: Some(thread), has_failed })
    }

    /// Wants entries to be written. False when they are not, because too many wait.
    pub(crate) fn keep(&self, entries: Vec<DirectoryEntry>) -> bool {
        match self.sender.as_ref().map(|sender| sender.try_send(entries)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => false,
        }
    }

    /// True when something could not be written since this was last asked.
    pub(crate) fn take_failure(&self) -> bool {
        self.has_failed.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so by itself.
            let _ = thread.join();
        }
    }
}

fn write(folder: &Folder, entries: &[DirectoryEntry]) -> Result<(), FolderError> {
    let _change = folder.lock_for_change()?;
    folder.merge_directory(entries).map(drop)
}

/// The last generation that a former life of this node may have used, and what stores the next ones. `fallback` is used
/// where there is no file: greater than any that was used, so that a lost file does not make this node a ghost of
/// itself; milliseconds since 1970 will do.
pub(crate) fn generations(folder: &Path, fallback: u64) -> (u64, StoreGeneration) {
    let path = folder.join(GENERATION_FILE);
    let last = read_public(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(fallback);
    let mut reserved = last;
    let store = move |generation: u64| -> io::Result<()> {
        if generation <= reserved {
            return Ok(());
        }
        let next = generation.saturating_add(GENERATIONS_RESERVED);
        write_number(&path, next)?;
        reserved = next;
        Ok(())
    };
    (last, Box::new(store))
}

fn write_number(path: &Path, number: u64) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    write_public(path, &format!("{number}\n")).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use transport::NodeId;

    use super::*;

    #[test]
    fn every_life_begins_above_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (first, mut store) = generations(folder.path(), 500);
        assert_eq!(first, 500);
        store(501).unwrap();
        store(700).unwrap();
        drop(store);
        let (second, mut store) = generations(folder.path(), 1);
        assert!(second >= 700, "{second}");
        let before = fs::metadata(folder.path().join(GENERATION_FILE)).unwrap();
        store(second).unwrap();
        assert_eq!(before.len(), fs::metadata(folder.path().join(GENERATION_FILE)).unwrap().len());
        fs::remove_dir_all(folder.path()).unwrap();
        fs::write(folder.path(), "in the way").unwrap();
        assert!(store(second + 1).is_err());
        fs::remove_file(folder.path()).unwrap();
        fs::create_dir(folder.path()).unwrap();
    }

    #[test]
    fn what_is_kept_is_on_disk_when_the_keeper_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("node"));
        folder.create().unwrap();
        let keeper = Keeper::start(folder.clone(), Log::none()).unwrap();
        let entry = DirectoryEntry { node: NodeId::new("b").unwrap(), counter: 4, addresses: vec!["b:1".to_owned()] };
        assert!(keeper.keep(vec![entry.clone()]));
        drop(keeper);
        assert_eq!(folder.directory().unwrap(), [entry]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let keeper = Keeper::start(Folder::new("/proc/no/such/folder"), Log::none()).unwrap();
        assert!(keeper.keep(Vec::new()));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !keeper.take_failure() {
            assert!(std::time::Instant::now() < until);
            thread::yield_now();
        }
    }
}
