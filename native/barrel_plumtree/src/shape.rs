// SPDX-License-Identifier: Apache-2.0

//! Which messages may shape the tree.
//!
//! One message on its way finds a way around in the tree and cuts it in one place. Two
//! at a time that go around it in opposite directions cut it in two places, and what lies
//! between is lost to the tree. Those below ask for the message, which makes new ways
//! around for the next two: under load the tree never comes to rest. So while several are
//! on their way only few of them cut, the same ones everywhere, whichever they are. The others
//! come twice over such a link for a while, which costs copies and loses nothing.
//!
//! A node need not agree with others on how many are on their way: who takes more of them
//! takes all that the others take. And any part of the links that one message would cut may stay.

use std::hash::{Hash, Hasher};

/// Of so many messages that are on their way at one time one shapes the tree, times their number. So
/// the next that does comes when this one has arrived, in two of three cases at least. A guess: a
/// larger number leaves ways around for longer.
const APART: u64 = 4;

/// Whether a message shapes the tree, while so many are on their way with it.
pub(crate) fn shapes<I: Hash>(id: &I, others: usize) -> bool {
    let all = u64::try_from(others).unwrap_or(u64::MAX).saturating_add(1);
    others == 0 || lot(id) <= u64::MAX / all.saturating_mul(APART)
}

/// The same number on every node, and another one for every message.
fn lot<I: Hash>(id: &I) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    id.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a, and the last step of SplitMix64, which carries its low bits up.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ hash >> 31
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    // as on a little-endian machine of 64 bits, everywhere
    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write(&(number as u64).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_alone_always_shapes() {
        assert!((0..1000_u32).all(|id| shapes(&id, 0)));
    }

    #[test]
    fn of_many_one_in_four_times_their_number_does() {
        for others in [1, 9, 99] {
            let of = 40_000 * (others as u32 + 1);
            let some = (0..of).filter(|id| shapes(id, others)).count();
            assert!((9_500..10_500).contains(&some), "{some} with {others}");
        }
    }

    #[test]
    fn who_sees_fewer_on_their_way_takes_all_that_others_take() {
        for id in 0..10_000_u32 {
            for others in 1..20 {
                assert!(!shapes(&id, others) || shapes(&id, others - 1));
            }
        }
    }
}
