//! Randomness from the seed alone: SplitMix64 and xoshiro256** (Blackman and Vigna, 2018), written here so that
//! no change of a library can change what a seed means.

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

/// One step of SplitMix64: also a good mixer of 64 bits.
pub const fn split_mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        let mut state = [0; 4];
        let mut next = seed;
        for word in &mut state {
            next = split_mix(next);
            *word = next;
        }
        Self { state }
    }

    /// A stream of its own for one part of the world, so that a draw more in one part does not shift the others.
    pub fn fork(&mut self, part: u64) -> Self {
        Self::new(self.next_u64() ^ split_mix(part))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// 128 bits.
    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: no division, and the bias is below 2^-32 for the bounds used here.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `length`; 0 for an empty range.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with a probability of `per_mille` in 1,000.
    pub fn per_mille(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1_000) < u64::from(per_mille)
    }

    /// True once in `n` on average; never for 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    /// One of the items; `None` for none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// A number around `mean` with a long tail, as delays have it: mostly below the mean, seldom many times it.
    pub fn long_tailed(&mut self, mean: u64) -> u64 {
        // The product of two uniform draws, scaled to the mean; once in sixteen times four times as long.
        let base = self.below(2 * mean + 1);
        let tail = self.below(2 * mean + 1);
        let drawn = (u128::from(base) * u128::from(tail) / u128::from(mean.max(1))) as u64;
        if self.one_in(16) { drawn * 4 } else { drawn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut random = Random::new(1);
        assert_eq!([random.next_u64(), random.next_u64()], [14_233_695_028_433_725_123, 151_843_346_328_975_388]);
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut random = Random::new(7);
        for _ in 0..10_000 {
            assert!(random.below(10) < 10);
            assert!((5..=9).contains(&random.range(5, 9)));
        }
        assert_eq!(random.below(0), 0);
        assert!(!random.per_mille(0) && random.per_mille(1_000));
    }
}
