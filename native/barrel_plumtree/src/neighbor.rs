// SPDX-License-Identifier: Apache-2.0

//! What is known of one neighbour.

use std::time::Duration;

use crate::bucket::Bucket;
use crate::config::Config;

/// How long after it was told that a neighbour announces too much it is told
/// again.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Neighbor<I> {
    /// Gets messages whole.
    pub(crate) eager: bool,
    /// This node hangs by it; then it is eager.
    pub(crate) anchor: bool,
    /// To be announced to it.
    pub(crate) queue: Vec<(I, u16)>,
    /// Of the link.
    pub(crate) rtt: Option<Duration>,
    /// Questions it left without an answer, since its last message.
    pub(crate) unanswered: u32,
    ids: Bucket,
    bodies: Bucket,
    bytes: Bucket,
    flooding_told: Option<Duration>,
}

impl<I> Neighbor<I> {
    pub(crate) fn new(now: Duration, config: &Config) -> Self {
        Self {
            eager: true,
            anchor: false,
            queue: Vec::new(),
            rtt: None,
            unanswered: 0,
            ids: Bucket::new(now, config.ids_per_second),
            bodies: Bucket::new(now, config.bodies_per_second),
            bytes: Bucket::new(now, config.body_bytes_per_second),
            flooding_told: None,
        }
    }

    /// How many of so many announced ids are looked at.
    pub(crate) fn admit_ids(&mut self, now: Duration, ids: usize) -> usize {
        self.ids.take_up_to(now, ids)
    }

    /// Whether it gets a message that it asked for.
    pub(crate) fn admit_body(&mut self, now: Duration, bytes: usize) -> bool {
        self.bodies.take_up_to(now, 1) == 1 && self.bytes.take_or_owe(now, bytes)
    }

    /// Whether it is time to tell that it announces too much.
    pub(crate) fn tell_flooding(&mut self, now: Duration) -> bool {
        let tell = self
            .flooding_told
            .is_none_or(|told| now.saturating_sub(told) >= SILENCE);
        if tell {
            self.flooding_told = Some(now);
        }
        tell
    }

    /// T2: how long its answer is waited for. Never zero, so that time goes on.
    pub(crate) fn t2(&self, config: &Config) -> Duration {
        let floor = config.t2_min.max(Duration::from_millis(1));
        self.rtt
            .map_or(config.t2_unknown, |rtt| rtt.saturating_mul(3) / 2)
            .min(config.t1_max)
            .max(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_wait_for_an_answer_follows_the_round_trip() {
        let config = Config::default();
        let mut neighbor = Neighbor::<u8>::new(ms(0), &config);
        assert_eq!(neighbor.t2(&config), config.t2_unknown);
        for (rtt, t2) in [(ms(100), ms(150)), (ms(1), config.t2_min)] {
            neighbor.rtt = Some(rtt);
            assert_eq!(neighbor.t2(&config), t2);
        }
        neighbor.rtt = Some(Duration::MAX);
        assert_eq!(neighbor.t2(&config), config.t1_max);
    }

    #[test]
    fn a_flood_is_told_now_and_then() {
        let mut neighbor = Neighbor::<u8>::new(ms(0), &Config::default());
        let told = (0..30).filter(|&s| neighbor.tell_flooding(Duration::from_secs(s)));
        assert_eq!(told.count(), 3);
    }

    #[test]
    fn few_large_bodies_or_many_small_ones_are_given() {
        let config = Config {
            bodies_per_second: 10,
            body_bytes_per_second: 1000,
            ..Config::default()
        };
        let given = |bytes| {
            let mut neighbor = Neighbor::<u8>::new(ms(0), &config);
            (0..100)
                .filter(|_| neighbor.admit_body(ms(0), bytes))
                .count()
        };
        assert_eq!(given(1), 10);
        assert_eq!(given(400), 3);
    }
}
