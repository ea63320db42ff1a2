// SPDX-License-Identifier: Apache-2.0

//! Who must not come back unnoticed.

use std::collections::{BTreeMap, VecDeque};

use crate::key::OriginKey;

/// The incarnations that have left or were given up. A copy of their entries may still be
/// somewhere; it must not bring them back. Bounded: the longest gone is forgotten first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departed {
    known: BTreeMap<OriginKey, Gone>,
    /// By age. An origin that departed again is in it twice, and the earlier is void.
    order: VecDeque<(OriginKey, u64)>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    inc: u64,
    /// It said so itself. Otherwise it was given up, and may show itself again.
    left: bool,
    number: u64,
}

impl Departed {
    pub(crate) fn insert(&mut self, origin: OriginKey, inc: u64, left: bool, limit: usize) {
        let old = self.known.get(&origin);
        let (inc, left) = match old {
            Some(old) if old.inc > inc => (old.inc, old.left),
            Some(old) if old.inc == inc => (inc, left || old.left),
            _ => (inc, left),
        };
        let number = self.next;
        self.next += 1;
        self.known.insert(origin, Gone { inc, left, number });
        self.order.push_back((origin, number));
        while self.known.len() > limit || self.order.len() > 2 * limit.max(1) {
            let Some((oldest, number)) = self.order.pop_front() else {
                return;
            };
            if self
                .known
                .get(&oldest)
                .is_some_and(|gone| gone.number == number)
            {
                // Void entries only lengthen the line; this one is the longest gone.
                if self.known.len() > limit {
                    self.known.remove(&oldest);
                } else {
                    self.order.push_back((oldest, number));
                }
            }
        }
    }

    /// Whether that life of the origin is over.
    pub(crate) fn covers(&self, origin: OriginKey, inc: u64) -> bool {
        self.known.get(&origin).is_some_and(|gone| inc <= gone.inc)
    }

    /// An origin that was given up has shown itself.
    pub(crate) fn pardon(&mut self, origin: OriginKey) {
        if self.known.get(&origin).is_some_and(|gone| !gone.left) {
            self.known.remove(&origin);
        }
    }

    /// Each origin with its last incarnation, and whether it said so itself.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OriginKey, u64, bool)> {
        self.known
            .iter()
            .map(|(origin, gone)| (*origin, gone.inc, gone.left))
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u128) -> OriginKey {
        number.into()
    }

    #[test]
    fn the_longest_gone_is_forgotten_first() {
        let mut departed = Departed::default();
        for number in 0..4 {
            departed.insert(key(number), 1, true, 3);
        }
        assert!(!departed.covers(key(0), 1));
        assert!((1..4).all(|number| departed.covers(key(number), 1)));
        departed.insert(key(1), 2, true, 3);
        departed.insert(key(5), 1, true, 3);
        assert!(departed.covers(key(1), 2) && !departed.covers(key(2), 1));
    }

    #[test]
    fn one_that_departs_again_and_again_takes_one_place() {
        let mut departed = Departed::default();
        departed.insert(key(7), 1, true, 3);
        for inc in 0..100 {
            departed.insert(key(1), inc, true, 3);
        }
        assert!(departed.covers(key(7), 1) && departed.covers(key(1), 99));
        assert!(departed.order.len() <= 6);
    }

    #[test]
    fn only_one_that_was_given_up_is_pardoned() {
        let mut departed = Departed::default();
        departed.insert(key(1), 5, false, 3);
        departed.insert(key(2), 5, true, 3);
        departed.pardon(key(1));
        departed.pardon(key(2));
        assert!(!departed.covers(key(1), 5) && departed.covers(key(2), 5));
        assert!(departed.covers(key(2), 4) && !departed.covers(key(2), 6));
    }
}
