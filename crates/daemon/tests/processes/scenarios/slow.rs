//! Members that cannot keep up. Nobody waits for them, and nobody's memory pays for them.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::relay::Conditions;
use crate::writers::{Pace, Writers};

/// Longest that a write may take on a node that is well, on a busy machine. A write that waited for the slow peer would
/// take as long as the peer's backlog.
const WRITE_MAX: Duration = Duration::from_secs(4);

#[test]
fn a_slow_peer_slows_nobody_down() {
    let mut cluster = Cluster::plan(3);
    cluster.relay(4);
    cluster.found();
    let slow =
        Conditions { delay: Duration::from_millis(40), bytes_per_second: Some(128 << 10), ..Conditions::default() };
    for other in 0..2 {
        cluster.mesh().set(other, 2, slow);
        cluster.mesh().set(2, other, slow);
    }
    let pace = Pace { value_bytes: 512, pause: Duration::from_millis(1), ..Pace::default() };
    let writers = Writers::start(&cluster.nodes[..2], pace);
    writers.wait_for_more_on_each(1_500);
    for node in ["node_01", "node_02"] {
        assert!(writers.slowest(node) < WRITE_MAX, "a write on {node} took {:?}", writers.slowest(node));
    }
    cluster.assert_sound(&writers.finish());
}

#[test]
fn a_paused_node_holds_nobody_up_and_catches_up() {
    let mut cluster = Cluster::of(3);
    let writers = Writers::start(&cluster.nodes[..2], Pace::default());
    cluster.nodes[2].pause();
    writers.wait_for_more_on_each(500);
    cluster.unlinked(0, 2);
    assert!(writers.slowest("node_01") < WRITE_MAX, "a write took {:?}", writers.slowest("node_01"));
    cluster.nodes[2].resume();
    cluster.linked();
    cluster.assert_sound(&writers.finish());
}
