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
use crate::delta::Removal;
use crate::digest::{Summary, Sweep};
use crate::key::OriginKey;
use crate::live::{Entry, Live};
use crate::log::Removals;
use crate::ranges::RangeSet;
use crate::registry::Limits;
use smallvec::SmallVec;

mod merge;

pub(crate) use merge::Terms;

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
    /// The origin knows nothing of later operations that somebody has told us of.
    pub(crate) refuted: bool,
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

    /// The origin itself has written no operations but these. Whoever told us that he has
    /// heard of later ones lied, or has heard a lie: it counts no more, or no copy that
    /// was told so would ever be compared again. Whether there was such a lie.
    pub(crate) fn refute(&mut self, written: u64) -> bool {
        if self.rare().ahead <= written {
            return false;
        }
        self.rare_mut().ahead = written;
        self.compact();
        true
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

/// The hash of a cloud. It goes into digests, so all nodes need the same: the key of the
/// audit is not needed here, because a cloud that only looks the same costs a round.
fn hash_of(cloud: &RangeSet) -> u64 {
    if cloud.is_empty() {
        return 0;
    }
    let words = cloud.iter().flat_map(|(first, last)| [first, last]);
    (AuditKey::default().words(words) as u64).max(1)
}
