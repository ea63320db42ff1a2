// SPDX-License-Identifier: Apache-2.0

//! Budgets, and which logs there are.

use std::collections::BTreeSet;

use crate::key::OriginKey;

use super::LwwMap;
use super::entry::LogName;
use super::log::Log;
use super::record::RecordId;

/// How much was restored. Limits may have been lowered since it was saved; then all of it
/// stays, and what is new is refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restored {
    pub(super) logs: usize,
    pub(super) floors: usize,
    pub(super) parked: usize,
}

impl LwwMap {
    /// Whether these entries fit: each with its key, its bytes and whether it counts at once,
    /// and so takes the place of a value of its key.
    pub(super) fn has_room<'a>(
        &self,
        new: impl Iterator<Item = (&'a [u8], usize, bool)> + Clone,
    ) -> bool {
        let (mut entries, mut bytes) = (self.entries, self.bytes);
        for (_, size, _) in new.clone() {
            entries += 1;
            bytes += size;
        }
        // Only a map that is nearly full needs to look what would make room.
        if entries > self.config.max_entries || bytes > self.config.max_bytes {
            let mut seen = BTreeSet::new();
            for (key, ..) in new.filter(|(key, _, counts)| *counts && seen.insert(*key)) {
                let old = self.current.get(key).map(|old| &old.0);
                if let Some(old) = old.filter(|old| !old.is_removal()) {
                    entries -= 1;
                    bytes -= old.pair.bytes();
                }
            }
        }
        entries <= self.config.max_entries && bytes <= self.config.max_bytes
    }

    /// Whether [`LwwMap::open`] may be called.
    pub(super) fn has_room_for_log(&mut self, name: LogName) -> bool {
        if self.logs.contains_key(&name) {
            return true;
        }
        // One more than the writer uses, so that it can always move its values over.
        let own = usize::from(name.origin == self.me.origin);
        if self.logs_of(name.origin).count() >= self.config.max_logs_per_origin + own {
            self.close_one_of(name.origin);
        }
        if self.logs.len() >= self.config.max_logs {
            self.close_departed();
        }
        // The own log always finds room: without it not even a removal could be written.
        let fits = self.logs.len() < self.config.max_logs
            && self.logs_of(name.origin).count() < self.config.max_logs_per_origin + own;
        fits || name == self.me
    }

    /// The log, a new one if there is none. An older life of the same writer is sealed by
    /// that: nothing is added to it but what somebody has of it and we have not.
    pub(super) fn open(&mut self, name: LogName) -> &mut Log {
        if !self.logs.contains_key(&name) {
            #[cfg(feature = "mutants")]
            if self.is(super::Mutant::NoSealedLog) {
                self.kill_older(name);
            }
        }
        self.logs.entry(name).or_insert_with(|| Log::new(name))
    }

    /// The logs of one writer, the oldest first.
    pub(super) fn logs_of(&self, origin: OriginKey) -> impl Iterator<Item = LogName> {
        let first = LogName { origin, inc: 0 };
        let last = LogName {
            origin,
            inc: u64::MAX,
        };
        self.logs.range(first..=last).map(|(name, _)| *name)
    }

    /// Whether the log is finished: all of it was applied here and nothing of it is live.
    pub(super) fn is_closed(&self, name: LogName) -> bool {
        let floor = self.floors.get(&name.origin);
        floor.is_some_and(|floor| name.inc <= *floor) && !self.logs.contains_key(&name)
    }

    /// Forgets the oldest log of the writer that has nothing live, if it has a younger one.
    fn close_one_of(&mut self, origin: OriginKey) {
        let logs: Vec<_> = self.logs_of(origin).collect();
        let _ = logs.into_iter().any(|name| self.close_if_empty(name));
    }

    /// Forgets the logs of departed writers that have nothing live.
    fn close_departed(&mut self) {
        let departed: Vec<_> = self.departed.keys().copied().collect();
        for origin in departed {
            let logs: Vec<_> = self.logs_of(origin).collect();
            for name in logs {
                self.close_if_empty(name);
            }
        }
    }

    /// Forgets a log to which nothing will be added, if nothing of it is live.
    pub(super) fn close_if_empty(&mut self, name: LogName) -> bool {
        let newest = self.logs_of(name.origin).last() == Some(name);
        let sealed = !newest || self.departed.contains_key(&name.origin);
        let empty = self.logs.get(&name).is_some_and(|log| log.live.is_empty());
        let closes = sealed && empty && name != self.me;
        if closes {
            self.close(name);
        }
        closes
    }

    /// Takes a log out that has nothing live.
    pub(super) fn forget_log(&mut self, name: LogName) {
        if let Some(log) = self.logs.remove(&name) {
            if let Some(hash) = log.hash {
                self.digest.take(name.origin.bucket(), hash);
            }
            self.touched.remove(&name);
            self.repaired.remove(&name);
            self.note(RecordId::Log(name));
        }
    }

    fn close(&mut self, name: LogName) {
        self.forget_log(name);
        // As many as there may be logs; the first to go is any.
        let known = self.floors.contains_key(&name.origin);
        if !known
            && self.floors.len() >= self.config.max_logs
            && let Some((origin, _)) = self.floors.pop_first()
        {
            self.note(RecordId::Floor(origin));
        }
        let floor = self.floors.entry(name.origin).or_default();
        *floor = name.inc.max(*floor);
        self.note(RecordId::Floor(name.origin));
    }

    #[cfg(feature = "mutants")]
    fn kill_older(&mut self, name: LogName) {
        let logs = self.logs_of(name.origin).filter(|log| *log < name);
        let logs: Vec<_> = logs.collect();
        for log in logs {
            let live: Vec<_> = self.logs[&log].live.values().cloned().collect();
            live.iter().for_each(|entry| self.drop_live(entry));
        }
    }
}
