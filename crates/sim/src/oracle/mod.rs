//! What may and what must hold, from the clients' record alone.
//!
//! The oracle shares no code with `crdt`'s joins. It knows four kinds of fact, all from [`crate::history`]: what a write
//! replaced on the screen of its author, which batches a node had applied or shown at which moment, which transactions
//! one drain showed together, and what a disk lost. From these it says of each value, row, counter and leaf whether it
//! must be there, must not, or may. Where the record leaves something open it says *may*: see [`truth::Truth`].

use std::collections::BTreeMap;

use replica::host::{RowId, Schema};

use crate::history::History;

pub mod door;
pub mod lives;
pub mod names;
pub mod rows;
pub mod sight;
mod story;
pub mod sums;
pub mod truth;

pub use door::{DoorLedger, Expected};
pub use rows::{CellLedger, RowLedger, Source, ValueLedger};
pub use truth::Truth;

/// Ledgers over the record, kept up to date by reading what is new in it.
#[derive(Debug, Default)]
pub struct Oracle {
    rows: BTreeMap<RowId, RowLedger>,
    door: DoorLedger,
    commits: usize,
    doors: usize,
    batches: usize,
}

impl Oracle {
    /// Reads what is new. Costs what the new entries cost.
    pub fn read(&mut self, history: &History, schema: &Schema) {
        let commits = history.commits();
        for (commit, done) in commits.iter().enumerate().skip(self.commits) {
            for (place, change) in done.changes.iter().enumerate() {
                self.ledger(&change.row).change(schema, commit, place, done);
            }
        }
        self.commits = commits.len();
        let doors = history.doors();
        for (number, door) in doors.iter().enumerate().skip(self.doors) {
            self.door.commit(number, door);
            for write in &door.writes {
                if let Some((row, column)) = rows::cell_of(&write.leaf) {
                    self.ledger(&row).restored(schema, number, door, &column, &write.action);
                }
            }
        }
        self.doors = doors.len();
        let decoded = history.decoded();
        for batch in &decoded[self.batches.min(decoded.len())..] {
            let Some(log) = history.batch(*batch) else { continue };
            log.rows.iter().for_each(|carried| self.ledger(&carried.row).carried(schema, *batch, carried));
        }
        self.batches = decoded.len();
    }

    fn ledger(&mut self, row: &RowId) -> &mut RowLedger {
        if !self.rows.contains_key(row) {
            self.rows.insert(row.clone(), RowLedger::new(row.clone()));
        }
        self.rows.get_mut(row).expect("the ledger was just inserted")
    }

    /// All rows that anybody ever wrote, in order.
    pub fn rows(&self) -> impl Iterator<Item = &RowLedger> {
        self.rows.values()
    }

    /// One row's ledger.
    pub fn row(&self, row: &RowId) -> Option<&RowLedger> {
        self.rows.get(row)
    }

    /// What the door's clients did.
    pub fn door(&self) -> &DoorLedger {
        &self.door
    }

    /// What happened to a row, line by line, for a person.
    pub fn story(&self, history: &History, row: &RowId) -> Vec<String> {
        self.rows.get(row).map_or_else(Vec::new, |ledger| story::of_row(history, ledger))
    }
}
