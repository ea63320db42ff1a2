// SPDX-License-Identifier: Apache-2.0

//! Who finds a place where there is none left.
//!
//! Anybody who is let into the cluster can make as many keys as there are places, and
//! sign a record with each. So those whose key the operator has not placed get a share
//! of the places only, and where all are taken, one of them makes room for a member that
//! the operator knows. Among themselves they make room when they are unreachable: a key
//! without a node behind it does not keep its place for long.

use std::fmt::Debug;
use std::hash::Hash;

use crate::card::Status;
use crate::members::Members;
use crate::message::{DownReason, Output, Refused};

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// Whether there is a place for one more member, whose key the operator has placed
    /// or not.
    pub fn has_place(&self, pinned: bool) -> bool {
        self.is_free(pinned) || self.who_makes_room(pinned).is_some()
    }

    /// Makes room for one more, if it has to be made.
    pub(crate) fn make_room(&mut self, pinned: bool) -> Result<(), Refused<P>> {
        if self.is_free(pinned) {
            return Ok(());
        }
        let gone = self.who_makes_room(pinned).ok_or(Refused::Full)?;
        self.forget(gone, DownReason::Displaced);
        self.push(Output::Forget(gone));
        Ok(())
    }

    fn is_free(&self, pinned: bool) -> bool {
        let unknown = self.directory.unknown();
        self.len() < self.config.max_members && (pinned || unknown < self.config.max_unknown)
    }

    /// An unreachable one, or else, for one that the operator knows, the one whose
    /// record ends last: most likely it came last.
    fn who_makes_room(&self, pinned: bool) -> Option<P> {
        let unknown = |member: P| {
            let card = self.card(member);
            member != self.me && card.is_some_and(|card| !card.pinned)
        };
        let mut gone = self
            .exceptions
            .iter()
            .filter(|claim| claim.status == Status::Unreachable);
        let gone = gone.find(|claim| unknown(claim.member));
        if gone.is_some() || !pinned {
            return gone.map(|claim| claim.member);
        }
        let entries = self.directory.iter();
        let entries = entries.filter(|entry| unknown(entry.member));
        let last = entries.max_by_key(|entry| (entry.expires, entry.member));
        last.map(|entry| entry.member)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::card::{Card, Claim};
    use crate::config::Config;

    const NOW: Duration = Duration::ZERO;

    fn card(name: u8, pinned: bool) -> Card {
        Card {
            name: format!("n{name}@host").into(),
            incarnation: 1,
            seq: 1,
            ttl: Duration::from_secs(600 + u64::from(name)),
            pinned,
        }
    }

    /// Node 0 with ten places, five of them for those who are not known.
    fn small() -> Members<u8> {
        let config = Config {
            max_members: 10,
            max_unknown: 5,
            ..Config::default()
        };
        Members::new(0, "n0@host", 1, config, 1)
    }

    fn take(members: &mut Members<u8>, member: u8, pinned: bool) -> Result<(), Refused<u8>> {
        let room = members.has_place(pinned);
        let taken = members.handle_record(NOW, member, card(member, pinned));
        assert_eq!(room, taken != Err(Refused::Full), "it is known before");
        members.check();
        taken
    }

    fn forgotten(members: &mut Members<u8>) -> Vec<u8> {
        let outputs = std::iter::from_fn(|| members.poll_output());
        let gone = outputs.filter_map(|output| match output {
            Output::Forget(member) => Some(member),
            _ => None,
        });
        gone.collect()
    }

    #[test]
    fn a_crowd_of_the_unknown_gets_its_share_and_no_more() {
        let mut members = small();
        let taken = (1..=200).filter(|n| take(&mut members, *n, false).is_ok());
        assert_eq!(taken.collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(forgotten(&mut members), []);
        for known in 201..=204 {
            assert_eq!(take(&mut members, known, true), Ok(()));
        }
        assert_eq!((members.len(), forgotten(&mut members)), (10, vec![]));
    }

    #[test]
    fn a_known_member_always_finds_a_place() {
        let mut members = small();
        (1..=5).for_each(|n| _ = take(&mut members, n, false));
        for known in 100..=108 {
            assert_eq!(take(&mut members, known, true), Ok(()), "{known}");
        }
        assert_eq!(forgotten(&mut members), [5, 4, 3, 2, 1], "the last first");
        assert_eq!(take(&mut members, 109, true), Err(Refused::Full));
        assert_eq!(take(&mut members, 6, false), Err(Refused::Full));
        assert!((100..=108).all(|known| members.card(known).is_some()));
    }

    #[test]
    fn who_is_unreachable_and_unknown_makes_room() {
        let mut members = small();
        (1..=5).for_each(|n| _ = take(&mut members, n, false));
        let claim = Claim {
            member: 3,
            incarnation: 1,
            beat: 0,
            status: Status::Unreachable,
        };
        let _ = members.handle_claim(NOW, 1, claim);
        assert_eq!(take(&mut members, 6, false), Ok(()));
        assert_eq!(forgotten(&mut members), [3]);
        assert_eq!(take(&mut members, 7, false), Err(Refused::Full));
    }
}
