//! Replies on their way to the client: in the order of requests, each once what it rests on has happened.

use std::collections::VecDeque;

use crdt::BatchId;

use crate::session::Ticket;

/// What a reply waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// Nothing.
    No,
    /// The daemon's answer about this ticket.
    Answer(Ticket),
    /// This batch, until it is durable.
    Durable(BatchId),
}

#[derive(Clone, Debug)]
struct Slot {
    waits: Waits,
    bytes: Vec<u8>,
}

/// The replies of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies {
    /// Bytes that may leave.
    out: Vec<u8>,
    /// Bytes of `out` that have left.
    taken: usize,
    /// Replies behind one that waits. The first always waits.
    slots: VecDeque<Slot>,
    slot_bytes: usize,
}

/// `out` is moved to its front when this many bytes of it have left.
const COMPACT_BYTES: usize = 64 << 10;

impl Replies {
    /// A reply that waits for nothing but those before it.
    pub(crate) fn ready(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.slots.is_empty() {
            encode(&mut self.out);
        } else {
            let mut bytes = Vec::new();
            encode(&mut bytes);
            self.push(Waits::No, bytes);
        }
    }

    /// A reply that waits for the daemon. `bytes` leave if it turns out well.
    pub(crate) fn wait(&mut self, ticket: Ticket, bytes: Vec<u8>) {
        self.push(Waits::Answer(ticket), bytes);
    }

    /// The answer to a ticket: with `bytes`, they are the reply; without, the reply waits on, for the batch.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        // Answers come for the youngest reply; a ticket that is unknown was answered before.
        let Some(slot) = self.slots.iter_mut().rev().find(|slot| slot.waits == Waits::Answer(ticket)) else { return };
        match answer {
            Answer::Durable(batch) => slot.waits = Waits::Durable(batch),
            Answer::Bytes(bytes) => {
                self.slot_bytes = self.slot_bytes - slot.bytes.len() + bytes.len();
                slot.bytes = bytes;
                slot.waits = Waits::No;
            }
        }
        self.settle();
    }

    /// The batch is durable, with all commands that are in it. True when a reply waited for it.
    pub(crate) fn acknowledge(&mut self, batch: BatchId) -> bool {
        let mut has_waited = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.waits == Waits::Durable(batch)) {
            slot.waits = Waits::No;
            has_waited = true;
        }
        self.settle();
        has_waited
    }

    /// No batch will ever be durable: all that wait for one say `bytes`.
    pub(crate) fn fail(&mut self, bytes: &[u8]) {
        for slot in &mut self.slots {
            if matches!(slot.waits, Waits::Durable(_)) {
                self.slot_bytes = self.slot_bytes - slot.bytes.len() + bytes.len();
                slot.bytes = bytes.to_vec();
                slot.waits = Waits::No;
            }
        }
        self.settle();
    }

    /// Bytes that may leave now.
    pub(crate) fn output(&self) -> &[u8] {
        self.out.get(self.taken..).unwrap_or_default()
    }

    /// So many bytes have left.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.out.len());
        if self.taken == self.out.len() {
            self.out.clear();
            self.out.shrink_to(COMPACT_BYTES);
            self.taken = 0;
        } else if self.taken >= COMPACT_BYTES && self.taken * 2 >= self.out.len() {
            self.out.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Replies that wait, with those behind them.
    pub(crate) fn waiting(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of all replies that have not left.
    pub(crate) fn bytes(&self) -> usize {
        self.output().len() + self.slot_bytes
    }

    /// Bytes of memory beyond what is kept for replies to come.
    pub(crate) fn held_bytes(&self) -> usize {
        let output = self.out.capacity().saturating_sub(COMPACT_BYTES).max(self.output().len());
        output + self.slot_bytes + self.slots.len() * size_of::<Slot>()
    }

    fn push(&mut self, waits: Waits, bytes: Vec<u8>) {
        self.slot_bytes += bytes.len();
        self.slots.push_back(Slot { waits, bytes });
    }

    fn settle(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.waits == Waits::No)
            && let Some(slot) = self.slots.pop_front()
        {
            self.slot_bytes -= slot.bytes.len();
            self.out.extend_from_slice(&slot.bytes);
        }
    }
}

/// What became of a ticket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The write was accepted as this batch.
    Durable(BatchId),
    /// This is the reply.
    Bytes(Vec<u8>),
}
