// SPDX-License-Identifier: Apache-2.0

//! Shortcuts for simulations, which begin where a real cluster gets to in an hour, and hold
//! a thousand nodes in the memory of one machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use barrel_ormap::delta::MAX_CHUNK;
use barrel_ormap::{Delta, Pair, Want};

use crate::node::Node;
use crate::stores::Piece;
use crate::topic::Topic;
use crate::wire;
use crate::{NodeId, Now};

/// The entries of one life of a node, by operation.
type Log = BTreeMap<u64, Pair>;

/// One copy of equal entries for all nodes that share it: a thousand replicas of a hundred
/// thousand entries do not fit into one machine otherwise. It forgets nothing.
#[derive(Debug, Default)]
pub struct Pool {
    // guards the copies; nothing waits under it
    logs: Mutex<BTreeMap<(NodeId, u64), Log>>,
}

impl Pool {
    /// Replaces what others have already by their copy.
    pub(crate) fn share(&self, delta: &mut Delta) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry((delta.origin, delta.inc)).or_default();
        for add in &mut delta.adds {
            let known = log.entry(add.seq).or_insert_with(|| add.pair.clone());
            if *known == add.pair {
                add.pair = known.clone();
            }
        }
    }
}

impl Node {
    /// From now on the entries that come from others are kept in this pool.
    pub fn share_entries(&mut self, pool: Arc<Pool>) {
        self.stores.pool = Some(pool);
    }

    /// Takes in the record of another node, verified and in memory of its own, as if it
    /// had come by a link. Nothing when one of the two has no directory.
    pub fn meet(&mut self, now: Now, other: &Self) {
        let Some(directory) = &other.stores.directory else {
            return;
        };
        let want = Want::after(other.id(), directory.incarnation(), 0);
        for delta in directory.answer(&want, MAX_CHUNK) {
            let bytes = wire::encode_piece(&Piece::Log(delta));
            if let Ok(piece) = wire::decode_piece(Topic::DIRECTORY, bytes) {
                let taken = self.take(now, other.id(), Topic::DIRECTORY, piece);
                debug_assert!(taken.is_ok(), "an honest record: {taken:?}");
            }
        }
        self.pump(now);
    }
}

#[cfg(test)]
mod tests {
    use barrel_ormap::{Config, Hlc, OriginKey, Registry};

    use super::*;

    #[test]
    fn equal_entries_are_kept_once_and_others_as_they_came() {
        let me = OriginKey::from(1);
        let delta = |value: &[u8]| {
            let mut owner = Registry::new(me, 1, Config::default());
            assert_eq!(owner.insert(b"key", value, Hlc::ZERO), Ok(()));
            owner.poll_delta().expect("one write")
        };
        let pool = Pool::default();
        let shared = |value: &[u8]| {
            let mut delta = delta(value);
            pool.share(&mut delta);
            delta
        };
        let (one, same, other) = (shared(b"pid"), shared(b"pid"), shared(b"tid"));
        let address = |delta: &Delta| delta.adds[0].pair.value().as_ptr();
        assert_eq!(address(&one), address(&same));
        assert_eq!(other, delta(b"tid"));
    }
}
