//! Small clusters without faults: what a reader tries first. The simulator does the rest.

use std::collections::{BTreeMap, VecDeque};

use crdt::{Kind, Namespace, Object, ReplicaId, Value};
use replica::{
    Action, Continuity, Effect, Epoch, Found, Intent, Intervals, Limits, Member, Node, Now, RecordKey, Setup,
    SignedEpoch, Signer, Start,
};

struct Plain;

impl Signer for Plain {
    fn key_id(&self) -> u32 {
        1
    }

    fn sign(&self, bytes: &[u8]) -> [u8; 16] {
        replica::log::chain_hash(&[1; 16], bytes)
    }

    fn verify(&self, key_id: u32, bytes: &[u8], mac: &[u8; 16]) -> bool {
        key_id == 1 && self.sign(bytes) == *mac
    }

    fn verify_epoch(&self, _bytes: &[u8], signature: &[u8]) -> bool {
        signature == b"ca"
    }
}

struct Cluster {
    nodes: BTreeMap<String, Node>,
    disks: BTreeMap<String, BTreeMap<RecordKey, Vec<u8>>>,
    mail: VecDeque<(String, String, Vec<u8>)>,
    cut: Vec<(String, String)>,
    reports: Vec<(String, replica::Report)>,
    now: Now,
    limits: Limits,
    members: usize,
}

fn name(index: usize) -> String {
    format!("node_{index:02}")
}

impl Cluster {
    fn new(members: usize, limits: Limits) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            mail: VecDeque::new(),
            cut: Vec::new(),
            reports: Vec::new(),
            now: Now { wall_ms: 1_700_000_000_000, mono_ms: 1 },
            limits,
            members,
        };
        (0..members).for_each(|index| cluster.open(index, Continuity::Proven));
        cluster
    }

    fn open(&mut self, index: usize, continuity: Continuity) {
        let node = name(index);
        let setup = Setup {
            cluster: 7,
            node: node.clone(),
            schema: None,
            limits: self.limits.clone(),
            intervals: Intervals { gc_ms: 5_000, ..Intervals::default() },
            versions: (1, 1),
        };
        let fresh_replica = ReplicaId((index as u128 + 1) << 100);
        let start = Start { now: self.now, fresh_replica, continuity };
        let disk = self.disks.entry(node.clone()).or_default().clone();
        let records = disk.into_iter().map(|(key, bytes)| (key, Found::Intact(bytes)));
        let opened = Node::open(setup, Box::new(Plain), start, records).expect("own records");
        self.nodes.insert(node.clone(), opened);
        let members = (0..self.members).map(|index| (name(index), Member { slot: index as u8 + 1 })).collect();
        let epoch = Epoch { number: 1, members, ..Epoch::default() };
        let signed = SignedEpoch { bytes: epoch.to_bytes(), signature: b"ca".to_vec() };
        self.nodes.get_mut(&node).expect("just opened").handle_epoch(self.now, signed);
        for peer in self.nodes.keys().cloned().collect::<Vec<_>>() {
            if peer != node {
                self.link(&node, &peer, true);
            }
        }
        self.settle();
    }

    fn link(&mut self, left: &str, right: &str, up: bool) {
        for (node, peer) in [(left, right), (right, left)] {
            self.nodes.get_mut(node).expect("known").handle_link(self.now, peer, up);
        }
        let pair = (left.min(right).to_owned(), left.max(right).to_owned());
        self.cut.retain(|cut| *cut != pair);
        if !up {
            self.cut.push(pair);
        }
    }

    fn effects(&mut self, name: &str) {
        while let Some(effect) = self.nodes.get_mut(name).expect("known").poll_effect() {
            match effect {
                Effect::Persist(group) => {
                    let disk = self.disks.entry(name.to_owned()).or_default();
                    for record in group.records {
                        match record.value {
                            Some(value) => drop(disk.insert(record.key, value)),
                            None => drop(disk.remove(&record.key)),
                        }
                    }
                    self.nodes.get_mut(name).expect("known").handle_persisted(self.now, group.ticket);
                }
                Effect::Send { to, bytes } => self.mail.push_back((name.to_owned(), to, bytes)),
                Effect::Load(key) => {
                    let found = self.disks[name].get(&key).cloned().map(Found::Intact);
                    self.nodes.get_mut(name).expect("known").handle_loaded(self.now, key, found);
                }
                Effect::Report(report) => self.reports.push((name.to_owned(), report)),
                Effect::Acknowledge(_) => {}
                Effect::Sql(request) => panic!("no database is attached: {request:?}"),
            }
        }
    }

    /// Delivers everything that is on its way.
    fn settle(&mut self) {
        loop {
            for node in self.nodes.keys().cloned().collect::<Vec<_>>() {
                self.effects(&node);
            }
            let Some((from, to, bytes)) = self.mail.pop_front() else { return };
            let pair = (from.clone().min(to.clone()), from.clone().max(to.clone()));
            if !self.cut.contains(&pair)
                && let Some(node) = self.nodes.get_mut(&to)
            {
                node.handle_message(self.now, &from, &bytes);
            }
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.wall_ms += 100;
            self.now.mono_ms += 100;
            for node in self.nodes.values_mut() {
                if node.poll_timeout().is_some_and(|at| at <= self.now.mono_ms) {
                    node.handle_timeout(self.now);
                }
            }
            self.settle();
        }
    }

    fn set(&mut self, index: usize, key: &str, value: &str) {
        let intent = Intent {
            namespace: Namespace(0),
            path: vec![key.as_bytes().into()],
            action: Action::Set(Value::from(value)),
        };
        let node = self.nodes.get_mut(&name(index)).expect("known");
        node.commit(self.now, &[intent]).expect("the node takes writes");
        self.settle();
    }

    fn shown(&self, index: usize, key: &str) -> Option<Value> {
        let key = crdt::Key::new(Namespace(0), Kind::Register, key);
        match self.nodes[&name(index)].keyspace().object(&key)?.as_ref() {
            Object::Register(register) => register.shown().map(|entry| entry.value.clone()),
            _ => None,
        }
    }

    fn assert_converged(&self) {
        let first = &self.nodes[&name(0)];
        for (name, node) in &self.nodes {
            assert!(node.is_settled(), "{name} is not settled: {:?}", self.reports);
            assert_eq!(node.applied(), first.applied(), "{name}");
            assert_eq!(node.keyspace().fingerprint(), first.keyspace().fingerprint(), "{name}");
            assert_eq!(node.journal(), first.journal(), "{name}");
        }
    }
}

#[test]
fn a_write_reaches_everybody_at_once() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.run(3_000);
    cluster.set(0, "k", "v");
    for index in 0..3 {
        assert_eq!(cluster.shown(index, "k"), Some("v".into()));
    }
    cluster.assert_converged();
}

#[test]
fn writes_on_both_sides_of_a_cut_meet_and_the_loser_is_journaled() {
    let mut cluster = Cluster::new(2, Limits::default());
    cluster.set(0, "k", "old");
    cluster.link("node_00", "node_01", false);
    for round in 0..50 {
        cluster.set(0, "k", &format!("left{round}"));
        cluster.set(1, "k", &format!("right{round}"));
    }
    cluster.link("node_00", "node_01", true);
    cluster.run(5_000);
    cluster.assert_converged();
    assert_eq!(cluster.nodes[&name(0)].journal().len(), 1);
}

#[test]
fn a_node_behind_the_log_floor_joins_a_snapshot_and_keeps_its_own_writes() {
    let limits = Limits { log_bytes_max: 4_000, chunk_bytes_max: 2_000, ..Limits::default() };
    let mut cluster = Cluster::new(3, limits);
    cluster.run(2_000);
    cluster.link("node_00", "node_02", false);
    cluster.link("node_01", "node_02", false);
    for round in 0..200 {
        cluster.set(0, &format!("k{round}"), "v");
    }
    cluster.set(2, "own", "kept");
    cluster.run(20_000);
    cluster.link("node_00", "node_02", true);
    cluster.link("node_01", "node_02", true);
    cluster.run(20_000);
    let installed =
        |(_, report): &(String, replica::Report)| matches!(report, replica::Report::SnapshotInstalled { .. });
    assert!(cluster.reports.iter().any(installed), "{:?}", cluster.reports);
    assert_eq!(cluster.shown(2, "k7"), Some("v".into()));
    assert_eq!(cluster.shown(0, "own"), Some("kept".into()));
    cluster.assert_converged();
}

#[test]
fn a_restarted_node_goes_on_where_it_was() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.set(1, "a", "1");
    cluster.open(1, Continuity::Proven);
    cluster.set(1, "a", "2");
    let replica = cluster.nodes[&name(1)].replica();
    cluster.open(1, Continuity::NotProven);
    assert_ne!(cluster.nodes[&name(1)].replica(), replica, "continuity was not proven");
    cluster.set(1, "a", "3");
    cluster.run(5_000);
    cluster.assert_converged();
    assert_eq!(cluster.shown(2, "a"), Some("3".into()));
    assert_eq!(cluster.nodes[&name(0)].journal().len(), 0);
}

#[test]
fn the_log_is_cut_once_everybody_has_it() {
    let mut cluster = Cluster::new(3, Limits::default());
    for round in 0..20 {
        cluster.set(round % 3, "k", &round.to_string());
    }
    cluster.run(60_000);
    for node in cluster.nodes.values() {
        assert_eq!(node.gauges().log_batches, 0);
        assert_eq!(*node.stable(), *node.applied());
    }
}
