// SPDX-License-Identifier: Apache-2.0

//! What this node shows of the map, and what has changed in that.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::key::OriginKey;
use crate::pair::Pair;

use super::LwwMap;
use super::entry::{Entry, LogName};

/// Whether a value of another node may be shown here, given its key.
pub type Validator = fn(key: &[u8], value: &[u8]) -> bool;

/// Something that readers see has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key has this value now.
    Put(Pair),
    /// The key has no value any more.
    Removed {
        /// The key.
        key: Box<[u8]>,
    },
}

/// A pair that stands for its key.
#[derive(Clone, Debug)]
struct Key(Pair);

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Key {}

/// What concerns this node only.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) validator: Option<Validator>,
    /// Writers that are not reachable.
    hidden: BTreeSet<OriginKey>,
    /// Live entries that the validator refused.
    rejected: BTreeSet<(LogName, u64)>,
    /// Keys that may have changed, with what the readers were told last. A key is in it
    /// once, so it does not grow beyond the keys; whoever drives the map drains it after
    /// each verb.
    changed: BTreeMap<Key, Option<Pair>>,
}

impl View {
    /// The entry is not live any more.
    pub(super) fn forget(&mut self, log: LogName, seq: u64) {
        self.rejected.remove(&(log, seq));
    }

    pub(super) fn rejected(&self) -> impl Iterator<Item = &(LogName, u64)> {
        self.rejected.iter()
    }
}

impl LwwMap {
    /// The next change, each key once, by key. A key whose value was replaced by an equal
    /// one has not changed.
    #[must_use]
    pub fn poll_change(&mut self) -> Option<Change> {
        while let Some((key, told)) = self.view.changed.pop_first() {
            let shown = self.shown(key.0.key());
            if shown == told {
                continue;
            }
            return Some(match shown {
                Some(pair) => Change::Put(pair),
                None => Change::Removed {
                    key: key.0.key().into(),
                },
            });
        }
        None
    }

    /// The writer is not reachable: with `prune_on_peer_down`, its values are not shown.
    pub fn hide(&mut self, origin: OriginKey) {
        // As many writers as there may be logs.
        let room = self.view.hidden.len() < self.config.max_logs;
        if room && !self.view.hidden.contains(&origin) {
            self.remember_all_of(origin);
            self.view.hidden.insert(origin);
        }
        self.finish();
    }

    /// The writer is reachable again, or was never gone.
    pub fn show(&mut self, origin: OriginKey) {
        self.departed.remove(&origin);
        if self.view.hidden.contains(&origin) {
            self.remember_all_of(origin);
            self.view.hidden.remove(&origin);
        }
        self.finish();
    }

    /// For a validator that cannot be asked at once: this value of another node is not to
    /// be shown here. Nothing happens if the key has another value by now.
    pub fn reject(&mut self, key: &[u8], value: &[u8]) {
        let Some(entry) = self.current.get(key).map(|entry| &entry.0) else {
            return;
        };
        if entry.pair.value() == value && entry.writer() != self.me.origin {
            let dot = (*entry.log, entry.seq);
            self.remember(key);
            self.view.rejected.insert(dot);
        }
        self.finish();
    }

    /// Whether readers see this entry, if it is the value of its key.
    pub(super) fn shows(&self, entry: &Entry) -> bool {
        let view = &self.view;
        let hidden = self.config.prune_on_peer_down && view.hidden.contains(&entry.writer());
        let rejected = view.rejected.contains(&(*entry.log, entry.seq));
        !(entry.is_removal() || hidden || rejected)
    }

    /// Keeps in mind what is shown for the key, before that may change.
    pub(super) fn remember(&mut self, key: &[u8]) {
        if self.view.changed.contains_key(key) {
            return;
        }
        let shown = self.shown(key);
        let pair = match self.current.get(key) {
            Some(entry) => entry.0.pair.clone(),
            None => Pair::new(key, &[]),
        };
        self.view.changed.insert(Key(pair), shown);
    }

    /// Asks the validator about an entry that has become live.
    pub(super) fn judge(&mut self, entry: &Entry) {
        let Some(validator) = self.view.validator else {
            return;
        };
        let foreign = entry.writer() != self.me.origin && !entry.is_removal();
        if foreign && !validator(entry.key(), entry.pair.value()) {
            self.view.rejected.insert((*entry.log, entry.seq));
        }
    }

    fn shown(&self, key: &[u8]) -> Option<Pair> {
        let entry = &self.current.get(key)?.0;
        self.shows(entry).then(|| entry.pair.clone())
    }

    fn remember_all_of(&mut self, writer: OriginKey) {
        if !self.config.prune_on_peer_down {
            return;
        }
        let theirs = self.current.iter().filter(|e| e.0.writer() == writer);
        let pairs: Vec<Pair> = theirs.map(|entry| entry.0.pair.clone()).collect();
        pairs.iter().for_each(|pair| self.remember(pair.key()));
    }
}
