//! Nodes whose state goes back to an earlier one. What they had written since is known by the others alone; a sequence
//! number that were used twice would be lost silently.

use std::fs;

use crate::cluster::Cluster;
use crate::node::copy_folder;
use crate::oracle::Oracle;
use crate::patience::{EVENTUALLY, wait_for};
use crate::writers::{Pace, Writers};

/// Writes on all nodes for a while, until all have it.
fn write_and_converge(cluster: &mut Cluster, oracle: &mut Oracle) {
    let writers = Writers::start(&cluster.nodes, Pace::default());
    writers.wait_for_more_on_each(100);
    oracle.absorb(writers.finish());
    cluster.converged();
}

fn replica(cluster: &mut Cluster, node: usize) -> String {
    cluster.nodes[node].answering().clock().unwrap().replica
}

/// Starts a node whose state is an old one, and goes on to the end of the scenario.
fn go_on_with_a_fresh_replica(mut cluster: Cluster, mut oracle: Oracle, before: &str) {
    cluster.restart(2);
    cluster.linked();
    wait_for("a fresh replica id", EVENTUALLY, || {
        let now = cluster.nodes[2].answering().clock().map_err(|error| error.to_string())?.replica;
        if now == before { Err(format!("it is {now} as before")) } else { Ok(()) }
    });
    write_and_converge(&mut cluster, &mut oracle);
    cluster.assert_sound(&oracle);
}

#[test]
fn a_state_folder_that_was_put_back_is_noticed() {
    let mut cluster = Cluster::of(3);
    let mut oracle = Oracle::default();
    write_and_converge(&mut cluster, &mut oracle);
    cluster.nodes[2].stop();
    let (state, kept) = (cluster.nodes[2].folder.join("state"), cluster.folder("kept"));
    copy_folder(&state, &kept);
    cluster.restart(2);
    cluster.linked();
    write_and_converge(&mut cluster, &mut oracle);
    let before = replica(&mut cluster, 2);
    cluster.nodes[2].kill();
    fs::remove_dir_all(&state).unwrap();
    copy_folder(&kept, &state);
    go_on_with_a_fresh_replica(cluster, oracle, &before);
}

#[test]
fn a_backup_is_restored_under_a_fresh_replica_id() {
    let mut cluster = Cluster::of(3);
    let mut oracle = Oracle::default();
    write_and_converge(&mut cluster, &mut oracle);
    let backup = cluster.folder("node_03.backup").to_str().unwrap().to_owned();
    cluster.nodes[2].stop();
    cluster.nodes[2].call(&["backup", &backup]).unwrap();
    cluster.restart(2);
    cluster.linked();
    write_and_converge(&mut cluster, &mut oracle);
    let before = replica(&mut cluster, 2);
    // The machine is lost, with all that was on it.
    cluster.nodes[2].kill();
    fs::remove_dir_all(&cluster.nodes[2].folder).unwrap();
    cluster.nodes[2].call(&["restore", &backup]).unwrap();
    go_on_with_a_fresh_replica(cluster, oracle, &before);
}
