// SPDX-License-Identifier: Apache-2.0

//! A shuffled round through the directory that takes no room.
//!
//! SWIM (Das, Gupta, Motivala 2002) probes members in a random order and shuffles anew
//! after each round, so that the time until everybody was probed once has a bound.
//! The shuffled list of ten thousand keys is not kept: a Feistel network turns the
//! numbers 0, 1, 2, ... into a permutation of places in the directory. A member that
//! joins or goes in the middle of a round shifts others by one place; that round may
//! miss one of them or take it twice, the next does not.

/// One round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    key: u64,
    /// Half of the bits of a place.
    half: u32,
    at: u64,
}

/// As many steps as mix eight bits well enough for a probing order.
const STEPS: u64 = 4;

impl Round {
    /// A round through so many places, in an order that `key` decides.
    pub(crate) fn new(places: usize, key: u64) -> Self {
        let bits = usize::BITS - places.saturating_sub(1).leading_zeros();
        Self {
            key,
            half: bits.div_ceil(2).max(1),
            at: 0,
        }
    }

    /// The next place below `places`; none when the round is over.
    pub(crate) fn next(&mut self, places: usize) -> Option<usize> {
        // At most four places are passed over for each one that is there.
        while self.at < 1 << (2 * self.half) {
            let place = self.permute(self.at);
            self.at += 1;
            if let Ok(place) = usize::try_from(place)
                && place < places
            {
                return Some(place);
            }
        }
        None
    }

    fn permute(&self, number: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for step in 0..STEPS {
            let turned = mix(right ^ self.key.rotate_left(16 * step as u32) ^ step << 60) & mask;
            (left, right) = (right, left ^ turned);
        }
        left << self.half | right
    }
}

/// The finishing step of SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(places: usize, key: u64) -> Vec<usize> {
        let mut round = Round::new(places, key);
        std::iter::from_fn(|| round.next(places)).collect()
    }

    #[test]
    fn a_round_takes_every_place_once() {
        for places in [0, 1, 2, 3, 5, 16, 17, 1_000] {
            let mut taken = round(places, 0x1234_5678_9abc_def0);
            taken.sort_unstable();
            assert!(taken.into_iter().eq(0..places));
        }
    }

    #[test]
    fn two_keys_give_two_orders_and_neither_is_the_plain_one() {
        let (a, b) = (round(100, 1), round(100, 2));
        assert_ne!(a, b);
        let in_place = |order: &[usize]| order.iter().enumerate().filter(|(i, p)| i == *p).count();
        assert!(in_place(&a) < 10 && in_place(&b) < 10);
    }

    /// Over many keys each place is first about equally often.
    #[test]
    fn no_place_is_favoured() {
        let mut first = [0; 16];
        for key in 0..16_000 {
            first[round(16, mix(key + 1))[0]] += 1;
        }
        assert!(
            first.iter().all(|count| (800..1_200).contains(count)),
            "{first:?}"
        );
    }
}
