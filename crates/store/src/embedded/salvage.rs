//! Taking over what reads from a database that does not read as a whole.

use std::fs;
use std::iter;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::{Guard, Keyspace};

use super::tree::Tree;
use crate::StoreError;

/// Copies what reads into a new database at `to`: from the first key to the first block that does not read, and from
/// the last key back to the last such block. What lies between is left; peers have it. The new one is to take the
/// place of the old one, so the loss is noted in it first.
pub(super) fn copy(records: &Keyspace, to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(|error| StoreError::io("remove", to, &error))?;
    }
    let rest = Tree::at(to)?;
    rest.note_loss()?;
    let mut last = None;
    let mut forwards = records.iter();
    rest.ingest(iter::from_fn(|| next(&mut forwards)).inspect(|(key, _)| last = Some(key.clone())))?;
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    // An ingestion wants them in order, and they come backwards: keys first, then each pair again.
    let mut backwards = records.range::<Vec<u8>, _>((from, Bound::Unbounded)).rev();
    let mut keys: Vec<Vec<u8>> = iter::from_fn(|| next(&mut backwards)).map(|(key, _)| key).collect();
    keys.reverse();
    let again = |key: Vec<u8>| {
        let value = catch_unwind(AssertUnwindSafe(|| records.get(&key))).ok()?.ok()??;
        Some((key, Some(value.to_vec())))
    };
    rest.ingest(keys.into_iter().filter_map(again))
}

/// The next pair, if it reads. The iterator is not asked again behind an error, but for nothing.
fn next(guards: &mut dyn Iterator<Item = Guard>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let next = catch_unwind(AssertUnwindSafe(|| guards.next().map(Guard::into_inner)));
    match next {
        Ok(Some(Ok((key, value)))) => Some((key.to_vec(), Some(value.to_vec()))),
        Ok(Some(Err(_)) | None) | Err(_) => None,
    }
}
