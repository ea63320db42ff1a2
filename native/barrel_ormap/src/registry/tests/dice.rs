// SPDX-License-Identifier: Apache-2.0

//! Chance that can be repeated.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`, which is not zero.
    pub(super) fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// How many random schedules a test runs: 2,000, or BARREL_SCHEDULES.
pub(super) fn schedules() -> u64 {
    let wished = std::env::var("BARREL_SCHEDULES");
    wished
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(2_000)
}
