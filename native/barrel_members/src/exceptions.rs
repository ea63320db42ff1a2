// SPDX-License-Identifier: Apache-2.0

//! What is claimed of those who are not plain alive with beat 0.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::card::{Claim, MAX_BEAT, Status};
use crate::sorted::Sorted;

/// 32 bytes for keys of 16: half of a large cluster may be here at once.
#[derive(Clone, Debug)]
struct Exception<P> {
    member: P,
    incarnation: u64,
    /// Since when it is so, in tenths of a second of the clock of this node.
    since: u32,
    /// The beat in the upper 24 bits, then whether this node raised the suspicion,
    /// then the status.
    mark: u32,
}

const MINE: u32 = 4;

/// Tenths of a second: fine enough for suspicions, and they end in groups, so that
/// a thousand of them cost ten looks at the table and not a thousand.
pub(crate) fn tenths(at: Duration) -> u32 {
    u32::try_from(at.as_millis() / 100).unwrap_or(u32::MAX)
}

impl<P: Copy> Exception<P> {
    fn new(claim: Claim<P>, now: Duration, mine: bool) -> Self {
        let status = match claim.status {
            Status::Alive => 0,
            Status::Suspect => 1,
            Status::Unreachable => 2,
            Status::Left => 3,
        };
        let mine = if mine { MINE } else { 0 };
        Self {
            member: claim.member,
            incarnation: claim.incarnation,
            since: tenths(now),
            mark: claim.beat.min(MAX_BEAT) << 8 | mine | status,
        }
    }

    fn claim(&self) -> Claim<P> {
        let status = match self.mark & 3 {
            0 => Status::Alive,
            1 => Status::Suspect,
            2 => Status::Unreachable,
            _ => Status::Left,
        };
        Claim {
            member: self.member,
            incarnation: self.incarnation,
            beat: self.mark >> 8,
            status,
        }
    }
}

/// A suspicion that nobody has refuted yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspicion<P> {
    pub(crate) claim: Claim<P>,
    /// Since when, rounded down to a tenth of a second.
    pub(crate) since: Duration,
    pub(crate) mine: bool,
}

/// The table, with what is counted of it.
#[derive(Clone, Debug)]
pub(crate) struct Exceptions<P> {
    table: Sorted<Exception<P>>,
    digest: u128,
    suspects: usize,
    unreachable: usize,
}

impl<P: Copy + Ord + Debug + Hash> Exceptions<P> {
    pub(crate) fn new() -> Self {
        Self {
            table: Sorted::new(),
            digest: 0,
            suspects: 0,
            unreachable: 0,
        }
    }

    pub(crate) fn get(&self, member: P) -> Option<Claim<P>> {
        let found = self.table.get(|other| other.member.cmp(&member));
        found.map(Exception::claim)
    }

    /// Since when the member is what it is.
    pub(crate) fn since(&self, member: P) -> Option<Duration> {
        let found = self.table.get(|other| other.member.cmp(&member));
        found.map(|found| Duration::from_millis(u64::from(found.since) * 100))
    }

    /// Takes the claim as the truth about its member.
    pub(crate) fn set(&mut self, now: Duration, claim: Claim<P>, mine: bool) {
        if claim.status == Status::Alive && claim.beat == 0 {
            return self.clear(claim.member);
        }
        let order = |other: &Exception<P>| other.member.cmp(&claim.member);
        let exception = Exception::new(claim, now, mine);
        if let Some(old) = self.table.insert(order, exception) {
            self.count(&old.claim(), -1);
        }
        self.count(&claim, 1);
    }

    pub(crate) fn clear(&mut self, member: P) {
        if let Some(old) = self.table.remove(|other| other.member.cmp(&member)) {
            self.count(&old.claim(), -1);
        }
    }

    fn count(&mut self, claim: &Claim<P>, by: isize) {
        let hash = fingerprint(claim);
        self.digest = if by > 0 {
            self.digest.wrapping_add(hash)
        } else {
            self.digest.wrapping_sub(hash)
        };
        match claim.status {
            Status::Suspect => self.suspects = self.suspects.wrapping_add_signed(by),
            Status::Unreachable => self.unreachable = self.unreachable.wrapping_add_signed(by),
            Status::Alive | Status::Left => {}
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn digest(&self) -> u128 {
        self.digest
    }

    pub(crate) fn suspects(&self) -> usize {
        self.suspects
    }

    pub(crate) fn unreachable(&self) -> usize {
        self.unreachable
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Claim<P>> {
        self.table.iter().map(Exception::claim)
    }

    pub(crate) fn nth(&self, at: usize) -> Option<Claim<P>> {
        self.table.nth(at).map(Exception::claim)
    }

    pub(crate) fn suspicions(&self) -> impl Iterator<Item = Suspicion<P>> {
        let suspects = self.table.iter().filter(|other| other.mark & 3 == 1);
        suspects.map(|other| Suspicion {
            claim: other.claim(),
            since: Duration::from_millis(u64::from(other.since) * 100),
            mine: other.mark & MINE != 0,
        })
    }

    pub(crate) fn check(&self) {
        self.table.check(|a, b| a.member < b.member);
        let count = |status| self.iter().filter(|claim| claim.status == status).count();
        assert_eq!(self.suspects, count(Status::Suspect));
        assert_eq!(self.unreachable, count(Status::Unreachable));
        assert_eq!(count(Status::Left), 0, "who has left is no member");
        let plain = |claim: &Claim<P>| claim.status == Status::Alive && claim.beat == 0;
        assert!(!self.iter().any(|claim| plain(&claim)), "no plain ones");
        let sum = self.iter().map(|claim| fingerprint(&claim));
        assert_eq!(self.digest, sum.fold(0, u128::wrapping_add));
    }
}

/// A number for a claim, the same on every machine. Sums of them tell sets apart
/// that differ by accident; a member that wants to collide can, and delays an
/// exchange by that, no more.
pub(crate) fn fingerprint<P: Hash>(claim: &Claim<P>) -> u128 {
    let half = |start: u64| {
        let mut hasher = Fnv(start);
        claim.member.hash(&mut hasher);
        hasher.write_u64(claim.incarnation);
        hasher.write_u32(claim.beat);
        hasher.write_u8(claim.status as u8);
        hasher.finish()
    };
    // The second start is the first one with its bits turned over.
    let start = 0xcbf2_9ce4_8422_2325;
    u128::from(half(start)) << 64 | u128::from(half(!start))
}

/// FNV-1a with a final mixing step. Numbers go in as little-endian bytes and lengths
/// as 64 bits, whatever the machine.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        crate::round::mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(member: u8, beat: u32, status: Status) -> Claim<u8> {
        Claim {
            member,
            incarnation: 1,
            beat,
            status,
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_way() {
        let (mut a, mut b) = (Exceptions::new(), Exceptions::new());
        let now = Duration::from_secs(1);
        a.set(now, claim(1, 0, Status::Suspect), true);
        a.set(now, claim(2, 1, Status::Alive), false);
        a.set(now, claim(1, 3, Status::Unreachable), false);
        b.set(now, claim(1, 3, Status::Unreachable), true);
        assert_ne!(a.digest(), b.digest());
        b.set(Duration::ZERO, claim(2, 1, Status::Alive), false);
        assert_eq!(a.digest(), b.digest());
        a.check();
    }

    #[test]
    fn what_is_plain_again_leaves_nothing() {
        let mut table = Exceptions::new();
        table.set(Duration::ZERO, claim(1, 0, Status::Suspect), true);
        table.set(Duration::ZERO, claim(1, 0, Status::Alive), true);
        assert_eq!((table.len(), table.digest(), table.suspects()), (0, 0, 0));
    }

    #[test]
    fn the_fingerprint_is_the_same_everywhere() {
        let of = |member: [u8; 2]| {
            fingerprint(&Claim {
                member,
                incarnation: 7,
                beat: 8,
                status: Status::Suspect,
            })
        };
        assert_eq!(of([1, 2]), FINGERPRINT);
        assert_ne!(of([2, 1]), FINGERPRINT);
    }

    /// Calculated by another program.
    const FINGERPRINT: u128 = 0x79fb_0a49_0374_8fd7_4b05_a90a_4db4_633d;

    #[test]
    fn an_exception_of_a_sixteen_byte_key_takes_32_bytes() {
        assert!(size_of::<Exception<[u8; 16]>>() <= 32);
    }
}
