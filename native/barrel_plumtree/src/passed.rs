// SPDX-License-Identifier: Apache-2.0

//! The messages that passed here of late.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a message is remembered: longer than its copies are under way, even where they were
/// asked for several times.
const MEMORY: Duration = Duration::from_secs(10);

/// What is known of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    /// Links it had passed when it arrived.
    pub(crate) hops: u16,
    /// When it was announced first, if it was asked for and came from who was
    /// asked. The tree may bring it still, and then says how long it took.
    pub(crate) announced: Option<Duration>,
}

/// As many as the limit, and none that is old; the oldest go.
#[derive(Clone, Debug)]
pub(crate) struct Passed<I> {
    limit: usize,
    traces: BTreeMap<I, Trace>,
    order: VecDeque<(Duration, I)>,
}

impl<I: Clone + Ord> Passed<I> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            traces: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(crate) fn contains(&self, id: &I) -> bool {
        self.traces.contains_key(id)
    }

    pub(crate) fn trace_mut(&mut self, id: &I) -> Option<&mut Trace> {
        self.traces.get_mut(id)
    }

    /// Notes a message, or changes what is noted. A known one gets no younger.
    pub(crate) fn insert(&mut self, now: Duration, id: I, trace: Trace) {
        if self.traces.insert(id.clone(), trace).is_none() {
            self.order.push_back((now, id));
        }
        while let Some((at, oldest)) = self.order.front()
            && (self.order.len() > self.limit || now.saturating_sub(*at) > MEMORY)
        {
            self.traces.remove(oldest);
            self.order.pop_front();
        }
    }

    /// How many came after that time.
    pub(crate) fn since(&self, time: Duration) -> usize {
        self.order.len() - self.order.partition_point(|(at, _)| *at <= time)
    }

    pub(crate) fn len(&self) -> usize {
        self.traces.len()
    }

    /// Whether both containers hold the same number, and no more than they may.
    pub(crate) fn is_sound(&self) -> bool {
        self.order.len() == self.traces.len() && self.order.len() <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: Trace = Trace {
        hops: 1,
        announced: None,
    };

    #[test]
    fn the_oldest_goes_first() {
        let mut passed = Passed::new(2);
        for id in [1, 2, 1, 3] {
            passed.insert(Duration::ZERO, id, TRACE);
            assert!(passed.is_sound());
        }
        assert!(!passed.contains(&1));
        assert!(passed.contains(&2) && passed.contains(&3));
        assert_eq!(passed.len(), 2);
    }

    #[test]
    fn those_of_late_are_counted() {
        let mut passed = Passed::new(9);
        for id in 1..=4 {
            passed.insert(Duration::from_secs(id), id, TRACE);
        }
        let since = |s| passed.since(Duration::from_secs(s));
        assert_eq!([since(0), since(1), since(3), since(4)], [4, 3, 1, 0]);
    }

    #[test]
    fn what_is_old_goes_with_the_next() {
        let mut passed = Passed::new(9);
        passed.insert(Duration::ZERO, 1, TRACE);
        passed.insert(MEMORY, 2, TRACE);
        assert_eq!(passed.len(), 2);
        passed.insert(MEMORY + Duration::from_micros(1), 3, TRACE);
        assert!(!passed.contains(&1) && passed.is_sound());
    }
}
