//! SWIM on a virtual clock: packets are carried by hand, so that links can be cut.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use transport::membership::{Membership, MembershipError, MembershipTiming, Output, StoreGeneration};
use transport::{Bytes, NodeId};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

struct Cluster {
    now_ms: u64,
    nodes: BTreeMap<NodeId, Membership>,
    stored: BTreeMap<NodeId, Arc<AtomicU64>>,
    links: BTreeSet<(NodeId, NodeId)>,
    told: Vec<(NodeId, Output)>,
}

fn start(name: &NodeId, stored: &Arc<AtomicU64>) -> Membership {
    let store = stored.clone();
    let mut seed = [0; 32];
    seed[0] = name.as_str().as_bytes()[0];
    let keep: StoreGeneration = Box::new(move |generation| {
        store.store(generation, Ordering::SeqCst);
        Ok(())
    });
    let last = stored.load(Ordering::SeqCst);
    Membership::new(name.clone(), last, &MembershipTiming::default(), seed, keep).unwrap()
}

impl Cluster {
    fn new(names: &[&str]) -> Self {
        let stored: BTreeMap<NodeId, Arc<AtomicU64>> = names.iter().map(|name| (node(name), Arc::default())).collect();
        let nodes = stored.iter().map(|(name, stored)| (name.clone(), start(name, stored))).collect();
        Self { now_ms: 1, nodes, stored, links: BTreeSet::new(), told: Vec::new() }
    }

    fn link(&mut self, one: &str, other: &str, up: bool) {
        for (from, to) in [(node(one), node(other)), (node(other), node(one))] {
            let link = (from.clone(), to.clone());
            self.links.remove(&link);
            self.links.extend(up.then_some(link));
            self.nodes.get_mut(&from).unwrap().handle_link(self.now_ms, &to, up);
        }
    }

    fn carry(&mut self) {
        loop {
            let mut packets: Vec<(NodeId, NodeId, Bytes)> = Vec::new();
            for (name, membership) in &mut self.nodes {
                while let Some(output) = membership.poll_output() {
                    match output {
                        Output::Send { to, bytes } => packets.push((name.clone(), to, bytes)),
                        other => self.told.push((name.clone(), other)),
                    }
                }
            }
            if packets.is_empty() {
                return;
            }
            for (from, to, bytes) in packets {
                if self.links.contains(&(from.clone(), to.clone())) {
                    self.nodes.get_mut(&to).unwrap().handle_packet(self.now_ms, &from, &bytes).unwrap();
                }
            }
        }
    }

    fn run(&mut self, milliseconds: u64) {
        let end = self.now_ms + milliseconds;
        self.carry();
        while let Some(next) = self.nodes.values().filter_map(Membership::poll_timeout).min().filter(|at| *at <= end) {
            self.now_ms = next.max(self.now_ms);
            for membership in self.nodes.values_mut() {
                membership.handle_timeout(self.now_ms).unwrap();
            }
            self.carry();
        }
        self.now_ms = end;
    }

    fn alive(&self, name: &str) -> Vec<String> {
        self.nodes[&node(name)].alive().iter().map(ToString::to_string).collect()
    }
}

fn three() -> Cluster {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    for (one, other) in [("a", "b"), ("a", "c"), ("b", "c")] {
        cluster.link(one, other, true);
    }
    cluster.run(30_000);
    cluster
}

#[test]
fn members_find_each_other_and_stay() {
    let mut cluster = three();
    cluster.told.clear();
    cluster.run(300_000);
    assert_eq!(cluster.alive("a"), ["b", "c"]);
    assert_eq!(cluster.alive("c"), ["a", "b"]);
    assert!(cluster.told.is_empty(), "nothing happens in a cluster at rest: {:?}", cluster.told);
}

#[test]
fn a_member_reached_only_through_another_is_not_down() {
    let mut cluster = three();
    cluster.link("a", "b", false);
    cluster.run(120_000);
    assert_eq!(cluster.alive("a"), ["b", "c"]);
}

#[test]
fn a_silent_member_is_down_and_comes_back_in_a_new_life() {
    let mut cluster = three();
    for other in ["a", "b"] {
        cluster.link("c", other, false);
    }
    cluster.run(120_000);
    assert_eq!((cluster.alive("a"), cluster.alive("b")), (vec!["b".to_owned()], vec!["a".to_owned()]));
    assert_eq!(cluster.alive("c"), Vec::<String>::new());
    assert!(cluster.told.contains(&(node("c"), Output::Isolated)));
    for other in ["a", "b"] {
        cluster.link("c", other, true);
    }
    cluster.run(180_000);
    assert_eq!(cluster.alive("a"), ["b", "c"]);
    assert_eq!(cluster.alive("c"), ["a", "b"]);
}

#[test]
fn a_restarted_member_takes_the_place_of_its_former_life() {
    let mut cluster = three();
    let stored = cluster.stored[&node("b")].clone();
    let before = stored.load(Ordering::SeqCst);
    cluster.nodes.insert(node("b"), start(&node("b"), &stored));
    assert_eq!(stored.load(Ordering::SeqCst), before + 1);
    for other in ["a", "c"] {
        cluster.link("b", other, false);
        cluster.link("b", other, true);
    }
    cluster.run(60_000);
    assert_eq!(cluster.alive("a"), ["b", "c"]);
    assert_eq!(cluster.alive("b"), ["a", "c"]);
}

#[test]
fn what_is_no_packet_of_its_link_is_refused() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    cluster.link("a", "b", true);
    let a = cluster.nodes.get_mut(&node("a")).unwrap();
    let Some(Output::Send { bytes, .. }) = a.poll_output() else { panic!("a announces itself over a new link") };
    let b = cluster.nodes.get_mut(&node("b")).unwrap();
    let other = b.handle_packet(1, &node("c"), &bytes);
    assert!(matches!(other, Err(MembershipError::OtherSender)), "{other:?}");
    for length in 0..bytes.len() {
        assert!(matches!(b.handle_packet(1, &node("a"), &bytes[..length]), Err(MembershipError::Malformed)));
    }
    assert!(matches!(b.handle_packet(1, &node("a"), &[0xff; 2_000]), Err(MembershipError::Malformed)));
    b.handle_packet(1, &node("a"), &bytes).unwrap();
}

#[test]
fn a_generation_that_cannot_be_stored_keeps_a_node_silent() {
    let full: StoreGeneration = Box::new(|_| Err(io::Error::from(io::ErrorKind::StorageFull)));
    let refused = Membership::new(node("a"), 0, &MembershipTiming::default(), [0; 32], full);
    assert!(matches!(refused, Err(MembershipError::NotStored(_))));
}
