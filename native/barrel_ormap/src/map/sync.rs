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

use crate::delta::MAX_SEQ;
use crate::digest::{Summary, Sweep, Want};
use crate::key::OriginKey;

use super::LwwMap;
use super::entry::LogName;
use super::log::{Log, has_more};

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
                if name.origin == self.me.origin && name.inc >= self.me.inc {
                    self.disowned = true;
                    self.clash = self.clash.max(Some(name.inc));
                }
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

    /// The end of a round that found nothing to want: what this replica has lost, given a
    /// peer's buckets and the summaries of *all* that are different (none if the roots are
    /// equal). Nothing unless both have applied the same.
    pub fn repairs(
        &mut self,
        from: OriginKey,
        buckets: &[u64; 256],
        summaries: &[Summary],
    ) -> Vec<Want> {
        let open = summaries.iter().filter(|theirs| theirs.base != CLOSED);
        let open = open.map(|theirs| {
            let name = LogName {
                origin: theirs.origin,
                inc: theirs.inc,
            };
            (name, theirs)
        });
        let open: Vec<_> = open.filter(|(name, _)| !self.is_closed(*name)).collect();
        if open
            .iter()
            .any(|(name, theirs)| self.want(*name, theirs).is_some())
        {
            return Vec::new();
        }
        self.has_caught_up(from);
        let key = self.config.audit_key;
        let mut different = Vec::new();
        for (name, theirs) in open {
            let ours = self.logs.get(&name).map(|log| log.summary(&key));
            let same = ours.filter(|o| (o.base, o.cloud) == (theirs.base, theirs.cloud));
            match same {
                Some(ours) if ours.audit != theirs.audit => different.push(name),
                None => return Vec::new(),
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
        let repair = |name: LogName| {
            let applied = &self.logs.get(&name)?.applied;
            // What is applied is not lacking: nothing follows what is repaired.
            Some(Want {
                have: applied.cloud.iter().collect(),
                repair: Some(self.repaired.get(&name).copied().unwrap_or(0)),
                ..Want::after(name.origin, name.inc, applied.base)
            })
        };
        different.into_iter().filter_map(repair).collect()
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
        has_more(theirs, &ours).then(|| Want {
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
