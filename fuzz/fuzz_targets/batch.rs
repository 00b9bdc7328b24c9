//! Batches as a peer sends them: what decodes can be written again, and means the same.
//!
//! The first byte is 0 in front of a whole envelope. Any other number is a number of changes, whose bytes
//! follow: the header around them is made here, so that the fuzzer need not keep CBOR lengths true.
#![no_main]

use crdt::Envelope;
use crdt::change::seal;
use fuzz::envelope::{envelope, sample_header};
use fuzz::within;
use libfuzzer_sys::fuzz_target;

/// The smallest change, a counter's that does nothing, takes 3 bytes on the wire; in memory 208, 16 for its
/// path and none for an empty name: 75 for each byte.
const MEMORY_FACTOR: usize = 80;

fuzz_target!(|input: &[u8]| {
    let Some((count, rest)) = input.split_first() else { return };
    let bytes = if *count == 0 { rest.to_vec() } else { envelope(&sample_header(), u32::from(*count), rest) };
    let decode = |bytes: &[u8]| Envelope::parse(bytes).and_then(|envelope| envelope.to_batch());
    let Ok(batch) = within(&bytes, MEMORY_FACTOR, decode) else { return };
    let first = Envelope::parse(&bytes).expect("it was parsed before");
    let written = seal(batch.to_signed_bytes(first.key_id), first.mac);
    let second = Envelope::parse(&written).expect("own bytes parse");
    assert_eq!((second.key_id, second.mac), (first.key_id, first.mac));
    assert_eq!(second.to_batch(), Ok(batch));
    // CBOR has several forms of one number, and later versions may add fields. Changes have one form.
    assert!(*count == 0 || written == bytes, "one list of changes has one form: {second:?}");
});
