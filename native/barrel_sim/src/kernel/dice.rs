//! Chance, in integers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Seeded dice. No floating point number takes part, so that they fall alike everywhere.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice that fall as this seed says.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`, or 0 when there is none. The bias is below 2^-32 for limits
    /// below 2^32.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.any()) * u128::from(limit)) >> 64) as u64
    }

    /// An index into a slice of this length, which is not empty.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True in so many of a million cases.
    pub fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.index(all.len())])
    }

    /// A random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = self.index(last + 1);
            all.swap(last, other);
        }
    }
}

const FIRST: u64 = 0xbf58_476d_1ce4_e5b9;
const SECOND: u64 = 0x94d0_49bb_1331_11eb;

/// A number that looks random, another one for each (the finalizer of SplitMix64).
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(FIRST);
    let value = (value ^ (value >> 27)).wrapping_mul(SECOND);
    value ^ (value >> 31)
}

/// What was mixed.
#[must_use]
pub const fn unmix(value: u64) -> u64 {
    let value = unshift(value, 31).wrapping_mul(inverse(SECOND));
    let value = unshift(value, 27).wrapping_mul(inverse(FIRST));
    unshift(value, 30)
}

const fn unshift(value: u64, by: u32) -> u64 {
    let mut answer = value;
    let mut known = by;
    while known < u64::BITS {
        answer = value ^ (answer >> by);
        known += by;
    }
    answer
}

/// The inverse of an odd number modulo 2^64: each step doubles the bits that are right (Newton).
const fn inverse(odd: u64) -> u64 {
    let mut answer = odd;
    let mut right = 3;
    while right < u64::BITS {
        answer = answer.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(answer)));
        right *= 2;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_mixed_comes_back() {
        for value in (0..10_000).chain([u64::MAX, u64::MAX - 1, 1 << 63]) {
            assert_eq!(unmix(mix(value)), value);
        }
    }

    #[test]
    fn numbers_stay_below_the_limit_and_reach_all_of_it() {
        let mut dice = Dice::new(1);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[dice.below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(dice.below(0), 0);
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut all: Vec<u32> = (0..100).collect();
        Dice::new(3).shuffle(&mut all);
        assert_ne!(all, (0..100).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
