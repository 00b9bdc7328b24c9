//! The one workload that every library gets: the same keys, the same values, the same order.
//!
//! Everything follows from one seed, so a receiver in another process can compute for itself what
//! it must end up with, and no library can be given an easier draw than another.

use std::collections::BTreeMap;

/// Live keys. All of them exist before a clock starts, so that each measured write is an update.
pub(crate) const LIVE_KEYS: usize = 100_000;

/// Bytes of a key. Keys are lower-case letters and digits because the document libraries take only
/// text as a key of a map.
pub(crate) const KEY_BYTES: usize = 10;

/// Bytes of a value. They are random, so no library gains by compressing them.
pub(crate) const VALUE_BYTES: usize = 32;

/// What a cell costs any library that must carry it whole; "beside key and value" subtracts this.
pub(crate) const CELL_BYTES: usize = KEY_BYTES + VALUE_BYTES;

const SEED: u64 = 0x5EED_C0DE_0000_0001;

/// 32 symbols, so that five bits of the generator give one byte of a key without any bias.
const KEY_SYMBOLS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";

/// One write: a key and its new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) value: [u8; VALUE_BYTES],
}

/// What a replica holds, by key; the form in which final values are compared.
pub(crate) type Cells = BTreeMap<Vec<u8>, Vec<u8>>;

/// The keys of the run, from which the loads and the updates are drawn.
pub(crate) struct Workload {
    keys: Vec<[u8; KEY_BYTES]>,
}

impl Workload {
    /// Draws the live keys.
    pub(crate) fn new() -> Self {
        Self::with_keys(LIVE_KEYS)
    }

    /// Draws another number of live keys; a smaller number draws the first of them.
    pub(crate) fn with_keys(key_count: usize) -> Self {
        let mut random = SplitMix64(SEED);
        let keys = (0..key_count).map(|_| random.key()).collect();
        Self { keys }
    }

    /// One cell for each live key: what every replica holds before the clock starts.
    pub(crate) fn load(&self) -> Vec<Cell> {
        let mut random = SplitMix64(SEED ^ 1);
        self.keys.iter().map(|key| Cell { key: *key, value: random.value() }).collect()
    }

    /// The endless sequence of measured writes. A library that is given fewer of them gets a prefix.
    pub(crate) fn updates(&self) -> impl Iterator<Item = Cell> + '_ {
        let mut random = SplitMix64(SEED ^ 2);
        std::iter::repeat_with(move || {
            let index = random.below(self.keys.len());
            Cell { key: self.keys[index], value: random.value() }
        })
    }

    /// What a replica must hold after the load and the first `updates` writes.
    pub(crate) fn expected(&self, updates: usize) -> Cells {
        self.load()
            .into_iter()
            .chain(self.updates().take(updates))
            .map(|cell| (cell.key.to_vec(), cell.value.to_vec()))
            .collect()
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014). Own code, so that
/// an update of a library of random numbers cannot change the workload.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound` by multiplication (Lemire 2019); its bias at these bounds is below
    /// one in 10^14.
    fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.next()) * bound as u128;
        (product >> 64) as usize
    }

    fn key(&mut self) -> [u8; KEY_BYTES] {
        let bits = self.next();
        std::array::from_fn(|place| KEY_SYMBOLS[(bits >> (place * 5)) as usize % KEY_SYMBOLS.len()])
    }

    fn value(&mut self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        for word in value.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_keys_are_distinct() {
        assert_eq!(Workload::new().expected(0).len(), LIVE_KEYS);
    }

    #[test]
    fn updates_repeat_and_stay_within_the_live_keys() {
        let workload = Workload::new();
        let first: Vec<Cell> = workload.updates().take(1_000).collect();
        let again: Vec<Cell> = Workload::new().updates().take(1_000).collect();
        assert_eq!(first, again);
        assert_eq!(workload.expected(1_000).len(), LIVE_KEYS);
    }

    #[test]
    fn the_last_update_of_a_key_is_expected() {
        let workload = Workload::new();
        let last = workload.updates().nth(999).expect("the sequence is endless");
        assert_eq!(workload.expected(1_000)[&last.key.to_vec()], last.value.to_vec());
    }
}
