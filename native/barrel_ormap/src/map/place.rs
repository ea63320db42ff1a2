// SPDX-License-Identifier: Apache-2.0

//! Which entries are live, and where each is entered.
//!
//! A live entry is in its log and either the current one of its key or parked. Here alone
//! it gets there and leaves.

use std::sync::Arc;

use super::entry::Entry;
use super::record::RecordId;
use super::{ByKey, LwwMap};

impl LwwMap {
    /// Makes the entry the value of its key, unless there is a better one. Whether it won.
    pub(super) fn settle(&mut self, mut entry: Entry) -> bool {
        let old = self.current.get(entry.key());
        let old = old.map(|old| Arc::clone(&old.0));
        if let Some(old) = old {
            let wins = entry.beats(&old);
            let loser = if wins { &old } else { &entry };
            let owed: Vec<_> = loser.owed().filter(|birth| !self.knows(*birth)).collect();
            if !wins && owed.is_empty() {
                return false;
            }
            if !wins {
                entry = Entry::clone(&old);
            }
            entry.inherit(owed);
            self.remember(entry.key());
            self.drop_current(entry.key());
            self.put_in_place(entry);
            return wins;
        }
        self.remember(entry.key());
        self.put_in_place(entry);
        true
    }

    pub(super) fn put_in_place(&mut self, entry: Entry) {
        let entry = Arc::new(entry);
        self.link(&entry);
        self.current.insert(ByKey(entry));
    }

    /// Drops a live entry for good, wherever it is. What is shown changes with it.
    pub(super) fn drop_live(&mut self, entry: &Arc<Entry>) {
        let at = (entry.hlc, *entry.log, entry.seq);
        if self.unpark_one(at).is_none() {
            self.remember(entry.key());
            self.drop_current(entry.key());
        }
    }

    pub(super) fn drop_current(&mut self, key: &[u8]) {
        if let Some(old) = self.current.take(key) {
            self.unlink(&old.0);
        }
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
