// SPDX-License-Identifier: Apache-2.0

//! What a reader of the registry is told.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::live::Entry;
use crate::origin::{Body, Effect};
use crate::pair::Pair;

/// What has changed for a reader, who sees the entries of origins that are shown. Each
/// change is told once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is an entry.
    Added {
        /// Whose.
        origin: OriginKey,
        /// Key and value.
        pair: Pair,
        /// When it was written.
        hlc: Hlc,
    },
    /// The entry of that key has another value.
    Replaced {
        /// Whose.
        origin: OriginKey,
        /// Key and new value.
        pair: Pair,
        /// When it was written.
        hlc: Hlc,
    },
    /// There is no entry of that key any more.
    Removed {
        /// Whose.
        origin: OriginKey,
        /// Key and last value.
        pair: Pair,
    },
    /// The reader is too slow: forget everything. What follows is all there is.
    Reset,
}

/// Changes that wait. Where all entries of an origin come or go at once, as when it
/// becomes unreachable, that waits as one, and costs nothing until it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(VecDeque<Waiting>);

#[derive(Clone, Debug)]
enum Waiting {
    One(Change),
    All {
        origin: OriginKey,
        body: Arc<Body>,
        come: bool,
        /// Those up to this dot are told.
        told: u64,
    },
}

impl Changes {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.0.push_back(Waiting::One(change));
    }

    /// Entries have come and gone. One that went as another of its key came, is replaced.
    pub(crate) fn push_effect(&mut self, origin: OriginKey, effect: Effect) {
        let Effect {
            mut added,
            mut removed,
            ..
        } = effect;
        if added.len() + removed.len() > 2 {
            added.sort_by(by_key);
            removed.sort_by(by_key);
        }
        let mut replaced = vec![false; added.len()];
        for entry in removed {
            let at = added.binary_search_by(|other| by_key(other, &entry));
            match at
                .ok()
                .filter(|&at| !std::mem::replace(&mut replaced[at], true))
            {
                Some(_) => {}
                None => self.push(Change::Removed {
                    origin,
                    pair: entry.pair,
                }),
            }
        }
        for (Entry { hlc, pair }, replaced) in added.into_iter().zip(replaced) {
            self.push(match replaced {
                true => Change::Replaced { origin, pair, hlc },
                false => Change::Added { origin, pair, hlc },
            });
        }
    }

    /// All entries of an origin have come, or gone.
    pub(crate) fn push_all(&mut self, origin: OriginKey, body: Option<Arc<Body>>, come: bool) {
        if let Some(body) = body.filter(|body| !body.live.is_empty()) {
            let told = 0;
            self.0.push_back(Waiting::All {
                origin,
                body,
                come,
                told,
            });
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Change> {
        while let Waiting::All {
            origin,
            body,
            come,
            told,
        } = self.0.front_mut()?
        {
            let Some((seq, entry)) = body.live.range(*told, u64::MAX).next() else {
                self.0.pop_front();
                continue;
            };
            *told = seq;
            let (origin, Entry { hlc, pair }) = (*origin, entry.clone());
            return Some(match *come {
                true => Change::Added { origin, pair, hlc },
                false => Change::Removed { origin, pair },
            });
        }
        match self.0.pop_front() {
            Some(Waiting::One(change)) => Some(change),
            _ => None,
        }
    }
}

fn by_key(a: &Entry, b: &Entry) -> std::cmp::Ordering {
    a.pair.key().cmp(b.pair.key())
}
