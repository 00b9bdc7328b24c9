//! Where a run takes place: a folder on a real disk, and how busy the machine is with other things.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{env, io};

use crate::failure::Failure;

/// Folders of runs begin with this; the process id follows.
const FOLDER_PREFIX: &str = "crdt-bench-";
/// Load average above which a run on this machine calls itself noisy.
const QUIET_LOAD_MAX: f64 = 0.5;

/// A folder that goes away with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder of this run, below the system's for temporary files, and sweeps those of runs that were killed.
    pub(crate) fn new() -> Result<Self, Failure> {
        let parent = env::temp_dir();
        sweep(&parent);
        let kind = disk(&parent);
        if ["tmpfs", "ramfs"].iter().any(|memory| kind.starts_with(memory)) {
            return Err(Failure::NoDisk { folder: parent, kind });
        }
        let path = parent.join(format!("{FOLDER_PREFIX}{}", std::process::id()));
        make(&path)?;
        Ok(Self(path))
    }

    /// A folder within, for one part of the run; it goes away with its value too.
    pub(crate) fn within(&self, name: &str) -> Result<Self, Failure> {
        let path = self.0.join(name);
        make(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a folder that nobody else may look into.
pub(crate) fn make(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(Failure::io(format!("make the folder {}", path.display())))
}

fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().filter_map(io::Result::ok) {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            // Somebody else's folder stays.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// File system and device of a folder, as the kernel names them.
fn disk(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let of = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let (device, place, kind) = (words.next()?, words.next()?, words.next()?);
        folder.starts_with(&place).then_some((place.len(), format!("{kind} on {device}")))
    };
    // Of two mounts on one place the later one is seen.
    mounts
        .lines()
        .filter_map(of)
        .max_by_key(|(length, _)| *length)
        .map_or("an unknown disk".to_owned(), |(_, kind)| kind)
}

/// Machine, disk, versions and what else ran, for the conditions of every claim.
pub(crate) fn told(folder: &Folder) -> String {
    let load: Option<f64> = fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next().and_then(|first| first.parse().ok()));
    let noise = match load {
        Some(load) if load > QUIET_LOAD_MAX => format!("noisy: load average {load:.2} before the run"),
        Some(load) => format!("load average {load:.2} before the run"),
        None => "load unknown".to_owned(),
    };
    format!("{}, {}, {noise}", bench_results::machine(), disk(&folder.0))
}
