//! What can happen to a machine, as a script: a code, a parameter and a block for each event.

use std::collections::VecDeque;

use crdt::{BatchHeader, BatchId, Hlc, Kind, Name, Namespace, ReplicaId, Value};
use replica::host::SqlError;
use replica::log::chain_hash;
use replica::matrix::MatrixRow;
use replica::message::{Chunk, Digest, Manifest, Message, Times};
use replica::{Action, Continuity, Intent};

use crate::checked;
use crate::database::post;
use crate::envelope::envelope;
use crate::machine::{Machine, first_replica};
use crate::script::{Script, push_block};

/// What happens. The numbers stand in the corpus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// A message: the block and its checksum.
    Message,
    /// The next batch of one of two other replicas (parameter), which has seen everything that stands in
    /// the log here: the block is the number of changes and the changes.
    Batch,
    /// Time passes: ten milliseconds times the square of the parameter.
    Wait,
    /// A client's command: intents in the block.
    Commit,
    /// The link goes up (odd) or down (even).
    Link,
    /// The chunk that was asked for last: the block is its content, an odd parameter marks the last one.
    Chunk,
    /// An epoch record with a true signature.
    Epoch,
    /// The process ends and starts again; with a proof of continuity if the parameter is odd.
    Restart,
    /// The site writes a row of the database: the parameter is its id, the block says what.
    Site,
    /// The peer has batches that it cannot give any more (parameter: how many), and offers a snapshot instead.
    Offer,
    /// The next request to the database fails.
    SqlFailure,
    /// An operator lets a stream go on.
    Release,
}

impl Code {
    const ALL: [Self; 12] = [
        Self::Message,
        Self::Batch,
        Self::Wait,
        Self::Commit,
        Self::Link,
        Self::Chunk,
        Self::Epoch,
        Self::Restart,
        Self::Site,
        Self::Offer,
        Self::SqlFailure,
        Self::Release,
    ];
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// What happens.
    pub code: Code,
    /// A number.
    pub parameter: u8,
    /// Bytes.
    pub block: &'a [u8],
}

impl<'a> Event<'a> {
    /// The next event of a script.
    pub fn read(script: &mut Script<'a>) -> Option<Self> {
        let code = Code::ALL[usize::from(script.byte()?) % Code::ALL.len()];
        Some(Self { code, parameter: script.byte()?, block: script.block()? })
    }

    /// Appends the event to a script.
    pub fn push(&self, script: &mut Vec<u8>) {
        script.push(self.code as u8);
        script.push(self.parameter);
        push_block(script, self.block);
    }

    /// Lets the event happen.
    pub fn happen(&self, machine: &mut Machine) {
        match self.code {
            Code::Message => machine.hear(&checked(self.block)),
            Code::Batch => self.batch(machine),
            Code::Wait => machine.wait(u64::from(self.parameter).pow(2) * 10),
            Code::Commit => {
                // A refusal is an answer too.
                let _refused = machine.node.commit(machine.now, &intents(machine, self.block));
                machine.settle();
            }
            Code::Link => machine.link(self.parameter % 2 == 1),
            Code::Chunk => self.chunk(machine),
            Code::Epoch => machine.epoch(self.block.to_vec()),
            Code::Restart => {
                let proven = self.parameter % 2 == 1;
                machine.restart(if proven { Continuity::Proven } else { Continuity::NotProven });
            }
            Code::Site => self.site(machine),
            Code::Offer => self.offer(machine),
            Code::SqlFailure => self.sql_failure(machine),
            Code::Release => {
                for held in machine.node.held() {
                    let _forked = machine.node.release(machine.now, held.batch);
                }
                machine.settle();
            }
        }
    }

    fn batch(&self, machine: &mut Machine) {
        let Some((count, changes)) = self.block.split_first() else { return };
        let replica = stranger(self.parameter);
        let mut context = machine.node.received();
        let id = BatchId { replica, seq: context.seq(replica) + 1 };
        context.forget(replica);
        let hlc = Hlc::from_millis(machine.now.wall_ms);
        let header = BatchHeader { id, more: false, hlc, context };
        let batch = envelope(&header, (*count).into(), changes);
        machine.hear(&Message::Batches(vec![batch]).to_bytes());
    }

    fn chunk(&self, machine: &mut Machine) {
        let wanted = machine.sent.iter().rev().find_map(|(_, bytes)| match Message::from_bytes(bytes) {
            Ok(Message::WantChunk(id, place)) => Some((id, place)),
            _ => None,
        });
        let Some((id, place)) = wanted else { return };
        let hash = chain_hash(&[0; 16], self.block);
        let chunk = Chunk { id, place, last: self.parameter % 2 == 1, hash, content: self.block.to_vec() };
        machine.hear(&Message::Chunk(chunk).to_bytes());
    }

    fn offer(&self, machine: &mut Machine) {
        let replica = first_replica(1);
        let mut cut = machine.node.received();
        let floor = cut.seq(replica) + u64::from(self.parameter) + 1;
        cut.advance(replica, floor);
        let row = MatrixRow { epoch: 1, replicas: vec![replica], shown: cut.clone(), received: cut.clone() };
        let times = Times { echo_ms: 0, heard_ms: 0, sent_ms: machine.now.wall_ms };
        let digest = Digest { row, heads: vec![(replica, floor, [1; 16])], settled: None, heard: None, times };
        let manifest =
            Manifest { id: 5, cut, clock: Hlc::from_millis(machine.now.wall_ms), hashes: vec![(replica, [1; 16])] };
        for message in [Message::Digest(digest), Message::BelowFloor(replica, floor), Message::Manifest(manifest)] {
            machine.hear(&message.to_bytes());
        }
    }

    /// Writes columns of a row, or deletes it (an empty block). The block is a script: a byte names the column,
    /// another one the value.
    fn site(&self, machine: &mut Machine) {
        let row = post((self.parameter % 8).into());
        let now = machine.now;
        let Some(database) = &mut machine.database else { return };
        let mut image = database.row_or_default(&row);
        let mut script = Script::new(self.block);
        while let (Some(column), Some(value)) = (script.byte(), script.byte()) {
            match column % 3 {
                0 => image.insert(b"slug"[..].into(), Value::bytes([b'a' + value % 4])),
                1 => image.insert(b"views"[..].into(), Value::from(i64::from(value as i8))),
                _ => image.insert(b"title"[..].into(), value_of(value)),
            };
        }
        database.site_writes(row, (!self.block.is_empty()).then_some(image), now.wall_ms);
        machine.node.handle_notify(now);
        machine.settle();
    }

    fn sql_failure(&self, machine: &mut Machine) {
        let errors = [
            SqlError::Deadlock,
            SqlError::LockTimeout,
            SqlError::RecordChanged,
            SqlError::DuplicateKey,
            SqlError::ConnectionLost,
        ];
        if let Some(database) = &mut machine.database {
            database.fail_next(errors[usize::from(self.parameter) % errors.len()]);
        }
    }
}

/// One of two replicas that are not this machine's.
pub fn stranger(parameter: u8) -> ReplicaId {
    if parameter.is_multiple_of(2) { first_replica(1) } else { ReplicaId(9 << 120) }
}

fn value_of(byte: u8) -> Value {
    match byte % 4 {
        0 => Value::Null,
        1 => Value::from(u64::from(byte)),
        2 => Value::bytes(vec![byte; usize::from(byte) * 8]),
        _ => Value::bytes([byte]),
    }
}

/// Reads intents: an action with the depth of its path, one byte for each name, and one for the operand.
fn intents(machine: &Machine, block: &[u8]) -> Vec<Intent> {
    let mut bytes: VecDeque<u8> = block.iter().copied().collect();
    let mut intents = Vec::new();
    while let Some(code) = bytes.pop_front() {
        let path: Vec<Name> = (0..=code >> 6).filter_map(|_| Some([bytes.pop_front()? % 8].into())).collect();
        let operand = bytes.pop_front().unwrap_or(0);
        let action = match code % 8 {
            0 | 1 => Action::Set(value_of(operand)),
            2 => Action::Remove(Kind::ALL[usize::from(operand) % Kind::ALL.len()]),
            3 => match machine.node.journal().first() {
                Some((_, entry)) => Action::Restore(entry.dot),
                None => continue,
            },
            // Large steps reach the ends of the range soon.
            4 => Action::Increment(i128::from(operand as i8) << (operand % 120)),
            5 => Action::Grow(u64::MAX >> (operand % 64)),
            6 => Action::Add(vec![[operand % 8].into(), [operand % 3].into()]),
            _ => Action::Discard(vec![[operand % 8].into()]),
        };
        intents.push(Intent { namespace: Namespace(0), path, action });
    }
    intents
}
