//! Batches as they were seen: who wrote them, what their author knew, what they carry, who holds them.

use std::collections::BTreeMap;
use std::rc::Rc;

use crdt::row::ColumnName;
use crdt::{BatchId, Content, Envelope, Hlc, Key, Op, ReplicaId, Value};
use replica::host::RowId;

use super::{NodeIndex, Order, Vector};

/// What is known of one batch.
#[derive(Clone, Debug, Default)]
pub struct BatchLog {
    /// The node that wrote it, where that was observed.
    pub author: Option<NodeIndex>,
    /// When its author had it first.
    pub order: Order,
    /// Virtual time of that, or of the first sight of its bytes.
    pub time_us: u64,
    /// Everything that its author had applied before it.
    pub saw: Option<Rc<Vector>>,
    /// Hash over its bytes.
    pub hash: Option<u128>,
    /// Its commit clock.
    pub hlc: Hlc,
    /// True when the next batch belongs to it.
    pub more: bool,
    /// What it does to rows.
    pub rows: Vec<Carried>,
    /// Bit n: node n had it in its log or state when it was last observed, or has it on its disk.
    pub holders: u64,
    /// Set when a loss of a disk left nobody that held it: its writes may be gone.
    pub lost: bool,
}

/// What a batch carries for one row.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The row.
    pub row: RowId,
    /// True when it makes a life.
    pub inserts: bool,
    /// True when it ends lives.
    pub ends: bool,
    /// The values that it writes.
    pub cells: Vec<(ColumnName, Value)>,
}

/// Two contents under one dot.
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// When the second one was seen.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
    /// The dot.
    pub batch: BatchId,
    /// Where the second one was seen.
    pub node: NodeIndex,
}

/// All batches, and who minted which replica id.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// Batch seq at index seq - 1.
    by_replica: BTreeMap<ReplicaId, Vec<BatchLog>>,
    pub(super) owners: BTreeMap<ReplicaId, NodeIndex>,
    pub(super) forks: Vec<Fork>,
    /// Batches in the order in which their bytes were seen first.
    pub(super) decoded: Vec<BatchId>,
}

impl Batches {
    pub(super) fn get(&self, batch: BatchId) -> Option<&BatchLog> {
        let at = usize::try_from(batch.seq.checked_sub(1)?).ok()?;
        self.by_replica.get(&batch.replica)?.get(at)
    }

    pub(super) fn entry(&mut self, batch: BatchId) -> &mut BatchLog {
        let known = self.by_replica.entry(batch.replica).or_default();
        let at = batch.seq.saturating_sub(1) as usize;
        if known.len() <= at {
            known.resize_with(at + 1, BatchLog::default);
        }
        &mut known[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (BatchId, &BatchLog)> {
        self.by_replica.iter().flat_map(|(replica, known)| {
            let id = |at: usize| BatchId { replica: *replica, seq: at as u64 + 1 };
            known.iter().enumerate().map(move |(at, batch)| (id(at), batch))
        })
    }

    /// A node's log or state includes everything of a replica from `from` + 1 to `to`.
    pub(super) fn held(&mut self, node: NodeIndex, replica: ReplicaId, from: u64, to: u64) {
        for seq in from + 1..=to {
            self.entry(BatchId { replica, seq }).holders |= 1 << node;
        }
    }

    /// A node no longer has the batches of a replica from `from` + 1 to `to`.
    pub(super) fn dropped(&mut self, node: NodeIndex, replica: ReplicaId, from: u64, to: u64) {
        for seq in from + 1..=to {
            let batch = self.entry(BatchId { replica, seq });
            batch.holders &= !(1 << node);
            batch.lost |= batch.holders == 0;
        }
    }

    /// Takes a batch's bytes apart when they are the first under their dot; else compares them.
    pub(super) fn bytes(&mut self, at: (Order, u64), node: NodeIndex, batch: BatchId, bytes: &[u8]) {
        let hash = crate::hash::hash(0, bytes);
        let (order, time_us) = at;
        match self.entry(batch).hash {
            None => {
                let entry = self.entry(batch);
                entry.hash = Some(hash);
                entry.time_us = time_us;
                entry.take_apart(bytes);
                self.decoded.push(batch);
            }
            Some(known) if known == hash => {}
            Some(_) => self.forks.push(Fork { order, time_us, batch, node }),
        }
    }
}

impl BatchLog {
    /// Bytes that do not decode carry nothing: whoever takes them over is caught by what it shows.
    fn take_apart(&mut self, bytes: &[u8]) {
        let Ok(envelope) = Envelope::parse(bytes) else { return };
        self.hlc = envelope.header.hlc;
        self.more = envelope.header.more;
        let Ok(batch) = envelope.to_batch() else { return };
        for change in batch.changes {
            let Some(row) = Key::of_change(&change).and_then(|key| RowId::from_key(&key)) else { continue };
            let Content::Op(Op::Row(delta)) = change.content else { continue };
            let cells = delta.columns.into_iter().filter_map(|column| Some((column.name, column.write?)));
            let (inserts, ends) = (delta.insert, !delta.ends.is_empty());
            self.rows.push(Carried { row, inserts, ends, cells: cells.collect() });
        }
    }
}
