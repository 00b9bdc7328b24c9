//! Epoch records as an operator or a peer brings them: one record has one form.
#![no_main]

use fuzz::within;
use libfuzzer_sys::fuzz_target;
use replica::Epoch;

/// A member takes 2 bytes or more on the wire and 25 in a node of a tree that may be half empty; there are at
/// most 64.
const MEMORY_FACTOR: usize = 32;

fuzz_target!(|input: &[u8]| {
    let Ok(epoch) = within(input, MEMORY_FACTOR, Epoch::from_bytes) else { return };
    assert_eq!(epoch.to_bytes(), input, "one record has one form: {epoch:?}");
});
