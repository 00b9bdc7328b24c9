//! Things by name, found by a hash and told in the order of their names.
//!
//! A hash with a hundred thousand fields is a usual thing. In a tree of names each search would follow some thirty
//! pointers to names, each a wait for memory; here it follows one. Whoever wants the order pays for sorting.

use core::fmt;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

/// A key with a name. Keys of one name may differ in more than that; they are found side by side.
pub(crate) trait Named: Ord {
    /// The name.
    fn name(&self) -> &[u8];
}

impl Named for Box<[u8]> {
    fn name(&self) -> &[u8] {
        self
    }
}

/// Values by keys with names.
#[derive(Clone)]
pub(crate) struct Index<K, V> {
    table: HashTable<(K, V)>,
}

fn rehash<K: Named, V>((key, _): &(K, V)) -> u64 {
    xxh3_64(key.name())
}

impl<K: Named, V> Index<K, V> {
    /// The value of the key that has this name and of which `is` is true, with the key.
    pub(crate) fn get(&self, name: &[u8], is: impl Fn(&K) -> bool) -> Option<(&K, &V)> {
        let found = self.table.find(xxh3_64(name), |(key, _)| key.name() == name && is(key));
        found.map(|(key, value)| (key, value))
    }

    /// All under one name, in no order.
    pub(crate) fn under(&self, name: &[u8]) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter_hash(xxh3_64(name)).filter(move |(key, _)| key.name() == name).map(|(key, value)| (key, value))
    }

    /// Changes the value of the key that has this name and of which `is` is true, or one that `make` makes; it stays if
    /// `change` says so.
    pub(crate) fn change<R>(
        &mut self,
        name: &[u8],
        is: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
        change: impl FnOnce(&mut V) -> (R, bool),
    ) -> R {
        let found = self.table.entry(xxh3_64(name), |(key, _)| key.name() == name && is(key), rehash);
        match found {
            Entry::Occupied(mut entry) => {
                let (result, stays) = change(&mut entry.get_mut().1);
                if !stays {
                    entry.remove();
                }
                result
            }
            Entry::Vacant(entry) => {
                let (key, mut value) = make();
                let (result, stays) = change(&mut value);
                if stays {
                    entry.insert((key, value));
                }
                result
            }
        }
    }

    /// Puts in a value, in the place of one that has an equal key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.table.entry(xxh3_64(key.name()), |(other, _)| *other == key, rehash) {
            Entry::Occupied(mut entry) => entry.get_mut().1 = value,
            Entry::Vacant(entry) => {
                entry.insert((key, value));
            }
        }
    }

    /// Takes over everything from another one, in the place of what has an equal key.
    pub(crate) fn extend(&mut self, other: Self) {
        other.table.into_iter().for_each(|(key, value)| self.insert(key, value));
    }

    /// Keeps what `stays` says of. O(n).
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&K, &mut V) -> bool) {
        self.table.retain(|(key, value)| stays(key, value));
    }

    /// Everything in the order of keys. O(n log n).
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut all: Vec<(&K, &V)> = self.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter()
    }

    /// Everything, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter().map(|(key, value)| (key, value))
    }

    /// Everything, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.table.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self { table: HashTable::new() }
    }
}

impl<K: Named, V: PartialEq> PartialEq for Index<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let has = |(key, value): (&K, &V)| {
            other.get(key.name(), |found| found == key).is_some_and(|(_, found)| found == value)
        };
        self.len() == other.len() && self.iter().all(has)
    }
}

impl<K: Named, V: Eq> Eq for Index<K, V> {}

impl<K: Named + fmt::Debug, V: fmt::Debug> fmt::Debug for Index<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.sorted()).finish()
    }
}

impl<K: Named, V> FromIterator<(K, V)> for Index<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut index = Self::default();
        pairs.into_iter().for_each(|(key, value)| index.insert(key, value));
        index
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Numbers = Index<Box<[u8]>, u32>;

    fn name(number: u32) -> Box<[u8]> {
        number.to_string().into_bytes().into()
    }

    fn put(index: &mut Numbers, key: u32, value: u32) {
        index.change(&name(key), |_| true, || (name(key), 0), |found| (*found = value, value > 0));
    }

    #[test]
    fn it_holds_what_a_tree_holds() {
        let (mut index, mut tree) = (Numbers::default(), BTreeMap::new());
        let mut state = 7_u32;
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (key, value) = (state >> 8 & 0x1ff, state >> 20 & 3);
            put(&mut index, key, value);
            // 0 does not stay.
            if value == 0 {
                tree.remove(&name(key))
            } else {
                tree.insert(name(key), value)
            };
        }
        assert_eq!(index.len(), tree.len());
        assert!(index.sorted().eq(tree.iter()), "in the order of names");
        let same: Numbers = tree.clone().into_iter().rev().collect();
        assert_eq!(index, same, "whatever the order in which it came to be");
        assert!((0..0x200).all(|key| index.get(&name(key), |_| true).map(|(_, value)| value) == tree.get(&name(key))));
    }

    #[test]
    fn of_two_equal_keys_the_later_value_counts() {
        let mut index: Numbers = [(name(1), 1), (name(2), 2)].into_iter().collect();
        index.extend([(name(2), 3), (name(4), 4)].into_iter().collect());
        assert_eq!(format!("{index:?}"), "{[49]: 1, [50]: 3, [52]: 4}");
        index.retain(|_, value| *value != 3);
        assert_ne!(index, Numbers::default());
        assert!(index.get(&name(2), |_| true).is_none() && index.get(&name(4), |_| false).is_none());
    }
}
