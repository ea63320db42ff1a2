// SPDX-License-Identifier: Apache-2.0

//! Records: who becomes a member, under which name, and for how long.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::card::{Card, Claim, MAX_NAME, Status};
use crate::directory::{Entry, seconds};
use crate::members::Members;
use crate::message::{DownReason, Event, Output, Refused};

/// The most refused members that are remembered in order to tell of each once. Beyond
/// that some are told of twice.
const CLASHES: usize = 64;

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// A verified record, of another member or of this one. A record that is known
    /// already is no error and changes nothing.
    ///
    /// Its life counts from now: from the moment this node first saw this version,
    /// on its own clock.
    ///
    /// # Errors
    /// The record is not accepted, and nothing has changed.
    pub fn handle_record(
        &mut self,
        now: Duration,
        member: P,
        card: impl Into<Arc<Card>>,
    ) -> Result<(), Refused<P>> {
        self.begin(now);
        let result = self.accept(now, member, card.into());
        self.checked();
        result
    }

    /// The record of the member is trusted no longer: forget it without a trace. A
    /// record may bring it back.
    pub fn handle_record_gone(&mut self, now: Duration, member: P) {
        self.begin(now);
        if member != self.me {
            self.forget(member, DownReason::Forgotten);
        }
        self.checked();
    }

    fn accept(&mut self, now: Duration, member: P, card: Arc<Card>) -> Result<(), Refused<P>> {
        if card.name.is_empty() || card.name.len() > MAX_NAME {
            return Err(Refused::BadName);
        }
        if member == self.me {
            return self.accept_own(now, card);
        }
        let gone = self.departed.get(member);
        if gone.is_some_and(|gone| gone >= card.incarnation) {
            self.tell_goodbye(now, member, card.incarnation);
            return Err(Refused::Departed);
        }
        let known = self.card(member).cloned();
        if let Some(known) = &known {
            match known.version().cmp(&card.version()) {
                Ordering::Greater => return Err(Refused::Stale),
                Ordering::Equal => {
                    self.pin(member, card.pinned);
                    return Ok(());
                }
                Ordering::Less => {}
            }
        }
        let renamed = known.as_ref().is_none_or(|known| known.name != card.name);
        let displaced = if renamed {
            self.contest(member, &card)?
        } else {
            None
        };
        if known.is_none() && displaced.is_none() {
            self.make_room(card.pinned)?;
        }
        if let Some(other) = displaced {
            self.forget(other, DownReason::Displaced);
        }
        let seen = known
            .as_ref()
            .is_some_and(|k| k.version() == card.version());
        let was_up = self.is_up(member);
        let expires = match self.directory.get(member) {
            Some(entry) if seen => entry.expires,
            _ => self.expiry(now, &card),
        };
        let incarnation = card.incarnation;
        self.sweep_by(expires);
        self.directory.insert(Entry {
            member,
            card,
            expires,
        });
        match known.map(|known| known.incarnation) {
            Some(old) if old == incarnation => {}
            old => self.begins(now, member, old.filter(|_| was_up)),
        }
        Ok(())
    }

    /// The operator has placed the key for this name, or taken it away.
    fn pin(&mut self, member: P, pinned: bool) {
        let entry = self.directory.get(member).cloned();
        if let Some(entry) = entry.filter(|entry| entry.card.pinned != pinned) {
            let card = Card {
                pinned,
                ..Card::clone(&entry.card)
            };
            self.directory.insert(Entry {
                card: Arc::new(card),
                ..entry
            });
        }
    }

    /// Our own record comes back to us. The driver hands in each one that it signs.
    fn accept_own(&mut self, now: Duration, card: Arc<Card>) -> Result<(), Refused<P>> {
        if card.incarnation > self.own.incarnation {
            self.handle_clash(now, card.incarnation);
            return Err(Refused::Clash);
        }
        let Some(known) = self.card(self.me) else {
            return Ok(());
        };
        if known.version() > card.version() {
            return Err(Refused::Stale);
        }
        if known.name == card.name && known.version() < card.version() {
            self.directory.insert(Entry {
                member: self.me,
                card,
                expires: u32::MAX,
            });
        }
        Ok(())
    }

    /// Two keys for one name: the one that the operator placed wins, else the one
    /// that was known first. The loser that has to go, if it is a member.
    fn contest(&mut self, member: P, card: &Card) -> Result<Option<P>, Refused<P>> {
        let Some(holder) = self.directory.holder(&card.name) else {
            return Ok(None);
        };
        let placed = self.card(holder).is_some_and(|held| held.pinned);
        let wins = card.pinned && !placed && holder != self.me;
        let (kept, refused) = if wins {
            (member, holder)
        } else {
            (holder, member)
        };
        self.tell_clash(card, kept, refused);
        if wins {
            Ok(Some(holder))
        } else {
            Err(Refused::NameTaken { by: holder })
        }
    }

    /// Both sides hear of it: each gets the record of the other.
    fn tell_clash(&mut self, card: &Card, kept: P, refused: P) {
        if self.clashes.get(&refused) == Some(&card.incarnation) {
            return;
        }
        if self.clashes.len() >= CLASHES {
            self.clashes.pop_first();
        }
        self.clashes.insert(refused, card.incarnation);
        let name = card.name.clone();
        self.tell(Event::NameClash {
            name,
            kept,
            refused,
        });
    }

    /// A member begins a life: the first that this node hears of, or the next one.
    /// `old` is the life before, if it was up.
    fn begins(&mut self, now: Duration, member: P, old: Option<u64>) {
        self.exceptions.clear(member);
        self.probes.remove(member);
        self.departed.remove(member);
        if let Some(incarnation) = old {
            self.tell(Event::NodeDown {
                member,
                incarnation,
                reason: DownReason::Restarted,
            });
        }
        let Some(plain) = self.state(member) else {
            return;
        };
        match self.early.take(member, plain.incarnation) {
            Some(claim) if claim.status == Status::Unreachable => {
                // It is down before it was up: nobody has to be told.
                self.exceptions.set(now, claim, false);
                self.push(Output::Hide(member));
                self.push(Output::Broadcast(claim));
                self.drop_later(member);
                self.pass_on(claim);
            }
            early => {
                self.up_again(member, plain.incarnation);
                if let Some(claim) = early.filter(|claim| claim.supersedes(&plain)) {
                    self.announce(now, claim);
                }
            }
        }
    }

    pub(crate) fn forget(&mut self, member: P, reason: DownReason) {
        let Some(state) = self.state(member) else {
            return;
        };
        self.erase(member);
        self.push(Output::Hide(member));
        if state.status < Status::Unreachable {
            self.tell(Event::NodeDown {
                member,
                incarnation: state.incarnation,
                reason,
            });
        }
        self.look_for_majority();
    }

    fn expiry(&self, now: Duration, card: &Card) -> u32 {
        let (least, most) = self.config.ttl_bounds;
        let ttl = card.ttl.max(least).min(most.max(least));
        seconds(now.saturating_add(ttl))
    }

    fn drop_time(&self, expires: u32) -> u32 {
        expires.saturating_add(seconds(self.config.drop_after))
    }

    /// The member is unreachable. When its record has ended for long, it goes.
    pub(crate) fn drop_later(&mut self, member: P) {
        if let Some(entry) = self.directory.get(member) {
            let at = self.drop_time(entry.expires);
            self.sweep_by(at);
        }
    }

    fn sweep_by(&mut self, at: u32) {
        let at = Duration::from_secs(at.into());
        self.sweep_at = Some(self.sweep_at.map_or(at, |sweep| sweep.min(at)));
    }

    /// A member whose record has ended is unreachable first. If it lives, it refutes
    /// that and renews its record; else it is dropped, long after.
    pub(crate) fn sweep(&mut self, now: Duration) {
        if self.sweep_at.is_none_or(|at| now < at) {
            return;
        }
        self.sweep_at = None;
        let second = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let (mut over, mut next) = (Vec::new(), u32::MAX);
        for entry in self.directory.iter() {
            if entry.expires <= second {
                over.push((entry.member, entry.expires));
            } else {
                next = next.min(entry.expires);
            }
        }
        for (member, expires) in over {
            let at = self.drop_time(expires);
            match self.state(member) {
                Some(_) if member == self.me => {}
                Some(state) if state.status < Status::Unreachable => {
                    self.expired(now, state);
                    next = next.min(at);
                }
                Some(state) if at <= second => self.dropped(state),
                _ => next = next.min(at),
            }
        }
        if next < u32::MAX {
            self.sweep_by(next.max(second.saturating_add(1)));
        }
    }

    fn expired(&mut self, now: Duration, state: Claim<P>) {
        let status = Status::Unreachable;
        if self.own.left {
            return;
        }
        self.announce(now, Claim { status, ..state });
    }

    /// Remembered like a goodbye, because others may still have the record: if the
    /// member comes back, it hears that this life is over and begins another.
    fn dropped(&mut self, state: Claim<P>) {
        let status = Status::Left;
        self.erase(state.member);
        self.departed.insert(Claim { status, ..state }, None);
        self.push(Output::Depart {
            member: state.member,
            incarnation: state.incarnation,
        });
        self.look_for_majority();
    }
}
