// SPDX-License-Identifier: Apache-2.0

//! The log of one life of one writer, as far as it is known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::AuditKey;
use crate::digest::Summary;
use crate::ranges::{Coverage, RangeSet};

use super::entry::{Entry, LogName};

/// Ranges beyond the base, and ranges of the dead, at most. As in the registry: after
/// that many holes it is time to pull.
pub(super) const MAX_RANGES: usize = 1024;

/// In the `cloud` of a summary, the bits that say how far beyond the base the ranges
/// reach, so that who has more sees that there is nothing to want. The others are a hash.
const REACH: u64 = u32::MAX as u64;

/// Whether somebody with that summary has operations that the other lacks, as far as that
/// can be seen.
pub(super) fn has_more(theirs: &Summary, ours: &Summary) -> bool {
    let reach = theirs.cloud & REACH;
    let far = reach == REACH || theirs.base.saturating_add(reach) > ours.base;
    theirs.base > ours.base || theirs.cloud != 0 && theirs.cloud != ours.cloud && far
}

/// One log. Operations that are applied and have no live entry were replaced by later
/// values of their keys.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) name: Arc<LogName>,
    pub(super) applied: Coverage,
    /// Operations not applied whose entries are known to be dead.
    pub(super) dead: RangeSet,
    pub(super) live: BTreeMap<u64, Arc<Entry>>,
    /// The last operation whose removal was collected: who lacks it, cannot learn from
    /// this replica what it removed.
    pub(super) collected: u64,
    /// The sum of the hashes of all live values. Removals are not in it, because
    /// replicas collect them at different times.
    pub(super) audit: u128,
    /// Live entries whose time has not come.
    pub(super) parked: usize,
    /// What the digest holds of this log.
    pub(super) hash: Option<u128>,
}

impl Log {
    pub(super) fn new(name: LogName) -> Self {
        Self {
            name: Arc::new(name),
            applied: Coverage::default(),
            dead: RangeSet::new(),
            live: BTreeMap::new(),
            collected: 0,
            audit: 0,
            parked: 0,
            hash: None,
        }
    }

    pub(super) fn link(&mut self, entry: &Arc<Entry>, key: &AuditKey) {
        self.audit = self.audit.wrapping_add(weight(entry, key));
        let before = self.live.insert(entry.seq, Arc::clone(entry));
        debug_assert!(before.is_none(), "{entry:?} takes the place of {before:?}");
    }

    pub(super) fn unlink(&mut self, entry: &Entry, key: &AuditKey) {
        let gone = self.live.remove(&entry.seq);
        debug_assert!(gone.is_some(), "{entry:?} is not there");
        self.audit = self.audit.wrapping_sub(weight(entry, key));
    }

    /// Takes `(from, to]` for applied. The caller has asked [`Coverage::admits`].
    pub(super) fn cover(&mut self, from: u64, to: u64) {
        let taken = self.applied.extend(from, to, MAX_RANGES);
        debug_assert!(taken.is_ok(), "the caller did not ask for room");
        self.dead.remove(0, self.applied.base);
    }

    pub(super) fn has_values(&self) -> bool {
        self.live.values().any(|entry| !entry.is_removal())
    }

    pub(super) fn summary(&self, key: &AuditKey) -> Summary {
        let ranges = self.applied.cloud.iter();
        let cloud = if self.applied.cloud.is_empty() {
            0
        } else {
            let hash = key.words(ranges.flat_map(|(first, last)| [first, last])) as u64;
            let reach = (self.applied.top() - self.applied.base).min(REACH);
            hash & !REACH | reach
        };
        Summary {
            origin: self.name.origin,
            inc: self.name.inc,
            base: self.applied.base,
            cloud,
            audit: self.audit,
            settled: self.applied.cloud.is_empty(),
        }
    }
}

/// The part of an entry in the audit.
pub(super) fn weight(entry: &Entry, key: &AuditKey) -> u128 {
    if entry.is_removal() {
        0
    } else {
        key.entry(&entry.add())
    }
}
