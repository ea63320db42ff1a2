// SPDX-License-Identifier: Apache-2.0

//! What a broadcast or a comparison is about.

use std::fmt;

use crate::NodeId;

/// A store, or one of the two streams of messages that belong to none.
///
/// The first [`Topic::RESERVED`] numbers are this crate's; a replicated map takes one
/// from its name, so that nodes agree without asking each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub u64);

impl Topic {
    /// Signed records of all members.
    pub const DIRECTORY: Self = Self(0);
    /// Who is suspected, unreachable, back, or gone.
    pub const CLAIMS: Self = Self(1);
    /// Services.
    pub const REGISTRY: Self = Self(2);
    /// Broadcasts of applications: delivered, not stored.
    pub const BROADCAST: Self = Self(3);
    /// Maps begin here.
    pub const RESERVED: u64 = 16;

    /// The topic of a replicated map: FNV-1a of its name, 64 bits. Two maps of one
    /// cluster would have to be named on purpose to meet, by somebody who could as well
    /// write into either.
    #[must_use]
    pub fn of_map(name: &[u8]) -> Self {
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(if hash < Self::RESERVED {
            hash + Self::RESERVED
        } else {
            hash
        })
    }

    /// Whether it is a map's.
    #[must_use]
    pub fn is_map(self) -> bool {
        self.0 >= Self::RESERVED
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DIRECTORY => f.write_str("directory"),
            Self::CLAIMS => f.write_str("claims"),
            Self::REGISTRY => f.write_str("registry"),
            Self::BROADCAST => f.write_str("broadcast"),
            Self(map) => write!(f, "map {map:016x}"),
        }
    }
}

/// The name of one broadcast, the same on every node and given out once.
///
/// For a store it names the operations `seq - span + 1 ..= seq` of one origin's
/// incarnation, so that whether it was seen is a question to the store and costs no
/// memory; a claim's `seq` holds its beat and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// What it is about.
    pub topic: Topic,
    /// Who said it first; for a claim, about whom.
    pub origin: NodeId,
    /// The origin's incarnation.
    pub incarnation: u64,
    /// Rises within the incarnation.
    pub seq: u64,
    /// How many operations it holds.
    pub span: u16,
}
