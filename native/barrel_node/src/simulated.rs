// SPDX-License-Identifier: Apache-2.0

//! Shortcuts for simulations, which begin where a real cluster gets to in an hour.

use barrel_ormap::Want;
use barrel_ormap::delta::MAX_CHUNK;

use crate::Now;
use crate::node::Node;
use crate::stores::Piece;
use crate::topic::Topic;
use crate::wire;

impl Node {
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
