// SPDX-License-Identifier: Apache-2.0

//! Newcomers, and their walks.

use std::time::Duration;

use crate::message::Message;
use crate::output::{Event, Link};
use crate::request::Purpose;
use crate::{HyParView, Peer};

/// Addresses that a contact gives to somebody it does not take in: as many as a shuffle.
const SAMPLE: usize = 8;

impl<P: Peer> HyParView<P> {
    /// "Add the newcomer even if that means to drop a random neighbour", and start a walk
    /// along each of the other links: one for each, as one alone leaves newcomers
    /// with too few. A contact that gave up many neighbours lately does not add it, but
    /// starts the walks and gives addresses.
    pub(crate) fn on_join(&mut self, now: Duration, joiner: P, link: Link) {
        if self.active.contains(joiner) {
            return self.accept(joiner);
        }
        if self.may_join_here(now, joiner) {
            self.welcome(now, joiner, link);
        } else {
            let peers = self.sample_for(joiner);
            self.refuse(joiner, peers);
            self.remember(joiner, joiner);
        }
        let others: Vec<P> = self.active.peers().filter(|peer| *peer != joiner).collect();
        let ttl = self.config.arwl;
        for to in others {
            self.relay(now, to, Message::ForwardJoin { joiner, ttl });
        }
    }

    fn may_join_here(&mut self, now: Duration, joiner: P) -> bool {
        if self.has_room() {
            return true;
        }
        if let Some(anti_hub) = &self.config.anti_hub {
            let (joins, refill) = (anti_hub.joins, anti_hub.refill);
            if !self.hub.has(now, joins, refill) {
                self.stats.declined_joins += 1;
                self.event(Event::HubDeclined { joiner });
                return false;
            }
            if self.force(now, joiner) {
                self.hub.take(now, refill);
                return true;
            }
            return false;
        }
        self.force(now, joiner)
    }

    /// A step of a walk: "if no steps are left, or there is one neighbour only, add
    /// the newcomer; else, when so many are left, remember it; then pass it on".
    pub(crate) fn on_forward_join(&mut self, now: Duration, from: P, joiner: P, ttl: u8) {
        self.stats.walk_steps += 1;
        if joiner == self.me {
            return;
        }
        self.sampler.offer(joiner);
        let next = self.active.pick(&mut self.rng, &[from, joiner]);
        match next {
            Some(next) if ttl > 0 && self.active.len() > 1 => {
                if ttl == self.config.prwl {
                    self.remember(joiner, from);
                }
                let ttl = ttl - 1;
                self.relay(now, next, Message::ForwardJoin { joiner, ttl });
            }
            _ => self.settle(now, from, joiner),
        }
    }

    /// A walk ends here.
    fn settle(&mut self, now: Duration, from: P, joiner: P) {
        if self.active.contains(joiner) || self.requests.contains(joiner) {
            return;
        }
        let asked = self.force(now, from) && self.request(now, joiner, Purpose::Walk);
        if !asked {
            self.remember(joiner, from);
            self.fill(now);
        }
    }

    /// Into the address book, as far as it belongs there.
    pub(crate) fn remember(&mut self, peer: P, introducer: P) {
        if peer == self.me || self.active.contains(peer) {
            return;
        }
        self.sampler.offer(peer);
        let rng = &mut self.rng;
        self.passive.add(rng, peer, introducer, &mut Vec::new());
    }

    /// Addresses for somebody we cannot take in.
    pub(crate) fn sample_for(&mut self, peer: P) -> Vec<P> {
        let mut peers = self.passive.sample(&mut self.rng, SAMPLE + 1);
        peers.retain(|known| *known != peer);
        peers.truncate(SAMPLE);
        peers
    }
}
