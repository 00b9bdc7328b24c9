//! Nodes that were away for longer than the others keep their logs.

use std::time::Duration;

use crate::client::Outcome;
use crate::cluster::Cluster;
use crate::oracle::{Oracle, Write};
use crate::patience::{EVENTUALLY, wait_for};
use crate::relay::Conditions;
use crate::settings;
use crate::writers::{Pace, Writers, filled};

/// Log that is kept, in bytes: a fraction of what is written while a node is away.
const LOG_BYTES: &str = "1048576";

/// Writes registers of 8 KiB, `from..to`, through one node.
fn write_bulk(cluster: &Cluster, oracle: &mut Oracle, from: u64, to: u64) -> u64 {
    let mut client = cluster.nodes[0].client().unwrap();
    let mut bytes = 0;
    for number in from..to {
        let value = filled(&format!("bulk {number}"), 8 << 10);
        bytes += value.len() as u64;
        let write = Write::Set { key: format!("bulk:{number}"), value };
        let outcome = write.send(&mut client);
        assert_eq!(outcome, Outcome::Done);
        oracle.note("bulk", &write, &outcome);
    }
    bytes
}

#[test]
fn a_node_away_beyond_the_log_floor_returns_by_snapshot() {
    let mut cluster = Cluster::plan(3);
    cluster.set_all(settings::LOG_BYTES_MAX, LOG_BYTES);
    cluster.found();
    let writers = Writers::start(&cluster.nodes, Pace::default());
    writers.wait_for_more_on_each(100);
    let mut oracle = writers.finish();
    cluster.converged();
    cluster.nodes[2].stop();

    write_bulk(&cluster, &mut oracle, 0, 600);
    let writers = Writers::start(&cluster.nodes[..2], Pace::default());
    writers.wait_for_more_on_each(50);
    cluster.restart(2);
    cluster.linked();
    let returned = Writers::start(&cluster.nodes[2..], Pace::default());
    returned.wait_for_more_on_each(50);
    oracle.absorb(writers.finish());
    oracle.absorb(returned.finish());
    cluster.assert_sound(&oracle);
    let snapshots = cluster.nodes[2].client().unwrap().stats_sum(settings::SNAPSHOT_COUNTERS).unwrap();
    assert!(snapshots > 0.0, "it returned without a snapshot, so the log was not cut");
}

#[test]
fn a_snapshot_that_is_interrupted_goes_on_where_it_was() {
    let mut cluster = Cluster::plan(3);
    cluster.set_all(settings::LOG_BYTES_MAX, LOG_BYTES);
    cluster.relay(3);
    cluster.found();
    cluster.converged();
    cluster.nodes[2].stop();
    let mut oracle = Oracle::default();
    let data = write_bulk(&cluster, &mut oracle, 0, 800);
    // Both links let through 1 MiB/s: the snapshot takes seconds, and can be met in its middle.
    let narrow =
        Conditions { delay: Duration::from_millis(5), bytes_per_second: Some(1 << 20), ..Conditions::default() };
    for other in 0..2 {
        cluster.mesh().set(other, 2, narrow);
    }
    let before = cluster.mesh().bytes_to(2);
    let reached = |cluster: &Cluster, share: u64| {
        wait_for("partly sent", EVENTUALLY, || {
            let sent = cluster.mesh().bytes_to(2) - before;
            if sent >= data / 6 * share { Ok(()) } else { Err(format!("{sent} of {data} bytes")) }
        });
    };
    cluster.restart(2);
    // First the link goes away under it.
    reached(&cluster, 2);
    cluster.mesh().part(&[2]);
    cluster.unlinked(2, 0);
    cluster.unlinked(2, 1);
    cluster.mesh().heal();
    // Then the node itself.
    reached(&cluster, 4);
    cluster.nodes[2].kill();
    cluster.restart(2);
    cluster.linked();
    cluster.assert_sound(&oracle);
    let sent = cluster.mesh().bytes_to(2) - before;
    // From the beginning each time, it would have been twice of all.
    assert!(sent < data / 10 * 16, "{sent} bytes reached the node for {data} of data");
}
