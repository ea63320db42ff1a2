// SPDX-License-Identifier: Apache-2.0

//! Comparing two replicas, and answering what one lacks.
//!
//! A round begins with the roots, as in [`digest`](crate::digest). When a replica has
//! forgotten a log of which all was replaced, the others do so when they hear of it.
//!
//! The audit of a log depends on more than the log, because operations of others replace
//! its values. So it is compared only with a peer that has applied exactly the same, in
//! all logs ([`LwwMap::repairs`]). If it differs then, one of the two lacks something: a
//! node may have passed on that a value was replaced, and died before it passed on by
//! what. The one who lacks it takes it from the other.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::delta::{Add, Delta, LiveSet, MAX_CHUNK, MAX_SEQ, Removes, distance_len};
use crate::digest::{Summary, Sweep, Want};
use crate::key::OriginKey;
use crate::ranges::{Coverage, RangeSet};

use super::LwwMap;
use super::delta::{Collected, MapDelta, overhead, per_birth, per_range};
use super::entry::{Birth, FIRST, LogName};
use super::log::{Log, MAX_RANGES};

/// In a summary, the base of all lives of a writer up to this one that are not listed:
/// they are finished, nothing of them is live.
const CLOSED: u64 = u64::MAX;

impl LwwMap {
    /// The sum over all summaries. Replicas that have applied the same and hold the same
    /// have the same.
    pub fn root(&self) -> u128 {
        self.digest.root()
    }

    /// The same by the first byte of the writer.
    pub fn buckets(&self) -> &[u64; 256] {
        self.digest.buckets()
    }

    /// What this replica has of the writers of a bucket.
    pub fn summaries(&self, bucket: u8) -> Vec<Summary> {
        let logs = self.logs.range(span(bucket));
        let logs = logs.map(|(_, log)| log.summary(&self.config.audit_key));
        let closed = self
            .floors
            .range(bounds(bucket))
            .map(|(origin, inc)| Summary {
                origin: *origin,
                inc: *inc,
                base: CLOSED,
                cloud: 0,
                audit: 0,
                settled: true,
            });
        logs.chain(closed).collect()
    }

    /// What this replica lacks, given summaries of a peer, and what it has to ask that peer
    /// for a reset. Whole buckets have to be given together.
    pub fn wants(&mut self, from: OriginKey, summaries: &[Summary]) -> Vec<Want> {
        let unconfirmed = self.unconfirmed(from).into_iter();
        let mut wants: Vec<Want> = unconfirmed
            .map(|(name, above)| Self::question(name, above))
            .collect();
        for theirs in summaries {
            let name = LogName {
                origin: theirs.origin,
                inc: theirs.inc,
            };
            if theirs.base == CLOSED {
                self.disowned |= name.origin == self.me.origin && name.inc >= self.me.inc;
                let listed = |log: &LogName| {
                    let same = |s: &Summary| (s.origin, s.inc) == (log.origin, log.inc);
                    summaries.iter().any(|s| s.base != CLOSED && same(s))
                };
                let older = self.logs_of(name.origin).filter(|log| *log <= name);
                let finished: Vec<_> = older.filter(|log| !listed(log)).collect();
                for log in finished {
                    if !self.close_if_empty(log) {
                        wants.push(Self::question(log, 0));
                    }
                }
            } else if !self.is_closed(name) {
                wants.extend(self.want(name, theirs));
            }
        }
        self.finish();
        wants
    }

    /// What this replica has lost, given a peer's buckets and the summaries of *all* that
    /// are different: nothing unless both have applied the same.
    pub fn repairs(&mut self, buckets: &[u64; 256], summaries: &[Summary]) -> Vec<Want> {
        let key = self.config.audit_key;
        let mut different = Vec::new();
        let open = summaries.iter().filter(|theirs| theirs.base != CLOSED);
        for theirs in open {
            let name = LogName {
                origin: theirs.origin,
                inc: theirs.inc,
            };
            let ours = self.logs.get(&name).map(|log| log.summary(&key));
            let same = ours.filter(|o| (o.base, o.cloud) == (theirs.base, theirs.cloud));
            match same {
                Some(ours) if ours.audit != theirs.audit => different.push(name),
                None if !self.is_closed(name) => return Vec::new(),
                _ => {}
            }
        }
        let listed: BTreeSet<_> = summaries.iter().map(|s| (s.origin, s.inc)).collect();
        let buckets = self.digest.different(buckets);
        let ours = buckets.flat_map(|bucket| self.logs.range(span(bucket)));
        let mut unlisted = ours.filter(|(name, _)| !listed.contains(&(name.origin, name.inc)));
        if unlisted.next().is_some() {
            return Vec::new();
        }
        self.stats.audit_mismatches += different.len() as u64;
        let repair = |name: LogName| Want {
            repair: Some(self.repaired.get(&name).copied().unwrap_or(0)),
            ..Want::after(name.origin, name.inc, 0)
        };
        different.into_iter().map(repair).collect()
    }

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

    /// One operation, for who misses it. Nothing if it is not applied here, or if its
    /// removal was collected.
    pub fn delta(&self, origin: OriginKey, inc: u64, seq: u64) -> Option<MapDelta> {
        let name = LogName { origin, inc };
        let log = self.logs.get(&name)?;
        let known = seq > 0 && log.applied.contains(seq);
        let told = seq > log.collected || log.live.contains_key(&seq);
        (known && told).then(|| self.chunk(name, seq - 1, seq, MAX_CHUNK))?
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
            epoch: self.epoch,
        };
        MapDelta {
            delta,
            births,
            unknown: Vec::new(),
            collected,
        }
    }

    /// Asks what is live above an operation, and for no operations.
    fn question(name: LogName, above: u64) -> Want {
        let sweep = Sweep {
            upto: above,
            as_of: 0,
        };
        Want {
            sweep,
            ..Want::after(name.origin, name.inc, MAX_SEQ)
        }
    }

    fn want(&self, name: LogName, theirs: &Summary) -> Option<Want> {
        let empty = Log::new(name);
        let log = self.logs.get(&name).unwrap_or(&empty);
        let ours = log.summary(&self.config.audit_key);
        let beyond = theirs.cloud != 0 && theirs.cloud != ours.cloud;
        let more = theirs.base > ours.base || beyond;
        more.then(|| Want {
            have: log.applied.cloud.iter().collect(),
            ..Want::after(name.origin, name.inc, ours.base)
        })
    }

    /// Brings the digest up to date with the logs that have changed.
    pub(super) fn refresh_digest(&mut self) {
        let key = self.config.audit_key;
        for name in std::mem::take(&mut self.touched) {
            let Some(log) = self.logs.get_mut(&name) else {
                continue;
            };
            let hash = log.summary(&key).hash(&key);
            let before = log.hash.replace(hash);
            let bucket = name.origin.bucket();
            before
                .into_iter()
                .for_each(|hash| self.digest.take(bucket, hash));
            self.digest.add(bucket, hash);
        }
    }
}

/// The writers of a bucket.
fn bounds(bucket: u8) -> RangeInclusive<OriginKey> {
    let (mut first, mut last) = ([0; 16], [u8::MAX; 16]);
    (first[0], last[0]) = (bucket, bucket);
    OriginKey(first)..=OriginKey(last)
}

/// Their logs.
fn span(bucket: u8) -> RangeInclusive<LogName> {
    let (first, last) = bounds(bucket).into_inner();
    let first = LogName {
        origin: first,
        inc: 0,
    };
    let last = LogName {
        origin: last,
        inc: u64::MAX,
    };
    first..=last
}
