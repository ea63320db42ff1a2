// SPDX-License-Identifier: Apache-2.0

//! What others write.

use super::{Budget, Config, Refused, Registry};
use crate::delta::{Delta, Malformed, Removes};
use crate::key::OriginKey;
use crate::origin::{Effect, Slot};

/// What a delta has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Operations that were not applied before: pass them on.
    pub new: bool,
    /// Operations before these are missing, or later ones were heard of. If they do not
    /// come by themselves soon, ask for them.
    pub gap: bool,
}

impl Registry {
    /// Takes in what `peer` has sent or passed on, in any order and as often as it comes.
    ///
    /// The incarnation is believed: who calls this lets in only what a signed record of
    /// the origin confirms.
    ///
    /// # Errors
    /// See [`Refused`]. Only where a budget for entries is used up, something may have
    /// changed: removals that came along are applied.
    pub fn apply(&mut self, peer: OriginKey, delta: &Delta) -> Result<Applied, Refused> {
        let result = self.try_apply(peer, delta);
        match result {
            Ok(Applied { new: true, .. }) => self.counters.applied += 1,
            Ok(_) => self.counters.duplicates += 1,
            Err(Refused::Full(_)) => self.counters.full += 1,
            Err(Refused::TooManyHoles) => self.counters.too_many_holes += 1,
            Err(Refused::Malformed(_)) => self.counters.malformed += 1,
            Err(_) => {}
        }
        self.check_touched(delta.origin);
        result
    }

    fn try_apply(&mut self, peer: OriginKey, delta: &Delta) -> Result<Applied, Refused> {
        delta.validate()?;
        if delta.adds.iter().any(|add| add.writer.is_some()) {
            return Err(Refused::Malformed(Malformed::Entry));
        }
        let origin = delta.origin;
        if origin == self.me {
            return self.apply_own(delta);
        }
        if self.departed.covers(origin, delta.inc) {
            return Err(Refused::Old);
        }
        match self.slots.slot(origin).map(|slot| slot.inc) {
            Some(inc) if delta.inc < inc => Err(Refused::Old),
            Some(inc) if delta.inc == inc => self.apply_known(peer, delta),
            #[cfg(feature = "mutants")]
            Some(_) if self.config.mutant == Some(super::Mutant::KeepOldLife) => {
                self.change_slot(origin, |slot, _| slot.inc = delta.inc);
                self.apply_known(peer, delta)
            }
            _ => self.apply_new(peer, delta),
        }
    }

    /// Our own words come back, or those of somebody with our name.
    fn apply_own(&mut self, delta: &Delta) -> Result<Applied, Refused> {
        if self.is_clash(delta.inc, delta.to) {
            Err(Refused::Clash(delta.inc))
        } else if delta.inc < self.incarnation() {
            Err(Refused::Old)
        } else {
            Ok(Applied::default())
        }
    }

    fn apply_known(&mut self, peer: OriginKey, delta: &Delta) -> Result<Applied, Refused> {
        let origin = delta.origin;
        let room = self.room();
        let merge = |slot: &mut Slot, config: &Config| {
            slot.merge(delta, &config.terms(room, peer == origin))
        };
        let (effect, result) = self.change_slot(origin, merge);
        let applied = self.applied(origin, &effect);
        let refuted = effect.refuted;
        let differed = !(effect.added.is_empty() && effect.removed.is_empty());
        self.tell(origin, effect);
        result?;
        self.note_repair(peer, delta, refuted, differed);
        Ok(applied)
    }

    /// The first of a new origin, or of a new life: nothing of the old one remains.
    fn apply_new(&mut self, peer: OriginKey, delta: &Delta) -> Result<Applied, Refused> {
        let origin = delta.origin;
        let old = self.slots.slot(origin);
        if old.is_none() && self.slots.len() >= self.config.limits.max_origins {
            return Err(Refused::Full(Budget::Origins));
        }
        let (entries, bytes) = self.room();
        let freed = old.map_or((0, 0), |slot| (slot.live().len(), slot.bytes()));
        let room = (entries + freed.0, bytes + freed.1);
        let mut slot = Slot::new(origin, delta.inc);
        let terms = self.config.terms(room, peer == origin);
        let (effect, result) = slot.merge(delta, &terms);
        result?;
        self.doubts.remove(&origin);
        self.begin_anew(origin);
        if let Some(old) = self.put_slot(slot) {
            self.tell_all(&old, false);
        }
        let applied = self.applied(origin, &effect);
        self.tell(origin, effect);
        Ok(applied)
    }

    fn applied(&self, origin: OriginKey, effect: &Effect) -> Applied {
        let slot = self.slots.slot(origin);
        Applied {
            new: effect.news,
            gap: slot.is_some_and(|slot| slot.heard_of() > slot.base),
        }
    }

    /// What all logs together may still grow by.
    fn room(&self) -> (usize, usize) {
        let limits = &self.config.limits;
        let entries = limits.max_entries.saturating_sub(self.counters.entries);
        (
            entries,
            limits.max_bytes.saturating_sub(self.counters.bytes),
        )
    }

    /// Changes a log, and everything that follows from it.
    pub(super) fn change_slot<T>(
        &mut self,
        origin: OriginKey,
        change: impl FnOnce(&mut Slot, &Config) -> T,
    ) -> T {
        let speaks = self.speaks_of(origin);
        let Self {
            slots,
            config,
            digest,
            counters,
            ..
        } = self;
        let Some(slot) = slots.slot_mut(origin) else {
            unreachable!("only logs that are there are changed");
        };
        let sums = |slot: &Slot| {
            (
                slot.summary().hash(&config.audit),
                slot.live().len(),
                slot.bytes(),
            )
        };
        let (hash, entries, bytes) = sums(slot);
        let result = change(slot, config);
        let (new_hash, new_entries, new_bytes) = sums(slot);
        if speaks {
            digest.take(origin.bucket(), hash);
            digest.add(origin.bucket(), new_hash);
        }
        counters.entries = counters.entries + new_entries - entries;
        counters.bytes = counters.bytes + new_bytes - bytes;
        result
    }

    /// A part of a damaged copy is made good. One that seemed only to lag behind was damaged
    /// if the origin has refuted that, and differed.
    fn note_repair(&mut self, peer: OriginKey, delta: &Delta, refuted: bool, differed: bool) {
        let Removes::LiveSet(set) = &delta.removes else {
            return;
        };
        if !set.whole || peer != delta.origin {
            return;
        }
        let Some(doubt) = self.doubts.get_mut(&delta.origin) else {
            return;
        };
        if doubt.good_to < set.above {
            return;
        }
        doubt.refuted |= refuted;
        if doubt.refuted && differed && !doubt.counted {
            doubt.counted = true;
            self.counters.mismatches += 1;
        }
        doubt.good_to = doubt.good_to.max(set.until);
        doubt.asked = false;
        if doubt.good_to >= set.complete {
            self.counters.repaired += u64::from(doubt.counted);
            self.doubts.remove(&delta.origin);
        }
    }
}
