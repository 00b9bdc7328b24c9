//! What the fuzz targets share: a bound on what a decoder may allocate, and the ways from an input to what
//! they feed.
//!
//! A decoder must never take more memory than a constant times its input. libFuzzer's own limit only
//! notices gigabytes, so this crate counts: every target runs its decoder inside [`within`].

pub mod database;
pub mod envelope;
pub mod event;
pub mod history;
pub mod machine;
pub mod script;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use crdt::Place;

/// Allowed whatever the input is: room for a decoder's first, empty containers. With less, inputs of a
/// few bytes fail although nothing grew; with much more, a bomb of a few kilobytes passes.
pub const BASE_BYTES: usize = 4096;

/// Runs `decode` on `input` and returns its result.
///
/// # Panics
/// When `decode` held more than `bytes_per_input_byte * input.len() + BASE_BYTES` at one moment, on top
/// of what was allocated before. libFuzzer takes the panic as a finding and keeps the input.
pub fn within<T>(input: &[u8], bytes_per_input_byte: usize, decode: impl FnOnce(&[u8]) -> T) -> T {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let result = decode(input);
    let held = PEAK_BYTES.load(Ordering::Relaxed).saturating_sub(before);
    let bound = bytes_per_input_byte * input.len() + BASE_BYTES;
    assert!(held <= bound, "decoding {} bytes held {held} bytes at once, above the bound of {bound}", input.len());
    result
}

/// A message with its checksum, which nobody finds by trying.
pub fn checked(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&Place::root(body).hash().to_be_bytes());
    bytes
}

/// Bytes asked for and not yet given back. One thread decodes, so relaxed order is enough.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// The greatest `LIVE_BYTES` since [`within`] last began.
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a counter before it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grow(bytes: usize) {
    let live = LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
}

fn shrink(bytes: usize) {
    LIVE_BYTES.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call is passed on to `System` unchanged; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same for `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new may exist at once while the bytes move.
        grow(new_size);
        // SAFETY: as in `alloc`; `pointer` came from `System` through this allocator.
        let moved = unsafe { System.realloc(pointer, layout, new_size) };
        shrink(if moved.is_null() { new_size } else { layout.size() });
        moved
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
