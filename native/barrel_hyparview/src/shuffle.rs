// SPDX-License-Identifier: Apache-2.0

//! Address books are mixed.

use std::time::Duration;

use crate::active::sample;
use crate::message::{Component, MAX_PEERS, Message};
use crate::{HyParView, Peer};

/// A shuffle of ours that was not answered yet.
#[derive(Clone, Debug)]
pub(crate) struct Shuffled<P> {
    to: P,
    /// What it took from the address book.
    known: Vec<P>,
}

impl<P: Peer> HyParView<P> {
    /// The first step of our walk may have been the last thing a neighbour did. Then another
    /// one gets it: so a node finds out in one period which of its neighbours are dead.
    pub(crate) fn shuffle_again(&mut self, lost: P) {
        if self.shuffled.as_ref().is_some_and(|sent| sent.to == lost) {
            self.shuffle();
        }
    }

    /// Sends ourselves, some neighbours and some of the address book on a random walk.
    pub(crate) fn shuffle(&mut self) {
        self.shuffled = None;
        let Some(to) = self.active.pick(&mut self.rng, &[]) else {
            return;
        };
        let others = self.active.peers().filter(|peer| *peer != to);
        let mut peers = sample(&mut self.rng, others, self.config.shuffle_active);
        let known = self
            .passive
            .sample(&mut self.rng, self.config.shuffle_passive);
        peers.extend(known.iter().copied());
        peers.truncate(MAX_PEERS);
        self.shuffled = Some(Shuffled { to, known });
        self.stats.shuffles += 1;
        let msg = Message::Shuffle {
            origin: self.me,
            ttl: self.config.shuffle_ttl,
            peers,
            component: self.component(),
        };
        self.send(to, msg);
    }

    /// "Decrement the steps that are left; pass it on while there are any and more than one
    /// neighbour; else answer to the origin", not to whom it came from, with as many addresses.
    pub(crate) fn on_shuffle(
        &mut self,
        now: Duration,
        from: P,
        origin: P,
        ttl: u8,
        peers: Vec<P>,
        component: Option<Component<P>>,
    ) {
        if self.active.contains(from) {
            self.hear(component);
        }
        let ttl = ttl.saturating_sub(1);
        let next = self.active.pick(&mut self.rng, &[from, origin]);
        match next {
            Some(next) if ttl > 0 && self.active.len() > 1 => {
                let component = self.component();
                let msg = Message::Shuffle {
                    origin,
                    ttl,
                    peers,
                    component,
                };
                self.relay(now, next, msg);
            }
            // it came back
            _ if origin == self.me => {}
            _ => self.answer_shuffle(now, from, origin, &peers),
        }
    }

    fn answer_shuffle(&mut self, now: Duration, from: P, origin: P, peers: &[P]) {
        let size = (peers.len() + 1).min(MAX_PEERS);
        let mut answer = self.passive.sample(&mut self.rng, size);
        answer.retain(|peer| *peer != origin);
        self.stats.shuffles_answered += 1;
        let msg = Message::ShuffleReply {
            peers: answer.clone(),
            component: self.component(),
        };
        self.relay(now, origin, msg);
        self.release(origin);
        let mut heard = peers.to_vec();
        heard.push(origin);
        self.integrate(now, from, &heard, answer);
    }

    /// One answer to each shuffle; more would be a way to fill our address book.
    pub(crate) fn on_shuffle_reply(
        &mut self,
        now: Duration,
        from: P,
        peers: &[P],
        component: Option<Component<P>>,
    ) {
        let Some(sent) = self.shuffled.take() else {
            return;
        };
        self.hear(component);
        self.integrate(now, from, peers, sent.known);
    }

    /// "Exclude oneself and whom one knows; when the book is full, drop first what was sent
    /// to the other side."
    pub(crate) fn integrate(&mut self, now: Duration, from: P, peers: &[P], mut sent: Vec<P>) {
        for &peer in peers {
            if peer == self.me {
                continue;
            }
            self.sampler.offer(peer);
            if !self.active.contains(peer) {
                self.passive.add(&mut self.rng, peer, from, &mut sent);
            }
        }
        self.exhausted &= peers.is_empty();
        self.fill(now);
    }
}
