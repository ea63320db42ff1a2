// SPDX-License-Identifier: Apache-2.0

//! What a registry may take, and what it says when that is too little.

use std::fmt;
use std::time::Duration;

use crate::audit::AuditKey;
use crate::delta::Malformed;
use crate::origin::Terms;

/// The budgets. All defaults are guesses about what a cluster of Erlang nodes needs,
/// with a wide margin. Memory is bounded by `max_bytes` + `max_origins` times the few
/// kilobytes that the holes and the log of one origin may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Origins, with entries or without: as many as there may be members.
    pub max_origins: usize,
    /// Live entries of one origin.
    pub max_origin_entries: usize,
    /// Bytes of one origin's entries: of key and value, and 100 for each entry.
    pub max_origin_bytes: usize,
    /// Live entries in all.
    pub max_entries: usize,
    /// Bytes of all entries, counted in the same way.
    pub max_bytes: usize,
    /// Ranges applied beyond the base of one origin. With more, stop and pull.
    pub max_cloud: usize,
    /// Ranges of entries of one origin that are removed before they were seen.
    pub max_dead: usize,
    /// Removals of one origin that are remembered in full. Who lacks more is told which
    /// entries are live, at one or two bytes for each.
    pub max_log: usize,
    /// Origins that have left, or were given up, and must not come back unnoticed.
    pub max_departed: usize,
    /// Origins whose copy is damaged and waits for repair.
    pub max_doubts: usize,
    /// Changes that wait for a reader. With more, it is told to read everything anew.
    pub max_changes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_origins: 16_384,
            max_origin_entries: 65_536,
            max_origin_bytes: 32 << 20,
            max_entries: 1 << 20,
            max_bytes: 512 << 20,
            max_cloud: 1024,
            max_dead: 4096,
            max_log: 1024,
            max_departed: 4096,
            max_doubts: 1024,
            max_changes: 65_536,
        }
    }
}

/// How a registry is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The budgets.
    pub limits: Limits,
    /// The key of the audit hash, the same in the whole cluster.
    pub audit: AuditKey,
    /// An origin that was unreachable for so long is given up. A day outlasts the
    /// partitions and repairs of a night; a guess.
    pub give_up_after: Duration,
    /// The safety rule that is broken.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            audit: AuditKey::default(),
            give_up_after: Duration::from_secs(24 * 60 * 60),
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

impl Config {
    pub(super) fn terms(&self, room: (usize, usize), first_hand: bool) -> Terms<'_> {
        Terms {
            limits: &self.limits,
            audit: &self.audit,
            room,
            first_hand,
            #[cfg(feature = "mutants")]
            mutant: self.mutant,
        }
    }
}

/// A safety rule broken on purpose, to see that the tests notice.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A chunk claims all that was asked for, whatever it carries.
    OverClaim,
    /// A removed entry that was not seen is taken for applied.
    CoverTheDead,
    /// A statement of what is live says nothing about what was not seen.
    ForgetHoles,
    /// A new life of an origin goes on where the old one ended.
    KeepOldLife,
}

/// A budget that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// [`Limits::max_origins`].
    Origins,
    /// [`Limits::max_origin_entries`].
    OriginEntries,
    /// [`Limits::max_origin_bytes`].
    OriginBytes,
    /// [`Limits::max_entries`].
    Entries,
    /// [`Limits::max_bytes`].
    Bytes,
}

/// Why something was not taken in. Unless said otherwise, nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no delta that an honest node makes. The culprit is who sent it.
    Malformed(Malformed),
    /// It is of an earlier life of its origin than the known one, or of one that has
    /// departed. This happens: no reproach.
    Old,
    /// Somebody has operations of our own log that we do not know, of this incarnation:
    /// it was used twice. Go on with a higher one, see
    /// [`Registry::restart`](crate::Registry::restart).
    Clash(u64),
    /// Too much is missing before it. Pull what is missing first.
    TooManyHoles,
    /// A budget is used up: of the origin's, then the origin is the culprit, or of this
    /// node's. Removals that came along are applied, the rest is not.
    Full(Budget),
    /// The key or the value is too long.
    TooLong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed delta: {what:?}"),
            Self::Old => f.write_str("of an earlier life"),
            Self::Clash(inc) => write!(f, "incarnation {inc} of this node is used twice"),
            Self::TooManyHoles => f.write_str("too much is missing before it"),
            Self::Full(budget) => write!(f, "budget used up: {budget:?}"),
            Self::TooLong => f.write_str("key or value too long"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<Malformed> for Refused {
    fn from(what: Malformed) -> Self {
        Self::Malformed(what)
    }
}
