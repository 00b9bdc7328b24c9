//! A small world made by hand, for the checkers' own tests.

use std::collections::BTreeMap;
use std::rc::Rc;

use crdt::change::{MAC_BYTES, seal};
use crdt::object::{JournalContent, JournalEntry};
use crdt::row::{ColumnDelta, ColumnName, RowDelta};
use crdt::{Batch, BatchHeader, BatchId, Change, Content, Dot, Fingerprint, Hlc, Key, Kind, Namespace, Op, ReplicaId};
use crdt::{Value, VersionVector};
use replica::host::{RowId, RowImage, Schema, Table};
use replica::{Intervals, Limits};

use super::{DatabaseRead, Figures, LeafView, NodeRead, RowContent, WorldRead};
use crate::history::{CommitId, DoorAction, DoorWrite, History, Image, Leaf, NodeIndex, Observed, Opened, RowChange};
use crate::oracle::Oracle;

/// A node whose answers are set by hand.
#[derive(Default)]
pub(crate) struct StandNode {
    pub(crate) replica: ReplicaId,
    pub(crate) applied: VersionVector,
    pub(crate) shown: VersionVector,
    pub(crate) received: VersionVector,
    pub(crate) stable: VersionVector,
    pub(crate) epoch: u64,
    pub(crate) clock: Hlc,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) journal: Vec<(Key, JournalEntry)>,
    pub(crate) leaves: BTreeMap<Leaf, LeafView>,
    pub(crate) rows: BTreeMap<RowId, RowContent>,
    pub(crate) settled: bool,
    pub(crate) installing: bool,
    pub(crate) figures: Figures,
}

impl NodeRead for StandNode {
    fn replica(&self) -> ReplicaId {
        self.replica
    }
    fn applied(&self) -> &VersionVector {
        &self.applied
    }
    fn shown(&self) -> &VersionVector {
        &self.shown
    }
    fn received(&self) -> &VersionVector {
        &self.received
    }
    fn stable(&self) -> VersionVector {
        self.stable.clone()
    }
    fn epoch(&self) -> u64 {
        self.epoch
    }
    fn clock(&self) -> Hlc {
        self.clock
    }
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
    fn journal_entries(&self) -> u64 {
        self.journal.len() as u64
    }
    fn journal(&self) -> Vec<(Key, JournalEntry)> {
        self.journal.clone()
    }
    fn leaf(&self, leaf: &Leaf) -> LeafView {
        self.leaves.get(leaf).cloned().unwrap_or(LeafView::Nothing)
    }
    fn row(&self, row: &RowId) -> RowContent {
        self.rows.get(row).cloned().unwrap_or_default()
    }
    fn is_settled(&self) -> bool {
        self.settled
    }
    fn is_installing(&self) -> bool {
        self.installing
    }
    fn figures(&self) -> Figures {
        self.figures
    }
}

/// Nodes, their databases and a record.
pub(crate) struct Stand {
    pub(crate) history: History,
    pub(crate) nodes: Vec<StandNode>,
    pub(crate) databases: Vec<BTreeMap<RowId, RowImage>>,
    pub(crate) limits: Limits,
    pub(crate) intervals: Intervals,
    pub(crate) schema: Schema,
    /// Transactions of each node that were not drained yet.
    waiting: Vec<Vec<CommitId>>,
}

impl WorldRead for Stand {
    fn history(&self) -> &History {
        &self.history
    }
    fn node(&self, node: NodeIndex) -> Option<&dyn NodeRead> {
        self.nodes.get(node).map(|node| node as &dyn NodeRead)
    }
    fn database(&self, node: NodeIndex) -> Option<&dyn DatabaseRead> {
        self.databases.get(node).map(|database| database as &dyn DatabaseRead)
    }
    fn limits(&self, _node: NodeIndex) -> &Limits {
        &self.limits
    }
    fn intervals(&self) -> &Intervals {
        &self.intervals
    }
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn core(&self) -> Vec<NodeIndex> {
        (0..self.nodes.len()).collect()
    }
}

/// Row `id` of the one table.
pub(crate) fn row(id: u64) -> RowId {
    RowId::numbered(Namespace(1), "posts", id)
}

/// The one leaf of a kind.
pub(crate) fn leaf(kind: Kind) -> Leaf {
    Leaf { namespace: Namespace(1), path: vec![b"leaf".as_slice().into()], kind }
}

/// An object's key.
pub(crate) fn key(id: u64) -> Key {
    row(id).to_key()
}

/// A journal entry of a title.
pub(crate) fn entry(replica: ReplicaId, seq: u64, value: &str) -> JournalEntry {
    let content = JournalContent::Value(value.into());
    JournalEntry { path: vec![name("title")], dot: Dot::new(replica, seq, 0), stamp: Some(Hlc(1)), content }
}

/// A row image: `#7` is the number 7.
pub(crate) fn image(columns: &[(&str, &str)]) -> RowImage {
    columns.iter().map(|(column, text)| (name(column), value(text))).collect()
}

fn name(column: &str) -> ColumnName {
    column.as_bytes().into()
}

fn value(text: &str) -> Value {
    let number = text.strip_prefix('#').and_then(|digits| digits.parse::<i64>().ok());
    number.map_or_else(|| text.into(), Value::from)
}

impl Stand {
    pub(crate) fn new(nodes: usize) -> Self {
        let table = Table { counters: [name("views")].into(), unique: Some(name("slug")), rank: 0 };
        let mut stand = Self {
            history: History::new(nodes),
            nodes: Vec::new(),
            databases: vec![BTreeMap::new(); nodes],
            limits: Limits::default(),
            intervals: Intervals::default(),
            schema: Schema { tables: [("posts".into(), table)].into() },
            waiting: vec![Vec::new(); nodes],
        };
        for node in 0..nodes {
            let replica = ReplicaId(node as u128 + 1);
            stand.nodes.push(StandNode { replica, settled: true, ..StandNode::default() });
            stand.open(node, Opened::First);
        }
        stand
    }

    pub(crate) fn oracle(&self) -> Oracle {
        let mut oracle = Oracle::default();
        oracle.read(&self.history, &self.schema);
        oracle
    }

    pub(crate) fn edit(&mut self, node: NodeIndex) -> &mut StandNode {
        &mut self.nodes[node]
    }

    pub(crate) fn replica(&self, node: NodeIndex) -> ReplicaId {
        self.nodes[node].replica
    }

    fn observed(node: &StandNode) -> Observed<'_> {
        Observed {
            replica: node.replica,
            applied: &node.applied,
            shown: &node.shown,
            received: &node.received,
            stable: Some(&node.stable),
            clock: node.clock,
        }
    }

    pub(crate) fn open(&mut self, node: NodeIndex, how: Opened) {
        self.history.opened(node, how, Self::observed(&self.nodes[node]));
    }

    pub(crate) fn observe(&mut self, node: NodeIndex) {
        self.history.observe(node, Self::observed(&self.nodes[node]));
    }

    /// The node receives, applies and shows everything of a replica up to `seq`.
    pub(crate) fn apply(&mut self, node: NodeIndex, replica: ReplicaId, seq: u64) {
        let state = &mut self.nodes[node];
        state.applied.advance(replica, seq);
        state.received.advance(replica, seq);
        state.shown.advance(replica, seq);
        self.observe(node);
    }

    /// The node's disk loses everything.
    pub(crate) fn lose(&mut self, node: NodeIndex) {
        self.history.stopped(node);
        let state = &mut self.nodes[node];
        state.replica = ReplicaId(state.replica.0 + 100);
        for vector in [&mut state.applied, &mut state.shown, &mut state.received] {
            *vector = VersionVector::new();
        }
        self.open(node, Opened::DiskLied);
        // What other nodes hold comes back to it.
        let others: Vec<VersionVector> = self.nodes.iter().map(|other| other.applied.clone()).collect();
        for vector in others {
            self.nodes[node].applied.join(&vector);
            self.nodes[node].received.join(&vector);
        }
        self.observe(node);
    }

    fn commit(
        &mut self,
        node: NodeIndex,
        row: &RowId,
        after: Option<RowImage>,
        recreated: bool,
        under: Option<&RowId>,
    ) {
        let before: Image = self.databases[node].get(row).cloned().map(Rc::new);
        let change = RowChange { row: row.clone(), before, after: after.clone().map(Rc::new), recreated };
        match after {
            Some(image) => drop(self.databases[node].insert(row.clone(), image)),
            None => drop(self.databases[node].remove(row)),
        }
        let parents = under.map(|parent| (row.clone(), parent.clone())).into_iter().collect();
        let commit = self.history.sql_commit(node, true, vec![change], parents);
        self.waiting[node].push(commit);
    }

    pub(crate) fn insert(&mut self, node: NodeIndex, row: &RowId, columns: &[(&str, &str)]) {
        assert!(!self.databases[node].contains_key(row));
        self.commit(node, row, Some(image(columns)), false, None);
    }

    pub(crate) fn insert_under(&mut self, node: NodeIndex, row: &RowId, columns: &[(&str, &str)], parent: &RowId) {
        self.commit(node, row, Some(image(columns)), false, Some(parent));
    }

    fn changed(&self, node: NodeIndex, row: &RowId, columns: &[(&str, &str)]) -> RowImage {
        let mut changed = self.databases[node].get(row).cloned().unwrap_or_default();
        changed.extend(image(columns));
        changed
    }

    pub(crate) fn update(&mut self, node: NodeIndex, row: &RowId, columns: &[(&str, &str)]) {
        let after = self.changed(node, row, columns);
        self.commit(node, row, Some(after), false, None);
    }

    pub(crate) fn replace(&mut self, node: NodeIndex, row: &RowId, columns: &[(&str, &str)]) {
        self.commit(node, row, Some(image(columns)), true, None);
    }

    pub(crate) fn delete(&mut self, node: NodeIndex, row: &RowId) {
        self.commit(node, row, None, false, None);
    }

    /// A client deletes rows in one transaction, and no trigger sees it.
    pub(crate) fn delete_unseen(&mut self, node: NodeIndex, rows: &[RowId]) {
        let changes = rows.iter().map(|row| {
            let before: Image = self.databases[node].remove(row).map(Rc::new);
            RowChange { row: row.clone(), before, after: None, recreated: false }
        });
        let changes = changes.collect();
        self.history.sql_commit(node, false, changes, Vec::new());
    }

    /// The engine writes a row into a database.
    pub(crate) fn write(&mut self, node: NodeIndex, row: &RowId, columns: &[(&str, &str)]) {
        self.databases[node].insert(row.clone(), image(columns));
    }

    /// The node drains what waits and writes the next batch, which carries these values.
    pub(crate) fn drain(&mut self, node: NodeIndex, cells: &[(RowId, &str, &str)]) {
        let commits = core::mem::take(&mut self.waiting[node]);
        self.history.drained(node, commits.clone());
        let replica = self.replica(node);
        let seq = self.nodes[node].applied.seq(replica) + 1;
        self.carry(node, seq, cells);
        self.apply(node, replica, seq);
        self.history.cleared(commits);
    }

    /// Bytes of a batch are seen at the node that wrote it.
    pub(crate) fn carry(&mut self, node: NodeIndex, seq: u64, cells: &[(RowId, &str, &str)]) {
        let deltas = cells.iter().map(|(row, column, text)| {
            let column = ColumnDelta { name: name(column), write: Some(value(text)), ..ColumnDelta::default() };
            (row, RowDelta { insert: seq == 1, columns: vec![column], ..RowDelta::default() })
        });
        self.issue(node, seq, VersionVector::new(), deltas);
    }

    /// The node finds by itself that a row is gone, and writes the next batch, which ends the row's life.
    pub(crate) fn find_gone(&mut self, node: NodeIndex, row: &RowId, life: Dot) {
        let replica = self.replica(node);
        let seq = self.nodes[node].applied.seq(replica) + 1;
        let mut context = VersionVector::new();
        context.advance(life.replica, life.seq);
        self.issue(node, seq, context, [(row, RowDelta { ends: vec![life], ..RowDelta::default() })]);
        self.apply(node, replica, seq);
    }

    fn issue<'a>(
        &mut self,
        node: NodeIndex,
        seq: u64,
        context: VersionVector,
        deltas: impl IntoIterator<Item = (&'a RowId, RowDelta)>,
    ) {
        let id = BatchId { replica: self.replica(node), seq };
        let changes = deltas.into_iter().map(|(row, delta)| {
            let path = vec![row.to_key().name];
            Change { namespace: row.namespace, path, stamp: Hlc(1), content: Content::Op(Op::Row(delta)) }
        });
        let header = BatchHeader { id, more: false, hlc: Hlc(1), context };
        let signed = Batch { header, changes: changes.collect() }.to_signed_bytes(1);
        self.history.batch_bytes(node, id, &seal(signed, [0; MAC_BYTES]));
    }

    /// A door client writes one leaf, and the node applies it.
    pub(crate) fn door(&mut self, node: NodeIndex, seq: u64, leaf: &Leaf, action: DoorAction) -> BatchId {
        let batch = BatchId { replica: self.replica(node), seq };
        self.history.door_commit(node, batch, vec![DoorWrite { leaf: leaf.clone(), action }]);
        self.apply(node, batch.replica, seq);
        batch
    }

    pub(crate) fn show(&mut self, node: NodeIndex, row: &RowId, columns: &[(&str, &str)]) {
        self.nodes[node].rows.entry(row.clone()).or_default().shown = Some(image(columns));
    }

    pub(crate) fn show_everywhere(&mut self, row: &RowId, columns: &[(&str, &str)]) {
        (0..self.nodes.len()).for_each(|node| self.show(node, row, columns));
    }

    pub(crate) fn hide_everywhere(&mut self, row: &RowId) {
        self.nodes.iter_mut().for_each(|node| node.rows.entry(row.clone()).or_default().shown = None);
    }

    pub(crate) fn journal_value(&mut self, node: NodeIndex, row: &RowId, column: &str, text: &str) {
        self.nodes[node].rows.entry(row.clone()).or_default().values.push((name(column), value(text)));
    }

    pub(crate) fn journal_amount(&mut self, node: NodeIndex, row: &RowId, column: &str, amount: i128) {
        self.nodes[node].rows.entry(row.clone()).or_default().amounts.push((name(column), amount));
    }
}
