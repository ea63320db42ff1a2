// SPDX-License-Identifier: Apache-2.0

//! So many at once, and one more in each period.
//!
//! A meter is one number: the time until which all that was taken has been paid for at one
//! per period (the generic cell rate algorithm).

use std::collections::BTreeMap;
use std::time::Duration;

/// Most meters in one table. An attacker needs an accepted identity for each.
const MAX_METERS: usize = 256;

/// Each time that so many more would be there, those that owe nothing go. An honest crowd
/// owes nothing, and need not be remembered.
const TIDY: usize = 32;

#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    paid: Duration,
}

impl Meter {
    /// Whether one more is allowed.
    pub(crate) fn has(&self, now: Duration, burst: u32, period: Duration) -> bool {
        let ahead = period.saturating_mul(burst.saturating_sub(1));
        burst > 0 && self.paid <= now.saturating_add(ahead)
    }

    pub(crate) fn take(&mut self, now: Duration, period: Duration) {
        self.paid = self.paid.max(now).saturating_add(period);
    }
}

/// A meter for each of them.
#[derive(Clone, Debug)]
pub(crate) struct Meters<K> {
    meters: BTreeMap<K, Meter>,
    /// How many there may be before those that owe nothing go.
    tidy_at: usize,
}

impl<K: Copy + Ord> Meters<K> {
    pub(crate) fn new() -> Self {
        Self {
            meters: BTreeMap::new(),
            tidy_at: TIDY,
        }
    }

    pub(crate) fn has(&self, now: Duration, key: K, burst: u32, period: Duration) -> bool {
        match self.meters.get(&key) {
            Some(meter) => meter.has(now, burst, period),
            None => burst > 0,
        }
    }

    pub(crate) fn take(&mut self, now: Duration, key: K, period: Duration) {
        if self.meters.len() >= self.tidy_at && !self.meters.contains_key(&key) {
            self.make_room(now);
        }
        self.meters.entry(key).or_default().take(now, period);
    }

    /// Takes one if it is allowed.
    pub(crate) fn try_take(&mut self, now: Duration, key: K, limit: (u32, Duration)) -> bool {
        let has = self.has(now, key, limit.0, limit.1);
        if has {
            self.take(now, key, limit.1);
        }
        has
    }

    /// Those that owe nothing go; failing that, the one that owes least.
    fn make_room(&mut self, now: Duration) {
        self.meters.retain(|_, meter| meter.paid > now);
        if self.meters.len() >= MAX_METERS {
            let least = self.meters.iter().min_by_key(|(_, meter)| meter.paid);
            let least = least.map(|(key, _)| *key);
            least.and_then(|key| self.meters.remove(&key));
        }
        self.tidy_at = (self.meters.len() + TIDY).min(MAX_METERS);
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.meters.len() > MAX_METERS {
            return Err("there are more meters than allowed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: (u32, Duration) = (3, Duration::from_secs(1));

    #[test]
    fn a_burst_is_paid_for_one_by_one() {
        let mut meters = Meters::new();
        let at = Duration::from_secs(10);
        let taken = (0..9).filter(|_| meters.try_take(at, 'a', LIMIT)).count();
        assert_eq!(taken, 3);
        assert!(meters.try_take(at + LIMIT.1, 'a', LIMIT));
        assert!(!meters.try_take(at + LIMIT.1, 'a', LIMIT));
    }

    #[test]
    fn a_crowd_does_not_free_who_owes_most() {
        let mut meters = Meters::new();
        let now = Duration::from_secs(10);
        while meters.try_take(now, 0, LIMIT) {}
        (1..10_000).for_each(|key| assert!(meters.try_take(now, key, LIMIT)));
        assert!(!meters.try_take(now, 0, LIMIT));
        assert_eq!(meters.check(), Ok(()));
    }
}
