//! `node.catchup.bytes`: what the wire carries to a node that was cut off, beside what it missed.

use std::time::Duration;

use bench_results::{Better, Claim};

use crate::failure::Failure;
use crate::load::{KEYS, Load, VALUE_BYTES};
use crate::node::told_seconds;
use crate::patience::{START, wait_for};
use crate::run::{Figure, Run};

const ID: &str = "node.catchup.bytes";
/// Bytes on the wire by bytes of the missing batches.
const GOAL: f64 = 1.05;
/// The node that is cut off.
const AWAY: usize = 2;
const PIPELINE: u32 = 16;
/// Batches that are kept because a member lacks them.
const LOG_BYTES: &str = "crdt_log_bytes";
/// A log of so little is empty: what is written now and then, by nobody's command.
const EMPTY_BYTES: f64 = 4_096.0;

pub(super) fn ids() -> Vec<String> {
    vec![ID.to_owned()]
}

pub(super) fn measure(run: &Run) -> Result<Vec<Claim>, Failure> {
    let folder = run.folder.within("catchup")?;
    let mut cluster = run.plan(&folder, 3)?;
    // A death is noticed within seconds, so that the run need not wait for it.
    for (key, value) in [("idle_timeout_ms", "3000"), ("keep_alive_ms", "800"), ("dial_max_ms", "1000")] {
        cluster.set_all(&format!("transport.{key}"), value);
    }
    cluster.relay(Duration::ZERO)?;
    cluster.found()?;
    let load = Load { test: "set", pipeline: PIPELINE, requests: run.effort.missed_writes };
    load.run("node_01", &cluster.nodes[0].socket(), &folder.path().join("load"))?;
    cluster.converged()?;
    empty_log(&mut cluster.nodes[0])?;

    run.say("catch-up: cutting a node off");
    cluster.through().cut(AWAY, true);
    let name = cluster.nodes[AWAY].name.clone();
    for node in &mut cluster.nodes[..AWAY] {
        wait_for(&format!("without a link to {name}: {}", node.name), START, || {
            let linked = node.door()?.linked()?;
            Ok(if linked.contains(&name) { Err("the link is up".to_owned()) } else { Ok(()) })
        })?;
    }
    let log_before = cluster.nodes[0].door()?.metric(LOG_BYTES)?;
    load.run("node_01", &cluster.nodes[0].socket(), &folder.path().join("load"))?;
    let (clock, _) = cluster.converged_among(&[0, 1])?;
    let missing = cluster.nodes[0].door()?.metric(LOG_BYTES)? - log_before;
    let before_heal = cluster.nodes[AWAY].door()?.clock()?;
    if before_heal == clock || missing <= 0.0 {
        let what = format!("{name} has missed nothing ({missing} B of log)");
        return Err(Failure::Differs { what });
    }

    run.say(&format!("catch-up: {missing:.0} B of batches are missing; healing"));
    let lost_before = lost(&mut cluster)?;
    let before = cluster.through().passed(AWAY);
    cluster.through().cut(AWAY, false);
    let (_, took) = cluster.converged()?;
    let passed = cluster.through().passed(AWAY).since(before);
    let lost = lost(&mut cluster)? - lost_before;
    let dropped = cluster.through().dropped();
    let snapshots = cluster.nodes[AWAY].door()?.metric("crdt_snapshots_installed_total*")?;
    cluster.verified()?;
    let operations = clock.operations() - before_heal.operations();
    Ok(vec![
        run.claim(Figure {
            id: ID.to_owned(),
            what: "bytes on the wire, both ways, until a node that was cut off has applied all, by those it missed"
                .to_owned(),
            ours: passed.on_wire() as f64 / missing,
            peer: GOAL,
            peer_name: "goal".to_owned(),
            unit: "times",
            better: Better::Lower,
            conditions: format!(
                "three nodes, one cut off until its links are down, {} SET of {KEYS} random keys and {VALUE_BYTES} B \
             through another one meanwhile; {operations} operations and {missing:.0} B of batches missing, by the \
             growth of {LOG_BYTES} of the written node; over the relay from the heal until all is equal, to and from \
             the node: {} B in {} packets, with headers of IPv4 and UDP {} B; payload alone {:.4} times; handshakes, \
             acknowledgements and digests are within; {}; QUIC took {lost:.0} packets for lost, {dropped} were \
             dropped in the cut; snapshots: {snapshots:.0}",
                load.requests,
                passed.bytes,
                passed.packets,
                passed.on_wire(),
                passed.bytes as f64 / missing,
                told_seconds(took),
            ),
        }),
    ])
}

/// Waits until the log is cut: members tell what they have applied now and then. What were cut later, while the missing
/// batches come, would be missing from their sum.
fn empty_log(node: &mut crate::node::Node) -> Result<(), Failure> {
    wait_for("a log that every member has, and that is cut", START, || {
        let _: redis::Value = node.door()?.ask(&["CRDT.GC"])?;
        let bytes = node.door()?.metric(LOG_BYTES)?;
        Ok(if bytes < EMPTY_BYTES { Ok(()) } else { Err(format!("{bytes} B")) })
    })
}

/// Packets that QUIC took for lost, on all nodes.
fn lost(cluster: &mut crate::cluster::Cluster) -> Result<f64, Failure> {
    cluster.nodes.iter_mut().map(|node| node.door()?.metric("crdt_packets_lost_total*")).sum()
}
