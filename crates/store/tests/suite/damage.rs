//! Torn tails and flipped bits in the files of an embedded store.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use replica::{Continuity, Found};
use store::{Doubt, Durability, Store};

use crate::ground::{all, embedded, group, here, whole_groups, write};

fn journal(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder.join("records")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max().unwrap()
}

/// Length of the journal without the zeros behind it.
fn length(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
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
    let path = journal(folder.path());
    let end = length(&path);
    // The beginning of a batch, as a killed process leaves it.
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(end);
    let begin: Vec<u8> = bytes[..40.min(end)].to_vec();
    bytes.extend(begin);
    fs::write(&path, bytes).unwrap();
    let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
    assert_eq!(store.proof().continuity(), Continuity::Proven, "{:?}", store.proof().doubts);
    assert_eq!(whole_groups(&mut store), 10);
    write(&mut store, 11..=11);
    drop(store);
    assert_eq!(whole_groups(&mut embedded(folder.path(), Durability::Always, here()).unwrap()), 11);
}

#[test]
fn an_acknowledged_tail_that_is_gone_is_noticed() {
    let folder = written(10);
    let path = journal(folder.path());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length(&path) as u64 - 5).unwrap();
    let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
    assert_eq!(store.proof().doubts, [Doubt::WentBack { found: 9, known: 10 }]);
    assert_eq!(whole_groups(&mut store), 9);
    assert_eq!(store.proof().sequence, 10, "numbers are not used twice");
}

#[test]
fn a_flipped_bit_anywhere_in_the_journal_is_never_served() {
    let end = length(&journal(written(6).path()));
    for at in (0..end).step_by(17) {
        let folder = written(6);
        flip(&journal(folder.path()), at);
        let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
        let found = whole_groups(&mut store);
        let proof = store.proof();
        assert!(found == 6 || proof.continuity() == Continuity::NotProven, "byte {at}: {found} groups, {proof:?}");
        write(&mut store, found + 1..=found + 1);
        drop(store);
        let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
        assert_eq!(
            (whole_groups(&mut store), store.proof().continuity()),
            (found + 1, Continuity::Proven),
            "byte {at}"
        );
    }
}

#[test]
fn damaged_tables_are_set_aside_and_what_reads_is_kept() {
    // Enough to be written out of the memtable: some 40 MB.
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
    let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
    let doubts = store.proof().doubts.clone();
    assert!(doubts.iter().any(|doubt| matches!(doubt, Doubt::Damaged { .. })), "{doubts:?}");
    assert!(all(&mut store).values().all(|found| *found == Found::Damaged));
    write(&mut store, 1..=1);
    drop(store);
    let mut store = embedded(folder.path(), Durability::Always, here()).unwrap();
    assert_eq!((whole_groups(&mut store), store.proof().continuity()), (1, Continuity::Proven));
}
