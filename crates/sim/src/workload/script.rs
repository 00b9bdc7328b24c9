//! What a client of a database does, step by step.

use crdt::row::ColumnName;
use replica::host::{RowId, RowImage};
use std::collections::BTreeMap;

use crate::database::{Image, Statement};

/// One step of a script.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// The client does nothing for a while.
    Think {
        /// How long.
        us: u64,
    },
    /// Reads rows and keeps what it saw: inside a transaction from its snapshot, else as committed now.
    Load(Vec<RowId>),
    /// A statement as it stands.
    Run(Statement),
    /// Saves a row that was loaded before: every loaded column, with these changed, or the changed ones alone.
    Save {
        /// The row.
        row: RowId,
        /// Columns that the client changed.
        set: RowImage,
        /// Counters to which it added, from what it had loaded.
        add: BTreeMap<ColumnName, i64>,
        /// True for a client that sends all columns back.
        whole: bool,
    },
}

/// The steps of one client's request, and what it has loaded so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Script {
    /// What it is, for traces.
    pub name: &'static str,
    /// The steps.
    pub steps: Vec<Step>,
    /// The next step.
    pub at: usize,
    /// What it has loaded.
    pub loaded: BTreeMap<RowId, Image>,
    /// (child, parent): an inserted row whose author looks at the parent first.
    pub parents: Vec<(RowId, RowId)>,
    /// Times that it was begun again after an error.
    pub retries: u32,
}

impl Script {
    /// A script of these steps.
    pub fn new(name: &'static str, steps: Vec<Step>) -> Self {
        Self { name, steps, ..Self::default() }
    }

    /// A script of one transaction.
    pub fn transaction(name: &'static str, statements: Vec<Step>) -> Self {
        let mut steps = vec![Step::Run(Statement::Begin { is_captured: true })];
        steps.extend(statements);
        steps.push(Step::Run(Statement::Commit));
        Self::new(name, steps)
    }

    /// Begins again: what it read in the failed transaction is read anew.
    pub fn restart(&mut self) {
        self.at = 0;
        self.retries += 1;
        self.loaded.clear();
    }

    /// What a [`Step::Save`] comes to, given what was loaded. `None` when the row was not there.
    pub fn save(&self, row: &RowId, set: &RowImage, add: &BTreeMap<ColumnName, i64>, whole: bool) -> Option<Statement> {
        let loaded = self.loaded.get(row)?.as_ref()?;
        let mut columns = if whole { loaded.as_ref().clone() } else { RowImage::new() };
        columns.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
        for (name, amount) in add {
            let base = loaded.get(name).cloned();
            columns.extend(base.map(|base| (name.clone(), base)));
            crate::database::Store::add(&mut columns, name, *amount);
        }
        Some(Statement::Update { rows: vec![row.clone()], set: columns, add: BTreeMap::new() })
    }

    /// The parents that it really saw.
    pub fn seen_parents(&self) -> Vec<(RowId, RowId)> {
        let seen = |row: &RowId| self.loaded.get(row).is_some_and(Option::is_some);
        self.parents.iter().filter(|(_, parent)| seen(parent)).cloned().collect()
    }
}
