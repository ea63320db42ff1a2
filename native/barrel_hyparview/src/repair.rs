// SPDX-License-Identifier: Apache-2.0

//! Free places are filled from the address book.

use std::time::Duration;

use crate::active::pick;
use crate::config::MAX_VIEW;
use crate::message::{Message, Parting, Priority};
use crate::output::{DownReason, Event};
use crate::request::{Purpose, Request};
use crate::switch::Role;
use crate::{HyParView, Peer};

impl<P: Peer> HyParView<P> {
    /// "Take a random entry of the passive view and ask it; when that fails, the next",
    /// until all places are filled or all candidates asked, several at once. A pass ends with
    /// the shuffle period; in the next all are asked again.
    pub(crate) fn fill(&mut self, now: Duration) {
        if self.left {
            return;
        }
        let occupied = self.active.len() + self.kept_places();
        let free = self.target().saturating_sub(occupied);
        let at_once = free.min(self.config.dials_at_once.max(1));
        while self.repairs() < at_once {
            let Some(peer) = self.candidate() else {
                return self.run_out(now);
            };
            if !self.request(now, peer, Purpose::Repair) {
                return;
            }
        }
    }

    fn repairs(&self) -> usize {
        let repairs = |request: &&Request<P>| request.purpose == Purpose::Repair;
        self.requests.iter().filter(repairs).count()
    }

    /// The reserve is for when the address book has nobody.
    fn candidate(&mut self) -> Option<P> {
        let fits = |peer: &P| {
            *peer != self.me
                && !self.active.contains(*peer)
                && !self.requests.contains(*peer)
                && !self.refused.contains(peer)
        };
        let rng = &mut self.rng;
        pick(rng, self.passive.peers().filter(fits))
            .or_else(|| pick(rng, self.sampler.peers().filter(fits)))
    }

    /// Nobody is left to ask. Who has no neighbour at all turns to those it once knew.
    fn run_out(&mut self, now: Duration) {
        if self.exhausted || self.requests.iter().next().is_some() {
            return;
        }
        self.exhausted = true;
        let active = self.active.len();
        if let Some(since) = self.under_filled_since {
            self.event(Event::UnderFilled { since, active });
        }
        if self.active.is_empty() {
            self.probe_several(now);
        }
    }

    /// Asks a peer to be our neighbour. `false`: too much is asked already.
    pub(crate) fn request(&mut self, now: Duration, peer: P, purpose: Purpose) -> bool {
        if self.requests.is_full() && !self.requests.contains(peer) {
            return false;
        }
        let timeout = match (&purpose, &self.config.switch) {
            (Purpose::Ask, Some(switch)) => switch.timeout,
            (Purpose::Link, Some(switch)) => switch.timeout / 3,
            _ => self.config.neighbor_timeout,
        };
        // "High if and only if there is no neighbour"; and one at a time, or several would
        // drop somebody for the same place.
        let urgent = purpose.is_forced()
            || purpose == Purpose::Repair
                && self.active.is_empty()
                && !self.requests.iter().any(|request| request.urgent);
        if let Some(earlier) = self.requests.take(peer) {
            self.end_exchange(earlier);
        }
        self.stats.requests += 1;
        self.ask(Request {
            peer,
            purpose,
            until: now.saturating_add(timeout),
            urgent,
            again: false,
        });
        true
    }

    fn ask(&mut self, request: Request<P>) {
        let component = self.component();
        let priority = if request.urgent {
            Priority::High
        } else {
            Priority::Low
        };
        let msg = match (request.purpose, &self.role) {
            (Purpose::Join, _) => Message::Join,
            (Purpose::Ask, Some(Role::Asked { old, .. })) => Message::SwitchAsk { old: *old },
            (Purpose::Link, Some(Role::Replacing { initiator, .. })) => Message::SwitchLink {
                initiator: *initiator,
            },
            _ => Message::Neighbor {
                priority,
                component,
            },
        };
        self.requests.insert(request);
        self.send(request.peer, msg);
    }

    /// The link was closed, not lost: the peer let it go while we asked. It can hear us
    /// by another one, but is asked only twice.
    pub(crate) fn ask_again(&mut self, peer: P) {
        match self.requests.find(peer) {
            Some(request) if request.again => {
                self.refuse_in_this_pass(peer);
                self.abandon_request(peer);
            }
            Some(request) => self.ask(Request {
                again: true,
                ..request
            }),
            None => {}
        }
    }

    /// No link, or no answer: "delete it from the passive view".
    pub(crate) fn request_failed(&mut self, now: Duration, peer: P) {
        let Some(request) = self.requests.find(peer) else {
            return;
        };
        self.stats.failed_requests += 1;
        let in_exchange = matches!(request.purpose, Purpose::Ask | Purpose::Link);
        if !in_exchange {
            self.passive.remove(peer);
            self.sampler.forget(&mut self.rng, peer);
            self.lost.insert(now, peer, Duration::ZERO);
        }
        self.abandon_request(peer);
    }

    /// Waits no longer for that answer.
    pub(crate) fn abandon_request(&mut self, peer: P) {
        let Some(request) = self.requests.take(peer) else {
            return;
        };
        if request.purpose == Purpose::Join {
            self.event(Event::JoinFailed { contact: peer });
        }
        self.end_exchange(request);
    }

    /// Not before the next pass.
    pub(crate) fn refuse_in_this_pass(&mut self, peer: P) {
        // Repeats within one period cost one refusal each and nothing else.
        if self.refused.len() >= MAX_VIEW {
            self.refused.clear();
        }
        self.refused.insert(peer);
    }

    /// A cluster that was small has grown: one neighbour too many goes in each period.
    pub(crate) fn shrink(&mut self, now: Duration) {
        if self.active.len() > self.target() {
            let peer = self.active.pick(&mut self.rng, &[]);
            if let Some(peer) = peer {
                let parting = Some(Parting::Evicted);
                self.drop_neighbor(now, peer, DownReason::Evicted, parting);
            }
        }
    }
}
