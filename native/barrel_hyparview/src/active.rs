// SPDX-License-Identifier: Apache-2.0

//! The neighbours, the one who came first at the front.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::output::Link;

/// Somebody who has us as a neighbour too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbor<P> {
    pub(crate) peer: P,
    pub(crate) link: Link,
}

#[derive(Clone, Debug)]
pub(crate) struct Active<P> {
    neighbors: Vec<Neighbor<P>>,
}

impl<P: Copy + Ord> Active<P> {
    pub(crate) fn new() -> Self {
        Self {
            neighbors: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.neighbors.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.neighbors.is_empty()
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = P> {
        self.neighbors.iter().map(|neighbor| neighbor.peer)
    }

    pub(crate) fn find(&self, peer: P) -> Option<Neighbor<P>> {
        self.neighbors.iter().copied().find(|n| n.peer == peer)
    }

    pub(crate) fn contains(&self, peer: P) -> bool {
        self.find(peer).is_some()
    }

    /// The caller knows that the peer is not there.
    pub(crate) fn push(&mut self, peer: P, link: Link) {
        self.neighbors.push(Neighbor { peer, link });
    }

    pub(crate) fn remove(&mut self, peer: P) -> bool {
        let before = self.neighbors.len();
        self.neighbors.retain(|neighbor| neighbor.peer != peer);
        self.neighbors.len() < before
    }

    /// One at random, but none of those.
    pub(crate) fn pick(&self, rng: &mut ChaCha8Rng, but: &[P]) -> Option<P> {
        pick(rng, self.peers().filter(|peer| !but.contains(peer)))
    }

    /// One at random who is not among the oldest so many.
    pub(crate) fn pick_young(&self, rng: &mut ChaCha8Rng, keep: usize) -> Option<P> {
        pick(rng, self.peers().skip(keep))
    }
}

/// One of them at random.
pub(crate) fn pick<P>(rng: &mut ChaCha8Rng, from: impl Iterator<Item = P>) -> Option<P> {
    let mut all: Vec<P> = from.collect();
    if all.is_empty() {
        return None;
    }
    let at = rng.random_range(0..all.len());
    Some(all.swap_remove(at))
}

/// So many of them at random, in random order.
pub(crate) fn sample<P>(
    rng: &mut ChaCha8Rng,
    from: impl Iterator<Item = P>,
    size: usize,
) -> Vec<P> {
    let mut all: Vec<P> = from.collect();
    let size = size.min(all.len());
    for at in 0..size {
        let other = rng.random_range(at..all.len());
        all.swap(at, other);
    }
    all.truncate(size);
    all
}
