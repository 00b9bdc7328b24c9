//! What a reader tries first, and what once went wrong.

use std::collections::BTreeMap;

use crdt::{Kind, Namespace, Value};
use replica::host::{RowId, RowImage, Schema, Table};
use replica::{Action, Continuity, Installed, Intent, Limits, RecordKey};

use crate::harness::{Cluster, name};

#[test]
fn a_write_reaches_everybody_at_once() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.run(3_000);
    cluster.set(0, "k", "v");
    for index in 0..3 {
        assert_eq!(cluster.shown(index, "k"), Some("v".into()));
    }
    cluster.assert_converged();
}

#[test]
fn writes_on_both_sides_of_a_cut_meet_and_the_loser_is_journaled() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.set(0, "k", "old");
    cluster.link("node_00", "node_01", false);
    for round in 0..50 {
        cluster.set(0, "k", &format!("left{round}"));
        cluster.set(1, "k", &format!("right{round}"));
    }
    cluster.link("node_00", "node_01", true);
    cluster.run(5_000);
    cluster.assert_converged();
    assert_eq!(cluster.nodes[&name(0)].journal().len(), 1);
}

#[test]
fn a_node_behind_the_log_floor_joins_a_snapshot_and_keeps_its_own_writes() {
    let limits = Limits { log_bytes_max: 4_000, chunk_bytes_max: 2_000, ..Limits::default() };
    let mut cluster = Cluster::new(3, limits);
    cluster.run(2_000);
    cluster.link("node_00", "node_02", false);
    cluster.link("node_01", "node_02", false);
    for round in 0..200 {
        cluster.set(0, &format!("k{round}"), "v");
    }
    cluster.set(2, "own", "kept");
    cluster.run(20_000);
    cluster.link("node_00", "node_02", true);
    cluster.link("node_01", "node_02", true);
    cluster.run(20_000);
    let installed =
        |(_, report): &(String, replica::Report)| matches!(report, replica::Report::SnapshotInstalled { .. });
    assert!(cluster.reports.iter().any(installed), "{:?}", cluster.reports);
    assert_eq!(cluster.shown(2, "k7"), Some("v".into()));
    assert_eq!(cluster.shown(0, "own"), Some("kept".into()));
    cluster.assert_converged();
}

#[test]
fn a_restarted_node_goes_on_where_it_was() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.set(1, "a", "1");
    cluster.open(1, Continuity::Proven);
    cluster.set(1, "a", "2");
    let replica = cluster.nodes[&name(1)].replica();
    cluster.open(1, Continuity::NotProven);
    assert_ne!(cluster.nodes[&name(1)].replica(), replica, "continuity was not proven");
    cluster.set(1, "a", "3");
    cluster.run(5_000);
    cluster.assert_converged();
    assert_eq!(cluster.shown(2, "a"), Some("3".into()));
    assert_eq!(cluster.nodes[&name(0)].journal().len(), 0);
}

#[test]
fn the_log_is_cut_once_everybody_has_it() {
    let mut cluster = Cluster::new(3, Limits::default());
    for round in 0..20 {
        cluster.set(round % 3, "k", &round.to_string());
    }
    cluster.run(60_000);
    for node in cluster.nodes.values() {
        assert_eq!(node.gauges().log_batches, 0);
        assert_eq!(*node.stable(), *node.applied());
    }
}

/// Two removals in one map: everybody has the first one; the second one came to node 1 by a snapshot, and node 0, which
/// has not heard of it, counts on. Node 1 collected what the second had removed as soon as the first was stable, and
/// node 0's snapshot brought it back.
#[test]
fn what_a_snapshot_removed_waits_for_its_own_stability() {
    const BY_BATCH: [&str; 2] = ["map", "removed in a batch"];
    const BY_SNAPSHOT: [&str; 2] = ["map", "removed in a snapshot"];
    let mut cluster = Cluster::new(3, Limits { log_bytes_max: 4_000, ..Limits::default() });
    cluster.run(1_000);
    cluster.act(1, BY_BATCH, Action::Grow(1));
    cluster.act(0, BY_SNAPSHOT, Action::Grow(16));
    cluster.link("node_00", "node_02", false);
    cluster.link("node_01", "node_02", false);
    let first = cluster.act(1, BY_BATCH, Action::Remove(Kind::GCounter));
    let second = cluster.act(2, BY_SNAPSHOT, Action::Remove(Kind::GCounter));
    for round in 0..200 {
        cluster.set(2, &format!("left{round}"), "v");
    }
    // Past the collection that cuts node 2's log; the next one cuts node 0's.
    cluster.run(5_000);
    cluster.link("node_00", "node_01", false);
    cluster.act(0, BY_SNAPSHOT, Action::Grow(4));
    for round in 0..200 {
        cluster.set(0, &format!("right{round}"), "v");
    }
    cluster.link("node_01", "node_02", true);
    cluster.run(5_000);
    let installed = (name(1), replica::Report::SnapshotInstalled { how: Installed::Joined });
    assert!(cluster.reports.contains(&installed), "{:?}", cluster.reports);
    let stable = cluster.nodes[&name(1)].stable();
    assert!(stable.contains(first) && !stable.contains(second), "{stable:?}");
    cluster.link("node_00", "node_01", true);
    cluster.run(5_000);
    cluster.link("node_00", "node_02", true);
    cluster.run(60_000);
    for index in 0..3 {
        assert_eq!(cluster.count(index, BY_SNAPSHOT), Some(4), "node {index}");
        assert_eq!(cluster.nodes[&name(index)].gauges().remains, 0, "node {index}");
    }
    cluster.assert_converged();
}

/// A write that bypassed the triggers is found by the second look, under the lock for a remote write to the same row.
/// Draining it leaves nothing to write. The vector stayed behind until the next batch came: no step was left that would
/// have told what the database shows.
#[test]
fn what_a_drain_leaves_nothing_to_write_of_is_told() {
    let schema = Schema { tables: BTreeMap::from([("wp_posts".into(), Table::default())]) };
    let mut cluster = Cluster::with_schema(2, Limits::default(), Some(schema));
    let row = RowId::numbered(Namespace(1), "wp_posts", 1);
    cluster.write_row(0, &row, "first");
    cluster.run(3_000);
    let gone = cluster.databases.get_mut(&name(1)).expect("known").rows.remove(&row);
    assert!(gone.is_some(), "the row was written on the other side");
    cluster.write_row(0, &row, "second");
    cluster.run(3_000);
    let found = (name(1), replica::Report::OutOfBandWrite { row: row.clone() });
    assert!(cluster.reports.contains(&found), "{:?}", cluster.reports);
    assert_eq!(cluster.databases[&name(0)].rows.get(&row), None);
    cluster.assert_converged();
    for (name, node) in &cluster.nodes {
        assert_eq!(node.shown(), node.applied(), "{name}");
    }
}

/// While a node was down its site wrote two rows, the cluster gave one another title and deleted the other, and the shadows
/// of both rotted. The old title was issued anew and won over the newer one, and the deleted post came back.
#[test]
fn what_the_state_had_stands_in_for_a_damaged_shadow() {
    let schema = Schema { tables: BTreeMap::from([("wp_posts".into(), Table::default())]) };
    let mut cluster = Cluster::with_schema(2, Limits::default(), Some(schema));
    let [kept, deleted] = [1, 2].map(|id| RowId::numbered(Namespace(1), "wp_posts", id));
    cluster.set(0, "k", "v");
    cluster.write_row(0, &kept, "first");
    cluster.run(100);
    cluster.write_row(0, &deleted, "first");
    cluster.run(3_000);
    cluster.nodes.remove(&name(1));
    cluster.write_row(0, &kept, "second");
    cluster.run(100);
    cluster.change_row(0, &deleted, None);
    cluster.run(3_000);
    cluster.change_row(1, &kept, Some("draft"));
    cluster.run(100);
    cluster.change_row(1, &deleted, Some("draft"));
    // With a damaged object the state is fetched before anything is drained.
    let object = crdt::Key::new(Namespace(0), Kind::Register, "k");
    let shadows = [&kept, &deleted].map(|row| RecordKey::Shadow(row.to_bytes()));
    cluster.rotten.extend(shadows);
    cluster.rotten.insert(RecordKey::Object(object.to_bytes()));
    cluster.open(1, Continuity::Proven);
    cluster.run(20_000);
    let title = (b"post_title".as_slice().into(), "second".into());
    let status = (b"post_status".as_slice().into(), "draft".into());
    let rows = BTreeMap::from([(kept, RowImage::from([title, status]))]);
    for (name, database) in &cluster.databases {
        assert_eq!(database.rows, rows, "{name}: {:?}", cluster.reports);
    }
    cluster.assert_converged();
}

/// A backup of store and database holds a write that waits to be drained and that the cluster has had for long. Put back
/// where no member could be heard, it was drained after some seconds as a new write: counters counted it twice.
#[test]
fn a_restored_node_drains_nothing_before_it_hears_a_member() {
    let schema = Schema { tables: BTreeMap::from([("wp_posts".into(), Table::default())]) };
    let mut cluster = Cluster::with_schema(2, Limits::default(), Some(schema));
    let row = RowId::numbered(Namespace(1), "wp_posts", 1);
    cluster.set(0, "k", "v");
    cluster.run(3_000);
    cluster.write_row(1, &row, "title");
    cluster.run(100);
    cluster.change_row(1, &row, Some("publish"));
    let (disk, database) = (cluster.disks[&name(1)].clone(), cluster.databases[&name(1)].clone());
    let waiting = database.outbox.clone();
    cluster.run(3_000);
    cluster.change_row(0, &row, Some("draft"));
    cluster.run(3_000);
    cluster.link("node_00", "node_01", false);
    cluster.disks.insert(name(1), disk);
    cluster.databases.insert(name(1), database);
    cluster.open_alone(1, Continuity::NotProven);
    cluster.run(600_000);
    assert_eq!(cluster.databases[&name(1)].outbox, waiting, "nobody could be told of it");
    cluster.link("node_00", "node_01", true);
    cluster.run(30_000);
    assert_eq!(cluster.databases[&name(1)].outbox, Vec::new(), "{:?}", cluster.reports);
    assert_eq!(cluster.databases[&name(1)].rows, cluster.databases[&name(0)].rows, "{:?}", cluster.reports);
    let status = cluster.databases[&name(1)].rows[&row].get(b"post_status".as_slice()).cloned();
    assert_eq!(status, Some(Value::from("draft")), "the cluster had it, and somebody changed it since");
    cluster.assert_converged();
}

/// Restored from a backup that knows nothing of an earlier restore, killed before any member had answered, and started again
/// on its own store, a node was taken for a second machine under its name, for ever.
#[test]
fn a_node_that_was_restored_twice_and_killed_before_it_was_heard_takes_its_ids_over() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.set(1, "k", "v");
    cluster.run(3_000);
    let backup = cluster.disks[&name(1)].clone();
    cluster.open(1, Continuity::NotProven);
    cluster.set(1, "k", "second life");
    cluster.run(3_000);
    let lived = cluster.nodes[&name(1)].replica();
    cluster.disks.insert(name(1), backup);
    for continuity in [Continuity::NotProven, Continuity::Proven] {
        for peer in [0, 2] {
            cluster.link(&name(peer), &name(1), false);
        }
        cluster.open_alone(1, continuity);
        cluster.run(3_000);
    }
    for peer in [0, 2] {
        cluster.link(&name(peer), &name(1), true);
    }
    cluster.run(5_000);
    let replicas = cluster.nodes[&name(1)].replicas().to_vec();
    assert!(replicas.contains(&lived) && replicas.last() != Some(&lived), "{replicas:?}");
    cluster.set(1, "k", "third life");
    cluster.run(3_000);
    cluster.assert_converged();
    assert_eq!(cluster.shown(0, "k"), Some("third life".into()));
}

/// Store and database go back to one backup and go on from there; then a backup of the database is put back that was
/// taken later on the timeline that they left. Its cursor was the number that the node had come to again, so nothing was
/// noticed.
#[test]
fn a_database_of_another_timeline_is_noticed() {
    let schema = Schema { tables: BTreeMap::from([("wp_posts".into(), Table::default())]) };
    let mut cluster = Cluster::with_schema(2, Limits::default(), Some(schema));
    let [first, second] = [1, 2].map(|id| RowId::numbered(Namespace(1), "wp_posts", id));
    cluster.write_row(0, &first, "first");
    cluster.run(3_000);
    let (disk, database) = (cluster.disks[&name(1)].clone(), cluster.databases[&name(1)].clone());
    cluster.write_row(0, &second, "second");
    cluster.run(3_000);
    let of_before = cluster.databases[&name(1)].clone();
    cluster.disks.insert(name(1), disk);
    cluster.databases.insert(name(1), database);
    cluster.open(1, Continuity::NotProven);
    cluster.run(3_000);
    assert_eq!(cluster.databases[&name(1)].rows, of_before.rows, "it takes as many steps as before");
    let is_noticed = |cluster: &Cluster| {
        let restored = |report: &replica::Report| matches!(report, replica::Report::DatabaseRestored { .. });
        cluster.reports.iter().any(|(_, report)| restored(report))
    };
    assert!(!is_noticed(&cluster), "{:?}", cluster.reports);
    cluster.databases.insert(name(1), of_before);
    cluster.open(1, Continuity::Proven);
    cluster.run(10_000);
    assert!(is_noticed(&cluster), "{:?}", cluster.reports);
    assert_eq!(cluster.databases[&name(0)].rows, cluster.databases[&name(1)].rows);
    cluster.assert_converged();
}

/// A database is put back, with two entries in its outbox, and the node notices it while its peer is out of reach. The
/// site writes a post, and then the node crashes. Its next process took the moment of its own start for that of the
/// notice, so the post counted as old: it was reported and deleted.
#[test]
fn what_the_site_wrote_since_a_restore_was_noticed_is_new_after_a_crash() {
    let schema = Schema { tables: BTreeMap::from([("wp_posts".into(), Table::default())]) };
    let mut cluster = Cluster::with_schema(2, Limits::default(), Some(schema));
    let [kept, deleted, fresh] = [1, 2, 3].map(|id| RowId::numbered(Namespace(1), "wp_posts", id));
    cluster.write_row(0, &kept, "first");
    cluster.run(3_000);
    // While the node is down nothing is drained, so that the backup has both entries.
    cluster.nodes.remove(&name(1));
    cluster.write_row(1, &kept, "of the backup");
    cluster.run(100);
    cluster.write_row(1, &deleted, "of the backup");
    let backup = cluster.databases[&name(1)].clone();
    cluster.open(1, Continuity::Proven);
    cluster.run(3_000);
    cluster.write_row(0, &kept, "newer");
    cluster.run(100);
    cluster.change_row(0, &deleted, None);
    cluster.run(3_000);
    let titled = |title: &str| RowImage::from([(b"post_title".as_slice().into(), Value::from(title))]);
    let rows = BTreeMap::from([(kept.clone(), titled("newer"))]);
    assert_eq!(cluster.databases[&name(1)].rows, rows, "the cluster has gone on from the backup");
    let peer = cluster.nodes.remove(&name(0)).expect("known");
    cluster.databases.insert(name(1), backup);
    cluster.open(1, Continuity::Proven);
    let restored = |report: &replica::Report| matches!(report, replica::Report::DatabaseRestored { .. });
    assert!(cluster.reports.iter().any(|(_, report)| restored(report)), "{:?}", cluster.reports);
    cluster.run(1_000);
    cluster.write_row(1, &fresh, "since the notice");
    cluster.run(1_000);
    cluster.open(1, Continuity::Proven);
    cluster.run(1_000);
    assert_eq!(cluster.databases[&name(1)].outbox.len(), 3, "the recovery waits for the peer");
    cluster.nodes.insert(name(0), peer);
    cluster.link("node_00", "node_01", true);
    cluster.run(20_000);
    let rows = BTreeMap::from([(kept, titled("newer")), (fresh, titled("since the notice"))]);
    for (name, database) in &cluster.databases {
        assert_eq!(database.rows, rows, "{name}: {:?}", cluster.reports);
    }
    assert_eq!(cluster.nodes[&name(0)].journal().len(), 0, "what the backup had counts as no write");
    cluster.assert_converged();
}

/// While a node looks into its outbox a peer tells that the node's store had gone back. What the look showed was
/// committed, although nothing is to be drained before the state has caught up.
#[test]
fn a_drain_that_doubt_overtakes_commits_nothing() {
    let schema = Schema { tables: BTreeMap::from([("wp_posts".into(), Table::default())]) };
    let mut cluster = Cluster::with_schema(2, Limits::default(), Some(schema));
    let row = RowId::numbered(Namespace(1), "wp_posts", 1);
    cluster.run(3_000);
    let disk = cluster.disks[&name(1)].clone();
    cluster.set(1, "k", "v");
    cluster.run(1_000);
    // It starts alone, from before its write, and listens in vain.
    let peer = cluster.nodes.remove(&name(0)).expect("known");
    cluster.disks.insert(name(1), disk);
    cluster.open(1, Continuity::Proven);
    cluster.run(1_500);
    cluster.slow_drains = Some(Vec::new());
    cluster.write_row(1, &row, "first");
    cluster.run(1_000);
    cluster.nodes.insert(name(0), peer);
    cluster.link("node_00", "node_01", true);
    cluster.settle();
    let replica = cluster.nodes[&name(1)].replica();
    let minted = replica::Report::ReplicaMinted { replica, reason: replica::MintReason::PeerKnowsMore };
    assert!(cluster.reports.contains(&(name(1), minted)), "{:?}", cluster.reports);
    for (node, response) in cluster.slow_drains.take().expect("they are slow") {
        cluster.nodes.get_mut(&node).expect("known").handle_sql(cluster.now, response);
    }
    assert_eq!(cluster.nodes[&name(1)].applied().seq(replica), 0);
    cluster.settle();
    cluster.run(40_000);
    assert!(cluster.databases[&name(0)].rows.contains_key(&row), "{:?}", cluster.reports);
    assert_eq!(cluster.databases[&name(0)].rows, cluster.databases[&name(1)].rows);
    cluster.assert_converged();
}

#[test]
fn a_full_buffer_is_reported_once_an_episode() {
    let mut cluster = Cluster::new(2, Limits { beyond_gap_batches_max: 2, ..Limits::default() });
    for episode in 1..=2 {
        cluster.run(10_000);
        // What comes after a batch that got lost on its way waits for it.
        let path = vec![b"k".as_slice().into()];
        let intent = Intent { namespace: Namespace(0), path, action: Action::Set("lost".into()) };
        let node = cluster.nodes.get_mut(&name(0)).expect("known");
        node.commit(cluster.now, &[intent]).expect("the node takes writes");
        cluster.effects(&name(0));
        cluster.mail.clear();
        for round in 0..10 {
            cluster.set(0, "k", &format!("round {round}"));
        }
        let full = cluster.reports.iter().filter(|(_, report)| *report == replica::Report::BufferFull);
        assert_eq!(full.count(), episode);
    }
    cluster.run(10_000);
    cluster.assert_converged();
}

#[test]
fn a_node_tells_what_it_knows_of_its_peers() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.set(0, "k", "v");
    cluster.run(20_000);
    let own = &cluster.nodes[&name(0)];
    let peers = own.peers();
    let members: Vec<&str> = peers.iter().map(|peer| peer.node.as_str()).collect();
    assert_eq!(members, ["node_01", "node_02"]);
    for peer in &peers {
        assert!(peer.is_up && peer.is_ready);
        assert_eq!(peer.settled, Some((own.applied().clone(), own.fingerprint())));
        assert_eq!(peer.row.as_ref().map(|row| &row.shown), Some(own.applied()));
        assert_eq!(peer.clock_offset_ms, Some(0));
    }
    // What is written behind a cut is what the row of a peer lacks, until an exchange gets through.
    cluster.link("node_00", "node_01", false);
    cluster.set(0, "k", "w");
    let exchange = |cluster: &mut Cluster| {
        for index in 1..3 {
            let now = cluster.now;
            cluster.nodes.get_mut(&name(index)).expect("known").exchange_now(now, Some("node_00"));
            cluster.settle();
        }
    };
    exchange(&mut cluster);
    let lag = |cluster: &Cluster, at: usize| {
        let own = &cluster.nodes[&name(0)];
        let row = own.peers()[at].row.clone().expect("it was heard");
        own.applied().seq(own.replica()) - row.received.seq(own.replica())
    };
    assert_eq!((lag(&cluster, 0), lag(&cluster, 1)), (1, 0));
    cluster.link("node_00", "node_01", true);
    cluster.run(1_000);
    exchange(&mut cluster);
    assert_eq!(lag(&cluster, 0), 0);
    cluster.assert_converged();
}

/// Every message comes twice while one node catches up. A copy that counts as an answer ends the pull that it is no
/// answer to, the next pull is answered while the first answer is on its way, and so on: twice as many each round.
#[test]
fn a_network_that_doubles_messages_does_not_multiply_pulls() {
    let limits = Limits { pull_bytes_max: 1_000, message_bytes_max: 400, ..Limits::default() };
    let mut cluster = Cluster::new(2, limits);
    cluster.run(3_000);
    cluster.link("node_00", "node_01", false);
    (0..200).for_each(|round| cluster.set(0, "k", &format!("round {round}")));
    cluster.link("node_00", "node_01", true);
    let (now, mut carried) = (cluster.now, 0);
    loop {
        (0..2).for_each(|index| cluster.effects(&name(index)));
        let Some((from, to, bytes)) = cluster.mail.pop_front() else { break };
        carried += 1;
        assert!(carried < 2_000, "{carried} messages for 200 batches, and no end");
        let node = cluster.nodes.get_mut(&to).expect("known");
        (0..2).for_each(|_| node.handle_message(now, &from, &bytes));
    }
    cluster.run(20_000);
    cluster.assert_converged();
}
