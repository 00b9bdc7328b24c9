//! What the process around a node asks it for.

use crdt::{Kind, Namespace, Value};
use replica::message::Message;
use replica::{Action, Continuity, Effect, Epoch, Intent, Limits, Member, Node, RecordKey, SignedEpoch, Unready};

use crate::harness::{Cluster, name};

#[test]
fn a_node_says_why_it_takes_no_writes() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.set(1, "k", "v");
    assert_eq!(cluster.nodes[&name(1)].takes_writes(), Ok(()));
    // Started again while nobody can be heard, it listens for a second.
    let peer = cluster.nodes.remove(&name(0)).expect("known");
    cluster.open(1, Continuity::Proven);
    let until_mono_ms = cluster.now.mono_ms + 1_000;
    assert_eq!(cluster.nodes[&name(1)].takes_writes(), Err(Unready::Listening { until_mono_ms }));
    cluster.run(1_000);
    assert_eq!(cluster.nodes[&name(1)].takes_writes(), Ok(()));
    // A damaged state is fetched before anything else.
    let object = crdt::Key::new(Namespace(0), Kind::Register, "k");
    cluster.rotten.insert(RecordKey::Object(object.to_bytes()));
    cluster.open(1, Continuity::Proven);
    cluster.run(1_000);
    assert_eq!(cluster.nodes[&name(1)].takes_writes(), Err(Unready::Rebuilding));
    cluster.nodes.insert(name(0), peer);
    cluster.link("node_00", "node_01", true);
    cluster.run(5_000);
    assert_eq!(cluster.nodes[&name(1)].takes_writes(), Ok(()));
    let (now, ticket) = (cluster.now, replica::Ticket(1));
    let node = cluster.nodes.get_mut(&name(1)).expect("known");
    node.handle_persist_failed(now, ticket);
    assert_eq!(node.takes_writes(), Err(Unready::StoreFailed));
}

#[test]
fn a_node_that_knows_no_epoch_is_no_member() {
    let mut node: Node = Cluster::stranger("node_07");
    assert_eq!(node.takes_writes(), Err(Unready::NotMember));
    assert_eq!(node.signed_epoch(1), None);
    let epoch = |number, slot| {
        let members = [("node_07".to_owned(), Member { slot })].into();
        let bytes = Epoch { number, members, ..Epoch::default() }.to_bytes();
        SignedEpoch { bytes, signature: b"ca".to_vec() }
    };
    for number in [1, 2] {
        node.handle_epoch(replica::Now::default(), epoch(number, 1));
    }
    assert_eq!(node.takes_writes(), Ok(()));
    for number in [1, 2] {
        assert_eq!(node.signed_epoch(number), Some(&epoch(number, 1)), "each record stays as it came");
    }
    assert_eq!(node.signed_epoch(3), None);
}

#[test]
fn who_is_asked_for_a_digest_answers_at_once() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.run(60_000);
    let heard = |cluster: &Cluster| -> Vec<u64> {
        cluster.nodes[&name(0)].peers().iter().map(|peer| peer.digests_heard).collect()
    };
    let ask = |cluster: &mut Cluster, peer: Option<&str>| {
        let now = cluster.now;
        cluster.nodes.get_mut(&name(0)).expect("known").ask_digests(now, peer);
        cluster.settle();
    };
    let before = heard(&cluster);
    ask(&mut cluster, Some("node_02"));
    assert_eq!(heard(&cluster), [before[0], before[1] + 1]);
    ask(&mut cluster, None);
    assert_eq!(heard(&cluster), [before[0] + 1, before[1] + 1], "nobody is asked twice in a moment");
    cluster.now.mono_ms += 20;
    ask(&mut cluster, None);
    assert_eq!(heard(&cluster), [before[0] + 2, before[1] + 2]);
}

/// Twenty commits become durable with one sync. Each went to each peer in a message of its own.
#[test]
fn what_becomes_durable_together_is_pushed_together() {
    const MESSAGE_BYTES_MAX: usize = 1_000;
    let mut cluster = Cluster::new(2, Limits { message_bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() });
    cluster.run(3_000);
    let now = cluster.now;
    let node = cluster.nodes.get_mut(&name(0)).expect("known");
    let mut last = None;
    for round in 0..20 {
        let path = vec![b"k".as_slice().into()];
        let value = Value::from(format!("round {round}").as_str());
        node.commit(now, &[Intent { namespace: Namespace(0), path, action: Action::Set(value) }])
            .expect("it takes writes");
        while let Some(effect) = node.poll_effect() {
            let Effect::Persist(group) = effect else { panic!("nothing may leave before it is durable: {effect:?}") };
            last = Some(group.ticket);
        }
    }
    node.handle_persisted(now, last.expect("each commit writes a group"));
    let (mut pushed, mut acknowledged) = (Vec::new(), 0);
    while let Some(effect) = node.poll_effect() {
        match effect {
            Effect::Send { to, bytes } => {
                let Ok(Message::Batches(batches)) = Message::from_bytes(&bytes) else { panic!("only batches are due") };
                pushed.push(batches.len());
                assert!(batches.iter().map(Vec::len).sum::<usize>() <= MESSAGE_BYTES_MAX);
                cluster.mail.push_back((name(0), to, bytes));
            }
            Effect::Acknowledge(_) => acknowledged += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((acknowledged, pushed.iter().sum::<usize>()), (20, 20), "all of them, once");
    assert!(pushed.len() > 1 && pushed.len() < 10, "{pushed:?}");
    cluster.settle();
    assert_eq!(cluster.shown(1, "k"), Some("round 19".into()), "they came in order");
    cluster.assert_converged();
}
