//! A full disk: a small tmpfs, which only root can mount.

use std::path::Path;

use replica::{Record, RecordKey, Ticket, WriteGroup};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use store::{Completion, Doubt, Durability, Store, StoreError};

use crate::ground::{PATIENCE, all, embedded, here};

/// A mounted tmpfs; unmounted at the end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(options: &core::ffi::CStr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        match mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), options) {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                eprintln!("SKIPPED: a full disk was NOT tested: a tmpfs cannot be mounted here ({error})");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_stops_the_store_and_keeps_what_was_acknowledged() {
    // The database's own journal is a sparse file of 64 MiB: what is written counts.
    let Some(disk) = Tmpfs::new(c"size=24m") else { return };
    let mut store = embedded(disk.path(), Durability::Always, here()).unwrap();
    let group = |number: u64| {
        let record = Record { key: RecordKey::Epoch(number), value: Some(vec![number as u8; 100_000]) };
        WriteGroup { ticket: Ticket(number), records: vec![record] }
    };
    let (mut acknowledged, mut error) = (0, None);
    for number in 1..=1_000 {
        if store.write(group(number)).is_err() {
            break;
        }
        match store.wait(PATIENCE) {
            Some(Completion::Durable(ticket)) => acknowledged = ticket.0,
            Some(Completion::Failed { error: why, .. }) => error = Some(why),
            other => panic!("{other:?}"),
        }
    }
    let error = error.expect("24 MiB do not hold 100 MB");
    // The database's own thread may meet the full disk first, and then says only that it failed.
    assert!(matches!(error, StoreError::Full { .. } | StoreError::Io { .. }), "{error:?}");
    assert!(matches!(store.write(group(2_000)), Err(StoreError::Refused { .. })));
    drop(store);
    // Space comes back, as an operator makes it.
    mount_more(disk.path());
    let mut store = embedded(disk.path(), Durability::Always, here()).unwrap();
    assert!(store.proof().doubts.contains(&Doubt::WriteFailed), "{:?}", store.proof().doubts);
    let found = all(&mut store);
    assert!((1..=acknowledged).all(|number| found.contains_key(&RecordKey::Epoch(number))), "of {acknowledged}");
}

fn mount_more(path: &Path) {
    let done = std::process::Command::new("mount").args(["-o", "remount,size=400m"]).arg(path).status().unwrap();
    assert!(done.success());
}
