// SPDX-License-Identifier: Apache-2.0

//! What is known of a member: its card, and what is claimed about it.

use std::sync::Arc;
use std::time::Duration;

/// The highest beat that is believed. A member that has come so far begins a new
/// incarnation, so nobody can say a number that it cannot go beyond. At one
/// refutation a second it takes half a year.
pub const MAX_BEAT: u32 = (1 << 24) - 1;

/// The longest name, in bytes: what the Erlang distribution carries.
pub const MAX_NAME: usize = 255;

/// What liveness needs of a signed record, which somebody else has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The name the member goes by.
    pub name: Arc<str>,
    /// Which life of the member: rises when it starts, or leaves and joins again.
    pub incarnation: u64,
    /// Which version of the record within the incarnation.
    pub seq: u64,
    /// How long the record is good, from the moment a node first sees this `seq`.
    pub ttl: Duration,
    /// The operator placed the key for this name. Local knowledge, not a part of
    /// the record.
    pub pinned: bool,
}

impl Card {
    /// What orders the records of one key.
    pub(crate) fn version(&self) -> (u64, u64) {
        (self.incarnation, self.seq)
    }
}

/// How a member fares, from good to gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nobody says otherwise.
    Alive,
    /// Somebody lost it and it has not answered yet.
    Suspect,
    /// It has not answered in time. Hidden, not forgotten.
    Unreachable,
    /// It has said goodbye. Final for the incarnation, whatever the beat.
    Left,
}

/// The unit that nodes tell each other.
///
/// The derived order is for maps. Which of two claims about one member is the
/// younger, [`supersedes`](Self::supersedes) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim<P> {
    /// Whom it is about.
    pub member: P,
    /// Which life of the member.
    pub incarnation: u64,
    /// How often the member has refuted within that life. Only the member raises it.
    pub beat: u32,
    /// What is claimed.
    pub status: Status,
}

impl<P> Claim<P> {
    /// The place in the order of precedence: incarnation, then `Left`, then beat,
    /// then status.
    fn rank(&self) -> (u64, bool, u32, Status) {
        let left = self.status == Status::Left;
        (self.incarnation, left, self.beat, self.status)
    }

    /// Whether this claim takes the place of `other`, about the same member.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(incarnation: u64, beat: u32, status: Status) -> Claim<u8> {
        Claim {
            member: 1,
            incarnation,
            beat,
            status,
        }
    }

    #[test]
    fn precedence_is_incarnation_then_beat_then_status() {
        let rising = [
            claim(1, 0, Status::Alive),
            claim(1, 0, Status::Suspect),
            claim(1, 0, Status::Unreachable),
            claim(1, 1, Status::Alive),
            claim(1, 9, Status::Unreachable),
            claim(1, 0, Status::Left),
            claim(2, 0, Status::Alive),
        ];
        for (at, younger) in rising.iter().enumerate() {
            assert!(!younger.supersedes(younger));
            for older in &rising[..at] {
                assert!(younger.supersedes(older), "{younger:?} over {older:?}");
                assert!(!older.supersedes(younger), "{older:?} over {younger:?}");
            }
        }
    }
}
