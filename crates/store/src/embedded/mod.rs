//! The default store: a `fjall` database in the state folder, behind one writer thread.
//!
//! ```text
//! FOLDER/ledger/      what tells of the last run (`ledger`)
//! FOLDER/records/     the database: one keyspace, so that what a cut journal leaves is a moment that once was
//! FOLDER/quarantine/  damage, kept as it was found, by run
//! ```
//!
//! At the start the journal is read before the database reads it (`journal`): the database takes damage in the middle
//! for a torn tail where it can, and would cut off silently what was acknowledged. Then every block is read once: what
//! does not read is set aside with the whole database, and what does read is taken over into a new one (`salvage`).

mod copy;
mod journal;
mod salvage;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode};
use replica::{Found, RecordKey};

pub(crate) use self::copy::import;
use crate::continuity::{self, Present};
use crate::copying::Reading;
use crate::frame::{self, Changes, Read};
use crate::ledger::Ledger;
use crate::writer::{Medium, Writer};
use crate::{Completion, Copying, Doubt, Durability, Proof, Records, Sizes, Store, StoreError, Surroundings, Wake};

const KEYSPACE: &str = "records";

/// Key of the number of the last group. Above every record key (`frame`), in the same keyspace as they are: in another
/// one it could be flushed while they are not.
const SEQUENCE_KEY: &[u8] = &[0xFF];

/// Key of the note that something was lost which cannot be put to a key. It stands until the node's first group, which
/// holds what the node made of it, is durable.
const UNPLACED_KEY: &[u8] = &[0xFE];

/// Bytes of a memtable before it is written out. At most five of them live at once, which bounds memory; with much
/// smaller ones tables multiply faster than one thread compacts.
const MEMTABLE_BYTES: u64 = 8 << 20;

/// Bytes of the block cache. Records are read once, at the start: more would only hold memory.
const CACHE_BYTES: u64 = 4 << 20;

/// Bytes of all journals before the database flushes what holds them; its own least value is 64 MiB.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;

/// How an embedded store is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The state folder; it is made if need be, and belongs to this store alone.
    pub folder: PathBuf,
    /// When a group counts as durable.
    pub durability: Durability,
    /// Machine and boot; [`Surroundings::here`] but in tests.
    pub surroundings: Surroundings,
    /// 128 random bits, used as the identity of a store that has none.
    pub fresh: u128,
    /// Called when there is a completion.
    pub wake: Wake,
}

/// The embedded store.
pub struct Embedded(Writer<Files>);

impl Embedded {
    /// Opens the store, sets damage aside and judges continuity.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Format`] and what the disk refuses. Damage is no error: it is a
    /// [`Doubt::Damaged`] in the proof.
    pub fn open(options: EmbeddedOptions) -> Result<Self, StoreError> {
        let EmbeddedOptions { folder, durability, surroundings, fresh, wake } = options;
        let (mut ledger, mut past) = Ledger::open(&folder.join("ledger"), surroundings, fresh)?;
        let place = folder.join("records");
        if ledger.is_new() {
            past.doubts.push(if place.exists() { Doubt::NoLedger } else { Doubt::FirstStart });
        }
        let mut quarantine = Quarantine { folder: folder.join("quarantine"), next: 0 };
        let mut damage = Vec::new();
        if let Some(found) = journal::mend(&place, &mut quarantine)? {
            damage.push(found);
        }
        let (mut files, mut lost) = Files::open(&place, durability, &mut quarantine)?;
        damage.append(&mut lost);
        let (sequence, damaged) = files.survey()?;
        if damaged > 0 {
            damage.push(Doubt::Damaged { what: format!("the checksums of {damaged} records"), kept: None });
        }
        let present = Present { sequence, service: None, doubts: damage };
        let doubts = continuity::doubts(&past, &present);
        // Numbers are not used twice, whatever was lost.
        let sequence = sequence.max(past.acknowledged).max(past.closed.unwrap_or_default());
        ledger.begin(doubts.is_empty(), sequence, None)?;
        let proof = Proof { doubts, store: ledger.store(), sequence };
        Ok(Self(Writer::new(files, ledger, proof, durability, wake)))
    }
}

impl Store for Embedded {
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

/// Where damage is kept.
struct Quarantine {
    folder: PathBuf,
    next: u32,
}

impl Quarantine {
    /// A free name for something of the name `of`.
    fn place(&mut self, of: &str) -> Result<PathBuf, StoreError> {
        fs::create_dir_all(&self.folder).map_err(|error| StoreError::io("make", &self.folder, &error))?;
        loop {
            let place = self.folder.join(format!("{:04}-{of}", self.next));
            self.next += 1;
            if !place.exists() {
                return Ok(place);
            }
        }
    }

    /// Moves a file or folder here.
    fn take(&mut self, path: &Path) -> Result<PathBuf, StoreError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let place = self.place(&name)?;
        fs::rename(path, &place).map_err(|error| StoreError::io("move", path, &error))?;
        crate::ledger::sync_folder(&self.folder)?;
        crate::ledger::sync_folder(path.parent().unwrap_or(path))?;
        Ok(place)
    }
}

/// The open database.
struct Files {
    place: PathBuf,
    // Before the database: its handle must not be the last one.
    records: Keyspace,
    database: Database,
    mode: PersistMode,
    /// Keys that are no record's, to be removed with the first group; with any of them, something was lost that cannot
    /// be put to a key.
    strays: Vec<Vec<u8>>,
}

impl Files {
    /// Opens or makes the database; one that does not open, or not read to the end, is set aside.
    fn open(
        place: &Path,
        durability: Durability,
        quarantine: &mut Quarantine,
    ) -> Result<(Self, Vec<Doubt>), StoreError> {
        let mode = match durability {
            Durability::Always => PersistMode::SyncData,
            Durability::Everysec => PersistMode::Buffer,
        };
        let mut lost = Vec::new();
        if place.exists() && !place.join("version").exists() {
            // Killed while it was made for the first time, or bereft of its first file: either way it does not open.
            let kept = quarantine.take(place)?;
            if kept.join("keyspaces").join("1").exists() {
                lost.push(Doubt::Damaged { what: "the database's version file".into(), kept: Some(kept) });
            }
        }
        let opened = match attempt(place, || open_database(place)) {
            Ok((database, records)) if salvage::reads(place, &records)? => (database, records),
            Ok((database, records)) => {
                let rest = place.with_extension("salvaged");
                salvage::copy(&records, &rest)?;
                drop((records, database));
                let kept = quarantine.take(place)?;
                fs::rename(&rest, place).map_err(|error| StoreError::io("rename", &rest, &error))?;
                crate::ledger::sync_folder(place.parent().unwrap_or(place))?;
                lost.push(Doubt::Damaged { what: "blocks of the database".into(), kept: Some(kept) });
                attempt(place, || open_database(place))?
            }
            Err(StoreError::Corrupt { what }) => {
                let kept = quarantine.take(place)?;
                lost.push(Doubt::Damaged { what, kept: Some(kept) });
                attempt(place, || open_database(place))?
            }
            Err(error) => return Err(error),
        };
        let (database, records) = opened;
        if !lost.is_empty() {
            attempt(place, || records.insert(UNPLACED_KEY, UNPLACED_KEY))?;
            attempt(place, || database.persist(PersistMode::SyncAll))?;
        }
        Ok((Self { place: place.to_owned(), records, database, mode, strays: Vec::new() }, lost))
    }

    /// Number of the last group, and how many pairs do not fit their checksums.
    fn survey(&mut self) -> Result<(u64, u64), StoreError> {
        let (mut sequence, mut damaged, mut strays) = (None, 0, Vec::new());
        attempt(&self.place, || {
            for guard in self.records.iter() {
                let (key, value) = guard.into_inner()?;
                if &*key == SEQUENCE_KEY {
                    sequence = parse_sequence(&value);
                    damaged += u64::from(sequence.is_none());
                    continue;
                }
                match frame::read(&key, &value) {
                    Read::Record(_, Found::Intact(_)) => {}
                    Read::Record(_, Found::Damaged) => damaged += 1,
                    Read::Unplaced => {
                        damaged += 1;
                        strays.push(key.to_vec());
                    }
                }
            }
            Ok(())
        })?;
        self.strays = strays;
        Ok((sequence.unwrap_or_default(), damaged))
    }
}

/// The number and its complement, so that a flipped bit is noticed.
fn sequence_bytes(sequence: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[8..].copy_from_slice(&(!sequence).to_be_bytes());
    bytes
}

fn parse_sequence(bytes: &[u8]) -> Option<u64> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let sequence = u64::from_be_bytes(*bytes.first_chunk()?);
    (bytes == sequence_bytes(sequence)).then_some(sequence)
}

impl Medium for Files {
    fn commit(&mut self, changes: Changes, sequence: u64) -> Result<(), StoreError> {
        // SUBTLE: once its own thread has failed, a commit may wait for it for ever; this asks first.
        attempt(&self.place, || self.database.persist(PersistMode::Buffer))?;
        let mut batch = self.database.batch().durability(Some(self.mode));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.records, key, value),
                None => batch.remove(&self.records, key),
            }
        }
        for key in &self.strays {
            batch.remove(&self.records, key.as_slice());
        }
        batch.insert(&self.records, SEQUENCE_KEY, sequence_bytes(sequence));
        attempt(&self.place, || batch.commit())?;
        self.strays.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        attempt(&self.place, || self.database.persist(PersistMode::SyncData))
    }

    fn read(&mut self, key: &RecordKey) -> Result<Option<Found>, StoreError> {
        let bytes = attempt(&self.place, || self.records.get(frame::stored_key(&key.to_bytes())))?;
        Ok(bytes.map(|bytes| frame::found(key, &bytes)))
    }

    fn load(&mut self) -> Result<Records<'_>, StoreError> {
        let place = &self.place;
        let pairs = self.records.iter().flat_map(move |guard| match guard.into_inner() {
            Ok((key, _)) if &*key == SEQUENCE_KEY => Vec::new(),
            Ok((key, value)) => match frame::read(&key, &value) {
                Read::Record(key, found) => vec![Ok((key, found))],
                Read::Unplaced => Vec::new(),
            },
            Err(error) => vec![Err(store_error(place, &error))],
        });
        let lost = (!self.strays.is_empty()).then(|| frame::unplaced().map(Ok)).into_iter().flatten();
        Ok(Box::new(lost.chain(pairs)))
    }

    fn copy(&mut self) -> Result<Reading, StoreError> {
        Ok(Reading { batches: copy::batches(&self.place, &self.records, &self.database), is_live: false })
    }

    fn stored_bytes(&mut self) -> u64 {
        self.database.disk_space().unwrap_or_default()
    }
}

fn open_database(place: &Path) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(place)
        .cache_size(CACHE_BYTES)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(1)
        .open()?;
    let records = database.keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES))?;
    Ok((database, records))
}

/// Calls the database. It asserts what damage can break, so a panic of its is damage.
fn attempt<T>(place: &Path, call: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| store_error(place, &error)),
        Err(_) => Err(StoreError::Corrupt { what: format!("the database in {}", place.display()) }),
    }
}

fn store_error(place: &Path, error: &fjall::Error) -> StoreError {
    // `AlreadyExists`: it was killed while it made itself, and does not go on from there.
    use std::io::ErrorKind::{AlreadyExists, InvalidData, NotFound, Other, UnexpectedEof};
    let corrupt = || StoreError::Corrupt { what: format!("the database in {} ({error})", place.display()) };
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io)) => match io.kind() {
            AlreadyExists | InvalidData | NotFound | Other | UnexpectedEof => corrupt(),
            _ => StoreError::io("use", place, io),
        },
        fjall::Error::Locked => StoreError::Locked { folder: place.to_owned() },
        fjall::Error::InvalidVersion(Some(version)) => {
            StoreError::Format { what: format!("the database in {} ({version:?})", place.display()) }
        }
        fjall::Error::Poisoned => StoreError::Io {
            doing: "write to",
            path: place.to_owned(),
            message: "the database's own thread failed before; the disk may be full or broken".into(),
        },
        _ => corrupt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_with_a_flipped_bit_does_not_read() {
        let bytes = sequence_bytes(77);
        assert_eq!(parse_sequence(&bytes), Some(77));
        for bit in 0..128 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_sequence(&bytes), None, "bit {bit}");
        }
    }
}
