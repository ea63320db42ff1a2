// SPDX-License-Identifier: Apache-2.0

//! Who is shown.
//!
//! That an origin is unreachable changes nothing in its log. It is a filter of this
//! replica, for its own readers: when the origin is back, its entries are shown again
//! and nothing has to be sent. Only after a long time is the log given up, in two steps
//! as in Scuttlebutt's descendants: first nobody is told of it any more, and when all have
//! stopped, it is dropped. In one step, a replica that has dropped it would get it back
//! from one that has not.

use std::time::Duration;

use super::{Refused, Registry};
use crate::key::OriginKey;
use crate::origin::Slot;

/// An origin that is not shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    since: Duration,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its log is kept and passed on.
    Hidden,
    /// Its log is kept; others hear nothing of it.
    Quiet,
    /// Its log is dropped.
    GivenUp,
}

impl Registry {
    /// The origin is unreachable: its entries are not shown any more.
    pub fn hide(&mut self, now: Duration, origin: OriginKey) {
        let full = self.absent.len() >= self.config.limits.max_origins;
        if origin == self.me || full || !self.shows(origin) {
            return;
        }
        if let Some(slot) = self.slots.slot(origin) {
            self.changes.push_all(origin, slot.share(), false);
        }
        let (since, phase) = (now, Phase::Hidden);
        self.look_at(Absence { since, phase });
        self.absent.insert(origin, Absence { since, phase });
        self.bound_changes();
    }

    /// The origin is reachable again: what it has is shown, and if it was given up, it may
    /// be fetched again.
    pub fn show(&mut self, origin: OriginKey) {
        if self.shows(origin) {
            return;
        }
        let spoke = self.speaks_of(origin);
        self.absent.remove(&origin);
        self.departed.pardon(origin);
        if let Some(slot) = self.slots.slot(origin) {
            if !spoke {
                self.digest
                    .add(origin.bucket(), slot.summary().hash(&self.config.audit));
            }
            self.changes.push_all(origin, slot.share(), true);
        }
        self.bound_changes();
    }

    /// The origin has begun a new life, as its record says: what it wrote in an earlier one
    /// is gone.
    ///
    /// # Errors
    /// The log is [`Refused`] as if a delta had brought it.
    pub fn begin(&mut self, origin: OriginKey, inc: u64) -> Result<(), Refused> {
        let beginning = Slot::new(origin, inc).beginning();
        self.apply(origin, &beginning).map(|_| ())
    }

    /// The origin has left for good in this incarnation, and said so: its entries are gone,
    /// and will not come back.
    pub fn depart(&mut self, origin: OriginKey, inc: u64) {
        if origin == self.me {
            return;
        }
        self.departed
            .insert(origin, inc, true, self.config.limits.max_departed);
        if self.slots.slot(origin).is_some_and(|slot| slot.inc <= inc)
            && let Some(slot) = self.remove_slot(origin)
        {
            self.tell_all(&slot, false);
            self.bound_changes();
        }
        if self.slots.slot(origin).is_none() {
            self.absent.remove(&origin);
        }
    }

    /// Forgets the log of the origin without a trace. A peer may bring it back.
    pub fn forget(&mut self, origin: OriginKey) {
        if origin == self.me {
            return;
        }
        if let Some(slot) = self.remove_slot(origin) {
            self.tell_all(&slot, false);
            self.bound_changes();
        }
        self.absent.remove(&origin);
    }

    /// Gives up who was unreachable for too long.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.absent_at.is_none_or(|at| now < at) {
            return;
        }
        let (quiet_after, give_up_after) = self.patience();
        let due: Vec<(OriginKey, Phase, Duration)> = self
            .absent
            .iter()
            .map(|(origin, absence)| (*origin, absence.phase, now.saturating_sub(absence.since)))
            .collect();
        for (origin, phase, absent_for) in due {
            if phase == Phase::Hidden && absent_for >= quiet_after {
                self.fall_silent(origin);
            }
            if phase != Phase::GivenUp && absent_for >= give_up_after {
                self.give_up(origin);
            }
        }
        let absent = self.absent.values();
        self.absent_at = absent.filter_map(|absence| self.due_at(*absence)).min();
    }

    /// When [`Registry::handle_timeout`] may have something to do. It is asked for after each
    /// message, so nothing is searched for here.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.absent_at
    }

    fn due_at(&self, absence: Absence) -> Option<Duration> {
        let (quiet_after, give_up_after) = self.patience();
        match absence.phase {
            Phase::Hidden => Some(absence.since.saturating_add(quiet_after)),
            Phase::Quiet => Some(absence.since.saturating_add(give_up_after)),
            Phase::GivenUp => None,
        }
    }

    /// Something is to be done about this absence, sooner or later.
    fn look_at(&mut self, absence: Absence) {
        let due = [self.absent_at, self.due_at(absence)];
        self.absent_at = due.into_iter().flatten().min();
    }

    /// Whether others are told of the origin's log.
    pub(super) fn speaks_of(&self, origin: OriginKey) -> bool {
        let absence = self.absent.get(&origin);
        absence.is_none_or(|absence| absence.phase == Phase::Hidden)
    }

    /// One that was given up has begun a new life. It is told of again, though not shown
    /// before somebody says that it is reachable.
    pub(super) fn begin_anew(&mut self, origin: OriginKey) {
        if let Some(absence) = self.absent.get_mut(&origin)
            && absence.phase == Phase::GivenUp
        {
            let spoken_of = Absence {
                phase: Phase::Hidden,
                ..*absence
            };
            *absence = spoken_of;
            self.look_at(spoken_of);
        }
    }

    fn patience(&self) -> (Duration, Duration) {
        let give_up_after = self.config.give_up_after;
        (give_up_after / 2, give_up_after)
    }

    fn fall_silent(&mut self, origin: OriginKey) {
        if let Some(slot) = self.slots.slot(origin) {
            self.digest
                .take(origin.bucket(), slot.summary().hash(&self.config.audit));
        }
        self.set_phase(origin, Phase::Quiet);
    }

    fn give_up(&mut self, origin: OriginKey) {
        if let Some(slot) = self.remove_slot(origin) {
            self.departed
                .insert(origin, slot.inc, false, self.config.limits.max_departed);
        }
        self.set_phase(origin, Phase::GivenUp);
    }

    fn set_phase(&mut self, origin: OriginKey, phase: Phase) {
        if let Some(absence) = self.absent.get_mut(&origin) {
            absence.phase = phase;
        }
    }
}
