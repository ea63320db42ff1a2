// SPDX-License-Identifier: Apache-2.0

//! Four nodes exchange two links for two others.
//!
//! ```text
//!   a === b          a     b        1  a -> c  SwitchAsk { old: b }
//!            becomes ║     ║        2  c -> d  SwitchReplace { initiator: a, old: b }
//!   c === d          c     d        3  d -> b  SwitchLink { initiator: a }
//!                                   4  b drops a, takes d:  Disconnect to a, accepts d
//!                                   5  d drops c, takes b:  Disconnect to c
//!                                   6  c drops d, takes a:  accepts a
//! ```
//!
//! Everybody has as many neighbours as before. `a` begins, at random; `c` is from its address
//! book, so that links between parts that hardly know each other become as frequent as chance
//! would have them. X-BOT (SRDS 2009) has these four steps to make links short; here no
//! link is better than another.
//!
//! Each new link is asked for and accepted, each old one ended by DISCONNECT, so wherever an
//! exchange stops, links are symmetric; what is missing is repaired as usual. A node takes part
//! in one exchange at a time, except as `b`, who decides at once. Each waits a third
//! less than the one before, so that an answer finds somebody waiting.

use std::time::Duration;

use rand::RngExt;

use crate::message::{Message, Parting};
use crate::output::{DownReason, Link};
use crate::request::{Purpose, Request};
use crate::{HyParView, Peer};

/// What we do in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role<P> {
    /// `a`: asked `candidate`, to give up `old`.
    Asked {
        old: P,
        candidate: P,
        until: Duration,
    },
    /// `c`: asked `other` to let us go, for `initiator`, who came by `link`.
    Candidate {
        initiator: P,
        link: Link,
        other: P,
        until: Duration,
    },
    /// `d`: asked `old`, to give up `candidate`.
    Replacing {
        initiator: P,
        old: P,
        candidate: P,
        until: Duration,
    },
}

impl<P> Role<P> {
    pub(crate) fn until(&self) -> Duration {
        match self {
            Self::Asked { until, .. }
            | Self::Candidate { until, .. }
            | Self::Replacing { until, .. } => *until,
        }
    }
}

impl<P: Peer> HyParView<P> {
    /// Step 1, now and then, when nothing else is to do.
    pub(crate) fn maybe_switch(&mut self, now: Duration) {
        let Some(switch) = self.config.switch.clone() else {
            return;
        };
        let idle = self.role.is_none() && self.active.len() == self.target();
        if !idle
            || !self
                .rng
                .random_ratio(u32::from(switch.percent.min(100)), 100)
        {
            return;
        }
        let candidate = self.passive.sample(&mut self.rng, 1).pop();
        let old = self.active.pick(&mut self.rng, &[]);
        let (Some(candidate), Some(old)) = (candidate, old) else {
            return;
        };
        if self.requests.contains(candidate) {
            return;
        }
        let until = now.saturating_add(switch.timeout);
        self.role = Some(Role::Asked {
            old,
            candidate,
            until,
        });
        if self.request(now, candidate, Purpose::Ask) {
            self.stats.switches += 1;
        } else {
            self.role = None;
        }
    }

    /// Step 2.
    pub(crate) fn on_switch_ask(&mut self, now: Duration, from: P, link: Link, old: P) {
        if self.active.contains(from) {
            return self.accept(from);
        }
        let other = self.active.pick(&mut self.rng, &[old]);
        let (Some(switch), Some(other)) = (&self.config.switch, other) else {
            return self.refuse(from, Vec::new());
        };
        let busy = self.role.is_some() || self.requests.contains(from) || self.has_room();
        if busy || self.active.contains(old) {
            return self.refuse(from, Vec::new());
        }
        let until = now.saturating_add(switch.timeout * 2 / 3);
        self.role = Some(Role::Candidate {
            initiator: from,
            link,
            other,
            until,
        });
        let initiator = from;
        self.send(other, Message::SwitchReplace { initiator, old });
    }

    /// Step 3.
    pub(crate) fn on_switch_replace(&mut self, now: Duration, from: P, initiator: P, old: P) {
        if !self.active.contains(from) {
            return;
        }
        let Some(switch) = &self.config.switch else {
            return self.send(from, Message::SwitchRefuse);
        };
        let until = now.saturating_add(switch.timeout / 3);
        let knows = |peer: P| self.active.contains(peer) || self.requests.contains(peer);
        let busy = self.role.is_some() || initiator == self.me || old == self.me || old == from;
        if busy || knows(old) {
            return self.send(from, Message::SwitchRefuse);
        }
        self.role = Some(Role::Replacing {
            initiator,
            old,
            candidate: from,
            until,
        });
        if !self.request(now, old, Purpose::Link) {
            self.role = None;
            self.send(from, Message::SwitchRefuse);
        }
    }

    /// Step 4. It costs us a neighbour on the word of a third, so it counts as force.
    pub(crate) fn on_switch_link(&mut self, now: Duration, from: P, link: Link, initiator: P) {
        if self.active.contains(from) {
            return self.accept(from);
        }
        let willing = self.config.switch.is_some()
            && self.active.contains(initiator)
            && !self.is_partner(initiator)
            && !self.requests.contains(from)
            && self.force(now, from);
        if !willing {
            return self.refuse(from, Vec::new());
        }
        let parting = Some(Parting::Switched);
        self.drop_neighbor(now, initiator, DownReason::Switched, parting);
        self.welcome(now, from, link);
    }

    /// Steps 5 and 6 of the one who asked, whose request was just accepted. `false`: there is
    /// no place any more.
    pub(crate) fn finish_exchange(&mut self, now: Duration, request: Request<P>) -> bool {
        let given_up = match (self.role, request.purpose) {
            (Some(Role::Asked { old, .. }), Purpose::Ask) => old,
            (Some(Role::Replacing { candidate, .. }), Purpose::Link) => candidate,
            _ => return self.has_room(),
        };
        self.role = None;
        if request.purpose == Purpose::Ask {
            self.stats.switched += 1;
        }
        if self.active.len() >= self.target() {
            let parting = Some(Parting::Switched);
            self.drop_neighbor(now, given_up, DownReason::Switched, parting);
        }
        self.active.len() < self.target()
    }

    /// A neighbour went to another one, as was agreed: step 6 of `c`.
    pub(crate) fn on_switched(&mut self, now: Duration, from: P) {
        match self.role {
            Some(Role::Candidate {
                initiator,
                link,
                other,
                ..
            }) if other == from => {
                self.role = None;
                self.welcome(now, initiator, link);
            }
            _ => {}
        }
    }

    pub(crate) fn on_switch_refuse(&mut self, from: P) {
        if matches!(self.role, Some(Role::Candidate { other, .. }) if other == from) {
            self.abandon_exchange();
        }
    }

    /// Places kept for an exchange: `b` has gone, and `c` is still to come.
    pub(crate) fn kept_places(&self) -> usize {
        match self.role {
            Some(Role::Asked { old, .. }) if !self.active.contains(old) => 1,
            _ => 0,
        }
    }

    /// The request that belonged to an exchange has come to nothing.
    pub(crate) fn end_exchange(&mut self, request: Request<P>) {
        let ends = match self.role {
            Some(Role::Asked { candidate, .. }) => {
                request.purpose == Purpose::Ask && candidate == request.peer
            }
            Some(Role::Replacing { old, .. }) => {
                request.purpose == Purpose::Link && old == request.peer
            }
            _ => false,
        };
        if ends {
            self.abandon_exchange();
        }
    }

    /// Gives up our part, and tells the one who waits for us.
    pub(crate) fn abandon_exchange(&mut self) {
        match self.role.take() {
            Some(Role::Candidate { initiator, .. }) if !self.active.contains(initiator) => {
                self.refuse(initiator, Vec::new());
            }
            Some(Role::Replacing { candidate, .. }) if self.active.contains(candidate) => {
                self.send(candidate, Message::SwitchRefuse);
            }
            _ => {}
        }
    }

    /// A neighbour was lost that we need for our part. The place of `b` is refilled if it was
    /// not lost by the exchange itself.
    pub(crate) fn partner_lost(&mut self, peer: P) {
        match self.role {
            Some(Role::Candidate { other, .. }) if other == peer => self.abandon_exchange(),
            Some(Role::Replacing { candidate, .. }) if candidate == peer => self.role = None,
            _ => {}
        }
    }

    /// The link by which `a` came has ended.
    pub(crate) fn initiator_lost(&mut self, peer: P, ended: Link) {
        if matches!(self.role, Some(Role::Candidate { initiator, link, .. })
            if initiator == peer && link <= ended)
        {
            self.role = None;
        }
    }

    pub(crate) fn expire_role(&mut self, now: Duration) {
        if self.role.is_some_and(|role| role.until() <= now) {
            self.abandon_exchange();
        }
    }

    /// Whether our own part depends on this neighbour.
    fn is_partner(&self, peer: P) -> bool {
        match self.role {
            Some(Role::Asked { old, .. }) => old == peer,
            Some(Role::Candidate { other, .. }) => other == peer,
            Some(Role::Replacing { candidate, .. }) => candidate == peer,
            None => false,
        }
    }
}
