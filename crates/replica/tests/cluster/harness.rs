//! A cluster in memory: nodes, their disks and databases, and the mail between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crdt::{BatchId, Kind, Namespace, Object, ReplicaId, Value};
use replica::host::{OutboxEntry, RowId, RowImage, RowOperation, RowWrite, Schema, SqlRequest, SqlResponse};
use replica::{
    Action, Continuity, Effect, Epoch, Found, Intent, Intervals, Limits, Member, Node, Now, RecordKey, Setup,
    SignedEpoch, Signer, Start,
};

pub(crate) struct Plain;

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

/// A database without transactions: nothing else happens between two requests.
#[derive(Clone, Default)]
pub(crate) struct Database {
    pub(crate) rows: BTreeMap<RowId, RowImage>,
    pub(crate) outbox: Vec<OutboxEntry>,
    pub(crate) cursor: u64,
}

impl Database {
    pub(crate) fn look(&self, rows: impl IntoIterator<Item = RowId>) -> BTreeMap<RowId, Option<RowImage>> {
        rows.into_iter().map(|row| (row.clone(), self.rows.get(&row).cloned())).collect()
    }

    pub(crate) fn answer(&mut self, request: SqlRequest) -> SqlResponse {
        match request {
            SqlRequest::ReadCursor => SqlResponse::Cursor(self.cursor),
            SqlRequest::Drain { also } => {
                let named = self.outbox.iter().map(|entry| entry.row.clone());
                let rows = self.look(named.chain(also));
                SqlResponse::Drained { entries: self.outbox.clone(), rows }
            }
            SqlRequest::DeleteOutbox { ids, cursor } => {
                self.outbox.retain(|entry| !ids.contains(&entry.id));
                self.cursor = cursor;
                SqlResponse::Deleted
            }
            SqlRequest::Lock { rows } => {
                let entries = self.outbox.iter().filter(|entry| rows.contains(&entry.row));
                let entries = entries.map(|entry| entry.id).collect();
                SqlResponse::Locked { entries, rows: self.look(rows) }
            }
            SqlRequest::Write { rows, cursor } => {
                for (row, write) in rows {
                    match write {
                        RowWrite::Insert(image) => drop(self.rows.insert(row, image)),
                        RowWrite::Update(changed) => self.rows.entry(row).or_default().extend(changed),
                        RowWrite::Delete => drop(self.rows.remove(&row)),
                    }
                }
                self.cursor = cursor;
                SqlResponse::Written
            }
            SqlRequest::Rollback => SqlResponse::RolledBack,
            SqlRequest::Scan { .. } => {
                let mut rows = self.rows.clone();
                self.outbox.iter().for_each(|entry| drop(rows.remove(&entry.row)));
                SqlResponse::Scanned { rows: rows.into_iter().collect(), done: true }
            }
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) disks: BTreeMap<String, BTreeMap<RecordKey, Vec<u8>>>,
    /// Records that a node finds damaged when it is opened.
    pub(crate) rotten: BTreeSet<RecordKey>,
    pub(crate) schema: Option<Schema>,
    pub(crate) databases: BTreeMap<String, Database>,
    /// While it is set, what databases answer to a drain is kept here.
    pub(crate) slow_drains: Option<Vec<(String, SqlResponse)>>,
    pub(crate) mail: VecDeque<(String, String, Vec<u8>)>,
    pub(crate) cut: Vec<(String, String)>,
    pub(crate) reports: Vec<(String, replica::Report)>,
    pub(crate) now: Now,
    pub(crate) limits: Limits,
    pub(crate) members: usize,
    /// Processes that were started: each has ids of its own to mint.
    pub(crate) processes: u128,
}

pub(crate) fn name(index: usize) -> String {
    format!("node_{index:02}")
}

impl Cluster {
    pub(crate) fn new(members: usize, limits: Limits) -> Self {
        Self::with_schema(members, limits, None)
    }

    pub(crate) fn with_schema(members: usize, limits: Limits, schema: Option<Schema>) -> Self {
        Self::with_opened(members, members, limits, schema)
    }

    /// A cluster of so many members, of which the first few are there.
    pub(crate) fn with_opened(members: usize, opened: usize, limits: Limits, schema: Option<Schema>) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            rotten: BTreeSet::new(),
            schema,
            databases: BTreeMap::new(),
            slow_drains: None,
            mail: VecDeque::new(),
            cut: Vec::new(),
            reports: Vec::new(),
            now: Now { wall_ms: 1_700_000_000_000, mono_ms: 1 },
            limits,
            members,
            processes: 0,
        };
        (0..opened).for_each(|index| cluster.open(index, Continuity::Proven));
        cluster
    }

    /// A node with an empty disk that has heard of no cluster.
    pub(crate) fn stranger(node: &str) -> Node {
        let setup = Setup {
            cluster: 7,
            node: node.to_owned(),
            schema: None,
            limits: Limits::default(),
            intervals: Intervals::default(),
            versions: (1, 1),
        };
        let start = Start { now: Now::default(), fresh_replica: ReplicaId(1 << 90), continuity: Continuity::Proven };
        Node::open(setup, Box::new(Plain), start, []).expect("there are no records")
    }

    pub(crate) fn open(&mut self, index: usize, continuity: Continuity) {
        self.open_alone(index, continuity);
        let node = name(index);
        for peer in self.nodes.keys().cloned().collect::<Vec<_>>() {
            if peer != node {
                self.link(&node, &peer, true);
            }
        }
        self.settle();
    }

    /// Opens a node that no other one reaches.
    pub(crate) fn open_alone(&mut self, index: usize, continuity: Continuity) {
        let node = name(index);
        let setup = Setup {
            cluster: 7,
            node: node.clone(),
            schema: self.schema.clone(),
            limits: self.limits.clone(),
            intervals: Intervals { gc_ms: 5_000, ..Intervals::default() },
            versions: (1, 1),
        };
        self.processes += 1;
        let fresh_replica = ReplicaId((index as u128 + 1) << 100 | self.processes << 64);
        let start = Start { now: self.now, fresh_replica, continuity };
        let disk = self.disks.entry(node.clone()).or_default().clone();
        let records = disk.into_iter().map(|(key, bytes)| {
            let found = if self.rotten.contains(&key) { Found::Damaged } else { Found::Intact(bytes) };
            (key, found)
        });
        let opened = Node::open(setup, Box::new(Plain), start, records).expect("own records");
        self.nodes.insert(node.clone(), opened);
        let members = (0..self.members).map(|index| (name(index), Member { slot: index as u8 + 1 })).collect();
        let epoch = Epoch { number: 1, members, ..Epoch::default() };
        let signed = SignedEpoch { bytes: epoch.to_bytes(), signature: b"ca".to_vec() };
        self.nodes.get_mut(&node).expect("just opened").handle_epoch(self.now, signed);
    }

    pub(crate) fn link(&mut self, left: &str, right: &str, up: bool) {
        for (node, peer) in [(left, right), (right, left)] {
            self.nodes.get_mut(node).expect("known").handle_link(self.now, peer, up);
        }
        let pair = (left.min(right).to_owned(), left.max(right).to_owned());
        self.cut.retain(|cut| *cut != pair);
        if !up {
            self.cut.push(pair);
        }
    }

    pub(crate) fn effects(&mut self, name: &str) {
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
                Effect::Sql(request) => {
                    let is_drain = matches!(request, SqlRequest::Drain { .. });
                    let response = self.databases.entry(name.to_owned()).or_default().answer(request);
                    match &mut self.slow_drains {
                        Some(slow) if is_drain => slow.push((name.to_owned(), response)),
                        _ => self.nodes.get_mut(name).expect("known").handle_sql(self.now, response),
                    }
                }
            }
        }
    }

    /// Delivers everything that is on its way.
    pub(crate) fn settle(&mut self) {
        self.deliver(usize::MAX);
    }

    /// Delivers at most so many messages.
    pub(crate) fn deliver(&mut self, messages_max: usize) {
        for _ in 0..messages_max {
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

    pub(crate) fn run(&mut self, ms: u64) {
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

    pub(crate) fn set(&mut self, index: usize, key: &str, value: &str) {
        let intent = Intent {
            namespace: Namespace(0),
            path: vec![key.as_bytes().into()],
            action: Action::Set(Value::from(value)),
        };
        let node = self.nodes.get_mut(&name(index)).expect("known");
        node.commit(self.now, &[intent]).expect("the node takes writes");
        self.settle();
    }

    /// A client of a node's door does one thing to an entry of a map.
    pub(crate) fn act(&mut self, index: usize, path: [&str; 2], action: Action) -> BatchId {
        let path: Vec<crdt::Name> = path.iter().map(|part| part.as_bytes().into()).collect();
        let intent = Intent { namespace: Namespace(0), path, action };
        let node = self.nodes.get_mut(&name(index)).expect("known");
        let batch = node.commit(self.now, &[intent]).expect("the node takes writes");
        self.settle();
        batch
    }

    /// The site of a node writes a row, and the trigger notes it.
    pub(crate) fn write_row(&mut self, index: usize, row: &RowId, title: &str) {
        let database = self.databases.get_mut(&name(index)).expect("known");
        let image = RowImage::from([(b"post_title".as_slice().into(), Value::from(title))]);
        let before = database.rows.insert(row.clone(), image);
        let operation = if before.is_some() { RowOperation::Update } else { RowOperation::Insert };
        let (id, time_ms) = (self.now.mono_ms, self.now.wall_ms);
        database.outbox.push(OutboxEntry { id, row: row.clone(), operation, time_ms });
    }

    /// The site of a node sets the status of a row or deletes the row, and the trigger notes it.
    pub(crate) fn change_row(&mut self, index: usize, row: &RowId, status: Option<&str>) {
        let database = self.databases.get_mut(&name(index)).expect("known");
        let operation = if let Some(status) = status {
            let image = database.rows.get_mut(row).expect("the row is there");
            image.insert(b"post_status".as_slice().into(), status.into());
            RowOperation::Update
        } else {
            database.rows.remove(row);
            RowOperation::Delete
        };
        let (id, time_ms) = (self.now.mono_ms, self.now.wall_ms);
        database.outbox.push(OutboxEntry { id, row: row.clone(), operation, time_ms });
    }

    pub(crate) fn shown(&self, index: usize, key: &str) -> Option<Value> {
        let key = crdt::Key::new(Namespace(0), Kind::Register, key);
        match self.nodes[&name(index)].keyspace().object(&key)?.as_ref() {
            Object::Register(register) => register.shown().map(|entry| entry.value.clone()),
            _ => None,
        }
    }

    /// What a growing counter in a map shows.
    pub(crate) fn count(&self, index: usize, path: [&str; 2]) -> Option<i128> {
        let key = crdt::Key::new(Namespace(0), Kind::Map, path[0]);
        match self.nodes[&name(index)].keyspace().object(&key)?.as_ref() {
            Object::Map(map) => match map.entry(path[1].as_bytes(), Kind::GCounter)? {
                Object::GCounter(counter) => counter.value().ok(),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn assert_converged(&self) {
        let first = &self.nodes[&name(0)];
        for (name, node) in &self.nodes {
            assert!(node.is_settled(), "{name} is not settled: {:?}", self.reports);
            assert_eq!(node.applied(), first.applied(), "{name}");
            assert_eq!(node.keyspace().fingerprint(), first.keyspace().fingerprint(), "{name}");
            assert_eq!(node.journal(), first.journal(), "{name}");
        }
    }
}
