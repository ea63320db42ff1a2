// SPDX-License-Identifier: Apache-2.0

//! What travels: a piece of one origin's log.

use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::pair::Pair;

/// Bytes of a delta at most, by [`Delta::encoded_len`]: what one frame of the gossip
/// stream carries, and little enough to apply without holding up others.
pub const MAX_CHUNK: usize = 64 * 1024;

/// Bytes of a key and its value at most, together: the 60 KiB that applications are
/// promised for the two, and 1 KiB for what the layer above puts beside them, which is the
/// id of a process with the name of its node. With all that belongs to it, the largest
/// still fits into one chunk.
pub const MAX_PAIR: usize = 61 * 1024;

/// Operations of one turn that a broadcast takes together.
pub const MAX_BATCH: u64 = 64;

/// No log gets that long: at a million operations per second it takes 146,000 years.
/// Numbers above are refused, so that adding two of them cannot overflow.
pub const MAX_SEQ: u64 = 1 << 62;

/// What a delta takes at most beside its entries and lists.
const HEADER: usize = 96;

/// What an entry takes at most beside key and value.
const PER_ADD: usize = 48;

/// What a listed removal takes at most.
const PER_REMOVAL: usize = 20;

// The largest entry of an operation that also removes one.
const _: () = assert!(HEADER + largest_add() + PER_REMOVAL <= MAX_CHUNK);

/// An entry with its dot, which is the operation that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// The operation of the origin's log.
    pub seq: u64,
    /// When it was written.
    pub hlc: Hlc,
    /// Who wrote it, if not the origin: in a map, the value of a departed writer goes on
    /// in the log of another. Always empty in the registry.
    pub writer: Option<OriginKey>,
    /// Key and value.
    pub pair: Pair,
}

/// The operation `by` removed the entry of operation `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Removal {
    /// The later operation.
    pub by: u64,
    /// The earlier one.
    pub seq: u64,
}

/// Of the operations in `(above, until]`, only those listed here or added by the same
/// delta still have a live entry. As what is removed stays removed, this is true
/// whenever it is heard, and safe to apply at once.
///
/// It stands for a list of removals where no log reaches back far enough. A delta that
/// claims `(from, to]` needs it for all of `(0, to]`. In a big log that is more than a
/// chunk; so `above` may be greater than zero, and then the claim counts only where the
/// statement for `(0, above]` was heard before, by somebody who knew as much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSet {
    /// The statement is about later operations than this.
    pub above: u64,
    /// And about none later than this.
    pub until: u64,
    /// All removals by operations up to this one are taken into account.
    pub complete: u64,
    /// The live ones that the delta does not add, ascending.
    pub live: Vec<u64>,
    /// The origin itself says so, to repair a copy that differs: what is added counts
    /// although its operation is applied. From anybody else this is not believed.
    pub whole: bool,
}

/// What the operations of a delta removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removes {
    /// All that they removed, ascending. Operations that are not named removed nothing.
    List(Vec<Removal>),
    /// What they left.
    LiveSet(LiveSet),
}

/// The operations `(from, to]` of one log: all entries of theirs that are still live and
/// *all* that the operations removed, before as well. So it can be applied by itself, in
/// any order and more than once. With `from == to` it claims nothing and only states
/// what is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Whose log.
    pub origin: OriginKey,
    /// Of which life of it.
    pub inc: u64,
    /// The operation before the first.
    pub from: u64,
    /// The last operation.
    pub to: u64,
    /// Who made this has heard of no later operation. What an operation between `to` and
    /// this one removed, may be left out.
    pub as_of: u64,
    /// The live entries, by ascending operation.
    pub adds: Vec<Add>,
    /// What was removed.
    pub removes: Removes,
}

/// Why a delta cannot be an honest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The interval ends before it begins, or beyond [`MAX_SEQ`].
    Interval,
    /// An entry outside the interval, not in order, or too big.
    Entry,
    /// A removal outside the interval, not in order, of a later entry, or of one added.
    Removal,
    /// A statement about nothing, about too little, or not in order.
    Statement,
    /// More than [`MAX_CHUNK`].
    TooBig,
}

impl Delta {
    /// Bytes that its encoding takes at most: numbers in at most ten bytes, live dots as
    /// distances from the one before, seven bits to a byte.
    pub fn encoded_len(&self) -> usize {
        let adds: usize = self.adds.iter().map(Add::encoded_len).sum();
        let removes = match &self.removes {
            Removes::List(list) => list.len() * PER_REMOVAL,
            Removes::LiveSet(set) => {
                let mut previous = set.above;
                set.live
                    .iter()
                    .map(|&dot| distance_len(std::mem::replace(&mut previous, dot), dot))
                    .sum()
            }
        };
        HEADER + adds + removes
    }

    /// Whether it keeps the form that its fields describe. What comes from the network
    /// is checked before anything looks at it.
    pub fn validate(&self) -> Result<(), Malformed> {
        if self.from > self.to || self.to > self.as_of || self.as_of > MAX_SEQ {
            return Err(Malformed::Interval);
        }
        let (above, until) = match &self.removes {
            Removes::List(list) => {
                self.validate_list(list)?;
                (self.from, self.to)
            }
            Removes::LiveSet(set) => {
                self.validate_statement(set)?;
                if set.whole {
                    (set.above, set.until)
                } else {
                    (self.from, self.to)
                }
            }
        };
        let inside = |add: &Add| above < add.seq && add.seq <= until;
        let fits = |add: &Add| add.pair.bytes() <= MAX_PAIR;
        if !self.adds.iter().all(|add| inside(add) && fits(add))
            || !self.adds.is_sorted_by(|a, b| a.seq < b.seq)
        {
            return Err(Malformed::Entry);
        }
        if let Removes::List(list) = &self.removes {
            let added = |r: &Removal| {
                self.adds
                    .binary_search_by_key(&r.seq, |add| add.seq)
                    .is_ok()
            };
            if list.iter().any(added) {
                return Err(Malformed::Removal);
            }
        }
        if self.encoded_len() > MAX_CHUNK {
            return Err(Malformed::TooBig);
        }
        Ok(())
    }

    fn validate_list(&self, list: &[Removal]) -> Result<(), Malformed> {
        let inside = |r: &Removal| self.from < r.by && r.by <= self.to && 0 < r.seq && r.seq < r.by;
        if self.from == self.to || !list.is_sorted_by(|a, b| a < b) || !list.iter().all(inside) {
            return Err(Malformed::Removal);
        }
        Ok(())
    }

    fn validate_statement(&self, set: &LiveSet) -> Result<(), Malformed> {
        let claims = self.from < self.to;
        let inside = |&dot: &u64| set.above < dot && dot <= set.until;
        if set.above > set.until
            || set.until > set.complete
            || set.complete > self.as_of
            || (claims && (set.until < self.to || set.whole))
            || !set.live.is_sorted_by(|a, b| a < b)
            || !set.live.iter().all(inside)
        {
            return Err(Malformed::Statement);
        }
        Ok(())
    }
}

impl Add {
    /// Bytes that its encoding takes at most.
    pub fn encoded_len(&self) -> usize {
        PER_ADD + self.pair.bytes()
    }
}

/// Bytes of a live dot, after the one before.
pub(crate) fn distance_len(previous: u64, dot: u64) -> usize {
    let bits = u64::BITS - dot.saturating_sub(previous).leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

/// Bytes of a delta without entries and lists, at most.
pub(crate) const fn header_len() -> usize {
    HEADER
}

/// Bytes of the largest entry.
pub(crate) const fn largest_add() -> usize {
    PER_ADD + MAX_PAIR
}

/// Bytes of a listed removal, at most.
pub(crate) const fn removal_len() -> usize {
    PER_REMOVAL
}
