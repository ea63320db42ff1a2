// SPDX-License-Identifier: Apache-2.0

//! How facts about a log are taken in.

use super::{ENTRY_OVERHEAD, Effect, Slot, hash_of};
use crate::audit::AuditKey;
use crate::delta::{Add, Delta, LiveSet, Removal, Removes};
use crate::digest::Sweep;
use crate::live::Entry;
use crate::ranges::Coverage;
#[cfg(feature = "mutants")]
use crate::registry::Mutant;
use crate::registry::{Budget, Limits, Refused};

/// What a merge has to know beside the delta.
pub(crate) struct Terms<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) audit: &'a AuditKey,
    /// Entries and bytes that all logs together may still grow by.
    pub(crate) room: (usize, usize),
    /// The delta comes from the origin itself.
    pub(crate) first_hand: bool,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<Mutant>,
}

impl Slot {
    /// Applies a delta of this log and this incarnation.
    ///
    /// The order matters: removals come before coverage, and mark as dead what is not
    /// applied yet. To take it for applied instead would lose what *that* operation has
    /// removed.
    ///
    /// # Errors
    /// Nothing is claimed then. If a budget for entries is what failed, the removals are
    /// applied: they are true all the same, and make room. The effect tells.
    pub(crate) fn merge(
        &mut self,
        delta: &Delta,
        terms: &Terms<'_>,
    ) -> (Effect, Result<(), Refused>) {
        let gaps = !self.cloud().is_empty();
        let mut effect = Effect {
            gaps,
            ..Effect::default()
        };
        let result = self.try_merge(delta, terms, &mut effect);
        effect.gaps |= !self.cloud().is_empty();
        self.compact();
        (effect, result)
    }

    fn try_merge(
        &mut self,
        delta: &Delta,
        terms: &Terms<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refused> {
        let claims = self.claims(delta);
        if claims && !self.admits(delta.from, delta.to, terms.limits.max_cloud) {
            return Err(Refused::TooManyHoles);
        }
        // What is taken for applied may cut a range of dead ones in two.
        let cuts = claims && self.dead().contains_all(delta.from, delta.to + 1);
        self.admit_dead(usize::from(cuts), terms)?;
        match &delta.removes {
            Removes::List(list) => self.apply_list(delta, list, terms, effect)?,
            Removes::LiveSet(set) if set.whole => self.apply_whole(delta, set, terms, effect)?,
            Removes::LiveSet(set) => {
                let claimed = if claims {
                    (delta.from, delta.to)
                } else {
                    (0, 0)
                };
                self.apply_statement(delta, set, claimed, terms, effect)?;
            }
        }
        if claims && !self.contains_all(delta.from, delta.to) {
            self.apply_adds(delta, terms, effect)?;
            self.cover(delta, terms);
            effect.news = true;
        }
        self.note_progress(delta);
        Ok(())
    }

    /// Whether the delta's claim counts here: it says all that is needed, or the rest was
    /// heard before.
    fn claims(&self, delta: &Delta) -> bool {
        let heard = |set: &LiveSet| {
            let sweep = self.rare().sweep;
            set.above == 0 || (sweep.upto >= set.above && sweep.as_of >= delta.to)
        };
        delta.from < delta.to
            && match &delta.removes {
                Removes::List(_) => true,
                Removes::LiveSet(set) => heard(set),
            }
    }

    fn admits(&self, from: u64, to: u64, limit: usize) -> bool {
        let cloud = self.cloud();
        from <= self.base || cloud.len_with(from + 1, to) <= limit.max(cloud.len())
    }

    fn apply_list(
        &mut self,
        delta: &Delta,
        list: &[Removal],
        terms: &Terms<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refused> {
        let inside = |seq: u64| delta.from < seq && seq <= delta.to;
        let early = |slot: &Self, seq: u64| {
            !inside(seq) && !slot.contains(seq) && !slot.dead().contains(seq)
        };
        if delta.from > self.base {
            let is_early = |removal: &&Removal| early(self, removal.seq);
            self.admit_dead(1 + list.iter().filter(is_early).count(), terms)?;
        }
        for removal in list {
            if self.contains(removal.seq) {
                self.take(removal.seq, terms.audit, effect);
            } else if early(self, removal.seq) {
                self.bury(removal.seq, removal.seq, terms);
            }
        }
        // Who made the delta may have known later removals: what it does not add is dead.
        if delta.from < self.top() {
            let keep: Vec<u64> = delta.adds.iter().map(|add| add.seq).collect();
            self.keep_only(delta.from, delta.to, &keep, terms.audit, effect);
        }
        Ok(())
    }

    fn apply_statement(
        &mut self,
        delta: &Delta,
        set: &LiveSet,
        claimed: (u64, u64),
        terms: &Terms<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refused> {
        let mut keep: Vec<u64> = set
            .live
            .iter()
            .copied()
            .chain(delta.adds.iter().map(|add| add.seq))
            .collect();
        keep.sort_unstable();
        let holes = without(&self.missing(set.above, set.until), &keep);
        // What is claimed will be applied, and needs no mark.
        let holes = outside(&holes, claimed);
        if !holes.is_empty() {
            self.admit_dead(1 + holes.len(), terms)?;
        }
        self.keep_only(set.above, set.until, &keep, terms.audit, effect);
        for (first, last) in holes {
            #[cfg(feature = "mutants")]
            if terms.mutant == Some(Mutant::ForgetHoles) {
                break;
            }
            self.bury(first, last, terms);
        }
        Ok(())
    }

    fn apply_adds(
        &mut self,
        delta: &Delta,
        terms: &Terms<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refused> {
        let is_new = |slot: &Self, seq: u64| !slot.contains(seq) && !slot.dead().contains(seq);
        let (mut entries, mut bytes) = (0, 0);
        for add in delta.adds.iter().filter(|add| is_new(self, add.seq)) {
            entries += 1;
            bytes += add.pair.bytes() + ENTRY_OVERHEAD;
        }
        self.admit_entries(entries, bytes, terms, effect)?;
        for add in &delta.adds {
            if is_new(self, add.seq) {
                let entry = Entry {
                    hlc: add.hlc,
                    pair: add.pair.clone(),
                };
                self.put(add.seq, entry, terms.audit, effect);
            }
        }
        Ok(())
    }

    /// Makes the entries those that the origin itself says are live. Only the origin knows
    /// that an applied operation still has one, and it counts only while we know of
    /// nothing later.
    fn apply_whole(
        &mut self,
        delta: &Delta,
        set: &LiveSet,
        terms: &Terms<'_>,
        effect: &mut Effect,
    ) -> Result<(), Refused> {
        if !terms.first_hand {
            return Ok(());
        }
        effect.refuted = self.refute(set.complete);
        if self.heard_of() > set.complete {
            return Ok(());
        }
        let same = |slot: &Self, add: &Add| {
            let same = |entry: &Entry| entry.hlc == add.hlc && entry.pair == add.pair;
            !slot.contains(add.seq) || slot.live().entry(add.seq).is_some_and(same)
        };
        let wrong = |add: &&Add| !same(self, add);
        let keep: Vec<u64> = delta
            .adds
            .iter()
            .filter(|add| same(self, add))
            .map(|add| add.seq)
            .collect();
        let wrong: Vec<Add> = delta.adds.iter().filter(wrong).cloned().collect();
        self.keep_only(set.above, set.until, &keep, terms.audit, effect);
        let bytes = wrong
            .iter()
            .map(|add| add.pair.bytes() + ENTRY_OVERHEAD)
            .sum();
        self.admit_entries(wrong.len(), bytes, terms, effect)?;
        for add in wrong {
            self.put(
                add.seq,
                Entry {
                    hlc: add.hlc,
                    pair: add.pair,
                },
                terms.audit,
                effect,
            );
        }
        Ok(())
    }

    fn admit_dead(&self, more: usize, terms: &Terms<'_>) -> Result<(), Refused> {
        if more > 0 && self.dead().len() + more > terms.limits.max_dead {
            return Err(Refused::TooManyHoles);
        }
        Ok(())
    }

    /// What was just removed makes room, also in the sum over all logs.
    fn admit_entries(
        &self,
        entries: usize,
        bytes: usize,
        terms: &Terms<'_>,
        effect: &Effect,
    ) -> Result<(), Refused> {
        let limits = terms.limits;
        let freed: usize = effect
            .removed
            .iter()
            .map(|(_, entry)| entry.pair.bytes() + ENTRY_OVERHEAD)
            .sum();
        if entries == 0 {
            Ok(())
        } else if self.live().len() + entries > limits.max_origin_entries {
            Err(Refused::Full(Budget::OriginEntries))
        } else if self.bytes() + bytes > limits.max_origin_bytes {
            Err(Refused::Full(Budget::OriginBytes))
        } else if entries > terms.room.0 + effect.removed.len() {
            Err(Refused::Full(Budget::Entries))
        } else if bytes > terms.room.1 + freed {
            Err(Refused::Full(Budget::Bytes))
        } else {
            Ok(())
        }
    }

    /// Takes the claimed operations for applied.
    fn cover(&mut self, delta: &Delta, terms: &Terms<'_>) {
        let (from, to) = (delta.from, delta.to);
        match &delta.removes {
            Removes::List(list) => {
                for removal in list {
                    if !self.contains(removal.by) {
                        self.record(*removal, terms.limits.max_log);
                    }
                }
            }
            Removes::LiveSet(_) => self.forget_log(to),
        }
        self.extend(from, to);
        if !self.dead().is_empty() {
            // A later base covers what was in the cloud as well.
            let base = self.base;
            let rare = self.rare_mut();
            rare.dead.remove(from + 1, to);
            rare.dead.remove(0, base);
        }
    }

    fn extend(&mut self, from: u64, to: u64) {
        if from <= self.base && self.cloud().is_empty() {
            self.base = self.base.max(to);
            return;
        }
        let base = self.base;
        let rare = self.rare_mut();
        let mut coverage = Coverage {
            base,
            cloud: std::mem::take(&mut rare.cloud),
        };
        // Admitted before, so that no limit is needed here.
        let _ = coverage.extend(from, to, usize::MAX);
        rare.cloud_hash = hash_of(&coverage.cloud);
        rare.cloud = coverage.cloud;
        self.base = coverage.base;
    }

    /// Marks what is not applied as dead.
    fn bury(&mut self, first: u64, last: u64, terms: &Terms<'_>) {
        #[cfg(feature = "mutants")]
        if terms.mutant == Some(Mutant::CoverTheDead) {
            self.extend(first - 1, last);
            return;
        }
        let _ = terms;
        self.rare_mut().dead.insert(first, last);
    }

    /// Remembers how far the delta's maker was, and how far it told what is live.
    fn note_progress(&mut self, delta: &Delta) {
        let base = self.base;
        if delta.as_of > base && delta.as_of > self.rare().ahead {
            self.rare_mut().ahead = delta.as_of;
        }
        let Removes::LiveSet(set) = &delta.removes else {
            return;
        };
        if set.whole || set.complete <= base {
            return;
        }
        let now = self.sweep();
        let next = if now == Sweep::default() {
            if set.above > 0 {
                return;
            }
            Sweep {
                upto: set.until,
                as_of: set.complete,
            }
        } else if set.above <= now.upto && set.until > now.upto {
            Sweep {
                upto: set.until,
                as_of: now.as_of.min(set.complete),
            }
        } else {
            return;
        };
        self.rare_mut().sweep = next;
    }
}

/// What is in the ranges and not in the ascending list.
fn without(ranges: &[(u64, u64)], list: &[u64]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for &(first, last) in ranges {
        let mut next = first;
        let start = list.partition_point(|&number| number < first);
        for &number in list[start..].iter().take_while(|&&number| number <= last) {
            if next < number {
                left.push((next, number - 1));
            }
            next = number + 1;
        }
        if next <= last {
            left.push((next, last));
        }
    }
    left
}

/// The parts of the ranges that are not of the operations `(from, to]`.
fn outside(ranges: &[(u64, u64)], (from, to): (u64, u64)) -> Vec<(u64, u64)> {
    let parts = |&(first, last): &(u64, u64)| [(first, last.min(from)), (first.max(to + 1), last)];
    let parts = ranges.iter().flat_map(parts);
    parts.filter(|(first, last)| first <= last).collect()
}
