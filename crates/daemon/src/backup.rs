//! `crdt-engine backup` and `crdt-engine restore`.
//!
//! A backup is a folder with the files of a node and a list of them with their hashes, `backup.toml`, which is written
//! last: without it there is no backup. The node must not run meanwhile, since its store changes under the copy; its
//! peers go on without it.
//!
//! A restored node holds an older state under an old name. The store notices that its files were copied, so the node
//! takes a fresh replica id, pushes what only it knows, and fetches the rest from its peers. Invitations are not in a
//! backup: a token that was used since would be good again.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::folder::{Folder, FolderError, hex};

/// Version of the list.
const VERSION: u32 = 0;
/// The list.
const LIST: &str = "backup.toml";
/// What of a node folder is in a backup. `cluster.toml` makes a node, and comes last at a restore.
const PARTS: [&str; 4] = ["state", "config.toml", "directory.toml", "identity"];
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

/// Why there is no backup, or nothing was restored. The node is as it was.
#[derive(Debug)]
pub enum BackupError {
    /// The node folder.
    Folder(FolderError),
    /// The folder of the backup is there already.
    Exists {
        /// It.
        path: PathBuf,
    },
    /// A file cannot be copied.
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The folder is no whole backup.
    Invalid {
        /// It.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The backup is of another node than the one that lives in the folder.
    OtherNode {
        /// The folder.
        folder: PathBuf,
        /// Who lives there.
        found: String,
        /// Of whom the backup is.
        named: String,
    },
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
    let _change = folder.lock_for_change()?;
    // Before the target is made, which may lie in the folder itself.
    let mut paths = Vec::new();
    for part in PARTS {
        collect(folder.path(), Path::new(part), 0, &mut paths)?;
    }
    match DirBuilder::new().mode(0o700).create(target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists { path: target.into() });
        }
        Err(error) => return Err(failed(target)(error)),
    }
    let copied = copy_out(folder, target, &paths).and_then(|file| {
        let bytes = file.iter().map(|entry| entry.bytes).sum();
        let made = Backup { folder: target.into(), node: node.clone(), files: file.len(), bytes };
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
/// is put aside: identity, membership and configuration are newer than those of any backup.
///
/// # Errors
/// [`BackupError`]; the node is as it was.
pub fn restore(folder: &Folder, source: &Path) -> Result<Restored, BackupError> {
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
    let state_before = put_aside(folder)?;
    fs::rename(&staged, folder.state()).map_err(failed(&staged))?;
    if whole {
        let mut others: Vec<&Entry> = list.file.iter().filter(|entry| !is_state(entry)).collect();
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

/// Copies one file of a backup; one that was changed since is an error.
fn copy_in(source: &Path, entry: &Entry, target: &Path) -> Result<(), BackupError> {
    let (bytes, sha256) = copy(&source.join(&entry.path), target)?;
    if (bytes, &sha256) != (entry.bytes, &entry.sha256) {
        let reason = format!("{} is not what was backed up", entry.path);
        return Err(BackupError::Invalid { path: source.into(), reason });
    }
    Ok(())
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

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |error| BackupError::File { path: path.clone(), error }
}

impl BackupError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            Self::Exists { .. } => "ERR_BACKUP_EXISTS",
            Self::File { .. } => "ERR_BACKUP_FILE",
            Self::Invalid { .. } => "ERR_BACKUP_INVALID",
            Self::OtherNode { .. } => "ERR_BACKUP_OTHER_NODE",
        }
    }
}

impl From<FolderError> for BackupError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(formatter),
            Self::Exists { path } => {
                write!(
                    formatter,
                    "{} is there already; backups are never overwritten: name a new folder",
                    path.display()
                )
            }
            Self::File { path, error } => write!(
                formatter,
                "{}: {error}; nothing that was there before has changed: mend it and start again",
                path.display()
            ),
            Self::Invalid { path, reason } => {
                write!(formatter, "{} is no whole backup: {reason}; take another one", path.display())
            }
            Self::OtherNode { folder, found, named } => write!(
                formatter,
                "the backup is of {named}, and {found} lives in {}; name another folder with --folder",
                folder.display()
            ),
        }
    }
}

impl std::error::Error for BackupError {}

#[cfg(test)]
mod tests {
    use transport::NodeId;
    use transport::identity::KeyKind;

    use super::*;
    use crate::init::{InitOptions, init};

    const NOW_S: i64 = 1_795_383_785;

    fn node(root: &Path, name: &str) -> Folder {
        let folder = Folder::new(root.join(name));
        let options = InitOptions {
            node: NodeId::new(name).unwrap(),
            key_kind: KeyKind::Ed25519,
            own: None,
            addresses: Vec::new(),
            config_text: "# none\n".to_owned(),
            now_s: NOW_S,
        };
        init(&folder, &options).unwrap();
        fs::create_dir(folder.state().join("records")).unwrap();
        fs::write(folder.state().join("records/1"), "old").unwrap();
        folder
    }

    fn state(folder: &Folder) -> String {
        fs::read_to_string(folder.state().join("records/1")).unwrap()
    }

    #[test]
    fn a_lost_node_comes_back_whole() {
        let root = tempfile::tempdir().unwrap();
        let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
        let made = backup(&folder, &target, NOW_S).unwrap();
        assert_eq!(made.node, "node_01");
        let cluster = folder.cluster().unwrap();
        fs::remove_dir_all(folder.path()).unwrap();
        let restored = restore(&folder, &target).unwrap();
        assert_eq!((restored.whole, restored.state_before, restored.made_s), (true, None, NOW_S));
        assert_eq!(folder.load().unwrap().node.cluster(), cluster);
        assert_eq!(state(&folder), "old");
        assert!(folder.config().exists());
        let key = fs::metadata(folder.path().join("identity/node.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_node_that_is_there_keeps_its_identity_and_its_state_is_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
        backup(&folder, &target, NOW_S).unwrap();
        fs::write(folder.state().join("records/1"), "new").unwrap();
        fs::write(folder.config(), "# mine\n").unwrap();
        let restored = restore(&folder, &target).unwrap();
        assert!(!restored.whole);
        let aside = restored.state_before.unwrap();
        assert_eq!(fs::read_to_string(aside.join("records/1")).unwrap(), "new");
        assert_eq!(state(&folder), "old");
        assert_eq!(fs::read_to_string(folder.config()).unwrap(), "# mine\n");
    }

    #[test]
    fn a_backup_that_was_changed_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
        backup(&folder, &target, NOW_S).unwrap();
        fs::write(folder.state().join("records/1"), "new").unwrap();
        fs::write(target.join("state/records/1"), "bad").unwrap();
        assert_eq!(restore(&folder, &target).unwrap_err().code(), "ERR_BACKUP_INVALID");
        assert_eq!(state(&folder), "new");
        fs::remove_file(target.join(LIST)).unwrap();
        assert_eq!(restore(&folder, &target).unwrap_err().code(), "ERR_BACKUP_INVALID");
    }

    #[test]
    fn what_must_not_be_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
        let running = folder.lock_for_running().unwrap();
        assert_eq!(backup(&folder, &target, NOW_S).unwrap_err().code(), "ERR_FOLDER_IN_USE");
        assert!(!target.exists());
        drop(running);
        backup(&folder, &target, NOW_S).unwrap();
        assert_eq!(backup(&folder, &target, NOW_S).unwrap_err().code(), "ERR_BACKUP_EXISTS");
        let other = node(root.path(), "node_02");
        assert_eq!(restore(&other, &target).unwrap_err().code(), "ERR_BACKUP_OTHER_NODE");
        let nobody = Folder::new(root.path().join("nobody"));
        assert_eq!(backup(&nobody, &root.path().join("x"), NOW_S).unwrap_err().code(), "ERR_NOT_INITIALISED");
    }

    #[test]
    fn paths_do_not_lead_out_of_a_node() {
        for good in ["state/records/1", "config.toml", "identity/node.key"] {
            assert!(is_of_a_node(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "state/../../x", "invites/a.open", "other"] {
            assert!(!is_of_a_node(bad), "{bad}");
        }
    }
}
