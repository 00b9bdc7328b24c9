//! How one record lies in a store with byte keys and byte values.
//!
//! ```text
//! key, as long as it fits:  RecordKey::to_bytes()                     (first byte 0..=11, below 0x80)
//! key, longer:              0x80 | first byte, SHA-256 of the key     (33 bytes)
//! value:                    format 1 (1 byte), checksum (8, little-endian), body
//! body of a short key:      the record's bytes
//! body of a longer key:     length of the key (4, little-endian), the key, the record's bytes
//! checksum:                 XXH3-64 over the stored key and the body, seeded with the stored key's length
//! ```
//!
//! The checksum covers the key too, so bytes that turn up under another key are damage as well. It stands beside the
//! medium's own checksums because those are not asked on every way (Redis has none for a value in memory).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crdt::{BatchId, ReplicaId};
use replica::{Found, Record, RecordKey, WriteGroup};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::StoreError;

/// Longest key that is stored as it is, in bytes. Embedded tables hold 16-bit key lengths; a longer key, which a peer
/// may send, goes by its hash.
pub const KEY_DIRECT_BYTES_MAX: usize = 32 << 10;

/// Longest value and longest key of a record in bytes. Redis ends at 512 MiB a string and the log at 4 GiB; the
/// largest batch has 8 MiB and the largest value 64 MiB, so what is above this is our own bug.
pub const VALUE_BYTES_MAX: usize = 256 << 20;

/// Most bytes of one group, keys and values and [`RECORD_BYTES`] for each. A group is one frame of the log, whose
/// length has 32 bits, and is read back as a whole; the daemon makes groups of 4 MiB and one record.
pub(crate) const GROUP_BYTES_MAX: usize = 1 << 30;

/// What a record may cost beside key and value, in every format.
const RECORD_BYTES: usize = 64;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 9;
const LONG: u8 = 0x80;

/// Changes by stored key, each the last one of its key: the bytes to store, or `None` to remove.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// One stored pair, read.
pub(crate) enum Read {
    /// A record.
    Record(RecordKey, Found),
    /// Damage that cannot be put to a key.
    Unplaced,
}

/// Checks the bounds of a group and its records.
pub(crate) fn check(group: &WriteGroup) -> Result<(), StoreError> {
    let within = |what, bytes: usize, bound: usize| {
        let (is_within, bytes, bound) = (bytes <= bound, bytes as u64, bound as u64);
        if is_within { Ok(()) } else { Err(StoreError::TooLarge { what, bytes, bound }) }
    };
    let mut total = 0;
    for record in &group.records {
        let key = match &record.key {
            RecordKey::Object(key) | RecordKey::Shadow(key) => key.len(),
            RecordKey::Part(key, part) => key.len().saturating_add(part.len()),
            _ => 0,
        };
        let value = record.value.as_ref().map_or(0, Vec::len);
        within("key of a record", key, VALUE_BYTES_MAX)?;
        within("value of a record", value, VALUE_BYTES_MAX)?;
        total += RECORD_BYTES + key + value;
    }
    within("group of records", total, GROUP_BYTES_MAX)
}

/// The changes of groups.
pub(crate) fn changes(groups: Vec<WriteGroup>) -> Changes {
    let mut changes = Changes::new();
    groups.into_iter().flat_map(|group| group.records).for_each(|record| add(&mut changes, record));
    changes
}

/// Adds a change; a later one of the same key replaces it.
pub(crate) fn add(changes: &mut Changes, record: Record) {
    let (stored, body) = parts(record);
    let value = body.map(|body| seal(&stored, &body));
    changes.insert(stored, value);
}

/// The stored key of a change, and the body to store, or `None` to remove.
pub(crate) fn parts(record: Record) -> (Vec<u8>, Option<Vec<u8>>) {
    let key = record.key.to_bytes();
    if key.len() <= KEY_DIRECT_BYTES_MAX {
        return (key, record.value);
    }
    let body = record.value.map(|value| {
        let length = u32::try_from(key.len()).expect("keys above VALUE_BYTES_MAX were refused");
        [&length.to_le_bytes(), key.as_slice(), &value].concat()
    });
    (stored_key(&key).into_owned(), body)
}

/// The key under which a record is stored.
pub(crate) fn stored_key(key: &[u8]) -> Cow<'_, [u8]> {
    if key.len() <= KEY_DIRECT_BYTES_MAX {
        return Cow::Borrowed(key);
    }
    let mut stored = vec![LONG | key.first().copied().unwrap_or_default()];
    stored.extend_from_slice(&Sha256::digest(key));
    Cow::Owned(stored)
}

fn is_long(stored: &[u8]) -> bool {
    stored.first().is_some_and(|tag| tag & LONG != 0)
}

/// A body with the head that guards it.
pub(crate) fn seal(stored: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&checksum(stored, body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn checksum(stored: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::with_seed(stored.len() as u64);
    hasher.update(stored);
    hasher.update(body);
    hasher.digest()
}

/// The body behind a fitting checksum.
fn body<'a>(stored: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
    let (format, sum) = head.split_first()?;
    let sum = u64::from_le_bytes(sum.try_into().ok()?);
    (*format == FORMAT && sum == checksum(stored, body)).then_some(body)
}

/// Reads one stored pair.
pub(crate) fn read(stored: &[u8], bytes: &[u8]) -> Read {
    read_body(stored, body(stored, bytes))
}

/// Reads one pair whose body is known to be whole, or is damaged.
pub(crate) fn read_body(stored: &[u8], body: Option<&[u8]>) -> Read {
    if is_long(stored) {
        let parts = body.and_then(|body| {
            let (length, rest) = body.split_at_checked(4)?;
            rest.split_at_checked(u32::from_le_bytes(length.try_into().ok()?) as usize)
        });
        return match parts.and_then(|(key, value)| Some((RecordKey::from_bytes(key).ok()?, value))) {
            Some((key, value)) => Read::Record(key, Found::Intact(value.to_vec())),
            None => Read::Unplaced,
        };
    }
    match (RecordKey::from_bytes(stored), body) {
        (Ok(key), Some(value)) => Read::Record(key, Found::Intact(value.to_vec())),
        (Ok(key), None) => Read::Record(key, Found::Damaged),
        (Err(_), _) => Read::Unplaced,
    }
}

/// What a single read found under the key that was asked for.
pub(crate) fn found(key: &RecordKey, bytes: &[u8]) -> Found {
    same(key, read(&stored_key(&key.to_bytes()), bytes))
}

/// What was read under the key that was asked for: damage if it is another record.
pub(crate) fn same(key: &RecordKey, read: Read) -> Found {
    match read {
        Read::Record(stored, found) if stored == *key => found,
        _ => Found::Damaged,
    }
}

/// The records that stand for damage without a key: a node that finds them trusts neither its state nor what it knows
/// of its database, and removes them.
pub(crate) fn unplaced() -> [(RecordKey, Found); 2] {
    let nobody = BatchId { replica: ReplicaId(0), seq: 0 };
    [(RecordKey::Object(Vec::new()), Found::Damaged), (RecordKey::Drained(nobody), Found::Damaged)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: RecordKey, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut changes = Changes::new();
        add(&mut changes, Record { key, value: Some(value.to_vec()) });
        let (key, value) = changes.pop_first().unwrap();
        (key, value.unwrap())
    }

    #[test]
    fn short_and_long_keys_round_trip() {
        for length in [0, 1, KEY_DIRECT_BYTES_MAX - 1, KEY_DIRECT_BYTES_MAX, KEY_DIRECT_BYTES_MAX + 9] {
            let key = RecordKey::Object(vec![7; length]);
            let (stored, bytes) = stored(key.clone(), b"value");
            assert!(stored.len() <= KEY_DIRECT_BYTES_MAX);
            let Read::Record(read, found) = read(&stored, &bytes) else { panic!("{length} does not read") };
            assert_eq!((read, found), (key, Found::Intact(b"value".to_vec())));
        }
    }

    #[test]
    fn each_flipped_bit_is_damage() {
        let (key, bytes) = stored(RecordKey::Epoch(4), b"some bytes");
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&key, &bytes), Read::Record(_, Found::Damaged)), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(read(&key, &bytes[..length]), Read::Record(_, Found::Damaged)), "length {length}");
        }
    }

    #[test]
    fn bytes_under_another_key_are_damage() {
        let (_, bytes) = stored(RecordKey::Epoch(4), b"some bytes");
        assert_eq!(found(&RecordKey::Epoch(5), &bytes), Found::Damaged);
        assert_eq!(found(&RecordKey::Epoch(4), &bytes), Found::Intact(b"some bytes".to_vec()));
    }

    #[test]
    fn the_last_change_of_a_key_counts() {
        let mut changes = Changes::new();
        let record = |value: Option<&[u8]>| Record { key: RecordKey::Epoch(1), value: value.map(<[u8]>::to_vec) };
        add(&mut changes, record(Some(b"a")));
        add(&mut changes, record(None));
        assert_eq!(changes.into_values().collect::<Vec<_>>(), [None]);
    }
}
