// SPDX-License-Identifier: Apache-2.0

//! How replicas compare and catch up.
//!
//! Two replicas compare roots, then buckets, then the summaries of the buckets that
//! differ; each asks for what it lacks, and asks again with its new base after every
//! answer, until it lacks nothing. Who answers keeps nothing in mind.

use super::Registry;
use crate::delta::{Delta, MAX_CHUNK};
use crate::digest::{Digest, Summary, Want};
use crate::key::OriginKey;
use crate::origin::Slot;

/// A log whose copy here differs from another that claims the same. One of the two is
/// damaged; which, only the origin can tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    /// The origin has confirmed or corrected the entries up to this dot.
    pub(super) good_to: u64,
    /// The origin was asked for the next.
    pub(super) asked: bool,
    /// The origin has not written what we were told of, and waited for.
    pub(super) refuted: bool,
    /// It is a difference for certain, and counted as one.
    pub(super) counted: bool,
}

impl Registry {
    /// The sum over all logs. Equal roots: equal registries.
    pub fn root(&self) -> u128 {
        self.digest.root()
    }

    /// The sums over the logs by the first byte of the origin.
    pub fn buckets(&self) -> [u64; 256] {
        *self.digest.buckets()
    }

    /// The whole digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What is here of the logs of a bucket.
    pub fn summaries(&self, bucket: u8) -> Vec<Summary> {
        let slots = self.slots.bucket(bucket).iter();
        slots
            .filter(|slot| self.speaks_of(slot.origin))
            .map(Slot::summary)
            .collect()
    }

    /// What is lacking here, compared with what `peer` has.
    pub fn wants(&mut self, peer: OriginKey, summaries: &[Summary]) -> Vec<Want> {
        summaries
            .iter()
            .filter_map(|summary| self.want(peer, summary))
            .collect()
    }

    /// A request for the origin itself, to repair a copy that differs from another. It goes
    /// to nobody else: between two copies, nobody knows which is right.
    #[must_use]
    pub fn poll_doubt(&mut self) -> Option<Want> {
        let (origin, doubt) = self.doubts.iter_mut().find(|(_, doubt)| !doubt.asked)?;
        doubt.asked = true;
        let slot = self.slots.slot(*origin)?;
        Some(Want {
            repair: Some(doubt.good_to),
            ..want_of(slot)
        })
    }

    /// The answer, in chunks to be applied in this order: `budget` bytes together, or one
    /// chunk if that is more. It may be a part; the asker asks again.
    pub fn answer(&self, want: &Want, budget: usize) -> Vec<Delta> {
        let Some(slot) = self
            .slots
            .slot(want.origin)
            .filter(|slot| self.speaks_of(slot.origin))
        else {
            return Vec::new();
        };
        match want.repair {
            _ if want.inc > slot.inc => Vec::new(),
            Some(above) if want.inc == slot.inc && want.origin == self.me => {
                vec![slot.whole(above, budget)]
            }
            Some(_) => Vec::new(),
            #[cfg(feature = "mutants")]
            None if self.config.mutant == Some(super::Mutant::OverClaim) => {
                over_claim(slot, slot.answer(want, budget))
            }
            None => slot.answer(want, budget),
        }
    }

    /// The operations `(from, to]` of one log, for somebody who missed the broadcast of
    /// them. None where they are not all here, or what they removed is not known any more
    /// in so few words.
    pub fn delta(&self, origin: OriginKey, inc: u64, from: u64, to: u64) -> Option<Delta> {
        let slot = self.slots.slot(origin).filter(|slot| slot.inc == inc)?;
        let delta = slot.delta(from, to)?;
        (delta.encoded_len() <= MAX_CHUNK).then_some(delta)
    }

    /// Whether the operations `(from, to]` of one log would bring nothing.
    pub fn covers(&self, origin: OriginKey, inc: u64, from: u64, to: u64) -> bool {
        self.departed.covers(origin, inc)
            || self
                .slots
                .slot(origin)
                .is_some_and(|slot| match slot.inc == inc {
                    true => slot.contains_all(from, to),
                    false => slot.inc > inc,
                })
    }

    fn want(&mut self, peer: OriginKey, theirs: &Summary) -> Option<Want> {
        let origin = theirs.origin;
        if origin == self.me {
            self.is_clash(theirs.inc, theirs.base);
            return None;
        }
        if self.departed.covers(origin, theirs.inc)
            || !self.speaks_of(origin) && self.slots.slot(origin).is_some()
        {
            return None;
        }
        let Some(slot) = self
            .slots
            .slot(origin)
            .filter(|slot| slot.inc >= theirs.inc)
        else {
            return Some(Want::after(origin, theirs.inc, 0));
        };
        if peer == origin && slot.inc == theirs.inc && slot.heard_of() > theirs.base {
            self.change_slot(origin, |slot, _| slot.refute(theirs.base));
        }
        let slot = self.slots.slot(origin)?;
        let ours = slot.summary();
        if ours.inc > theirs.inc {
            return None;
        }
        let lacks = theirs.base > ours.base || (theirs.cloud != 0 && theirs.cloud != ours.cloud);
        if lacks {
            return Some(want_of(slot));
        }
        let same = ours.cloud == 0 && theirs.settled && ours.base == theirs.base;
        if same && ours.audit != theirs.audit {
            let want = want_of(slot);
            return self.doubt(peer, want, ours.settled);
        }
        None
    }

    /// The copy here and the one of `peer` differ and should not; `certain` is that only if
    /// nobody has told us of later operations, of which we may know what they removed. The
    /// origin can tell. If it is the peer, ask it at once.
    fn doubt(&mut self, peer: OriginKey, want: Want, certain: bool) -> Option<Want> {
        self.counters.mismatches += u64::from(certain);
        if self.doubts.len() >= self.config.limits.max_doubts
            && !self.doubts.contains_key(&want.origin)
        {
            return None;
        }
        let doubt = self.doubts.entry(want.origin).or_default();
        doubt.counted |= certain;
        doubt.asked = peer == want.origin;
        doubt.asked.then_some(Want {
            repair: Some(doubt.good_to),
            ..want
        })
    }
}

/// What is lacking of a log.
fn want_of(slot: &Slot) -> Want {
    Want {
        have: slot.cloud().iter().collect(),
        sweep: slot.sweep(),
        ..Want::after(slot.origin, slot.inc, slot.base)
    }
}

#[cfg(feature = "mutants")]
fn over_claim(slot: &Slot, mut chunks: Vec<Delta>) -> Vec<Delta> {
    chunks.truncate(1);
    for chunk in chunks.iter_mut().filter(|chunk| chunk.from < chunk.to) {
        chunk.to = chunk.to.max(slot.base);
        if let crate::Removes::LiveSet(set) = &mut chunk.removes {
            set.until = set.until.max(chunk.to);
        }
    }
    chunks
}
