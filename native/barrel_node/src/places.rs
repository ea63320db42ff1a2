// SPDX-License-Identifier: Apache-2.0

//! Whose record is taken into the directory.
//!
//! A record is signed by the node it is about, and a key costs nothing: who has been let
//! in can make a crowd of nodes that do not exist. That the operator has not placed their
//! keys is true of them, and in most clusters of everybody else. So three things bound a
//! crowd: the share of places for keys that were not placed, in which those that nobody
//! can reach make room for others (see [`barrel_members`]); how many one peer may bring;
//! and how many records are kept of nodes that are no members, because their name is
//! another's.

use std::time::Duration;

use barrel_ormap::Delta;
use bytes::Bytes;

use crate::config::Config;
use crate::keys::Standing;
use crate::node::Node;
use crate::wire;
use crate::{NodeId, Now};

/// In so long one peer may bring as many strangers as half of the places for the unknown,
/// and as many at once: a new node hears of nearly all from its contact, and of the rest
/// from its other neighbours. So no peer fills these places alone. An hour is a guess.
const PER: Duration = Duration::from_secs(60 * 60);

/// Records of nodes that are no members, at most: more than there are honest quarrels
/// about names.
const MAX_STRAYS: usize = 1024;

/// Records that the directory has room for. Strays whose keys were placed come on top of
/// the others, so that these do not keep them out.
pub(crate) fn max_records(config: &Config) -> usize {
    config.members.max_members.max(1) + 2 * MAX_STRAYS
}

impl Node {
    /// Whether the directory takes the record in this delta, which was found good, as far
    /// as places go.
    pub(crate) fn has_place(&mut self, now: Now, from: NodeId, delta: &Delta) -> bool {
        if self.stores.knows(delta.origin) {
            return true;
        }
        let Some(add) = delta.adds.last() else {
            return false;
        };
        let bytes = Bytes::copy_from_slice(add.pair.value());
        let Some((claims, _)) = wire::decode_record(&bytes) else {
            return false;
        };
        let placed = self.keys.standing(&claims.name, &claims.key) == Standing::Placed;
        if !self.members.has_place(placed) {
            return false;
        }
        let strays = self.stores.strays(self.members.len());
        placed || strays < MAX_STRAYS && (from == delta.origin || self.may_introduce(now, from))
    }

    /// Whether a peer may bring one more stranger. Who comes himself needs nobody.
    fn may_introduce(&mut self, now: Now, from: NodeId) -> bool {
        let share = u32::try_from(self.config.members.max_unknown / 2).unwrap_or(u32::MAX);
        let each = PER / share.max(1);
        let up = self.links.up_mut(from);
        up.is_none_or(|up| up.introduced.within(now.mono, each, PER))
    }
}
