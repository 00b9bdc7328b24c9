//! A node's disk: records, and a journal of groups that are not durable yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use replica::{Found, RecordKey, Ticket, WriteGroup};

use crate::random::Random;

/// The records of one moment, as a backup keeps them. Values are shared: a copy costs its keys only.
pub type Records = BTreeMap<RecordKey, Rc<Vec<u8>>>;

/// What a power cut took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Groups that were written and not yet called durable.
    pub unsynced_groups: usize,
    /// Groups that a lying disk had called durable.
    pub lied_groups: usize,
    /// True when the cut hit the middle of a group, whose torn tail was cut off at the restart.
    pub torn: bool,
}

/// The disk of one node.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    durable: Records,
    /// Groups that were called durable while the disk was lying. A power cut loses them.
    lied: VecDeque<(u64, WriteGroup)>,
    /// Groups on their way: written, not synced.
    written: VecDeque<WriteGroup>,
    /// The last group that the running sync covers.
    syncing: Option<Ticket>,
    /// Records whose checksum will not fit at the next start.
    damaged: BTreeSet<RecordKey>,
    lying: bool,
    full: bool,
}

impl Disk {
    /// How long a lying disk keeps what it should have written.
    const LIE_US: u64 = 20_000_000;

    /// Takes a group. `Ok(true)` when a sync has to be started for it; an error when there is no space.
    ///
    /// # Errors
    /// The group's ticket, when the disk is full: nothing of the group was written.
    pub fn write(&mut self, group: WriteGroup) -> Result<bool, Ticket> {
        if self.full {
            return Err(group.ticket);
        }
        self.written.push_back(group);
        Ok(self.start_sync())
    }

    /// Starts a sync of everything written, unless one is running or nothing waits.
    pub fn start_sync(&mut self) -> bool {
        if self.syncing.is_some() {
            return false;
        }
        self.syncing = self.written.back().map(|group| group.ticket);
        self.syncing.is_some()
    }

    /// The running sync ends: what it covers is durable, or said to be. Gives the last ticket that it covered.
    pub fn finish_sync(&mut self, now_us: u64) -> Option<Ticket> {
        let ticket = self.syncing.take()?;
        while self.written.front().is_some_and(|group| group.ticket <= ticket) {
            let Some(group) = self.written.pop_front() else { break };
            self.lied.push_back((now_us, group));
        }
        let keep_after = if self.lying { now_us.saturating_sub(Self::LIE_US) } else { u64::MAX };
        while self.lied.front().is_some_and(|(at, _)| *at < keep_after) {
            let Some((_, group)) = self.lied.pop_front() else { break };
            self.store(group);
        }
        Some(ticket)
    }

    /// The process dies and the machine goes on: everything written survives.
    pub fn kill(&mut self) {
        self.syncing = None;
        while let Some((_, group)) = self.lied.pop_front() {
            self.store(group);
        }
        while let Some(group) = self.written.pop_front() {
            self.store(group);
        }
    }

    /// Power goes: a prefix of what was not really durable survives.
    pub fn cut_power(&mut self, random: &mut Random) -> Loss {
        self.syncing = None;
        let lied = self.lied.len();
        let survivors = if lied == 0 { 0 } else { random.index(lied + 1) };
        for _ in 0..survivors {
            if let Some((_, group)) = self.lied.pop_front() {
                self.store(group);
            }
        }
        let mut loss = Loss { lied_groups: self.lied.len(), ..Loss::default() };
        self.lied.clear();
        if loss.lied_groups == 0 && !self.written.is_empty() {
            for _ in 0..random.index(self.written.len() + 1) {
                if let Some(group) = self.written.pop_front() {
                    self.store(group);
                }
            }
            // The next group may have reached the disk in part; its checksum tells, and it is cut off.
            loss.torn = !self.written.is_empty() && random.one_in(2);
        }
        loss.unsynced_groups = self.written.len();
        self.written.clear();
        loss
    }

    /// Everything as a start finds it.
    pub fn found(&self) -> Vec<(RecordKey, Found)> {
        let found = |(key, value): (&RecordKey, &Rc<Vec<u8>>)| {
            let damaged = self.damaged.contains(key);
            (key.clone(), if damaged { Found::Damaged } else { Found::Intact(value.as_ref().clone()) })
        };
        self.durable.iter().map(found).collect()
    }

    /// One record, as a running process reads it: what was written last counts, durable or not.
    pub fn read(&self, key: &RecordKey) -> Option<Found> {
        let groups = self.lied.iter().map(|(_, group)| group).chain(&self.written);
        let latest = groups.rev().flat_map(|group| group.records.iter().rev()).find(|record| record.key == *key);
        let value = latest
            .map_or_else(|| self.durable.get(key).map(|value| value.as_ref().clone()), |record| record.value.clone());
        value.map(|value| if self.damaged.contains(key) { Found::Damaged } else { Found::Intact(value) })
    }

    /// True while the disk calls durable what is not.
    pub fn is_lying(&self) -> bool {
        self.lying
    }

    /// Lets the checksum of a record fail at the next start. False when there is no such record.
    pub fn damage(&mut self, key: &RecordKey) -> bool {
        self.durable.contains_key(key) && self.damaged.insert(key.clone())
    }

    /// True while some record is damaged.
    pub fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Forgets damage: the start has seen it.
    pub fn forget_damage(&mut self) {
        self.damaged.clear();
    }

    /// A backup of what is durable now.
    pub fn backup(&self) -> Records {
        self.durable.clone()
    }

    /// Puts a backup in place of everything.
    pub fn restore(&mut self, records: Records) {
        *self = Self { durable: records, lying: self.lying, full: self.full, ..Self::default() };
    }

    /// The durable records.
    pub fn records(&self) -> &Records {
        &self.durable
    }

    /// Switches lying on or off. Switched off, the cache is written out at the next sync.
    pub fn set_lying(&mut self, lying: bool) {
        self.lying = lying;
    }

    /// Fills the disk up, or frees space.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// True while no space is left.
    pub fn is_full(&self) -> bool {
        self.full
    }

    fn store(&mut self, group: WriteGroup) {
        for record in group.records {
            self.damaged.remove(&record.key);
            match record.value {
                Some(value) => self.durable.insert(record.key, Rc::new(value)),
                None => self.durable.remove(&record.key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replica::{Meta, Record};

    fn group(ticket: u64) -> WriteGroup {
        let record = Record { key: RecordKey::Epoch(ticket), value: Some(vec![1]) };
        WriteGroup { ticket: Ticket(ticket), records: vec![record] }
    }

    #[test]
    fn a_sync_covers_what_was_written_when_it_began() {
        let mut disk = Disk::default();
        assert_eq!(disk.write(group(1)), Ok(true));
        assert_eq!(disk.write(group(2)), Ok(false));
        assert_eq!(disk.finish_sync(0), Some(Ticket(1)));
        assert!(disk.start_sync());
        assert_eq!(disk.records().len(), 1);
        disk.kill();
        assert_eq!(disk.records().len(), 2);
    }

    #[test]
    fn a_lying_disk_loses_what_it_called_durable() {
        let mut random = Random::new(3);
        let mut lost = 0;
        for _ in 0..20 {
            let mut disk = Disk::default();
            disk.set_lying(true);
            assert_eq!(disk.write(group(1)), Ok(true));
            assert_eq!(disk.finish_sync(5), Some(Ticket(1)));
            lost += disk.cut_power(&mut random).lied_groups;
        }
        assert!(lost > 0);
    }

    #[test]
    fn a_full_disk_takes_nothing_and_damage_shows_at_the_start() {
        let mut disk = Disk::default();
        disk.set_full(true);
        assert_eq!(disk.write(group(1)), Err(Ticket(1)));
        disk.set_full(false);
        assert_eq!(disk.write(group(2)), Ok(true));
        disk.kill();
        assert!(!disk.damage(&RecordKey::Meta(Meta::Applied)));
        assert!(disk.damage(&RecordKey::Epoch(2)));
        assert_eq!(disk.found(), vec![(RecordKey::Epoch(2), Found::Damaged)]);
    }
}
