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
    /// What keeps the core from being at rest; empty when nothing does.
    pub fn unrest(&self) -> Vec<String> {
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
        if let Some(bypassed_us) = self.bypassed_us {
            // Only the rolling scan finds such a write: all of it, once around.
            let rows = self.machines.iter().filter_map(|machine| machine.database.as_ref());
            let most = rows.map(|database| database.store().rows().count() as u64).max().unwrap_or(0);
            let round_us = (most / 200 + 3) * self.swarm.intervals.scan_ms * 1_000;
            if self.now_us < bypassed_us + round_us {
                reasons.push("a write that bypassed capture waits to be found".into());
            }
        }
        if self.clients_are_busy() {
            reasons.push("clients are busy".into());
        }
        reasons
    }
}
