//! What the oracle and the checkers read.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{BatchId, ReplicaId};

use super::{
    Advance, Appearance, BatchLog, CommitId, DoorCommit, Fork, History, NodeIndex, NodeLog, Order, Reported, Setback,
    SqlCommit,
};

impl History {
    /// Virtual time of the newest entry.
    pub fn time_us(&self) -> u64 {
        self.time_us
    }

    /// Position of the newest entry.
    pub fn order(&self) -> Order {
        self.order
    }

    /// All machines, members or not.
    pub fn nodes(&self) -> &[NodeLog] {
        &self.nodes
    }

    /// All transactions in the order of their commits.
    pub fn commits(&self) -> &[SqlCommit] {
        &self.commits
    }

    /// All accepted door writes in order.
    pub fn doors(&self) -> &[DoorCommit] {
        &self.doors
    }

    /// All moves of states, in order.
    pub fn advances(&self) -> &[Advance] {
        &self.advances
    }

    /// Everything that went back, in order.
    pub fn setbacks(&self) -> &[Setback] {
        &self.setbacks
    }

    /// All reports in order.
    pub fn reports(&self) -> &[Reported] {
        &self.reports
    }

    /// Rows that the engine let appear or vanish, in order.
    pub fn appearances(&self) -> &[Appearance] {
        &self.appearances
    }

    /// Dots with two contents, in order.
    pub fn forks(&self) -> &[Fork] {
        &self.batches.forks
    }

    /// What is known of a batch.
    pub fn batch(&self, batch: BatchId) -> Option<&BatchLog> {
        self.batches.get(batch)
    }

    /// True when what the batch says may be gone for ever: the disk that lost it was the only one that had it, or its
    /// replica was sealed below it.
    pub fn is_gone(&self, batch: BatchId) -> bool {
        let sealed_out = self.seals.get(&batch.replica).is_some_and(|seal| batch.seq > *seal);
        sealed_out || self.batch(batch).is_some_and(|log| log.lost && log.holders == 0)
    }

    /// True for a dot under which two batches were brought on purpose.
    pub fn is_forged(&self, batch: BatchId) -> bool {
        self.forged.contains(&batch)
    }

    /// All batches that were written or seen.
    pub fn batches(&self) -> impl Iterator<Item = (BatchId, &BatchLog)> {
        self.batches.iter()
    }

    /// Batches in the order in which their bytes were seen first.
    pub fn decoded(&self) -> &[BatchId] {
        &self.batches.decoded
    }

    /// The node that minted a replica id.
    pub fn owner(&self, replica: ReplicaId) -> Option<NodeIndex> {
        self.batches.owners.get(&replica).copied()
    }

    /// Members by epoch.
    pub fn epochs(&self) -> &BTreeMap<u64, BTreeSet<NodeIndex>> {
        &self.epochs
    }

    /// Bytes sent so far per directed link.
    pub fn traffic(&self) -> &BTreeMap<(NodeIndex, NodeIndex), u64> {
        &self.traffic
    }

    /// Very late messages delivered so far per directed link.
    pub fn late(&self) -> &BTreeMap<(NodeIndex, NodeIndex), u64> {
        &self.late
    }

    /// How far clocks ran ahead of virtual time, all together.
    pub fn jumped_ms(&self) -> u64 {
        self.jumped_ms
    }

    /// When a node had first applied a batch; `None` for never.
    pub fn applied_at(&self, node: NodeIndex, batch: BatchId) -> Option<Order> {
        first(&self.nodes.get(node)?.applied_at, batch)
    }

    /// When a node's database had first shown a batch; `None` for never.
    pub fn shown_at(&self, node: NodeIndex, batch: BatchId) -> Option<Order> {
        first(&self.nodes.get(node)?.shown_at, batch)
    }

    /// True when both transactions, of one node, went into one drain; `None` when that cannot be told, because one of
    /// them was never drained or more than once.
    pub fn drained_together(&self, one: CommitId, other: CommitId) -> Option<bool> {
        match (self.commits[one].drains.as_slice(), self.commits[other].drains.as_slice()) {
            ([one], [other]) => Some(one == other),
            _ => None,
        }
    }
}

fn first(times: &BTreeMap<ReplicaId, Vec<Order>>, batch: BatchId) -> Option<Order> {
    let at = usize::try_from(batch.seq.checked_sub(1)?).ok()?;
    times.get(&batch.replica)?.get(at).copied()
}
