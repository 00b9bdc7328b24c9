//! Clusters of real daemons, made by the commands that a person would type.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::client::Clock;
use crate::node::Daemon;
use crate::oracle::Oracle;
use crate::patience::{EVENTUALLY, SOON, wait_for};
use crate::places::{Place, Places};
use crate::relay::Mesh;
use crate::settings;

/// A cluster below a temporary folder.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Daemon>,
    mesh: Option<Mesh>,
    root: TempDir,
    /// The last to go.
    places: Places,
}

impl Cluster {
    /// Plans nodes `node_01`, `node_02`, ... with brisk links. Settings and variables may be set before
    /// [`Cluster::found`].
    pub(crate) fn plan(count: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let places = Places::make(count);
        let plan = |(number, place): (usize, &Place)| {
            let name = format!("node_{:02}", number + 1);
            Daemon::plan(root.path().join(&name), &name, place.clone())
        };
        let nodes = places.nodes.iter().enumerate().map(plan).collect();
        let mut cluster = Self { nodes, mesh: None, root, places };
        for (key, value) in settings::brisk() {
            cluster.set_all(key, &value);
        }
        cluster
    }

    /// A cluster that stands, without relays.
    pub(crate) fn of(count: usize) -> Self {
        let mut cluster = Self::plan(count);
        cluster.found();
        cluster
    }

    /// Sets a key on all nodes.
    pub(crate) fn set_all(&mut self, key: &str, value: &str) {
        self.nodes.iter_mut().for_each(|node| node.set(key, value));
    }

    /// Puts relays between all nodes.
    pub(crate) fn relay(&mut self, seed: u64) {
        let addresses: Vec<SocketAddr> = self.nodes.iter().map(|node| node.place.udp).collect();
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let mesh = Mesh::start(self.places.relays, &addresses, seed);
        for (from, node) in self.nodes.iter_mut().enumerate() {
            for (to, name) in names.iter().enumerate().filter(|&(to, _)| to != from) {
                node.set(&format!("peers.{name}"), format!("[\"{}\"]", mesh.door(from, to)));
            }
        }
        self.mesh = Some(mesh);
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        self.mesh.as_ref().expect("this cluster has relays")
    }

    /// A folder beside those of the nodes.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Makes the cluster: the first node by `init`, the others by `invite` and `join`; then waits for all links.
    pub(crate) fn found(&mut self) {
        let (first, others) = self.nodes.split_first_mut().expect("a cluster has a node");
        first.configure();
        first.call(&["init", "--node-id", &first.name]).unwrap();
        first.start();
        first.answering();
        for other in others {
            let token = first.invite(&other.name);
            other.configure();
            other.call(&["join", &token]).unwrap();
            other.start();
        }
        self.linked();
    }

    /// Waits until every node that runs takes writes and has a link to each other one that runs.
    pub(crate) fn linked(&mut self) {
        let names: Vec<String> =
            self.nodes.iter_mut().filter_map(|node| node.is_running().then(|| node.name.clone())).collect();
        for node in self.nodes.iter_mut().filter(|node| names.contains(&node.name)) {
            let mut client = node.answering();
            wait_for(&format!("linked: {}", node.name), EVENTUALLY, || {
                let peers = client.peers().map_err(|error| error.to_string())?;
                let is_up = |name: &String| peers.iter().any(|peer| peer.node == *name && peer.is_up);
                match names.iter().find(|name| **name != node.name && !is_up(name)) {
                    Some(missing) => Err(format!("no link to {missing} among {peers:?}")),
                    None => client.ask::<i64>(&["SADD", "nodes", &node.name]).map_err(|error| error.to_string()),
                }
            });
        }
    }

    /// Starts a node that was stopped or killed, and waits until its door answers.
    pub(crate) fn restart(&mut self, node: usize) {
        self.nodes[node].start();
        self.nodes[node].answering();
    }

    /// Waits until a node has no link to another any more.
    pub(crate) fn unlinked(&mut self, from: usize, to: usize) {
        let name = self.nodes[to].name.clone();
        let mut client = self.nodes[from].answering();
        wait_for(&format!("without a link to {name}"), SOON, || {
            let peers = client.peers().map_err(|error| error.to_string())?;
            let is_up = peers.iter().any(|peer| peer.node == name && peer.is_up);
            if is_up { Err("it is up".to_owned()) } else { Ok(()) }
        });
    }

    /// CRDT.CLOCK of every node that runs.
    pub(crate) fn clocks(&mut self) -> Result<Vec<Clock>, String> {
        let running = self.nodes.iter_mut().filter_map(|node| node.is_running().then_some(&*node));
        let clock = |node: &Daemon| node.client().and_then(|mut client| client.clock());
        running.map(|node| clock(node).map_err(|error| format!("{}: {error}", node.name))).collect()
    }

    /// Waits until all nodes that run have applied the same and show the same.
    pub(crate) fn converged(&mut self) {
        wait_for("equal", EVENTUALLY, || {
            let clocks = self.clocks()?;
            let shown = |clock: &Clock| (without_zeros(&clock.applied), clock.digest.clone());
            let first = clocks.first().map(shown);
            if clocks.iter().all(|clock| Some(shown(clock)) == first) { Ok(()) } else { Err(told(&clocks)) }
        });
    }

    /// The end of every scenario: all nodes equal by their own comparison too, no acknowledged write missing, none
    /// invented, and memory under its cap.
    pub(crate) fn assert_sound(&mut self, oracle: &Oracle) {
        self.converged();
        let count: usize = self.nodes.iter_mut().map(|node| usize::from(node.is_running())).sum();
        for node in &mut self.nodes {
            if !node.is_running() {
                continue;
            }
            let mut client = node.answering();
            wait_for(&format!("verified by {}", node.name), EVENTUALLY, || {
                let verdicts = client.verify().map_err(|error| error.to_string())?;
                let equal = verdicts.values().filter(|verdict| verdict.vector_equal && verdict.digest_equal).count();
                // The answer may tell of the node itself too.
                if equal >= count - 1 && equal == verdicts.len() { Ok(()) } else { Err(format!("{verdicts:?}")) }
            });
            let complaints = oracle.complaints(&mut client).unwrap();
            let shown = complaints.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n  ");
            assert!(complaints.is_empty(), "{} on {}:\n  {shown}", complaints.len(), node.name);
            let peak = node.peak_memory_kib();
            assert!(peak > 0, "{} shows no memory", node.name);
            assert!(peak <= settings::MEMORY_KIB_MAX, "{} had {peak} KiB", node.name);
        }
    }
}

fn without_zeros(applied: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    applied.iter().filter(|(_, seq)| **seq > 0).map(|(replica, seq)| (replica.clone(), *seq)).collect()
}

/// Clocks in a few lines.
fn told(clocks: &[Clock]) -> String {
    let mut told = String::new();
    for clock in clocks {
        write!(told, "\n  {}: digest {}, applied {:?}", clock.node, clock.digest, clock.applied).unwrap();
    }
    told
}
