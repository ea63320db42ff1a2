// SPDX-License-Identifier: Apache-2.0

//! Values that go on in the log of another.
//!
//! The log of a writer that does not return would be kept for ever. So one node, the
//! *lead* (the caller says who: the living node with the lowest key), writes its values
//! again, as operations of its own log, with their old stamps and the dot of their
//! *birth*. On every replica such a copy replaces the original and nothing that readers
//! see changes. Two leads, on two sides of a partition, do no harm: of copies of one
//! value the one that has moved more often stays, or else any fixed one.
//!
//! A lead that has been away for long might move a value that the others have removed
//! and whose removal they have collected. The birth tells: who has applied it and does
//! not hold the value, knows that it is dead. And who may hold dead values without
//! knowing, because a reset is under way, moves nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::delta::MAX_BATCH;
use crate::hlc::Now;
use crate::key::OriginKey;

use super::LwwMap;
use super::entry::{Entry, LogName};

/// A writer that moves its own old values waits this long for the next batch. A guess.
const PAUSE: Duration = Duration::from_secs(1);

impl LwwMap {
    /// The writer is gone. Its values stay; after [`Config::departed_after`](super::Config)
    /// the lead moves them, unless [`LwwMap::show`] says that it has returned.
    pub fn depart(&mut self, now: Now, origin: OriginKey) {
        self.now = now;
        // As many as there may be logs.
        if origin != self.me.origin && self.departed.len() < self.config.max_logs {
            self.departed.entry(origin).or_insert(now.mono);
        }
        self.hide(origin);
    }

    /// Whether this node moves the values of the departed. It must not while most of the
    /// cluster seems to have departed.
    pub fn set_lead(&mut self, lead: bool) {
        self.lead = lead;
    }

    /// Whether others take this life for finished, because it was away for long, and will
    /// not take what it writes: [`LwwMap::reincarnate`].
    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// The latest life of this node that others take for finished, or of which somebody
    /// has what this replica has not written: time for [`LwwMap::reincarnate`] with a
    /// higher one.
    #[must_use]
    pub fn poll_clash(&mut self) -> Option<u64> {
        self.clash.take().filter(|inc| *inc >= self.me.inc)
    }

    /// Goes on as another life, after [`Refused::Clash`](super::Refused::Clash) or after the
    /// node as a whole has taken a new one. What this life has written is written again,
    /// because others may take its operations for something else.
    pub fn reincarnate(&mut self, inc: u64) {
        debug_assert!(inc > self.me.inc, "a life never comes again");
        if inc <= self.me.inc {
            return;
        }
        let old = self.me;
        self.me.inc = inc;
        (self.seq, self.published, self.disowned) = (0, 0, false);
        let live = self.logs.get(&old).map(|log| log.live.values().cloned());
        let live: Vec<Arc<Entry>> = live.into_iter().flatten().collect();
        for entry in live {
            self.append(|log, seq, _| entry.rewritten(log, seq));
            let left = self
                .logs
                .get(&old)
                .is_some_and(|log| log.live.contains_key(&entry.seq));
            if left {
                self.drop_live(&entry);
            }
        }
        // Others may hold something else under its dots: it is pulled like any other.
        self.forget_log(old);
        self.finish();
    }

    /// Moves a batch of values, if it is time.
    pub(super) fn move_values(&mut self) {
        if self.resets.in_doubt() || !self.has_room_for_log(self.me) {
            return;
        }
        let departed = self.to_move();
        let mut logs: Vec<LogName> = departed.flat_map(|origin| self.logs_of(origin)).collect();
        logs.extend(self.own_to_move());
        let values = logs.iter().filter_map(|log| self.logs.get(log));
        let values = values.flat_map(|log| log.live.values());
        let values = values.filter(|entry| self.is_movable(entry));
        let batch: Vec<_> = values.take(MAX_BATCH as usize).cloned().collect();
        self.stats.moved += batch.len() as u64;
        for entry in batch {
            self.append(|log, seq, _| entry.moved(log, seq));
        }
    }

    /// When there is something to move.
    pub(super) fn move_at(&self) -> Option<Duration> {
        if self.resets.in_doubt() {
            return None;
        }
        let lead = self
            .lead
            .then_some(self.departed.iter())
            .into_iter()
            .flatten();
        let departed = lead.filter(|(origin, _)| {
            let mut logs = self.logs_of(**origin);
            logs.any(|log| self.has_movable(log))
        });
        let departed = departed.map(|(_, since)| since.saturating_add(self.config.departed_after));
        let own = self
            .own_to_move()
            .map(|_| self.now.mono.saturating_add(PAUSE));
        departed.chain(own).min()
    }

    /// The writers whose values are to be moved now.
    fn to_move(&self) -> impl Iterator<Item = OriginKey> {
        let lead = self
            .lead
            .then_some(self.departed.iter())
            .into_iter()
            .flatten();
        let due = lead
            .filter(|(_, since)| since.saturating_add(self.config.departed_after) <= self.now.mono);
        due.map(|(origin, _)| *origin)
    }

    /// The oldest own log with values, if there are many.
    fn own_to_move(&self) -> Option<LogName> {
        let many = self.logs_of(self.me.origin).count() > self.config.max_logs_per_origin / 2;
        let mut old = self.logs_of(self.me.origin).filter(|log| *log != self.me);
        many.then(|| old.find(|log| self.has_movable(*log)))
            .flatten()
    }

    fn has_movable(&self, log: LogName) -> bool {
        let mut live = self
            .logs
            .get(&log)
            .into_iter()
            .flat_map(|log| log.live.values());
        live.any(|entry| self.is_movable(entry))
    }

    /// Removals are not moved: they will be collected.
    fn is_movable(&self, entry: &Entry) -> bool {
        let at = (entry.hlc, *entry.log, entry.seq);
        !entry.is_removal() && !self.parked.contains_key(&at)
    }
}
