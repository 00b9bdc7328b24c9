//! Records in memory: for tests, for the simulator's grown-up sibling and for `demo`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replica::{Found, Record, RecordKey, Ticket, WriteGroup};

use crate::continuity::{self, Past, Present};
use crate::{Completion, Copying, Doubt, Proof, Records, Sizes, Store, StoreError, StoredPair, Wake, frame};

#[derive(Debug, Default)]
struct Content {
    records: BTreeMap<RecordKey, Vec<u8>>,
    damaged: BTreeSet<RecordKey>,
    bytes: u64,
    sequence: u64,
    closed: Option<u64>,
    is_full: bool,
    has_failed: bool,
    was_opened: bool,
    is_open: bool,
}

/// What outlives a [`Memory`] store, as a disk does: clone it, and open it again.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Content>>);

impl MemoryDisk {
    /// Lets the checksum of a record fail. False when there is no such record.
    pub fn damage(&self, key: &RecordKey) -> bool {
        let mut content = self.lock();
        content.records.contains_key(key) && content.damaged.insert(key.clone())
    }

    /// Fills it up, or frees space.
    pub fn set_full(&self, full: bool) {
        self.lock().is_full = full;
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in memory. A group is durable as soon as it is written, as far as the process lives.
pub struct Memory {
    disk: MemoryDisk,
    proof: Proof,
    completions: VecDeque<Completion>,
    failure: Option<StoreError>,
    sizes: Sizes,
    has_started: bool,
    wake: Wake,
}

impl Memory {
    /// Opens a disk. `fresh` is the store's identity; `wake` is called on the caller's thread.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another store has it open.
    pub fn open(disk: &MemoryDisk, fresh: u128, wake: Wake) -> Result<Self, StoreError> {
        let mut content = disk.lock();
        if content.is_open {
            return Err(StoreError::Locked { folder: "memory".into() });
        }
        let mut past = Past { acknowledged: content.sequence, closed: content.closed, ..Past::default() };
        if !content.was_opened {
            past.doubts.push(Doubt::FirstStart);
        }
        if content.has_failed {
            past.doubts.push(Doubt::WriteFailed);
        }
        for key in &content.damaged {
            past.doubts.push(Doubt::Damaged { what: format!("record {key:?}"), kept: None });
        }
        let sequence = content.sequence;
        let doubts = continuity::doubts(&past, &Present { sequence, ..Present::default() });
        (content.was_opened, content.is_open, content.has_failed, content.closed) = (true, true, false, None);
        drop(content);
        Ok(Self {
            disk: disk.clone(),
            proof: Proof { doubts, store: fresh, sequence },
            completions: VecDeque::new(),
            failure: None,
            sizes: Sizes { sequence, ..Sizes::default() },
            has_started: false,
            wake,
        })
    }

    fn fail(&mut self, ticket: Ticket, error: StoreError) {
        self.disk.lock().has_failed = true;
        self.completions.push_back(Completion::Failed { ticket, error: error.clone() });
        self.failure = Some(error);
    }

    fn refuse(&self) -> Result<(), StoreError> {
        match &self.failure {
            Some(failure) => Err(StoreError::Refused { because: Box::new(failure.clone()) }),
            None => Ok(()),
        }
    }
}

impl Store for Memory {
    fn proof(&self) -> &Proof {
        &self.proof
    }

    fn load(&mut self) -> Result<Records<'_>, StoreError> {
        if self.has_started {
            return Err(StoreError::AlreadyRunning);
        }
        let content = self.disk.lock();
        let keys: Vec<RecordKey> = content.records.keys().cloned().collect();
        drop(content);
        let disk = self.disk.clone();
        let found = move |key: RecordKey| {
            let found = find(&disk.lock(), &key)?;
            Some(Ok((key, found)))
        };
        Ok(Box::new(keys.into_iter().filter_map(found)))
    }

    fn write(&mut self, group: WriteGroup) -> Result<(), StoreError> {
        frame::check(&group)?;
        self.refuse()?;
        self.has_started = true;
        let mut content = self.disk.lock();
        if content.is_full {
            drop(content);
            let error = StoreError::Full { place: "memory".into(), message: "set full".into() };
            self.fail(group.ticket, error);
            (self.wake)();
            return Ok(());
        }
        for record in group.records {
            content.damaged.remove(&record.key);
            let added = record.value.as_ref().map_or(0, |value| value.len() as u64);
            let before = match record.value {
                Some(value) => content.records.insert(record.key, value),
                None => content.records.remove(&record.key),
            };
            content.bytes = content.bytes + added - before.map_or(0, |value| value.len() as u64);
        }
        content.sequence += 1;
        self.sizes.sequence = content.sequence;
        self.sizes.stored_bytes = content.bytes;
        self.sizes.commits += 1;
        self.sizes.groups += 1;
        drop(content);
        self.completions.push_back(Completion::Durable(group.ticket));
        (self.wake)();
        Ok(())
    }

    fn read(&mut self, key: RecordKey) -> Result<(), StoreError> {
        self.refuse()?;
        self.has_started = true;
        let found = find(&self.disk.lock(), &key);
        self.completions.push_back(Completion::Loaded { key, found });
        (self.wake)();
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn wait(&mut self, _timeout: Duration) -> Option<Completion> {
        self.poll()
    }

    fn copy(&mut self) -> Result<Copying, StoreError> {
        self.refuse()?;
        let content = self.disk.lock();
        let mut changes = frame::Changes::new();
        for (key, value) in &content.records {
            frame::add(&mut changes, Record { key: key.clone(), value: Some(value.clone()) });
        }
        drop(content);
        Ok(Copying::of(changes.into_iter().map(|(key, value)| StoredPair { key, value }).collect()))
    }

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn failure(&self) -> Option<StoreError> {
        self.failure.clone()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.refuse()?;
        let mut content = self.disk.lock();
        content.closed = Some(content.sequence);
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.disk.lock().is_open = false;
    }
}

fn find(content: &Content, key: &RecordKey) -> Option<Found> {
    let value = content.records.get(key)?;
    Some(if content.damaged.contains(key) { Found::Damaged } else { Found::Intact(value.clone()) })
}
