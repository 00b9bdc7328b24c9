//! The node's groups on their way to the store: gathered over a turn, handed over at once, never waiting.

use std::collections::VecDeque;

use replica::{RecordKey, Ticket, WriteGroup};
use stats::Histogram;
use store::{Completion, Copying, QUEUE_BYTES_MAX, Sizes, Store, StoreError};

/// Bytes of groups that are made into one: what the store makes one commit of. More would only copy.
const GATHERED_BYTES_MAX: usize = 4 << 20;
/// Bytes that are not durable above which neither clients nor peers are read. Half of what the store takes before it
/// lets its caller wait, so that what one message or command makes beyond it fits too.
const CONGESTED_BYTES: usize = QUEUE_BYTES_MAX / 2;
/// Bytes below which they are read again: with less distance a busy node would stop and go at every group.
const RELAXED_BYTES: usize = QUEUE_BYTES_MAX / 4;

/// Bounds of how many groups of the node are handed over as one: one is a lone write, hundreds are a pipeline.
const GROUPS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];

/// What waits to be handed over.
enum Job {
    /// One or more groups of the node as one, their bytes, and how many they are.
    Write(WriteGroup, usize, u64),
    Read(RecordKey),
}

/// A group that the store has.
struct UnderWay {
    ticket: Ticket,
    bytes: usize,
    since_us: u64,
}

/// The store, and what is on its way to it.
pub(crate) struct Storage {
    store: Box<dyn Store>,
    gathered: VecDeque<Job>,
    gathered_bytes: usize,
    under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
    is_congested: bool,
    failure: Option<StoreError>,
    groups: u64,
    waits: Option<Histogram>,
    /// Groups of the node that were handed over as one.
    group_sizes: Option<Histogram>,
}

impl Storage {
    /// A store that was loaded. With `counts`, times are gathered.
    pub(crate) fn new(store: Box<dyn Store>, counts: bool) -> Self {
        Self {
            store,
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            is_congested: false,
            failure: None,
            groups: 0,
            waits: counts.then(Histogram::seconds),
            group_sizes: counts.then(|| Histogram::new(GROUPS)),
        }
    }

    /// Takes a group of the node. Groups that come together become one for the store, under the last one's ticket:
    /// that one durable says the same of all before it, and the store writes, locks and wakes once.
    pub(crate) fn gather(&mut self, group: WriteGroup) {
        if self.failure.is_some() {
            return;
        }
        self.groups += 1;
        let bytes: usize = group.records.iter().map(|record| 64 + record.value.as_ref().map_or(0, Vec::len)).sum();
        self.gathered_bytes += bytes;
        if let Some(Job::Write(last, last_bytes, groups)) = self.gathered.back_mut()
            && *last_bytes + bytes <= GATHERED_BYTES_MAX
        {
            last.ticket = group.ticket;
            last.records.extend(group.records);
            *last_bytes += bytes;
            *groups += 1;
        } else {
            self.gathered.push_back(Job::Write(group, bytes, 1));
        }
        self.judge();
    }

    /// Asks for a record, as of all groups taken before.
    pub(crate) fn ask(&mut self, key: RecordKey) {
        if self.failure.is_none() {
            self.gathered.push_back(Job::Read(key));
        }
    }

    /// Hands over what was gathered, as far as the store takes it without waiting.
    ///
    /// # Errors
    /// What the store says: nothing more is written then.
    pub(crate) fn hand_over(&mut self, mono_us: u64) -> Result<(), StoreError> {
        while let Some(job) = self.gathered.pop_front() {
            let (group, bytes, groups) = match job {
                Job::Write(group, bytes, groups) => (group, bytes, groups),
                Job::Read(key) => {
                    self.store.read(key)?;
                    continue;
                }
            };
            // SUBTLE: the store lets its caller wait once its bound is reached; before that it takes a group of any size.
            if self.under_way_bytes > 0 && self.under_way_bytes + bytes >= QUEUE_BYTES_MAX {
                self.gathered.push_front(Job::Write(group, bytes, groups));
                break;
            }
            if let Some(sizes) = &mut self.group_sizes {
                sizes.record(groups as f64);
            }
            self.under_way.push_back(UnderWay { ticket: group.ticket, bytes, since_us: mono_us });
            self.under_way_bytes += bytes;
            self.gathered_bytes -= bytes;
            self.store.write(group)?;
        }
        Ok(())
    }

    /// What the store has to say next.
    pub(crate) fn poll(&mut self, mono_us: u64) -> Option<Completion> {
        let completion = self.store.poll()?;
        match &completion {
            Completion::Durable(ticket) => {
                while let Some(first) = self.under_way.pop_front_if(|first| first.ticket <= *ticket) {
                    self.under_way_bytes -= first.bytes;
                    if let Some(waits) = &mut self.waits {
                        waits.record(mono_us.saturating_sub(first.since_us) as f64 / 1e6);
                    }
                }
                self.judge();
            }
            Completion::Failed { error, .. } => self.fail(error.clone()),
            Completion::Loaded { .. } => {}
        }
        Some(completion)
    }

    /// Nothing more is written.
    pub(crate) fn fail(&mut self, error: StoreError) {
        self.failure.get_or_insert(error);
        self.gathered.clear();
        self.under_way.clear();
        (self.gathered_bytes, self.under_way_bytes) = (0, 0);
        self.judge();
    }

    /// Why nothing more is written, if that is so.
    pub(crate) fn failure(&self) -> Option<&StoreError> {
        self.failure.as_ref()
    }

    /// The ticket of the first group that is not durable.
    pub(crate) fn first_open(&self) -> Ticket {
        self.under_way.front().map(|first| first.ticket).unwrap_or_default()
    }

    /// True while neither clients nor peers are to be read.
    pub(crate) fn is_congested(&self) -> bool {
        self.is_congested
    }

    /// True when everything that was taken is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.gathered.is_empty() && self.under_way.is_empty()
    }

    /// Bytes that are not durable.
    pub(crate) fn open_bytes(&self) -> usize {
        self.gathered_bytes + self.under_way_bytes
    }

    /// Groups of the node that were taken.
    pub(crate) fn groups(&self) -> u64 {
        self.groups
    }

    /// Times from handing over to durable.
    pub(crate) fn waits(&self) -> Option<&Histogram> {
        self.waits.as_ref()
    }

    /// How many groups of the node were handed over as one.
    pub(crate) fn group_sizes(&self) -> Option<&Histogram> {
        self.group_sizes.as_ref()
    }

    /// Figures of the store itself.
    pub(crate) fn sizes(&self) -> Sizes {
        self.store.sizes()
    }

    /// Begins a copy of all records, with everything that was handed over.
    ///
    /// # Errors
    /// As [`Store::copy`].
    pub(crate) fn copy(&mut self) -> Result<Copying, StoreError> {
        self.store.copy()
    }

    /// Writes and syncs what the store has, and leaves the mark of an orderly end.
    ///
    /// # Errors
    /// As [`Store::close`]; the failure of before, if there was one.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        let Self { store, failure, .. } = self;
        match failure {
            // The mark of an orderly end would be a lie.
            Some(failure) => Err(failure),
            None => store.close(),
        }
    }

    fn judge(&mut self) {
        let bound = if self.is_congested { RELAXED_BYTES } else { CONGESTED_BYTES };
        self.is_congested = self.open_bytes() > bound;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use replica::{Meta, Record};
    use store::{Memory, MemoryDisk};

    use super::*;

    fn storage(disk: &MemoryDisk) -> (Storage, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let wake = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (Storage::new(Box::new(Memory::open(disk, 1, wake).unwrap()), true), wakes)
    }

    fn group(ticket: u64, bytes: usize) -> WriteGroup {
        let records = vec![Record { key: RecordKey::Meta(Meta::Stable), value: Some(vec![ticket as u8; bytes]) }];
        WriteGroup { ticket: Ticket(ticket), records }
    }

    #[test]
    fn groups_of_one_turn_are_one_for_the_store() {
        let (mut storage, wakes) = storage(&MemoryDisk::default());
        for ticket in 1..=50 {
            storage.gather(group(ticket, 10));
        }
        storage.ask(RecordKey::Meta(Meta::Stable));
        storage.gather(group(51, 10));
        assert!(!storage.is_idle());
        storage.hand_over(0).unwrap();
        assert_eq!(wakes.load(Ordering::Relaxed), 3, "one group, one read, one group");
        assert_eq!(storage.poll(1_000), Some(Completion::Durable(Ticket(50))));
        let found = replica::Found::Intact(vec![50; 10]);
        let loaded = Completion::Loaded { key: RecordKey::Meta(Meta::Stable), found: Some(found) };
        assert_eq!(storage.poll(1_000), Some(loaded), "as of all groups before");
        assert_eq!(storage.poll(2_000), Some(Completion::Durable(Ticket(51))));
        assert!(storage.is_idle() && storage.open_bytes() == 0);
        let sizes = storage.group_sizes().unwrap();
        assert_eq!((sizes.count(), sizes.sum()), (2, 51.0));
        assert_eq!((storage.groups(), storage.waits().map(Histogram::count)), (51, Some(2)));
    }

    #[test]
    fn congestion_begins_and_ends_at_different_bounds() {
        let (mut storage, _) = storage(&MemoryDisk::default());
        for ticket in 1..=9 {
            storage.gather(group(ticket, 4 << 20));
        }
        assert!(storage.is_congested());
        storage.hand_over(0).unwrap();
        while storage.poll(0).is_some() {}
        assert!(!storage.is_congested() && storage.is_idle());
    }

    #[test]
    fn a_store_that_failed_is_written_no_more() {
        let disk = MemoryDisk::default();
        let (mut storage, _) = storage(&disk);
        disk.set_full(true);
        storage.gather(group(1, 10));
        storage.hand_over(0).unwrap();
        assert_eq!(storage.first_open(), Ticket(1));
        assert!(matches!(storage.poll(0), Some(Completion::Failed { ticket: Ticket(1), .. })));
        storage.gather(group(2, 10));
        storage.hand_over(0).unwrap();
        assert_eq!(storage.poll(0), None);
        assert_eq!(storage.failure().map(StoreError::code), Some("ERR_STORE_FULL"));
        assert_eq!(storage.close().unwrap_err().code(), "ERR_STORE_FULL");
    }
}
