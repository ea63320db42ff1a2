// SPDX-License-Identifier: Apache-2.0

//! Who asked us for a place of late and got none.
//!
//! When nearly all views are full, whoever still has a free place can get a neighbour only from
//! somebody else who has one, and the two do not know each other: asking thirty of a thousand, one
//! finds a certain other in one period of thirty. But of those whom both ask some are
//! the same, as often as not, and these know of both. So who refuses names those it
//! refused before.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Seekers<P> {
    size: usize,
    /// When each asked last, the latest at the end.
    seekers: VecDeque<(P, Duration)>,
}

impl<P: Copy + Ord> Seekers<P> {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            seekers: VecDeque::new(),
        }
    }

    /// It was refused a place.
    pub(crate) fn insert(&mut self, now: Duration, peer: P) {
        if self.size == 0 {
            return;
        }
        self.remove(peer);
        if self.seekers.len() >= self.size {
            self.seekers.pop_front();
        }
        self.seekers.push_back((peer, now));
    }

    pub(crate) fn remove(&mut self, peer: P) {
        self.seekers.retain(|(seeker, _)| *seeker != peer);
    }

    /// Those who asked no longer ago than that; whoever seeks still has asked again.
    pub(crate) fn expire(&mut self, now: Duration, keep: Duration) {
        self.seekers
            .retain(|(_, asked)| now.saturating_sub(*asked) <= keep);
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = P> {
        self.seekers.iter().map(|(peer, _)| *peer)
    }

    pub(crate) fn clear(&mut self) {
        self.seekers.clear();
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.seekers.len() > self.size {
            return Err("more seekers are remembered than allowed");
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
    fn each_seeker_is_known_once_and_the_first_makes_room() {
        let mut seekers = Seekers::new(2);
        for (second, peer) in (1..).zip(['a', 'b', 'a', 'c']) {
            seekers.insert(at(second), peer);
            assert_eq!(seekers.check(), Ok(()));
        }
        assert_eq!(seekers.peers().collect::<Vec<_>>(), ['a', 'c']);
    }

    #[test]
    fn who_asked_long_ago_is_forgotten() {
        let mut seekers = Seekers::new(2);
        seekers.insert(at(1), 'a');
        seekers.insert(at(5), 'b');
        seekers.expire(at(9), at(5));
        assert_eq!(seekers.peers().collect::<Vec<_>>(), ['b']);
    }
}
