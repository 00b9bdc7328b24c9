//! Torn tails, flipped bits and missing files of an embedded store.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use replica::{Continuity, Found};
use store::{Doubt, Durability, Embedded, Store, StoreError};

use crate::ground::{all, embedded, group, here, whole_groups, write};

/// Segments of the log, oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut segments: Vec<_> = fs::read_dir(folder.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    segments
}

/// The only one.
fn segment(folder: &Path) -> PathBuf {
    let segments = segments(folder);
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments.into_iter().next().unwrap()
}

fn length(path: &Path) -> usize {
    usize::try_from(fs::metadata(path).unwrap().len()).unwrap()
}

fn reopen(folder: &Path) -> Embedded {
    embedded(folder, Durability::Everysec, here()).unwrap()
}

fn flip(path: &Path, at: usize) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
}

fn written(groups: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
    write(&mut store, 1..=groups);
    drop(store);
    folder
}

#[test]
fn a_torn_tail_that_was_never_acknowledged_is_cut() {
    let folder = written(10);
    let whole = length(&segment(folder.path()));
    let more = length(&segment(written(11).path()));
    for length in (whole..more).step_by(13) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = reopen(folder.path());
        write(&mut store, 1..=10);
        let head = fs::read(folder.path().join("ledger/head")).unwrap();
        write(&mut store, 11..=11);
        drop(store);
        // As if it had been killed while it wrote group 11: a beginning of it, and no acknowledgement.
        let file = fs::OpenOptions::new().write(true).open(segment(folder.path())).unwrap();
        file.set_len(length as u64).unwrap();
        fs::write(folder.path().join("ledger/head"), head).unwrap();
        let mut store = reopen(folder.path());
        assert_eq!(store.proof().doubts, Vec::<Doubt>::new(), "{length} bytes");
        assert_eq!(whole_groups(&mut store), 10);
        write(&mut store, 11..=11);
        drop(store);
        let mut store = reopen(folder.path());
        assert_eq!((whole_groups(&mut store), store.proof().continuity()), (11, Continuity::Proven));
    }
}

#[test]
fn an_acknowledged_tail_that_is_gone_is_noticed() {
    let folder = written(10);
    let path = segment(folder.path());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length(&path) as u64 - 5).unwrap();
    let mut store = reopen(folder.path());
    assert_eq!(store.proof().doubts, [Doubt::WentBack { found: 9, known: 10 }]);
    assert_eq!(whole_groups(&mut store), 9);
    assert_eq!(store.proof().sequence, 10, "numbers are not used twice");
    // Nor is the gap in the numbers taken for a loss later.
    write(&mut store, 10..=10);
    drop(store);
    let mut store = reopen(folder.path());
    assert_eq!((store.proof().doubts.clone(), store.proof().sequence), (Vec::new(), 11));
    write(&mut store, 11..=11);
    drop(store);
    let mut store = reopen(folder.path());
    assert_eq!((whole_groups(&mut store), store.proof().continuity()), (11, Continuity::Proven));
}

#[test]
fn a_flipped_bit_anywhere_in_the_log_is_damage_and_never_served() {
    let end = length(&segment(written(6).path()));
    for at in (0..end).step_by(9) {
        let folder = written(6);
        flip(&segment(folder.path()), at);
        let mut store = reopen(folder.path());
        let found = whole_groups(&mut store);
        assert!(found < 6, "byte {at}");
        let doubts = store.proof().doubts.clone();
        assert!(doubts.contains(&Doubt::WentBack { found, known: 6 }), "byte {at}: {doubts:?}");
        let is_kept = |doubt: &Doubt| matches!(doubt, Doubt::Damaged { kept: Some(kept), .. } if kept.exists());
        assert!(doubts.iter().any(is_kept), "byte {at}: {doubts:?}");
        write(&mut store, found + 1..=found + 1);
        drop(store);
        let mut store = reopen(folder.path());
        let after = (whole_groups(&mut store), store.proof().continuity());
        assert_eq!(after, (found + 1, Continuity::Proven), "byte {at}");
    }
}

/// Groups 1 to 15 in three segments, and a tree with the first ten: all files that were there at some time.
fn three_segments() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let mut kept: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for first in [1, 6, 11] {
        let mut store = reopen(folder.path());
        write(&mut store, first..=first + 4);
        drop(store);
        let path = segment(folder.path());
        kept.push((path.clone(), fs::read(&path).unwrap()));
    }
    for (path, bytes) in &kept {
        fs::write(path, bytes).unwrap();
    }
    (folder, kept.into_iter().map(|(path, _)| path).collect())
}

/// How many groups are there, and whether continuity is proven.
fn state(folder: &Path) -> (u64, Continuity) {
    let mut store = reopen(folder);
    (whole_groups(&mut store), store.proof().continuity())
}

#[test]
fn killed_before_a_checkpoint_or_between_it_and_the_deletion_of_its_log() {
    let (folder, _) = three_segments();
    assert_eq!(state(folder.path()), (15, Continuity::Proven), "the tree holds ten of them");
    assert_eq!(segments(folder.path()).len(), 1, "what the tree holds is deleted");
    let (folder, paths) = three_segments();
    fs::remove_file(&paths[0]).unwrap();
    assert_eq!(state(folder.path()), (15, Continuity::Proven), "one deletion had come through");
    let (folder, _) = three_segments();
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    assert_eq!(state(folder.path()), (15, Continuity::Proven), "no checkpoint had come through");
}

#[test]
fn damage_in_a_log_that_the_tree_holds_is_of_no_account() {
    for at in [3, 20, 39, 41, 50, 62, 70] {
        let (folder, paths) = three_segments();
        flip(&paths[0], at);
        flip(&paths[1], at);
        assert_eq!(state(folder.path()), (15, Continuity::Proven), "byte {at}");
    }
}

#[test]
fn damage_in_one_of_several_segments_ends_the_log_there() {
    for at in [3, 10, 17, 26, 39, 41, 47, 55, 62, 70] {
        let (folder, paths) = three_segments();
        fs::remove_dir_all(folder.path().join("records")).unwrap();
        flip(&paths[1], at);
        assert_eq!(state(folder.path()), (5, Continuity::NotProven), "byte {at}");
        let kept = fs::read_dir(folder.path().join("quarantine")).unwrap().count();
        assert_eq!(kept, 2, "the damaged segment and the one behind it");
    }
}

#[test]
fn a_segment_with_another_behind_it_has_no_torn_tail() {
    let (folder, paths) = three_segments();
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&paths[1]).unwrap();
    file.set_len(length(&paths[1]) as u64 - 1).unwrap();
    let mut store = reopen(folder.path());
    assert!(store.proof().doubts.iter().any(|doubt| matches!(doubt, Doubt::Damaged { .. })));
    assert_eq!((whole_groups(&mut store), store.proof().continuity()), (9, Continuity::NotProven));
}

#[test]
fn a_missing_segment_is_damage() {
    let (folder, paths) = three_segments();
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let mut store = reopen(folder.path());
    assert!(store.proof().doubts.iter().any(|doubt| matches!(doubt, Doubt::Damaged { .. })));
    assert_eq!((whole_groups(&mut store), store.proof().continuity()), (5, Continuity::NotProven));
    write(&mut store, 6..=6);
    drop(store);
    assert_eq!(state(folder.path()), (6, Continuity::Proven));
    // The last one: nothing stands behind it, and the ledger knows more.
    let (folder, paths) = three_segments();
    fs::remove_file(&paths[2]).unwrap();
    let mut store = reopen(folder.path());
    assert_eq!(store.proof().doubts, [Doubt::WentBack { found: 10, known: 15 }]);
    assert_eq!(whole_groups(&mut store), 10);
}

#[test]
fn a_log_without_the_tree_that_it_goes_on_from_is_not_taken_for_the_whole() {
    let (folder, paths) = three_segments();
    fs::remove_dir_all(folder.path().join("records")).unwrap();
    fs::remove_file(&paths[0]).unwrap();
    let mut store = reopen(folder.path());
    assert_eq!(store.proof().continuity(), Continuity::NotProven);
    let found = all(&mut store);
    assert!(found.values().any(|found| *found == Found::Damaged), "a node must hear that something is gone");
    assert_eq!(found.values().filter(|found| **found != Found::Damaged).count(), 21, "ten groups and the counter");
    // Heard once the node has made something of it, and not before.
    drop(store);
    let mut store = reopen(folder.path());
    assert!(all(&mut store).values().any(|found| *found == Found::Damaged));
    write(&mut store, 16..=16);
    drop(store);
    let mut store = reopen(folder.path());
    assert!(all(&mut store).values().all(|found| *found != Found::Damaged));
    assert_eq!(store.proof().continuity(), Continuity::Proven, "{:?}", store.proof().doubts);
}

#[test]
fn a_last_segment_that_was_only_just_made_is_no_damage() {
    let (folder, paths) = three_segments();
    let bytes = fs::read(&paths[2]).unwrap();
    for length in [0, 1, 39, 40] {
        let (folder, paths) = three_segments();
        fs::write(&paths[2], &bytes[..length]).unwrap();
        let mut store = reopen(folder.path());
        // The ledger knows of its groups; without, there would be no doubt at all.
        assert_eq!(store.proof().doubts, [Doubt::WentBack { found: 10, known: 15 }], "{length} bytes");
        assert_eq!(whole_groups(&mut store), 10);
    }
    drop(folder);
}

#[test]
fn the_file_of_the_format_guards_the_folder() {
    let folder = written(3);
    let path = folder.path().join("format");
    let text = fs::read(&path).unwrap();
    flip(&path, 7);
    let store = reopen(folder.path());
    assert_eq!(store.proof().continuity(), Continuity::NotProven);
    drop(store);
    assert_eq!(fs::read(&path).unwrap(), text, "it is written anew");
    fs::remove_file(&path).unwrap();
    let mut store = reopen(folder.path());
    assert_eq!((whole_groups(&mut store), store.proof().continuity()), (3, Continuity::NotProven));
    drop(store);
    // A folder of the format before this one had the database alone.
    fs::remove_file(&path).unwrap();
    fs::remove_dir_all(folder.path().join("log")).unwrap();
    let refused = embedded(folder.path(), Durability::Always, here()).err();
    assert!(matches!(refused, Some(StoreError::Format { .. })), "{refused:?}");
    assert!(!path.exists() && !folder.path().join("log").exists(), "nothing is touched");
}

#[test]
fn damaged_tables_are_set_aside_and_what_reads_is_kept() {
    // Enough for a checkpoint: some 40 MB.
    let folder = tempfile::tempdir().unwrap();
    let mut store = embedded(folder.path(), Durability::Everysec, here()).unwrap();
    let value = |number: u64| {
        let mut state = number;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..40_000).map(|_| next()).collect::<Vec<u8>>()
    };
    for number in 1..=1_000 {
        let mut group = group(number);
        group.records[0].value = Some(value(number));
        store.write(group).unwrap();
    }
    crate::ground::durable(&mut store, 1_000);
    Box::new(store).close().unwrap();
    let mut tables = Vec::new();
    files(&folder.path().join("records").join("keyspaces").join("1"), &mut tables);
    let table = tables.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let middle = fs::metadata(&table).unwrap().len() / 2;
    flip(&table, usize::try_from(middle).unwrap());
    let mut store = embedded(folder.path(), Durability::Everysec, here()).unwrap();
    assert_eq!(store.proof().continuity(), Continuity::NotProven);
    assert!(
        store
            .proof()
            .doubts
            .iter()
            .any(|doubt| matches!(doubt, Doubt::Damaged { kept: Some(kept), .. } if kept.exists()))
    );
    let found = all(&mut store);
    assert!(found.values().any(|found| *found == Found::Damaged), "a node must hear that something is gone");
    assert!(found.len() > 1_000, "only {} records are left", found.len());
    for number in 1..=1_000 {
        let there = found.get(&crate::ground::key(number, 0));
        assert!(there.is_none_or(|found| *found == Found::Intact(value(number))), "group {number} is served damaged");
    }
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

#[test]
fn a_database_that_does_not_open_is_set_aside() {
    let folder = written(5);
    fs::write(folder.path().join("records").join("version"), b"nothing that is known").unwrap();
    let mut store = reopen(folder.path());
    let doubts = store.proof().doubts.clone();
    assert!(doubts.iter().any(|doubt| matches!(doubt, Doubt::Damaged { .. })), "{doubts:?}");
    let found = all(&mut store);
    assert_eq!(found.values().filter(|found| **found == Found::Damaged).count(), 2, "nobody knows what it held");
    assert_eq!(found.len(), 13, "what the log holds is there");
    write(&mut store, 6..=6);
    drop(store);
    assert_eq!(state(folder.path()), (6, Continuity::Proven));
}
