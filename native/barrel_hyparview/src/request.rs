// SPDX-License-Identifier: Apache-2.0

//! What we have asked others and not heard of yet. Counted apart from the neighbours: a
//! request is no neighbour.

use std::time::Duration;

/// What a neighbour is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// We are new.
    Join,
    /// A newcomer's walk ended here.
    Walk,
    /// A place is free.
    Repair,
    /// It is in another component.
    Merge,
    /// We began an exchange of links.
    Ask,
    /// We are the third in one.
    Link,
}

impl Purpose {
    /// Whether a neighbour of ours makes room for the answer.
    pub(crate) fn is_forced(self) -> bool {
        matches!(self, Self::Join | Self::Walk | Self::Merge)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<P> {
    pub(crate) peer: P,
    pub(crate) purpose: Purpose,
    pub(crate) until: Duration,
    /// Asked with high priority.
    pub(crate) urgent: bool,
    /// Asked a second time, after the link was closed under the first.
    pub(crate) again: bool,
}

/// Most requests at one time: walks of as many newcomers may end here at once.
pub(crate) const MAX_REQUESTS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Requests<P> {
    requests: Vec<Request<P>>,
}

impl<P: Copy + Ord> Requests<P> {
    pub(crate) fn new() -> Self {
        Self {
            requests: Vec::new(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Request<P>> {
        self.requests.iter()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= MAX_REQUESTS
    }

    pub(crate) fn find(&self, peer: P) -> Option<Request<P>> {
        self.iter().copied().find(|request| request.peer == peer)
    }

    pub(crate) fn contains(&self, peer: P) -> bool {
        self.find(peer).is_some()
    }

    /// Replaces one to the same peer.
    pub(crate) fn insert(&mut self, request: Request<P>) {
        self.take(request.peer);
        self.requests.push(request);
    }

    pub(crate) fn take(&mut self, peer: P) -> Option<Request<P>> {
        let at = self.iter().position(|request| request.peer == peer)?;
        Some(self.requests.remove(at))
    }

    pub(crate) fn clear(&mut self) {
        self.requests.clear();
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.iter().map(|request| request.until).min()
    }

    pub(crate) fn overdue(&self, now: Duration) -> Option<Request<P>> {
        self.iter().copied().find(|request| request.until <= now)
    }
}
