// SPDX-License-Identifier: Apache-2.0

//! Hashes that can be added up.
//!
//! The hash of a set is the sum, modulo 2^128, of the hashes of its elements. So it
//! follows a set at the cost of the change, in any order, and an element leaves as it
//! came. It takes the place of Merkle trees: two replicas of a log that claim the same
//! operations and differ in this sum have lost or damaged something.
//!
//! Elements are hashed with SipHash-1-3 (Aumasson and Bernstein, INDOCRYPT 2012) with
//! 128 bits of result. Two sets that differ by accident agree with probability 2^-128.
//! Against malice this proves little: the sum is no cryptographic set hash, who knows
//! the key finds a set with a given sum by the generalised birthday attack (Wagner,
//! CRYPTO 2002) in far less than 2^64 steps, and the default key is public. Who could
//! gain by that is a member that writes such a set *in its own log*, and he can tell
//! different nodes different things anyway. What a member may write is settled
//! elsewhere, by signatures and trust.

use crate::delta::Add;
use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::pair::Pair;

/// The key of the hash. All nodes of a cluster need the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditKey(pub u64, pub u64);

impl Default for AuditKey {
    /// The letters "barrel_p2p audit".
    fn default() -> Self {
        Self(
            u64::from_le_bytes(*b"barrel_p"),
            u64::from_le_bytes(*b"2p audit"),
        )
    }
}

impl AuditKey {
    /// The hash of an entry: of its dot, its time, its writer, its key and its value.
    pub fn entry(&self, add: &Add) -> u128 {
        self.parts(add.seq, add.hlc, add.writer, &add.pair)
    }

    /// The same, of its parts.
    pub fn parts(&self, seq: u64, hlc: Hlc, writer: Option<OriginKey>, pair: &Pair) -> u128 {
        let mut sip = Sip::new(self);
        sip.word(seq);
        sip.word(hlc.to_u64());
        if let Some(writer) = writer {
            sip.number(u128::from_be_bytes(writer.0));
        }
        sip.word(pair.key().len() as u64);
        sip.bytes(pair.key());
        sip.bytes(pair.value());
        sip.finish()
    }

    /// The hash of a list of numbers.
    pub fn words(&self, words: impl IntoIterator<Item = u64>) -> u128 {
        let mut sip = Sip::new(self);
        words.into_iter().for_each(|word| sip.word(word));
        sip.finish()
    }
}

/// SipHash-1-3-128 over words. Strings of bytes are filled up with zeros to whole
/// words; their length is hashed before, or follows from the whole.
struct Sip {
    v: [u64; 4],
    length: u64,
}

impl Sip {
    fn new(key: &AuditKey) -> Self {
        let AuditKey(k0, k1) = *key;
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            length: 0,
        }
    }

    fn word(&mut self, word: u64) {
        self.length += 8;
        self.compress(word);
    }

    fn number(&mut self, number: u128) {
        self.word(number as u64);
        self.word((number >> 64) as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.compress(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.compress(u64::from_le_bytes(last));
        }
        self.length += bytes.len() as u64;
    }

    fn compress(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    fn finish(mut self) -> u128 {
        // The paper puts the length into the top byte of the last word; all of it here.
        self.compress(self.length);
        self.v[2] ^= 0xee;
        let low = self.half();
        self.v[1] ^= 0xdd;
        let high = self.half();
        u128::from(high) << 64 | u128::from(low)
    }

    fn half(&mut self) -> u64 {
        for _ in 0..3 {
            self.round();
        }
        self.v.iter().fold(0, |sum, v| sum ^ v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::hash::{DefaultHasher, Hasher};

    /// The standard library's hash is SipHash-1-3 with 64 bits of result and a zero key.
    #[test]
    fn the_rounds_are_those_of_siphash() {
        for count in 0..9u64 {
            let mut theirs = DefaultHasher::new();
            let mut ours = Sip::new(&AuditKey(0, 0));
            ours.v[1] ^= 0xee;
            for word in 0..count {
                theirs.write(&(word * 0x9e37_79b9).to_le_bytes());
                ours.word(word * 0x9e37_79b9);
            }
            ours.compress((count * 8) << 56);
            ours.v[2] ^= 0xff;
            assert_eq!(ours.half(), theirs.finish());
        }
    }

    #[test]
    fn entries_that_differ_in_one_field_have_different_hashes() {
        let entry = |seq, hlc, writer, key: &str, value: &str| {
            AuditKey::default().entry(&Add {
                seq,
                hlc: Hlc::from_u64(hlc),
                writer,
                pair: Pair::new(key.as_bytes(), value.as_bytes()),
            })
        };
        let hashes = [
            entry(1, 2, None, "name", "pid"),
            entry(2, 2, None, "name", "pid"),
            entry(1, 3, None, "name", "pid"),
            entry(1, 2, Some(7.into()), "name", "pid"),
            entry(1, 2, None, "nam", "epid"),
            entry(1, 2, None, "name", "pie"),
            entry(1, 2, None, "name", "pid\0"),
            entry(1, 2, None, "name", ""),
        ];
        assert_eq!(BTreeSet::from(hashes).len(), hashes.len());
    }
}
