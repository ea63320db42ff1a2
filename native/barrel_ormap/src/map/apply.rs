// SPDX-License-Identifier: Apache-2.0

//! Taking what others have.

use std::sync::Arc;

use crate::delta::{Add, LiveSet, Malformed, Removes};
use crate::hlc::{Clock, Hlc, Now};
use crate::key::OriginKey;

use super::LwwMap;
use super::delta::MapDelta;
use super::entry::{Entry, LogName};
use super::log::MAX_RANGES;
use super::record::RecordId;

/// What came of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Applied {
    /// Something of it was not known.
    pub new: bool,
    /// The latest stamp in it that our clock has taken.
    pub latest: Hlc,
}

/// Why a delta was not applied. Nothing has changed, but what each case says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The sender did not keep the form.
    Malformed(Malformed),
    /// Somebody has operations of this very life of ours that we did not write: there
    /// are two of us, or this life had been lived before. [`LwwMap::reincarnate`].
    Clash,
    /// The sender has forgotten removals that we have not seen. A reset has begun:
    /// [`LwwMap::wants`] asks for what it needs.
    NeedsReset,
    /// Too many operations are missing before these: pull them first.
    TooManyHoles,
    /// The writer has too many logs with values in them, or all writers have.
    TooManyLogs,
    /// The budget for entries or bytes is used up.
    Full,
    /// Too many values from the future. What came before the first of them in the delta
    /// was applied.
    TooFarAhead,
}

impl LwwMap {
    /// Takes what a peer has sent. The clock takes the stamps.
    ///
    /// # Errors
    /// Says why not, see there.
    pub fn apply(
        &mut self,
        now: Now,
        clock: &mut Clock,
        from: OriginKey,
        delta: MapDelta,
    ) -> Result<Applied, Refused> {
        delta.validate().map_err(Refused::Malformed)?;
        let name = LogName {
            origin: delta.delta.origin,
            inc: delta.delta.inc,
        };
        if name == self.me && delta.delta.to > self.seq {
            self.clash = self.clash.max(Some(name.inc));
            return Err(Refused::Clash);
        }
        self.see(now, clock);
        self.resets.in_epoch(from, delta.collected.epoch);
        let applied = match &delta.delta.removes {
            Removes::LiveSet(set) if set.whole => Ok(self.on_whole(clock, from, name, &delta, set)),
            Removes::LiveSet(set) => Ok(self.on_statement(from, name, &delta, set)),
            Removes::List(_) => self.on_claim(clock, from, name, delta),
        };
        self.finish();
        applied
    }

    /// A peer that has applied the same as we have, sends what it holds of a log.
    fn on_whole(
        &mut self,
        clock: &Clock,
        from: OriginKey,
        name: LogName,
        delta: &MapDelta,
        set: &LiveSet,
    ) -> Applied {
        let Some(log) = self.logs.get(&name) else {
            return Applied::default();
        };
        let label = log.name.clone();
        let lost = |add: &&Add| log.applied.contains(add.seq) && !log.live.contains_key(&add.seq);
        let lost: Vec<Add> = delta.delta.adds.iter().filter(lost).cloned().collect();
        let mut new = false;
        for add in lost {
            let one = [(add.pair.key(), add.pair.bytes(), true)];
            let room = self.has_room(one.into_iter());
            // What its time has not come for, is taken when it has.
            let near = clock.accepts(self.now.wall_ms, add.hlc);
            if !room || !near || add.pair.value().is_empty() {
                continue;
            }
            let births = delta.births_of(add.seq);
            let entry = Entry::new(&label, add, births, self.now.mono);
            if let Some(removal) = self.removal_of(&entry) {
                self.append(|log, seq, _| removal.moved(log, seq));
                continue;
            }
            let birth = entry.birth().log;
            if self.settle(entry) {
                new = true;
                self.stats.repaired += 1;
                self.resets.came_from(from, name);
                self.resets.came_from(from, birth);
            }
        }
        if set.until < set.complete {
            self.repaired.insert(name, set.until);
        } else {
            self.repaired.remove(&name);
        }
        let latest = Hlc::ZERO;
        Applied { new, latest }
    }

    /// The removal because of which the value is not live here. The peer shows the value,
    /// so it has forgotten the removal and needs to hear of it again.
    fn removal_of(&mut self, entry: &Entry) -> Option<Arc<Entry>> {
        let current = self.current.get(entry.key()).map(|current| &current.0);
        let removal = current.filter(|current| current.is_removal() && current.beats(entry))?;
        let removal = Arc::clone(removal);
        self.has_room_for_log(self.me).then_some(removal)
    }

    fn on_claim(
        &mut self,
        clock: &mut Clock,
        peer: OriginKey,
        name: LogName,
        delta: MapDelta,
    ) -> Result<Applied, Refused> {
        let (from, to) = (delta.delta.from, delta.delta.to);
        let known = self.logs.get(&name);
        if self.is_closed(name) || known.is_some_and(|log| log.applied.contains_all(from, to)) {
            return Ok(Applied::default());
        }
        if known.is_some_and(|log| !log.applied.admits(from, to, MAX_RANGES)) {
            return Err(Refused::TooManyHoles);
        }
        self.demand_reset(peer, name, &delta)?;
        if !self.has_room(self.unknown(clock, name, &delta)) {
            return Err(Refused::Full);
        }
        if !self.has_room_for_log(name) {
            return Err(Refused::TooManyLogs);
        }
        let until = self.until_too_far(clock, name, &delta);
        if until <= from {
            return Err(Refused::TooFarAhead);
        }
        let latest = self.take(clock, peer, name, &delta, until);
        if until < to {
            return Err(Refused::TooFarAhead);
        }
        Ok(Applied { new: true, latest })
    }

    /// The entries of the delta that are not applied, each with its key, its bytes and
    /// whether it counts at once.
    fn unknown<'a>(
        &'a self,
        clock: &'a Clock,
        name: LogName,
        delta: &'a MapDelta,
    ) -> impl Iterator<Item = (&'a [u8], usize, bool)> + Clone {
        let log = self.logs.get(&name);
        let adds = delta.delta.adds.iter();
        let new = adds.filter(move |add| log.is_none_or(|log| !log.applied.contains(add.seq)));
        new.map(|add| {
            // A removal is kept even if it loses.
            let removal = add.pair.value().is_empty();
            let old = self.current.get(add.pair.key()).filter(|_| removal);
            let wins = old.is_none_or(|old| old.0.hlc < add.hlc);
            let counts = wins && clock.accepts(self.now.wall_ms, add.hlc);
            (add.pair.key(), add.pair.bytes(), counts)
        })
    }

    /// The last operation before a value from the future for which there is no room.
    fn until_too_far(&self, clock: &Clock, name: LogName, delta: &MapDelta) -> u64 {
        let log = self.logs.get(&name);
        let parked = log.map_or(0, |log| log.parked);
        let room = self.config.max_parked.saturating_sub(self.parked.len());
        let room = room.min(self.config.max_parked_per_log.saturating_sub(parked));
        let adds = delta.delta.adds.iter();
        let mut ahead = adds
            .filter(|add| log.is_none_or(|log| !log.applied.contains(add.seq)))
            .filter(|add| !clock.accepts(self.now.wall_ms, add.hlc));
        ahead.nth(room).map_or(delta.delta.to, |add| add.seq - 1)
    }

    /// Takes the operations up to `until`. All has been asked.
    fn take(
        &mut self,
        clock: &mut Clock,
        peer: OriginKey,
        name: LogName,
        delta: &MapDelta,
        until: u64,
    ) -> Hlc {
        let from = delta.delta.from;
        let log = self.open(name);
        let label = log.name.clone();
        let before = log.applied.clone();
        let dead = log.dead.clone();
        log.cover(from, until);
        self.note(RecordId::Log(name));
        self.touched.insert(name);
        let forgotten = until.min(delta.collected.upto);
        if from < forgotten && !before.contains_all(from, forgotten) {
            self.raise_collected(name, forgotten);
            self.raise_epoch();
            self.be_unsure(peer);
        }
        let (now, wall_ms) = (self.now.mono, self.now.wall_ms);
        let (mut latest, mut any) = (Hlc::ZERO, false);
        for add in delta.delta.adds.iter().take_while(|add| add.seq <= until) {
            // A removal is never dead: what it removed may come from somebody else.
            let value = !add.pair.value().is_empty();
            if before.contains(add.seq) || value && dead.contains(add.seq) {
                continue;
            }
            #[cfg(feature = "mutants")]
            if self.is(super::Mutant::ClaimTooMuch) && add.seq % 5 == 0 {
                continue;
            }
            let near = clock.accepts(wall_ms, add.hlc);
            let entry = Entry::new(&label, add.clone(), delta.births_of(add.seq), now);
            if self.is_dead(&entry) {
                continue;
            }
            any = true;
            if let Some(birth) = entry.moved_from() {
                self.resets.came_from(peer, birth.log);
            }
            if near {
                latest = latest.max(add.hlc);
                self.settle(entry);
            } else {
                self.park(entry);
            }
        }
        if any {
            self.resets.came_from(peer, name);
        }
        // Refused by nobody: each stamp was near.
        let taken = clock.receive(wall_ms, latest);
        debug_assert!(taken.is_ok(), "{latest:?} was near");
        latest
    }

    /// Whether a value that has moved is known to be dead: we have applied its birth, and
    /// do not hold it.
    fn is_dead(&self, entry: &Entry) -> bool {
        let Some(birth) = entry.moved_from() else {
            return false;
        };
        let current = self.current.get(entry.key()).map(|current| &current.0);
        let twin = current.is_some_and(|current| current.is_twin(entry))
            || self
                .parked
                .values()
                .any(|other| other.key() == entry.key() && other.is_twin(entry));
        self.knows(birth) && !twin
    }
}
