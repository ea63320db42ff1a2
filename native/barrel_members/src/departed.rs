// SPDX-License-Identifier: Apache-2.0

//! Incarnations that are over, so that an old record does not bring them back.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use crate::card::{Claim, Status};
use crate::exceptions::fingerprint;

/// As many as the stores remember. Beyond that the oldest is forgotten: a record of
/// it that still goes round comes back as a member that answers no probe.
const LIMIT: usize = 4_096;

#[derive(Clone, Debug)]
struct Departure {
    /// This life and all before it.
    incarnation: u64,
    beat: u32,
    /// Takes part in the exchange of exceptions until then.
    listed: Option<Duration>,
    /// Which departure it was, counted from the first.
    number: u64,
}

/// Who has departed, and whose goodbye is still being told.
#[derive(Clone, Debug)]
pub(crate) struct Departed<P> {
    table: BTreeMap<P, Departure>,
    digest: u128,
    count: u64,
    /// No goodbye ends before.
    next: Option<Duration>,
}

fn goodbye<P: Copy>(member: P, departure: &Departure) -> Claim<P> {
    Claim {
        member,
        incarnation: departure.incarnation,
        beat: departure.beat,
        status: Status::Left,
    }
}

impl<P: Copy + Ord + Debug + Hash> Departed<P> {
    pub(crate) fn new() -> Self {
        Self {
            table: BTreeMap::new(),
            digest: 0,
            count: 0,
            next: None,
        }
    }

    /// The incarnation up to which this member is gone.
    pub(crate) fn get(&self, member: P) -> Option<u64> {
        Some(self.table.get(&member)?.incarnation)
    }

    /// The goodbye of this member, as it would be told.
    pub(crate) fn goodbye(&self, member: P) -> Option<Claim<P>> {
        Some(goodbye(member, self.table.get(&member)?))
    }

    /// Remembers a goodbye; it takes part in the exchange until `listed`.
    pub(crate) fn insert(&mut self, claim: Claim<P>, listed: Option<Duration>) {
        self.remove(claim.member);
        if self.table.len() >= LIMIT {
            let oldest = self.table.iter().min_by_key(|(_, other)| other.number);
            if let Some((&oldest, _)) = oldest {
                self.remove(oldest);
            }
        }
        self.count += 1;
        let departure = Departure {
            incarnation: claim.incarnation,
            beat: claim.beat,
            listed: None,
            number: self.count,
        };
        self.table.insert(claim.member, departure);
        if let Some(until) = listed {
            self.list(claim.member, until);
        }
    }

    /// Lets the goodbye take part in the exchange, for somebody has not heard it.
    pub(crate) fn list(&mut self, member: P, until: Duration) {
        let Some(departure) = self.table.get_mut(&member) else {
            return;
        };
        if departure.listed.replace(until).is_none() {
            let hash = fingerprint(&goodbye(member, departure));
            self.digest = self.digest.wrapping_add(hash);
        }
        self.next = Some(self.next.map_or(until, |next| next.min(until)));
    }

    /// Forgets the member: it is back, or there is no room.
    pub(crate) fn remove(&mut self, member: P) {
        if let Some(departure) = self.table.remove(&member)
            && departure.listed.is_some()
        {
            let hash = fingerprint(&goodbye(member, &departure));
            self.digest = self.digest.wrapping_sub(hash);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.next
    }

    /// Ends the goodbyes that were told long enough.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = None;
        for (&member, departure) in &mut self.table {
            match departure.listed {
                Some(until) if until <= now => {
                    departure.listed = None;
                    let hash = fingerprint(&goodbye(member, departure));
                    self.digest = self.digest.wrapping_sub(hash);
                }
                Some(until) => {
                    self.next = Some(self.next.map_or(until, |next| next.min(until)));
                }
                None => {}
            }
        }
    }

    pub(crate) fn digest(&self) -> u128 {
        self.digest
    }

    /// The goodbyes that take part in the exchange.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Claim<P>> {
        let listed = self
            .table
            .iter()
            .filter(|(_, other)| other.listed.is_some());
        listed.map(|(&member, departure)| goodbye(member, departure))
    }

    pub(crate) fn check(&self) {
        assert!(self.table.len() <= LIMIT);
        let sum = self.iter().map(|claim| fingerprint(&claim));
        assert_eq!(self.digest, sum.fold(0, u128::wrapping_add));
        let first = self.table.values().filter_map(|other| other.listed).min();
        assert!(first.is_none() || self.next <= first && self.next.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(member: u16) -> Claim<u16> {
        Claim {
            member,
            incarnation: 1,
            beat: 0,
            status: Status::Left,
        }
    }

    #[test]
    fn a_goodbye_is_told_for_a_while_and_remembered_for_longer() {
        let mut departed = Departed::new();
        departed.insert(left(1), Some(Duration::from_secs(5)));
        departed.check();
        assert_eq!(departed.iter().count(), 1);
        departed.handle_timeout(Duration::from_secs(5));
        departed.check();
        assert_eq!((departed.iter().count(), departed.digest()), (0, 0));
        assert_eq!(departed.get(1), Some(1));
        assert_eq!(departed.poll_timeout(), None);
    }

    #[test]
    fn the_oldest_is_forgotten_where_there_is_no_room() {
        let mut departed = Departed::new();
        for member in 0..=LIMIT as u16 {
            departed.insert(left(member), None);
        }
        departed.check();
        assert_eq!(departed.get(0), None);
        assert_eq!(departed.get(1), Some(1));
    }
}
