//! A full disk: a small tmpfs, which only root can mount.

use std::path::Path;

use replica::{Found, Record, RecordKey, Ticket, WriteGroup};
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
    // The log fills it up before the first checkpoint.
    fill(c"size=20m");
}

#[test]
fn a_disk_that_is_full_for_the_tree_stops_the_store_too() {
    // The log has room for what is beyond a checkpoint, and the tree has none for the checkpoint.
    fill(c"size=36m");
}

fn fill(options: &core::ffi::CStr) {
    // The database's own journal is a sparse file of 64 MiB: what is written counts.
    let Some(disk) = Tmpfs::new(options) else { return };
    let mut store = embedded(disk.path(), Durability::Always, here()).unwrap();
    let group = |number: u64| {
        let record = Record { key: RecordKey::Epoch(number), value: Some(noise(number)) };
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
    let error = error.expect("36 MiB do not hold 100 MB");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(matches!(store.write(group(2_000)), Err(StoreError::Refused { .. })));
    drop(store);
    // Space comes back, as an operator makes it.
    mount_more(disk.path());
    let mut store = embedded(disk.path(), Durability::Always, here()).unwrap();
    assert!(store.proof().doubts.contains(&Doubt::WriteFailed), "{:?}", store.proof().doubts);
    let found = all(&mut store);
    let is_there = |number: u64| found.get(&RecordKey::Epoch(number)) == Some(&Found::Intact(noise(number)));
    assert!((1..=acknowledged).all(is_there), "of {acknowledged}");
    let next = acknowledged + 1;
    store.write(group(next)).unwrap();
    crate::ground::durable(&mut store, next);
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..100_000).map(|_| next()).collect()
}

fn mount_more(path: &Path) {
    let done = std::process::Command::new("mount").args(["-o", "remount,size=400m"]).arg(path).status().unwrap();
    assert!(done.success());
}
