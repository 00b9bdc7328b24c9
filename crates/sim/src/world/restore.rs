//! Backups, and putting them back.

use super::World;
use super::event::{Event, Undo};
use super::machine::{Backup, DatabaseBackup};
use crate::coverage::Fault;
use crate::history::Opened;
use crate::swarm::{Disturbance, SECOND_US};

impl World {
    /// Takes a backup now that is put back later.
    pub(super) fn plan_restore(&mut self, node: usize, what: Disturbance) {
        let wants_store = matches!(what, Disturbance::RestoreStore | Disturbance::RestoreBoth);
        let wants_database = matches!(what, Disturbance::RestoreDatabase | Disturbance::RestoreBoth);
        let machine = &self.machines[node];
        let database = if wants_database { machine.back_up_database() } else { None };
        if wants_database && database.is_none() {
            return;
        }
        let records = wants_store.then(|| machine.disk.backup());
        self.backups.push(Backup { records, database });
        let (backup, delay_us) = (self.backups.len() - 1, self.random.range(10, 90) * SECOND_US);
        self.line(Some(node), || format!("a backup is taken: {what:?}"));
        self.plan_in(delay_us, Event::Undo(Undo::Restore { node, backup }));
    }

    /// Puts a backup back; the process is down meanwhile.
    pub(super) fn restore(&mut self, node: usize, backup: usize) {
        if self.is_calm {
            return;
        }
        let Backup { records, database } = std::mem::take(&mut self.backups[backup]);
        if self.is_running(node) {
            self.kill(node);
        }
        self.fault(match (&records, &database) {
            (Some(_), Some(_)) => Fault::RestoredBoth,
            (Some(_), None) => Fault::RestoredStore,
            _ => Fault::RestoredDatabase,
        });
        self.line(Some(node), || {
            format!("a backup is put back: store {}, database {}", records.is_some(), database.is_some())
        });
        self.note(50, &[node as u64, u64::from(records.is_some()), u64::from(database.is_some())]);
        if let Some(records) = records {
            self.machines[node].disk.restore(records);
            self.machines[node].opens_as(Opened::StoreRestored);
        }
        if let Some(database) = database {
            self.put_database_back(node, database);
            if self.random.one_in(2) {
                // Whoever restored it may say so; if not, the engine has to notice by the cursor.
                self.machines[node].continuity = replica::Continuity::NotProven;
            }
        }
        self.restart_later(node);
    }

    /// A machine's database becomes that of a backup, and whoever was connected to it is not any more.
    pub(super) fn put_database_back(&mut self, node: usize, backup: DatabaseBackup) {
        let dropped = self.machines[node].restore_database(backup);
        self.history.database_restored(node, dropped);
        self.database_went_away(node);
    }
}
