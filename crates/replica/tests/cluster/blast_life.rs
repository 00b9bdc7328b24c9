//! What happens to a hold: restarts, damage, joiners, a full log, and a second one behind it.

use crdt::{Kind, Namespace};
use replica::{BlastEnd, Continuity, HeldError, Installed, Limits, RecordKey, Report};

use crate::blast::{HOLD_MS, KEYS, count, discard, ended, filled, held, limits, release, set_all};
use crate::harness::{Cluster, name};

#[test]
fn a_hold_survives_a_restart() {
    for (continuity, discards) in
        [(Continuity::Proven, false), (Continuity::NotProven, true), (Continuity::Proven, true)]
    {
        let mut cluster = filled(2, 2);
        let batch = set_all(&mut cluster, 0, "bad");
        cluster.run(60_000);
        let before = held(&cluster);
        let preimage_bytes = cluster.nodes[&name(0)].gauges().blast_preimage_bytes;
        assert!(preimage_bytes > 0);
        cluster.open(0, continuity);
        cluster.run(3_000);
        cluster.set(0, "after", "waits");
        cluster.run(60_000);
        let after = held(&cluster);
        assert_eq!((after.len(), after[0].0, after[0].1.until_mono_ms), (1, batch, before[0].1.until_mono_ms));
        assert_eq!(after[0].1.waiting, 2, "also what is written under a new replica id");
        assert_eq!(cluster.nodes[&name(0)].gauges().blast_preimage_bytes, preimage_bytes);
        assert_eq!((count(&cluster, 1, "old"), cluster.shown(1, "after")), (KEYS, None));
        let expected = if discards {
            assert_eq!(discard(&mut cluster, batch), Ok(()));
            "old"
        } else {
            assert_eq!(release(&mut cluster, batch), Ok(()));
            "bad"
        };
        assert_eq!(held(&cluster), []);
        cluster.run(20_000);
        for index in 0..2 {
            assert_eq!(count(&cluster, index, expected), KEYS, "{continuity:?}");
            assert_eq!(cluster.shown(index, "after"), Some("waits".into()));
        }
        cluster.assert_converged();
    }
}

/// A node that was down for the rest of the time, and one whose records rotted.
#[test]
fn a_restart_finds_what_is_left_of_a_hold() {
    let mut cluster = filled(2, 2);
    let batch = set_all(&mut cluster, 0, "bad");
    let peer_keeps = |cluster: &Cluster| count(cluster, 1, "old") == KEYS;
    // A damaged record, and a damaged part of what was before: it is held all the same, and cannot be discarded.
    for rotten in [RecordKey::Preimage(batch, 0), RecordKey::Brake(batch)] {
        cluster.rotten.insert(rotten);
        cluster.open(0, Continuity::Proven);
        cluster.rotten.clear();
        cluster.run(3_000);
        let (id, view) = held(&cluster).remove(0);
        assert_eq!((id, view.batches, view.refusal), (batch, 1, Some(HeldError::Lost)));
        assert_eq!(discard(&mut cluster, batch), Err(HeldError::Lost));
        assert!(peer_keeps(&cluster));
    }
    cluster.now.wall_ms += HOLD_MS;
    cluster.now.mono_ms += HOLD_MS;
    cluster.open(0, Continuity::Proven);
    cluster.run(20_000);
    assert_eq!(ended(&cluster), [(batch, BlastEnd::Expired)]);
    assert_eq!(count(&cluster, 1, "bad"), KEYS);
    cluster.assert_converged();
}

/// The state rots while a commit is held. It can only be replaced by what others have, so they get all of it.
#[test]
fn a_damaged_state_ends_a_hold() {
    let mut cluster = filled(2, 2);
    let batch = set_all(&mut cluster, 0, "bad");
    cluster.run(3_000);
    cluster.rotten.insert(RecordKey::Object(crdt::Key::new(Namespace(0), Kind::Register, "k7").to_bytes()));
    cluster.open(0, Continuity::Proven);
    cluster.run(20_000);
    assert_eq!(ended(&cluster), [(batch, BlastEnd::StateDamaged)]);
    assert!(cluster.reports.contains(&(name(0), Report::SnapshotInstalled { how: Installed::Replaced })));
    for index in 0..2 {
        assert_eq!(count(&cluster, index, "bad"), KEYS);
    }
    cluster.assert_converged();
}

/// A store comes back from while a commit was held that was released since. What a member has is held from nobody.
#[test]
fn a_hold_that_came_back_with_its_store_ends() {
    let mut cluster = filled(2, 2);
    let batch = set_all(&mut cluster, 0, "bad");
    cluster.run(1_000);
    let disk = cluster.disks[&name(0)].clone();
    assert_eq!(release(&mut cluster, batch), Ok(()));
    cluster.run(3_000);
    cluster.disks.insert(name(0), disk);
    cluster.open(0, Continuity::NotProven);
    cluster.run(3_000);
    assert_eq!(ended(&cluster), [(batch, BlastEnd::Released), (batch, BlastEnd::Known)]);
    cluster.set(0, "after", "flows");
    assert_eq!(cluster.shown(1, "after"), Some("flows".into()));
    cluster.run(20_000);
    cluster.assert_converged();
}

#[test]
fn who_joins_while_something_is_held_gets_what_was_before() {
    let mut cluster = filled(2, 1);
    let batch = set_all(&mut cluster, 0, "bad");
    cluster.open(1, Continuity::Proven);
    cluster.run(20_000);
    assert_eq!(count(&cluster, 1, "old"), KEYS);
    cluster.set(1, "k1", "of the newcomer");
    assert_eq!(discard(&mut cluster, batch), Ok(()));
    cluster.run(20_000);
    for index in 0..2 {
        assert_eq!(count(&cluster, index, "old"), KEYS - 1);
    }
    cluster.assert_converged();
}

/// The only donor's log is cut, so the newcomer needs a snapshot, and the state holds what must not be sent.
#[test]
fn no_snapshot_is_given_while_something_is_held() {
    let limits = Limits { log_bytes_max: 20_000, ..limits() };
    let mut cluster = Cluster::with_opened(2, 1, limits, None);
    cluster.run(3_000);
    for round in 0..500 {
        cluster.set(0, "k", &format!("round {round}"));
    }
    set_all(&mut cluster, 0, "old");
    cluster.run(1_000);
    let batch = set_all(&mut cluster, 0, "bad");
    cluster.open(1, Continuity::Proven);
    cluster.run(60_000);
    let installed = (name(1), Report::SnapshotInstalled { how: Installed::AsItCame });
    assert!(!cluster.reports.contains(&installed));
    assert_eq!((cluster.shown(1, "k"), count(&cluster, 1, "bad")), (None, 0));
    assert_eq!(release(&mut cluster, batch), Ok(()));
    cluster.run(20_000);
    assert!(cluster.reports.contains(&installed), "{:?}", cluster.reports);
    assert_eq!(count(&cluster, 1, "bad"), KEYS);
    cluster.assert_converged();
}

/// A full log ends a hold: it could not be cut.
#[test]
fn a_hold_does_not_fill_the_memory() {
    const CAP: usize = 20_000;
    let mut cluster = Cluster::new(2, Limits { log_bytes_max: CAP, ..limits() });
    cluster.run(3_000);
    set_all(&mut cluster, 0, "old");
    let batch = set_all(&mut cluster, 0, "bad");
    let mut most = 0;
    for round in 0..1_000 {
        cluster.set(0, "k", &format!("round {round}"));
        most = most.max(cluster.nodes[&name(0)].gauges().log_bytes);
        cluster.now.mono_ms += 10;
    }
    assert_eq!(ended(&cluster), [(batch, BlastEnd::LogFull)]);
    assert!(most > CAP && most < CAP * 5 / 2, "{most}");
    cluster.run(20_000);
    assert!(cluster.nodes[&name(0)].gauges().log_bytes <= CAP);
    assert_eq!(count(&cluster, 1, "bad"), KEYS);
    cluster.assert_converged();
}

#[test]
fn a_second_blast_waits_behind_the_first() {
    // Both are discarded, in either order; or one of them is released.
    for (first, second) in
        [("discard", "discard"), ("discard", "release"), ("release", "discard"), ("release", "release")]
    {
        for second_comes_first in [false, true] {
            let mut cluster = filled(2, 2);
            let one = set_all(&mut cluster, 0, "bad");
            cluster.run(60_000);
            let two = set_all(&mut cluster, 0, "worse");
            assert_eq!(held(&cluster).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [one, two]);
            let mut acts = vec![(one, first), (two, second)];
            if second_comes_first {
                acts.reverse();
            }
            for (at, (id, act)) in acts.into_iter().enumerate() {
                let done = if act == "discard" { discard(&mut cluster, id) } else { release(&mut cluster, id) };
                assert_eq!(done, Ok(()), "{first} {second} {second_comes_first}");
                let is_out = count(&cluster, 1, "old") < KEYS;
                let may_be_out = at == 1 || (id == one && first == "release");
                assert!(may_be_out || !is_out, "{first} {second} {second_comes_first}: nothing goes before its undo");
                if at == 0 && second_comes_first {
                    cluster.open(0, Continuity::Proven);
                    cluster.run(3_000);
                }
            }
            assert_eq!(held(&cluster), []);
            cluster.run(20_000);
            let expected = match (first, second) {
                (_, "release") => "worse",
                ("release", _) => "bad",
                _ => "old",
            };
            for index in 0..2 {
                let counts = ["old", "bad", "worse"].map(|value| count(&cluster, index, value));
                assert_eq!(count(&cluster, index, expected), KEYS, "{first} {second} {second_comes_first}: {counts:?}");
            }
            cluster.assert_converged();
        }
    }
}
