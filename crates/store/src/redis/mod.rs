//! A Redis 7 as the store: for those who have one that is looked after anyway.
//!
//! ```text
//! {PREFIX}:store          identity of the store, 32 hexadecimal digits
//! {PREFIX}:owner          random, of the process that has it open
//! {PREFIX}:sequence       number of the last group
//! {PREFIX}:r:0 .. r:1023  hashes: stored key -> stored value (`frame`), by XXH3 of the stored key
//! ```
//!
//! The braces are written: they keep all keys in one slot. Each commit is one `MULTI`, sent with all its commands in
//! one write. It swaps the sequence and reads the owner, so a second writer, or a server that went back, is noticed
//! with the commit itself. There are many hashes so that each is answered in one reply of bounded size.
//!
//! Durable means what the server's append-only file means: `appendfsync always` or `everysec`, which is checked at the
//! start together with its eviction policy. A server process that is another one than before may have lost its last
//! second: while running it is [`StoreError::Restarted`], at the start [`Doubt::ServiceRestarted`].

mod connection;
mod copy;
mod tls;

use std::path::PathBuf;

use ::redis::Value;
use replica::{Found, RecordKey, WriteGroup};
use xxhash_rust::xxh3::xxh3_64;

use self::connection::{Link, Pairs};
pub(crate) use self::copy::import;
pub use self::tls::RedisTls;
use crate::continuity::{self, Present};
use crate::copying::Reading;
use crate::frame::{self, Changes, Read};
use crate::ledger::Ledger;
use crate::writer::{Medium, Writer};
use crate::{Completion, Copying, Doubt, Durability, Proof, Records, Sizes, Store, StoreError, Surroundings, Wake};

/// Hashes. A million records make a thousand to each; more would make loading a small store slower.
const SHARDS: u64 = 1_024;
/// Hashes asked for in one round trip while loading: bounds the bytes on their way.
const SHARDS_AT_ONCE: u64 = 16;

/// How a store in Redis is opened.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user:password@]host:port/db`, `rediss://` of the same form for TLS, or
    /// `unix:///path?db=N&user=U&pass=P`.
    pub url: String,
    /// Files for TLS; [`StoreError::Address`] beside an address without TLS.
    pub tls: RedisTls,
    /// What all keys begin with; each node has its own.
    pub prefix: String,
    /// The state folder, for the ledger.
    pub folder: PathBuf,
    /// When a group counts as durable.
    pub durability: Durability,
    /// Take the server's promise of durability on trust where `CONFIG` is denied, as hosted services do.
    pub trust_unknown_config: bool,
    /// Machine and boot; [`Surroundings::here`] but in tests.
    pub surroundings: Surroundings,
    /// 128 random bits at each start: identity of a store that has none, and name of this owner.
    pub fresh: u128,
    /// Called when there is a completion.
    pub wake: Wake,
}

/// The store in Redis.
pub struct Redis(Writer<Server>);

impl Redis {
    /// Connects, checks what the server promises, takes ownership and judges continuity.
    ///
    /// # Errors
    /// [`StoreError::Address`], [`StoreError::Unreachable`], [`StoreError::Tls`], [`StoreError::Denied`],
    /// [`StoreError::Weak`], [`StoreError::ReadOnly`], and what the state folder refuses.
    pub fn open(options: RedisOptions) -> Result<Self, StoreError> {
        let RedisOptions { url, tls, prefix, folder, durability, trust_unknown_config, surroundings, fresh, wake } =
            options;
        let (mut ledger, mut past) = Ledger::open(&folder.join("ledger"), surroundings, fresh)?;
        let mut link = Link::connect(&url, &tls)?;
        link.check_promises(durability, trust_unknown_config)?;
        let keys = Keys { prefix: format!("{{{prefix}}}") };
        let stored = link.text(&keys.named("store"))?;
        let identity = format!("{:032x}", ledger.store());
        let mut doubts = Vec::new();
        match (&stored, ledger.is_new()) {
            (None, true) => doubts.push(Doubt::FirstStart),
            (None, false) => doubts.push(Doubt::OtherStore),
            (Some(_), true) => doubts.push(Doubt::NoLedger),
            (Some(stored), false) if *stored != identity => doubts.push(Doubt::OtherStore),
            (Some(_), false) => {}
        }
        let sequence = link.text(&keys.named("sequence"))?.map_or(Some(0), |text| text.parse().ok());
        if sequence.is_none() {
            doubts.push(Doubt::Damaged { what: "the sequence in Redis".into(), kept: None });
        }
        let login = Login { url, tls };
        let mut server =
            Server { link, login, keys, owner: format!("{fresh:032x}"), sequence: sequence.unwrap_or_default() };
        let damaged = server.survey()?;
        if damaged > 0 {
            doubts.push(Doubt::Damaged { what: format!("the checksums of {damaged} records"), kept: None });
        }
        let found = server.sequence;
        let service = Some(server.link.run_id().to_owned());
        past.doubts.append(&mut doubts);
        let present = Present { sequence: found, service: service.clone(), doubts: Vec::new() };
        let doubts = continuity::doubts(&past, &present);
        let sequence = found.max(past.acknowledged).max(past.closed.unwrap_or_default());
        ledger.begin(doubts.is_empty(), sequence, service)?;
        server.own(&identity, sequence)?;
        let proof = Proof { doubts, store: ledger.store(), sequence };
        Ok(Self(Writer::new(server, ledger, proof, durability, wake)))
    }
}

impl Store for Redis {
    fn proof(&self) -> &Proof {
        self.0.proof()
    }

    fn load(&mut self) -> Result<Records<'_>, StoreError> {
        self.0.load()
    }

    fn write(&mut self, group: replica::WriteGroup) -> Result<(), StoreError> {
        self.0.write(group)
    }

    fn read(&mut self, key: RecordKey) -> Result<(), StoreError> {
        self.0.read(key)
    }

    fn poll(&mut self) -> Option<Completion> {
        self.0.poll()
    }

    fn wait(&mut self, timeout: std::time::Duration) -> Option<Completion> {
        self.0.wait(timeout)
    }

    fn copy(&mut self) -> Result<Copying, StoreError> {
        self.0.copy()
    }

    fn sizes(&self) -> Sizes {
        self.0.sizes()
    }

    fn failure(&self) -> Option<StoreError> {
        self.0.failure()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Box::new(self.0).close()
    }
}

/// Where the server is and how it is spoken to.
struct Login {
    url: String,
    tls: RedisTls,
}

/// Names of the keys.
#[derive(Clone)]
struct Keys {
    prefix: String,
}

impl Keys {
    fn named(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    fn shard(&self, shard: u64) -> String {
        format!("{}:r:{shard}", self.prefix)
    }

    fn shard_of(&self, stored: &[u8]) -> String {
        self.shard(xxh3_64(stored) % SHARDS)
    }
}

/// The server with what this process knows of it.
struct Server {
    link: Link,
    /// For a second connection, that a copy is read over.
    login: Login,
    keys: Keys,
    owner: String,
    /// Number of the last group that the server acknowledged.
    sequence: u64,
}

impl Server {
    /// Reads every record once; gives the number of those that do not fit their checksums.
    fn survey(&mut self) -> Result<u64, StoreError> {
        let mut damaged = 0;
        for record in self.load()? {
            damaged += u64::from(matches!(record?, (_, Found::Damaged)));
        }
        Ok(damaged)
    }

    /// Writes that this process owns the data from here on.
    fn own(&mut self, identity: &str, sequence: u64) -> Result<(), StoreError> {
        self.link.set(&self.keys.named("store"), identity)?;
        self.link.set(&self.keys.named("owner"), &self.owner)?;
        self.link.set(&self.keys.named("sequence"), &sequence.to_string())?;
        self.sequence = sequence;
        Ok(())
    }

    fn pipeline(&self, changes: &Changes, sequence: u64) -> ::redis::Pipeline {
        let mut pipe = ::redis::pipe();
        pipe.atomic();
        pipe.cmd("GET").arg(self.keys.named("owner"));
        pipe.cmd("GETSET").arg(self.keys.named("sequence")).arg(sequence.to_string());
        for (key, value) in changes {
            let shard = self.keys.shard_of(key);
            match value {
                Some(value) => pipe.cmd("HSET").arg(shard).arg(key.as_slice()).arg(value.as_slice()).ignore(),
                None => pipe.cmd("HDEL").arg(shard).arg(key.as_slice()).ignore(),
            };
        }
        pipe
    }

    /// Judges what a commit found: the owner and the sequence before it.
    fn judge(&self, answer: &Value) -> Result<(), StoreError> {
        let Value::Array(items) = answer else {
            return Err(StoreError::Service { message: "MULTI without a list".into() });
        };
        let (owner, before) = (items.first().and_then(text), items.get(1).and_then(text));
        if owner.as_deref() != Some(&self.owner) {
            return Err(StoreError::Owned { place: self.keys.prefix.clone() });
        }
        self.compare(before.and_then(|before| before.parse().ok()).unwrap_or_default())
    }

    fn compare(&self, found: u64) -> Result<(), StoreError> {
        match found.cmp(&self.sequence) {
            core::cmp::Ordering::Equal => Ok(()),
            core::cmp::Ordering::Less => Err(StoreError::WentBack { found, known: self.sequence }),
            core::cmp::Ordering::Greater => Err(StoreError::Owned { place: self.keys.prefix.clone() }),
        }
    }

    /// After a broken connection: true when the commit had arrived before it broke.
    fn has_arrived(&mut self, sequence: u64) -> Result<bool, StoreError> {
        self.link.reconnect()?;
        if self.link.text(&self.keys.named("owner"))?.as_deref() != Some(&self.owner) {
            return Err(StoreError::Owned { place: self.keys.prefix.clone() });
        }
        let found = self.link.text(&self.keys.named("sequence"))?;
        let found = found.and_then(|found| found.parse().ok()).unwrap_or_default();
        if found == sequence {
            return Ok(true);
        }
        self.compare(found).map(|()| false)
    }
}

impl Medium for Server {
    fn commit(&mut self, groups: Vec<WriteGroup>, sequence: u64) -> Result<(), StoreError> {
        let pipe = self.pipeline(&frame::changes(groups), sequence);
        let answer = match self.link.run(&pipe) {
            Ok(answer) => answer,
            Err(StoreError::Unreachable { .. }) => {
                if self.has_arrived(sequence)? {
                    self.sequence = sequence;
                    return Ok(());
                }
                self.link.run(&pipe)?
            }
            Err(error) => return Err(error),
        };
        self.judge(&answer)?;
        self.sequence = sequence;
        Ok(())
    }

    fn sync(&mut self) -> Result<bool, StoreError> {
        // The server syncs by itself, as `check_promises` has seen.
        Ok(false)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&mut self, key: &RecordKey) -> Result<Option<Found>, StoreError> {
        let stored = frame::stored_key(&key.to_bytes()).into_owned();
        let bytes = self.link.field(&self.keys.shard_of(&stored), &stored)?;
        Ok(bytes.map(|bytes| frame::found(key, &bytes)))
    }

    fn load(&mut self) -> Result<Records<'_>, StoreError> {
        let mut shards = 0..SHARDS;
        let mut has_failed = false;
        let batches = std::iter::from_fn(move || {
            let from = shards.next().filter(|_| !has_failed)?;
            let names: Vec<String> = (from..from + SHARDS_AT_ONCE).map(|shard| self.keys.shard(shard)).collect();
            shards.start = from + SHARDS_AT_ONCE;
            Some(match self.link.hashes(&names) {
                Ok(pairs) => records(pairs),
                Err(error) => {
                    has_failed = true;
                    vec![Err(error)]
                }
            })
        });
        Ok(Box::new(batches.flatten()))
    }

    fn copy(&mut self) -> Result<Reading, StoreError> {
        Ok(Reading { batches: copy::batches(&self.login, &self.keys)?, is_live: true })
    }

    fn stored_bytes(&mut self) -> u64 {
        self.link.used_memory()
    }
}

fn records(pairs: Pairs) -> Vec<Result<(RecordKey, Found), StoreError>> {
    let mut records = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        match frame::read(&key, &value) {
            Read::Record(key, found) => records.push(Ok((key, found))),
            Read::Unplaced => records.extend(frame::unplaced().map(Ok)),
        }
    }
    records
}

/// The text of a reply.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}
