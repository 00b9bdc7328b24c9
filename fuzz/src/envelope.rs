//! Batches around changes that nobody checked: [`crdt::Batch`] can only write what is valid.

use crdt::change::{BATCH_VERSION, MAC_BYTES, seal};
use crdt::{Batch, BatchHeader, BatchId, Hlc, ReplicaId};

/// The MAC of every batch that is made here. Targets check none, or have a signer that takes it.
pub const MAC: [u8; MAC_BYTES] = [7; MAC_BYTES];
/// The key of that MAC.
pub const KEY_ID: u32 = 1;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2 << 5;
const ARRAY: u8 = 4 << 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;

/// The head of a CBOR item: its major type and a number, in the shortest form.
fn head(bytes: &mut Vec<u8>, major: u8, number: u64) {
    let wide = number.to_be_bytes();
    let (mark, length) = match number {
        0..24 => return bytes.push(major | number as u8),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    bytes.push(major | mark);
    bytes.extend_from_slice(&wide[8 - length..]);
}

/// A batch with this header, this number of changes, and these bytes in their place.
pub fn envelope(header: &BatchHeader, change_count: u32, changes: &[u8]) -> Vec<u8> {
    let mut bytes = b"CRB".to_vec();
    bytes.push(BATCH_VERSION);
    head(&mut bytes, ARRAY, 7);
    head(&mut bytes, BYTES, 16);
    bytes.extend_from_slice(&header.id.replica.to_bytes());
    head(&mut bytes, UNSIGNED, header.id.seq);
    bytes.push(if header.more { TRUE } else { FALSE });
    head(&mut bytes, UNSIGNED, header.hlc.0);
    head(&mut bytes, ARRAY, header.context.len() as u64 * 2);
    for (replica, seq) in header.context.iter() {
        head(&mut bytes, BYTES, 16);
        bytes.extend_from_slice(&replica.to_bytes());
        head(&mut bytes, UNSIGNED, seq);
    }
    head(&mut bytes, UNSIGNED, change_count.into());
    head(&mut bytes, BYTES, changes.len() as u64);
    bytes.extend_from_slice(changes);
    bytes.extend_from_slice(&KEY_ID.to_be_bytes());
    bytes.extend_from_slice(&MAC);
    bytes
}

/// A header whose dots may name three replicas.
pub fn sample_header() -> BatchHeader {
    BatchHeader {
        id: BatchId { replica: ReplicaId(1), seq: 9 },
        more: false,
        hlc: Hlc(50),
        context: [(ReplicaId(2), 7), (ReplicaId(3), 300)].into_iter().collect(),
    }
}

/// The bytes of a batch's changes, without the header around them.
///
/// # Panics
/// When [`envelope`] does not write what [`Batch::to_signed_bytes`] writes.
pub fn changes_of(batch: &Batch) -> Vec<u8> {
    let signed = batch.to_signed_bytes(KEY_ID);
    let count = batch.changes.len() as u32;
    let behind = 4 + MAC_BYTES;
    let from = envelope(&batch.header, count, &[]).len() - behind - 1;
    let length_bytes = match signed[from] & 31 {
        24 => 1,
        25 => 2,
        26 => 4,
        _ => 0,
    };
    let changes = signed[from + 1 + length_bytes..signed.len() - 4].to_vec();
    assert_eq!(envelope(&batch.header, count, &changes), seal(signed, MAC));
    changes
}
