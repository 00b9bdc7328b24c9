//! What an observation changes in the record.

use crdt::{BatchId, Hlc, ReplicaId};

use super::{Advance, History, NodeIndex, Opened, Order, Setback, Vectors, Which, vectors};

/// What a full counter of the hybrid clock borrows.
const BORROWED_MS: u64 = 1;

impl History {
    /// A node's clock after a step, and the latest millisecond that it may follow in that step: its own wall clock's
    /// with the skew bound added. To be called before the step's [`History::observe`].
    pub fn clock_seen(&mut self, node: NodeIndex, clock: Hlc, latest_ms: u64) {
        let before = &self.nodes[node].now;
        let (replica, latest_ms) = (before.replica, before.clock.millis().max(latest_ms) + BORROWED_MS);
        if clock.millis() > latest_ms {
            self.setback(node, Which::ClockAhead, replica, (latest_ms, clock.millis()), None);
        }
    }

    /// Writes down what of `after` is behind `before`. Over a restart only what must be durable is held against it.
    pub(super) fn compare(&mut self, node: NodeIndex, before: &Vectors, after: &Vectors, over: Option<Opened>) {
        let pairs = [
            (Which::Applied, &before.applied, &after.applied),
            (Which::Received, &before.received, &after.received),
            (Which::Shown, &before.shown, &after.shown),
            (Which::Stable, &before.stable, &after.stable),
        ];
        // What the database shows is looked up anew after a restart, and a cut may be computed anew: neither is a promise.
        let promised = if over.is_some() { 2 } else { pairs.len() };
        for (which, before, after) in &pairs[..promised] {
            if std::rc::Rc::ptr_eq(before, after) {
                continue;
            }
            let lowered: Vec<_> = vectors::lowered(before, after).collect();
            for (replica, from, to) in lowered {
                self.setback(node, *which, replica, (from, to), over);
            }
        }
        if after.clock < before.clock {
            self.setback(node, Which::Clock, after.replica, (before.clock.0, after.clock.0), over);
        }
    }

    pub(super) fn setback(
        &mut self,
        node: NodeIndex,
        which: Which,
        replica: ReplicaId,
        (from, to): (u64, u64),
        over: Option<Opened>,
    ) {
        let (order, time_us) = (self.order, self.time_us);
        self.setbacks.push(Setback { order, time_us, node, which, replica, from, to, over });
    }

    /// Batches that the node wrote in this step, with what it had applied before it.
    pub(super) fn note_own(&mut self, order: Order, node: NodeIndex, before: &Vectors, after: &Vectors) {
        let own = after.replica;
        for seq in before.applied.seq(own) + 1..=after.applied.seq(own) {
            let id = BatchId { replica: own, seq };
            let batch = self.batches.entry(id);
            // Known already: the batch came back from the node's own log after a restart.
            if batch.author.is_none() {
                (batch.author, batch.order, batch.saw) = (Some(node), order, Some(before.applied.clone()));
                batch.holders |= 1 << node;
                batch.time_us = self.time_us;
                self.nodes[node].own.push((order, id));
            }
        }
    }

    /// Moves of the state, and when each batch was first applied and first shown.
    pub(super) fn note_applied(&mut self, order: Order, node: NodeIndex, after: &Vectors) {
        let (time_us, log) = (self.time_us, &mut self.nodes[node]);
        for (replica, to) in after.applied.iter() {
            let from = log.now.applied.seq(replica);
            if from < to {
                self.advances.push(Advance { order, time_us, node, replica, from, to });
                extend(log.applied_at.entry(replica).or_default(), to, order);
            }
        }
        for (replica, to) in after.shown.iter() {
            if log.now.shown.seq(replica) < to {
                extend(log.shown_at.entry(replica).or_default(), to, order);
            }
        }
    }
}

/// The first time counts: what a crash takes back is applied again later, but a database does not unlearn it.
fn extend(times: &mut Vec<Order>, to: u64, order: Order) {
    let to = to as usize;
    if times.len() < to {
        times.resize(to, order);
    }
}
