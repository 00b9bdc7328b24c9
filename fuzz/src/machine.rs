//! A node with its disk, its database and its clock, in memory: what the target `node` feeds, and what its
//! corpus is recorded from.

use std::collections::{BTreeMap, VecDeque};

use crdt::ReplicaId;
use crdt::change::MAC_BYTES;
use replica::message::{Hello, Message};
use replica::{
    Continuity, Effect, Epoch, Found, Intervals, Limits, Member, Node, Now, RecordKey, Report, Setup, SignedEpoch,
    Signer, Start,
};

use crate::database::{Database, schema};
use crate::envelope::{KEY_ID, MAC};

/// The cluster of every machine.
pub const CLUSTER: u128 = 7;
/// The members' names.
pub const NAMES: [&str; 2] = ["node_00", "node_01"];
/// The signature that every machine takes for the CA's.
pub const SIGNATURE: &[u8] = b"ca";

/// What the wall clock says at first: November 2023.
pub const START_MS: u64 = 1_700_000_000_000;

/// Far more than any event needs: a node that still wants something then runs in a circle.
const EFFECTS_PER_EVENT_MAX: usize = 20_000;

/// Takes every MAC that names the right key, so that the fuzzer can change what it covers.
struct Gullible;

impl Signer for Gullible {
    fn key_id(&self) -> u32 {
        KEY_ID
    }

    fn sign(&self, _bytes: &[u8]) -> [u8; MAC_BYTES] {
        MAC
    }

    fn verify(&self, key_id: u32, _bytes: &[u8], _mac: &[u8; MAC_BYTES]) -> bool {
        key_id == KEY_ID
    }

    fn verify_epoch(&self, _bytes: &[u8], signature: &[u8]) -> bool {
        signature == SIGNATURE
    }
}

/// One machine.
pub struct Machine {
    /// The node.
    pub node: Node,
    /// Its clocks.
    pub now: Now,
    /// The database behind it.
    pub database: Option<Database>,
    /// What it has sent, oldest first.
    pub sent: VecDeque<(String, Vec<u8>)>,
    /// What it has reported.
    pub reports: Vec<Report>,
    disk: BTreeMap<RecordKey, Vec<u8>>,
    place: usize,
    starts: u128,
}

/// The first replica id of the member at `place` in [`NAMES`].
pub fn first_replica(place: usize) -> ReplicaId {
    ReplicaId((place as u128 + 1) << 120)
}

/// Small limits, so that a short input reaches each of them.
fn limits() -> Limits {
    Limits {
        beyond_gap_batches_max: 3,
        pull_bytes_max: 2_000,
        message_bytes_max: 500,
        log_bytes_usual: 700,
        log_bytes_max: 1_500,
        rows_per_step: 2,
        origin_turn_changes: 4,
        chunk_bytes_max: 200,
        snapshot_preimage_bytes_max: 400,
        gc_slice_keys: 3,
        gc_threshold: 2,
        batch_changes_max: 4,
        blast_objects_min: 2,
        blast_share_percent: 30,
        blast_preimage_bytes_max: 500,
    }
}

fn open(
    place: usize,
    now: Now,
    starts: u128,
    with_database: bool,
    continuity: Continuity,
    disk: &BTreeMap<RecordKey, Vec<u8>>,
) -> Node {
    let setup = Setup {
        cluster: CLUSTER,
        node: NAMES[place].to_owned(),
        schema: with_database.then(schema),
        limits: limits(),
        intervals: Intervals { gc_ms: 5_000, journal_retention_ms: 10_000, ..Intervals::default() },
        versions: (1, 1),
    };
    let fresh_replica = ReplicaId(first_replica(place).0 + (starts << 64));
    let start = Start { now, fresh_replica, continuity };
    let records = disk.iter().map(|(key, bytes)| (key.clone(), Found::Intact(bytes.clone())));
    Node::open(setup, Box::new(Gullible), start, records).expect("the records are this node's own")
}

impl Machine {
    /// A member at its first start, with the link to the other member up.
    pub fn new(place: usize, with_database: bool) -> Self {
        let now = Now { wall_ms: START_MS, mono_ms: 1 };
        let disk = BTreeMap::new();
        let mut machine = Self {
            node: open(place, now, 0, with_database, Continuity::Proven, &disk),
            now,
            database: with_database.then(Database::default),
            sent: VecDeque::new(),
            reports: Vec::new(),
            disk,
            place,
            starts: 0,
        };
        machine.settle();
        let members = NAMES.iter().zip(1..).map(|(name, slot)| ((*name).to_owned(), Member { slot })).collect();
        machine.epoch(Epoch { number: 1, members, ..Epoch::default() }.to_bytes());
        machine.link(true);
        machine
    }

    /// The other member's name.
    pub fn peer(&self) -> &'static str {
        NAMES[1 - self.place]
    }

    /// The link to the other member goes up or down. With it up, the member says hello.
    pub fn link(&mut self, up: bool) {
        self.node.handle_link(self.now, self.peer(), up);
        self.settle();
        if up {
            let replicas = vec![first_replica(1 - self.place)];
            let hello = Hello { cluster: CLUSTER, replicas, versions: (1, 1), heard: false };
            self.hear(&Message::Hello(hello).to_bytes());
        }
    }

    /// A message of the other member comes.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.node.handle_message(self.now, self.peer(), bytes);
        self.settle();
    }

    /// An epoch record comes, with the CA's signature.
    pub fn epoch(&mut self, bytes: Vec<u8>) {
        self.node.handle_epoch(self.now, SignedEpoch { bytes, signature: SIGNATURE.to_vec() });
        self.settle();
    }

    /// Time passes.
    pub fn wait(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.mono_ms += ms;
        if self.node.poll_timeout().is_some_and(|at| at <= self.now.mono_ms) {
            self.node.handle_timeout(self.now);
        }
        self.settle();
    }

    /// The process ends and starts again from its disk.
    pub fn restart(&mut self, continuity: Continuity) {
        self.starts += 1;
        self.node = self.reopened(continuity);
        self.settle();
        self.link(true);
    }

    /// The node that the disk holds.
    pub fn reopened(&self, continuity: Continuity) -> Node {
        open(self.place, self.now, self.starts, self.database.is_some(), continuity, &self.disk)
    }

    /// Does all that the node asks for.
    ///
    /// # Panics
    /// When the node never comes to rest.
    pub fn settle(&mut self) {
        for _ in 0..EFFECTS_PER_EVENT_MAX {
            let Some(effect) = self.node.poll_effect() else { return };
            self.carry_out(effect);
        }
        panic!("the node asks for more than {EFFECTS_PER_EVENT_MAX} things after one event");
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(group) => {
                for record in group.records {
                    match record.value {
                        Some(value) => drop(self.disk.insert(record.key, value)),
                        None => drop(self.disk.remove(&record.key)),
                    }
                }
                self.node.handle_persisted(self.now, group.ticket);
            }
            Effect::Send { to, bytes } => self.sent.push_back((to, bytes)),
            Effect::Sql(request) => {
                let database = self.database.as_mut().expect("only a node with a database asks it");
                let response = database.answer(request);
                self.node.handle_sql(self.now, response);
            }
            Effect::Load(key) => {
                let found = self.disk.get(&key).cloned().map(Found::Intact);
                self.node.handle_loaded(self.now, key, found);
            }
            Effect::Acknowledge(_) => {}
            Effect::Report(report) => self.reports.push(report),
        }
    }
}
