//! Cubic that does not take every loss for a full queue.
//!
//! Cubic (RFC 9438) halves its rate, or nearly, at each loss. On a path that loses
//! one packet in a hundred for other reasons, such as radio or a bad cable, it
//! crawls. But a queue that overflows was full before, and a full queue takes time.
//! So a loss counts only when packets of the latest round trip were late (the idea
//! of TCP Veno, Fu and Liew 2003), or when more is lost than such a path loses. The
//! second condition is for lines whose queue is too short to be seen, as BBR version
//! 2 has one; they lose a bounded part.
//!
//! On a path with an ordinary queue this is Cubic, and shares like Cubic.

use std::time::{Duration, Instant};

/// Time in a queue that says that there is one: a quarter of the round trip, and no
/// less than this, which schedulers and delayed acknowledgements use up.
const QUEUE: Duration = Duration::from_millis(5);

/// One of so many bytes lost is the most that a path loses without being full.
const TOLERATED: u64 = 20;

/// So few packets say nothing about a part.
const FEW: u64 = 3;

/// Packets that are remembered at least; then the older ones count half.
const MEMORY: u64 = 200;

/// What is known of the path.
#[derive(Clone)]
pub(crate) struct Judge {
    mtu: u64,
    /// The shortest round trip of all.
    base: Duration,
    /// The shortest of the round under way and of the one before.
    shortest: [Duration; 2],
    round: Option<Instant>,
    /// Bytes acknowledged and lost, of late.
    acked: u64,
    lost: u64,
}

impl Judge {
    pub(crate) fn new(mtu: u16) -> Self {
        Self {
            mtu: u64::from(mtu),
            base: Duration::MAX,
            shortest: [Duration::MAX; 2],
            round: None,
            acked: 0,
            lost: 0,
        }
    }

    /// The datagram size has changed.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
    }

    /// So many bytes, sent then, were acknowledged.
    pub(crate) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, window: u64) {
        // What was sent after a round began, begins the next.
        if self.round.is_none_or(|began| sent >= began) {
            self.round = Some(now);
            self.shortest = [Duration::MAX, self.shortest[0]];
        }
        let took = now.saturating_duration_since(sent);
        self.shortest[0] = self.shortest[0].min(took);
        self.base = self.base.min(took);
        self.remember(bytes, 0, window);
    }

    /// Whether the loss of that many bytes says that the line is full.
    pub(crate) fn lost(&mut self, bytes: u64, window: u64) -> bool {
        self.remember(0, bytes, window);
        self.is_queueing() || self.loses_much()
    }

    fn remember(&mut self, acked: u64, lost: u64, window: u64) {
        self.acked += acked;
        self.lost += lost;
        if self.acked + self.lost > (MEMORY * self.mtu).max(2 * window) {
            self.acked /= 2;
            self.lost /= 2;
        }
    }

    /// Packets wait somewhere.
    fn is_queueing(&self) -> bool {
        let latest = self.shortest[0].min(self.shortest[1]);
        latest != Duration::MAX && latest > self.base.saturating_add(QUEUE.max(self.base / 4))
    }

    /// More is lost than a path loses by itself.
    fn loses_much(&self) -> bool {
        self.lost > FEW * self.mtu && self.lost * TOLERATED > self.acked + self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1200;
    const BASE: Duration = Duration::from_millis(20);

    /// A path in virtual time.
    struct Path {
        judge: Judge,
        now: Instant,
    }

    impl Path {
        fn new() -> Self {
            let mut path = Self {
                judge: Judge::new(MTU as u16),
                now: Instant::now(),
            };
            path.is_full(100, 0, BASE);
            path
        }

        /// A round trip with so many packets, of which the last `lost` are lost: whether
        /// that says that the path is full.
        fn is_full(&mut self, packets: u64, lost: u64, rtt: Duration) -> bool {
            let (sent, window) = (self.now, packets * MTU);
            self.now += rtt;
            for _ in lost..packets {
                self.judge.acked(self.now, sent, MTU, window);
            }
            self.now += Duration::from_micros(1);
            lost > 0 && self.judge.lost(lost * MTU, window)
        }
    }

    #[test]
    fn a_loss_without_a_queue_is_not_congestion() {
        let mut path = Path::new();
        assert!((0..100).all(|_| !path.is_full(100, 1, BASE)));
    }

    #[test]
    fn a_loss_behind_a_queue_is() {
        let mut path = Path::new();
        path.is_full(100, 0, 2 * BASE);
        assert!(path.is_full(100, 1, 2 * BASE));
    }

    #[test]
    fn a_queue_that_is_gone_is_forgotten() {
        let mut path = Path::new();
        path.is_full(100, 0, 2 * BASE);
        path.is_full(100, 0, BASE);
        assert!(!path.is_full(100, 1, BASE));
    }

    #[test]
    fn much_loss_is_congestion_without_a_queue() {
        assert!(Path::new().is_full(100, 40, BASE));
    }

    #[test]
    fn what_was_lost_is_forgotten_in_time() {
        let mut path = Path::new();
        path.is_full(100, 40, BASE);
        for _ in 0..30 {
            path.is_full(100, 0, BASE);
        }
        assert!(!path.is_full(100, 1, BASE));
    }

    #[test]
    fn a_few_packets_lost_at_the_beginning_are_not_much() {
        let mut judge = Judge::new(MTU as u16);
        assert!(!judge.lost(FEW * MTU, 10 * MTU));
        assert!(judge.lost(MTU, 10 * MTU));
    }
}
