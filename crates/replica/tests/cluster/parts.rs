//! Sets and maps are stored in parts: one write costs what it changes, however much is there.

use std::collections::BTreeMap;

use crdt::{BatchId, Kind, Name, Namespace, Value};
use replica::{Action, Continuity, Intent, Limits, RecordKey};

use crate::harness::{Cluster, name};

const MEMBERS: usize = 20_000;
/// Members of one command.
const TOGETHER: usize = 1_000;

fn commit(cluster: &mut Cluster, path: &[&str], action: Action) -> BatchId {
    let path: Vec<Name> = path.iter().map(|part| part.as_bytes().into()).collect();
    let intent = Intent { namespace: Namespace(0), path, action };
    let batch =
        cluster.nodes.get_mut(&name(0)).expect("known").commit(cluster.now, &[intent]).expect("it takes writes");
    cluster.settle();
    batch
}

fn member(number: usize) -> Name {
    format!("member {number}").into_bytes().into()
}

fn fill_set(cluster: &mut Cluster) {
    for first in (0..MEMBERS).step_by(TOGETHER) {
        commit(cluster, &["set"], Action::Add((first..first + TOGETHER).map(member).collect()));
    }
}

fn set_field(cluster: &mut Cluster, number: usize, value: &str) {
    commit(cluster, &["map", &format!("field {number}")], Action::Set(Value::from(value)));
}

fn parts(cluster: &Cluster, node: usize) -> usize {
    cluster.disks[&name(node)].keys().filter(|key| matches!(key, RecordKey::Part(..))).count()
}

/// Bytes of the records that a write has left, beside those of its batch.
fn stored_by(cluster: &mut Cluster, node: usize, write: impl FnOnce(&mut Cluster)) -> usize {
    let before: BTreeMap<_, _> = cluster.disks[&name(node)].clone().into_iter().collect();
    write(cluster);
    let changed = cluster.disks[&name(node)].iter().filter(|(key, bytes)| before.get(*key) != Some(*bytes));
    changed.map(|(key, bytes)| key.to_bytes().len() + bytes.len()).sum()
}

#[test]
fn one_more_in_a_large_set_or_map_is_stored_alone() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(1_000);
    fill_set(&mut cluster);
    (0..2_000).for_each(|number| set_field(&mut cluster, number, "v"));
    cluster.run(20_000);
    for node in [0, 1] {
        assert_eq!(parts(&cluster, node), MEMBERS + 2_000 + node);
        let added = stored_by(&mut cluster, node, |cluster| {
            commit(cluster, &["set"], Action::Add(vec![member(MEMBERS + node)]));
        });
        let changed = stored_by(&mut cluster, node, |cluster| set_field(cluster, 7, &format!("by {node}")));
        assert!(added < 2_000 && changed < 2_000, "node {node}: {added} and {changed} bytes");
    }
    cluster.run(20_000);
    cluster.assert_converged();
    let shown = cluster.nodes[&name(0)].keyspace().fingerprint();
    [0, 1].into_iter().for_each(|node| cluster.open(node, Continuity::Proven));
    cluster.run(20_000);
    cluster.assert_converged();
    assert_eq!(cluster.nodes[&name(0)].keyspace().fingerprint(), shown, "what was stored is what was there");
    assert_eq!(cluster.nodes[&name(0)].keyspace().recount().fingerprint, shown);
}

#[test]
fn nothing_is_left_of_what_was_removed() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(1_000);
    fill_set(&mut cluster);
    (0..100).for_each(|number| set_field(&mut cluster, number, "v"));
    commit(&mut cluster, &["map", "counter"], Action::Increment(5));
    commit(&mut cluster, &["set"], Action::Discard((0..10).map(member).collect()));
    assert_eq!(parts(&cluster, 1), MEMBERS - 10 + 101);
    commit(&mut cluster, &["set"], Action::Remove(Kind::Set));
    commit(&mut cluster, &["map"], Action::Remove(Kind::Map));
    // The removed sum waits until it is stable, and is collected.
    cluster.run(60_000);
    assert_eq!((parts(&cluster, 0), parts(&cluster, 1)), (0, 0));
    cluster.open(1, Continuity::Proven);
    cluster.run(20_000);
    cluster.assert_converged();
}

/// By snapshot, joined: parts that came, parts that went.
#[test]
fn a_snapshot_changes_the_parts_that_differ() {
    let limits = Limits { log_bytes_max: 4_000, ..Limits::default() };
    let mut cluster = Cluster::new(2, limits);
    cluster.run(1_000);
    commit(&mut cluster, &["set"], Action::Add((0..300).map(member).collect()));
    cluster.run(5_000);
    cluster.link("node_00", "node_01", false);
    for first in (0..200).step_by(10) {
        commit(&mut cluster, &["set"], Action::Discard((first..first + 10).map(member).collect()));
        commit(&mut cluster, &["set"], Action::Add((first..first + 10).map(|number| member(1_000 + number)).collect()));
    }
    cluster.run(20_000);
    cluster.link("node_00", "node_01", true);
    cluster.run(30_000);
    assert!(
        cluster.reports.iter().any(|(_, report)| matches!(
            report,
            replica::Report::SnapshotInstalled { how: replica::Installed::Joined }
        )),
        "{:?}",
        cluster.reports
    );
    assert_eq!((parts(&cluster, 0), parts(&cluster, 1)), (300, 300));
    cluster.open(1, Continuity::Proven);
    cluster.run(20_000);
    cluster.assert_converged();
}

#[test]
fn a_damaged_part_is_fetched_from_a_peer() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(1_000);
    commit(&mut cluster, &["set"], Action::Add((0..300).map(member).collect()));
    cluster.run(5_000);
    let key = crdt::Key::new(Namespace(0), Kind::Set, "set").to_bytes();
    let damaged = RecordKey::Part(key, member(7).to_vec());
    assert!(cluster.disks[&name(1)].contains_key(&damaged));
    cluster.rotten.insert(damaged);
    cluster.open(1, Continuity::Proven);
    cluster.rotten.clear();
    cluster.run(20_000);
    let reported = |(node, report): &(String, _)| {
        *node == name(1) && matches!(report, replica::Report::StoreCorrupt { records: 1 })
    };
    assert!(cluster.reports.iter().any(reported), "{:?}", cluster.reports);
    assert_eq!(parts(&cluster, 1), 300);
    cluster.assert_converged();
}
