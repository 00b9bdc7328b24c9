//! Keys of objects, rows and records as a disk or a snapshot brings them: one key has one form.
#![no_main]

use crdt::Key;
use fuzz::within;
use libfuzzer_sys::fuzz_target;
use replica::RecordKey;
use replica::host::RowId;

/// A key is its bytes once more.
const MEMORY_FACTOR: usize = 1;
/// A row's key passes through an object's key: its bytes twice.
const ROW_MEMORY_FACTOR: usize = 2;

fuzz_target!(|input: &[u8]| {
    if let Ok(key) = within(input, MEMORY_FACTOR, Key::from_bytes) {
        assert_eq!(key.to_bytes(), input);
        assert!(key.shard() < crdt::keyspace::SHARDS);
    }
    if let Ok(row) = within(input, ROW_MEMORY_FACTOR, RowId::from_bytes) {
        assert_eq!(row.to_bytes(), input);
    }
    if let Ok(key) = within(input, MEMORY_FACTOR, RecordKey::from_bytes) {
        assert_eq!(key.to_bytes(), input);
    }
});
