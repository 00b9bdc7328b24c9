//! One machine: a disk, a clock, a database, and for as long as it runs a process with a node in it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crdt::VersionVector;
use replica::{Continuity, Node};

use crate::clock::Clock;
use crate::database::{Database, SessionId, Store};
use crate::disk::{Disk, Records};
use crate::history::{CommitId, Opened};

/// A running node.
pub struct Process {
    /// The node.
    pub node: Node,
    /// Ascending over the processes of a machine: what was meant for an earlier one does not reach this one.
    pub number: u32,
    /// What it has logged, as last observed.
    pub(super) received: VersionVector,
    /// Greatest epoch record that it has written down.
    pub(super) epoch: u64,
    /// When the next timer event is planned, in microseconds.
    pub(super) timer_us: Option<u64>,
}

/// When a planned crash happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CrashPoint {
    /// After so many effects.
    Effects(u32),
    /// Before or after the database carries out a request of this kind.
    Request { kind: RequestKind, after: bool },
}

/// A request of the engine, as far as crashes tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RequestKind {
    Drain,
    Delete,
    Lock,
    Write,
}

/// A backup of one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Backup {
    pub(super) records: Option<Records>,
    pub(super) database: Option<DatabaseBackup>,
}

/// A database at one moment, with what it held then. How many transactions that were is not enough: another backup may
/// be put back first, and the database goes on from there with others.
#[derive(Clone, Debug)]
pub(super) struct DatabaseBackup {
    store: Store,
    commits: BTreeSet<CommitId>,
    outbox_commits: BTreeMap<u64, CommitId>,
}

/// One machine.
pub struct Machine {
    /// Name of its node.
    pub name: String,
    /// Id slot of its node.
    pub slot: u8,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// The disk.
    pub disk: Disk,
    /// The clock.
    pub clock: Clock,
    /// The database, if it has one.
    pub database: Option<Database>,
    pub(super) versions: (u16, u16),
    pub(super) key: Rc<Cell<u32>>,
    pub(super) processes: u32,
    /// How the next process will find its disk.
    pub(super) opening: Opened,
    pub(super) continuity: Continuity,
    /// The last start was not in doubt, or something became durable since, and the last durable write did not fail: the mark
    /// by which a store proves its continuity says so.
    pub(super) is_settled: bool,
    pub(super) crash: Option<CrashPoint>,
    /// The engine's connection to the database.
    pub(super) session: Option<SessionId>,
    /// True while a request of the engine is in the database.
    pub(super) is_asking: bool,
    /// The connection breaks instead of giving the next answer.
    pub(super) loses_answer: bool,
    /// Step of the engine's last write that was not answered.
    pub(super) unanswered_step: Option<u64>,
    /// A planned step that the last process left behind.
    pub(super) orphaned_step: Option<u64>,
    /// Which transaction wrote an outbox entry.
    pub(super) outbox_commits: BTreeMap<u64, CommitId>,
    /// The transactions that this database holds.
    pub(super) commits: BTreeSet<CommitId>,
    pub(super) sessions: BTreeMap<SessionId, usize>,
    /// Values that this database cannot take: writes that hold one fail.
    pub(super) poisoned: bool,
    /// The machine from which a snapshot is coming in.
    pub(super) donor: Option<usize>,
    /// What a peer had when a link came up, to see when it is reached over the log.
    pub(super) catching_up: Option<VersionVector>,
    /// True for a member that was evicted, or never was one.
    pub(super) is_outside: bool,
    /// True once it was started.
    pub(super) was_started: bool,
    /// True while a restart is planned.
    pub(super) is_restarting: bool,
}

impl Machine {
    pub(super) fn new(name: String, slot: u8, database: Option<Database>) -> Self {
        Self {
            name,
            slot,
            process: None,
            disk: Disk::default(),
            clock: Clock::default(),
            database,
            versions: (0, 1),
            key: Rc::new(Cell::new(1)),
            processes: 0,
            opening: Opened::First,
            continuity: Continuity::NotProven,
            is_settled: false,
            crash: None,
            session: None,
            is_asking: false,
            loses_answer: false,
            unanswered_step: None,
            orphaned_step: None,
            outbox_commits: BTreeMap::new(),
            commits: BTreeSet::new(),
            sessions: BTreeMap::new(),
            poisoned: false,
            donor: None,
            catching_up: None,
            is_outside: false,
            was_started: false,
            is_restarting: false,
        }
    }

    /// The number of the running process; 0 while none runs.
    pub fn process_number(&self) -> u32 {
        self.process.as_ref().map_or(0, |process| process.number)
    }

    /// A backup of the database, if there is one.
    pub(super) fn back_up_database(&self) -> Option<DatabaseBackup> {
        let store = self.database.as_ref()?.store().clone();
        Some(DatabaseBackup { store, commits: self.commits.clone(), outbox_commits: self.outbox_commits.clone() })
    }

    /// Puts a backup of the database back. Gives the transactions that it does not hold and the database had held.
    pub(super) fn restore_database(&mut self, backup: DatabaseBackup) -> Vec<CommitId> {
        let Some(database) = &mut self.database else { return Vec::new() };
        database.restore(backup.store);
        // The restored database gives the ids of later entries once more.
        self.outbox_commits = backup.outbox_commits;
        let had = std::mem::replace(&mut self.commits, backup.commits);
        had.difference(&self.commits).copied().collect()
    }

    /// Whether a durable write succeeded, or failed.
    pub(super) fn settles(&mut self, is_durable: bool) {
        self.is_settled = is_durable;
        self.judge_continuity();
    }

    fn judge_continuity(&mut self) {
        let is_proven = self.opening == Opened::Killed && self.is_settled;
        self.continuity = if is_proven { Continuity::Proven } else { Continuity::NotProven };
    }

    /// How badly the disk was treated since the last process: the worst of all counts.
    pub(super) fn opens_as(&mut self, how: Opened) {
        let rank = |opened: Opened| match opened {
            Opened::First => 0,
            Opened::Killed => 1,
            Opened::PowerCut => 2,
            Opened::DiskLied => 3,
            Opened::StoreRestored => 4,
        };
        if !self.was_started {
            return;
        }
        if rank(how) > rank(self.opening) {
            self.opening = how;
        }
        self.judge_continuity();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Tables;

    #[test]
    fn of_two_backups_the_later_one_may_be_put_back_last() {
        let database = Database::new(Rc::new(Tables::wordpress()), 1, true);
        let mut machine = Machine::new("node_01".into(), 1, Some(database));
        machine.commits.insert(0);
        let first = machine.back_up_database().expect("it has a database");
        machine.commits.extend([1, 2]);
        machine.outbox_commits.insert(7, 2);
        let second = machine.back_up_database().expect("it has a database");
        assert_eq!(machine.restore_database(first), [1, 2]);
        // The database goes on from there, and gives an entry an id that the second backup has given as well.
        machine.commits.insert(3);
        machine.outbox_commits.insert(7, 3);
        assert_eq!(machine.restore_database(second), [3]);
        assert_eq!(machine.commits, BTreeSet::from([0, 1, 2]));
        assert_eq!(machine.outbox_commits, BTreeMap::from([(7, 2)]));
    }
}
