//! Congestion control: Cubic, patient or not, or BBR, with a way out for the last packet.
//!
//! quinn-proto 0.11.19 holds CONNECTION_CLOSE back like data: while the window
//! is full, or kept by the pacer, a closed connection stays silent, and since it
//! hears no acknowledgement any more it stays so for ever. The peer learns of
//! the close from its idle timeout, and of the code never. (Known as issue 2785
//! of quinn, mended there after that release.) RFC 9002 section 7 limits
//! packets in flight only, and a packet with nothing but a close is not.
//!
//! So [`close`] first opens the window of that one connection: what follows is
//! the close alone, since a closed connection sends nothing else.
//!
//! The first window is wider than the 12 000 bytes of quinn: a probe of the
//! datagram size would fill it, and hold back the hello beside it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn::{Connection, VarInt};
use quinn_proto::RttEstimator;

use crate::patience::Judge;

/// First window: a probe and three datagrams of 8900 bytes. On a path of 1452
/// bytes these are 24 packets; RFC 9002 section 7.2 recommends 10, servers of
/// the web use 32 and more.
const INITIAL_WINDOW: u64 = 4 * 8900;

/// How the sending rate of a link is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Cubic, but only a loss that comes with a queue makes it slower.
    #[default]
    Patient,
    /// RFC 9438, as in most TCP stacks: each loss makes it slower.
    Cubic,
    /// BBR version 1: follows the measured rate, whatever is lost. quinn calls its
    /// implementation experimental.
    Bbr,
}

/// Closes a connection whatever its window holds back.
pub(crate) fn close(conn: &Connection, code: VarInt, reason: &[u8]) {
    if let Ok(gate) = conn.congestion_state().into_any().downcast::<Gate>() {
        gate.open.store(true, Ordering::Relaxed);
    }
    conn.close(code, reason);
}

/// Makes the controller of each path.
pub(crate) struct Factory {
    controllers: Arc<dyn ControllerFactory + Send + Sync>,
    patient: bool,
}

impl Factory {
    pub(crate) fn new(congestion: Congestion) -> Self {
        let controllers: Arc<dyn ControllerFactory + Send + Sync> = match congestion {
            Congestion::Patient | Congestion::Cubic => {
                let mut cubic = CubicConfig::default();
                cubic.initial_window(INITIAL_WINDOW);
                Arc::new(cubic)
            }
            Congestion::Bbr => {
                let mut bbr = BbrConfig::default();
                bbr.initial_window(INITIAL_WINDOW);
                Arc::new(bbr)
            }
        };
        Self {
            controllers,
            patient: congestion == Congestion::Patient,
        }
    }
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.controllers).build(now, current_mtu);
        Box::new(Gate {
            inner,
            judge: self.patient.then(|| Judge::new(current_mtu)),
            open: Arc::default(),
        })
    }
}

/// A controller whose window can be opened for good.
struct Gate {
    inner: Box<dyn Controller>,
    /// Decides which losses the controller hears of; without it, of all.
    judge: Option<Judge>,
    /// Shared by the controller in use and its copies.
    open: Arc<AtomicBool>,
}

impl Controller for Gate {
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
        if let Some(judge) = &mut self.judge {
            judge.acked(now, sent, bytes, self.inner.window());
        }
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
        let full = match &mut self.judge {
            Some(judge) => judge.lost(lost_bytes, self.inner.window()),
            None => true,
        };
        // Without lost bytes it is a mark of the network (ECN): that is congestion.
        let marked = lost_bytes == 0;
        if marked || is_persistent_congestion || full {
            self.inner
                .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        if let Some(judge) = &mut self.judge {
            judge.set_mtu(new_mtu);
        }
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.open.load(Ordering::Relaxed) {
            // So wide that quinn does not pace either.
            return u64::MAX;
        }
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            judge: self.judge.clone(),
            open: Arc::clone(&self.open),
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

    #[test]
    fn a_window_that_is_opened_is_open_in_every_copy() {
        for congestion in [Congestion::Patient, Congestion::Cubic, Congestion::Bbr] {
            opened_in_every_copy(congestion);
        }
    }

    fn opened_in_every_copy(congestion: Congestion) {
        let factory = Arc::new(Factory::new(congestion));
        let used = Arc::clone(&factory).build(Instant::now(), 1200);
        let other = factory.build(Instant::now(), 1200);
        assert_eq!(used.window(), INITIAL_WINDOW);
        let copy = used.clone_box().into_any().downcast::<Gate>().unwrap();
        copy.open.store(true, Ordering::Relaxed);
        assert_eq!(used.window(), u64::MAX);
        assert_eq!(other.window(), INITIAL_WINDOW);
    }

    #[test]
    fn patient_is_made_slower_by_congestion_only() {
        const LATER: std::time::Duration = std::time::Duration::from_millis(20);
        let now = Instant::now();
        let mut patient = Arc::new(Factory::new(Congestion::Patient)).build(now, 1200);
        let first = patient.window();
        patient.on_congestion_event(now, now, false, 1200);
        assert_eq!(patient.window(), first);
        patient.on_congestion_event(now, now, false, 0);
        let second = patient.window();
        assert!(second < first, "a mark of the network");
        patient.on_congestion_event(now + LATER, now + LATER, true, 1200);
        assert!(patient.window() < second, "persistent congestion");
        let mut cubic = Arc::new(Factory::new(Congestion::Cubic)).build(now, 1200);
        cubic.on_congestion_event(now, now, false, 1200);
        assert!(cubic.window() < first, "each loss");
    }
}
