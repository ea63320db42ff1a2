// SPDX-License-Identifier: Apache-2.0

//! What a reader of the registry is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::live::{Entry, Live};
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
        /// Those of which the key has a later one, ascending.
        hidden: Vec<u64>,
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

    /// Entries have come and gone. Where operations are missing, a key may have two entries
    /// for a while, because its first removal has not come yet: the later one is shown. So
    /// the other entries are given then.
    pub(crate) fn push_effect(&mut self, origin: OriginKey, effect: Effect, others: Option<&Live>) {
        let Effect {
            mut added, removed, ..
        } = effect;
        if let ([_], [], None) = (&added[..], &removed[..], others) {
            for (_, Entry { hlc, pair }) in added.drain(..) {
                self.push(Change::Added { origin, pair, hlc });
            }
            return;
        }
        let mut seen: BTreeMap<&[u8], Seen<'_>> = BTreeMap::new();
        for (seq, entry) in &removed {
            let seen = seen.entry(entry.pair.key()).or_default();
            seen.before = later(seen.before, (*seq, entry));
        }
        for (seq, entry) in &added {
            let seen = seen.entry(entry.pair.key()).or_default();
            seen.after = later(seen.after, (*seq, entry));
        }
        let is_new = |seq: u64| added.iter().any(|new| new.0 == seq);
        for (seq, entry) in others.into_iter().flat_map(Live::iter) {
            if let Some(seen) = seen.get_mut(entry.pair.key()).filter(|_| !is_new(seq)) {
                seen.before = later(seen.before, (seq, entry));
                seen.after = later(seen.after, (seq, entry));
            }
        }
        for Seen { before, after } in seen.into_values() {
            let change = match (before, after) {
                (before, after) if before == after => continue,
                (Some((_, old)), None) => Change::Removed {
                    origin,
                    pair: old.pair.clone(),
                },
                (None, Some((_, new))) => Change::Added {
                    origin,
                    pair: new.pair.clone(),
                    hlc: new.hlc,
                },
                (_, Some((_, new))) => Change::Replaced {
                    origin,
                    pair: new.pair.clone(),
                    hlc: new.hlc,
                },
                (None, None) => continue,
            };
            self.push(change);
        }
    }

    /// All entries of an origin have come, or gone.
    pub(crate) fn push_all(&mut self, origin: OriginKey, body: Option<Arc<Body>>, come: bool) {
        if let Some(body) = body.filter(|body| !body.live.is_empty()) {
            let (told, hidden) = (0, body.superseded());
            self.0.push_back(Waiting::All {
                origin,
                body,
                hidden,
                come,
                told,
            });
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Change> {
        while let Waiting::All {
            origin,
            body,
            hidden,
            come,
            told,
        } = self.0.front_mut()?
        {
            let Some((seq, entry)) = body.live.range(*told, u64::MAX).next() else {
                self.0.pop_front();
                continue;
            };
            *told = seq;
            if hidden.binary_search(&seq).is_ok() {
                continue;
            }
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

/// What a reader sees of one key.
#[derive(Default)]
struct Seen<'a> {
    before: Option<(u64, &'a Entry)>,
    after: Option<(u64, &'a Entry)>,
}

fn later<'a>(held: Option<(u64, &'a Entry)>, other: (u64, &'a Entry)) -> Option<(u64, &'a Entry)> {
    match held {
        Some(held) if held.0 > other.0 => Some(held),
        _ => Some(other),
    }
}
