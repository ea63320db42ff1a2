// SPDX-License-Identifier: Apache-2.0

//! What a node keeps over a restart.

use barrel_hyparview::Saved as SavedPeers;

use crate::NodeId;
use crate::record::Record;

/// What an earlier life of this node left, besides the entries of its maps.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The incarnation of that life; the next one is higher.
    pub incarnation: u64,
    /// The clock does not go back behind this.
    pub clock_floor_ms: u64,
    /// Peers lost to failure, and seeds.
    pub peers: SavedPeers<NodeId>,
    /// The records of these peers, so that they can be dialled.
    pub records: Vec<Record>,
}
