// SPDX-License-Identifier: Apache-2.0

//! The messages that passed here of late.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What is known of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    /// Links it had passed when it arrived; `None` when it was fetched another way and
    /// the tree has not brought it yet.
    pub(crate) hops: Option<u16>,
    /// When it was announced first, if it was asked for and came from who was
    /// asked. The tree may bring it still, and then says how long it took.
    pub(crate) announced: Option<Duration>,
}

/// As many as the limit; the oldest go.
#[derive(Clone, Debug)]
pub(crate) struct Passed<I> {
    limit: usize,
    traces: BTreeMap<I, Trace>,
    order: VecDeque<I>,
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
    pub(crate) fn insert(&mut self, id: I, trace: Trace) {
        if self.traces.insert(id.clone(), trace).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.traces.remove(&oldest);
        }
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
        hops: Some(1),
        announced: None,
    };

    #[test]
    fn the_oldest_goes_first() {
        let mut passed = Passed::new(2);
        for id in [1, 2, 1, 3] {
            passed.insert(id, TRACE);
            assert!(passed.is_sound());
        }
        assert!(!passed.contains(&1));
        assert!(passed.contains(&2) && passed.contains(&3));
        assert_eq!(passed.len(), 2);
    }
}
