//! What the tests stand on: media that outlive the stores opened on them, and numbered groups.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use replica::{Found, Record, RecordKey, Ticket, WriteGroup};
use store::{
    Completion, Durability, Embedded, EmbeddedOptions, Memory, MemoryDisk, Redis, RedisOptions, RedisTls, Store,
    StoreError, Surroundings, Wake,
};

use crate::redis_server::RedisServer;

/// Long enough for a busy machine; nothing waits so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A medium.
pub(crate) trait Ground {
    /// Opens a store on it.
    fn open(&mut self) -> Result<Box<dyn Store>, StoreError>;
    /// Damages the stored bytes of a record, behind the store's back and under the medium's own checksums.
    fn damage(&mut self, key: &RecordKey);
}

pub(crate) fn wake() -> Wake {
    Arc::new(|| ())
}

pub(crate) fn here() -> Surroundings {
    Surroundings { machine: "machine".into(), boot: "boot 1".into() }
}

#[derive(Default)]
pub(crate) struct MemoryGround(MemoryDisk);

impl Ground for MemoryGround {
    fn open(&mut self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(Memory::open(&self.0, 1, wake())?))
    }

    fn damage(&mut self, key: &RecordKey) {
        assert!(self.0.damage(key));
    }
}

pub(crate) struct EmbeddedGround {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) durability: Durability,
}

impl EmbeddedGround {
    pub(crate) fn new(durability: Durability) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), durability }
    }
}

pub(crate) fn embedded(
    folder: &Path,
    durability: Durability,
    surroundings: Surroundings,
) -> Result<Embedded, StoreError> {
    Embedded::open(EmbeddedOptions { folder: folder.to_owned(), durability, surroundings, fresh: 7, wake: wake() })
}

impl Ground for EmbeddedGround {
    fn open(&mut self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(embedded(self.folder.path(), self.durability, here())?))
    }

    fn damage(&mut self, key: &RecordKey) {
        // What is still in the log goes into the tree with the first request of a run.
        let mut store = self.open().unwrap();
        store.read(key.clone()).unwrap();
        assert!(matches!(store.wait(PATIENCE), Some(Completion::Loaded { found: Some(_), .. })));
        store.close().unwrap();
        let database = fjall::Database::builder(self.folder.path().join("records")).open().unwrap();
        let records = database.keyspace("records", fjall::KeyspaceCreateOptions::default).unwrap();
        let mut bytes = records.get(key.to_bytes()).unwrap().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        records.insert(key.to_bytes(), bytes).unwrap();
        database.persist(fjall::PersistMode::SyncAll).unwrap();
    }
}

pub(crate) struct RedisGround {
    pub(crate) server: RedisServer,
    pub(crate) folder: tempfile::TempDir,
}

impl RedisGround {
    pub(crate) fn new() -> Self {
        Self { server: RedisServer::start(&[]), folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn options(&self, fresh: u128) -> RedisOptions {
        RedisOptions {
            url: self.server.url(),
            tls: RedisTls::default(),
            prefix: "node_01".into(),
            folder: self.folder.path().to_owned(),
            durability: Durability::Everysec,
            trust_unknown_config: false,
            surroundings: here(),
            fresh,
            wake: wake(),
        }
    }
}

impl Ground for RedisGround {
    fn open(&mut self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(Redis::open(self.options(9))?))
    }

    fn damage(&mut self, key: &RecordKey) {
        let mut connection = self.server.connection();
        for shard in 0..1_024 {
            let hash = format!("{{node_01}}:r:{shard}");
            let there: Option<Vec<u8>> =
                redis::cmd("HGET").arg(&hash).arg(key.to_bytes()).query(&mut connection).unwrap();
            if let Some(mut bytes) = there {
                *bytes.last_mut().unwrap() ^= 1;
                redis::cmd("HSET").arg(&hash).arg(key.to_bytes()).arg(bytes).exec(&mut connection).unwrap();
                return;
            }
        }
        panic!("{key:?} is not in Redis");
    }
}

/// The record of a number: two of each group, whose bytes tell the number.
pub(crate) fn key(number: u64, half: u64) -> RecordKey {
    RecordKey::Object(format!("{number:012}-{half}").into_bytes())
}

/// A group of two records and a counter, so that a torn group shows.
pub(crate) fn group(number: u64) -> WriteGroup {
    let value = |half: u64| Some(format!("{number}/{half}").repeat(1 + (number % 50) as usize).into_bytes());
    let records = vec![
        Record { key: key(number, 0), value: value(0) },
        Record { key: RecordKey::Epoch(0), value: Some(number.to_be_bytes().to_vec()) },
        Record { key: key(number, 1), value: value(1) },
    ];
    WriteGroup { ticket: Ticket(number), records }
}

/// Waits until the group with this ticket is durable.
pub(crate) fn durable(store: &mut dyn Store, ticket: u64) {
    loop {
        match store.wait(PATIENCE) {
            Some(Completion::Durable(done)) if done >= Ticket(ticket) => return,
            Some(Completion::Durable(_)) => {}
            other => panic!("group {ticket} did not become durable: {other:?}"),
        }
    }
}

/// Writes groups one by one.
pub(crate) fn write(store: &mut dyn Store, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        store.write(group(number)).unwrap();
        durable(store, number);
    }
}

/// Everything, by key.
pub(crate) fn all(store: &mut dyn Store) -> std::collections::BTreeMap<RecordKey, Found> {
    store.load().unwrap().map(Result::unwrap).collect()
}

/// Every group up to the counter is whole, none behind it is there; gives the counter.
pub(crate) fn whole_groups(store: &mut dyn Store) -> u64 {
    let records = all(store);
    let last = match records.get(&RecordKey::Epoch(0)) {
        Some(Found::Intact(bytes)) => u64::from_be_bytes(bytes.as_slice().try_into().unwrap()),
        Some(Found::Damaged) => panic!("the counter is damaged"),
        None => 0,
    };
    for number in 1..=last {
        for record in group(number).records.into_iter().filter(|record| record.key != RecordKey::Epoch(0)) {
            assert_eq!(records.get(&record.key), record.value.map(Found::Intact).as_ref(), "{:?}", record.key);
        }
    }
    assert_eq!(records.len() as u64, if last == 0 { 0 } else { 2 * last + 1 }, "records beyond group {last}");
    last
}
