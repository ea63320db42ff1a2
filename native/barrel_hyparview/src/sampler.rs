// SPDX-License-Identifier: Apache-2.0

//! A reserve of addresses that repetition cannot bias.
//!
//! Each slot has a secret key and holds, of all ids ever heard, the one with the smallest
//! hash under that key (Brahms). A name heard a thousand times counts like one heard once.

use std::hash::{Hash, Hasher};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Debug)]
struct Slot<P> {
    key: u64,
    smallest: Option<(u64, P)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Sampler<P> {
    slots: Vec<Slot<P>>,
}

impl<P: Copy + Ord + Hash> Sampler<P> {
    pub(crate) fn new(rng: &mut ChaCha8Rng, size: usize) -> Self {
        let slot = |_| Slot {
            key: rng.random(),
            smallest: None,
        };
        Self {
            slots: (0..size).map(slot).collect(),
        }
    }

    pub(crate) fn offer(&mut self, peer: P) {
        for slot in &mut self.slots {
            let offered = (hash(slot.key, peer), peer);
            if slot.smallest.is_none_or(|held| offered < held) {
                slot.smallest = Some(offered);
            }
        }
    }

    /// Whoever has it held a dead one, and begins anew under another key.
    pub(crate) fn forget(&mut self, rng: &mut ChaCha8Rng, peer: P) {
        for slot in &mut self.slots {
            if slot.smallest.is_some_and(|(_, held)| held == peer) {
                slot.key = rng.random();
                slot.smallest = None;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.smallest = None);
    }

    /// Some may come twice.
    pub(crate) fn peers(&self) -> impl Iterator<Item = P> {
        self.slots
            .iter()
            .filter_map(|slot| slot.smallest.map(|(_, peer)| peer))
    }
}

fn hash<P: Hash>(key: u64, peer: P) -> u64 {
    let mut mix = Mix(key);
    peer.hash(&mut mix);
    mix.finish()
}

/// The finalizer of SplitMix64 after every eight bytes. The same on every platform, for which
/// reason sizes count as 64 bit.
struct Mix(u64);

impl Mix {
    fn mix(&mut self, word: u64) {
        let mut mixed = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = mixed ^ (mixed >> 31);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_name_that_is_repeated_gains_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut once = Sampler::new(&mut rng, 16);
        (0..100_u32).for_each(|peer| once.offer(peer));
        let mut often = once.clone();
        (0..10_000).for_each(|_| often.offer(7));
        assert!(once.peers().eq(often.peers()));
    }

    #[test]
    fn the_dead_make_room() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sampler = Sampler::new(&mut rng, 4);
        sampler.offer(1_u32);
        assert_eq!(sampler.peers().count(), 4);
        sampler.forget(&mut rng, 1);
        assert_eq!(sampler.peers().count(), 0);
        sampler.offer(2);
        assert_eq!(sampler.peers().count(), 4);
    }

    #[test]
    fn the_hash_is_the_same_everywhere() {
        assert_eq!(hash(1, [7_u8; 16]), hash(1, [7_u8; 16]));
        let mut mix = Mix(1);
        mix.write_usize(16);
        mix.write(&[7; 16]);
        assert_eq!(hash(1, [7_u8; 16]), mix.finish());
    }
}
