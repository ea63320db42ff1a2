// SPDX-License-Identifier: Apache-2.0

//! What this node says of itself: refutation, new incarnations, renewal of the record.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use crate::card::{Claim, MAX_BEAT, Status};
use crate::members::Members;
use crate::message::{Event, Heard, Output};

/// How far beyond our own an incarnation is believed without a signature. Incarnations
/// are milliseconds of a clock at the start; one that stood at 1970 is off by less
/// than 2^41 of them, 70 years. To use up 64 bits in such steps, at one step in
/// `costly_gap`, takes years.
pub(crate) const MAX_JUMP: u64 = 1 << 41;

/// The two numbers of this node, and what it owes.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) incarnation: u64,
    pub(crate) beat: u32,
    pub(crate) left: bool,
    /// The highest beat at which something is said of this node that is not so.
    slander: Option<u32>,
    refute_from: Duration,
    /// The highest incarnation that others know, when it is not below our own.
    clash: Option<u64>,
    costly_from: Duration,
    renew_at: Duration,
}

impl Own {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            beat: 0,
            left: false,
            slander: None,
            refute_from: Duration::ZERO,
            clash: None,
            costly_from: Duration::ZERO,
            renew_at: Duration::MAX,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if self.left {
            return None;
        }
        let refute = self.slander.map(|_| self.refute_from);
        let bump = self.clash.map(|_| self.costly_from);
        let all = [refute, bump, Some(self.renew_at)];
        all.into_iter().flatten().min()
    }

    /// Whether this node is about to answer the claim anyway.
    pub(crate) fn answers<P>(&self, claim: &Claim<P>) -> bool {
        let soon = self.clash.is_some_and(|clash| clash >= claim.incarnation);
        let refuted = claim.incarnation == self.incarnation
            && claim.status < Status::Left
            && self.slander.is_some_and(|beat| beat >= claim.beat);
        soon || refuted
    }
}

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// Proof that this key was seen elsewhere with this incarnation, which is not below
    /// our own: a signed record, or an entry in a log. A node that lost its memory
    /// learns so that it must begin anew, and a stolen key makes itself felt.
    pub fn handle_clash(&mut self, now: Duration, theirs: u64) {
        self.begin(now);
        if theirs >= self.own.incarnation && !self.own.left {
            self.clash(now, theirs);
        }
        self.checked();
    }

    /// Somebody said something of this node that is not so.
    pub(crate) fn on_slander(&mut self, now: Duration, from: P, claim: Claim<P>) -> Heard {
        let incarnation = self.own.incarnation;
        if claim.incarnation > incarnation {
            if claim.incarnation - incarnation > MAX_JUMP {
                return self.refuse(now, from);
            }
            self.clash(now, claim.incarnation);
            return Heard::Unwanted;
        }
        self.senders.falsified(now, from);
        if claim.status == Status::Left {
            // That incarnation is dropped everywhere, and no beat brings it back.
            self.clash(now, incarnation);
            return Heard::Unwanted;
        }
        if claim.status == Status::Unreachable {
            // Perhaps because our record ended there. At most once in `costly_gap`.
            let soon = self.own.costly_from.max(now);
            self.own.renew_at = self.own.renew_at.min(soon);
        }
        self.own.slander = self.own.slander.max(Some(claim.beat));
        self.own_timeout(now);
        Heard::Unwanted
    }

    fn clash(&mut self, now: Duration, theirs: u64) {
        if self.own.clash.is_none() {
            self.tell(Event::IdentityClash { theirs });
        }
        self.own.clash = self.own.clash.max(Some(theirs));
        self.own_timeout(now);
    }

    /// Does what this node owes and may do by now.
    pub(crate) fn own_timeout(&mut self, now: Duration) {
        if self.own.left {
            return;
        }
        if self.own.slander.is_some() && now >= self.own.refute_from {
            self.refute(now);
        }
        if let Some(theirs) = self.own.clash
            && now >= self.own.costly_from
        {
            self.stats.bumps += 1;
            self.bump(now, theirs);
        }
        if now >= self.own.renew_at {
            self.own.costly_from = now + self.config.costly_gap;
            self.renew_later(now);
            self.push(Output::Refresh);
        }
    }

    /// Answers what is said with the next beat. That changes no store: what this node
    /// has registered stays where it is.
    fn refute(&mut self, now: Duration) {
        let Some(heard) = self.own.slander.take() else {
            return;
        };
        self.own.refute_from = now + self.config.refute_gap;
        #[cfg(feature = "mutants")]
        if self.mutant == crate::mutant::Mutant::RefuteByIncarnation {
            self.bump(now, self.own.incarnation);
            return;
        }
        let beat = self.own.beat.max(heard);
        if beat >= MAX_BEAT {
            self.clash(now, self.own.incarnation);
            return;
        }
        self.own.beat = beat + 1;
        self.stats.refutations += 1;
        let claim = self.of_myself();
        self.exceptions.set(now, claim, true);
        self.push(Output::Broadcast(claim));
    }

    /// What this node says of itself.
    pub(crate) fn of_myself(&self) -> Claim<P> {
        Claim {
            member: self.me,
            incarnation: self.own.incarnation,
            beat: self.own.beat,
            status: Status::Alive,
        }
    }

    /// Begins a new incarnation, above that of the others.
    pub(crate) fn bump(&mut self, now: Duration, theirs: u64) {
        self.own.clash = None;
        self.own.costly_from = now + self.config.costly_gap;
        let highest = self.own.incarnation.max(theirs);
        // Only our own key can have said the last number there is. Then this node stays
        // as it is, unheard, until it gets another key.
        let Some(incarnation) = highest.checked_add(1) else {
            return;
        };
        let Some(card) = self.directory.remove(self.me) else {
            return;
        };
        self.own.incarnation = incarnation;
        self.own.beat = 0;
        self.own.slander = None;
        self.exceptions.clear(self.me);
        self.departed.remove(self.me);
        self.early.remove(self.me);
        self.own_card(card.name.clone(), incarnation);
        self.renew_later(now);
        self.push(Output::Bump { incarnation });
    }

    /// Renews the record well before it ends: two more renewals may get lost.
    pub(crate) fn renew_later(&mut self, now: Duration) {
        let third = self.jitter(self.config.record_ttl / 3);
        self.own.renew_at = now + third;
    }
}
