//! Taking over what reads from a database that does not read as a whole.

use std::fs;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::{Keyspace, PersistMode};

use super::{UNPLACED_KEY, attempt, open_database};
use crate::StoreError;

/// Pairs of one write into the new database: bounds memory.
const PAIRS: usize = 256;

/// True when every block reads.
pub(super) fn reads(place: &Path, records: &Keyspace) -> Result<bool, StoreError> {
    let read = attempt(place, || records.iter().try_for_each(|guard| guard.into_inner().map(drop)));
    match read {
        Ok(()) => Ok(true),
        Err(StoreError::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies what reads into a new database at `to`: from the first key to the first block that does not read, and from
/// the last key back to the last such block. What lies between is left; peers have it.
pub(super) fn copy(records: &Keyspace, to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(|error| StoreError::io("remove", to, &error))?;
    }
    let (database, rest) = attempt(to, || open_database(to))?;
    let mut last = None;
    let put = |pairs: Vec<(Vec<u8>, Vec<u8>)>| {
        let mut batch = database.batch();
        for (key, value) in pairs {
            batch.insert(&rest, key, value);
        }
        attempt(to, || batch.commit())
    };
    let mut forwards = records.iter();
    loop {
        let pairs = readable(&mut forwards);
        let Some((key, _)) = pairs.last() else { break };
        last = Some(key.clone());
        put(pairs)?;
    }
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    let mut backwards = records.range::<Vec<u8>, _>((from, Bound::Unbounded)).rev();
    loop {
        let pairs = readable(&mut backwards);
        if pairs.is_empty() {
            break;
        }
        put(pairs)?;
    }
    // Before the new database takes the place of the old one: the loss must not be forgotten in between.
    attempt(to, || rest.insert(UNPLACED_KEY, UNPLACED_KEY))?;
    attempt(to, || database.persist(PersistMode::SyncAll))
}

/// The next pairs, as far as they read. The iterator is not asked again behind an error, but for nothing.
fn readable(guards: &mut dyn Iterator<Item = fjall::Guard>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    while pairs.len() < PAIRS {
        let next = catch_unwind(AssertUnwindSafe(|| guards.next().map(fjall::Guard::into_inner)));
        match next {
            Ok(Some(Ok((key, value)))) => pairs.push((key.to_vec(), value.to_vec())),
            Ok(Some(Err(_)) | None) | Err(_) => break,
        }
    }
    pairs
}
