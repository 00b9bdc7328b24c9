//! `crdt-engine backup` and `crdt-engine restore`.
//!
//! A backup is a folder with the files of a node and a list of them with their hashes, `backup.toml`, which is written
//! last: without it there is no backup. Of a node that does not run the files of its store are copied. One that runs is
//! asked for a copy of its records as of one moment ([`crate::engine`], `copier`), which takes the place of those files;
//! so it is with a store in Redis, which is in no backup of a node that does not run.
//!
//! A restored node holds an older state under an old name. The store notices that its files were copied, or that it has
//! no ledger, so the node takes a fresh replica id, pushes what only it knows, and fetches the rest from its peers. Invitations are not in a
//! backup: a token that was used since would be good again.

mod error;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{ArchiveError, ArchiveReader, RedisTarget};

pub use self::error::BackupError;

use self::error::failed;
use crate::folder::{Folder, hex};

/// Version of the list.
const VERSION: u32 = 0;
/// The list.
const LIST: &str = "backup.toml";
/// What of a node folder is in a backup. `cluster.toml` makes a node, and comes last at a restore.
/// The files of the store.
const STATE: &str = "state";
const PARTS: [&str; 5] = [STATE, RECORDS, "config.toml", "directory.toml", "identity"];
/// The records of a node that ran, in the place of `state`.
const RECORDS: &str = "records";
const NODE_MARK: &str = "identity/cluster.toml";
/// Folders in folders: a store has three. Deeper ones are a loop of links.
const DEPTH_MAX: usize = 16;
/// Longest list: a hundred thousand files.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// Copied at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// States that were put aside at earlier restores.
const ASIDE_MAX: u32 = 1_000;

/// What [`backup`] made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backup {
    /// Where.
    pub folder: PathBuf,
    /// Of which node.
    pub node: String,
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// True when the node ran, and gave its records.
    pub has_records: bool,
}

/// What [`restore`] brought back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Which node.
    pub node: String,
    /// When the backup was made, in seconds since 1970.
    pub made_s: i64,
    /// Where the state is that was there before; `None` when there was none.
    pub state_before: Option<PathBuf>,
    /// True when identity and configuration came from the backup; false when those that were there stayed.
    pub whole: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    version: u32,
    node: String,
    cluster: String,
    made_s: i64,
    file: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    bytes: u64,
    sha256: String,
}

/// Copies a node into a new folder. `now_s`: seconds since 1970.
///
/// # Errors
/// [`BackupError`]; above all that the node runs. What was copied of an attempt that failed is removed again.
pub fn backup(folder: &Folder, target: &Path, now_s: i64) -> Result<Backup, BackupError> {
    let (node, cluster) = (folder.node()?.to_string(), folder.cluster()?);
    let _running = folder.lock_for_running()?;
    make(folder, target, now_s, None, (node, cluster))
}

/// As [`backup`], beside the node that runs, with a copy of its records that it has made.
///
/// # Errors
/// [`BackupError`]. What was copied of an attempt that failed is removed again.
pub fn backup_running(folder: &Folder, target: &Path, now_s: i64, records: &Path) -> Result<Backup, BackupError> {
    let named = (folder.node()?.to_string(), folder.cluster()?);
    make(folder, target, now_s, Some(records), named)
}

fn make(
    folder: &Folder,
    target: &Path,
    now_s: i64,
    records: Option<&Path>,
    (node, cluster): (String, u128),
) -> Result<Backup, BackupError> {
    let _change = folder.lock_for_change()?;
    // Before the target is made, which may lie in the folder itself.
    let mut paths = Vec::new();
    let is_wanted = |part: &&str| *part != RECORDS && (*part != STATE || records.is_none());
    for part in PARTS.into_iter().filter(is_wanted) {
        collect(folder.path(), Path::new(part), 0, &mut paths)?;
    }
    match DirBuilder::new().mode(0o700).create(target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists { path: target.into() });
        }
        Err(error) => return Err(failed(target)(error)),
    }
    let copied = copy_out(folder, target, &paths).and_then(|mut file| {
        if let Some(records) = records {
            let (bytes, sha256) = copy(records, &target.join(RECORDS))?;
            file.push(Entry { path: RECORDS.to_owned(), bytes, sha256 });
        }
        verify(target, &file)?;
        let bytes = file.iter().map(|entry| entry.bytes).sum();
        let has_records = records.is_some();
        let made = Backup { folder: target.into(), node: node.clone(), files: file.len(), bytes, has_records };
        let list = List { version: VERSION, node, cluster: format!("{cluster:032x}"), made_s: now_s, file };
        let text = toml::to_string(&list).expect("texts and integers below 2^63 have a form in TOML");
        write_whole(&target.join(LIST), text.as_bytes())?;
        sync_folder(target)?;
        Ok(made)
    });
    if copied.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_dir_all(target);
    }
    copied
}

/// Brings a node back. Where the same node still lives in the folder, only its state is replaced, and the present one
/// is put aside: identity, membership and configuration are newer than those of any backup. Records of a node that ran
/// come into the embedded store, or to `redis`, where an empty prefix stands for that of the node. `progress` is told
/// bytes of them, and how many there are.
///
/// # Errors
/// [`BackupError`]; the node is as it was.
pub fn restore(
    folder: &Folder,
    source: &Path,
    redis: Option<RedisTarget>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, BackupError> {
    let list = read_list(source)?;
    let whole = !folder.is_initialised();
    if !whole {
        let (found, cluster) = (folder.node()?.to_string(), format!("{:032x}", folder.cluster()?));
        if (&found, &cluster) != (&list.node, &list.cluster) {
            return Err(BackupError::OtherNode { folder: folder.path().into(), found, named: list.node });
        }
    }
    folder.create()?;
    let _running = folder.lock_for_running()?;
    let _change = folder.lock_for_change()?;
    let staged = folder.path().join("state.restoring");
    remove_all(&staged)?;
    make_folder(&staged)?;
    for entry in list.file.iter().filter(|entry| is_state(entry)) {
        let inner = Path::new(&entry.path).strip_prefix("state").unwrap_or(Path::new(&entry.path));
        copy_in(source, entry, &staged.join(inner))?;
    }
    if let Some(entry) = list.file.iter().find(|entry| entry.path == RECORDS) {
        let redis = redis.map(|target| match target.prefix.as_str() {
            "" => RedisTarget { prefix: format!("crdt:{}", list.node), ..target },
            _ => target,
        });
        bring_back(source, entry, &staged, redis.as_ref(), progress)?;
    }
    let state_before = put_aside(folder)?;
    fs::rename(&staged, folder.state()).map_err(failed(&staged))?;
    if whole {
        let is_other = |entry: &&Entry| !is_state(entry) && entry.path != RECORDS;
        let mut others: Vec<&Entry> = list.file.iter().filter(is_other).collect();
        others.sort_by_key(|entry| entry.path == NODE_MARK);
        for entry in others {
            let target = folder.path().join(&entry.path);
            // A configuration that is there was written for this machine.
            if entry.path != "config.toml" || !target.exists() {
                copy_in(source, entry, &target)?;
            }
        }
        sync_folder(&folder.path().join("identity"))?;
    }
    sync_folder(folder.path())?;
    Ok(Restored { node: list.node, made_s: list.made_s, state_before, whole })
}

/// Paths of files below `root`, relative to it.
fn collect(root: &Path, path: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), BackupError> {
    let full = root.join(path);
    let stat = match fs::metadata(&full) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&full)(error)),
    };
    if stat.is_file() {
        paths.push(path.to_owned());
    }
    if !stat.is_dir() {
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        return Err(failed(&full)(io::Error::other("folders nest too deep")));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&full).map_err(failed(&full))? {
        names.push(entry.map_err(failed(&full))?.file_name());
    }
    names.sort();
    names.iter().try_for_each(|name| collect(root, &path.join(name), depth + 1, paths))
}

fn copy_out(folder: &Folder, target: &Path, paths: &[PathBuf]) -> Result<Vec<Entry>, BackupError> {
    paths
        .iter()
        .map(|path| {
            let name = path.to_str().ok_or_else(|| failed(path)(io::Error::other("its name is no UTF-8")))?;
            let (bytes, sha256) = copy(&folder.path().join(path), &target.join(path))?;
            Ok(Entry { path: name.to_owned(), bytes, sha256 })
        })
        .collect()
}

/// Reads everything that was written once more.
fn verify(target: &Path, file: &[Entry]) -> Result<(), BackupError> {
    for entry in file {
        check(target, entry)?;
        if entry.path == RECORDS {
            let path = target.join(RECORDS);
            open_records(&path)?.try_for_each(|block| block.map(drop)).map_err(in_records(&path))?;
        }
    }
    Ok(())
}

/// A file whose bytes are not those of the list is an error.
fn check(source: &Path, entry: &Entry) -> Result<(), BackupError> {
    let path = source.join(&entry.path);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut file = File::open(&path).map_err(failed(&path))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(failed(&path))?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        bytes += count as u64;
    }
    judge(source, entry, bytes, &hex::encode(&hash.finalize()))
}

fn judge(source: &Path, entry: &Entry, bytes: u64, sha256: &str) -> Result<(), BackupError> {
    if (bytes, sha256) == (entry.bytes, entry.sha256.as_str()) {
        return Ok(());
    }
    let reason = format!("{} is not what was backed up", entry.path);
    Err(BackupError::Invalid { path: source.into(), reason })
}

fn open_records(path: &Path) -> Result<ArchiveReader<BufReader<File>>, BackupError> {
    let file = File::open(path).map_err(failed(path))?;
    ArchiveReader::new(BufReader::new(file)).map_err(in_records(path))
}

fn in_records(path: &Path) -> impl Fn(ArchiveError) -> BackupError + use<> {
    let path = path.to_owned();
    move |error| BackupError::Records { path: path.clone(), error }
}

/// Makes a store of the records of a node that ran.
fn bring_back(
    source: &Path,
    entry: &Entry,
    staged: &Path,
    redis: Option<&RedisTarget>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), BackupError> {
    check(source, entry)?;
    let path = source.join(&entry.path);
    let mut records = open_records(&path)?;
    let mut told = std::iter::from_fn(|| {
        let block = records.next();
        progress(records.totals().bytes, entry.bytes);
        block
    });
    let made = match redis {
        None => store::import_embedded(staged, &mut told),
        Some(target) => store::import_redis(target, &mut told),
    };
    made.map_err(in_records(&path))
}

/// Copies one file of a backup; one that was changed since is an error.
fn copy_in(source: &Path, entry: &Entry, target: &Path) -> Result<(), BackupError> {
    let (bytes, sha256) = copy(&source.join(&entry.path), target)?;
    judge(source, entry, bytes, &sha256)
}

/// Copies a file, durably, with its mode: its bytes and their hash.
fn copy(from: &Path, to: &Path) -> Result<(u64, String), BackupError> {
    let mut source = File::open(from).map_err(failed(from))?;
    let mode = source.metadata().map_err(failed(from))?.permissions().mode() & 0o777;
    if let Some(parent) = to.parent() {
        make_folder(parent)?;
    }
    let mut target =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(to).map_err(failed(to))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = source.read(&mut chunk).map_err(failed(from))?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        target.write_all(read).map_err(failed(to))?;
        bytes += count as u64;
    }
    target.sync_all().map_err(failed(to))?;
    Ok((bytes, hex::encode(&hash.finalize())))
}

fn read_list(source: &Path) -> Result<List, BackupError> {
    let invalid = |reason: String| BackupError::Invalid { path: source.into(), reason };
    let path = source.join(LIST);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(invalid(format!("{LIST} is missing, so the backup did not finish")));
        }
        Err(error) => return Err(failed(&path)(error)),
    };
    let mut text = String::new();
    file.take(LIST_BYTES_MAX).read_to_string(&mut text).map_err(failed(&path))?;
    let list: List = toml::from_str(&text).map_err(|error| invalid(format!("{LIST}: {}", error.message())))?;
    if list.version != VERSION {
        return Err(invalid(format!("its version is {}, and this build knows {VERSION}", list.version)));
    }
    if let Some(strange) = list.file.iter().find(|entry| !is_of_a_node(&entry.path)) {
        return Err(invalid(format!("{:?} is no file of a node", strange.path)));
    }
    if !list.file.iter().any(|entry| entry.path == NODE_MARK) {
        return Err(invalid(format!("{NODE_MARK} is not in it")));
    }
    Ok(list)
}

/// True for a path below one of [`PARTS`], without steps upwards.
fn is_of_a_node(path: &str) -> bool {
    let mut steps = Path::new(path).components();
    let is_known = |step: Component<'_>| PARTS.iter().any(|part| step.as_os_str() == OsStr::new(part));
    steps.next().is_some_and(is_known) && steps.all(|step| matches!(step, Component::Normal(_)))
}

fn is_state(entry: &Entry) -> bool {
    Path::new(&entry.path).starts_with("state")
}

/// Moves the present state away; where to, if there was any.
fn put_aside(folder: &Folder) -> Result<Option<PathBuf>, BackupError> {
    let state = folder.state();
    let is_empty = fs::read_dir(&state).map_err(failed(&state))?.next().is_none();
    if is_empty {
        fs::remove_dir(&state).map_err(failed(&state))?;
        return Ok(None);
    }
    let mut free = (1..=ASIDE_MAX).map(|number| folder.path().join(format!("state.before-restore-{number}")));
    let aside = free
        .find(|path| !path.exists())
        .ok_or_else(|| failed(&state)(io::Error::other("too many older states are beside it")))?;
    fs::rename(&state, &aside).map_err(failed(&state))?;
    Ok(Some(aside))
}

fn make_folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))
}

fn remove_all(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(failed(path))
}

fn sync_folder(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed(path))
}

#[cfg(test)]
mod tests;
