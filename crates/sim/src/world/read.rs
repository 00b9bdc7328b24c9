//! What the checkers may look at.

use crdt::object::JournalEntry;
use crdt::{Fingerprint, Hlc, Key, Object, ReplicaId, VersionVector};
use replica::host::{RowId, RowImage, Schema};
use replica::{Intervals, Limits};

use super::{Process, World};
use crate::checkers::{DatabaseRead, Figures, LeafView, NodeRead, RowContent, WorldRead, row_content};
use crate::database::Database;
use crate::history::{History, Leaf, NodeIndex};
use crate::workload::leaf_object;

impl NodeRead for Process {
    fn replica(&self) -> ReplicaId {
        self.node.replica()
    }

    fn applied(&self) -> &VersionVector {
        self.node.applied()
    }

    fn shown(&self) -> &VersionVector {
        self.node.shown()
    }

    fn received(&self) -> &VersionVector {
        &self.received
    }

    fn stable(&self) -> VersionVector {
        self.node.stable().clone()
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn clock(&self) -> Hlc {
        self.node.clock()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.node.keyspace().fingerprint()
    }

    fn journal_entries(&self) -> u64 {
        self.node.keyspace().journal_entries()
    }

    fn journal(&self) -> Vec<(Key, JournalEntry)> {
        self.node.journal()
    }

    fn leaf(&self, leaf: &Leaf) -> LeafView {
        match leaf_object(&self.node, leaf) {
            None => LeafView::Nothing,
            Some(Object::Register(register)) => LeafView::Register(
                register.shown().map(|entry| entry.value.clone()),
                register.journal().map(|entry| entry.value.clone()).collect(),
            ),
            Some(Object::GCounter(counter)) => {
                LeafView::Count(counter.exists().then(|| counter.value().unwrap_or_default()))
            }
            Some(Object::PnCounter(counter)) => {
                LeafView::Count(counter.exists().then(|| counter.value().unwrap_or_default()))
            }
            Some(Object::Set(set)) => LeafView::Elements(set.iter().map(Into::into).collect()),
            Some(Object::Map(_) | Object::Row(_)) => LeafView::Nothing,
        }
    }

    fn row(&self, row: &RowId) -> RowContent {
        let key = row.to_key();
        let journal = self.node.keyspace().object(&key).map_or_else(Vec::new, |object| object.journal());
        let view = self.node.view(row);
        let shown = view.exists().then(|| {
            let cells = view.cells.iter().map(|(name, cell)| (name.clone(), cell.value.clone()));
            let sums = view.sums.iter().map(|(name, sum)| {
                let amount =
                    crdt::value::Integer::from_i128(sum.amount).map_or(crdt::Value::Null, crdt::Value::Integer);
                (name.clone(), amount)
            });
            cells.chain(sums).collect::<RowImage>()
        });
        row_content(shown, journal)
    }

    fn is_settled(&self) -> bool {
        self.node.is_settled()
    }

    fn is_installing(&self) -> bool {
        self.node.is_installing()
    }

    fn figures(&self) -> Figures {
        let gauges = self.node.gauges();
        Figures {
            beyond_gap_batches: gauges.beyond_gap_batches,
            log_bytes: gauges.log_bytes,
            snapshot_preimage_bytes: gauges.snapshot_preimage_bytes,
            held: gauges.held,
        }
    }
}

impl DatabaseRead for Database {
    fn row(&self, row: &RowId) -> Option<&RowImage> {
        self.store().row(row).map(AsRef::as_ref)
    }

    fn rows(&self) -> Box<dyn Iterator<Item = (&RowId, &RowImage)> + '_> {
        Box::new(self.store().rows().map(|(row, image)| (row, image.as_ref())))
    }
}

impl WorldRead for World {
    fn history(&self) -> &History {
        &self.history
    }

    fn node(&self, node: NodeIndex) -> Option<&dyn NodeRead> {
        self.machines.get(node)?.process.as_ref().map(|process| process as &dyn NodeRead)
    }

    fn database(&self, node: NodeIndex) -> Option<&dyn DatabaseRead> {
        self.machines.get(node)?.database.as_ref().map(|database| database as &dyn DatabaseRead)
    }

    fn limits(&self, _node: NodeIndex) -> &Limits {
        self.limits()
    }

    fn intervals(&self) -> &Intervals {
        &self.swarm.intervals
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn core(&self) -> Vec<NodeIndex> {
        let is_in = |node: &usize| !self.machines[*node].is_outside && self.machines[*node].was_started;
        (0..self.machines.len()).filter(is_in).collect()
    }
}

impl World {
    /// What keeps the core from being at rest; empty when nothing does. To be asked again and again: it remembers since
    /// when the rolling scan goes around.
    pub fn unrest(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        let core = self.core();
        let mut first: Option<(usize, &VersionVector)> = None;
        for node in core {
            let machine = &self.machines[node];
            let Some(process) = &machine.process else {
                reasons.push(format!("{} is down", machine.name));
                continue;
            };
            if !process.node.is_settled() {
                reasons.push(format!("{} is not settled: {:?}", machine.name, process.node.gauges()));
            }
            if process.node.is_installing() {
                reasons.push(format!("{} is installing a snapshot", machine.name));
            }
            if let Some(database) = &machine.database
                && !database.store().outbox().is_empty()
            {
                reasons.push(format!("{} outbox entries wait at {}", database.store().outbox().len(), machine.name));
            }
            match first {
                None => first = Some((node, process.node.shown())),
                Some((_, shown)) if shown == process.node.shown() => {}
                Some((other, shown)) => reasons.push(format!(
                    "{} shows {:?}, {} shows {:?}",
                    machine.name,
                    process.node.shown(),
                    self.machines[other].name,
                    shown
                )),
            }
        }
        if self.clients_are_busy() {
            reasons.push("clients are busy".into());
        }
        if self.has_bypassed && self.waits_for_scan(reasons.is_empty()) {
            reasons.push("a write that bypassed capture waits to be found".into());
        }
        reasons
    }

    /// True until the rolling scan has gone around once on every node, because nothing else finds a write that bypassed
    /// capture. The time is taken from rest, not from the write: the scan comes after all other work, stands still
    /// while a node's state is not that of its vector, and begins anew with every process. So a node that was kept from
    /// it for a thousand seconds has still all of it before it.
    fn waits_for_scan(&mut self, is_otherwise_at_rest: bool) -> bool {
        let cannot_scan = |node: usize| {
            let process = self.machines[node].process.as_ref();
            process.is_none_or(|process| process.node.is_installing())
        };
        if self.core().into_iter().any(cannot_scan) {
            self.scans_since_us = None;
        } else if is_otherwise_at_rest {
            // What it finds ends the rest for a moment, and not the round.
            self.scans_since_us.get_or_insert(self.now_us);
        }
        self.scans_since_us.is_none_or(|since_us| self.now_us < since_us + self.scan_round_us())
    }

    /// How long rest is put off by that at most, from the moment on at which all else is at rest.
    pub fn scan_wait_us(&self) -> u64 {
        if self.has_bypassed { self.scan_round_us() } else { 0 }
    }

    /// The longest that one round of the scan takes, from any place in the tables back to it.
    fn scan_round_us(&self) -> u64 {
        let rows = self.machines.iter().filter_map(|machine| machine.database.as_ref());
        let most = rows.map(|database| database.store().rows().count() as u64).max().unwrap_or(0);
        (most / 200 + 3) * self.swarm.intervals.scan_ms * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::swarm::Swarm;

    #[test]
    fn a_write_past_the_triggers_is_waited_for_from_rest_on() {
        let mut random = Random::new(1);
        let swarm = Swarm::draw(3, &mut random);
        let mut world = World::new(swarm, &mut random, false);
        let round_us = world.scan_round_us();
        assert!(world.unrest().is_empty());
        assert_eq!(world.scan_wait_us(), 0);
        (world.has_bypassed, world.machines[0].was_started) = (true, true);
        // However long a node is down: its scan begins when it is back.
        world.advance_to(10 * round_us);
        assert_eq!(world.unrest().len(), 2);
        assert_eq!(world.scan_wait_us(), round_us);
        world.machines[0].was_started = false;
        assert_eq!(world.unrest().len(), 1);
        world.advance_to(11 * round_us - 1);
        assert_eq!(world.unrest().len(), 1);
        world.advance_to(11 * round_us);
        assert!(world.unrest().is_empty());
    }
}
