//! A fast hash for traces and for the simulator's MACs: not cryptographic, and the same for ever.

use crate::random::split_mix;

/// Collects words and bytes into 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mixer {
    low: u64,
    high: u64,
}

impl Mixer {
    /// A hash under a key.
    pub const fn new(key: u64) -> Self {
        Self { low: split_mix(key), high: split_mix(!key) }
    }

    /// Mixes one word in.
    pub const fn word(&mut self, word: u64) {
        let product = (self.low ^ word) as u128 * (self.high | 1) as u128;
        self.low = (product as u64).rotate_left(29) ^ (product >> 64) as u64 ^ self.high;
        self.high = self.high.wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.low.rotate_left(17);
    }

    /// Mixes bytes in, with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    /// The hash so far.
    pub fn finish(&self) -> u128 {
        (u128::from(split_mix(self.low)) << 64) | u128::from(split_mix(self.high ^ self.low.rotate_left(32)))
    }
}

/// The hash of some bytes under a key.
pub fn hash(key: u64, bytes: &[u8]) -> u128 {
    let mut mixer = Mixer::new(key);
    mixer.bytes(bytes);
    mixer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_changes_the_hash() {
        let mut bytes = vec![7_u8; 100];
        let base = hash(1, &bytes);
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_ne!(hash(1, &bytes), base);
            bytes[at] ^= 1;
        }
        assert_ne!(hash(2, &bytes), base);
        assert_ne!(hash(1, &bytes[..99]), base);
    }
}
