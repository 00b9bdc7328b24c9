//! How often nodes tell each other what they have, and links that break.

use std::collections::VecDeque;

use replica::message::Message;
use replica::{Continuity, Installed, Limits, Meta, RecordKey, Report};

use crate::harness::{Cluster, name};

fn interval_ms(cluster: &Cluster) -> u64 {
    cluster.nodes[&name(0)].peers()[0].digest_interval_ms
}

/// Writes on and on, while the transport sends so many bytes again in each tenth of a second.
fn write_for(cluster: &mut Cluster, seconds: u64, retransmitted_bytes: u64) {
    for round in 0..seconds * 10 {
        cluster.set(0, "k", &format!("round {round}"));
        let now = cluster.now;
        let node = cluster.nodes.get_mut(&name(0)).expect("known");
        node.handle_link_overhead(now, "node_01", retransmitted_bytes);
        cluster.run(100);
    }
}

#[test]
fn digests_become_rarer_while_much_goes_over_the_link_for_nothing() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(1_000);
    write_for(&mut cluster, 40, 0);
    assert_eq!((interval_ms(&cluster), cluster.nodes[&name(0)].peers()[0].overhead_per_mille), (50, 0));
    write_for(&mut cluster, 120, 1_000);
    let peer = &cluster.nodes[&name(0)].peers()[0];
    assert!(peer.overhead_per_mille > 1_000, "{peer:?}");
    assert_eq!(peer.digest_interval_ms, 15_000);
    // What is written is pushed whatever the interval is, and a gap is pulled at once.
    cluster.set(0, "k", "pushed");
    assert_eq!(cluster.shown(1, "k"), Some("pushed".into()));
    // Half a minute after the link became better they become more frequent again.
    write_for(&mut cluster, 300, 0);
    assert_eq!((interval_ms(&cluster), cluster.nodes[&name(0)].peers()[0].overhead_per_mille), (50, 0));
    cluster.run(120_000);
    assert_eq!(interval_ms(&cluster), 15_000, "a quiet link goes to the longest interval");
    cluster.assert_converged();
}

#[test]
fn batches_that_come_twice_are_overhead() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(1_000);
    for round in 0..10 {
        let path = vec![b"k".as_slice().into()];
        let action = replica::Action::Set(crdt::Value::from(format!("round {round}").as_str()));
        let intent = replica::Intent { namespace: crdt::Namespace(0), path, action };
        let node = cluster.nodes.get_mut(&name(0)).expect("known");
        node.commit(cluster.now, &[intent]).expect("the node takes writes");
        cluster.effects(&name(0));
        let copies: Vec<_> = cluster.mail.iter().cloned().collect();
        cluster.mail.extend(copies);
        cluster.settle();
    }
    let [own, peer] = [0, 1].map(|index| cluster.nodes[&name(index)].peers()[0].overhead_per_mille);
    assert_eq!((own, peer), (0, 1_000), "as much came again as was new");
}

#[test]
fn nodes_do_not_tell_in_one_moment_for_ever() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.run(120_000);
    let mut due: Vec<u64> = Vec::new();
    for _ in 0..300 {
        cluster.run(100);
        due.extend(cluster.nodes.values().filter_map(replica::Node::poll_timeout));
    }
    due.sort_unstable();
    due.dedup();
    // Without jitter all six links would be due together, every fifteen seconds.
    assert!(due.len() > 6, "{due:?}");
}

/// On a link whose round trip is longer than the time for which a hello is not repeated, answers to hellos would be greetings
/// again, for ever.
#[test]
fn nodes_far_apart_greet_each_other_once() {
    const ONE_WAY_MS: u64 = 1_500;
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.link("node_00", "node_01", false);
    cluster.link("node_00", "node_01", true);
    let (mut on_the_way, mut hellos) = (VecDeque::new(), 0);
    for _ in 0..1_200 {
        (cluster.now.wall_ms, cluster.now.mono_ms) = (cluster.now.wall_ms + 100, cluster.now.mono_ms + 100);
        for node in [name(0), name(1)] {
            cluster.nodes.get_mut(&node).expect("known").handle_timeout(cluster.now);
            cluster.effects(&node);
        }
        for mail in cluster.mail.drain(..) {
            hellos += usize::from(matches!(Message::from_bytes(&mail.2), Ok(Message::Hello(_))));
            on_the_way.push_back((cluster.now.mono_ms + ONE_WAY_MS, mail));
        }
        while on_the_way.front().is_some_and(|(at, _)| *at <= cluster.now.mono_ms) {
            let (_, (from, to, bytes)) = on_the_way.pop_front().expect("there is one");
            cluster.nodes.get_mut(&to).expect("known").handle_message(cluster.now, &from, &bytes);
        }
    }
    assert!(cluster.nodes.values().all(|node| node.peers()[0].is_ready), "they know each other");
    assert!(hellos <= 4, "{hellos} hellos in two minutes");
}

/// A cluster whose second node is behind the log of the first, and will need a snapshot of many chunks.
fn behind() -> Cluster {
    let mut cluster = Cluster::new(2, small());
    cluster.run(2_000);
    cluster.set(1, "own", "v");
    cluster.run(2_000);
    fall_behind(cluster)
}

/// As [`behind`], with a second node that has nothing at all.
fn blank() -> Cluster {
    let mut cluster = Cluster::new(2, small());
    cluster.run(2_000);
    fall_behind(cluster)
}

fn small() -> Limits {
    Limits { log_bytes_max: 4_000, chunk_bytes_max: 1_000, ..Limits::default() }
}

fn fall_behind(mut cluster: Cluster) -> Cluster {
    cluster.link("node_00", "node_01", false);
    (0..200).for_each(|round| cluster.set(0, &format!("k{round}"), "v"));
    cluster.run(20_000);
    cluster
}

fn assert_resumed(cluster: &mut Cluster) {
    let interrupted = |(_, report): &(_, _)| matches!(report, Report::SnapshotInterrupted { .. });
    assert!(!cluster.reports.iter().any(interrupted), "it resumed: {:?}", cluster.reports);
    cluster.link("node_00", "node_01", true);
    cluster.run(5_000);
    cluster.assert_converged();
}

const INSTALLED: Report = Report::SnapshotInstalled { how: Installed::Joined };

/// Two machines under one name take the link from each other every few seconds. Each time that it broke, the receiver's
/// wait for its donor began anew; until it was over nothing was asked for, and the snapshot never came.
#[test]
fn a_snapshot_comes_over_a_link_that_breaks_again_and_again() {
    let mut cluster = behind();
    let mut links = 0;
    while !cluster.reports.contains(&(name(1), INSTALLED)) {
        links += 1;
        assert!(links < 20, "no snapshot over {links} links: {:?}", cluster.reports);
        cluster.link("node_00", "node_01", true);
        cluster.deliver(18);
        cluster.link("node_00", "node_01", false);
        cluster.mail.clear();
        // Less than the four retry intervals for which a donor that is away is waited for.
        cluster.run(6_000);
    }
    assert!(links > 1, "the link broke while the snapshot was on its way");
    assert_resumed(&mut cluster);
}

fn staged(cluster: &Cluster) -> usize {
    cluster.disks[&name(1)].keys().filter(|key| matches!(key, RecordKey::Chunk(_))).count()
}

/// Delivers until so many chunks are staged on the disk of the second node.
fn deliver_until_staged(cluster: &mut Cluster, chunks: usize) {
    let is_staged = (0..1_000).any(|_| {
        cluster.deliver(1);
        staged(cluster) >= chunks
    });
    assert!(is_staged, "{} of {chunks} chunks came: {:?}", staged(cluster), cluster.reports);
}

fn restart_apart(cluster: &mut Cluster) {
    cluster.link("node_00", "node_01", false);
    cluster.mail.clear();
    cluster.open_alone(1, Continuity::Proven);
    cluster.run(3_000);
}

/// It once gave the snapshot up with its first tick, a second after it was back, because there was no link yet.
#[test]
fn a_snapshot_goes_on_when_its_receiver_restarted() {
    let mut cluster = behind();
    cluster.link("node_00", "node_01", true);
    deliver_until_staged(&mut cluster, 1);
    restart_apart(&mut cluster);
    assert_resumed(&mut cluster);
    assert!(cluster.reports.contains(&(name(1), INSTALLED)));
}

fn objects(cluster: &Cluster) -> usize {
    cluster.disks[&name(1)].keys().filter(|key| matches!(key, RecordKey::Object(_))).count()
}

/// Delivers until some objects, but not all, are on the disk of the second node.
fn deliver_some(cluster: &mut Cluster) {
    let some = (0..1_000).any(|_| {
        cluster.deliver(1);
        assert_eq!(staged(cluster), 0, "nothing is staged where there is nothing to harm");
        objects(cluster) > 0
    });
    assert!(some && objects(cluster) < 200, "{} objects came: {:?}", objects(cluster), cluster.reports);
    let is_done = |(_, report): &(_, Report)| matches!(report, Report::SnapshotInstalled { .. });
    assert!(!cluster.reports.iter().any(is_done), "{:?}", cluster.reports);
}

#[test]
fn a_blank_node_joins_chunks_as_they_come_and_goes_on_when_it_restarted() {
    let mut cluster = blank();
    cluster.link("node_00", "node_01", true);
    deliver_some(&mut cluster);
    restart_apart(&mut cluster);
    assert!(cluster.nodes[&name(1)].is_installing(), "half a snapshot is no state to write to");
    assert_resumed(&mut cluster);
    assert!(cluster.reports.contains(&(name(1), Report::SnapshotInstalled { how: Installed::AsItCame })));
}

/// Half a snapshot is no state of any vector: where it cannot be gone on with, it is replaced.
fn assert_half_is_replaced(breaks: impl FnOnce(&mut Cluster)) {
    let mut cluster = blank();
    cluster.link("node_00", "node_01", true);
    deliver_some(&mut cluster);
    cluster.link("node_00", "node_01", false);
    cluster.mail.clear();
    breaks(&mut cluster);
    cluster.link("node_00", "node_01", true);
    cluster.run(30_000);
    let replaced = (name(1), Report::SnapshotInstalled { how: Installed::Replaced });
    assert!(cluster.reports.contains(&replaced), "{:?}", cluster.reports);
    cluster.assert_converged();
}

#[test]
fn a_blank_node_whose_donor_forgot_the_snapshot_takes_another() {
    assert_half_is_replaced(|cluster| {
        cluster.open_alone(0, Continuity::Proven);
        cluster.run(3_000);
        cluster.set(0, "k7", "written since");
        cluster.run(3_000);
    });
}

/// The record says how far a snapshot was joined: without it nobody would know that the state is half of one.
#[test]
fn a_blank_node_that_lost_the_record_of_its_snapshot_takes_another() {
    assert_half_is_replaced(|cluster| {
        cluster.rotten.insert(RecordKey::Meta(Meta::Install));
        cluster.open_alone(1, Continuity::Proven);
    });
}

/// A disk that lied about what is durable: after a power cut the receiver asked for a chunk that it had taken before, and
/// the donor took that for a late request and said nothing, for ever.
#[test]
fn a_snapshot_whose_receiver_went_back_is_begun_anew() {
    let mut cluster = behind();
    cluster.link("node_00", "node_01", true);
    deliver_until_staged(&mut cluster, 1);
    let disk = cluster.disks[&name(1)].clone();
    deliver_until_staged(&mut cluster, 4);
    cluster.disks.insert(name(1), disk);
    restart_apart(&mut cluster);
    cluster.link("node_00", "node_01", true);
    cluster.run(20_000);
    assert!(cluster.reports.contains(&(name(1), INSTALLED)), "{:?}", cluster.reports);
    cluster.assert_converged();
}
