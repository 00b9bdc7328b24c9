//! What was written since the last checkpoint, and a filter of what may lie below: in memory.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a key costs beside its bytes and its body's: its place, and what the allocator adds.
const SLOT_BYTES: usize = 96;

/// Bits of the filter for each key: two of a hundred absent keys seem to be there, which costs a tombstone each.
const FILTER_KEY_BITS: usize = 10;
const FILTER_PROBES: u64 = 4;
/// Keys of a filter's first layer, 160 KiB; each later one is twice as large.
const FILTER_KEYS_MIN: usize = 1 << 17;
/// Bytes of a filter at most: 26 million keys. Above it every key may be there.
const FILTER_BYTES_MAX: usize = 32 << 20;

/// Latest change of each key.
pub(super) struct Table {
    seed: u64,
    slots: HashTable<Slot>,
    bytes: usize,
}

/// One key and its latest change.
pub(super) struct Slot {
    hash: u64,
    pub(super) key: Box<[u8]>,
    /// `None` removes what lies below.
    pub(super) body: Option<Box<[u8]>>,
}

impl Slot {
    fn bytes(&self) -> usize {
        SLOT_BYTES + self.key.len() + self.body.as_ref().map_or(0, |body| body.len())
    }
}

impl Table {
    /// The seed keeps those who choose keys from choosing where they fall.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, slots: HashTable::new(), bytes: 0 }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    /// Puts a body, or a removal that must hide what lies below.
    pub(super) fn put(&mut self, hash: u64, key: Vec<u8>, body: Option<Vec<u8>>) {
        // Without the room that its writer left at its end: that would be most of it.
        let body = body.map(Vec::into_boxed_slice);
        match self.slots.entry(hash, |slot| *slot.key == *key, |slot| slot.hash) {
            Entry::Occupied(mut entry) => {
                let slot = entry.get_mut();
                self.bytes -= slot.bytes();
                slot.body = body;
                self.bytes += slot.bytes();
            }
            Entry::Vacant(entry) => {
                let slot = Slot { hash, key: key.into_boxed_slice(), body };
                self.bytes += slot.bytes();
                entry.insert(slot);
            }
        }
    }

    /// Forgets a key: nothing of it lies below.
    pub(super) fn forget(&mut self, hash: u64, key: &[u8]) {
        if let Ok(entry) = self.slots.find_entry(hash, |slot| *slot.key == *key) {
            self.bytes -= entry.remove().0.bytes();
        }
    }

    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<&Slot> {
        self.slots.find(hash, |slot| *slot.key == *key)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// By key.
    pub(super) fn sorted(&self) -> Vec<&Slot> {
        let mut slots: Vec<&Slot> = self.slots.iter().collect();
        slots.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        slots
    }

    /// Bytes of memory, counted for each key as it is on average.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hashes of all keys that have a body.
    pub(super) fn present(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter(|slot| slot.body.is_some()).map(|slot| slot.hash)
    }
}

/// Hashes of keys that may lie below: a Bloom filter that grows by layers (Almeida et al., "Scalable Bloom Filters").
/// Never wrong about a key that is absent from it; that is what lets a removal vanish with what it removes.
#[derive(Default)]
pub(super) struct Filter {
    layers: Vec<Layer>,
    is_full: bool,
    keys: usize,
}

struct Layer {
    bits: Vec<u64>,
    keys_left: usize,
}

impl Filter {
    pub(super) fn insert(&mut self, hash: u64) {
        if self.may_hold(hash) {
            return;
        }
        if self.layers.last().is_none_or(|layer| layer.keys_left == 0) && !self.grow() {
            return;
        }
        self.keys += 1;
        if let Some(layer) = self.layers.last_mut() {
            layer.keys_left -= 1;
            layer.insert(hash);
        }
    }

    pub(super) fn may_hold(&self, hash: u64) -> bool {
        self.is_full || self.layers.iter().any(|layer| layer.may_hold(hash))
    }

    /// Keys that were put in.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    fn grow(&mut self) -> bool {
        let keys = FILTER_KEYS_MIN << self.layers.len();
        let words: usize = self.layers.iter().map(|layer| layer.bits.len()).sum();
        let more = keys * FILTER_KEY_BITS / 64;
        self.is_full = (words + more) * 8 > FILTER_BYTES_MAX;
        if self.is_full {
            self.layers.clear();
        } else {
            self.layers.push(Layer { bits: vec![0; more], keys_left: keys });
        }
        !self.is_full
    }
}

impl Layer {
    /// Word and bit of each probe.
    fn probes(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let words = self.bits.len() as u64;
        // One word a key: one line of the cache. Bits come from parts of the hash that do not choose the word.
        let word = ((hash >> 32) * words) >> 32;
        let word = usize::try_from(word).expect("it is less than a length");
        (0..FILTER_PROBES).map(move |probe| (word, 1 << ((hash >> (probe * 6)) & 63)))
    }

    fn insert(&mut self, hash: u64) {
        for (word, bit) in self.probes(hash) {
            self.bits[word] |= bit;
        }
    }

    fn may_hold(&self, hash: u64) -> bool {
        self.probes(hash).all(|(word, bit)| self.bits[word] & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_change_counts_and_its_bytes_are_known() {
        let mut table = Table::new(7);
        let put = |table: &mut Table, key: &[u8], body: Option<&[u8]>| {
            table.put(table.hash(key), key.to_vec(), body.map(<[u8]>::to_vec));
        };
        put(&mut table, b"b", Some(b"one"));
        put(&mut table, b"a", Some(b"two"));
        put(&mut table, b"b", Some(b"three"));
        put(&mut table, b"c", None);
        let seen: Vec<_> = table.sorted().iter().map(|slot| (slot.key.to_vec(), slot.body.clone())).collect();
        let expected = [(&b"a"[..], Some(&b"two"[..])), (b"b", Some(b"three")), (b"c", None)];
        assert_eq!(seen, expected.map(|(key, body)| (key.to_vec(), body.map(Box::from))));
        assert_eq!(table.present().count(), 2);
        for key in [b"a", b"b", b"c"] {
            table.forget(table.hash(key), key);
        }
        assert_eq!((table.bytes(), table.slots().count()), (0, 0));
    }

    #[test]
    fn a_filter_forgets_nothing_and_seldom_errs() {
        let hash = |number: u64| xxh3_64_with_seed(&number.to_le_bytes(), 3);
        let mut filter = Filter::default();
        let many = 3 * FILTER_KEYS_MIN as u64;
        (0..many).for_each(|number| filter.insert(hash(number)));
        assert!((0..many).all(|number| filter.may_hold(hash(number))));
        let wrong = (many..2 * many).filter(|number| filter.may_hold(hash(*number))).count();
        assert!((wrong as u64) < many / 10, "{wrong} of {many} absent keys seem to be there");
    }

    #[test]
    fn a_filter_that_is_full_says_that_all_may_be_there() {
        let mut filter = Filter::default();
        while filter.grow() {}
        assert!(filter.may_hold(1) && filter.layers.is_empty());
    }
}
