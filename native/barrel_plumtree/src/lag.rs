// SPDX-License-Identifier: Apache-2.0

//! How long to wait for what was announced: T1.
//!
//! Two things are learnt, and the larger counts:
//!
//! - **How much later than its first announcement a message came**, of late. One and a half
//!   times the 99th percentile.
//! - **How long the tree may take from one end of a lazy link to the other.** The first says
//!   nothing about senders that were silent so far: with the sender behind
//!   one end, the other end hears of a message at once and gets it the long way
//!   round. That way is no longer than both ends' ways to the sender of any one
//!   message, and both are known: the own hops, and those of the announcement. Half a
//!   round trip for each.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::Config;

/// Messages that are remembered, and also how often the longest way is forgotten. A
/// percentile of 99 needs a hundred at least.
const WINDOW: usize = 128;

/// Fewer messages say too little for a percentile of 99.
const ENOUGH: usize = 100;

/// Fewer say nothing. A guess: by then a node has heard from several sides how far it is to
/// the senders.
const SOME: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct Lag {
    /// In microseconds, in order of arrival.
    order: VecDeque<u32>,
    /// The same by size.
    sorted: Vec<u32>,
    /// The most hops of the window under way and of the one before.
    hops: [u32; 2],
    /// Messages in the window under way.
    seen: usize,
}

impl Lag {
    pub(crate) fn new() -> Self {
        Self {
            order: VecDeque::new(),
            sorted: Vec::new(),
            hops: [0; 2],
            seen: 0,
        }
    }

    /// A message came so long after it was announced; zero if it was not.
    pub(crate) fn learn(&mut self, late: Duration) {
        let late = u32::try_from(late.as_micros()).unwrap_or(u32::MAX);
        if self.order.len() == WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            let at = self.sorted.partition_point(|&l| l < oldest);
            self.sorted.remove(at);
        }
        let at = self.sorted.partition_point(|&l| l < late);
        self.sorted.insert(at, late);
        self.order.push_back(late);
        self.seen += 1;
        if self.seen == WINDOW {
            self.seen = 0;
            self.hops = [0, self.hops[0]];
        }
    }

    /// Of one message, the own hops and those at the other end of a link.
    pub(crate) fn learn_hops(&mut self, own: u16, other: u16) {
        self.hops[0] = self.hops[0].max(u32::from(own) + u32::from(other));
    }

    /// T1, given the mean and the longest round trip to the neighbours, if any is known.
    pub(crate) fn t1(&self, config: &Config, rtt: Option<(Duration, Duration)>) -> Duration {
        let Some((mean, longest)) = rtt.filter(|_| self.order.len() >= SOME) else {
            return config.t1_max;
        };
        let late = Duration::from_micros(u64::from(self.percentile())) * 3 / 2;
        let hops = self.hops[0].max(self.hops[1]);
        if hops == 0 && self.order.len() < ENOUGH {
            // nothing was announced: the way around is not known
            return config.t1_max;
        }
        let around = (mean / 2).saturating_mul(hops);
        let learnt = late.max(around);
        let margin = if self.order.len() < ENOUGH {
            learnt / 2
        } else {
            Duration::ZERO
        };
        learnt
            .saturating_add(margin)
            .max(longest.saturating_mul(2))
            .max(config.t1_min)
            .min(config.t1_max)
    }

    /// The 99th.
    fn percentile(&self) -> u32 {
        let at = (self.sorted.len() * 99).div_ceil(100);
        self.sorted.get(at.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Whether both containers hold the same number, and no more than they may.
    pub(crate) fn is_sound(&self) -> bool {
        self.order.len() == self.sorted.len()
            && self.order.len() <= WINDOW
            && self.sorted.is_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const RTT: Option<(Duration, Duration)> = Some((ms(20), ms(40)));

    fn taught(late: u64) -> Lag {
        let mut lag = Lag::new();
        for _ in 0..ENOUGH {
            lag.learn(ms(late));
        }
        lag
    }

    #[test]
    fn who_knows_nothing_waits_long_and_who_knows_little_longer() {
        let config = Config::default();
        let mut lag = Lag::new();
        for count in 0..=ENOUGH {
            let t1 = match count {
                0..SOME => config.t1_max,
                SOME..ENOUGH => ms(225),
                _ => ms(150),
            };
            assert_eq!(lag.t1(&config, RTT), t1, "{count}");
            assert_eq!(lag.t1(&config, None), config.t1_max);
            lag.learn(ms(100));
            lag.learn_hops(1, 1);
        }
    }

    #[test]
    fn a_flood_says_nothing_of_the_way_around() {
        let config = Config::default();
        let mut lag = Lag::new();
        (0..SOME).for_each(|_| lag.learn(Duration::ZERO));
        assert_eq!(lag.t1(&config, RTT), config.t1_max);
        lag.learn_hops(6, 6);
        assert_eq!(lag.t1(&config, RTT), ms(180));
    }

    #[test]
    fn a_way_that_was_not_taken_yet_counts() {
        let mut lag = taught(0);
        lag.learn_hops(9, 8);
        assert_eq!(lag.t1(&Config::default(), RTT), ms(170));
    }

    #[test]
    fn it_stays_between_its_bounds() {
        let config = Config::default();
        assert_eq!(taught(0).t1(&config, RTT), ms(80));
        assert_eq!(taught(0).t1(&config, Some((ms(1), ms(1)))), config.t1_min);
        assert_eq!(taught(5000).t1(&config, RTT), config.t1_max);
        let mut lag = taught(0);
        lag.learn_hops(u16::MAX, u16::MAX);
        let far = Some((Duration::MAX, Duration::MAX));
        assert_eq!(lag.t1(&config, far), config.t1_max);
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut lag = taught(400);
        lag.learn_hops(50, 50);
        for _ in 0..2 * WINDOW {
            lag.learn(ms(10));
            assert!(lag.is_sound());
        }
        assert_eq!(lag.t1(&Config::default(), RTT), ms(80));
    }
}
