//! Daemons that are killed while they are written to.

use crate::cluster::Cluster;
use crate::settings;
use crate::writers::{Pace, Writers};

const KILLS: usize = 50;

#[test]
fn fifty_kills_under_load_lose_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::plan(3);
    // Under both policies an acknowledged write survives kill -9.
    cluster.nodes[0].set(settings::DURABILITY, "\"always\"");
    cluster.found();
    let writers = Writers::start(&cluster.nodes, Pace::default());
    for kill in 0..KILLS {
        // At some moment that only the load decides.
        writers.wait_for_more(1 + (kill as u64 * 7_919) % 97);
        let victim = (kill * 2 + kill / 7) % 3;
        cluster.nodes[victim].kill();
        cluster.restart(victim);
    }
    cluster.linked();
    writers.wait_for_more_on_each(20);
    cluster.assert_sound(&writers.finish());
}

#[test]
fn all_nodes_killed_at_once_come_back_with_everything() {
    let mut cluster = Cluster::of(3);
    let writers = Writers::start(&cluster.nodes, Pace::default());
    for _ in 0..3 {
        writers.wait_for_more_on_each(100);
        cluster.nodes.iter_mut().for_each(|node| node.kill());
        cluster.nodes.iter_mut().for_each(|node| node.start());
        cluster.linked();
    }
    cluster.assert_sound(&writers.finish());
}

#[test]
fn a_graceful_stop_drains_and_a_start_goes_on() {
    let mut cluster = Cluster::of(3);
    let writers = Writers::start(&cluster.nodes, Pace::default());
    for node in 0..3 {
        writers.wait_for_more_on_each(50);
        cluster.nodes[node].stop();
        writers.wait_for_more(50);
        cluster.restart(node);
    }
    cluster.linked();
    cluster.assert_sound(&writers.finish());
}
