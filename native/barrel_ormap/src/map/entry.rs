// SPDX-License-Identifier: Apache-2.0

//! What one operation wrote.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use crate::delta::Add;
use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::pair::Pair;

/// Births of one entry at most. One is enough; more are allowed for later versions.
pub(super) const MAX_BIRTHS: usize = 8;

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

/// Where a value was first written. Of an entry, it concerns
///
/// - the value itself, if it has moved to another log since;
/// - the value that a removal removed. The removal is kept until that value has arrived:
///   without it, the value would be taken for new.
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
#[derive(Clone, Debug)]
struct Rare {
    writer: OriginKey,
    births: Vec<Birth>,
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
    pub(super) fn new(log: &Arc<LogName>, add: Add, births: Vec<Birth>, now: Duration) -> Self {
        let writer = add.writer.unwrap_or(log.origin);
        let plain = writer == log.origin && births.is_empty() && !add.pair.value().is_empty();
        let rare = Rare {
            writer,
            births,
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

    /// The same as a new operation of another log.
    pub(super) fn moved(&self, log: &Arc<LogName>, seq: u64) -> Self {
        let moves = self.moves().saturating_add(1);
        let first = match self.births().iter().find(|birth| birth.moves > 0) {
            None if self.is_removal() => self.births().first().copied(),
            moved => moved.copied(),
        };
        let others = self.births().iter().filter(|birth| Some(**birth) != first);
        let first = first.unwrap_or_else(|| self.birth());
        let births = [Birth { moves, ..first }]
            .into_iter()
            .chain(others.copied());
        self.again(log, seq, births.take(MAX_BIRTHS).collect())
    }

    /// The same as an operation of the next life of its writer.
    pub(super) fn rewritten(&self, log: &Arc<LogName>, seq: u64) -> Self {
        self.again(log, seq, self.births().to_vec())
    }

    fn again(&self, log: &Arc<LogName>, seq: u64, births: Vec<Birth>) -> Self {
        let add = Add {
            seq,
            writer: Some(self.writer()),
            ..self.add()
        };
        Self::new(log, add, births, self.since())
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

    /// The same, if a removal, remembered from then on.
    pub(super) fn remembered_from(mut self, now: Duration) -> Self {
        if let Some(rare) = &mut self.rare {
            rare.since = now;
        }
        self
    }

    /// The operation, if it is one of that log.
    pub(super) fn seq_in(&self, log: LogName) -> Option<u64> {
        (*self.log == log).then_some(self.seq)
    }

    /// The births, as they travel.
    pub(super) fn births(&self) -> &[Birth] {
        self.rare.as_ref().map_or(&[], |rare| &rare.births)
    }

    /// The birth of a value, if it is not the dot.
    pub(super) fn moved_from(&self) -> Option<Birth> {
        let moved = self.births().iter().find(|birth| birth.moves > 0);
        moved.copied().filter(|_| !self.is_removal())
    }

    /// The dot under which the entry was first written.
    pub(super) fn birth(&self) -> Birth {
        let here = Birth {
            log: *self.log,
            seq: self.seq,
            moves: 0,
        };
        self.moved_from().unwrap_or(here)
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
    /// over, see [`Mode`](super::Mode). Of copies of one value, the one moved last wins,
    /// and any fixed one of those that were moved at once.
    fn rank(&self) -> (Hlc, OriginKey, bool, u32, LogName, u64) {
        let (writer, removal) = (self.writer(), self.is_removal());
        (self.hlc, writer, removal, self.moves(), *self.log, self.seq)
    }

    fn moves(&self) -> u32 {
        let moves = self.births().iter().map(|birth| birth.moves);
        moves.max().unwrap_or(0)
    }

    pub(super) fn beats(&self, other: &Self) -> bool {
        self.rank().cmp(&other.rank()) == Ordering::Greater
    }
}
