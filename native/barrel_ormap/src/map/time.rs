// SPDX-License-Identifier: Apache-2.0

//! What only time does: values whose time comes, and removals that are old enough.

use std::sync::Arc;
use std::time::Duration;

use crate::hlc::{Clock, Hlc};

use super::entry::{Birth, Entry, LogName};
use super::{LwwMap, PER_TURN};

/// Removals that wait are not looked at more often than this. A guess.
const PAUSE: Duration = Duration::from_secs(1);

impl LwwMap {
    /// Keeps the entry beside the value of its key, until its time comes.
    pub(super) fn park(&mut self, entry: Entry) {
        let entry = Arc::new(entry);
        self.link(&entry);
        if let Some(log) = self.logs.get_mut(&*entry.log) {
            log.parked += 1;
        }
        // A removal that has removed nothing yet is not collected.
        self.removals
            .remove(&(entry.since(), *entry.log, entry.seq));
        let at = (entry.hlc, *entry.log, entry.seq);
        self.parked.insert(at, entry);
        self.stats.ahead += 1;
    }

    /// Takes the parked entry out and forgets it.
    pub(super) fn unpark_one(&mut self, at: (Hlc, LogName, u64)) -> Option<Arc<Entry>> {
        let entry = self.parked.remove(&at)?;
        self.unlink(&entry);
        if let Some(log) = self.logs.get_mut(&at.1) {
            log.parked -= 1;
        }
        Some(entry)
    }

    /// Settles what was parked until now.
    pub(super) fn unpark(&mut self, clock: &mut Clock) {
        while let Some((&at, _)) = self.parked.first_key_value() {
            if clock.receive(self.now.wall_ms, at.0).is_err() {
                break;
            }
            if let Some(entry) = self.unpark_one(at) {
                let entry = Arc::unwrap_or_clone(entry);
                self.settle(entry.remembered_from(self.now.mono));
            }
        }
    }

    /// Forgets removals that are older than the horizon. One that came here before what it
    /// removed has to wait: nobody could tell from us that the value is dead.
    pub(super) fn collect(&mut self) {
        if self.look_at <= self.now.mono {
            self.removals.append(&mut self.waiting);
            let pause = (self.config.horizon / 4).max(PAUSE);
            self.look_at = self.now.mono.saturating_add(pause);
        }
        let mut any = false;
        for _ in 0..PER_TURN {
            let Some(&removal) = self.removals.first() else {
                break;
            };
            let (since, name, seq) = removal;
            if since.saturating_add(self.config.horizon) > self.now.mono {
                break;
            }
            let log = self.logs.get(&name);
            let Some(entry) = log.and_then(|log| log.live.get(&seq)).cloned() else {
                debug_assert!(false, "a removal that is not live");
                self.removals.remove(&removal);
                continue;
            };
            if entry.births().iter().any(|birth| !self.knows(*birth)) {
                self.removals.remove(&removal);
                self.waiting.insert(removal);
                continue;
            }
            self.forget(&entry);
            any = true;
        }
        if any {
            self.raise_epoch();
        }
    }

    /// Whether the value has arrived here, under the dot of its birth.
    pub(super) fn knows(&self, birth: Birth) -> bool {
        let log = self.logs.get(&birth.log);
        log.is_some_and(|log| log.applied.contains(birth.seq)) || self.is_closed(birth.log)
    }
}
