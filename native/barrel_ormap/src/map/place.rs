// SPDX-License-Identifier: Apache-2.0

//! Which entries are live, and where each is entered.
//!
//! A live entry is in its log and in one of three places: the current one of its key,
//! parked until its time comes, or replaced. What is replaced is dropped at once if it
//! is a value. A removal is kept until it is old enough: what it removed may still come
//! back from somebody who has neither the removal nor what replaced it.

use std::sync::Arc;

use super::entry::Entry;
use super::record::RecordId;
use super::{ByKey, LwwMap};

/// Removals kept although they are replaced, at most; then the oldest of the key is
/// forgotten. A guess: a key that comes and goes four times a second for an hour.
const MAX_REPLACED: usize = 16_384;

impl LwwMap {
    /// Makes the entry the current one of its key, unless there is a better one. Whether it
    /// won.
    pub(super) fn settle(&mut self, entry: Entry) -> bool {
        let old = self.current.get(entry.key());
        if old.is_some_and(|old| !entry.beats(&old.0)) {
            if entry.is_removal() {
                let entry = Arc::new(entry);
                self.link(&entry);
                self.keep(entry);
            }
            return false;
        }
        self.remember(entry.key());
        let entry = Arc::new(entry);
        self.link(&entry);
        if let Some(ByKey(old)) = self.current.replace(ByKey(entry)) {
            if old.is_removal() {
                self.keep(old);
            } else {
                self.unlink(&old);
            }
        }
        true
    }

    /// Keeps a removal that has been replaced.
    fn keep(&mut self, entry: Arc<Entry>) {
        let kept = self.replaced.entry(entry.key().into()).or_default();
        kept.push(entry);
        self.kept += 1;
        if self.kept > MAX_REPLACED {
            let oldest = Arc::clone(&kept[0]);
            self.forget(&oldest);
            self.raise_epoch();
        }
    }

    /// Forgets a removal: the log cannot tell any more what it removed.
    pub(super) fn forget(&mut self, removal: &Arc<Entry>) {
        self.drop_live(removal);
        self.raise_collected(*removal.log, removal.seq);
    }

    /// Drops a live entry for good, wherever it is. What is shown changes with it.
    pub(super) fn drop_live(&mut self, entry: &Arc<Entry>) {
        let at = (entry.hlc, *entry.log, entry.seq);
        if self.unpark_one(at).is_some() {
            return;
        }
        let is_it = |other: &Arc<Entry>| other.seq == entry.seq && other.log == entry.log;
        let current = self.current.get(entry.key());
        if current.is_some_and(|current| is_it(&current.0)) {
            self.remember(entry.key());
            self.current.remove(entry.key());
            self.promote(entry.key());
        } else if let Some(kept) = self.replaced.get_mut(entry.key()) {
            kept.retain(|other| !is_it(other));
            self.kept -= 1;
            if kept.is_empty() {
                self.replaced.remove(entry.key());
            }
        }
        self.unlink(entry);
    }

    /// The best of what was replaced becomes the current one.
    fn promote(&mut self, key: &[u8]) {
        let Some(kept) = self.replaced.get_mut(key) else {
            return;
        };
        let best = (1..kept.len()).fold(0, |best, at| {
            if kept[at].beats(&kept[best]) {
                at
            } else {
                best
            }
        });
        let best = kept.remove(best);
        if kept.is_empty() {
            self.replaced.remove(key);
        }
        self.kept -= 1;
        self.current.insert(ByKey(best));
    }

    /// Enters a live entry into its log and all that counts.
    pub(super) fn link(&mut self, entry: &Arc<Entry>) {
        let name = *entry.log;
        if let Some(log) = self.logs.get_mut(&name) {
            log.link(entry, &self.config.audit_key);
        }
        self.entries += 1;
        self.bytes += entry.pair.bytes();
        if entry.is_removal() {
            self.removals.insert((entry.since(), name, entry.seq));
        }
        if entry.moved_from().is_some() {
            let birth = entry.birth();
            let at = (birth.log, birth.seq, name, entry.seq);
            self.moved.insert(at, Arc::clone(entry));
        }
        self.judge(entry);
        self.note(RecordId::Entry(name, entry.seq));
        self.touched.insert(name);
    }

    pub(super) fn unlink(&mut self, entry: &Entry) {
        let name = *entry.log;
        if let Some(log) = self.logs.get_mut(&name) {
            log.unlink(entry, &self.config.audit_key);
        }
        self.entries -= 1;
        self.bytes -= entry.pair.bytes();
        let removal = (entry.since(), name, entry.seq);
        if !self.removals.remove(&removal) {
            self.waiting.remove(&removal);
        }
        if entry.moved_from().is_some() {
            let birth = entry.birth();
            self.moved.remove(&(birth.log, birth.seq, name, entry.seq));
        }
        self.view.forget(name, entry.seq);
        self.note(RecordId::Entry(name, entry.seq));
        self.touched.insert(name);
    }
}
