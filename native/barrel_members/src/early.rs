// SPDX-License-Identifier: Apache-2.0

//! Claims that came before the record of their member.
//!
//! Records and claims come by different ways, so either can be first. A claim without
//! a signed record is believed by nobody and spread by nobody, but kept for a while.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use crate::card::Claim;

/// The most claims that wait. A tenth of a large cluster joining within a minute,
/// and each with something said about it, is more than anybody has seen.
const LIMIT: usize = 1_024;

/// The most that wait on the word of one peer, so that one cannot use up the room
/// of the others.
const SHARE: usize = 128;

#[derive(Clone, Copy, Debug)]
struct Waiting<P> {
    claim: Claim<P>,
    from: P,
    until: Duration,
}

/// At most one claim for each member, the youngest.
#[derive(Clone, Debug)]
pub(crate) struct Early<P> {
    table: BTreeMap<P, Waiting<P>>,
    /// None ends before.
    next: Option<Duration>,
}

impl<P: Copy + Ord + Debug> Early<P> {
    pub(crate) fn new() -> Self {
        Self {
            table: BTreeMap::new(),
            next: None,
        }
    }

    pub(crate) fn get(&self, member: P) -> Option<Claim<P>> {
        Some(self.table.get(&member)?.claim)
    }

    /// Keeps a claim that supersedes what waits for this member. False if there is
    /// no room.
    pub(crate) fn insert(&mut self, from: P, claim: Claim<P>, until: Duration) -> bool {
        if !self.table.contains_key(&claim.member) {
            let share = self.table.values().filter(|other| other.from == from);
            if self.table.len() >= LIMIT || share.count() >= SHARE {
                return false;
            }
        }
        let waiting = Waiting { claim, from, until };
        self.table.insert(claim.member, waiting);
        self.next = Some(self.next.map_or(until, |next| next.min(until)));
        true
    }

    /// The record has come: what was said of this incarnation. A claim about an
    /// older one goes, one about a younger stays.
    pub(crate) fn take(&mut self, member: P, incarnation: u64) -> Option<Claim<P>> {
        let claim = self.get(member)?;
        if claim.incarnation > incarnation {
            return None;
        }
        self.table.remove(&member);
        (claim.incarnation == incarnation).then_some(claim)
    }

    pub(crate) fn remove(&mut self, member: P) {
        self.table.remove(&member);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.next
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        if self.next.is_some_and(|next| next <= now) {
            self.table.retain(|_, waiting| waiting.until > now);
            self.next = self.table.values().map(|waiting| waiting.until).min();
        }
    }

    pub(crate) fn check(&self) {
        assert!(self.table.len() <= LIMIT);
        let first = self.table.values().map(|waiting| waiting.until).min();
        assert!(first.is_none() || self.next.is_some() && self.next <= first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::Status;

    fn claim(member: u16, incarnation: u64) -> Claim<u16> {
        Claim {
            member,
            incarnation,
            beat: 0,
            status: Status::Unreachable,
        }
    }

    const END: Duration = Duration::from_secs(60);

    #[test]
    fn one_peer_cannot_use_up_the_room_of_the_others() {
        let mut early = Early::new();
        let kept = |early: &mut Early<u16>, from| {
            let base = from * 2_000;
            (base..base + 1_000)
                .filter(|&m| early.insert(from, claim(m, 1), END))
                .count()
        };
        assert_eq!(kept(&mut early, 1), SHARE);
        assert_eq!(kept(&mut early, 2), SHARE);
        early.check();
    }

    #[test]
    fn a_claim_waits_for_its_own_incarnation_and_not_for_ever() {
        let mut early = Early::new();
        early.insert(9, claim(1, 5), END);
        assert_eq!(early.take(1, 4), None);
        assert_eq!(early.take(1, 5), Some(claim(1, 5)));
        early.insert(9, claim(1, 5), END);
        assert_eq!(early.take(1, 6), None);
        assert_eq!(early.get(1), None);
        early.insert(9, claim(2, 5), END);
        early.handle_timeout(END);
        assert_eq!((early.get(2), early.poll_timeout()), (None, None));
    }
}
