//! Who could reach whom, and when: the judge of missed deliveries.
//!
//! The log knows nothing of the protocol. A link is *usable* one way while both ends know it and nothing blocks
//! that way. A message can go from A to B over it when it leaves and arrives within one such
//! span. Whoever a chain of such steps reaches in time could have had the message; who had it not,
//! missed it for a reason that lies in the protocol.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::machine::NodeNo;
use super::time::Time;

/// A node between a start and its end. What it held in memory does not pass to its next life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Which node.
    pub node: NodeNo,
    /// How often it had started.
    pub life: u32,
}

/// A time in which a link carried messages one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who sends.
    pub from: Life,
    /// Who hears.
    pub to: Life,
    /// First moment.
    pub start: Time,
    /// Last moment.
    pub end: Time,
    /// How long a message is on its way, in nanoseconds.
    pub latency: u64,
}

/// The spans of all links since the log was begun.
#[derive(Clone, Debug, Default)]
pub struct LinkLog {
    open: BTreeMap<(Life, Life), (Time, u64)>,
    spans: Vec<Span>,
}

impl LinkLog {
    /// What is known of one direction from now on.
    pub(crate) fn note(&mut self, now: Time, from: Life, to: Life, latency: u64, usable: bool) {
        if usable {
            self.open.entry((from, to)).or_insert((now, latency));
        } else if let Some((start, latency)) = self.open.remove(&(from, to)) {
            self.spans.push(Span {
                from,
                to,
                start,
                end: now,
                latency,
            });
        }
    }

    /// All spans; those that last are cut at `until`.
    #[must_use]
    pub fn spans(&self, until: Time) -> Vec<Span> {
        let open = self
            .open
            .iter()
            .map(|(&(from, to), &(start, latency))| Span {
                from,
                to,
                start,
                end: until,
                latency,
            });
        self.spans.iter().copied().chain(open).collect()
    }

    /// When each life could have heard, at the earliest, what `from` said at `sent`; those that could
    /// not until `until` are absent.
    #[must_use]
    pub fn reach(&self, from: Life, sent: Time, until: Time) -> BTreeMap<Life, Time> {
        let mut ways: BTreeMap<Life, Vec<Span>> = BTreeMap::new();
        for span in self.spans(until) {
            if span.end >= sent && span.start <= until {
                ways.entry(span.from).or_default().push(span);
            }
        }
        let mut reached = BTreeMap::new();
        let mut next = BinaryHeap::from([Reverse((sent, from))]);
        while let Some(Reverse((at, who))) = next.pop() {
            if reached.contains_key(&who) {
                continue;
            }
            reached.insert(who, at);
            for span in ways.get(&who).into_iter().flatten() {
                let arrival = Time(at.max(span.start).0.saturating_add(span.latency));
                if arrival <= span.end.min(until) && !reached.contains_key(&span.to) {
                    next.push(Reverse((arrival, span.to)));
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(node: NodeNo) -> Life {
        Life { node, life: 1 }
    }

    fn log(spans: &[(NodeNo, NodeNo, u64, u64)]) -> LinkLog {
        let mut log = LinkLog::default();
        for &(from, to, start, end) in spans {
            log.note(Time(start), life(from), life(to), 10, true);
            log.note(Time(end), life(from), life(to), 10, false);
        }
        log
    }

    #[test]
    fn a_path_must_respect_time() {
        let late_first = log(&[(1, 2, 100, 200), (2, 3, 0, 90)]);
        let reached = late_first.reach(life(1), Time(0), Time(1000));
        assert_eq!(reached.get(&life(2)), Some(&Time(110)));
        assert_eq!(reached.get(&life(3)), None);
        let in_order = log(&[(1, 2, 100, 200), (2, 3, 500, 600)]);
        assert_eq!(
            in_order.reach(life(1), Time(0), Time(1000)).get(&life(3)),
            Some(&Time(510))
        );
    }

    #[test]
    fn a_span_shorter_than_the_way_carries_nothing() {
        let reached = log(&[(1, 2, 100, 109)]).reach(life(1), Time(0), Time(1000));
        assert_eq!(reached.len(), 1);
    }

    #[test]
    fn a_direction_is_not_its_opposite() {
        let reached = log(&[(1, 2, 0, 100)]).reach(life(2), Time(0), Time(1000));
        assert_eq!(reached.get(&life(1)), None);
    }

    #[test]
    fn a_new_life_does_not_know_what_the_old_one_heard() {
        let mut log = log(&[(1, 2, 0, 100)]);
        let second = Life { node: 2, life: 2 };
        log.note(Time(200), second, life(3), 10, true);
        let reached = log.reach(life(1), Time(0), Time(1000));
        assert!(reached.contains_key(&life(2)));
        assert!(!reached.contains_key(&life(3)));
    }

    #[test]
    fn a_link_that_lasts_counts_until_the_end() {
        let mut log = LinkLog::default();
        log.note(Time(5), life(1), life(2), 10, true);
        log.note(Time(6), life(1), life(2), 10, true);
        assert_eq!(log.spans(Time(50)).len(), 1);
        assert_eq!(
            log.reach(life(1), Time(20), Time(50)).get(&life(2)),
            Some(&Time(30))
        );
        assert_eq!(log.reach(life(1), Time(45), Time(50)).get(&life(2)), None);
    }
}
