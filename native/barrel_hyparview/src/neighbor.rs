// SPDX-License-Identifier: Apache-2.0

//! How a peer becomes a neighbour, and stops being one. Every change of the active view is
//! here, and with it the rules of consent.

use std::time::Duration;

use crate::hyparview::Group;
use crate::message::{Component, Message, Parting, Priority};
use crate::output::{DownReason, Event, Link, Output};
use crate::request::{Purpose, Request};
use crate::{HyParView, Peer};

impl<P: Peer> HyParView<P> {
    /// "Accept a request of high priority always, one of low priority only with a free
    /// place"; and one that we made ourselves, in the other direction.
    pub(crate) fn on_neighbor(
        &mut self,
        now: Duration,
        from: P,
        link: Link,
        priority: Priority,
        component: Option<Component<P>>,
    ) {
        let asked = self.requests.find(from).map(|request| request.purpose);
        let taken = self.active.contains(from)
            || self.has_room()
            || asked.is_some_and(Purpose::is_forced)
            || priority == Priority::High && self.force(now, from);
        if !taken {
            let at_any_price = priority == Priority::High;
            let peers = if at_any_price {
                self.sample_for(from)
            } else {
                self.other_seekers(now, from)
            };
            return self.refuse(from, peers);
        }
        self.hear(component);
        self.welcome(now, from, link);
    }

    /// Those who have a free place like this one, as far as we were asked for one.
    fn other_seekers(&mut self, now: Duration, seeker: P) -> Vec<P> {
        self.seekers.expire(now, self.config.shuffle_period);
        let known = |peer: &P| *peer != seeker && !self.active.contains(*peer);
        let others = self.seekers.peers().filter(known).collect();
        self.seekers.insert(now, seeker);
        others
    }

    /// The peer has taken us in.
    pub(crate) fn on_accepted(
        &mut self,
        now: Duration,
        from: P,
        link: Link,
        component: Option<Component<P>>,
    ) {
        let request = self.requests.take(from);
        if self.active.contains(from) {
            self.hear(component);
            return;
        }
        let placed = request.is_some_and(|request| self.make_place(now, request));
        if placed {
            self.hear(component);
            self.take_in(now, from, link);
        } else {
            self.turn_away(from);
        }
        self.fill(now);
    }

    /// The peer has not taken us in. Were we neighbours, we are not any more: it may have
    /// dropped us between two requests of ours.
    pub(crate) fn on_refused(&mut self, now: Duration, from: P, peers: &[P]) {
        let request = self.requests.take(from);
        #[cfg(feature = "mutants")]
        let keep = self.breaks(crate::config::Mutant::RefusalIgnored);
        #[cfg(not(feature = "mutants"))]
        let keep = false;
        if self.active.contains(from) && !keep {
            let parting = Some(Parting::Unwanted);
            self.drop_neighbor(now, from, DownReason::Disconnected, parting);
        }
        let Some(request) = request else {
            return self.fill(now);
        };
        self.stats.refused_requests += 1;
        // "without deleting it from the passive view", but not again in this pass
        self.refuse_in_this_pass(from);
        self.end_exchange(request);
        self.integrate(now, from, peers, Vec::new());
        self.release(from);
        self.fill(now);
    }

    /// "Move the sender from the active to the passive view." A request of ours that crosses
    /// it stands: its answer is still to come.
    pub(crate) fn on_disconnect(&mut self, now: Duration, from: P, parting: Parting) {
        if parting == Parting::Leaving {
            self.forget(now, from, DownReason::PeerLeft, None);
            return self.fill(now);
        }
        if !self.active.contains(from) {
            return;
        }
        if parting == Parting::Switched {
            self.drop_neighbor(now, from, DownReason::Switched, None);
            self.on_switched(now, from);
        } else {
            self.drop_neighbor(now, from, DownReason::Disconnected, None);
            self.refuse_in_this_pass(from);
        }
        self.fill(now);
    }

    /// Says yes, and takes it in. In this order: what the driver says to a new neighbour must not
    /// come before that it is one.
    pub(crate) fn welcome(&mut self, now: Duration, peer: P, link: Link) {
        self.accept(peer);
        self.take_in(now, peer, link);
    }

    /// Both ends know, or will by an answer or request under way.
    pub(crate) fn take_in(&mut self, now: Duration, peer: P, link: Link) {
        if self.active.contains(peer) {
            return;
        }
        if let Some(request) = self.requests.take(peer) {
            self.end_exchange(request);
        }
        self.probing.remove(&peer);
        while self.active.len() >= self.target() {
            if !self.evict(now) {
                break;
            }
        }
        self.passive.remove(peer);
        self.lost.remove(peer);
        self.refused.remove(&peer);
        self.seekers.remove(peer);
        self.active.push(peer, link);
        self.outputs.push_back(Output::Up { peer, link });
    }

    /// Takes a neighbour out, and says so to whom it concerns. Whoever is not known to be
    /// dead or gone goes to the address book.
    pub(crate) fn drop_neighbor(
        &mut self,
        now: Duration,
        peer: P,
        reason: DownReason,
        tell: Option<Parting>,
    ) {
        if !self.active.remove(peer) {
            return;
        }
        self.outputs.push_back(Output::Down { peer, reason });
        if let Some(parting) = tell {
            self.send(peer, Message::Disconnect { parting });
        }
        match reason {
            DownReason::LinkFailed => {
                self.sampler.forget(&mut self.rng, peer);
                self.lost.insert(now, peer, Duration::ZERO);
            }
            DownReason::Leaving | DownReason::PeerLeft | DownReason::Forgotten => {}
            _ => {
                let rng = &mut self.rng;
                self.passive.add(rng, peer, peer, &mut Vec::new());
            }
        }
        // even if the link has ended: there may be a newer one
        self.release(peer);
        if reason != DownReason::Switched {
            self.partner_lost(peer);
        }
        if reason == DownReason::LinkFailed {
            self.shuffle_again(peer);
        }
        if self.active.is_empty() {
            // who refused asks of low priority may not refuse the next
            self.refused.clear();
        }
    }

    /// Drops somebody young to make room. `false`: there is nobody.
    pub(crate) fn evict(&mut self, now: Duration) -> bool {
        let keep = self.config.eviction_cap.as_ref();
        let keep = keep.map_or(0, |cap| cap.keep_oldest.min(self.target() / 2));
        let Some(peer) = self.active.pick_young(&mut self.rng, keep) else {
            return false;
        };
        self.stats.evictions += 1;
        let parting = Some(Parting::Evicted);
        #[cfg(feature = "mutants")]
        let parting = parting.filter(|_| !self.breaks(crate::config::Mutant::SilentEviction));
        self.drop_neighbor(now, peer, DownReason::Evicted, parting);
        true
    }

    /// Whether `by` may cost us a neighbour now; counts it if one must go.
    pub(crate) fn force(&mut self, now: Duration, by: P) -> bool {
        if self.active.len() < self.target() {
            return true;
        }
        let Some(cap) = &self.config.eviction_cap else {
            return true;
        };
        let group = self.groups.iter().find(|(peer, _)| *peer == by);
        let group = group.map_or(Group::Alone(by), |(_, group)| Group::Named(*group));
        let allowed = self.forced.has(now, group, cap.per_group, cap.refill)
            && self.forced_total.has(now, cap.total, cap.refill);
        if allowed {
            self.forced.take(now, group, cap.refill);
            self.forced_total.take(now, cap.refill);
        } else {
            self.stats.cap_hits += 1;
            self.event(Event::CapHit { by });
        }
        allowed
    }

    /// Whether there is a place that is not kept for the end of an exchange.
    pub(crate) fn has_room(&self) -> bool {
        self.active.len() + self.kept_places() < self.target()
    }

    /// Whether there is still a place for what we asked for, and frees it in an exchange.
    fn make_place(&mut self, now: Duration, request: Request<P>) -> bool {
        match request.purpose {
            Purpose::Join | Purpose::Walk | Purpose::Merge => true,
            Purpose::Repair => self.has_room(),
            Purpose::Ask | Purpose::Link => self.finish_exchange(now, request),
        }
    }

    pub(crate) fn accept(&mut self, peer: P) {
        self.reply(peer, true, Vec::new());
    }

    pub(crate) fn refuse(&mut self, peer: P, peers: Vec<P>) {
        self.reply(peer, false, peers);
        self.release(peer);
    }

    fn reply(&mut self, to: P, accepted: bool, peers: Vec<P>) {
        let component = self.component();
        let msg = Message::NeighborReply {
            accepted,
            peers,
            component,
        };
        self.send(to, msg);
    }

    /// We asked once, but not any more.
    fn turn_away(&mut self, peer: P) {
        #[cfg(feature = "mutants")]
        if self.breaks(crate::config::Mutant::LateAcceptIgnored) {
            return;
        }
        self.part(peer, Parting::Unwanted);
    }

    /// To somebody who is no neighbour and is not being asked.
    pub(crate) fn part(&mut self, peer: P, parting: Parting) {
        self.send(peer, Message::Disconnect { parting });
        self.release(peer);
    }

    /// What a neighbour believes about the component.
    pub(crate) fn hear(&mut self, component: Option<Component<P>>) {
        if let (Some(_), Some(component)) = (&self.config.lost_book, component) {
            self.fingerprint.hear(component);
        }
    }
}
