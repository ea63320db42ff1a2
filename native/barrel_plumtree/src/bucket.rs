// SPDX-License-Identifier: Apache-2.0

//! A limit per second.

use std::time::Duration;

/// Fills at `rate` per second and holds what comes in one second.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: u32,
    /// In millionths, so that no filling is lost to rounding.
    millionths: u64,
    at: Duration,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Duration, rate: u32) -> Self {
        Self {
            rate,
            millionths: u64::from(rate) * 1_000_000,
            at: now,
        }
    }

    /// As many of `wanted` as there are.
    pub(crate) fn take_up_to(&mut self, now: Duration, wanted: usize) -> usize {
        self.fill(now);
        // At most `rate`, so it fits.
        let there = (self.millionths / 1_000_000) as usize;
        let taken = wanted.min(there);
        self.millionths -= taken as u64 * 1_000_000;
        taken
    }

    /// Whether there was anything. What is taken above that is owed: so a large
    /// thing passes, but not two.
    pub(crate) fn take_or_owe(&mut self, now: Duration, wanted: usize) -> bool {
        self.fill(now);
        if self.millionths < 1_000_000 {
            return false;
        }
        let wanted = (wanted as u64).saturating_mul(1_000_000);
        if wanted <= self.millionths {
            self.millionths -= wanted;
        } else {
            // The debt is time during which nothing comes in.
            let debt = (wanted - self.millionths) / u64::from(self.rate.max(1));
            self.millionths = 0;
            self.at = now.saturating_add(Duration::from_micros(debt));
        }
        true
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_micros();
        if passed == 0 {
            return;
        }
        // A second fills it, so more need not be counted.
        let micros = passed.min(1_000_000) as u64;
        let full = u64::from(self.rate) * 1_000_000;
        self.millionths = (self.millionths + micros * u64::from(self.rate)).min(full);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_second_holds_as_many_as_the_rate_says() {
        let mut bucket = Bucket::new(ms(0), 100);
        assert_eq!(bucket.take_up_to(ms(0), 70), 70);
        assert_eq!(bucket.take_up_to(ms(0), 70), 30);
        assert_eq!(bucket.take_up_to(ms(0), 70), 0);
        assert_eq!(bucket.take_up_to(ms(500), 70), 50);
        assert_eq!(bucket.take_up_to(ms(60_000), 200), 100);
    }

    #[test]
    fn small_steps_fill_as_much_as_a_large_one() {
        let mut bucket = Bucket::new(ms(0), 3);
        assert_eq!(bucket.take_up_to(ms(0), 3), 3);
        let taken: usize = (1..=1000).map(|n| bucket.take_up_to(ms(n), 1)).sum();
        assert_eq!(taken, 3);
    }

    #[test]
    fn what_is_larger_than_a_second_passes_once_and_is_paid_for() {
        let mut bucket = Bucket::new(ms(0), 1000);
        assert!(bucket.take_or_owe(ms(0), 3000));
        assert!(!bucket.take_or_owe(ms(2000), 1));
        assert!(bucket.take_or_owe(ms(2001), 1));
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_pass() {
        let mut bucket = Bucket::new(ms(0), 0);
        assert_eq!(bucket.take_up_to(ms(1000), 1), 0);
        assert!(!bucket.take_or_owe(ms(2000), 1));
    }
}
