//! Batches that wait beyond a gap: the gap is filled, and what waited is known to have been written.

use crdt::{Namespace, ReplicaId};
use replica::message::Message;
use replica::{Action, Continuity, Intent, Limits, MintReason, Report};

use crate::harness::{Cluster, name};

/// Commits, and leaves what is sent in the mail.
fn commit(cluster: &mut Cluster, index: usize, value: &str) {
    let path = vec![b"k".as_slice().into()];
    let intent = Intent { namespace: Namespace(0), path, action: Action::Set(value.into()) };
    let node = cluster.nodes.get_mut(&name(index)).expect("known");
    node.commit(cluster.now, &[intent]).expect("the node takes writes");
    cluster.effects(&name(index));
}

/// Commits, and what is pushed to the others gets lost.
fn commit_and_lose(cluster: &mut Cluster, index: usize, value: &str) {
    commit(cluster, index, value);
    cluster.mail.retain(|(_, _, bytes)| !is_batches(bytes));
}

fn is_batches(bytes: &[u8]) -> bool {
    matches!(Message::from_bytes(bytes), Ok(Message::Batches(_)))
}

/// A tenth of a second in which no batch arrives anywhere. How many messages with batches were lost.
fn run_without_batches(cluster: &mut Cluster) -> usize {
    cluster.now.wall_ms += 100;
    cluster.now.mono_ms += 100;
    let now = cluster.now;
    cluster.nodes.values_mut().for_each(|node| node.handle_timeout(now));
    let mut lost = 0;
    loop {
        (0..cluster.members).for_each(|index| cluster.effects(&name(index)));
        let sent = cluster.mail.len();
        cluster.mail.retain(|(_, _, bytes)| !is_batches(bytes));
        lost += sent - cluster.mail.len();
        if cluster.mail.is_empty() {
            return lost;
        }
        cluster.deliver(1);
    }
}

fn received(cluster: &Cluster, index: usize, replica: ReplicaId) -> u64 {
    cluster.nodes[&name(index)].received().seq(replica)
}

/// The answer to a pull is lost, and its author writes on, more often than every retry interval. Each push once put off
/// the moment from which the pull counts as lost, and the gap stayed for as long as the author wrote.
#[test]
fn a_gap_is_pulled_again_while_its_author_writes_on() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(3_000);
    let author = cluster.nodes[&name(0)].replica();
    commit_and_lose(&mut cluster, 0, "lost");
    let is_answered = (0..200).any(|_| run_without_batches(&mut cluster) > 0);
    assert!(is_answered, "the gap was pulled, and the answer got lost");
    for round in 0..50 {
        cluster.set(0, "k", &format!("round {round}"));
        assert!(received(&cluster, 1, author) > 0 || round < 30, "the gap is there for {round} tenths of a second");
        cluster.run(100);
    }
    cluster.assert_converged();
}

/// A node writes, and of that its peer gets nothing into its log: it only hears a digest, or a batch that waits beyond a
/// gap. Then the node's store goes back, and nobody says so.
fn forgets(told: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(3_000);
    cluster.set(1, "k", "in the backup");
    cluster.run(1_000);
    let disk = cluster.disks[&name(1)].clone();
    let replica = cluster.nodes[&name(1)].replica();
    commit_and_lose(&mut cluster, 1, "lost");
    told(&mut cluster);
    assert_eq!(received(&cluster, 0, replica), 1);
    cluster.mail.clear();
    // The peer is restarted as well: what it knows is on its disk.
    cluster.disks.insert(name(1), disk);
    cluster.open_alone(0, Continuity::Proven);
    cluster.open(1, Continuity::Proven);
    cluster.run(1_500);
    let fresh = cluster.nodes[&name(1)].replica();
    let minted = Report::ReplicaMinted { replica: fresh, reason: MintReason::PeerKnowsMore };
    assert!(cluster.reports.contains(&(name(1), minted)), "{:?}", cluster.reports);
    let count = cluster.reports.len();
    cluster.set(1, "k", "anew");
    cluster.run(20_000);
    assert_eq!(cluster.reports.len(), count, "told once: {:?}", cluster.reports);
    assert_eq!((received(&cluster, 0, replica), received(&cluster, 0, fresh)), (1, 1));
    cluster.assert_converged();
}

#[test]
fn dots_that_a_peer_was_told_of_are_not_given_again() {
    forgets(|cluster| {
        for _ in 0..20 {
            run_without_batches(cluster);
        }
    });
}

#[test]
fn dots_that_a_peer_saw_beyond_a_gap_are_not_given_again() {
    forgets(|cluster| {
        commit(cluster, 1, "beyond the gap");
        cluster.mail.retain(|(_, _, bytes)| is_batches(bytes));
        cluster.deliver(1);
        // The link breaks before any digest, and the node greets once more with the store that it has.
        cluster.mail.clear();
        cluster.link("node_00", "node_01", false);
        cluster.link("node_00", "node_01", true);
        cluster.effects(&name(1));
        cluster.deliver(1);
        cluster.effects(&name(0));
    });
}
