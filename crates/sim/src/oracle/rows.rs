//! Per row: its events in the order of commits, and per cell who wrote what over what.

use std::collections::BTreeMap;

use crdt::row::ColumnName;
use crdt::{BatchId, Key, Kind, Value};
use replica::host::{RowId, Schema};

use super::names::base;
use crate::history::{Carried, CommitId, DoorAction, DoorCommit, History, Image, Leaf, NodeIndex, Order, SqlCommit};

/// What a transaction did to the row as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// It was not there before.
    Insert,
    /// It was there, and changed.
    Update,
    /// It was deleted and inserted again at one commit.
    Replace,
    /// It is gone.
    Delete,
}

/// One transaction's change of the row.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The transaction.
    pub commit: CommitId,
    /// Which of its changes.
    pub place: usize,
    /// Where.
    pub node: NodeIndex,
    /// When.
    pub order: Order,
    /// What.
    pub kind: EventKind,
}

/// Who wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// An SQL transaction.
    Sql(CommitId),
    /// A door write that restored a journaled value of a row, by its number in [`History::doors`].
    Door(usize),
}

/// One write of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// Who.
    pub source: Source,
    /// Where.
    pub node: NodeIndex,
    /// When.
    pub order: Order,
    /// Virtual time.
    pub time_us: u64,
}

/// All that is known of one value of one cell.
#[derive(Clone, Debug, Default)]
pub struct ValueLedger {
    /// Who wrote it. Usually one; more where somebody saved an old value again.
    pub writers: Vec<Writer>,
    /// Who replaced or deleted it while seeing it.
    pub killers: Vec<Writer>,
    /// Batches that carry it, in the order in which they were seen first.
    pub carriers: Vec<BatchId>,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct CellLedger {
    /// By value, repairs taken off.
    pub values: BTreeMap<Value, ValueLedger>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct RowLedger {
    /// The row.
    pub row: RowId,
    /// Its events in the order of commits.
    pub events: Vec<Event>,
    /// Its cells, counters aside.
    pub cells: BTreeMap<ColumnName, CellLedger>,
    /// Batches that make a life of it.
    pub inserts: Vec<BatchId>,
    /// Counter columns that any image had.
    pub counters: Vec<ColumnName>,
}

/// The cell of a row that a door's leaf addresses.
pub fn cell_of(leaf: &Leaf) -> Option<(RowId, ColumnName)> {
    let [name, column] = leaf.path.as_slice() else { return None };
    let key = Key { kind: Kind::Row, namespace: leaf.namespace, name: name.clone() };
    (leaf.kind == Kind::Row).then(|| RowId::from_key(&key)).flatten().map(|row| (row, column.clone()))
}

impl RowLedger {
    pub(super) fn new(row: RowId) -> Self {
        Self { row, events: Vec::new(), cells: BTreeMap::new(), inserts: Vec::new(), counters: Vec::new() }
    }

    /// Takes in one change of a transaction.
    pub(super) fn change(&mut self, schema: &Schema, commit: CommitId, place: usize, done: &SqlCommit) {
        let change = &done.changes[place];
        let kind = match (&change.before, &change.after) {
            (None, None) => return,
            (None, Some(_)) => EventKind::Insert,
            (Some(_), None) => EventKind::Delete,
            // Nobody told the engine of a REPLACE that bypassed capture: it sees a difference.
            (Some(_), Some(_)) if change.recreated && done.captured => EventKind::Replace,
            (Some(_), Some(_)) => EventKind::Update,
        };
        let (node, order) = (done.node, done.order);
        self.events.push(Event { commit, place, node, order, kind });
        let writer = Writer { source: Source::Sql(commit), node, order, time_us: done.time_us };
        let columns = |image: &Image| image.as_ref().map(|image| image.keys().cloned().collect::<Vec<_>>());
        let names = columns(&change.after).or_else(|| columns(&change.before)).unwrap_or_default();
        for name in names {
            let cell = |image: &Image| image.as_ref().and_then(|image| image.get(&name)).cloned();
            let (saw, wrote) = (cell(&change.before), cell(&change.after));
            if saw == wrote {
                continue;
            }
            if schema.is_counter(&self.row.table, &name) {
                if !self.counters.contains(&name) {
                    self.counters.push(name);
                }
                continue;
            }
            self.write(schema, &name, writer, saw, wrote);
        }
    }

    /// Takes in a door write that restored a journaled value of a cell.
    pub(super) fn restored(
        &mut self,
        schema: &Schema,
        number: usize,
        door: &DoorCommit,
        column: &ColumnName,
        action: &DoorAction,
    ) {
        let DoorAction::Restore { value, saw, .. } = action else { return };
        let source = Source::Door(number);
        let writer = Writer { source, node: door.node, order: door.order, time_us: door.time_us };
        self.write(schema, column, writer, saw.clone(), Some(value.clone()));
    }

    fn write(
        &mut self,
        schema: &Schema,
        column: &ColumnName,
        writer: Writer,
        saw: Option<Value>,
        wrote: Option<Value>,
    ) {
        let normal = |value: Option<Value>| value.map(|value| base(schema, &self.row, column, &value));
        let (saw, wrote) = (normal(saw), normal(wrote));
        let cell = self.cells.entry(column.clone()).or_default();
        // A name that is saved in its repaired form is the same name: nothing was replaced.
        let renamed = saw == wrote;
        if let Some(saw) = saw.filter(|_| !renamed) {
            cell.values.entry(saw).or_default().killers.push(writer);
        }
        if let Some(wrote) = wrote {
            cell.values.entry(wrote).or_default().writers.push(writer);
        }
    }

    /// Takes in what a batch carries for the row.
    pub(super) fn carried(&mut self, schema: &Schema, batch: BatchId, carried: &Carried) {
        if carried.inserts {
            self.inserts.push(batch);
        }
        for (column, value) in &carried.cells {
            let value = base(schema, &self.row, column, value);
            let carriers = &mut self.cells.entry(column.clone()).or_default().values.entry(value).or_default().carriers;
            if carriers.last() != Some(&batch) {
                carriers.push(batch);
            }
        }
    }
}

impl ValueLedger {
    /// True when its writes may all be gone for ever with a disk: what a person was told about before.
    pub fn is_excused(&self, history: &History) -> bool {
        !self.writers.is_empty() && self.writers.iter().all(|writer| self.is_write_excused(history, writer))
    }

    fn is_write_excused(&self, history: &History, writer: &Writer) -> bool {
        match writer.source {
            Source::Door(number) => history
                .doors()
                .get(number)
                .is_none_or(|door| door.void || history.is_gone(door.batch) || !door.acknowledged),
            Source::Sql(commit) => {
                let own = |batch: &&BatchId| history.owner(batch.replica) == Some(writer.node);
                let later = |batch: &&BatchId| history.batch(**batch).is_some_and(|log| log.order >= writer.order);
                let mut own = self.carriers.iter().filter(own).filter(later).peekable();
                if own.peek().is_none() {
                    return history.commits()[commit].dropped;
                }
                own.all(|batch| history.is_gone(*batch))
            }
        }
    }
}
