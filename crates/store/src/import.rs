//! Making a store out of the records of a backup.
//!
//! What is made has no files that tell of a last run, so the next start finds [`crate::Doubt::NoLedger`] and the node
//! takes a fresh replica id: it went back to an older moment.

use std::path::Path;

use crate::archive::ArchiveError;
use crate::copying::StoredPair;
use crate::redis::RedisTls;
use crate::{StoreError, embedded, redis};

/// Pairs of an archive, in batches.
pub type ArchivedPairs<'a> = &'a mut dyn Iterator<Item = Result<Vec<StoredPair>, ArchiveError>>;

/// A Redis to which records are brought back.
#[derive(Clone)]
pub struct RedisTarget {
    /// As [`crate::RedisOptions::url`].
    pub url: String,
    /// As [`crate::RedisOptions::tls`].
    pub tls: RedisTls,
    /// As [`crate::RedisOptions::prefix`].
    pub prefix: String,
}

/// Makes an embedded store in `folder`, which must not hold one.
///
/// # Errors
/// [`ArchiveError`], [`StoreError::Occupied`]; the folder is to be removed then.
pub fn import_embedded(folder: &Path, pairs: ArchivedPairs<'_>) -> Result<(), ArchiveError> {
    embedded::import(folder, pairs)
}

/// Makes a store in a Redis that holds nothing under the prefix.
///
/// # Errors
/// [`ArchiveError`], [`StoreError::Occupied`]; what was written is removed then, unless the server is gone.
pub fn import_redis(target: &RedisTarget, pairs: ArchivedPairs<'_>) -> Result<(), ArchiveError> {
    redis::import(target, pairs)
}

/// Refuses a place that holds something.
pub(crate) fn vacant(is_vacant: bool, place: impl FnOnce() -> String) -> Result<(), StoreError> {
    if is_vacant { Ok(()) } else { Err(StoreError::Occupied { place: place() }) }
}
