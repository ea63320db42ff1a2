// SPDX-License-Identifier: Apache-2.0

//! What each peer may say, and what it said wrongly.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use crate::exceptions::tenths;

/// The most peers that are counted. Claims come from neighbours and from partners of
/// an exchange, a few dozen; beyond this the one not heard for longest is forgotten.
const LIMIT: usize = 256;

/// What is known against a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What it said beyond its share, or what no member says.
    pub refused: u32,
    /// What it said about this node and was not so: it said that we are suspect,
    /// unreachable or gone. An honest peer may pass such things on.
    pub false_claims: u32,
}

#[derive(Clone, Debug)]
struct Sender {
    tokens: u32,
    /// When it was heard last, in tenths of a second.
    heard: u32,
    record: Record,
}

/// A bucket of tokens for each peer.
#[derive(Clone, Debug)]
pub(crate) struct Senders<P> {
    table: BTreeMap<P, Sender>,
}

impl<P: Copy + Ord + Debug> Senders<P> {
    pub(crate) fn new() -> Self {
        Self {
            table: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, peer: P) -> Record {
        self.table.get(&peer).map(|s| s.record).unwrap_or_default()
    }

    /// Takes a token of this peer, if it has one. It has `burst` at first and never
    /// more, and gets `rate` a second.
    pub(crate) fn admit(&mut self, now: Duration, peer: P, burst: u32, rate: u32) -> bool {
        let sender = self.sender(now, peer);
        let now = tenths(now);
        sender.tokens = sender.tokens.min(burst);
        let earned = u64::from(now.saturating_sub(sender.heard)) * u64::from(rate) / 10;
        // A peer that speaks often gets its share once it is a whole token.
        if earned > 0 {
            let tokens = u64::from(sender.tokens) + earned;
            sender.tokens = tokens.min(u64::from(burst)) as u32;
            sender.heard = now;
        }
        match sender.tokens.checked_sub(1) {
            Some(rest) => {
                sender.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// Counts against the peer. True the first time.
    pub(crate) fn refuse(&mut self, now: Duration, peer: P) -> bool {
        let record = &mut self.sender(now, peer).record;
        record.refused = record.refused.saturating_add(1);
        record.refused == 1
    }

    /// It has told us something false about us.
    pub(crate) fn falsified(&mut self, now: Duration, peer: P) {
        let record = &mut self.sender(now, peer).record;
        record.false_claims = record.false_claims.saturating_add(1);
    }

    fn sender(&mut self, now: Duration, peer: P) -> &mut Sender {
        if self.table.len() >= LIMIT && !self.table.contains_key(&peer) {
            let oldest = self.table.iter().min_by_key(|(_, sender)| sender.heard);
            if let Some((&oldest, _)) = oldest {
                self.table.remove(&oldest);
            }
        }
        self.table.entry(peer).or_insert_with(|| Sender {
            tokens: u32::MAX,
            heard: tenths(now),
            record: Record::default(),
        })
    }

    pub(crate) fn check(&self) {
        assert!(self.table.len() <= LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_burst_and_then_a_rate() {
        let mut senders = Senders::new();
        let mut admitted = |at: u64| {
            let now = Duration::from_millis(at);
            (0..100).filter(|_| senders.admit(now, 'a', 20, 10)).count()
        };
        assert_eq!(admitted(0), 20);
        assert_eq!(admitted(1_000), 10);
        assert_eq!(admitted(1_050), 0);
        assert_eq!(admitted(1_100), 1);
        assert_eq!(admitted(60_000), 20);
    }

    #[test]
    fn ten_thousand_peers_take_no_more_room_than_the_limit() {
        let mut senders = Senders::new();
        for peer in 0..10_000u32 {
            assert!(senders.admit(Duration::from_millis(u64::from(peer)), peer, 1, 1));
        }
        senders.check();
    }
}
