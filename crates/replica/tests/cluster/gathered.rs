//! Commands that come together.

use crdt::{BatchId, Kind, Namespace, Object};
use replica::{Action, CommitError, Effect, Intent, Limits};

use crate::harness::{Cluster, name};

/// One command of a client of the door.
fn command(key: &str, action: Action) -> Intent {
    Intent { namespace: Namespace(0), path: vec![key.as_bytes().into()], action }
}

/// Batches that were given out and are waited for by clients.
fn acknowledged(cluster: &mut Cluster, name: &str) -> Vec<BatchId> {
    let mut batches = Vec::new();
    let node = cluster.nodes.get_mut(name).expect("known");
    let mut others = Vec::new();
    while let Some(effect) = node.poll_effect() {
        match effect {
            Effect::Persist(group) => node.handle_persisted(cluster.now, group.ticket),
            Effect::Acknowledge(batch) => batches.push(batch),
            Effect::Send { to, bytes } => others.push((name.to_owned(), to, bytes)),
            _ => {}
        }
    }
    cluster.mail.extend(others);
    batches
}

#[test]
fn commands_that_come_together_become_one_batch() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.run(3_000);
    let now = cluster.now;
    let before = cluster.nodes["node_00"].gauges().log_batches;
    let mut gather = |intents: &[Intent]| cluster.nodes.get_mut("node_00").expect("known").gather(now, intents);
    let first = gather(&[command("a", Action::Set("first".into()))]).unwrap();
    assert_eq!(gather(&[command("n", Action::Increment(2))]), Ok(first));
    // A command that fails in its middle changes nothing, and takes nothing of the others with it.
    let fails = [command("n", Action::Increment(1)), command("n", Action::Increment(i128::MAX))];
    assert_eq!(gather(&fails), Err(CommitError::Overflow));
    assert_eq!(gather(&[command("n", Action::Increment(3)), command("n", Action::Increment(4))]), Ok(first));
    assert_eq!(gather(&[command("a", Action::Set("second".into()))]), Ok(first));
    assert_eq!(cluster.shown(0, "a"), Some("second".into()), "seen before it is given out");
    assert_eq!(cluster.shown(1, "a"), None);
    cluster.nodes.get_mut("node_00").expect("known").seal(now);
    assert_eq!(acknowledged(&mut cluster, "node_00"), [first], "clients of one batch are told once");
    assert_eq!(cluster.nodes["node_00"].gauges().log_batches, before + 1);
    cluster.settle();
    cluster.assert_converged();
    let sum = |index: usize| match cluster.nodes[&name(index)]
        .keyspace()
        .object(&crdt::Key::new(Namespace(0), Kind::PnCounter, "n"))
        .as_deref()
    {
        Some(Object::PnCounter(counter)) => counter.value().ok(),
        _ => None,
    };
    for index in 0..3 {
        assert_eq!((cluster.shown(index, "a"), sum(index)), (Some("second".into()), Some(9)));
    }
    // The later command of the batch saw the earlier one, and so replaced it: there was no conflict.
    assert_eq!(cluster.nodes["node_00"].journal(), []);
}

#[test]
fn what_was_gathered_leaves_before_anything_else_happens_and_when_it_is_large() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.run(3_000);
    let now = cluster.now;
    let node = cluster.nodes.get_mut("node_00").expect("known");
    let batch = node.gather(now, &[command("a", Action::Set(1_i64.into()))]).unwrap();
    node.handle_timeout(now);
    assert_eq!(acknowledged(&mut cluster, "node_00"), [batch]);
    let node = cluster.nodes.get_mut("node_00").expect("known");
    let count = replica::GATHERED_CHANGES_MAX * 5 / 2;
    for number in 0..count {
        node.gather(now, &[command(&format!("k{number}"), Action::Set(1_i64.into()))]).unwrap();
    }
    node.seal(now);
    let batches: Vec<u64> = acknowledged(&mut cluster, "node_00").iter().map(|batch| batch.seq).collect();
    assert_eq!(batches, [batch.seq + 1, batch.seq + 2, batch.seq + 3]);
    cluster.settle();
    cluster.assert_converged();
    assert_eq!(cluster.shown(1, &format!("k{}", count - 1)), Some(1_i64.into()));
}
