// SPDX-License-Identifier: Apache-2.0

//! Sets of sequence numbers, as ranges.

use std::fmt;

/// A set of numbers as sorted ranges that neither overlap nor touch. Its owner bounds
/// it: ask [`RangeSet::len`] after an insertion into a copy, or use [`Coverage`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RangeSet(Vec<(u64, u64)>);

impl RangeSet {
    /// The empty set, which takes no memory.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many ranges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, ascending, each with its first and its last number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The greatest number.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|range| range.1)
    }

    /// Whether the number is in it.
    pub fn contains(&self, number: u64) -> bool {
        self.contains_all(number, number)
    }

    /// Whether all numbers from `first` to `last` are in it.
    pub fn contains_all(&self, first: u64, last: u64) -> bool {
        let at = self.0.partition_point(|range| range.1 < first);
        first > last
            || self
                .0
                .get(at)
                .is_some_and(|range| range.0 <= first && last <= range.1)
    }

    /// Adds the numbers from `first` to `last`.
    pub fn insert(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        let (from, to) = self.touching(first, last);
        if from < to {
            first = first.min(self.0[from].0);
            last = last.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, last)]);
    }

    /// How many ranges there would be after [`RangeSet::insert`].
    pub fn len_with(&self, first: u64, last: u64) -> usize {
        let (from, to) = self.touching(first, last);
        self.0.len() + 1 - (to - from)
    }

    /// Takes out the numbers from `first` to `last`.
    pub fn remove(&mut self, first: u64, last: u64) {
        let from = self.0.partition_point(|range| range.1 < first);
        let to = self.0.partition_point(|range| range.0 <= last);
        if first > last || from >= to {
            return;
        }
        let (left, right) = (self.0[from].0, self.0[to - 1].1);
        let before = (left < first).then(|| (left, first - 1));
        let after = (last < right).then(|| (last + 1, right));
        self.0.splice(from..to, before.into_iter().chain(after));
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// The ranges from `first` to `last` that are not in it, ascending.
    pub fn missing(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut next = first;
        let at = self.0.partition_point(|range| range.1 < first);
        for &(low, high) in self.0[at..].iter().take_while(|range| range.0 <= last) {
            if next < low {
                holes.push((next, low - 1));
            }
            let Some(after) = high.checked_add(1) else {
                return holes;
            };
            next = after;
        }
        if next <= last {
            holes.push((next, last));
        }
        holes
    }

    /// The ranges that overlap or touch the one from `first` to `last`.
    fn touching(&self, first: u64, last: u64) -> (usize, usize) {
        let from = self
            .0
            .partition_point(|range| range.1 < first.saturating_sub(1));
        let to = self
            .0
            .partition_point(|range| range.0 <= last.saturating_add(1));
        (from, to.max(from))
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.iter().map(|(first, last)| first..=last);
        f.debug_set().entries(ranges).finish()
    }
}

/// There would be more ranges than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRanges;

/// Which operations of one log are applied: all from 1 to `base`, and beyond it those
/// of the `cloud`, because a broadcast keeps no order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Every operation up to this one is applied.
    pub base: u64,
    /// Operations applied beyond; never `base + 1`.
    pub cloud: RangeSet,
}

impl Coverage {
    /// Whether the operation is applied.
    pub fn contains(&self, seq: u64) -> bool {
        seq <= self.base || self.cloud.contains(seq)
    }

    /// Whether all operations of `(from, to]` are applied.
    pub fn contains_all(&self, from: u64, to: u64) -> bool {
        to <= self.base || self.cloud.contains_all(from.max(self.base) + 1, to)
    }

    /// The greatest operation applied.
    pub fn top(&self) -> u64 {
        self.cloud.last().unwrap_or(self.base)
    }

    /// What is not applied of `(from, to]`, as ranges of a first and a last number.
    pub fn missing(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let first = from.max(self.base).saturating_add(1);
        self.cloud.missing(first, to)
    }

    /// Whether [`Coverage::extend`] with the same arguments would succeed.
    pub fn admits(&self, from: u64, to: u64, limit: usize) -> bool {
        from <= self.base || self.cloud.len_with(from + 1, to) <= limit.max(self.cloud.len())
    }

    /// Takes the operations of `(from, to]` for applied. The cloud has at most `limit`
    /// ranges: an error changes nothing, and means to stop and pull the holes first.
    pub fn extend(&mut self, from: u64, to: u64, limit: usize) -> Result<(), TooManyRanges> {
        if from >= to || to <= self.base {
            return Ok(());
        }
        if !self.admits(from, to, limit) {
            return Err(TooManyRanges);
        }
        if from > self.base {
            self.cloud.insert(from + 1, to);
            return Ok(());
        }
        self.base = to;
        // The cloud that the base has reached becomes part of it.
        let reached = |&(first, _): &(u64, u64)| first <= to + 1;
        if let Some((_, last)) = self.cloud.iter().take_while(reached).last() {
            self.base = to.max(last);
            self.cloud.remove(0, last);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn canonical(set: &RangeSet) -> bool {
        let ranges: Vec<_> = set.iter().collect();
        ranges.iter().all(|range| range.0 <= range.1)
            && ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0)
    }

    #[test]
    fn the_ends_of_the_number_line_are_numbers() {
        let mut set = RangeSet::new();
        set.insert(u64::MAX, u64::MAX);
        set.insert(0, 0);
        set.insert(1, u64::MAX - 1);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(0, u64::MAX)]);
        assert!(set.missing(0, u64::MAX).is_empty());
        set.remove(0, 0);
        set.remove(u64::MAX, u64::MAX);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, u64::MAX - 1)]);
    }

    #[test]
    fn one_range_too_many_changes_nothing() {
        let mut coverage = Coverage::default();
        for n in 0..4 {
            coverage.extend(10 * n + 5, 10 * n + 6, 4).unwrap();
        }
        let before = coverage.clone();
        assert_eq!(coverage.extend(100, 101, 4), Err(TooManyRanges));
        assert_eq!(coverage, before);
        coverage.extend(6, 7, 4).unwrap();
        coverage.extend(0, 5, 4).unwrap();
        assert_eq!(coverage.base, 7);
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(ops in prop::collection::vec((any::<bool>(), 1u64..60, 0u64..12), 1..40)) {
            let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
            for (add, first, length) in ops {
                let last = first + length;
                if add {
                    let expected = set.len_with(first, last);
                    set.insert(first, last);
                    model.extend(first..=last);
                    prop_assert_eq!(set.len(), expected);
                } else {
                    set.remove(first, last);
                    model.retain(|n| *n < first || *n > last);
                }
                prop_assert!(canonical(&set));
                for n in 0..80 {
                    prop_assert_eq!(set.contains(n), model.contains(&n));
                }
                let missing: Vec<u64> = set.missing(5, 70).into_iter().flat_map(|(a, b)| a..=b).collect();
                let expected: Vec<u64> = (5..=70).filter(|n| !model.contains(n)).collect();
                prop_assert_eq!(missing, expected);
            }
        }

        #[test]
        fn coverage_is_a_set_with_a_base(ops in prop::collection::vec((0u64..60, 0u64..12), 1..40)) {
            let (mut coverage, mut model) = (Coverage::default(), BTreeSet::new());
            for (from, length) in ops {
                coverage.extend(from, from + length, 1000).unwrap();
                model.extend(from + 1..=from + length);
                for n in 1..80 {
                    prop_assert_eq!(coverage.contains(n), model.contains(&n));
                }
                prop_assert!(!coverage.contains(coverage.base + 1));
                prop_assert!(canonical(&coverage.cloud));
                prop_assert!(coverage.contains_all(from, from + length));
                prop_assert_eq!(coverage.contains_all(from, 90), from >= 90);
            }
        }
    }
}
