// SPDX-License-Identifier: Apache-2.0

//! Links, dials and messages: how this node finds out who is there.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use rand::RngExt;

use crate::card::{Claim, Status};
use crate::members::Members;
use crate::message::{Heard, Message, Misbehaved, Misdeed, Output};
use crate::round::Round;

/// How many others repeat a failed probe. SWIM has such helpers, too.
const HELPERS: usize = 2;

/// Places that are passed over in one slot in search of a member to probe. If all of
/// them have links or are unreachable, the next slot goes on.
const PASSED_OVER: usize = 64;

/// Every so many slots also one that is unreachable is dialled. This is how a node
/// finds the others again that its overlay has forgotten. Four is a guess.
const RETURN: u64 = 4;

/// Deaths come in groups: after one, so many slots take a quarter of the time, so
/// that a member that died with all its neighbours is found in two periods as well
/// as surely. With one slot in a period everybody is probed once in a period on
/// average, and one in twenty not for three.
const HURRIED: u32 = 8;

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// A link to this peer works. Ends a probe, too.
    pub fn handle_link_up(&mut self, now: Duration, peer: P) {
        self.begin(now);
        self.linked.insert(peer);
        self.probes.remove(peer);
        self.answer(peer, true);
        let goodbye = self.departed.goodbye(peer);
        let state = self.state(peer);
        if peer != self.me
            && let Some(claim) = state.or(goodbye)
        {
            self.pass_on(claim);
        }
        self.checked();
    }

    /// The last link to this peer is down. `failed`: by silence, a reset or a refused
    /// redial, not because one of both closed it.
    pub fn handle_link_lost(&mut self, now: Duration, peer: P, failed: bool) {
        self.begin(now);
        if self.linked.remove(&peer) && failed {
            self.redial(now, peer);
        }
        self.checked();
    }

    /// A link can fail while both ends live. So the peer is dialled once more, before the
    /// whole cluster hears of it: where links fail often, each of them would else cause
    /// four broadcasts, the broadcasts pass over links that fail, and there is no end of it.
    fn redial(&mut self, now: Duration, peer: P) {
        let until = now + self.config.redial_wait;
        if until > now && self.is_doubtless(peer) && self.probes.redial(now, peer, until) {
            self.push(Output::Probe(peer));
        } else {
            self.suspect(now, peer);
        }
    }

    /// Whether a suspicion of it would be the first.
    fn is_doubtless(&self, member: P) -> bool {
        let state = self.state(member);
        let alive = state.is_some_and(|claim| claim.status == Status::Alive);
        alive && member != self.me && !self.own.left
    }

    /// A dial to this peer came to nothing, whoever wanted it. Two others are asked
    /// before this becomes a suspicion, unless a link to it has just failed.
    pub fn handle_dial_failed(&mut self, now: Duration, peer: P) {
        self.begin(now);
        if !self.linked.contains(&peer) {
            self.answer(peer, false);
            if self.probes.redialled(peer) {
                self.suspect(now, peer);
            } else {
                self.ask_others(now, peer);
            }
        }
        self.checked();
    }

    /// A message over the link to `from`.
    ///
    /// # Errors
    /// The peer did what no correct peer does. It is counted; nothing else has changed.
    pub fn handle_message(
        &mut self,
        now: Duration,
        from: P,
        msg: Message<P>,
    ) -> Result<(), Misbehaved<P>> {
        self.begin(now);
        let result = match msg {
            Message::PassOn(claim) => self.on_pass_on(now, from, claim),
            Message::ProbeRequest { member } => self.on_probe_request(now, from, member),
            Message::ProbeAnswer { member, reachable } => {
                self.probes.answered(member, from, reachable);
                Ok(())
            }
        };
        self.checked();
        result.map_err(|what| {
            let _counted = self.refuse(now, from);
            Misbehaved { peer: from, what }
        })
    }

    fn on_pass_on(&mut self, now: Duration, from: P, claim: Claim<P>) -> Result<(), Misdeed> {
        if claim.member != self.me && claim.member != from {
            return Err(Misdeed::WrongAddressee);
        }
        match self.hear(now, from, claim) {
            Heard::New => self.push(Output::Broadcast(claim)),
            Heard::Known if claim.member == self.me && !self.own.left => {
                // We have answered this, and the answer has not come there yet.
                let mine = self.of_myself();
                if mine.supersedes(&claim) && self.admit(now, from) {
                    let msg = Message::PassOn(mine);
                    self.push(Output::Send { to: from, msg });
                }
            }
            Heard::Known | Heard::Unwanted | Heard::Refused => {}
        }
        Ok(())
    }

    fn on_probe_request(&mut self, now: Duration, from: P, member: P) -> Result<(), Misdeed> {
        if self.own.left {
            return Ok(());
        }
        if !self.admit(now, from) {
            return Err(Misdeed::Flood);
        }
        if self.linked.contains(&member) || member == self.me {
            self.send_answer(from, member, true);
        } else if self.directory.contains(member)
            && self.probes.favour(now, from, member) == Some(true)
        {
            self.push(Output::Probe(member));
        }
        Ok(())
    }

    fn send_answer(&mut self, to: P, member: P, reachable: bool) {
        let msg = Message::ProbeAnswer { member, reachable };
        self.push(Output::Send { to, msg });
    }

    /// Tells those who wait to hear of this peer.
    fn answer(&mut self, peer: P, reachable: bool) {
        for to in self.probes.favoured(peer) {
            self.send_answer(to, peer, reachable);
        }
    }

    fn ask_others(&mut self, now: Duration, member: P) {
        if !self.is_doubtless(member) {
            self.probes.remove(member);
            return;
        }
        #[cfg(feature = "mutants")]
        if self.mutant == crate::mutant::Mutant::JudgeAlone {
            self.suspect(now, member);
            return;
        }
        let Some(since) = self.probes.failed(now, member) else {
            return;
        };
        self.stats.asked += 1;
        let helpers = self.helpers(member);
        // A member that is frozen for less than the link timeout takes no dial either,
        // and is not to be suspected for that.
        let until = (since + self.config.link_timeout).max(now + self.config.answer_wait);
        for &to in &helpers {
            let msg = Message::ProbeRequest { member };
            self.push(Output::Send { to, msg });
        }
        self.probes.ask(member, helpers, since, until);
    }

    /// Two others: peers with a link where there are any, else any members.
    fn helpers(&mut self, member: P) -> Vec<P> {
        let good = |&peer: &P| peer != member && peer != self.me && self.is_up(peer);
        let mut linked: Vec<P> = self.linked.iter().copied().filter(good).collect();
        let any = !linked.is_empty();
        let mut helpers = Vec::with_capacity(HELPERS);
        while helpers.len() < HELPERS && !linked.is_empty() {
            let at = self.random(linked.len());
            helpers.push(linked.swap_remove(at));
        }
        for _ in 0..PASSED_OVER {
            if helpers.len() >= HELPERS || any {
                break;
            }
            let at = self.random(self.len());
            let other = self.directory.nth(at).map(|entry| entry.member);
            let fits = |peer: &P| {
                let fresh = *peer != member && *peer != self.me;
                fresh && self.is_up(*peer) && !helpers.contains(peer)
            };
            helpers.extend(other.filter(fits));
        }
        helpers
    }

    /// A number below `end`, the same on machines of any word size.
    fn random(&mut self, end: usize) -> usize {
        let end = u32::try_from(end).unwrap_or(u32::MAX).max(1);
        self.rng.random_range(0..end) as usize
    }

    /// Nobody could reach these.
    pub(crate) fn end_probes(&mut self, now: Duration) {
        for member in self.probes.judge(now) {
            if !self.linked.contains(&member) {
                self.suspect(now, member);
            }
        }
    }

    /// Takes the next slot of the round, if it is time for it.
    pub(crate) fn probe(&mut self, now: Duration) {
        if self.own.left || self.probes.probe_at().is_none_or(|at| now < at) {
            return;
        }
        self.probes.slots += 1;
        if let Some(member) = self.next_of_round()
            && self.probes.dial(now, member)
        {
            self.stats.probes += 1;
            self.push(Output::Probe(member));
        }
        if self.probes.slots.is_multiple_of(RETURN)
            && let Some(member) = self.one_unreachable()
        {
            self.push(Output::Probe(member));
        }
        self.next_slot(now);
    }

    fn next_slot(&mut self, now: Duration) {
        let mut period = self.config.probe_period;
        if self.probes.hurried > 0 {
            self.probes.hurried -= 1;
            period /= 4;
        }
        let period = self.jitter(period);
        self.probes.probe_by(now + period);
    }

    /// A member has died, and others may have died with it.
    pub(crate) fn hurry(&mut self, now: Duration) {
        if self.own.left {
            return;
        }
        let idle = self.probes.hurried == 0;
        self.probes.hurried = HURRIED;
        if idle {
            let part = self.rng.random_range(0..1_000u32);
            let soon = now + self.config.probe_period / 4 * part / 1_000;
            let at = self.probes.probe_at().map_or(soon, |at| at.min(soon));
            self.probes.probe_by(at);
        }
    }

    /// The next one of the round that is not known to be there or not to be. A live
    /// link is as good as a probe.
    fn next_of_round(&mut self) -> Option<P> {
        let members = self.len();
        for _ in 0..PASSED_OVER {
            let Some(place) = self.probes.round.next(members) else {
                self.probes.round = Round::new(members, self.rng.random());
                continue;
            };
            let member = self.directory.nth(place)?.member;
            let unsure = member != self.me && !self.linked.contains(&member);
            if unsure && self.is_up(member) {
                return Some(member);
            }
        }
        None
    }

    fn one_unreachable(&mut self) -> Option<P> {
        if self.exceptions.unreachable() == 0 {
            return None;
        }
        for _ in 0..PASSED_OVER {
            let at = self.random(self.exceptions.len());
            let claim = self.exceptions.nth(at)?;
            if claim.status == Status::Unreachable && !self.linked.contains(&claim.member) {
                return Some(claim.member);
            }
        }
        None
    }
}
