//! The tree: a `fjall` database with one keyspace, which is only ever written by ingestions, each of them as a whole.
//!
//! An ingestion writes sorted tables, syncs them, and puts them on top by replacing one small file (`lsm-tree` 3.1,
//! `tree/ingest.rs`): killed before, the tree is as it was; after, it holds all of it, with the number of the last
//! group. Nothing goes through the database's memtable or its journal.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{fs, thread};

use fjall::{CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable};
use replica::Found;

use super::quarantine::Quarantine;
use super::salvage;
use super::table::{Filter, Slot, Table};
use crate::copying::StoredPair;
use crate::frame::{self, Read};
use crate::ledger::sync_folder;
use crate::{Doubt, StoreError};

const KEYSPACE: &str = "records";

/// Key of the number of the last group. Above every record key (`frame`), in the same keyspace as they are: so it is
/// part of the same ingestion.
pub(super) const SEQUENCE_KEY: &[u8] = &[0xFF];

/// Key of the note that something was lost which cannot be put to a key. It stands until the node's first group, which
/// holds what the node made of it, is durable.
pub(super) const UNPLACED_KEY: &[u8] = &[0xFE];

/// Bytes of the block cache. Records are read once, at the start: more would only hold memory.
const CACHE_BYTES: u64 = 4 << 20;

/// Tables of the newest level above which a checkpoint waits for the database's thread to merge them: each is one more
/// place where a key may be, and holds what later ones hide.
const NEW_TABLES_MAX: usize = 16;
/// How long it waits at most, in steps: a merge is only asked for by the next ingestion.
const MERGE_WAITS_MAX: u32 = 1_000;
const MERGE_WAIT: std::time::Duration = std::time::Duration::from_millis(10);

/// The open database. Clones share it.
#[derive(Clone)]
pub(super) struct Tree {
    place: PathBuf,
    // Before the database: its handle must not be the last one.
    records: Keyspace,
    database: Database,
}

/// What one pass over all pairs has shown.
pub(super) struct Survey {
    /// Number of the last group; `None` where there is none that reads.
    pub(super) sequence: Option<u64>,
    /// The number is there and does not read.
    pub(super) is_sequence_damaged: bool,
    /// Keys of records that do not fit their checksums.
    pub(super) damaged: Vec<Vec<u8>>,
    /// Keys that are no record's; with any of them, something was lost that cannot be put to a key.
    pub(super) strays: Vec<Vec<u8>>,
    /// All keys.
    pub(super) filter: Filter,
}

impl Tree {
    /// Opens or makes the database and reads it to its end; one that does not open or not read is set aside.
    pub(super) fn open(
        place: &Path,
        hash: impl Fn(&[u8]) -> u64,
        quarantine: &mut Quarantine,
    ) -> Result<(Self, Survey, Vec<Doubt>), StoreError> {
        let mut lost = Vec::new();
        if place.exists() && !place.join("version").exists() {
            // Killed while it was made for the first time, or bereft of its first file: either way it does not open.
            let kept = quarantine.take(place)?;
            if kept.join("keyspaces").join("1").exists() {
                lost.push(Doubt::Damaged { what: "the database's version file".into(), kept: Some(kept) });
            }
        }
        let found = Self::at(place).and_then(|tree| match tree.survey(&hash) {
            Ok(survey) => Ok((tree, Some(survey))),
            Err(StoreError::Corrupt { .. }) => Ok((tree, None)),
            Err(error) => Err(error),
        });
        let tree = match found {
            Ok((tree, Some(survey))) if lost.is_empty() => return Ok((tree, survey, lost)),
            Ok((tree, Some(_))) => tree,
            Ok((tree, None)) => {
                let rest = place.with_extension("salvaged");
                salvage::copy(&tree.records, &rest)?;
                drop(tree);
                let kept = quarantine.take(place)?;
                fs::rename(&rest, place).map_err(|error| StoreError::io("rename", &rest, &error))?;
                sync_folder(place.parent().unwrap_or(place))?;
                lost.push(Doubt::Damaged { what: "blocks of the database".into(), kept: Some(kept) });
                Self::at(place)?
            }
            Err(StoreError::Corrupt { what }) => {
                let kept = quarantine.take(place)?;
                lost.push(Doubt::Damaged { what, kept: Some(kept) });
                Self::at(place)?
            }
            Err(error) => return Err(error),
        };
        tree.note_loss()?;
        let survey = tree.survey(&hash)?;
        Ok((tree, survey, lost))
    }

    pub(super) fn at(place: &Path) -> Result<Self, StoreError> {
        let (database, records) = attempt(place, || {
            let database = Database::builder(place)
                .cache_size(CACHE_BYTES)
                .journal_compression(CompressionType::None)
                .worker_threads(1)
                .open()?;
            let records = database.keyspace(KEYSPACE, KeyspaceCreateOptions::default)?;
            Ok((database, records))
        })?;
        Ok(Self { place: place.to_owned(), records, database })
    }

    /// Notes durably that something was lost which cannot be put to a key.
    pub(super) fn note_loss(&self) -> Result<(), StoreError> {
        self.ingest([(UNPLACED_KEY.to_vec(), Some(UNPLACED_KEY.to_vec()))].into_iter())
    }

    /// Gives a tree that does not know it the number of its last group; with `note`, as [`Tree::note_loss`] does.
    pub(super) fn root(&self, sequence: u64, note: bool) -> Result<(), StoreError> {
        let note = note.then(|| (UNPLACED_KEY.to_vec(), Some(UNPLACED_KEY.to_vec())));
        let sequence = (SEQUENCE_KEY.to_vec(), Some(sequence_bytes(sequence).to_vec()));
        self.ingest(note.into_iter().chain([sequence]))
    }

    /// Reads every block once.
    fn survey(&self, hash: &impl Fn(&[u8]) -> u64) -> Result<Survey, StoreError> {
        let (filter, damaged, strays) = (Filter::default(), Vec::new(), Vec::new());
        let mut survey = Survey { sequence: None, is_sequence_damaged: false, damaged, strays, filter };
        attempt(&self.place, || {
            for guard in self.records.iter() {
                let (key, value) = guard.into_inner()?;
                if &*key == SEQUENCE_KEY {
                    survey.sequence = parse_sequence(&value);
                    survey.is_sequence_damaged = survey.sequence.is_none();
                    continue;
                }
                survey.filter.insert(hash(&key));
                match frame::read(&key, &value) {
                    Read::Record(_, Found::Intact(_)) => {}
                    Read::Record(_, Found::Damaged) => survey.damaged.push(key.to_vec()),
                    Read::Unplaced => survey.strays.push(key.to_vec()),
                }
            }
            Ok(())
        })?;
        Ok(survey)
    }

    /// Hashes of all keys, gathered anew.
    pub(super) fn filter(&self, hash: impl Fn(&[u8]) -> u64) -> Result<Filter, StoreError> {
        let mut filter = Filter::default();
        attempt(&self.place, || {
            for guard in self.records.iter() {
                filter.insert(hash(&guard.key()?));
            }
            Ok(())
        })?;
        Ok(filter)
    }

    /// Takes a table in as a whole, durably, with the number of its last group.
    pub(super) fn take(&self, table: &Table, sequence: u64) -> Result<(), StoreError> {
        // The database's own thread merges tables. Where it failed, they would only become more.
        attempt(&self.place, || self.database.persist(PersistMode::Buffer))?;
        for _ in 0..MERGE_WAITS_MAX {
            if self.records.l0_table_count() < NEW_TABLES_MAX {
                break;
            }
            thread::sleep(MERGE_WAIT);
        }
        let seal = |slot: &Slot| (slot.key.to_vec(), slot.body.as_ref().map(|body| frame::seal(&slot.key, body)));
        let sequence = (SEQUENCE_KEY.to_vec(), Some(sequence_bytes(sequence).to_vec()));
        self.ingest(table.sorted().into_iter().map(seal).chain([sequence]))
    }

    /// Puts pairs in the order of their keys on top, all or nothing, durably.
    pub(super) fn ingest(&self, pairs: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        attempt(&self.place, || {
            let mut ingestion = self.records.start_ingestion()?;
            for (key, value) in pairs {
                match value {
                    Some(value) => ingestion.write(key, value)?,
                    None => ingestion.write_tombstone(key)?,
                }
            }
            ingestion.finish()
        })
    }

    pub(super) fn get(&self, stored: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(attempt(&self.place, || self.records.get(stored))?.map(|bytes| bytes.to_vec()))
    }

    /// Every pair but the number of the last group.
    pub(super) fn pairs(&self) -> impl Iterator<Item = Result<(fjall::Slice, fjall::Slice), StoreError>> + '_ {
        let pairs =
            self.records.iter().map(|guard| guard.into_inner().map_err(|error| store_error(&self.place, &error)));
        pairs.filter(|pair| !matches!(pair, Ok((key, _)) if &**key == SEQUENCE_KEY))
    }

    /// Every pair as of now but the number of the last group, in batches of about so many bytes.
    pub(super) fn batches(
        &self,
        batch_bytes: usize,
    ) -> impl Iterator<Item = Result<Vec<StoredPair>, StoreError>> + use<> {
        let mut pairs = self.database.snapshot().iter(&self.records);
        let mut is_over = false;
        // Dropped behind the iterator; it must not be the last one to hold the database.
        let tree = self.clone();
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let batch = attempt(&tree.place, || {
                let (mut batch, mut bytes) = (Vec::new(), 0);
                while bytes < batch_bytes {
                    let Some((key, value)) = pairs.next().map(Guard::into_inner).transpose()? else { break };
                    if &*key != SEQUENCE_KEY {
                        bytes += key.len() + value.len();
                        batch.push(StoredPair { key: key.to_vec(), value: Some(value.to_vec()) });
                    }
                }
                Ok(batch)
            });
            is_over = batch.as_ref().map_or(true, Vec::is_empty);
            (!is_over || batch.is_err()).then_some(batch)
        })
    }

    /// Bytes of its tables.
    pub(super) fn bytes(&self) -> u64 {
        self.records.disk_space()
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
