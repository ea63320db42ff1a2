// SPDX-License-Identifier: Apache-2.0

//! Deltas made from what a replica has of a log.
//!
//! A chunk is cut where it is full, and claims no operation beyond the cut.

use crate::delta::{
    Add, Delta, LiveSet, MAX_CHUNK, Removes, distance_len, header_len, removal_len,
};
use crate::digest::{Sweep, Want};
use crate::live::Entry;
use crate::origin::Slot;
use crate::ranges::RangeSet;

/// Ranges of a [`Want`] that are looked at: as many as an honest asker may have.
const MAX_HAVE: usize = 1024;

impl Slot {
    /// What an asker lacks, in chunks to be applied in this order, of `budget` bytes
    /// together or a little more. Each call makes at least one step. The last eighth is not
    /// used, so that no chunk is small without need.
    pub(crate) fn answer(&self, want: &Want, budget: usize) -> Vec<Delta> {
        let mut chunks = Vec::new();
        let mut left = budget;
        // An asker that knows an earlier life knows nothing of this one.
        let anew = Want::after(self.origin, self.inc, 0);
        let want = if want.inc == self.inc { want } else { &anew };
        if self.heard_of() == 0 {
            // A new life without a word: that it has begun is news enough.
            return vec![self.beginning()];
        }
        let (mut base, mut sweep) = (want.base, want.sweep);
        while base < self.base {
            let chunk = self.chunk(base, self.base, sweep, left);
            left = left.saturating_sub(chunk.encoded_len());
            base = chunk.to;
            sweep = next_sweep(sweep, &chunk);
            chunks.push(chunk);
            if left <= budget / 8 {
                return chunks;
            }
        }
        for (from, to) in self.cloud_missing(want) {
            let mut from = from;
            while from < to {
                let chunk = self.log_chunk(from, to, left);
                left = left.saturating_sub(chunk.encoded_len());
                from = chunk.to;
                chunks.push(chunk);
                if left <= budget / 8 {
                    return chunks;
                }
            }
        }
        chunks
    }

    /// Nothing but that there is this log.
    pub(crate) fn beginning(&self) -> Delta {
        let set = LiveSet {
            above: 0,
            until: 0,
            complete: 0,
            live: Vec::new(),
            whole: false,
        };
        let removes = Removes::LiveSet(set);
        let (origin, inc) = (self.origin, self.inc);
        Delta {
            origin,
            inc,
            from: 0,
            to: 0,
            as_of: 0,
            adds: Vec::new(),
            removes,
        }
    }

    /// The operations `(from, to]`, if all are here and fit into one delta.
    pub(crate) fn delta(&self, from: u64, to: u64) -> Option<Delta> {
        if from >= to || !self.contains_all(from, to) {
            return None;
        }
        let chunk = if self.log_begin() <= from {
            self.log_chunk(from, to, MAX_CHUNK)
        } else if to <= self.base {
            self.live_chunk(from, to, Sweep::default(), MAX_CHUNK)
        } else {
            return None;
        };
        (chunk.from == from && chunk.to == to).then_some(chunk)
    }

    /// The word of the origin itself about all entries after a dot.
    pub(crate) fn whole(&self, above: u64, budget: usize) -> Delta {
        let limit = budget.min(MAX_CHUNK);
        let mut size = header_len();
        let mut adds = Vec::new();
        let mut until = self.base;
        for (seq, entry) in self.live().range(above, self.base) {
            let add = add(seq, entry);
            size += add.encoded_len();
            if size > limit && !adds.is_empty() {
                until = seq - 1;
                break;
            }
            adds.push(add);
        }
        let until = until.max(above.min(self.base));
        let mut set = self.statement(above.min(until), until, Vec::new());
        set.whole = true;
        self.make(until, until, adds, Removes::LiveSet(set))
    }

    /// The next chunk for somebody who has everything up to `from`, none later than `to`.
    fn chunk(&self, from: u64, to: u64, sweep: Sweep, budget: usize) -> Delta {
        if self.log_begin() <= from {
            self.log_chunk(from, to, budget)
        } else {
            self.live_chunk(from, to, sweep, budget)
        }
    }

    /// Entries and removals of the operations after `from`.
    pub(crate) fn log_chunk(&self, from: u64, to: u64, budget: usize) -> Delta {
        let limit = budget.min(MAX_CHUNK);
        let mut size = header_len();
        let (mut adds, mut list) = (Vec::new(), Vec::new());
        let mut entries = self.live().range(from, to).peekable();
        let mut removals = self
            .log()
            .iter_after(from)
            .take_while(|r| r.by <= to)
            .peekable();
        let mut cut = to;
        loop {
            let next = entries
                .peek()
                .map(|entry| entry.0)
                .into_iter()
                .chain(removals.peek().map(|r| r.by))
                .min();
            let Some(seq) = next else { break };
            let before = list.len();
            while let Some(removal) = removals.next_if(|r| r.by == seq) {
                list.push(removal);
            }
            let entry = entries
                .next_if(|entry| entry.0 == seq)
                .map(|(seq, entry)| add(seq, entry));
            size +=
                (list.len() - before) * removal_len() + entry.as_ref().map_or(0, Add::encoded_len);
            // The first operation goes in any case: it came in one delta, and fits.
            if size > limit && (before > 0 || !adds.is_empty()) {
                list.truncate(before);
                cut = seq - 1;
                break;
            }
            adds.extend(entry);
        }
        self.make(from, cut, adds, Removes::List(list))
    }

    /// For somebody who is further behind than the log reaches: first which entries up to
    /// `from` are live, then the operations after it.
    fn live_chunk(&self, from: u64, to: u64, sweep: Sweep, budget: usize) -> Delta {
        let limit = budget.min(MAX_CHUNK);
        let useful = sweep.as_of > from;
        let above = if useful { sweep.upto.min(from) } else { 0 };
        let to = if useful { sweep.as_of.min(to) } else { to };
        let mut size = header_len();
        let (mut adds, mut live) = (Vec::new(), Vec::new());
        let mut previous = above;
        for (seq, entry) in self.live().range(above, to) {
            let add = (seq > from).then(|| add(seq, entry));
            size += add
                .as_ref()
                .map_or(distance_len(previous, seq), Add::encoded_len);
            if size > limit && previous > above {
                return self.cut_live_chunk(from, above, seq - 1, adds, live);
            }
            previous = seq;
            match add {
                Some(add) => adds.push(add),
                None => live.push(seq),
            }
        }
        let set = self.statement(above, to, live);
        self.make(from, to, adds, Removes::LiveSet(set))
    }

    /// The chunk is full after the operation `until`. As long as it does not reach beyond
    /// the asker's own base, it claims nothing.
    fn cut_live_chunk(
        &self,
        from: u64,
        above: u64,
        until: u64,
        adds: Vec<Add>,
        live: Vec<u64>,
    ) -> Delta {
        let set = self.statement(above, until, live);
        self.make(from, until.max(from), adds, Removes::LiveSet(set))
    }

    fn statement(&self, above: u64, until: u64, live: Vec<u64>) -> LiveSet {
        LiveSet {
            above,
            until,
            complete: self.base,
            live,
            whole: false,
        }
    }

    fn make(&self, from: u64, to: u64, adds: Vec<Add>, removes: Removes) -> Delta {
        let (origin, inc, as_of) = (self.origin, self.inc, self.heard_of());
        Delta {
            origin,
            inc,
            from,
            to,
            as_of,
            adds,
            removes,
        }
    }

    /// What of the cloud the asker lacks and the log can tell, as intervals `(from, to]`.
    fn cloud_missing(&self, want: &Want) -> Vec<(u64, u64)> {
        let mut have = RangeSet::new();
        for &(first, last) in want.have.iter().take(MAX_HAVE) {
            have.insert(first, last);
        }
        let mut missing = Vec::new();
        for (first, last) in self.cloud().iter() {
            let first = first
                .max(want.base.saturating_add(1))
                .max(self.log_begin() + 1);
            if first <= last {
                missing.extend(
                    have.missing(first, last)
                        .into_iter()
                        .map(|(first, last)| (first - 1, last)),
                );
            }
        }
        missing
    }
}

/// How far the asker has heard what is live, after one more chunk.
fn next_sweep(sweep: Sweep, chunk: &Delta) -> Sweep {
    let Removes::LiveSet(set) = &chunk.removes else {
        return sweep;
    };
    let as_of = if set.above == 0 {
        set.complete
    } else {
        sweep.as_of.min(set.complete)
    };
    Sweep {
        upto: set.until,
        as_of,
    }
}

fn add(seq: u64, entry: &Entry) -> Add {
    Add {
        seq,
        hlc: entry.hlc,
        writer: None,
        pair: entry.pair.clone(),
    }
}
