// SPDX-License-Identifier: Apache-2.0

//! What must hold between two verbs.

use super::LwwMap;
use super::log::{MAX_RANGES, weight};

/// A map with more entries is not checked after each verb.
pub(super) const OFTEN: usize = 64;

impl LwwMap {
    /// Panics if the map contradicts itself.
    pub fn check(&self) {
        self.check_logs();
        self.check_current();
        self.check_parked();
        let live = |(log, seq)| self.logs.get(log).is_some_and(|l| l.live.contains_key(seq));
        assert!(self.view.rejected().all(|(log, seq)| live((log, seq))));
        assert!(self.published <= self.seq);
        let own = self.logs.get(&self.me);
        assert_eq!(
            own.map_or(0, |log| log.applied.base),
            self.seq,
            "own operations"
        );
        let (limit, restored) = (self.config.max_logs, self.restored);
        // One more for the own log, which always finds room.
        assert!(self.logs.len() <= limit.max(restored.logs) + 1);
        assert!(self.floors.len() <= limit.max(restored.floors));
        assert!(self.touched.is_empty(), "the digest lags behind");
    }

    fn check_logs(&self) {
        let (mut entries, mut bytes, mut removals, mut moved, mut root) = (0, 0, 0, 0, 0u128);
        let key = &self.config.audit_key;
        for (name, log) in &self.logs {
            assert_eq!(*name, *log.name);
            assert!(log.applied.cloud.len() <= MAX_RANGES && log.dead.len() <= MAX_RANGES);
            assert!(log.collected <= log.applied.top(), "{name:?}");
            let mut audit = 0u128;
            for (seq, entry) in &log.live {
                assert_eq!((*seq, *name), (entry.seq, *entry.log));
                assert!(
                    log.applied.contains(*seq),
                    "{entry:?} is live and not applied"
                );
                audit = audit.wrapping_add(weight(entry, key));
                bytes += entry.pair.bytes();
                let at = (entry.hlc, *name, *seq);
                let parked = self.parked.contains_key(&at);
                removals += usize::from(entry.is_removal() && !parked);
                moved += usize::from(entry.moved_from().is_some());
                let current = self.current.get(entry.key());
                let wins = current.is_some_and(|e| (*e.0.log, e.0.seq) == (*name, *seq));
                let kept = self.replaced.get(entry.key()).into_iter().flatten();
                let kept = kept.filter(|e| (*e.log, e.seq) == (*name, *seq)).count();
                let places = usize::from(wins) + usize::from(parked) + kept;
                assert_eq!(places, 1, "{entry:?}");
            }
            entries += log.live.len();
            assert_eq!(audit, log.audit, "{name:?}");
            let hash = log.summary(key).hash(key);
            assert_eq!(log.hash, Some(hash), "{name:?}");
            root = root.wrapping_add(hash);
        }
        assert_eq!((entries, bytes), (self.entries, self.bytes));
        assert_eq!(
            (removals, moved),
            (self.removals.len() + self.waiting.len(), self.moved.len())
        );
        assert_eq!(root, self.digest.root());
        let kept: usize = self.replaced.values().map(Vec::len).sum();
        assert_eq!(kept, self.kept);
        assert_eq!(entries, self.current.len() + self.parked.len() + kept);
    }

    fn check_current(&self) {
        for entry in &self.current {
            let log = self.logs.get(&*entry.0.log);
            assert!(
                log.is_some_and(|log| log.live.contains_key(&entry.0.seq)),
                "{entry:?} is not in its log"
            );
        }
    }

    fn check_parked(&self) {
        let limit = self.config.max_parked.max(self.restored.parked);
        assert!(self.parked.len() <= limit);
        for (name, log) in &self.logs {
            let parked = self.parked.keys().filter(|(_, log, _)| log == name);
            assert_eq!(parked.count(), log.parked, "{name:?}");
        }
    }
}
