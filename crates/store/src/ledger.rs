//! Small files beside a store that tell of its last run: what the store itself cannot tell, because it may have gone
//! back as a whole.
//!
//! ```text
//! lock   held while a process has the store open
//! run    text, replaced whole and synced: store, machine, boot, open or closed at which group, the server's run_id
//! seal   text: inode and change time of `run`, and, while it is replaced, the inode to come. A copy or a restored
//!        backup of `run` has others, and no program can set a change time.
//! head   32 bytes, overwritten in place after each commit: number of the last group called durable. Not synced: it
//!        outlives a killed process, which is when it is asked; after a power cut `run` names another boot.
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::StoreError;
use crate::continuity::{Doubt, Past};

const HEAD_MAGIC: &[u8; 8] = b"CRDTHEAD";
const HEAD_BYTES: usize = 32;
/// A run file has some 300 bytes; a larger one is not ours.
const TEXT_BYTES_MAX: u64 = 4 << 10;

/// Which machine this is, and which of its lives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    /// `/etc/machine-id`, empty where there is none.
    pub machine: String,
    /// `/proc/sys/kernel/random/boot_id`; empty where there is none, and then only an orderly end proves anything.
    pub boot: String,
}

impl Surroundings {
    /// This machine, now.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        Self { machine: read("/etc/machine-id"), boot: read("/proc/sys/kernel/random/boot_id") }
    }
}

/// How sure a head is of what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    /// Continuity was not proven, and nothing became durable since.
    Unsettled = 0,
    /// As it should be.
    Settled = 1,
    /// A durable write failed.
    Failed = 2,
}

/// The open ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    head: File,
    /// Held for its lock.
    _lock: File,
    surroundings: Surroundings,
    store: u128,
    service: Option<String>,
    /// No ledger was there.
    is_new: bool,
}

/// A run file, read.
struct Run {
    store: u128,
    machine: String,
    boot: String,
    closed: Option<u64>,
    service: Option<String>,
}

impl Ledger {
    /// Opens the ledger in `folder`, which is made if need be, and reads what it says of the last run. `fresh` is the
    /// identity of a store that has none.
    pub(crate) fn open(folder: &Path, surroundings: Surroundings, fresh: u128) -> Result<(Self, Past), StoreError> {
        fs::create_dir_all(folder).map_err(|error| StoreError::io("make", folder, &error))?;
        let lock = open_file(&folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { folder: folder.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &folder.join("lock"), &error)),
        }
        let text = read_text(&folder.join("run"))?;
        let is_new = text.is_none();
        let head = open_file(&folder.join("head"))?;
        let run = text.as_deref().map(parse_run);
        let mut past = Past::default();
        let store = match &run {
            None => fresh,
            Some(None) => {
                past.doubts.push(Doubt::LedgerDamaged);
                fresh
            }
            Some(Some(run)) => {
                read_past(folder, run, &surroundings, &mut past)?;
                run.store
            }
        };
        if !is_new {
            match read_head(&head, folder)? {
                Some((sequence, mood)) => {
                    past.acknowledged = sequence;
                    match mood {
                        Mood::Unsettled => past.doubts.push(Doubt::Unsettled),
                        Mood::Settled => {}
                        Mood::Failed => past.doubts.push(Doubt::WriteFailed),
                    }
                }
                None => past.doubts.push(Doubt::LedgerDamaged),
            }
        }
        let ledger = Self { folder: folder.to_owned(), head, _lock: lock, surroundings, store, service: None, is_new };
        Ok((ledger, past))
    }

    /// True when no ledger was there.
    pub(crate) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Identity of the store.
    pub(crate) const fn store(&self) -> u128 {
        self.store
    }

    /// Notes that a run begins. A doubt is written down before the store is used, so that it outlives a process that
    /// ends before the node could act on it.
    pub(crate) fn begin(&mut self, proven: bool, sequence: u64, service: Option<String>) -> Result<(), StoreError> {
        self.service = service;
        self.write_head(sequence, if proven { Mood::Settled } else { Mood::Unsettled })?;
        self.head.sync_data().map_err(|error| StoreError::io("sync", &self.folder.join("head"), &error))?;
        self.write_run(None)
    }

    /// Notes that groups up to `sequence` are durable, before anybody is told.
    pub(crate) fn acknowledge(&self, sequence: u64) -> Result<(), StoreError> {
        self.write_head(sequence, Mood::Settled)
    }

    /// Notes that a durable write failed. On a full disk this overwrites what has its place already.
    pub(crate) fn fail(&self, sequence: u64) {
        // Nobody is left to tell: the failure that led here is the one that counts, and a note that did not reach the
        // disk leaves the older head.
        let _ = self.write_head(sequence, Mood::Failed);
        let _ = self.head.sync_data();
    }

    /// Notes an orderly end.
    pub(crate) fn close(&self, sequence: u64) -> Result<(), StoreError> {
        self.write_run(Some(sequence))
    }

    fn write_head(&self, sequence: u64, mood: Mood) -> Result<(), StoreError> {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(HEAD_MAGIC);
        bytes[8..16].copy_from_slice(&sequence.to_be_bytes());
        bytes[16] = mood as u8;
        let sum = xxh3_64(&bytes[..24]);
        bytes[24..].copy_from_slice(&sum.to_be_bytes());
        self.head.write_all_at(&bytes, 0).map_err(|error| StoreError::io("write", &self.folder.join("head"), &error))
    }

    fn write_run(&self, closed: Option<u64>) -> Result<(), StoreError> {
        let state = closed.map_or_else(|| "open".to_owned(), |sequence| format!("closed {sequence}"));
        let Surroundings { machine, boot } = &self.surroundings;
        let service = self.service.as_deref().unwrap_or_default();
        let text = format!(
            "format 1\nstore {:032x}\nmachine {machine}\nboot {boot}\nstate {state}\nservice {service}\n",
            self.store
        );
        let (run, seal) = (self.folder.join("run"), self.folder.join("seal"));
        let new = write_new(&run, &text)?;
        // SUBTLE: between the renaming of `run` and the writing of its seal a process may be killed, and must not be
        // taken for a copy. So the seal names the inode that is to come, beside the file that still stands.
        let stands = if run.exists() { stamp(&run)? } else { (0, 0, 0) };
        let next = stamp(&new)?.0;
        let announced = format!("format 1\n{}next {next}\n", seal_line(stands));
        put(&write_new(&seal, &announced)?, &seal)?;
        put(&new, &run)?;
        put(&write_new(&seal, &format!("format 1\n{}", seal_line(stamp(&run)?)))?, &seal)
    }
}

/// What a seal says of a run file, with the end of its line: a number must not pass for the beginning of another.
fn seal_line((inode, seconds, nanoseconds): (u64, i64, i64)) -> String {
    format!("run {inode} {seconds} {nanoseconds}\n")
}

fn read_past(folder: &Path, run: &Run, now: &Surroundings, past: &mut Past) -> Result<(), StoreError> {
    past.closed = run.closed;
    past.service.clone_from(&run.service);
    if run.machine != now.machine {
        past.doubts.push(Doubt::OtherMachine);
    }
    if run.closed.is_none() && (run.boot != now.boot || now.boot.is_empty()) {
        past.doubts.push(Doubt::PowerCut);
    }
    let stamp = stamp(&folder.join("run"))?;
    let (stands, next) = (seal_line(stamp), format!("next {}\n", stamp.0));
    let seal = read_text(&folder.join("seal"))?.unwrap_or_default();
    if !verified(&seal).is_some_and(|seal| seal.contains(&stands) || seal.contains(&next)) {
        past.doubts.push(Doubt::Copied);
    }
    Ok(())
}

fn parse_run(text: &str) -> Option<Run> {
    let mut lines = verified(text)?.lines();
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    if field("format")? != "1" {
        return None;
    }
    let store = u128::from_str_radix(&field("store")?, 16).ok()?;
    let (machine, boot, state, service) = (field("machine")?, field("boot")?, field("state")?, field("service")?);
    let closed = match state.strip_prefix("closed ") {
        Some(sequence) => Some(sequence.parse().ok()?),
        None if state == "open" => None,
        None => return None,
    };
    Some(Run { store, machine, boot, closed, service: Some(service).filter(|service| !service.is_empty()) })
}

/// The text before its last line, which holds the checksum.
pub(crate) fn verified(text: &str) -> Option<&str> {
    let at = text.rfind("check ")?;
    let (body, check) = text.split_at(at);
    let sum = u64::from_str_radix(check.strip_prefix("check ")?.trim_end(), 16).ok()?;
    (sum == xxh3_64(body.as_bytes())).then_some(body)
}

fn read_head(head: &File, folder: &Path) -> Result<Option<(u64, Mood)>, StoreError> {
    let mut bytes = [0; HEAD_BYTES];
    match head.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &folder.join("head"), &error)),
    }
    let eight = |from: usize| {
        let bytes = bytes[from..from + 8].try_into().expect("eight bytes were cut out");
        u64::from_be_bytes(bytes)
    };
    let mood = match bytes[16] {
        0 => Mood::Unsettled,
        1 => Mood::Settled,
        2 => Mood::Failed,
        _ => return Ok(None),
    };
    let fits = bytes[..8] == *HEAD_MAGIC && eight(24) == xxh3_64(&bytes[..24]);
    Ok(fits.then(|| (eight(8), mood)))
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|error| StoreError::io("open", path, &error))
}

pub(crate) fn read_text(path: &Path) -> Result<Option<String>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| StoreError::io("read", path, &error))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes a text with its checksum beside a file, durably.
pub(crate) fn write_new(path: &Path, body: &str) -> Result<PathBuf, StoreError> {
    let new = path.with_extension("new");
    // Not over a file that is there: the inode must be a new one.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::io("remove", &new, &error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&new).map_err(|error| StoreError::io("open", &new, &error))?;
    let text = format!("{body}check {:016x}\n", xxh3_64(body.as_bytes()));
    file.write_all(text.as_bytes()).map_err(|error| StoreError::io("write", &new, &error))?;
    file.sync_all().map_err(|error| StoreError::io("sync", &new, &error))?;
    Ok(new)
}

/// Puts a file in the place of another, durably.
pub(crate) fn put(new: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(new, path).map_err(|error| StoreError::io("rename", new, &error))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// Makes renames in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::io("sync", folder, &error))
}

fn stamp(path: &Path) -> Result<(u64, i64, i64), StoreError> {
    let metadata = fs::metadata(path).map_err(|error| StoreError::io("look at", path, &error))?;
    Ok((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
