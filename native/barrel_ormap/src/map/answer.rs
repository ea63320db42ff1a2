// SPDX-License-Identifier: Apache-2.0

//! What others are told.
//!
//! Three things can be said about a log: what is live in a range of operations, which is
//! then taken for applied; which operations are live, so that the rest is known to be
//! dead; and all that is live, for who has lost it.

use crate::delta::{Add, Delta, LiveSet, MAX_CHUNK, MAX_SEQ, Removes, distance_len};
use crate::digest::Want;
use crate::key::OriginKey;
use crate::ranges::{Coverage, RangeSet};

use super::LwwMap;
use super::delta::{Collected, MapDelta, overhead, per_birth, per_range};
use super::entry::{Birth, FIRST, LogName};
use super::log::{Log, MAX_RANGES};

impl LwwMap {
    /// The answer to a want, the beginning of it in at most `budget` bytes, but at least
    /// one delta. The asker comes back with what it has then.
    pub fn answer(&self, want: &Want, budget: usize) -> Vec<MapDelta> {
        let name = LogName {
            origin: want.origin,
            inc: want.inc,
        };
        let size = budget.min(MAX_CHUNK);
        if let Some(above) = want.repair {
            return self.whole(name, above, size).into_iter().collect();
        }
        if want.base >= MAX_SEQ {
            return vec![self.statement(name, want.sweep.upto, size)];
        }
        let Some(log) = self.logs.get(&name) else {
            return Vec::new();
        };
        let mut cloud = RangeSet::new();
        for &(first, last) in want.have.iter().take(MAX_RANGES) {
            cloud.insert(first, last);
        }
        let theirs = Coverage {
            base: want.base,
            cloud,
        };
        let ours = [(1, log.applied.base)].into_iter();
        let ours = ours.chain(log.applied.cloud.iter());
        let lacking = ours.flat_map(|(first, last)| theirs.missing(first.saturating_sub(1), last));
        let mut deltas = Vec::new();
        let mut left = budget;
        for (first, last) in lacking {
            let mut from = first - 1;
            while from < last {
                if left == 0 && !deltas.is_empty() {
                    return deltas;
                }
                let Some(chunk) = self.chunk(name, from, last, left.min(MAX_CHUNK)) else {
                    return deltas;
                };
                from = chunk.delta.to;
                left = left.saturating_sub(chunk.encoded_len());
                deltas.push(chunk);
            }
        }
        deltas
    }

    /// The operations `(from, to]` of one log, for somebody who missed the broadcast of
    /// them. Nothing if they are not all applied here, if a removal among them was
    /// collected, or if they do not fit into one chunk.
    pub fn delta(&self, origin: OriginKey, inc: u64, from: u64, to: u64) -> Option<MapDelta> {
        let name = LogName { origin, inc };
        let log = self.logs.get(&name)?;
        if from >= to || !log.applied.contains_all(from, to) {
            return None;
        }
        // Of what has no entry and may have been a removal, nothing can be told. As
        // entries are counted and not operations, this ends soon.
        let forgotten = to.min(log.collected);
        let told = forgotten <= from || {
            let live = log.live.range(from + 1..forgotten + 1).count();
            live as u64 == forgotten - from
        };
        let delta = told.then(|| self.chunk(name, from, to, MAX_CHUNK))??;
        (delta.delta.to == to && delta.encoded_len() <= MAX_CHUNK).then_some(delta)
    }

    /// Whether the operation is applied here.
    pub fn covers(&self, origin: OriginKey, inc: u64, seq: u64) -> bool {
        let name = LogName { origin, inc };
        let log = self.logs.get(&name);
        log.is_some_and(|log| log.applied.contains(seq)) || self.is_closed(name)
    }

    /// Whether the operations `(from, to]` of one log would bring nothing.
    pub fn covers_all(&self, origin: OriginKey, inc: u64, from: u64, to: u64) -> bool {
        let name = LogName { origin, inc };
        let log = self.logs.get(&name);
        log.is_some_and(|log| log.applied.contains_all(from, to)) || self.is_closed(name)
    }

    /// What is live of `(from, until]`, up to about `size` bytes, but at least one operation.
    pub(super) fn chunk(
        &self,
        name: LogName,
        from: u64,
        until: u64,
        size: usize,
    ) -> Option<MapDelta> {
        let log = self.logs.get(&name)?;
        let (mut adds, mut births) = (Vec::new(), Vec::new());
        let (mut to, mut bytes) = (until, overhead());
        for (seq, add, own) in self.live_in(log, from, until) {
            bytes += add.encoded_len() + own.len() * per_birth();
            if bytes > size && !adds.is_empty() {
                to = seq - 1;
                break;
            }
            adds.push(add);
            births.extend(own.iter().map(|birth| (seq, *birth)));
        }
        let removes = Removes::List(Vec::new());
        Some(self.wrap(log, (from, to), adds, births, removes))
    }

    /// The live entries of `(from, until]`. A value that has moved to another log is among
    /// them as it was at its birth: who takes the operation for applied must have the
    /// value, or he would take its copy for dead.
    fn live_in<'a>(
        &'a self,
        log: &'a Log,
        from: u64,
        until: u64,
    ) -> impl Iterator<Item = (u64, Add, &'a [Birth])> + 'a {
        let end = until.max(from) + 1;
        let mut here = log.live.range(from + 1..end).peekable();
        let moved = (*log.name, from + 1, FIRST, 0)..(*log.name, end, FIRST, 0);
        let mut moved = self.moved.range(moved).peekable();
        std::iter::from_fn(move || {
            let seq = moved.peek().map(|((_, seq, ..), _)| *seq);
            match here.peek() {
                Some((live, _)) if seq.is_none_or(|seq| **live <= seq) => {
                    // A copy of what is still here says nothing new.
                    moved.next_if(|((_, seq, ..), _)| seq == *live);
                    let (seq, entry) = here.next()?;
                    Some((*seq, entry.add(), entry.births()))
                }
                _ => {
                    let (_, entry) = moved.next()?;
                    while moved
                        .next_if(|((_, next, ..), _)| Some(*next) == seq)
                        .is_some()
                    {}
                    Some((seq?, entry.add_at_birth(), &[][..]))
                }
            }
        })
    }

    /// What is live above an operation: here, or born here and moved.
    fn statement(&self, name: LogName, above: u64, size: usize) -> MapDelta {
        let empty = Log::new(name);
        let log = self.logs.get(&name);
        let complete = match log {
            Some(log) => log.applied.top(),
            None if self.is_closed(name) => MAX_SEQ,
            None => 0,
        };
        let above = above.min(complete);
        let moved = self
            .moved
            .range((name, above + 1, FIRST, 0)..(name, complete + 1, FIRST, 0));
        let mut live: Vec<u64> = moved.map(|((_, seq, ..), _)| *seq).collect();
        live.extend(
            log.iter()
                .flat_map(|log| log.live.range(above + 1..).map(|(seq, _)| *seq)),
        );
        live.sort_unstable();
        live.dedup();
        live.retain(|seq| log.is_none_or(|log| log.applied.contains(*seq)));
        let mut unknown = log.map_or_else(Vec::new, |log| log.applied.missing(above, complete));
        let bytes = overhead() + unknown.len() * per_range();
        let (mut until, mut bytes, mut last) = (complete, bytes, above);
        for (at, &seq) in live.iter().enumerate() {
            bytes += distance_len(last, seq);
            if bytes > size && at > 0 {
                until = last;
                live.truncate(at);
                break;
            }
            last = seq;
        }
        let set = LiveSet {
            above,
            until,
            live,
            whole: false,
            complete,
        };
        unknown.retain(|range| range.0 <= until);
        let removes = Removes::LiveSet(set);
        let log = log.unwrap_or(&empty);
        let mut statement = self.wrap(log, (0, 0), Vec::new(), Vec::new(), removes);
        statement.unknown = unknown;
        statement.delta.as_of = statement.delta.as_of.max(complete);
        statement
    }

    /// All live entries above an operation, as many as fit.
    fn whole(&self, name: LogName, above: u64, size: usize) -> Option<MapDelta> {
        let complete = self.logs.get(&name)?.applied.top();
        let above = above.min(complete);
        let mut whole = self.chunk(name, above, complete, size)?;
        let set = LiveSet {
            above,
            until: whole.delta.to,
            live: Vec::new(),
            whole: true,
            complete,
        };
        whole.delta.removes = Removes::LiveSet(set);
        // What waits for its time here, elsewhere may have come and gone.
        whole.delta.adds.retain(|add| {
            let key = add.pair.key();
            let mut parked = self.parked.values();
            !parked.any(|parked| parked.key() == key && parked.seq_in(name) != Some(add.seq))
        });
        let added = |seq: u64| whole.delta.adds.iter().any(|add| add.seq == seq);
        whole.births.retain(|(seq, _)| added(*seq));
        (whole.delta.from, whole.delta.to) = (0, 0);
        Some(whole)
    }

    fn wrap(
        &self,
        log: &Log,
        (from, to): (u64, u64),
        adds: Vec<Add>,
        births: Vec<(u64, Birth)>,
        removes: Removes,
    ) -> MapDelta {
        let delta = Delta {
            origin: log.name.origin,
            inc: log.name.inc,
            from,
            to,
            as_of: log.applied.top(),
            adds,
            removes,
        };
        let collected = Collected {
            upto: log.collected,
            epoch: self.told_epoch(),
        };
        MapDelta {
            delta,
            births,
            unknown: Vec::new(),
            collected,
        }
    }
}
