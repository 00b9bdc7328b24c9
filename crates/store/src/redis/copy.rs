//! The records in Redis as a whole: read over a connection of its own while they change, and brought back from a backup.

use ::redis::{Value, pipe};

use super::connection::Link;
use super::{Keys, Login, SHARDS, SHARDS_AT_ONCE};
use crate::StoreError;
use crate::archive::ArchiveError;
use crate::copying::{Batches, StoredPair};
use crate::import::{ArchivedPairs, RedisTarget, vacant};

/// Stands in the place of the identity until the first start: so that this start finds a store without its ledger.
const RESTORED: &str = "restored";
/// Bytes of one pipeline at a restore.
const PIPELINE_BYTES: usize = 4 << 20;

/// All pairs, each as of some moment while this is read. The connection is made here, so that one that cannot be had is
/// told at once.
pub(super) fn batches(login: &Login, keys: &Keys) -> Result<Batches, StoreError> {
    let mut link = Link::connect(&login.url, &login.tls)?;
    let keys = keys.clone();
    let mut shards = (0..SHARDS).step_by(SHARDS_AT_ONCE as usize);
    Ok(Box::new(std::iter::from_fn(move || {
        let from = shards.next()?;
        let names: Vec<String> = (from..from + SHARDS_AT_ONCE).map(|shard| keys.shard(shard)).collect();
        let pairs = link.hashes(&names).map(|pairs| {
            let pair = |(key, value)| StoredPair { key, value: Some(value) };
            pairs.into_iter().map(pair).collect()
        });
        if pairs.is_err() {
            shards = (0..0).step_by(1);
        }
        Some(pairs)
    })))
}

/// Brings pairs back to a server that holds nothing under the prefix.
pub(crate) fn import(target: &RedisTarget, batches: ArchivedPairs<'_>) -> Result<(), ArchiveError> {
    let RedisTarget { url, tls, prefix } = target;
    let mut link = Link::connect(url, tls)?;
    let keys = Keys { prefix: format!("{{{prefix}}}") };
    vacant(is_vacant(&mut link, &keys)?, || format!("Redis under {prefix}"))?;
    // First, so that a restore that breaks off is no store that a node would take for its own.
    link.set(&keys.named("store"), RESTORED)?;
    let mut written = Ok(());
    for batch in batches {
        written = batch.and_then(|pairs| put(&mut link, &keys, pairs));
        if written.is_err() {
            break;
        }
    }
    if written.is_err() {
        // The first error is the one that matters; where the server is gone, this does not work either.
        let _ = clear(&mut link, &keys);
    }
    written
}

fn names(keys: &Keys) -> impl Iterator<Item = String> {
    let shards = (0..SHARDS).map(|shard| keys.shard(shard));
    shards.chain(["store", "owner", "sequence"].map(|name| keys.named(name)))
}

fn is_vacant(link: &mut Link, keys: &Keys) -> Result<bool, StoreError> {
    let mut count = pipe();
    count.cmd("EXISTS").arg(names(keys).collect::<Vec<_>>());
    match link.run(&count)? {
        Value::Array(answer) => Ok(answer == [Value::Int(0)]),
        answer => Ok(answer == Value::Int(0)),
    }
}

fn clear(link: &mut Link, keys: &Keys) -> Result<(), StoreError> {
    let mut clear = pipe();
    clear.cmd("UNLINK").arg(names(keys).collect::<Vec<_>>()).ignore();
    link.run(&clear).map(drop)
}

fn put(link: &mut Link, keys: &Keys, pairs: Vec<StoredPair>) -> Result<(), ArchiveError> {
    let (mut pipeline, mut bytes) = (pipe(), 0);
    for StoredPair { key, value } in pairs {
        let shard = keys.shard_of(&key);
        bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        match value {
            Some(value) => pipeline.cmd("HSET").arg(shard).arg(key).arg(value).ignore(),
            None => pipeline.cmd("HDEL").arg(shard).arg(key).ignore(),
        };
        if bytes >= PIPELINE_BYTES {
            link.run(&pipeline)?;
            (pipeline, bytes) = (pipe(), 0);
        }
    }
    if bytes > 0 {
        link.run(&pipeline)?;
    }
    Ok(())
}
