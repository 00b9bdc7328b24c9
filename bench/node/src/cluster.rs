//! Nodes of one cluster on loopback addresses.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::door::Clock;
use crate::failure::Failure;
use crate::node::Node;
use crate::patience::{APPLIED, START, wait_for};
use crate::relay::Relay;

/// Nodes `node_01`, `node_02`, ...; they end with this value.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    relay: Option<Relay>,
    program: PathBuf,
    root: PathBuf,
}

impl Cluster {
    /// Plans a cluster in a folder. Settings may be made until [`Cluster::found`].
    pub(crate) fn plan(program: &Path, root: &Path, count: usize) -> Result<Self, Failure> {
        let mut cluster = Self { nodes: Vec::new(), relay: None, program: program.to_owned(), root: root.to_owned() };
        for _ in 0..count {
            cluster.plan_node()?;
        }
        Ok(cluster)
    }

    /// Plans one node more, and gives its place.
    pub(crate) fn plan_node(&mut self) -> Result<usize, Failure> {
        let name = format!("node_{:02}", self.nodes.len() + 1);
        self.nodes.push(Node::plan(&self.program, &self.root, name)?);
        Ok(self.nodes.len() - 1)
    }

    /// Sets a key on all nodes.
    pub(crate) fn set_all(&mut self, key: &str, value: &str) {
        self.nodes.iter_mut().for_each(|node| node.set(key, value));
    }

    /// Puts a relay between all nodes.
    pub(crate) fn relay(&mut self, delay: Duration) -> Result<(), Failure> {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address).collect();
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let relay = Relay::start(&addresses, delay)?;
        for (from, node) in self.nodes.iter_mut().enumerate() {
            for (to, name) in names.iter().enumerate().filter(|&(to, _)| to != from) {
                node.set(&format!("peers.{name}"), format!("[\"{}\"]", relay.door(from, to)));
            }
        }
        self.relay = Some(relay);
        Ok(())
    }

    /// The relay of a cluster that was given one.
    pub(crate) fn through(&self) -> &Relay {
        self.relay.as_ref().expect("only clusters with a relay are asked for it")
    }

    /// Makes the cluster and waits for all links.
    pub(crate) fn found(&mut self) -> Result<(), Failure> {
        let (first, others) = self.nodes.split_first_mut().expect("a cluster has a node");
        first.init()?;
        first.start()?;
        first.answering()?;
        for other in others {
            other.join(first)?;
            other.start()?;
            other.answering()?;
        }
        self.linked()
    }

    /// Waits until each node that runs takes writes and has a link to each other one.
    pub(crate) fn linked(&mut self) -> Result<(), Failure> {
        let running = self.nodes.iter().filter(|node| node.is_started());
        let names: Vec<String> = running.map(|node| node.name.clone()).collect();
        for node in self.nodes.iter_mut().filter(|node| node.is_started()) {
            let own = node.name.clone();
            wait_for(&format!("linked: {own}"), START, || {
                node.check()?;
                let linked = node.door()?.linked()?;
                if let Some(missing) = names.iter().find(|name| **name != own && !linked.contains(name)) {
                    return Ok(Err(format!("no link to {missing}, only to {linked:?}")));
                }
                // Refused until the node has listened to its members.
                Ok(node.door()?.ask::<i64>(&["SADD", "bench:nodes", &own]).map_err(|error| error.to_string()))
            })?;
        }
        Ok(())
    }

    /// Waits until all nodes that run have applied the same and show the same; gives their clock and how long it took,
    /// to the pause between two looks.
    pub(crate) fn converged(&mut self) -> Result<(Clock, Duration), Failure> {
        let everybody: Vec<usize> = (0..self.nodes.len()).filter(|place| self.nodes[*place].is_started()).collect();
        self.converged_among(&everybody)
    }

    /// The same for some nodes.
    pub(crate) fn converged_among(&mut self, places: &[usize]) -> Result<(Clock, Duration), Failure> {
        let begun = Instant::now();
        let clock = wait_for("equal", APPLIED, || {
            let mut clocks = Vec::new();
            for &place in places {
                self.nodes[place].check()?;
                clocks.push(self.nodes[place].door()?.clock()?);
            }
            let first = clocks.first().cloned().unwrap_or_default();
            Ok(if clocks.iter().all(|clock| *clock == first) { Ok(first) } else { Err(told(&clocks)) })
        })?;
        Ok((clock, begun.elapsed()))
    }

    /// Lets each node compare itself with all others, by its own means.
    pub(crate) fn verified(&mut self) -> Result<(), Failure> {
        self.converged()?;
        let running = self.nodes.iter().filter(|node| node.is_started());
        let names: Vec<String> = running.map(|node| node.name.clone()).collect();
        for node in self.nodes.iter_mut().filter(|node| node.is_started()) {
            let others: Vec<String> = names.iter().filter(|name| **name != node.name).cloned().collect();
            // What a member told may be older than what it has; asked again it tells anew.
            wait_for(&format!("verified by {}", node.name), START, || {
                let differing = node.door()?.differing(&others)?;
                Ok(if differing.is_empty() { Ok(()) } else { Err(differing.join(", ")) })
            })?;
        }
        Ok(())
    }
}

fn told(clocks: &[Clock]) -> String {
    let told = clocks.iter().map(|clock| format!("{} operations, digest {}", clock.operations(), clock.digest));
    told.collect::<Vec<_>>().join("; ")
}
