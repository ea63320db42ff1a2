// SPDX-License-Identifier: Apache-2.0

//! What became of messages.

use std::fmt;
use std::time::Duration;

/// One message.
#[derive(Clone, Debug)]
pub struct Report {
    sent: Duration,
    /// Nodes that lived when it was sent.
    pub nodes: usize,
    /// When it arrived, in order.
    arrivals: Vec<Duration>,
    /// The most links that it passed on the way to a node.
    pub hops: u16,
    /// Nodes that got it another way.
    pub fetched: usize,
    pub payloads: usize,
    pub announced: usize,
    pub grafts: usize,
    /// While it was the latest.
    pub prunes: usize,
    pub lost: usize,
}

impl Report {
    pub fn new(sent: Duration, nodes: usize) -> Self {
        Self {
            sent,
            nodes,
            arrivals: Vec::new(),
            hops: 0,
            fetched: 0,
            payloads: 0,
            announced: 0,
            grafts: 0,
            prunes: 0,
            lost: 0,
        }
    }

    pub fn delivered(&mut self, now: Duration, round: u16) {
        self.arrivals.push(now - self.sent);
        self.hops = self.hops.max(round + 1);
    }

    pub fn receivers(&self) -> usize {
        self.arrivals.len() + self.fetched
    }

    /// Whether all got it that lived when it was sent.
    pub fn is_complete(&self) -> bool {
        self.arrivals.len() + self.fetched + 1 == self.nodes
    }
}

/// Several messages: means, but for the worst where it says so.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Of all deliveries that should have been, those that were.
    pub reliability: f64,
    /// Relative message redundancy: copies per receiver above the one that is needed.
    pub rmr: f64,
    /// Last delivery hop: the worst.
    pub hops: u16,
    pub mean_hops: f64,
    /// Until half of the nodes had it.
    pub half_ms: f64,
    /// Until all that got it had it, and the worst.
    pub last_ms: f64,
    pub worst_ms: f64,
    /// Ids announced per node.
    pub announced: f64,
    /// Per message.
    pub grafts: f64,
    pub prunes: f64,
    pub lost: usize,
}

impl Summary {
    pub fn of(reports: &[Report]) -> Self {
        let count = reports.len() as f64;
        let mean = |of: &dyn Fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / count;
        let total = |of: &dyn Fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
        let got = total(&|r| r.receivers());
        let at = |r: &Report, n: usize| {
            let arrival = r.arrivals.get(n.min(r.arrivals.len().saturating_sub(1)));
            arrival.map_or(0.0, |at| at.as_secs_f64() * 1000.0)
        };
        Self {
            reliability: got as f64 / total(&|r| r.nodes - 1) as f64,
            rmr: total(&|r| r.payloads) as f64 / got as f64 - 1.0,
            hops: reports.iter().map(|r| r.hops).max().unwrap_or(0),
            mean_hops: mean(&|r| f64::from(r.hops)),
            half_ms: mean(&|r| at(r, r.receivers() / 2)),
            last_ms: mean(&|r| at(r, usize::MAX)),
            worst_ms: reports
                .iter()
                .map(|r| at(r, usize::MAX))
                .fold(0.0, f64::max),
            announced: total(&|r| r.announced) as f64 / total(&|r| r.nodes) as f64,
            grafts: mean(&|r| r.grafts as f64),
            prunes: mean(&|r| r.prunes as f64),
            lost: total(&|r| r.lost),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:8.4} % | {:6.4} | {:4.1} {:3} | {:5.0} {:5.0} {:5.0} | {:5.2} | {:7.1} | {:7.1} | {:4}",
            self.reliability * 100.0,
            self.rmr,
            self.mean_hops,
            self.hops,
            self.half_ms,
            self.last_ms,
            self.worst_ms,
            self.announced,
            self.grafts,
            self.prunes,
            self.lost,
        )
    }
}
