//! The database as a whole: read at one moment while it is written, and made anew out of a backup.

use std::fs;
use std::path::Path;

use fjall::{Database, Guard, Keyspace, PersistMode, Readable};

use super::{SEQUENCE_KEY, attempt, open_database};
use crate::StoreError;
use crate::archive::ArchiveError;
use crate::copying::{Batches, StoredPair};
use crate::import::{ArchivedPairs, vacant};

/// A batch is handed on when it has so many bytes: bounds memory.
const BATCH_BYTES: usize = 1 << 20;

/// All pairs as of now. What is read is held by the database until the last batch was taken or this is dropped.
pub(super) fn batches(place: &Path, records: &Keyspace, database: &Database) -> Batches {
    let mut pairs = database.snapshot().iter(records);
    let place = place.to_owned();
    // Dropped behind the iterator, in this order: the keyspace's handle must not be the last one.
    let handles = (records.clone(), database.clone());
    let mut is_over = false;
    Box::new(std::iter::from_fn(move || {
        let _ = &handles;
        if is_over {
            return None;
        }
        let batch = attempt(&place, || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH_BYTES {
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
    }))
}

/// Makes the database in the state folder `folder`.
pub(crate) fn import(folder: &Path, batches: ArchivedPairs<'_>) -> Result<(), ArchiveError> {
    let place = folder.join("records");
    vacant(!place.exists() && !folder.join("ledger").exists(), || folder.display().to_string())?;
    fs::create_dir_all(folder).map_err(|error| StoreError::io("make", folder, &error))?;
    let (database, records) = attempt(&place, || open_database(&place))?;
    for batch in batches {
        let mut changes = database.batch();
        for StoredPair { key, value } in batch? {
            match value {
                Some(value) => changes.insert(&records, key, value),
                None => changes.remove(&records, key),
            }
        }
        attempt(&place, || changes.commit())?;
    }
    attempt(&place, || database.persist(PersistMode::SyncAll))?;
    crate::ledger::sync_folder(folder)?;
    Ok(())
}
