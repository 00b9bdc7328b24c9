//! Parts of a cluster that cannot hear each other.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::patience::{EVENTUALLY, wait_for};
use crate::relay::Conditions;
use crate::writers::{Pace, Writers};

/// A link as it may be between continents on a bad day, but for the delay, which only costs time here.
fn rough() -> Conditions {
    Conditions {
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        loss: 0.01,
        duplication: 0.01,
        reordering: 0.01,
        ..Conditions::default()
    }
}

#[test]
fn both_sides_of_a_partition_write_and_agree_afterwards() {
    let mut cluster = Cluster::plan(3);
    cluster.relay(1);
    cluster.found();
    cluster.mesh().set_all(rough());
    let writers = Writers::start(&cluster.nodes, Pace::default());
    writers.wait_for_more_on_each(100);

    cluster.mesh().part(&[0]);
    cluster.unlinked(0, 1);
    cluster.unlinked(2, 0);
    writers.wait_for_more_on_each(200);
    cluster.nodes[0].client().unwrap().ask::<()>(&["SET", "split", "left"]).unwrap();
    cluster.nodes[2].client().unwrap().ask::<()>(&["SET", "split", "right"]).unwrap();
    let mut second = cluster.nodes[1].client().unwrap();
    wait_for("heard on its own side", EVENTUALLY, || match second.ask::<Option<String>>(&["GET", "split"]) {
        Ok(Some(value)) if value == "right" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let left: String = cluster.nodes[0].client().unwrap().ask(&["GET", "split"]).unwrap();
    assert_eq!(left, "left", "a cut lets nothing through");

    cluster.mesh().heal();
    cluster.linked();
    writers.wait_for_more_on_each(100);
    cluster.assert_sound(&writers.finish());
    let shown: String = second.ask(&["GET", "split"]).unwrap();
    let hidden = if shown == "left" { "right" } else { "left" };
    for node in &cluster.nodes {
        let journal = node.client().unwrap().conflicts().unwrap();
        assert!(journal.lines().any(|line| line == hidden), "{hidden} is not in the journal of {}", node.name);
    }
}

#[test]
fn cuts_that_wander_and_cuts_of_one_way_lose_nothing() {
    let mut cluster = Cluster::plan(3);
    cluster.relay(2);
    cluster.found();
    cluster.mesh().set_all(rough());
    let writers = Writers::start(&cluster.nodes, Pace::default());
    for node in 0..3 {
        // Short ones, which links survive: what was sent meanwhile is sent again.
        cluster.mesh().part(&[node]);
        writers.wait_for_more_on_each(100);
        cluster.mesh().heal();
        // And one way, until it is noticed.
        let next = (node + 1) % 3;
        cluster.mesh().cut(node, next);
        cluster.unlinked(next, node);
        writers.wait_for_more_on_each(50);
        cluster.mesh().heal();
    }
    cluster.linked();
    cluster.assert_sound(&writers.finish());
    let (delivered, dropped) = cluster.mesh().packets();
    assert!(dropped > 0 && delivered > dropped, "{delivered} delivered, {dropped} dropped");
}

#[test]
fn seven_nodes_in_two_halves_agree_afterwards() {
    let mut cluster = Cluster::plan(7);
    cluster.relay(5);
    cluster.found();
    cluster.mesh().set_all(rough());
    let writers = Writers::start(&cluster.nodes, Pace::default());
    writers.wait_for_more_on_each(30);
    cluster.mesh().part(&[0, 1, 2]);
    cluster.unlinked(0, 6);
    cluster.unlinked(5, 1);
    writers.wait_for_more_on_each(50);
    // One of each half is away when the halves meet again, and comes back to both.
    cluster.nodes[2].kill();
    cluster.nodes[3].kill();
    cluster.mesh().heal();
    cluster.restart(2);
    cluster.restart(3);
    cluster.linked();
    writers.wait_for_more_on_each(30);
    cluster.assert_sound(&writers.finish());
}
