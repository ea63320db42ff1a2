// SPDX-License-Identifier: Apache-2.0

//! What is said of others: suspicion, its end, and the return.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use crate::card::{Claim, MAX_BEAT, Status};
use crate::members::Members;
use crate::message::{DownReason, Event, Heard, Message, Output};
use crate::own::MAX_JUMP;

/// Suspicions are dated in tenths of a second, rounded down; this makes up for it.
const TENTH: Duration = Duration::from_millis(100);

/// What a peer may say at once is twice the directory and this much: a small cluster
/// in which everything happens at once.
const BURST: u32 = 256;

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// A claim, by broadcast or by an exchange of exceptions. `from` is the peer that
    /// handed it over, not the one that made it up: nobody knows that one.
    pub fn handle_claim(&mut self, now: Duration, from: P, claim: Claim<P>) -> Heard {
        self.begin(now);
        let heard = self.hear(now, from, claim);
        self.checked();
        heard
    }

    /// Whether the claim is known or overtaken: the seen-set of the broadcast.
    pub fn covers(&self, claim: &Claim<P>) -> bool {
        let gone = self.departed.get(claim.member);
        if gone.is_some_and(|gone| gone >= claim.incarnation) {
            return true;
        }
        if claim.member == self.me {
            return !claim.supersedes(&self.of_myself()) || self.own.answers(claim);
        }
        // What waits for a later record, perhaps for ever, overtakes nothing that is
        // said of the life we know.
        let known = self.state(claim.member);
        let known = known.filter(|known| known.incarnation >= claim.incarnation);
        let said = known.or_else(|| self.early.get(claim.member));
        said.is_some_and(|said| !claim.supersedes(&said))
    }

    pub(crate) fn hear(&mut self, now: Duration, from: P, claim: Claim<P>) -> Heard {
        if self.covers(&claim) {
            if claim.status < Status::Left {
                // Whoever still speaks of one that has left has not heard the goodbye.
                self.tell_goodbye(now, claim.member, claim.incarnation);
            }
            return Heard::Known;
        }
        if claim.beat > MAX_BEAT || !self.admit(now, from) {
            return self.refuse(now, from);
        }
        if claim.member == self.me {
            return self.on_slander(now, from, claim);
        }
        let known = self.state(claim.member);
        if known.is_none_or(|known| known.incarnation < claim.incarnation && !ends(&known, &claim))
        {
            let until = now + self.config.early_life;
            if !self.early.insert(from, claim, until) {
                self.stats.early_dropped += 1;
            }
            return Heard::Unwanted;
        }
        self.take(now, claim, false);
        Heard::New
    }

    /// Lets the goodbye take part in the exchange again, if this life is over.
    pub(crate) fn tell_goodbye(&mut self, now: Duration, member: P, incarnation: u64) {
        let gone = self.departed.get(member);
        if gone.is_some_and(|gone| gone >= incarnation) {
            let until = now + self.config.goodbye_listed;
            self.departed.list(member, until);
        }
    }

    /// Whether the peer may say something now.
    pub(crate) fn admit(&mut self, now: Duration, peer: P) -> bool {
        let members = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let burst = members.saturating_mul(2).saturating_add(BURST);
        let rate = self.config.claims_per_second;
        self.senders.admit(now, peer, burst, rate)
    }

    pub(crate) fn refuse(&mut self, now: Duration, peer: P) -> Heard {
        self.stats.refused += 1;
        if self.senders.refuse(now, peer) {
            self.tell(Event::Misbehaves { peer });
        }
        Heard::Refused
    }

    /// This node has lost the member. Says so, at most once for each beat of it.
    pub(crate) fn suspect(&mut self, now: Duration, member: P) {
        let Some(state) = self.state(member) else {
            return;
        };
        if state.status != Status::Alive || member == self.me || self.own.left {
            return;
        }
        self.stats.suspicions += 1;
        self.announce(
            now,
            Claim {
                status: Status::Suspect,
                ..state
            },
        );
    }

    /// Takes the claim as this node's own and tells everybody.
    pub(crate) fn announce(&mut self, now: Duration, claim: Claim<P>) {
        self.take(now, claim, true);
        self.push(Output::Broadcast(claim));
    }

    /// Takes a claim that supersedes what was known of a member, in its incarnation.
    pub(crate) fn take(&mut self, now: Duration, claim: Claim<P>, mine: bool) {
        let Some(was) = self.state(claim.member) else {
            return;
        };
        #[cfg(feature = "mutants")]
        if self.mutant == crate::mutant::Mutant::NoReturn && was.status == Status::Unreachable {
            return;
        }
        if claim.status == Status::Left {
            self.depart(now, claim);
        } else {
            self.learn(now, &was, &claim);
            self.exceptions.set(now, claim, mine);
            self.turn(now, &was, &claim);
        }
        self.pass_on(claim);
        if claim.status == Status::Suspect {
            let end = now + TENTH + self.patience(mine);
            self.verdict_at = Some(self.verdict_at.map_or(end, |at| at.min(end)));
        }
    }

    /// How long a suspect has. Whoever did not raise the suspicion waits longer, and
    /// so hears from the one who did.
    fn patience(&self, mine: bool) -> Duration {
        let slack = if mine {
            Duration::ZERO
        } else {
            self.config.slack
        };
        self.suspect_timeout() + slack
    }

    /// A refutation shows how long the way there and back takes. The longest counts,
    /// and fades by an eighth with each that is shorter.
    fn learn(&mut self, now: Duration, was: &Claim<P>, claim: &Claim<P>) {
        if was.status != Status::Suspect || claim.status != Status::Alive {
            return;
        }
        self.stats.refuted += 1;
        let since = self.exceptions.since(claim.member).unwrap_or(now);
        let faded = self.refuted - self.refuted / 8;
        self.refuted = faded.max(now.saturating_sub(since));
    }

    /// Tells those outside if the member has gone or come.
    fn turn(&mut self, now: Duration, was: &Claim<P>, is: &Claim<P>) {
        let up = |claim: &Claim<P>| claim.status < Status::Unreachable;
        match (up(was), up(is)) {
            (true, false) => self.down(now, is.member, is.incarnation),
            (false, true) => self.up_again(is.member, is.incarnation),
            _ => {}
        }
    }

    /// The member is hidden, and nothing is deleted.
    fn down(&mut self, now: Duration, member: P, incarnation: u64) {
        self.push(Output::Hide(member));
        self.tell(Event::NodeDown {
            member,
            incarnation,
            reason: DownReason::Unreachable,
        });
        self.drop_later(member);
        self.hurry(now);
        if let Some((lost, of)) = self.partition.lost(now, self.up()) {
            self.tell(Event::Partitioned { lost, of });
        }
    }

    pub(crate) fn up_again(&mut self, member: P, incarnation: u64) {
        self.push(Output::Show(member));
        self.tell(Event::NodeUp {
            member,
            incarnation,
        });
        self.look_for_majority();
    }

    pub(crate) fn look_for_majority(&mut self) {
        if self.partition.ends(self.up(), self.len()) {
            self.tell(Event::Healed);
        }
    }

    /// Whoever holds a working link to the one that is spoken of does not answer for
    /// it: it lets it answer for itself.
    pub(crate) fn pass_on(&mut self, claim: Claim<P>) {
        let to = claim.member;
        if claim.status == Status::Alive || !self.linked.contains(&to) || self.own.left {
            return;
        }
        #[cfg(feature = "mutants")]
        if self.mutant == crate::mutant::Mutant::AnswerForSuspect && claim.status < Status::Left {
            let answer = Claim {
                beat: claim.beat + 1,
                status: Status::Alive,
                ..claim
            };
            self.exceptions.set(Duration::ZERO, answer, true);
            self.push(Output::Broadcast(answer));
            return;
        }
        let msg = Message::PassOn(claim);
        self.push(Output::Send { to, msg });
    }

    /// This life of the member is over, and everybody drops what it had registered.
    pub(crate) fn depart(&mut self, now: Duration, claim: Claim<P>) {
        let until = now + self.config.goodbye_listed;
        let was_up = self.is_up(claim.member);
        self.erase(claim.member);
        self.departed.insert(claim, Some(until));
        self.push(Output::Depart {
            member: claim.member,
            incarnation: claim.incarnation,
        });
        if was_up {
            self.tell(Event::NodeDown {
                member: claim.member,
                incarnation: claim.incarnation,
                reason: DownReason::Left,
            });
        }
        self.look_for_majority();
    }

    /// Takes the member out of every table of the living.
    pub(crate) fn erase(&mut self, member: P) {
        self.directory.remove(member);
        self.exceptions.clear(member);
        self.early.remove(member);
        self.probes.remove(member);
    }

    /// Those who have not answered in time are unreachable.
    pub(crate) fn end_suspicions(&mut self, now: Duration) {
        if self.verdict_at.is_none_or(|at| now < at) {
            return;
        }
        let (mine, others) = (self.patience(true), self.patience(false));
        let (mut due, mut next) = (Vec::new(), None::<Duration>);
        for suspicion in self.exceptions.suspicions() {
            let patience = if suspicion.mine { mine } else { others };
            let end = suspicion.since + TENTH + patience;
            if now >= end && !self.own.left {
                due.push(suspicion.claim);
            } else {
                next = Some(next.map_or(end, |next| next.min(end)));
            }
        }
        self.verdict_at = next.map(|next| next.max(now + TENTH));
        for claim in due {
            self.announce(
                now,
                Claim {
                    status: Status::Unreachable,
                    ..claim
                },
            );
        }
    }
}

/// Whether the goodbye of a later life, whose record never came here, is one of the
/// life that is known, too. Only where the member is unreachable anyway: what nobody
/// signed takes nobody away who is there.
fn ends<P>(known: &Claim<P>, goodbye: &Claim<P>) -> bool {
    let later = goodbye.incarnation - known.incarnation;
    goodbye.status == Status::Left && known.status == Status::Unreachable && later <= MAX_JUMP
}
