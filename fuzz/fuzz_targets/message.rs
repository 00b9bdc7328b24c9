//! Messages as a peer sends them: one message has one form.
//!
//! The input is a message without its checksum, which is appended here: the fuzzer could not guess it.
#![no_main]

use fuzz::{checked, within};
use libfuzzer_sys::fuzz_target;
use replica::message::Message;

/// A batch takes 2 bytes or more on the wire, if it is empty, and 24 in a list that doubles as it grows (old
/// and new at once: 72): 36 for each byte.
const MEMORY_FACTOR: usize = 40;

fuzz_target!(|input: &[u8]| {
    let bytes = checked(input);
    let Ok(message) = within(&bytes, MEMORY_FACTOR, Message::from_bytes) else { return };
    assert_eq!(message.to_bytes(), bytes, "one message has one form: {message:?}");
});
