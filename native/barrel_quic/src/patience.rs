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

use std::any::Any;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerMetrics};
use quinn_proto::RttEstimator;

/// Time in a queue that says that there is one: a quarter of the round trip, and no
/// less than this, which schedulers and delayed acknowledgements use up.
const QUEUE: Duration = Duration::from_millis(5);

/// One of so many bytes lost is the most that a path loses without being full.
const TOLERATED: u64 = 20;

/// So few packets say nothing about a part.
const FEW: u64 = 3;

/// Packets that are remembered at least; then the older ones count half.
const MEMORY: u64 = 200;

pub(crate) struct Patient {
    inner: Box<dyn Controller>,
    judge: Judge,
}

impl Patient {
    pub(crate) fn new(inner: Box<dyn Controller>, mtu: u16) -> Self {
        Self {
            inner,
            judge: Judge::new(mtu),
        }
    }
}

/// What it knows of the path.
#[derive(Clone)]
struct Judge {
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
    fn new(mtu: u16) -> Self {
        Self {
            mtu: u64::from(mtu),
            base: Duration::MAX,
            shortest: [Duration::MAX; 2],
            round: None,
            acked: 0,
            lost: 0,
        }
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, window: u64) {
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
    fn lost(&mut self, bytes: u64, window: u64) -> bool {
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

impl Controller for Patient {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.judge.acked(now, sent, bytes, self.inner.window());
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        // Without lost bytes it is a mark of the network (ECN): that is congestion.
        let marked = lost_bytes == 0;
        let full = self.judge.lost(lost_bytes, self.inner.window());
        if marked || is_persistent_congestion || full {
            self.inner
                .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.judge.mtu = u64::from(new_mtu);
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            judge: self.judge.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use quinn::congestion::{ControllerFactory, CubicConfig};

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

    #[test]
    fn only_congestion_makes_the_window_smaller() {
        let now = Instant::now();
        let cubic = Arc::new(CubicConfig::default()).build(now, MTU as u16);
        let mut patient = Patient::new(cubic, MTU as u16);
        let first = patient.window();
        patient.on_congestion_event(now, now, false, MTU);
        assert_eq!(patient.window(), first);
        patient.on_congestion_event(now, now, false, 0);
        let second = patient.window();
        assert!(second < first, "a mark of the network");
        patient.on_congestion_event(now + BASE, now + BASE, true, MTU);
        assert!(patient.window() < second, "persistent congestion");
    }
}
