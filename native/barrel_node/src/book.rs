// SPDX-License-Identifier: Apache-2.0

//! The records of the nodes in our views.
//!
//! The overlay speaks of ids; whoever is to dial one needs its record. Those of the
//! members stand in the directory. This book holds the others: of nodes that just
//! joined, and of all when the directory is switched off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::NodeId;
use crate::record::Record;

/// Records beyond those in use that are kept before the book is cleared out: the ids of
/// a few shuffles.
pub(crate) const SLACK: usize = 64;

/// A record is taken to be known everywhere so long after it came here: two comparisons
/// with the longest wait between them.
const NEW_FOR: Duration = Duration::from_secs(60);

/// So many newcomers are remembered; in a rush the earlier ones are found by comparison.
const MAX_NEWCOMERS: usize = 256;

/// Members whose record has only just come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Newcomers {
    since: VecDeque<(Duration, NodeId)>,
}

impl Newcomers {
    pub(crate) fn add(&mut self, now: Duration, id: NodeId) {
        while self.since.len() >= MAX_NEWCOMERS
            || self
                .since
                .front()
                .is_some_and(|(at, _)| *at + NEW_FOR <= now)
        {
            self.since.pop_front();
        }
        self.since.push_back((now, id));
    }

    pub(crate) fn contains(&self, now: Duration, id: NodeId) -> bool {
        self.since
            .iter()
            .any(|(at, known)| *known == id && *at + NEW_FOR > now)
    }
}

/// Records by node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    records: BTreeMap<NodeId, Record>,
    cleared_to: usize,
}

impl Book {
    /// Keeps a record, if it is the newest of its node.
    pub(crate) fn file(&mut self, record: Record) {
        let newer = self
            .records
            .get(&record.id())
            .is_none_or(|known| record.is_newer_than(known));
        if newer {
            self.records.insert(record.id(), record);
        }
    }

    pub(crate) fn find(&self, id: NodeId) -> Option<&Record> {
        self.records.get(&id)
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        self.records.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it is time for [`Book::clear_out`].
    pub(crate) fn is_thick(&self) -> bool {
        self.records.len() > self.cleared_to + SLACK
    }

    /// Forgets all records but those of `in_use`.
    pub(crate) fn clear_out(&mut self, in_use: &BTreeSet<NodeId>) {
        self.records.retain(|id, _| in_use.contains(id));
        self.cleared_to = self.records.len();
    }
}
