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
use std::fmt;
use std::net::IpAddr;
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

/// What a crowd at the gate makes it do; worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Newcomers must prove their address.
    Retry,
    /// Some newcomers are not answered.
    Ignore,
    /// The oldest handshakes are given up.
    GiveUp,
}

impl fmt::Display for Pressure {
    /// The cause, then the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry => write!(
                f,
                "{RETRY_AT} handshakes are under way, so newcomers must prove their address first"
            ),
            Self::Ignore => write!(
                f,
                "{PER_SECOND} handshakes began within a second, so some newcomers are not answered"
            ),
            Self::GiveUp => write!(
                f,
                "{MAX_HANDSHAKES} handshakes are under way, so the oldest are given up"
            ),
        }?;
        f.write_str("; if the address is not that of a node, keep it out with a firewall")
    }
}

/// The state of the gate.
#[derive(Debug, Default)]
pub struct Gate {
    under_way: BTreeMap<u64, (AbortHandle, IpAddr)>,
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

    /// The handshake `ticket` has begun; gives up the oldest beyond the bound, and
    /// answers whether it did.
    pub fn began(&mut self, ticket: u64, task: AbortHandle, from: IpAddr) -> bool {
        self.under_way.insert(ticket, (task, from));
        if self.under_way.len() <= MAX_HANDSHAKES {
            return false;
        }
        if let Some((_, (oldest, _))) = self.under_way.pop_first() {
            oldest.abort();
        }
        true
    }

    /// The address with the most handshakes under way, and how many. It may be
    /// forged where it was not proven.
    pub fn busiest(&self) -> Option<(IpAddr, usize)> {
        let mut counts = BTreeMap::new();
        for (_, from) in self.under_way.values() {
            *counts.entry(*from).or_insert(0) += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count)
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

    fn begin(gate: &mut Gate, last: u8) -> (tokio::task::JoinHandle<()>, bool) {
        let ticket = gate.ticket();
        let task = tokio::spawn(std::future::pending::<()>());
        let full = gate.began(ticket, task.abort_handle(), [192, 0, 2, last].into());
        (task, full)
    }

    async fn fill(gate: &mut Gate, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
        (0..count)
            .map(|_| {
                let (task, full) = begin(gate, 1);
                assert!(!full);
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
        let mut tasks = fill(&mut gate, MAX_HANDSHAKES).await;
        assert!(begin(&mut gate, 1).1);
        assert_eq!(gate.under_way(), MAX_HANDSHAKES);
        assert!(tasks.remove(0).await.unwrap_err().is_cancelled());
        assert!(!tasks[0].is_finished());
    }

    #[tokio::test]
    async fn the_address_with_the_most_handshakes_is_known() {
        let mut gate = Gate::default();
        assert_eq!(gate.busiest(), None);
        let _tasks: Vec<_> = [7, 9, 8, 9, 9, 7].map(|last| begin(&mut gate, last)).into();
        assert_eq!(gate.busiest(), Some(([192, 0, 2, 9].into(), 3)));
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
