//! Two nodes of one cluster, and everything that they ask for: a disk that is always ready, a link
//! that loses nothing, a key.

use std::collections::VecDeque;

use ::replica::message::Message;
use ::replica::{
    Action, Continuity, Effect, Epoch, Intent, Intervals, Limits, Member, Node, Now, Report, Setup, SignedEpoch,
    Signer, Start,
};
use crdt::change::{MAC_BYTES, seal};
use crdt::register::RegisterDelta;
use crdt::{
    Batch, BatchHeader, BatchId, Change, Content, HybridClock, Key, Keyspace, Kind, Namespace, Object, Op, ReplicaId,
    Value, VersionVector,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::NAME;
use crate::failure::Failure;
use crate::replica::{Outcome, identity};
use crate::workload::{Cell, Cells};

/// Node ids: the first two members.
const WRITER: &str = "node_00";
const READER: &str = "node_01";

/// Both clocks at the start: a wall clock in milliseconds in 2026.
const START: Now = Now { wall_ms: 1_795_000_000_000, mono_ms: 1 };

const KEY_ID: u32 = 1;

/// Stands for the CA's signature, which is checked once a membership change and never in the clock.
const EPOCH_SIGNATURE: &[u8] = b"ca";

/// The cluster's key, ready for the next MAC.
#[derive(Clone)]
struct ClusterKey(Hmac<Sha256>);

impl ClusterKey {
    fn new() -> Self {
        Self(Hmac::new_from_slice(&[0x5E; 32]).expect("HMAC takes keys of any length"))
    }
}

impl Signer for ClusterKey {
    fn key_id(&self) -> u32 {
        KEY_ID
    }

    fn sign(&self, bytes: &[u8]) -> [u8; MAC_BYTES] {
        let whole = self.0.clone().chain_update(bytes).finalize().into_bytes();
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&whole[..MAC_BYTES]);
        mac
    }

    fn verify(&self, key_id: u32, bytes: &[u8], mac: &[u8; MAC_BYTES]) -> bool {
        key_id == KEY_ID && self.0.clone().chain_update(bytes).verify_truncated_left(mac).is_ok()
    }

    fn verify_epoch(&self, _bytes: &[u8], signature: &[u8]) -> bool {
        signature == EPOCH_SIGNATURE
    }
}

/// A node that writes and a node that receives.
pub(super) struct Pair {
    writer: Node,
    reader: Node,
    key: ClusterKey,
    now: Now,
}

impl Pair {
    /// Two of `member_count` members, of which the others are away.
    pub(super) fn open(member_count: usize) -> Outcome<Self> {
        let key = ClusterKey::new();
        let name = |place: usize| format!("node_{place:02}");
        let members = (0..member_count).map(|place| (name(place), Member { slot: place as u8 + 1 })).collect();
        let epoch = Epoch { number: 1, members, ..Epoch::default() };
        let signed = SignedEpoch { bytes: epoch.to_bytes(), signature: EPOCH_SIGNATURE.to_vec() };
        let open = |node: &str, fresh_replica| -> Outcome<Node> {
            let setup = Setup {
                cluster: 7,
                node: node.to_owned(),
                schema: None,
                limits: Limits::default(),
                intervals: Intervals::default(),
                versions: (1, 1),
            };
            let start = Start { now: START, fresh_replica, continuity: Continuity::Proven };
            let mut node = Node::open(setup, Box::new(key.clone()), start, [])?;
            node.handle_epoch(START, signed.clone());
            Ok(node)
        };
        let (writer, reader) = (open(WRITER, replica_id(0))?, open(READER, replica_id(u8::MAX))?);
        let mut pair = Self { writer, reader, key, now: START };
        pair.writer.handle_link(START, READER, true);
        pair.reader.handle_link(START, WRITER, true);
        pair.settle()?;
        Ok(pair)
    }

    /// A millisecond passes.
    pub(super) fn tick(&mut self) {
        self.now.wall_ms += 1;
        self.now.mono_ms += 1;
    }

    /// Lets both nodes have received one batch, which writes `cell`, of another replica than theirs.
    pub(super) fn introduce(&mut self, other: u8, cell: &Cell) -> Outcome<()> {
        let hlc = HybridClock::default().tick(self.now.wall_ms);
        let delta = RegisterDelta { write: Some(Value::bytes(cell.value)), ..RegisterDelta::default() };
        let content = Content::Op(Op::Register(delta));
        let change = Change { namespace: Namespace(0), path: vec![cell.key.into()], stamp: hlc, content };
        let id = BatchId { replica: replica_id(other), seq: 1 };
        let header = BatchHeader { id, more: false, hlc, context: VersionVector::new() };
        let signed = Batch { header, changes: vec![change] }.to_signed_bytes(KEY_ID);
        let mac = self.key.sign(&signed);
        let message = Message::Batches(vec![seal(signed, mac)]).to_bytes();
        self.writer.handle_message(self.now, READER, &message);
        self.reader.handle_message(self.now, WRITER, &message);
        self.settle()
    }

    /// Commits on the writer until the write is durable; returns the message to the reader.
    pub(super) fn commit(&mut self, intents: &[Intent]) -> Outcome<Vec<u8>> {
        self.writer.commit(self.now, intents)?;
        let mut message = None;
        drain(&mut self.writer, self.now, |bytes| message = Some(bytes))?;
        message.ok_or_else(|| "a commit was not sent".into())
    }

    /// Hands a message to the reader until all that it brings is applied and durable.
    pub(super) fn receive(&mut self, message: &[u8]) -> Outcome<()> {
        self.reader.handle_message(self.now, WRITER, message);
        drain(&mut self.reader, self.now, drop)
    }

    /// The reader's state.
    pub(super) fn read_state(&self) -> &Keyspace {
        self.reader.keyspace()
    }

    /// Fails unless both nodes hold exactly the expected values, and their digests are true.
    pub(super) fn check(&self, expected: &Cells) -> Result<(), Failure> {
        for node in [&self.writer, &self.reader] {
            let state = node.keyspace();
            let right = expected.iter().filter(|(key, value)| shows(state, key, value)).count();
            let (missing_or_wrong, unexpected) = (expected.len() - right, state.len().saturating_sub(expected.len()));
            if missing_or_wrong + unexpected > 0 {
                return Err(Failure::WrongValues { library: NAME, missing_or_wrong, unexpected });
            }
            let is_true = state.fingerprint() == state.recount().fingerprint;
            if !is_true || state.fingerprint() != self.writer.keyspace().fingerprint() {
                let cause = "equal states have different digests".into();
                return Err(Failure::Library { library: NAME, step: "keep its digest", cause });
            }
        }
        Ok(())
    }

    /// Carries messages to and fro until there are none.
    fn settle(&mut self) -> Outcome<()> {
        let mut mail: VecDeque<(bool, Vec<u8>)> = VecDeque::new();
        drain(&mut self.writer, self.now, |bytes| mail.push_back((true, bytes)))?;
        drain(&mut self.reader, self.now, |bytes| mail.push_back((false, bytes)))?;
        while let Some((for_reader, bytes)) = mail.pop_front() {
            let (node, from) = if for_reader { (&mut self.reader, WRITER) } else { (&mut self.writer, READER) };
            node.handle_message(self.now, from, &bytes);
            drain(node, self.now, |bytes| mail.push_back((!for_reader, bytes)))?;
        }
        Ok(())
    }
}

/// Does at once what a node asks for, and hands out its messages.
fn drain(node: &mut Node, now: Now, mut send: impl FnMut(Vec<u8>)) -> Outcome<()> {
    while let Some(effect) = node.poll_effect() {
        match effect {
            Effect::Persist(group) => node.handle_persisted(now, group.ticket),
            Effect::Send { bytes, .. } => send(bytes),
            Effect::Acknowledge(_) | Effect::Report(Report::ReplicaMinted { .. }) => {}
            other => return Err(format!("a node without faults or a database asked for {other:?}").into()),
        }
    }
    Ok(())
}

/// What a client asks for to set the cells, all in one command.
pub(super) fn intents(cells: &[Cell]) -> Vec<Intent> {
    let intent = |cell: &Cell| Intent {
        namespace: Namespace(0),
        path: vec![cell.key.into()],
        action: Action::Set(Value::bytes(cell.value)),
    };
    cells.iter().map(intent).collect()
}

fn shows(state: &Keyspace, key: &[u8], value: &[u8]) -> bool {
    let object = state.object(&Key::new(Namespace(0), Kind::Register, key));
    let Some(Object::Register(register)) = object.as_deref() else { return false };
    register.shown().is_some_and(|entry| entry.value == Value::bytes(value))
}

/// A replica id that looks random.
fn replica_id(place: u8) -> ReplicaId {
    ReplicaId(u128::from(identity(place)) << 64 | u128::from(!identity(place)))
}
