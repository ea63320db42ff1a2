// SPDX-License-Identifier: Apache-2.0

//! The address book.

use rand_chacha::ChaCha8Rng;

use crate::active::{pick, sample};

/// Somebody who may be alive, and who told us.
#[derive(Clone, Copy, Debug)]
struct Entry<P> {
    peer: P,
    introducer: P,
}

#[derive(Clone, Debug)]
pub(crate) struct Passive<P> {
    entries: Vec<Entry<P>>,
    size: usize,
    /// Most entries of one introducer.
    share: usize,
}

impl<P: Copy + Ord> Passive<P> {
    /// `share` is in percent of the size.
    pub(crate) fn new(size: usize, share: Option<u8>) -> Self {
        let share = share.map_or(size, |percent| (size * usize::from(percent) / 100).max(1));
        Self {
            entries: Vec::new(),
            size,
            share,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = P> {
        self.entries.iter().map(|entry| entry.peer)
    }

    pub(crate) fn contains(&self, peer: P) -> bool {
        self.peers().any(|known| known == peer)
    }

    pub(crate) fn remove(&mut self, peer: P) {
        self.entries.retain(|entry| entry.peer != peer);
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn sample(&self, rng: &mut ChaCha8Rng, size: usize) -> Vec<P> {
        sample(rng, self.peers(), size)
    }

    /// Adds somebody new. Room is made by one of the same introducer who has too many, else
    /// by one of `sent`, whom the other side has now and so is not lost, else by chance.
    pub(crate) fn add(&mut self, rng: &mut ChaCha8Rng, peer: P, introducer: P, sent: &mut Vec<P>) {
        if self.size == 0 || self.contains(peer) {
            return;
        }
        if self.introduced_by(introducer).count() >= self.share {
            let old = pick(rng, self.introduced_by(introducer));
            old.into_iter().for_each(|old| self.remove(old));
        }
        while self.entries.len() >= self.size {
            match sent.pop().or_else(|| pick(rng, self.peers())) {
                Some(old) => self.remove(old),
                None => return,
            }
        }
        self.entries.push(Entry { peer, introducer });
    }

    fn introduced_by(&self, introducer: P) -> impl Iterator<Item = P> {
        self.entries
            .iter()
            .filter(move |entry| entry.introducer == introducer)
            .map(|entry| entry.peer)
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.entries.len() > self.size {
            return Err("the address book is larger than allowed");
        }
        if self.share == self.size {
            return Ok(());
        }
        let mut introducers: Vec<P> = self.entries.iter().map(|entry| entry.introducer).collect();
        introducers.sort_unstable();
        let mut shares = introducers.chunk_by(|one, other| one == other);
        if shares.any(|share| share.len() > self.share) {
            return Err("an introducer has more than its share of the address book");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn what_the_other_side_has_makes_room_first() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut book = Passive::new(4, None);
        (1..=4).for_each(|peer| book.add(&mut rng, peer, 0, &mut Vec::new()));
        let mut sent = vec![2, 3];
        book.add(&mut rng, 5, 9, &mut sent);
        book.add(&mut rng, 6, 9, &mut sent);
        assert_eq!(book.peers().collect::<Vec<_>>(), [1, 4, 5, 6]);
    }

    #[test]
    fn an_introducer_replaces_only_its_own() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut book = Passive::new(8, Some(25));
        (1..=6).for_each(|peer| book.add(&mut rng, peer, peer, &mut Vec::new()));
        (10..99).for_each(|peer| book.add(&mut rng, peer, 9, &mut Vec::new()));
        assert_eq!(book.len(), 8);
        assert!((1..=6).all(|peer| book.contains(peer)));
    }
}
