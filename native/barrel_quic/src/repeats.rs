//! A limit on reports that strangers can cause.
//!
//! A refused handshake is worth one line in the log, a thousand are worth one
//! line and a number. Each kind of report has a key; within a window a key is
//! reported once, and all keys together [`BUDGET`] times, so that a peer that
//! varies its name or address cannot fill a disk either.
//!
//! No clock here: time comes in as the duration since some start.

use std::collections::BTreeMap;
use std::time::Duration;

/// Reports of all keys together in one window: a screenful, a guess.
pub const BUDGET: u32 = 20;

/// Longest key that is told apart, in bytes: a name, an address and a reason.
const MAX_KEY: usize = 512;

/// Decides which reports are written.
#[derive(Debug)]
pub struct Repeats {
    window: Duration,
    capacity: usize,
    keys: BTreeMap<String, Entry>,
    /// When the window of the budget began, and what was spent since.
    window_began: Option<Duration>,
    spent: u32,
    unreported: u64,
}

#[derive(Debug)]
struct Entry {
    reported: Duration,
    suppressed: u64,
}

impl Repeats {
    /// Remembers at most `capacity` keys, and at least one.
    pub fn new(window: Duration, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            window,
            capacity,
            keys: BTreeMap::new(),
            window_began: None,
            spent: 0,
            unreported: 0,
        }
    }

    /// Whether to report `key` now: if so, how many reports of it were
    /// suppressed since the last one.
    #[must_use]
    pub fn admit(&mut self, now: Duration, key: &str) -> Option<u64> {
        let key = &key[..key.floor_char_boundary(MAX_KEY)];
        if let Some(entry) = self.keys.get_mut(key)
            && now.saturating_sub(entry.reported) < self.window
        {
            entry.suppressed += 1;
            return None;
        }
        if !self.spend(now) {
            match self.keys.get_mut(key) {
                Some(entry) => entry.suppressed += 1,
                None => self.unreported += 1,
            }
            return None;
        }
        let fresh = Entry {
            reported: now,
            suppressed: 0,
        };
        match self.keys.get_mut(key) {
            Some(entry) => Some(std::mem::replace(entry, fresh).suppressed),
            None => {
                self.make_room();
                self.keys.insert(key.to_owned(), fresh);
                Some(0)
            }
        }
    }

    /// Reports that no later one of the same key will count: those beyond the
    /// budget and those of forgotten keys. Starts again at zero.
    pub fn take_unreported(&mut self) -> u64 {
        std::mem::take(&mut self.unreported)
    }

    fn spend(&mut self, now: Duration) -> bool {
        if self
            .window_began
            .is_none_or(|began| now.saturating_sub(began) >= self.window)
        {
            self.window_began = Some(now);
            self.spent = 0;
        }
        let left = self.spent < BUDGET;
        self.spent += u32::from(left);
        left
    }

    /// Forgets the key whose report is the oldest. The search is linear: it
    /// happens at most [`BUDGET`] times in a window.
    fn make_room(&mut self) {
        while self.keys.len() >= self.capacity {
            let oldest = self
                .keys
                .iter()
                .min_by_key(|(_, entry)| entry.reported)
                .map(|(key, _)| key.clone());
            let Some(entry) = oldest.and_then(|key| self.keys.remove(&key)) else {
                return;
            };
            self.unreported += entry.suppressed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_first_report_passes_and_repeats_are_counted_into_the_next() {
        let mut repeats = Repeats::new(WINDOW, 8);
        assert_eq!(repeats.admit(at(0), "a"), Some(0));
        assert_eq!(
            [repeats.admit(at(1), "a"), repeats.admit(at(59), "a")],
            [None, None]
        );
        assert_eq!(repeats.admit(at(60), "a"), Some(2));
        assert_eq!(repeats.admit(at(61), "a"), None);
        assert_eq!(repeats.admit(at(500), "a"), Some(1));
    }

    #[test]
    fn keys_do_not_hide_each_other() {
        let mut repeats = Repeats::new(WINDOW, 8);
        assert_eq!(
            [repeats.admit(at(0), "a"), repeats.admit(at(0), "b")],
            [Some(0), Some(0)]
        );
    }

    #[test]
    fn varied_keys_cannot_flood() {
        let mut repeats = Repeats::new(WINDOW, 1000);
        let admitted = (0..10_000)
            .filter(|n| repeats.admit(at(1), &n.to_string()).is_some())
            .count();
        assert_eq!(admitted, BUDGET as usize);
        assert_eq!(repeats.take_unreported(), 10_000 - u64::from(BUDGET));
        assert_eq!(repeats.take_unreported(), 0);
        assert_eq!(repeats.admit(at(61), "new"), Some(0));
    }

    #[test]
    fn a_known_key_beyond_the_budget_keeps_its_count() {
        let mut repeats = Repeats::new(WINDOW, 100);
        assert_eq!(repeats.admit(at(0), "a"), Some(0));
        for n in 0..BUDGET {
            assert_eq!(repeats.admit(at(60), &n.to_string()), Some(0));
        }
        assert_eq!(repeats.admit(at(61), "a"), None);
        assert_eq!(repeats.admit(at(120), "a"), Some(1));
    }

    #[test]
    fn the_oldest_key_is_forgotten_first_and_its_count_is_not_lost() {
        let mut repeats = Repeats::new(WINDOW, 2);
        assert_eq!(
            [repeats.admit(at(0), "a"), repeats.admit(at(0), "a")],
            [Some(0), None]
        );
        assert_eq!(
            [repeats.admit(at(1), "b"), repeats.admit(at(2), "c")],
            [Some(0), Some(0)]
        );
        assert_eq!(repeats.keys.len(), 2);
        assert_eq!(repeats.take_unreported(), 1);
        assert_eq!(
            [repeats.admit(at(3), "b"), repeats.admit(at(3), "a")],
            [None, Some(0)]
        );
    }

    #[test]
    fn a_clock_that_goes_back_suppresses_and_does_not_panic() {
        let mut repeats = Repeats::new(WINDOW, 2);
        assert_eq!(repeats.admit(at(100), "a"), Some(0));
        assert_eq!(repeats.admit(at(1), "a"), None);
    }

    proptest! {
        #[test]
        fn every_report_is_admitted_or_counted_once(
            steps in proptest::collection::vec((0u64..30, "[abcdé]{0,2}"), 0..300), capacity in 0usize..6,
        ) {
            let mut repeats = Repeats::new(WINDOW, capacity);
            let (mut now, mut admitted, mut counted) = (0, 0, 0);
            let total = steps.len() as u64;
            for (pause, key) in steps {
                now += pause;
                if let Some(suppressed) = repeats.admit(at(now), &key) {
                    admitted += 1;
                    counted += suppressed;
                }
                prop_assert!(repeats.keys.len() <= capacity.max(1));
            }
            let pending: u64 = repeats.keys.values().map(|entry| entry.suppressed).sum();
            prop_assert_eq!(admitted + counted + pending + repeats.take_unreported(), total);
        }

        #[test]
        fn any_key_is_taken(key in ".{0,700}") {
            let mut repeats = Repeats::new(WINDOW, 2);
            prop_assert_eq!([repeats.admit(at(0), &key), repeats.admit(at(0), &key)], [Some(0), None]);
        }
    }
}
