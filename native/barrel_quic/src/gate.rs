//! The gate: which incoming connections may start a handshake.
//!
//! A handshake costs the acceptor a signature and some memory before the peer
//! has shown who it is. So three bounds stand at the gate:
//!
//! * beyond [`RETRY_AT`] handshakes under way, a peer must first prove its
//!   address by an answered Retry (RFC 9000 section 8.1), which costs nothing here;
//! * beyond [`MAX_HANDSHAKES`] the oldest of them is given up for the new one:
//!   an honest peer needs some milliseconds, one that stalls grows old;
//! * no more than [`PER_SECOND`] are begun in a second; what comes on top is
//!   not answered, and an honest peer repeats its first packet.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::AbortHandle;

/// Handshakes under way from which on Retry is demanded.
pub const RETRY_AT: usize = 32;

/// Most handshakes under way.
pub const MAX_HANDSHAKES: usize = 256;

/// Most handshakes begun in one second: an authenticated one costs about 1 ms
/// of the I/O thread, so that half its time stays for traffic.
pub const PER_SECOND: u32 = 500;

/// What to do with an incoming connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Begin the handshake.
    Admit,
    /// Demand a proof of the address first.
    Retry,
    /// Do not answer.
    Ignore,
}

/// The state of the gate.
#[derive(Debug, Default)]
pub struct Gate {
    under_way: BTreeMap<u64, AbortHandle>,
    next: u64,
    /// Start of the current second, and the handshakes begun in it.
    second: Duration,
    begun: u32,
}

impl Gate {
    /// Judges an incoming connection. `validated`: its address was proven.
    pub fn judge(&mut self, now: Duration, validated: bool) -> Verdict {
        if now.saturating_sub(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.begun = 0;
        }
        if !validated && self.under_way.len() >= RETRY_AT {
            return Verdict::Retry;
        }
        if self.begun >= PER_SECOND {
            return Verdict::Ignore;
        }
        self.begun += 1;
        Verdict::Admit
    }

    /// A number for the handshake about to begin.
    pub fn ticket(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The handshake `ticket` has begun; gives up the oldest beyond the bound.
    pub fn began(&mut self, ticket: u64, task: AbortHandle) {
        self.under_way.insert(ticket, task);
        if self.under_way.len() > MAX_HANDSHAKES
            && let Some((_, oldest)) = self.under_way.pop_first()
        {
            oldest.abort();
        }
    }

    /// The handshake `ticket` is over, however it went.
    pub fn ended(&mut self, ticket: u64) {
        self.under_way.remove(&ticket);
    }

    /// Handshakes under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fill(gate: &mut Gate, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
        (0..count)
            .map(|_| {
                let ticket = gate.ticket();
                let task = tokio::spawn(std::future::pending::<()>());
                gate.began(ticket, task.abort_handle());
                task
            })
            .collect()
    }

    #[tokio::test]
    async fn under_pressure_an_address_must_be_proven() {
        let mut gate = Gate::default();
        assert_eq!(gate.judge(Duration::ZERO, false), Verdict::Admit);
        let _tasks = fill(&mut gate, RETRY_AT).await;
        assert_eq!(gate.judge(Duration::ZERO, false), Verdict::Retry);
        assert_eq!(gate.judge(Duration::ZERO, true), Verdict::Admit);
        gate.ended(1);
        assert_eq!(gate.judge(Duration::ZERO, false), Verdict::Admit);
    }

    #[tokio::test]
    async fn a_full_gate_gives_up_the_oldest_handshake() {
        let mut gate = Gate::default();
        let mut tasks = fill(&mut gate, MAX_HANDSHAKES + 1).await;
        assert_eq!(gate.under_way(), MAX_HANDSHAKES);
        assert!(tasks.remove(0).await.unwrap_err().is_cancelled());
        assert!(!tasks[0].is_finished());
    }

    #[test]
    fn a_second_has_a_bounded_number_of_handshakes() {
        let mut gate = Gate::default();
        for _ in 0..PER_SECOND {
            assert_eq!(gate.judge(Duration::from_millis(10), true), Verdict::Admit);
        }
        assert_eq!(
            gate.judge(Duration::from_millis(900), true),
            Verdict::Ignore
        );
        assert_eq!(
            gate.judge(Duration::from_millis(1001), true),
            Verdict::Admit
        );
    }
}
