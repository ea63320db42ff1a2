// SPDX-License-Identifier: Apache-2.0

//! Which links a node hangs by, and how a new link begins.
//!
//! The paper lets each new link begin eager. While there is no tree yet that is right: the first
//! message floods, and finds the fastest paths. Later each such link brings one copy too
//! many or two, because most of the links that are made replace lazy ones, or fill a view, and the
//! tree is whole without them. With five neighbours and a tree, three links of five are lazy.
//!
//! So once a message has passed here, a new link begins lazy, unless the node has come off the
//! tree. Who brought the last message is its *anchor*. Of the two ends of each link of the tree one
//! has the other for its anchor, so when the link goes, one of them mends it, as the
//! other is still where the message came from. That one takes its next new links as anchors: they are
//! eager, and GRAFT tells the other end to be so too. It takes several, because the first may hang below
//! itself or come off as well; the next message finds the fastest, and prunes the others.
//!
//! The price: where two parts meet that had a tree each, neither end thinks that it came off, and the first
//! message to cross waits for T1.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use crate::message::Message;
use crate::neighbor::Neighbor;
use crate::plumtree::Plumtree;

/// Anchors of a node that a message has reached since it lost one.
pub(crate) const HELD: usize = 1;

/// Anchors of a node that is new, or has lost one. Two links of each node at random make one
/// component of a large random graph. With three its paths are nearly as short as with five: when
/// 80 % of 4,000 nodes have died, the first message comes to the last survivor in 90 ms over links
/// of 10 ms and costs 1.5 copies too many; with two in 130 ms for 0.75, with all in 70 ms for 2.3.
pub(crate) const ADRIFT: usize = 3;

impl<P: Copy + Ord + Debug, I: Clone + Ord + Debug + Hash> Plumtree<P, I> {
    pub(crate) fn begin(&mut self, now: Duration, peer: P) {
        let mut neighbor = Neighbor::new(now, &self.config);
        neighbor.anchor = self.anchors().count() < self.anchors_wanted;
        neighbor.eager = neighbor.anchor || !self.grown;
        let tell = neighbor.anchor;
        self.neighbors.insert(peer, neighbor);
        if tell {
            self.send(peer, Message::Graft { id: None, round: 0 });
        }
    }

    pub(crate) fn end(&mut self, peer: P) {
        let gone = self.neighbors.remove(&peer);
        if gone.is_some_and(|neighbor| neighbor.anchor) {
            self.anchors_wanted = ADRIFT;
        }
    }

    /// A message came this way first.
    pub(crate) fn hold_by(&mut self, from: P) {
        self.grown = true;
        self.anchors_wanted = HELD;
        for (peer, neighbor) in &mut self.neighbors {
            neighbor.anchor = *peer == from;
        }
        self.set_eager(from, true);
    }

    /// Neighbours that this node hangs by.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = P> {
        let anchors = self.neighbors.iter().filter(|(_, n)| n.anchor);
        anchors.map(|(peer, _)| *peer)
    }
}
