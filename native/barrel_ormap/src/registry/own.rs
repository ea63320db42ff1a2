// SPDX-License-Identifier: Apache-2.0

//! What this node writes.

use std::borrow::Borrow;
use std::cmp::Ordering;

use super::{Budget, Refused, Registry};
use crate::delta::{Delta, MAX_BATCH, MAX_CHUNK, MAX_PAIR};
use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::live::Entry;
use crate::origin::{ENTRY_OVERHEAD, Effect, Slot};
use crate::pair::Pair;

/// A pair in the order of its key.
#[derive(Clone, Debug)]
pub(super) struct ByKey(Pair);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByKey {}

impl Registry {
    /// Writes an own entry, in the place of the one that has the key. It counts at once;
    /// others hear of it by [`Registry::poll_delta`].
    ///
    /// # Errors
    /// A budget is used up, or key or value is too long. Nothing has changed.
    pub fn insert(&mut self, key: &[u8], value: &[u8], hlc: Hlc) -> Result<(), Refused> {
        if key.len() + value.len() > MAX_PAIR {
            return Err(Refused::TooLong);
        }
        let old = self.own.get(key).copied();
        self.admit_own(key.len() + value.len() + ENTRY_OVERHEAD, old)?;
        let pair = Pair::new(key, value);
        let entry = Entry {
            hlc,
            pair: pair.clone(),
        };
        let seq = self.write(Some(entry), old);
        // The key of an entry that is replaced would stay, and with it the old value.
        self.own.remove(key);
        self.own.insert(ByKey(pair), seq);
        Ok(())
    }

    /// Removes an own entry. False if there is none of that key.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(old) = self.own.remove(key) else {
            return false;
        };
        self.write(None, Some(old));
        true
    }

    /// The own value of a key.
    pub fn own(&self, key: &[u8]) -> Option<&[u8]> {
        let seq = self.own.get(key)?;
        let entry = self.own_slot().live().entry(*seq)?;
        Some(entry.pair.value())
    }

    /// The registry of another node that knows exactly what this one knows, in the same
    /// memory. For simulations, which begin with nodes that agree; `me` writes its log on
    /// where it is, if it is of this incarnation.
    #[must_use]
    pub fn seen_by(&self, me: OriginKey, inc: u64) -> Self {
        let mut other = Self { me, ..self.clone() };
        other.changes.clear();
        other.own.clear();
        if other.slots.slot(me).is_none_or(|slot| slot.inc < inc) {
            other.put_slot(Slot::new(me, inc));
        }
        let slot = other.own_slot();
        let (written, own) = (
            slot.base,
            slot.live()
                .iter()
                .map(|(seq, entry)| (ByKey(entry.pair.clone()), seq)),
        );
        other.own = own.collect();
        other.announced = written;
        other
    }

    /// The own operations that were not handed out yet, to be broadcast: all writes of one
    /// turn together, up to 64 and up to 64 KiB at a time. What was written and removed
    /// again in between is only counted.
    #[must_use]
    pub fn poll_delta(&mut self) -> Option<Delta> {
        let slot = self.own_slot();
        let from = self.announced;
        if from == slot.base {
            return None;
        }
        // Where more was removed in one turn than the log holds, anti-entropy does it.
        let from = from.max(slot.log_begin());
        let to = slot.base.min(from + MAX_BATCH);
        let delta = slot.log_chunk(from, to, MAX_CHUNK);
        self.announced = delta.to;
        (delta.from < delta.to).then_some(delta)
    }

    /// Goes on with a new incarnation, which must be higher than the present one and than
    /// that of [`Registry::poll_clash`]. The own entries stay and are handed out again.
    pub fn restart(&mut self, inc: u64) {
        if inc <= self.incarnation() {
            return;
        }
        let old = self.put_slot(Slot::new(self.me, inc));
        self.announced = 0;
        self.own.clear();
        for (_, entry) in old.iter().flat_map(|slot| slot.live().iter()) {
            // The reader has these entries: nothing to tell.
            let (seq, _) = self.write_silently(Some(entry.clone()), None);
            self.own.insert(ByKey(entry.pair.clone()), seq);
        }
        self.check_touched(self.me);
    }

    /// Somebody else uses this node's key and the incarnation returned, or one that this
    /// node has forgotten: time for [`Registry::restart`] with a higher one.
    #[must_use]
    pub fn poll_clash(&mut self) -> Option<u64> {
        self.clash.take()
    }

    /// Whether the own log was seen further than it is.
    pub(super) fn is_clash(&mut self, inc: u64, seq: u64) -> bool {
        let slot = self.own_slot();
        let clash = inc > slot.inc || (inc == slot.inc && seq > slot.base);
        if clash {
            self.clash = self.clash.max(Some(inc));
        }
        clash
    }

    fn admit_own(&self, bytes: usize, old: Option<u64>) -> Result<(), Refused> {
        let (limits, counters, slot) = (&self.config.limits, &self.counters, self.own_slot());
        let old = old.and_then(|seq| slot.live().entry(seq));
        let entries = usize::from(old.is_none());
        let freed = old.map_or(0, |entry| entry.pair.bytes() + ENTRY_OVERHEAD);
        let within = |held: usize, limit: usize| held + bytes <= limit + freed;
        if slot.live().len() + entries > limits.max_origin_entries {
            Err(Refused::Full(Budget::OriginEntries))
        } else if !within(slot.bytes(), limits.max_origin_bytes) {
            Err(Refused::Full(Budget::OriginBytes))
        } else if counters.entries + entries > limits.max_entries {
            Err(Refused::Full(Budget::Entries))
        } else if !within(counters.bytes, limits.max_bytes) {
            Err(Refused::Full(Budget::Bytes))
        } else {
            Ok(())
        }
    }

    fn write(&mut self, entry: Option<Entry>, removed: Option<u64>) -> u64 {
        let (seq, effect) = self.write_silently(entry, removed);
        self.tell(self.me, effect);
        self.check_touched(self.me);
        seq
    }

    fn write_silently(&mut self, entry: Option<Entry>, removed: Option<u64>) -> (u64, Effect) {
        self.change_slot(self.me, |slot, config| {
            let effect = slot.write(entry, removed, &config.audit, config.limits.max_log);
            (slot.base, effect)
        })
    }

    /// The own log is whole, and its index is right.
    pub(super) fn check_own(&self) {
        let slot = self.own_slot();
        assert!(
            slot.cloud().is_empty() && slot.dead().is_empty(),
            "nothing of the own log is missing"
        );
        assert_eq!(
            self.own.len(),
            slot.live().len(),
            "each own entry has its key"
        );
        for (key, seq) in &self.own {
            let entry = slot.live().entry(*seq);
            assert!(
                entry.is_some_and(|entry| entry.pair == key.0),
                "the index leads to the entry"
            );
        }
        assert!(
            self.announced <= slot.base,
            "what was handed out was written"
        );
    }

    /// In debug builds, checks what a verb has touched: the whole would take too long.
    pub(super) fn check_touched(&self, origin: OriginKey) {
        if cfg!(debug_assertions)
            && let Some(slot) = self.slots.slot(origin)
        {
            slot.check(&self.config.audit, &self.config.limits);
        }
    }
}
