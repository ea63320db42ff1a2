// SPDX-License-Identifier: Apache-2.0

//! What has been seen, for messages that belong to no replicated state.
//!
//! It forgets: by number, by size and by age. A message whose id is forgotten is new
//! when it comes again, so ids are kept longer than bodies, and much longer than
//! a message is under way. Who sends very many messages shortens that time for all;
//! an application to which that matters puts a time into its messages.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::message::Seen;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Ids, at most. A guess: a minute at 500 messages per second, in some megabytes.
    pub ids: usize,
    /// How long. A guess: longer than any message is under way.
    pub ids_for: Duration,
    /// Bodies, at most. A guess: what passes in a few T1.
    pub bodies: usize,
    /// Their bytes. A guess.
    pub bytes: usize,
    /// How long. A guess: until all neighbours that were asked in turn have failed.
    pub bodies_for: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ids: 32_768,
            ids_for: Duration::from_secs(300),
            bodies: 4096,
            bytes: 8 << 20,
            bodies_for: Duration::from_secs(30),
        }
    }
}

/// Ids and bodies of messages, the latest of them.
#[derive(Clone, Debug)]
pub struct IdCache<I> {
    config: CacheConfig,
    known: BTreeMap<I, Option<Bytes>>,
    /// All that are known, with the time when they came.
    ids: VecDeque<(Duration, I)>,
    /// Those with a body.
    bodies: VecDeque<(Duration, I)>,
    bytes: usize,
}

impl<I: Clone + Ord> IdCache<I> {
    /// An empty one.
    pub fn new(config: CacheConfig) -> Self {
        Self {
            config,
            known: BTreeMap::new(),
            ids: VecDeque::new(),
            bodies: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes a message in; whether it was new. A body larger than all may be together is not
    /// kept, its id is.
    pub fn insert(&mut self, now: Duration, id: I, body: Bytes) -> bool {
        self.expire(now);
        if self.known.contains_key(&id) {
            return false;
        }
        let keep = body.len() <= self.config.bytes && self.config.bodies > 0;
        self.ids.push_back((now, id.clone()));
        if keep {
            self.bytes += body.len();
            self.bodies.push_back((now, id.clone()));
        }
        self.known.insert(id, keep.then_some(body));
        self.trim();
        true
    }

    /// Forgets what is too old. Each insertion does that too; this is for times without any.
    pub fn expire(&mut self, now: Duration) {
        let old = |at: Duration, kept: Duration| now.saturating_sub(at) >= kept;
        while let Some(&(at, _)) = self.bodies.front()
            && old(at, self.config.bodies_for)
        {
            self.drop_body();
        }
        while let Some(&(at, _)) = self.ids.front()
            && old(at, self.config.ids_for)
        {
            self.drop_id();
        }
    }

    /// Ids that are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Bytes of bodies that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is wrong, if anything: counts that differ from the contents, or are too large.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        let kept = self.known.values().flatten();
        let (count, bytes) = kept.fold((0, 0), |(n, b), body| (n + 1, b + body.len()));
        if bytes != self.bytes || count != self.bodies.len() || self.known.len() != self.ids.len() {
            return Err("the counts of the cache are wrong".into());
        }
        let config = &self.config;
        if bytes > config.bytes || count > config.bodies || self.ids.len() > config.ids.max(1) {
            return Err("the cache holds more than it may".into());
        }
        Ok(())
    }

    fn trim(&mut self) {
        while self.bodies.len() > self.config.bodies || self.bytes > self.config.bytes {
            self.drop_body();
        }
        while self.ids.len() > self.config.ids.max(1) {
            self.drop_id();
        }
    }

    fn drop_body(&mut self) {
        if let Some((_, id)) = self.bodies.pop_front()
            && let Some(body) = self.known.get_mut(&id).and_then(Option::take)
        {
            self.bytes -= body.len();
        }
    }

    /// An id goes with its body: both queues have the same order.
    fn drop_id(&mut self) {
        let Some((_, id)) = self.ids.pop_front() else {
            return;
        };
        if self.bodies.front().is_some_and(|(_, first)| *first == id) {
            self.drop_body();
        }
        self.known.remove(&id);
    }
}

impl<I: Clone + Ord> Seen<I> for IdCache<I> {
    fn seen(&self, id: &I) -> bool {
        self.known.contains_key(id)
    }

    fn body(&self, id: &I) -> Option<Bytes> {
        self.known.get(id).cloned().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn small() -> IdCache<u32> {
        IdCache::new(CacheConfig {
            ids: 8,
            ids_for: s(100),
            bodies: 4,
            bytes: 10,
            bodies_for: s(10),
        })
    }

    #[test]
    fn a_message_is_new_once() {
        let mut cache = small();
        assert!(cache.insert(s(0), 1, Bytes::from_static(b"one")));
        assert!(!cache.insert(s(0), 1, Bytes::from_static(b"uno")));
        assert_eq!(cache.body(&1), Some(Bytes::from_static(b"one")));
    }

    #[test]
    fn bodies_go_before_ids() {
        let mut cache = small();
        for id in 0..6 {
            cache.insert(s(0), id, Bytes::from_static(b"ab"));
            assert_eq!(cache.check(), Ok(()));
        }
        assert!((0..6).all(|id| cache.seen(&id)));
        assert_eq!(cache.body(&1), None);
        assert_eq!(cache.body(&2), Some(Bytes::from_static(b"ab")));
        assert_eq!(cache.bytes(), 8);
    }

    #[test]
    fn what_is_too_large_is_known_but_not_kept() {
        let mut cache = small();
        cache.insert(s(0), 1, Bytes::from_static(b"small"));
        cache.insert(s(0), 2, Bytes::from_static(b"eleven byte"));
        assert!(cache.seen(&2));
        assert_eq!(cache.body(&2), None);
        assert!(cache.body(&1).is_some());
    }

    #[test]
    fn all_is_forgotten_in_time() {
        let mut cache = small();
        cache.insert(s(0), 1, Bytes::from_static(b"one"));
        cache.expire(s(10));
        assert_eq!((cache.body(&1), cache.seen(&1)), (None, true));
        cache.expire(s(100));
        assert!(cache.is_empty());
        assert_eq!(cache.check(), Ok(()));
    }

    #[test]
    fn an_id_that_goes_takes_its_body_along() {
        let mut cache = IdCache::new(CacheConfig {
            ids: 2,
            ..CacheConfig::default()
        });
        for id in 0..5 {
            cache.insert(s(0), id, Bytes::from_static(b"x"));
            assert_eq!(cache.check(), Ok(()));
        }
        assert_eq!((cache.len(), cache.bytes()), (2, 2));
    }
}
