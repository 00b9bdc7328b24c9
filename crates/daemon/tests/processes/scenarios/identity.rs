//! Who may be in a cluster, and under which name.

use crate::cluster::Cluster;
use crate::patience::{EVENTUALLY, wait_for};
use crate::writers::{Pace, Writers};

#[test]
fn what_cannot_join_is_told_why() {
    let mut cluster = Cluster::plan(3);
    let [first, second, third] = cluster.nodes.as_mut_slice() else { panic!("three nodes were planned") };
    first.configure();
    first.call(&["init", "--node-id", "node_01"]).unwrap();
    first.start();
    first.answering();
    let refused = |result: Result<String, String>, code: &str| {
        let told = result.expect_err("it should have been refused");
        assert!(told.contains(code), "no {code} in: {told}");
    };
    refused(first.call(&["init", "--node-id", "node_01"]), "ERR_");
    let token = first.invite("node_02");
    second.configure();
    second.call(&["join", &token]).unwrap();
    // Used, and by another machine.
    third.configure();
    refused(third.call(&["join", &token]), "ERR_TOKEN_USED");
    refused(first.call(&["invite", "--node-id", "node_02"]), "ERR_NODE_ID_TAKEN");
    refused(second.call(&["invite", "--node-id", "node_03"]), "ERR_NOT_INVITER");
    let mut torn = first.invite("node_03");
    torn.truncate(torn.len() - 3);
    refused(third.call(&["join", &torn]), "ERR_TOKEN");
    // None of that is in the way of a good one.
    let token = first.invite("node_03");
    third.call(&["join", &token]).unwrap();
    second.start();
    third.start();
    cluster.linked();
    cluster.assert_sound(&crate::oracle::Oracle::default());
}

#[test]
fn a_copied_node_is_found_out() {
    let mut cluster = Cluster::of(3);
    let writers = Writers::start(&cluster.nodes, Pace::default());
    writers.wait_for_more_on_each(50);
    cluster.nodes[2].stop();
    let mut copy = cluster.nodes[2].twin(cluster.folder("copy"));
    cluster.restart(2);
    cluster.linked();
    copy.start();
    wait_for("noticed", EVENTUALLY, || {
        let logs = cluster.nodes.iter().map(|node| node.log()).chain([copy.log()]);
        let is_told = logs.into_iter().any(|log| log.contains("ERR_NODE_ID_COLLISION"));
        if is_told { Ok(()) } else { Err("no log tells of ERR_NODE_ID_COLLISION") }
    });
    copy.kill();
    cluster.linked();
    writers.wait_for_more_on_each(50);
    cluster.assert_sound(&writers.finish());
}

#[test]
fn members_change_the_key_behind_macs_while_they_write() {
    let mut cluster = Cluster::of(3);
    let writers = Writers::start(&cluster.nodes, Pace::default());
    writers.wait_for_more_on_each(50);
    let refused = |result: Result<String, String>, code: &str| {
        let told = result.expect_err("it should have been refused");
        assert!(told.contains(code), "no {code} in: {told}");
    };
    let [first, second, third] = cluster.nodes.as_mut_slice() else { panic!("three nodes were made") };
    refused(first.call(&["key", "promote"]), "ERR_KEY_ROTATION");
    let line = first.call(&["key", "new"]).unwrap();
    let line = line.trim();
    refused(first.call(&["key", "new"]), "ERR_KEY_ROTATION");
    refused(first.call(&["key", "retire", "--force"]), "ERR_KEY_ROTATION");
    refused(second.call(&["key", "add", &line[..line.len() - 1]]), "ERR_KEY_INVALID");
    second.call(&["key", "add", line]).unwrap();
    third.call(&["key", "add", line]).unwrap();
    third.call(&["key", "add", line]).expect("what is there already is no mistake");
    for node in [first, second, third] {
        node.call(&["key", "promote"]).unwrap();
    }
    writers.wait_for_more_on_each(50);
    // Also a node that takes its keys from the folder.
    cluster.nodes[1].stop();
    cluster.restart(1);
    cluster.linked();
    writers.wait_for_more_on_each(50);
    for node in &cluster.nodes {
        wait_for("needed by nobody", EVENTUALLY, || {
            let listed = node.call(&["key", "list"])?;
            if listed.contains("valid as well; 0 batches") { Ok(()) } else { Err(listed) }
        });
    }
    for node in &cluster.nodes {
        node.call(&["key", "retire"]).unwrap();
        assert_eq!(node.call(&["key", "list"]).unwrap(), "key 2  signs\n");
    }
    writers.wait_for_more_on_each(50);
    cluster.assert_sound(&writers.finish());
    for node in &cluster.nodes {
        assert!(!node.log().contains("ERR_HMAC_MISMATCH"), "{}", node.log());
    }
}

#[test]
fn the_old_key_stays_while_a_member_lacks_batches_with_it() {
    let mut cluster = Cluster::of(2);
    cluster.nodes[1].stop();
    let mut client = cluster.nodes[0].answering();
    client.ask::<String>(&["SET", "greeting", "hello"]).unwrap();
    let line = cluster.nodes[0].call(&["key", "new"]).unwrap();
    // Without a daemon the folder alone is changed.
    cluster.nodes[1].call(&["key", "add", line.trim()]).unwrap();
    cluster.nodes[0].call(&["key", "promote"]).unwrap();
    for node in &cluster.nodes {
        let told = node.call(&["key", "retire"]).expect_err("a member needs the old key, or nobody knows");
        assert!(told.contains("ERR_KEY_NEEDED"), "{told}");
    }
    cluster.restart(1);
    cluster.linked();
    cluster.converged();
    cluster.nodes[1].call(&["key", "promote"]).unwrap();
    for node in &cluster.nodes {
        wait_for("retired", EVENTUALLY, || node.call(&["key", "retire"]));
    }
    cluster.assert_sound(&crate::oracle::Oracle::default());
}
