// SPDX-License-Identifier: Apache-2.0

//! Which links have ended, so that what they still carried is not heard.

use std::collections::VecDeque;

use crate::output::Link;

/// Links remembered. A message that comes after the end of its link comes at once: a
/// driver keeps its queues in order, at most in different threads.
const MAX_ENDED: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Ended<P> {
    /// One of each peer, the latest at the end.
    links: VecDeque<(P, Link)>,
}

impl<P: Copy + Ord> Ended<P> {
    pub(crate) fn new() -> Self {
        Self {
            links: VecDeque::new(),
        }
    }

    /// It ended, and all before it.
    pub(crate) fn insert(&mut self, peer: P, link: Link) {
        let known = self.find(peer);
        self.links.retain(|(other, _)| *other != peer);
        if self.links.len() >= MAX_ENDED {
            self.links.pop_front();
        }
        let latest = known.map_or(link, |known| known.max(link));
        self.links.push_back((peer, latest));
    }

    pub(crate) fn contains(&self, peer: P, link: Link) -> bool {
        self.find(peer).is_some_and(|ended| link <= ended)
    }

    fn find(&self, peer: P) -> Option<Link> {
        let found = self.links.iter().find(|(other, _)| *other == peer);
        found.map(|(_, link)| *link)
    }
}
