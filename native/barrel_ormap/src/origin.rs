// SPDX-License-Identifier: Apache-2.0

//! One origin's log, as one replica has it.
//!
//! What a replica knows of a log are facts that only ever add up: operations are
//! applied, entries are removed. An entry is live when its operation is applied and no
//! removal of it is known. So whatever order the facts come in, replicas with the same
//! facts have the same entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::AuditKey;
use crate::delta::{Add, Delta, LiveSet, Removal, Removes};
use crate::digest::{Summary, Sweep};
use crate::key::OriginKey;
use crate::live::{Entry, Live};
use crate::log::Removals;
use crate::ranges::{Coverage, RangeSet};
use crate::registry::{Budget, Limits, Refused};
use smallvec::SmallVec;

#[cfg(feature = "mutants")]
use crate::registry::Mutant;

/// Takes so many bytes beside key and value, counted against the budgets.
pub(crate) const ENTRY_OVERHEAD: usize = 100;

/// One origin's log. Without entries this is all: 40 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) origin: OriginKey,
    pub(crate) inc: u64,
    /// All operations up to this one are applied.
    pub(crate) base: u64,
    /// Copied on write: whole directories are shared between simulated nodes, and a
    /// reader may still be told about the entries as they were.
    body: Option<Arc<Body>>,
}

/// What only a log with entries needs, or one with operations missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) live: Live,
    /// The sum of the hashes of `live`, in two halves for the sake of its alignment.
    audit: [u64; 2],
    /// Bytes of `live`, by the count of the budgets.
    bytes: usize,
    /// The record of removals is complete after this operation.
    log_begin: u64,
    rare: Option<Box<Rare>>,
}

/// What only a log in motion needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    /// Operations applied beyond `base`.
    cloud: RangeSet,
    /// The hash of the cloud; zero if it is empty.
    cloud_hash: u64,
    /// Entries known to be removed, whose own operation is not applied.
    dead: RangeSet,
    /// What the latest operations removed.
    log: Removals,
    /// How far a statement of what is live was heard.
    sweep: Sweep,
    /// The facts known may depend on operations up to this one.
    ahead: u64,
}

static EMPTY: Body = Body {
    live: Live::Empty,
    audit: [0, 0],
    bytes: 0,
    log_begin: 0,
    rare: None,
};

static IDLE: Rare = Rare {
    cloud: RangeSet::new(),
    cloud_hash: 0,
    dead: RangeSet::new(),
    log: Removals::new(),
    sweep: Sweep { upto: 0, as_of: 0 },
    ahead: 0,
};

/// What a change has done to the entries.
#[derive(Debug, Default)]
pub(crate) struct Effect {
    /// Operations are applied that were not.
    pub(crate) news: bool,
    pub(crate) removed: SmallVec<[(u64, Entry); 2]>,
    pub(crate) added: SmallVec<[(u64, Entry); 2]>,
    /// Operations are missing, or were: a key may have had two entries.
    pub(crate) gaps: bool,
}

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
    pub(crate) fn new(origin: OriginKey, inc: u64) -> Self {
        Self {
            origin,
            inc,
            base: 0,
            body: None,
        }
    }

    pub(crate) fn body(&self) -> &Body {
        self.body.as_deref().unwrap_or(&EMPTY)
    }

    /// The entries as they are now, to be told about later.
    pub(crate) fn share(&self) -> Option<Arc<Body>> {
        self.body.clone()
    }

    pub(crate) fn live(&self) -> &Live {
        &self.body().live
    }

    pub(crate) fn bytes(&self) -> usize {
        self.body().bytes
    }

    pub(crate) fn cloud(&self) -> &RangeSet {
        &self.rare().cloud
    }

    pub(crate) fn dead(&self) -> &RangeSet {
        &self.rare().dead
    }

    pub(crate) fn log(&self) -> &Removals {
        &self.rare().log
    }

    /// The record of removals is complete after this operation. A log without a body has
    /// no entries, and says that in one word instead.
    pub(crate) fn log_begin(&self) -> u64 {
        self.body.as_ref().map_or(self.base, |body| body.log_begin)
    }

    /// How far a statement of what is live was heard, if that still helps.
    pub(crate) fn sweep(&self) -> Sweep {
        let sweep = self.rare().sweep;
        if sweep.as_of > self.base {
            sweep
        } else {
            Sweep::default()
        }
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        seq <= self.base || self.cloud().contains(seq)
    }

    pub(crate) fn contains_all(&self, from: u64, to: u64) -> bool {
        to <= self.base || self.cloud().contains_all(from.max(self.base) + 1, to)
    }

    /// The greatest operation applied.
    pub(crate) fn top(&self) -> u64 {
        self.cloud().last().unwrap_or(self.base)
    }

    /// The latest operation that what is known here may depend on.
    pub(crate) fn heard_of(&self) -> u64 {
        self.top().max(self.rare().ahead)
    }

    pub(crate) fn audit(&self) -> u128 {
        let [low, high] = self.body().audit;
        u128::from(high) << 64 | u128::from(low)
    }

    pub(crate) fn summary(&self) -> Summary {
        let rare = self.rare();
        Summary {
            origin: self.origin,
            inc: self.inc,
            base: self.base,
            cloud: rare.cloud_hash,
            audit: self.audit(),
            settled: rare.cloud.is_empty() && rare.ahead <= self.base,
        }
    }

    /// Applies an operation of the own log: an entry, or the removal of one, or both.
    pub(crate) fn write(
        &mut self,
        entry: Option<Entry>,
        removed: Option<u64>,
        audit: &AuditKey,
        max_log: usize,
    ) -> Effect {
        let seq = self.base + 1;
        let mut effect = Effect {
            news: true,
            ..Effect::default()
        };
        if let Some(old) = removed {
            self.take(old, audit, &mut effect);
            self.record(Removal { by: seq, seq: old }, max_log);
        }
        if let Some(entry) = entry {
            self.put(seq, entry, audit, &mut effect);
        }
        self.base = seq;
        effect
    }

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
        if !terms.first_hand || self.heard_of() > set.complete {
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

    fn record(&mut self, removal: Removal, max_log: usize) {
        if removal.by > self.log_begin()
            && let Some(forgotten) = self.rare_mut().log.push(removal, max_log)
        {
            let body = self.body_mut();
            body.log_begin = body.log_begin.max(forgotten);
        }
    }

    fn forget_log(&mut self, seq: u64) {
        let body = self.body_mut();
        body.log_begin = body.log_begin.max(seq);
        if let Some(rare) = &mut body.rare {
            rare.log.forget(seq);
        }
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

    /// What is not applied of `(from, to]`.
    fn missing(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let first = from.max(self.base).saturating_add(1);
        if first > to {
            Vec::new()
        } else {
            self.cloud().missing(first, to)
        }
    }

    /// Removes what is live of `(from, to]` and not in the list, which is ascending.
    fn keep_only(
        &mut self,
        from: u64,
        to: u64,
        keep: &[u64],
        audit: &AuditKey,
        effect: &mut Effect,
    ) {
        let mut keep = keep.iter().copied().peekable();
        let mut gone = SmallVec::<[u64; 8]>::new();
        for (seq, _) in self.live().range(from, to) {
            while keep.next_if(|&kept| kept < seq).is_some() {}
            if keep.peek() != Some(&seq) {
                gone.push(seq);
            }
        }
        for seq in gone {
            self.take(seq, audit, effect);
        }
    }

    fn put(&mut self, seq: u64, entry: Entry, audit: &AuditKey, effect: &mut Effect) {
        let hash = audit.parts(seq, entry.hlc, None, &entry.pair);
        effect.added.push((seq, entry.clone()));
        let body = self.body_mut();
        body.bytes += entry.pair.bytes() + ENTRY_OVERHEAD;
        body.live.insert(seq, entry);
        body.shift(|sum| sum.wrapping_add(hash));
    }

    fn take(&mut self, seq: u64, audit: &AuditKey, effect: &mut Effect) {
        if self.live().entry(seq).is_none() {
            return;
        }
        let body = self.body_mut();
        if let Some(entry) = body.live.remove(seq) {
            let hash = audit.parts(seq, entry.hlc, None, &entry.pair);
            body.bytes -= entry.pair.bytes() + ENTRY_OVERHEAD;
            body.shift(|sum| sum.wrapping_sub(hash));
            effect.removed.push((seq, entry));
        }
    }

    fn rare(&self) -> &Rare {
        self.body().rare.as_deref().unwrap_or(&IDLE)
    }

    fn body_mut(&mut self) -> &mut Body {
        let log_begin = self.base;
        let new = || {
            Arc::new(Body {
                log_begin,
                ..Body::default()
            })
        };
        Arc::make_mut(self.body.get_or_insert_with(new))
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.body_mut().rare.get_or_insert_default()
    }

    /// Gives back what is not needed any more. A log with one entry or none needs no record
    /// of removals either: what is live is said in one word.
    fn compact(&mut self) {
        let base = self.base;
        let Some(rare) = self.body().rare.as_deref() else {
            return self.drop_empty();
        };
        let moot = |seq: u64| seq != 0 && seq <= base;
        if moot(rare.ahead) {
            self.rare_mut().ahead = 0;
        }
        if moot(self.rare().sweep.as_of) {
            self.rare_mut().sweep = Sweep::default();
        }
        if self.live().len() <= 1 && self.cloud().is_empty() && !self.log().is_empty() {
            self.forget_log(base);
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        if *self.rare() != IDLE {
            return;
        }
        if self.live().is_empty() {
            self.body = None;
        } else if self.body().rare.is_some() {
            self.body_mut().rare = None;
        }
    }

    /// Lists what must hold of it.
    pub(crate) fn check(&self, audit: &AuditKey, limits: &Limits) {
        let rare = self.rare();
        let live = self.live();
        let hash = |(seq, entry): (u64, &Entry)| audit.parts(seq, entry.hlc, None, &entry.pair);
        let sum = live.iter().map(hash).fold(0u128, u128::wrapping_add);
        assert_eq!(self.audit(), sum, "the audit is the sum over the entries");
        let bytes: usize = live
            .iter()
            .map(|(_, entry)| entry.pair.bytes() + ENTRY_OVERHEAD)
            .sum();
        assert_eq!(self.bytes(), bytes, "bytes are counted");
        assert!(
            live.iter().all(|(seq, _)| self.contains(seq)),
            "what is live is applied"
        );
        assert!(
            rare.cloud
                .iter()
                .next()
                .is_none_or(|range| range.0 > self.base + 1),
            "the cloud is beyond the base"
        );
        assert_eq!(
            rare.cloud_hash,
            hash_of(&rare.cloud),
            "the cloud's hash follows it"
        );
        let applied = |(first, last): (u64, u64)| self.missing(first - 1, last) != [(first, last)];
        assert!(
            !rare.dead.iter().any(applied),
            "what is dead is not applied"
        );
        assert!(
            self.log()
                .iter_after(0)
                .all(|removal| self.contains(removal.by)),
            "the log is of applied operations"
        );
        assert!(rare.cloud.len() <= limits.max_cloud && rare.dead.len() <= limits.max_dead);
        assert!(rare.log.len() <= limits.max_log && live.len() <= limits.max_origin_entries);
    }
}

impl Body {
    /// The entries of which the key has a later one, ascending. Only where operations are
    /// missing an honest origin's log has any.
    pub(crate) fn superseded(&self) -> Vec<u64> {
        if self.rare.as_ref().is_none_or(|rare| rare.cloud.is_empty()) {
            return Vec::new();
        }
        let mut latest = BTreeMap::new();
        let mut superseded = Vec::new();
        for (seq, entry) in self.live.iter() {
            superseded.extend(latest.insert(entry.pair.key(), seq));
        }
        superseded.sort_unstable();
        superseded
    }

    fn shift(&mut self, by: impl FnOnce(u128) -> u128) {
        let sum = by(u128::from(self.audit[1]) << 64 | u128::from(self.audit[0]));
        self.audit = [sum as u64, (sum >> 64) as u64];
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

/// The hash of a cloud. It goes into digests, so all nodes need the same: the key of the
/// audit is not needed here, because a cloud that only looks the same costs a round.
fn hash_of(cloud: &RangeSet) -> u64 {
    if cloud.is_empty() {
        return 0;
    }
    let words = cloud.iter().flat_map(|(first, last)| [first, last]);
    (AuditKey::default().words(words) as u64).max(1)
}
