// SPDX-License-Identifier: Apache-2.0

//! Whether somebody we lost is there again, or somewhere else.

use std::time::Duration;

use rand::RngExt;

use crate::active::{pick, sample};
use crate::message::{Component, Message};
use crate::output::Event;
use crate::request::Purpose;
use crate::{HyParView, Peer};

/// Odds while the size of the cluster is not known: those of 1,000 nodes.
const ODDS_UNKNOWN: (u32, u32) = (5, 100);

/// Best odds, in a small cluster.
const BEST_ODDS: (u32, u32) = (1, 4);

impl<P: Peer> HyParView<P> {
    /// Now and then, so that all nodes together ask equally often however many they are. Who
    /// has no neighbour asks each time.
    pub(crate) fn maybe_probe(&mut self, now: Duration) {
        let Some(book) = &self.config.lost_book else {
            return;
        };
        if self.active.is_empty() {
            return self.probe_several(now);
        }
        let (probes, members) = (
            book.probes_per_period,
            u32::try_from(self.members).unwrap_or(u32::MAX),
        );
        let (some, of) = match members {
            0 => ODDS_UNKNOWN,
            _ if probes >= members / BEST_ODDS.1 => BEST_ODDS,
            _ => (probes, members),
        };
        if self.rng.random_ratio(some, of) {
            let missing = self.missing();
            let peer = pick(&mut self.rng, missing.into_iter());
            peer.into_iter().for_each(|peer| self.probe(now, peer));
        }
    }

    /// As many as may be dialled at once.
    pub(crate) fn probe_several(&mut self, now: Duration) {
        let several = self.config.dials_at_once.max(1);
        let missing = self.missing();
        let peers = sample(&mut self.rng, missing.into_iter(), several);
        peers.into_iter().for_each(|peer| self.probe(now, peer));
    }

    /// Lost peers and contacts that are nowhere in sight.
    fn missing(&self) -> Vec<P> {
        let seeds = self.lost.seeds().filter(|seed| !self.lost.contains(*seed));
        seeds
            .chain(self.lost.peers())
            .filter(|peer| !self.active.contains(*peer))
            .filter(|peer| !self.requests.contains(*peer) && !self.probing.contains_key(peer))
            .collect()
    }

    fn probe(&mut self, now: Duration, peer: P) {
        self.stats.probes += 1;
        let until = now.saturating_add(self.config.neighbor_timeout);
        self.probing.insert(peer, until);
        let component = self.component();
        self.send(peer, Message::Probe { component });
    }

    pub(crate) fn on_probe(&mut self, from: P) {
        let component = self.component();
        self.send(from, Message::ProbeReply { component });
        self.release(from);
    }

    /// A lost peer of our own component has been found by others. One of another component
    /// becomes a neighbour in any case, but we do so once, and then wait for the news to
    /// cross both: every node at once would tear both to pieces.
    pub(crate) fn on_probe_reply(
        &mut self,
        now: Duration,
        from: P,
        component: Option<Component<P>>,
    ) {
        if self.probing.remove(&from).is_none() {
            return;
        }
        let elsewhere = component.is_some_and(|theirs| self.fingerprint.differs(theirs));
        if self.active.contains(from) || self.requests.contains(from) {
            return;
        }
        if elsewhere && (self.merge_pause == 0 || self.active.is_empty()) {
            if self.request(now, from, Purpose::Merge) {
                let pause = self.config.lost_book.as_ref().map(|book| book.stale_after);
                self.merge_pause = pause.unwrap_or(0);
                self.stats.merges += 1;
                self.event(Event::Merging { with: from });
            }
            return;
        }
        if !elsewhere {
            // A contact is asked by all; it would end in everybody's address book.
            if self.lost.contains(from) {
                self.lost.remove(from);
                self.remember(from, from);
            }
        }
        self.release(from);
        self.fill(now);
    }
}
