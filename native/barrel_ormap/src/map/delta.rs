// SPDX-License-Identifier: Apache-2.0

//! What travels between replicas of a map.

use crate::delta::{Delta, LiveSet, MAX_CHUNK, Malformed, Removes};

use super::entry::{Birth, MAX_BIRTHS};

/// What a birth takes at most beside its entry.
const PER_BIRTH: usize = 56;

/// What a range takes at most.
const PER_RANGE: usize = 20;

/// What [`Collected`] takes at most.
const COLLECTED: usize = 20;

// The largest value with all its births.
const _: () =
    assert!(overhead() + crate::delta::largest_add() + MAX_BIRTHS * PER_BIRTH <= MAX_CHUNK);

/// What the sender no longer knows of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Collected {
    /// The last operation whose removal it has collected, or 0.
    pub upto: u64,
    /// Changes whenever the sender has collected anything, in any log. 0 if nobody may rely
    /// on what it says of that.
    pub epoch: u64,
}

/// A piece of one log of a map. What the operations replaced is not listed: each entry
/// replaces what has its key and a lower stamp, in whatever log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDelta {
    /// The operations, or a statement about what is live, as in the registry. A claim
    /// has an empty list of removals. A statement claims nothing. It names what is live,
    /// or, if it is `whole`, brings it along.
    pub delta: Delta,
    /// The births that belong to what is added, by operation.
    pub births: Vec<(u64, Birth)>,
    /// Operations that a statement is not about, because the sender has not applied
    /// them: ranges, ascending, each with its first and its last.
    pub unknown: Vec<(u64, u64)>,
    /// What the sender no longer knows.
    pub collected: Collected,
}

impl MapDelta {
    /// Bytes that its encoding takes at most.
    pub fn encoded_len(&self) -> usize {
        let births = self.births.len() * PER_BIRTH;
        let unknown = self.unknown.len() * PER_RANGE;
        self.delta.encoded_len() + births + unknown + COLLECTED
    }

    /// Whether it keeps the form that its fields describe.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), Malformed> {
        self.delta.validate()?;
        match &self.delta.removes {
            Removes::List(list) if !list.is_empty() => return Err(Malformed::Removal),
            Removes::List(_) => {}
            Removes::LiveSet(set) => {
                let adds = !self.delta.adds.is_empty();
                if self.delta.from < self.delta.to || adds && !set.whole {
                    return Err(Malformed::Statement);
                }
            }
        }
        let ranges = self.unknown.iter().all(|range| range.0 <= range.1);
        if !ranges || !self.unknown.is_sorted_by(|a, b| a.1 < b.0) {
            return Err(Malformed::Statement);
        }
        if !self.births.is_sorted_by_key(|birth| birth.0) {
            return Err(Malformed::Entry);
        }
        let mut births = self.births.chunk_by(|a, b| a.0 == b.0);
        if births.any(|births| births.len() > MAX_BIRTHS) {
            return Err(Malformed::Entry);
        }
        let adds = &self.delta.adds;
        let added = |seq: &u64| adds.binary_search_by_key(seq, |add| add.seq).is_ok();
        if !self.births.iter().all(|(seq, _)| added(seq)) {
            return Err(Malformed::Entry);
        }
        if self.encoded_len() > MAX_CHUNK {
            return Err(Malformed::TooBig);
        }
        Ok(())
    }

    /// Whether the statement is about this operation and does not name it.
    pub(super) fn declares_dead(&self, set: &LiveSet, seq: u64) -> bool {
        let at = self.unknown.partition_point(|range| range.1 < seq);
        let unknown = self.unknown.get(at).is_some_and(|range| range.0 <= seq);
        let about = set.above < seq && seq <= set.until && !unknown;
        about && set.live.binary_search(&seq).is_err()
    }

    pub(super) fn births_of(&self, seq: u64) -> Vec<Birth> {
        let from = self.births.partition_point(|birth| birth.0 < seq);
        let births = self.births[from..].iter();
        let births = births.take_while(|birth| birth.0 == seq);
        births.map(|birth| birth.1).collect()
    }
}

pub(super) const fn overhead() -> usize {
    crate::delta::header_len() + COLLECTED
}

pub(super) const fn per_range() -> usize {
    PER_RANGE
}

pub(super) const fn per_birth() -> usize {
    PER_BIRTH
}
