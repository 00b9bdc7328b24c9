//! Batches of three replicas, each with a past of its own: what the target `delta` plays and what its
//! corpus is made of.
//!
//! A script of turns: one byte that says who writes, what it hears before and whether more follows; one for the
//! clock; one for the number of changes; then a block with the changes.

use crdt::{Batch, BatchHeader, BatchId, Envelope, Hlc, ReplicaId, VersionVector};

use crate::envelope::envelope;
use crate::script::{Script, push_block};

/// The replicas. Their ids differ in a high byte, so that they stay apart when low ones are damaged.
pub const REPLICAS: [ReplicaId; 3] = [ReplicaId(1 << 120), ReplicaId(2 << 120), ReplicaId(3 << 120)];
/// Bit of the first byte of a turn: more follows.
const MORE: u8 = 1 << 5;

/// One replica's turn to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Place in [`REPLICAS`].
    pub writer: usize,
    /// Which replicas it hears before: everything that they have.
    pub heard: [bool; 3],
    /// The mark in the header.
    pub more: bool,
    /// The clock of the commit.
    pub time: u8,
}

impl Turn {
    fn read(script: &mut Script<'_>) -> Option<Self> {
        let (head, time) = (script.byte()?, script.byte()?);
        let heard = [0, 1, 2].map(|place| head >> (2 + place) & 1 == 1);
        Some(Self { writer: usize::from(head & 3) % 3, heard, more: head & MORE != 0, time })
    }

    /// Appends the turn with its changes to a script.
    pub fn push(&self, change_count: u8, changes: &[u8], script: &mut Vec<u8>) {
        let heard = self.heard.iter().enumerate().map(|(place, heard)| u8::from(*heard) << (2 + place)).sum::<u8>();
        script.push(self.writer as u8 | heard | if self.more { MORE } else { 0 });
        script.push(self.time);
        script.push(change_count);
        push_block(script, changes);
    }
}

/// What each replica has.
#[derive(Clone, Debug, Default)]
pub struct History {
    pasts: [VersionVector; 3],
}

impl History {
    /// The header of the batch that a turn makes. Nothing happens before [`History::commit`].
    pub fn header(&self, turn: &Turn) -> BatchHeader {
        let replica = REPLICAS[turn.writer];
        let mut context = self.pasts[turn.writer].clone();
        for (past, _) in self.pasts.iter().zip(turn.heard).filter(|(_, heard)| *heard) {
            context.join(past);
        }
        context.forget(replica);
        let id = BatchId { replica, seq: self.pasts[turn.writer].seq(replica) + 1 };
        BatchHeader { id, more: turn.more, hlc: Hlc(u64::from(turn.time) + 1), context }
    }

    /// The batch becomes part of its writer's past.
    pub fn commit(&mut self, header: &BatchHeader) {
        for (past, replica) in self.pasts.iter_mut().zip(REPLICAS) {
            if replica == header.id.replica {
                past.join(&header.context);
                past.advance(replica, header.id.seq);
            }
        }
    }

    /// What each replica has.
    pub fn pasts(&self) -> &[VersionVector; 3] {
        &self.pasts
    }
}

/// Plays a script: the batches that decode, in an order in which they can be applied, and what each
/// replica has in the end.
pub fn play(input: &[u8]) -> (Vec<Batch>, History) {
    let (mut batches, mut history) = (Vec::new(), History::default());
    let mut script = Script::new(input);
    while let Some(turn) = Turn::read(&mut script) {
        let (Some(count), Some(changes)) = (script.byte(), script.block()) else { break };
        let bytes = envelope(&history.header(&turn), count.into(), changes);
        if let Ok(batch) = Envelope::parse(&bytes).and_then(|envelope| envelope.to_batch()) {
            history.commit(&batch.header);
            batches.push(batch);
        }
    }
    (batches, history)
}
