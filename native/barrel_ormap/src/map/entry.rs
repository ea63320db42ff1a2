// SPDX-License-Identifier: Apache-2.0

//! What one operation wrote.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use crate::delta::Add;
use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::pair::Pair;

/// One life of one node: each writes a log of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    /// Whose log.
    pub origin: OriginKey,
    /// Of which life of it.
    pub inc: u64,
}

/// Before all logs.
pub(super) const FIRST: LogName = LogName {
    origin: OriginKey([0; 16]),
    inc: 0,
};

/// Where a value was first written: of a value that has moved to another log since, or
/// of the value that a removal removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The log.
    pub log: LogName,
    /// The operation.
    pub seq: u64,
    /// How often the value, or the removal itself, has moved. The last move counts.
    pub moves: u32,
}

/// What few entries have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rare {
    writer: OriginKey,
    birth: Option<Birth>,
    /// When a removal came to be known here.
    since: Duration,
}

/// A value with its key, or the removal of one, which has no value. The *dot*, log and
/// operation, says where it is found; the *stamp*, time and writer, who wins.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) pair: Pair,
    pub(super) hlc: Hlc,
    pub(super) seq: u64,
    pub(super) log: Arc<LogName>,
    rare: Option<Box<Rare>>,
}

impl Entry {
    pub(super) fn new(log: &Arc<LogName>, add: Add, birth: Option<Birth>, now: Duration) -> Self {
        let writer = add.writer.unwrap_or(log.origin);
        let plain = writer == log.origin && birth.is_none() && !add.pair.value().is_empty();
        let rare = Rare {
            writer,
            birth,
            since: now,
        };
        Self {
            pair: add.pair,
            hlc: add.hlc,
            seq: add.seq,
            log: Arc::clone(log),
            rare: (!plain).then(|| Box::new(rare)),
        }
    }

    /// The same value as a new operation of another log.
    pub(super) fn moved(&self, log: &Arc<LogName>, seq: u64) -> Self {
        let birth = self.birth();
        let moves = birth.moves.saturating_add(1);
        self.again(log, seq, Some(Birth { moves, ..birth }))
    }

    /// The same value as an operation of the next life of its writer.
    pub(super) fn rewritten(&self, log: &Arc<LogName>, seq: u64) -> Self {
        self.again(log, seq, self.born())
    }

    fn again(&self, log: &Arc<LogName>, seq: u64, birth: Option<Birth>) -> Self {
        let add = Add {
            seq,
            writer: Some(self.writer()),
            ..self.add()
        };
        Self::new(log, add, birth, self.since())
    }

    pub(super) fn key(&self) -> &[u8] {
        self.pair.key()
    }

    pub(super) fn is_removal(&self) -> bool {
        self.pair.value().is_empty()
    }

    pub(super) fn writer(&self) -> OriginKey {
        self.rare
            .as_ref()
            .map_or(self.log.origin, |rare| rare.writer)
    }

    pub(super) fn since(&self) -> Duration {
        self.rare.as_ref().map_or(Duration::ZERO, |rare| rare.since)
    }

    /// The birth, as it travels.
    pub(super) fn born(&self) -> Option<Birth> {
        self.rare.as_ref().and_then(|rare| rare.birth)
    }

    /// The birth of a value, if it is not the dot.
    pub(super) fn moved_from(&self) -> Option<Birth> {
        self.born().filter(|_| !self.is_removal())
    }

    /// The dot under which the value was first written, or the removed one was.
    pub(super) fn birth(&self) -> Birth {
        let here = Birth {
            log: *self.log,
            seq: self.seq,
            moves: 0,
        };
        self.born().unwrap_or(here)
    }

    /// Whether this is the same value at another place.
    pub(super) fn is_twin(&self, other: &Self) -> bool {
        (self.hlc, self.writer(), self.is_removal())
            == (other.hlc, other.writer(), other.is_removal())
    }

    /// The entry as it travels.
    pub(super) fn add(&self) -> Add {
        let writer = self.writer();
        Add {
            seq: self.seq,
            hlc: self.hlc,
            writer: (writer != self.log.origin).then_some(writer),
            pair: self.pair.clone(),
        }
    }

    /// The value as it was at its birth.
    pub(super) fn add_at_birth(&self) -> Add {
        let (birth, writer) = (self.birth(), self.writer());
        Add {
            seq: birth.seq,
            writer: (writer != birth.log.origin).then_some(writer),
            ..self.add()
        }
    }

    /// Who wins. The stamp decides. A removal wins against the value whose stamp it took
    /// over, see [`Removal`](super::Removal). Of copies of one value, the one moved last
    /// wins, and any fixed one of those that were moved at once.
    fn rank(&self) -> (Hlc, OriginKey, bool, u32, LogName, u64) {
        let moves = self.born().map_or(0, |birth| birth.moves);
        let (writer, removal) = (self.writer(), self.is_removal());
        (self.hlc, writer, removal, moves, *self.log, self.seq)
    }

    pub(super) fn beats(&self, other: &Self) -> bool {
        self.rank().cmp(&other.rank()) == Ordering::Greater
    }
}
