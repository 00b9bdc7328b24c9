//! Decoding takes no more memory than a constant times its input, whatever the input claims.
//!
//! Alone in its binary, because it measures the whole process: the kernel's count of address space, in which
//! a large allocation shows before it is touched. An allocator of our own would need unsafe code.
#![cfg(target_os = "linux")]

use std::fs;

use crdt::change::{MAC_BYTES, seal};
use crdt::pack::{DotTable, Writer};
use crdt::{Batch, BatchHeader, BatchId, Envelope, Hlc, Kind, Object, ReplicaId, RowView, VersionVector};

/// Input of each attempt. glibc reserves up to 64 MiB of address space for a thread's heap, which hides as
/// much of the first allocations: 64 bytes for each byte of input.
const INPUT_BYTES: usize = 1 << 20;
/// Bytes that one byte of input may cost. The dearest are cells of a row with sixteen lives, which one mark
/// stands for: five bytes are a cell of 96, doubled while the list grows, and sixteen dots of 32.
const COST_MAX: usize = 192;

/// The most address space that the process ever had, in bytes.
fn peak_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("VmPeak is there");
    let kibibytes = line.trim().strip_suffix(" kB").expect("in kB");
    kibibytes.parse::<usize>().expect("a number") << 10
}

fn decode_everything(bytes: &[u8]) {
    for kind in Kind::ALL {
        drop(Object::from_bytes(kind, bytes));
    }
    drop(RowView::from_bytes(bytes));
    drop(Envelope::parse(bytes).and_then(|envelope| envelope.to_batch()));
}

/// Bytes behind a table of one replica.
fn behind_a_table(body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.table(&DotTable::new(vec![(ReplicaId(1), 1_000)]));
    writer.raw(body);
    writer.into_bytes()
}

/// A batch whose changes are these bytes, and claim to be as many as fit.
fn in_a_batch(body: &[u8]) -> Vec<u8> {
    let header = BatchHeader {
        id: BatchId { replica: ReplicaId(1), seq: 1_000 },
        more: false,
        hlc: Hlc(5),
        context: VersionVector::new(),
    };
    let signed = Batch { header, changes: Vec::new() }.to_signed_bytes(1);
    // An empty batch ends in: number of changes (1), changes (1), key id (4).
    let mut bytes = signed[..signed.len() - 6].to_vec();
    let count = (body.len() / 3).min(10_000) as u16;
    bytes.push(0x19);
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.push(0x5a);
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&[0; 4]);
    seal(bytes, [0; MAC_BYTES])
}

fn number(number: u64) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.varint(number);
    writer.into_bytes()
}

/// What a hostile sender might repeat: the smallest items of every list, and claims of more than there is.
/// One at a time, so that the patterns themselves do not count.
fn patterns() -> impl Iterator<Item = Vec<u8>> {
    let numbers = [30_000, 1 << 19, u64::MAX >> 1];
    let claims = core::iter::once(Vec::new()).chain(numbers.map(number));
    let items: [&[u8]; 4] = [&[0], &[0, 0, 0, 1, 224], &[2, 0, 0], &[6, 0, 224]];
    let lists = claims.flat_map(move |claim| items.map(|item| (claim.clone(), item)));
    let repeated = lists.flat_map(|(claim, item)| {
        let list = move || item.iter().copied().cycle().take(INPUT_BYTES);
        let behind_zero = [0].into_iter().chain(claim.clone()).chain(list()).collect();
        [claim.into_iter().chain(list()).collect(), behind_zero]
    });
    repeated.chain(core::iter::once_with(row_of_dear_cells))
}

/// One column of cells that hang on sixteen lives each, in falling order: the dearest thing that decodes.
fn row_of_dear_cells() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.varint(16);
    (0..16).rev().for_each(|distance| {
        writer.varint(distance);
        writer.varint(0);
    });
    writer.varint(1);
    writer.bytes(b"c");
    // A dot's index and a stamp take up to three bytes each.
    let cells = INPUT_BYTES as u64 / 9;
    writer.varint(cells);
    for cell in 0..cells {
        // distance, index, stamp, mark of all lives, NULL
        writer.varint(cell / 8_000);
        writer.varint(cell % 8_000);
        writer.varint(cells - cell);
        writer.byte(1);
        writer.byte(224);
    }
    writer.varint(0);
    writer.into_bytes()
}

#[test]
fn decoding_takes_a_constant_times_its_input() {
    let before = peak_bytes();
    for body in patterns() {
        for form in [Vec::clone, |body: &Vec<u8>| behind_a_table(body), |body: &Vec<u8>| in_a_batch(body)] {
            let input = form(&body);
            decode_everything(&input);
            // Memory that was given back is taken again, so the peak belongs to the dearest input so far.
            let taken = peak_bytes() - before;
            assert!(taken <= COST_MAX * INPUT_BYTES, "{taken} bytes for {:?}", &input[..input.len().min(60)]);
        }
    }
    let dear = Object::from_bytes(Kind::Row, &behind_a_table(&row_of_dear_cells()));
    assert!(matches!(dear, Ok(Object::Row(_))), "the dearest row is valid, not {:?}", dear.err());
    println!("at most {} bytes for one", (peak_bytes() - before) / INPUT_BYTES);
}
