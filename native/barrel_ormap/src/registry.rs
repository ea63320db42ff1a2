// SPDX-License-Identifier: Apache-2.0

//! The registry: each origin writes its own log, and everybody has all.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::digest::Digest;
use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::origin::{Effect, Slot};
use crate::pair::Pair;
use crate::slots::Slots;

mod apply;
mod changes;
mod config;
mod departed;
mod liveness;
mod own;
mod snapshot;
mod sync;
#[cfg(test)]
mod tests;

pub use apply::Applied;
pub use changes::Change;
#[cfg(feature = "mutants")]
pub use config::Mutant;
pub use config::{Budget, Config, Limits, Refused};
pub use snapshot::Snapshot;

use changes::Changes;
use departed::Departed;
use liveness::Absence;
use own::ByKey;
use sync::Doubt;

/// All that one node knows of what the nodes have registered.
///
/// It is pure data: it sends nothing and knows no time but what [`Registry::hide`] and
/// [`Registry::handle_timeout`] bring. A copy is cheap, and shares what neither writes to.
#[derive(Clone, Debug)]
pub struct Registry {
    me: OriginKey,
    config: Config,
    slots: Slots,
    /// Over all slots but those that are about to be given up.
    digest: Digest,
    /// Where the own entries are.
    own: BTreeMap<ByKey, u64>,
    /// Own operations up to this one have been handed out.
    announced: u64,
    /// The highest incarnation of this node that somebody else has used.
    clash: Option<u64>,
    /// Origins that are not shown.
    absent: BTreeMap<OriginKey, Absence>,
    /// Nothing is due about any of them before.
    absent_at: Option<Duration>,
    departed: Departed,
    doubts: BTreeMap<OriginKey, Doubt>,
    changes: Changes,
    counters: Stats,
}

/// Figures for metrics. Counters begin at zero with the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Origins known, with entries or without.
    pub origins: usize,
    /// Live entries.
    pub entries: usize,
    /// Their bytes, as [`Limits::max_bytes`] counts.
    pub bytes: usize,
    /// Origins that are not shown.
    pub hidden: usize,
    /// Origins remembered as gone.
    pub departed: usize,
    /// Origins of which operations are missing before others.
    pub with_holes: usize,
    /// Changes that wait for the reader.
    pub changes: usize,
    /// Copies that differed although they claim the same: a bug, or damage.
    pub mismatches: u64,
    /// Copies made good by their origin.
    pub repaired: u64,
    /// Deltas that brought something.
    pub applied: u64,
    /// Deltas that brought nothing.
    pub duplicates: u64,
    /// Deltas refused because a budget was used up.
    pub full: u64,
    /// Deltas refused because too much was missing before them.
    pub too_many_holes: u64,
    /// Deltas that no honest node makes.
    pub malformed: u64,
    /// Times the reader had to begin anew.
    pub resets: u64,
}

impl Registry {
    /// An empty registry of the node `me`, which has never used that incarnation before.
    pub fn new(me: OriginKey, inc: u64, config: Config) -> Self {
        let mut registry = Self {
            me,
            config,
            slots: Slots::new(),
            digest: Digest::default(),
            own: BTreeMap::new(),
            announced: 0,
            clash: None,
            absent: BTreeMap::new(),
            absent_at: None,
            departed: Departed::default(),
            doubts: BTreeMap::new(),
            changes: Changes::default(),
            counters: Stats::default(),
        };
        registry.put_slot(Slot::new(me, inc));
        registry
    }

    /// The own incarnation.
    pub fn incarnation(&self) -> u64 {
        self.own_slot().inc
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        Stats {
            origins: self.slots.len(),
            hidden: self.absent.len(),
            departed: self.departed.len(),
            with_holes: self
                .slots
                .iter()
                .filter(|slot| !slot.cloud().is_empty())
                .count(),
            changes: self.changes.len(),
            ..self.counters
        }
    }

    /// Whether operations of that origin are missing before others.
    pub fn has_hole(&self, origin: OriginKey) -> bool {
        let slot = self.slots.slot(origin);
        slot.is_some_and(|slot| !slot.cloud().is_empty())
    }

    /// What to tell the reader next.
    #[must_use]
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop()
    }

    /// The live entries of an origin, shown or not, by the order of their writing.
    pub fn entries(&self, origin: OriginKey) -> impl Iterator<Item = (&Pair, Hlc)> {
        let live = self
            .slots
            .slot(origin)
            .into_iter()
            .flat_map(|slot| slot.live().iter());
        live.map(|(_, entry)| (&entry.pair, entry.hlc))
    }

    /// The incarnation and the base of an origin's log.
    pub fn context(&self, origin: OriginKey) -> Option<(u64, u64)> {
        self.slots.slot(origin).map(|slot| (slot.inc, slot.base))
    }

    /// How many origins are known.
    pub fn known(&self) -> usize {
        self.slots.len()
    }

    /// All origins, ascending.
    pub fn origins(&self) -> impl Iterator<Item = OriginKey> {
        self.slots.iter().map(|slot| slot.origin)
    }

    /// Lists what must hold, over everything: for tests and simulations.
    pub fn check(&self) {
        let mut digest = Digest::default();
        let (mut entries, mut bytes) = (0, 0);
        for slot in self.slots.iter() {
            slot.check(&self.config.audit, &self.config.limits);
            assert!(
                !self.departed.covers(slot.origin, slot.inc),
                "who departed has no log"
            );
            entries += slot.live().len();
            bytes += slot.bytes();
            if self.speaks_of(slot.origin) {
                digest.add(
                    slot.origin.bucket(),
                    slot.summary().hash(&self.config.audit),
                );
            }
        }
        assert_eq!(digest, self.digest, "the digest follows the logs");
        assert_eq!(
            (entries, bytes),
            (self.counters.entries, self.counters.bytes),
            "all is counted"
        );
        let limits = &self.config.limits;
        assert!(
            self.slots.len() <= limits.max_origins.max(1),
            "the origins are within their budget"
        );
        assert!(
            entries <= limits.max_entries && bytes <= limits.max_bytes,
            "entries are within their budget"
        );
        assert!(
            self.departed.len() <= limits.max_departed && self.doubts.len() <= limits.max_doubts
        );
        assert!(self.absent.len() <= limits.max_origins);
        assert!(
            !self.absent.contains_key(&self.me),
            "this node is always here"
        );
        self.check_own();
    }

    fn own_slot(&self) -> &Slot {
        match self.slots.slot(self.me) {
            Some(slot) => slot,
            None => unreachable!("the own log is there from the beginning"),
        }
    }

    /// Whether readers see the origin's entries.
    fn shows(&self, origin: OriginKey) -> bool {
        !self.absent.contains_key(&origin)
    }

    /// Puts a slot in place, and takes the old one out of the sums.
    fn put_slot(&mut self, slot: Slot) -> Option<Slot> {
        self.count(&slot);
        let old = self.slots.insert(slot);
        if let Some(old) = &old {
            self.discount(old);
        }
        old
    }

    fn remove_slot(&mut self, origin: OriginKey) -> Option<Slot> {
        self.doubts.remove(&origin);
        let slot = self.slots.remove(origin)?;
        self.discount(&slot);
        Some(slot)
    }

    fn count(&mut self, slot: &Slot) {
        self.counters.entries += slot.live().len();
        self.counters.bytes += slot.bytes();
        if self.speaks_of(slot.origin) {
            self.digest.add(
                slot.origin.bucket(),
                slot.summary().hash(&self.config.audit),
            );
        }
    }

    fn discount(&mut self, slot: &Slot) {
        self.counters.entries -= slot.live().len();
        self.counters.bytes -= slot.bytes();
        if self.speaks_of(slot.origin) {
            self.digest.take(
                slot.origin.bucket(),
                slot.summary().hash(&self.config.audit),
            );
        }
    }

    /// Tells the reader what has come and gone. One who is too slow begins anew.
    fn tell(&mut self, origin: OriginKey, effect: Effect) {
        if self.shows(origin) {
            let slot = self.slots.slot(origin).filter(|_| effect.gaps);
            self.changes
                .push_effect(origin, effect, slot.map(Slot::live));
            self.bound_changes();
        }
    }

    /// Tells the reader of a log as a whole; [`Registry::bound_changes`] has to follow.
    fn tell_all(&mut self, slot: &Slot, come: bool) {
        if self.shows(slot.origin) {
            self.changes.push_all(slot.origin, slot.share(), come);
        }
    }

    /// To be called when a change is complete: beginning anew tells all there is by then.
    fn bound_changes(&mut self) {
        if self.changes.len() <= self.config.limits.max_changes {
            return;
        }
        self.counters.resets += 1;
        self.changes.clear();
        self.changes.push(Change::Reset);
        for slot in self.slots.iter() {
            if self.shows(slot.origin) {
                self.changes.push_all(slot.origin, slot.share(), true);
            }
        }
    }
}
