//! A copy of everything while groups are written: one moment, groups whole, and a store again.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use store::{
    ArchiveError, ArchiveReader, Doubt, Durability, RedisTarget, RedisTls, Store, StoreError, import_embedded,
    import_redis, write_archive,
};

use crate::ground::{EmbeddedGround, Ground, MemoryGround, RedisGround, all, group, whole_groups, write};

/// Groups that are there before.
const BEFORE: u64 = 400;

/// Writes an archive on another thread while `between` goes on here.
fn archive(store: &mut dyn Store, path: &Path, mut between: impl FnMut(&mut dyn Store)) {
    let copying = store.copy().unwrap();
    let path = path.to_owned();
    let writer = thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        write_archive(&mut file, copying, &mut |_| true).unwrap()
    });
    while !writer.is_finished() {
        between(store);
    }
    assert!(writer.join().unwrap().pairs > BEFORE);
}

fn read(path: &Path) -> ArchiveReader<BufReader<File>> {
    ArchiveReader::new(BufReader::new(File::open(path).unwrap())).unwrap()
}

/// A store made of an archive: it must hold whole groups up to one between the two.
fn check(path: &Path, least: u64, most: u64) {
    let folder = EmbeddedGround::new(Durability::Always);
    let state = folder.folder.path().join("state");
    import_embedded(&state, &mut read(path)).unwrap();
    let again = import_embedded(&state, &mut read(path));
    assert!(matches!(again, Err(ArchiveError::Store(StoreError::Occupied { .. }))));
    let mut store = crate::ground::embedded(&state, Durability::Always, crate::ground::here()).unwrap();
    assert_eq!(store.proof().doubts, [Doubt::NoLedger], "the node takes a new replica id");
    let found = whole_groups(&mut store);
    assert!((least..=most).contains(&found), "{found} of {least} to {most}");
}

/// The whole of it on one medium.
fn under_writes(mut ground: impl Ground) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=BEFORE);
    let mut last = BEFORE;
    archive(&mut *store, &path, |store| {
        last += 1;
        write(store, last..=last);
    });
    check(&path, BEFORE, last);
    write(&mut *store, last + 1..=last + 5);
    store.close().unwrap();
    assert_eq!(whole_groups(&mut *ground.open().unwrap()), last + 5, "the store is none the worse for it");
    (folder, path)
}

#[test]
fn memory_is_copied_under_writes() {
    under_writes(MemoryGround::default());
}

#[test]
fn the_embedded_store_is_copied_under_writes() {
    under_writes(EmbeddedGround::new(Durability::Everysec));
}

#[test]
fn redis_is_copied_under_writes_and_brought_back() {
    let (_folder, path) = under_writes(RedisGround::new());
    let mut other = RedisGround::new();
    let target = RedisTarget { url: other.server.url(), tls: RedisTls::default(), prefix: "node_01".to_owned() };
    import_redis(&target, &mut read(&path)).unwrap();
    let again = import_redis(&target, &mut read(&path));
    assert!(matches!(again, Err(ArchiveError::Store(StoreError::Occupied { .. }))));
    let mut store = other.open().unwrap();
    assert_eq!(store.proof().doubts, [Doubt::NoLedger]);
    assert!(whole_groups(&mut *store) >= BEFORE);
}

#[test]
fn a_damaged_archive_leaves_nothing_in_redis() {
    let (_folder, path) = under_writes(MemoryGround::default());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 40;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let ground = RedisGround::new();
    let target = RedisTarget { url: ground.server.url(), tls: RedisTls::default(), prefix: "node_01".to_owned() };
    let damaged = import_redis(&target, &mut read(&path));
    assert!(matches!(damaged, Err(ArchiveError::Damaged { .. })), "{damaged:?}");
    let keys: i64 = redis::cmd("DBSIZE").query(&mut ground.server.connection()).unwrap();
    assert_eq!(keys, 0);
}

#[test]
fn a_copy_that_nobody_reads_holds_up_no_write_and_no_end() {
    for mut ground in
        [Box::new(EmbeddedGround::new(Durability::Everysec)) as Box<dyn Ground>, Box::new(RedisGround::new())]
    {
        let mut store = ground.open().unwrap();
        write(&mut *store, 1..=3);
        let mut copying = store.copy().unwrap();
        let first = copying.next().unwrap().unwrap();
        write(&mut *store, 4..=50);
        drop(copying);
        write(&mut *store, 51..=60);
        let late = store.copy().unwrap();
        store.close().unwrap();
        drop(first);
        let begun = Instant::now();
        // Either it had begun before the end, or it is told that there was one.
        let outcome: Result<Vec<_>, _> = late.collect();
        assert!(begun.elapsed() < Duration::from_secs(20));
        if let Err(error) = outcome {
            assert!(matches!(error, StoreError::Closed), "{error:?}");
        }
        assert_eq!(all(&mut *ground.open().unwrap()).len(), 121);
    }
}

#[test]
fn more_writes_than_can_wait_end_the_copy_and_not_the_store() {
    let mut ground = RedisGround::new();
    let mut store = ground.open().unwrap();
    write(&mut *store, 1..=2);
    let mut copying = store.copy().unwrap();
    assert!(copying.next().unwrap().is_ok());
    for number in 3..=12 {
        let mut large = group(number);
        for record in &mut large.records {
            if record.key != replica::RecordKey::Epoch(0) {
                record.value = Some(vec![7; 4 << 20]);
            }
        }
        store.write(large).unwrap();
        crate::ground::durable(&mut *store, number);
    }
    assert!(matches!(copying.next(), Some(Err(StoreError::CopyTooSlow { .. }))));
    assert!(copying.next().is_none());
    assert_eq!(store.failure(), None);
}
