// SPDX-License-Identifier: Apache-2.0

//! Whom we lost to failures, and the contacts we joined through.

use std::collections::BTreeMap;
use std::time::Duration;

/// When somebody was lost; `before` of it passed in an earlier life of ours.
#[derive(Clone, Copy, Debug)]
struct Loss {
    at: Duration,
    before: Duration,
}

impl Loss {
    fn age(self, now: Duration) -> Duration {
        now.saturating_sub(self.at).saturating_add(self.before)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Lost<P> {
    size: usize,
    max_seeds: usize,
    losses: BTreeMap<P, Loss>,
    /// The latest contact at the end.
    seeds: Vec<P>,
}

impl<P: Copy + Ord> Lost<P> {
    pub(crate) fn new(size: usize, max_seeds: usize) -> Self {
        Self {
            size,
            max_seeds,
            losses: BTreeMap::new(),
            seeds: Vec::new(),
        }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = P> {
        self.losses.keys().copied()
    }

    pub(crate) fn seeds(&self) -> impl Iterator<Item = P> {
        self.seeds.iter().copied()
    }

    pub(crate) fn contains(&self, peer: P) -> bool {
        self.losses.contains_key(&peer)
    }

    /// Lost, so long ago.
    pub(crate) fn insert(&mut self, now: Duration, peer: P, before: Duration) {
        if self.size == 0 || self.contains(peer) {
            return;
        }
        if self.losses.len() >= self.size {
            let oldest = self.losses.iter().max_by_key(|(_, loss)| loss.age(now));
            let oldest = oldest.map(|(peer, _)| *peer);
            oldest.and_then(|peer| self.losses.remove(&peer));
        }
        self.losses.insert(peer, Loss { at: now, before });
    }

    pub(crate) fn insert_seed(&mut self, peer: P) {
        self.seeds.retain(|seed| *seed != peer);
        self.seeds.push(peer);
        if self.seeds.len() > self.max_seeds {
            self.seeds.remove(0);
        }
    }

    /// Found again.
    pub(crate) fn remove(&mut self, peer: P) {
        self.losses.remove(&peer);
    }

    /// Also as a contact.
    pub(crate) fn forget(&mut self, peer: P) {
        self.remove(peer);
        self.seeds.retain(|seed| *seed != peer);
    }

    /// Drops those lost longer ago than that.
    pub(crate) fn expire(&mut self, now: Duration, keep: Duration) {
        self.losses.retain(|_, loss| loss.age(now) <= keep);
    }

    pub(crate) fn saved(&self, now: Duration) -> Vec<(P, Duration)> {
        let age = |(peer, loss): (&P, &Loss)| (*peer, loss.age(now));
        self.losses.iter().map(age).collect()
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.losses.len() > self.size || self.seeds.len() > self.max_seeds {
            return Err("the lost book is larger than allowed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_book_drops_the_oldest_loss() {
        let mut book = Lost::new(2, 2);
        book.insert(at(1), 'a', at(0));
        book.insert(at(2), 'b', at(9));
        book.insert(at(3), 'c', at(0));
        assert_eq!(book.peers().collect::<Vec<_>>(), ['a', 'c']);
    }

    #[test]
    fn ages_outlive_a_restart() {
        let mut book = Lost::new(2, 2);
        book.insert(at(100), 'a', at(5));
        assert_eq!(book.saved(at(110)), [('a', at(15))]);
        book.expire(at(110), at(14));
        assert_eq!(book.peers().count(), 0);
    }

    #[test]
    fn a_contact_stays_when_it_is_found() {
        let mut book = Lost::new(2, 2);
        "abac".chars().for_each(|seed| book.insert_seed(seed));
        book.remove('a');
        assert_eq!(book.seeds().collect::<Vec<_>>(), ['a', 'c']);
    }
}
