//! Many objects through encoded batches: whatever the way and the internal order, equal vectors are equal
//! keyspaces.

use std::collections::BTreeMap;

use crdt::change::{MAC_BYTES, seal};
use crdt::{Batch, BatchId, Content, Dot, Envelope, Fingerprint, Key, Object, ReplicaId};
use proptest::prelude::*;

use crate::harness::{Step, hold_for, place, steps_of};
use crate::keyspace_nodes::{Cluster, Digest, KeyIntent, Site};

/// Runs the steps, then delivers everything; compares every digest with any before it at the same vector.
fn run(steps: &[Step<KeyIntent>]) -> Cluster {
    let mut known: BTreeMap<Vec<(ReplicaId, u64)>, Digest> = BTreeMap::new();
    let mut cluster = Cluster::new();
    let mut compare = |cluster: &Cluster, at: usize| {
        let site = &cluster.sites[at];
        let now = site.digest();
        let before = known.entry(site.applied.iter().collect()).or_insert_with(|| now.clone());
        assert_eq!(now, *before, "site {at} at {:?}", site.applied);
    };
    for step in steps {
        if let Some(at) = cluster.run(step) {
            compare(&cluster, at);
        }
    }
    while let Some(at) = (0..cluster.sites.len()).find_map(|to| cluster.deliver(to, 0)) {
        compare(&cluster, at);
    }
    cluster
}

fn digests_follow_vectors(steps: &[Step<KeyIntent>]) {
    let cluster = run(steps);
    let digest = cluster.sites[0].digest();
    assert!(cluster.sites.iter().all(|site| site.digest() == digest), "everybody has everything");
}

fn loading_gives_the_same_keyspace(steps: &[Step<KeyIntent>]) {
    let mut cluster = run(steps);
    let digest = cluster.sites[0].digest();
    let mut loaded = digest.load();
    assert_eq!(Digest::of(&loaded), digest);
    // What was loaded goes on like what was lived through.
    cluster.sites[0].keyspace = loaded.clone();
    for step in steps {
        cluster.run(step);
    }
    while (0..cluster.sites.len()).any(|to| cluster.deliver(to, 0).is_some()) {}
    assert_eq!(cluster.sites[0].digest(), cluster.sites[1].digest());
    for key in loaded.keys().collect::<Vec<_>>() {
        loaded.remove(&key);
    }
    assert!(loaded.is_empty());
    assert_eq!(loaded.fingerprint(), Fingerprint::default());
}

/// Forgetting and collecting keeps the figures true and the fingerprint as it is.
fn cleaning_keeps_what_is_shown(steps: &[Step<KeyIntent>]) {
    let mut keyspace = run(steps).sites[0].keyspace.clone();
    let before = keyspace.fingerprint();
    for key in keyspace.journaled().collect::<Vec<_>>() {
        let journal = keyspace.object(&key).map_or(Vec::new(), |object| object.journal());
        for entry in journal {
            let entries = keyspace.journal_entries();
            let gone = keyspace.forget(&key, &entry.path, entry.dot);
            assert_eq!(keyspace.journal_entries() < entries, gone, "{key:?} {entry:?}");
        }
    }
    for key in keyspace.keys().collect::<Vec<_>>() {
        keyspace.collect(&key);
        assert_eq!(keyspace.collect(&key), 0, "a second collection finds nothing");
    }
    Digest::of(&keyspace);
    assert_eq!(keyspace.fingerprint(), before);
}

/// Whatever still decodes has one meaning, and does no harm to the figures or to the objects' bytes.
fn damaged_batches_do_no_harm(steps: &[Step<KeyIntent>]) {
    let cluster = run(steps);
    for bytes in &cluster.batches {
        for at in 0..bytes.len() - MAC_BYTES {
            for mask in [1, 0x20, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                let parsed = Envelope::parse(&damaged);
                let Ok(batch) = parsed.and_then(|envelope| envelope.to_batch()) else { continue };
                let again = seal(batch.to_signed_bytes(3), [7; MAC_BYTES]);
                assert_eq!(Envelope::parse(&again).and_then(|envelope| envelope.to_batch()).as_ref(), Ok(&batch));
                apply_next(&cluster.sites[0], &batch);
            }
        }
    }
}

/// Applies each change as if it came next from its writer.
fn apply_next(site: &Site, batch: &Batch) {
    let BatchId { replica, seq } = batch.header.id;
    let seq = seq.max(site.applied.seq(replica) + 1);
    for (index, change) in batch.changes.iter().enumerate() {
        let (Some(key), Content::Op(op)) = (Key::of_change(change), &change.content) else { continue };
        let dot = Dot::new(replica, seq, index as u32);
        let mut object = site.keyspace.object(&key).map_or(Object::new(key.kind), |object| object.into_owned());
        let mut tally = object.tally(place());
        // A refused overflow is a fine answer.
        let _ = object.apply(dot, change.stamp, &change.path[1..], op, place(), &mut tally);
        assert_eq!(tally, object.tally(place()), "figures after {change:?}");
        assert_eq!(Object::from_bytes(key.kind, &object.to_bytes()), Ok(object), "bytes after {change:?}");
    }
}

fn hold(cases: u32, most: usize, law: fn(&[Step<KeyIntent>])) {
    hold_for(cases, &steps_of(KeyIntent::any().boxed(), most), |steps| law(&steps));
}

#[test]
fn equal_vectors_are_equal_keyspaces() {
    hold(80, 40, digests_follow_vectors);
}

#[test]
fn long_runs_move_and_compact_records() {
    hold(3, 600, digests_follow_vectors);
}

#[test]
fn a_loaded_keyspace_is_the_same() {
    hold(40, 40, loading_gives_the_same_keyspace);
}

#[test]
fn damaged_batches_are_refused_or_harmless() {
    hold(8, 12, damaged_batches_do_no_harm);
}

#[test]
fn cleaning_keeps_the_figures_true() {
    hold(40, 40, cleaning_keeps_what_is_shown);
}
