//! A client, its session, and a real node of a cluster of one, on a disk that answers when the test lets it.

use crdt::ReplicaId;
use replica::{
    Continuity, Effect, Epoch, Found, Intent, Intervals, Limits, Member, Node, Now, Setup, SignedEpoch, Signer, Start,
    Ticket,
};
use resp::{Call, Reply, Session, SessionConfig, Step};

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

const NOW: Now = Now { wall_ms: 1_700_000_000_000, mono_ms: 1 };

/// One connection and what is behind it.
pub(crate) struct Door {
    pub(crate) session: Session,
    pub(crate) node: Node,
    /// Every commit that the session asked for.
    pub(crate) commits: Vec<Vec<Intent>>,
    /// Every call for the daemon.
    pub(crate) calls: Vec<Call>,
    pub(crate) is_closed: bool,
    /// While set, groups are not durable.
    pub(crate) holds_disk: bool,
    held: Vec<Ticket>,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self::with(SessionConfig { server_version: "0.1.0".to_owned(), ..SessionConfig::default() })
    }

    pub(crate) fn with(config: SessionConfig) -> Self {
        let mut door = Self::outside_a_cluster(config);
        let members = [("node_01".to_owned(), Member { slot: 1 })].into();
        let epoch = Epoch { number: 1, members, ..Epoch::default() };
        let signed = SignedEpoch { bytes: epoch.to_bytes(), signature: b"ca".to_vec() };
        door.node.handle_epoch(NOW, signed);
        door.effects();
        door
    }

    /// A node that is no member yet, and so takes no writes.
    pub(crate) fn outside_a_cluster(config: SessionConfig) -> Self {
        let setup = Setup {
            cluster: 7,
            node: "node_01".to_owned(),
            schema: None,
            limits: Limits::default(),
            intervals: Intervals::default(),
            versions: (1, 1),
        };
        let start = Start { now: NOW, fresh_replica: ReplicaId(1 << 100), continuity: Continuity::Proven };
        let records: [(replica::RecordKey, Found); 0] = [];
        let node = Node::open(setup, Box::new(Plain), start, records).expect("an empty store opens");
        let mut door = Self {
            session: Session::new(7, config),
            node,
            commits: Vec::new(),
            calls: Vec::new(),
            is_closed: false,
            holds_disk: false,
            held: Vec::new(),
        };
        door.effects();
        door
    }

    /// Sends bytes and gives what came back so far.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut rest = bytes.as_ref();
        let mut received = Vec::new();
        loop {
            let taken = self.session.feed(rest);
            rest = &rest[taken..];
            self.pump();
            let output = self.session.output().to_vec();
            self.session.consume(output.len());
            received.extend_from_slice(&output);
            if output.is_empty() && (taken == 0 || rest.is_empty()) {
                return received;
            }
        }
    }

    /// Lets the disk go on, and gives what came back.
    pub(crate) fn release_disk(&mut self) -> Vec<u8> {
        self.holds_disk = false;
        for ticket in core::mem::take(&mut self.held) {
            self.node.handle_persisted(NOW, ticket);
        }
        self.effects();
        self.send(b"")
    }

    /// Commits behind the session's back, as another connection does.
    pub(crate) fn commit(&mut self, intents: &[Intent]) {
        self.node.commit(NOW, intents).expect("the node takes writes");
        self.effects();
    }

    fn pump(&mut self) {
        loop {
            match self.session.poll(self.node.keyspace()) {
                Step::Commit { ticket, intents } => {
                    let result = self.node.commit(NOW, &intents);
                    self.commits.push(intents);
                    self.session.committed(ticket, result);
                    self.effects();
                }
                Step::Call { ticket, call } => {
                    self.calls.push(call);
                    self.session.reply(ticket, Ok(Reply::Integer(0)));
                }
                Step::Idle | Step::Blocked => return,
                Step::Close => {
                    self.is_closed = true;
                    return;
                }
            }
        }
    }

    fn effects(&mut self) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::Persist(group) if self.holds_disk => self.held.push(group.ticket),
                Effect::Persist(group) => self.node.handle_persisted(NOW, group.ticket),
                Effect::Acknowledge(batch) => {
                    self.session.acknowledge(batch);
                }
                Effect::Send { .. } | Effect::Sql(_) | Effect::Load(_) | Effect::Report(_) => {}
            }
        }
    }
}
