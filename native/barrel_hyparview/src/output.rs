// SPDX-License-Identifier: Apache-2.0

//! What the driver brings besides messages, and what it is to do.

use std::time::Duration;

use crate::message::Message;

/// One connection to a peer. The driver numbers them, and a newer one of the same
/// peer has a larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub u64);

/// How a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkDown {
    /// By silence or a reset: the peer may be dead.
    Failed,
    /// The peer closed it.
    Closed,
    /// We closed it, or a newer link took its place.
    Local,
}

/// What the driver must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Send a message. Without a link the driver dials, keeps the order, and says
    /// [`crate::HyParView::handle_dial_failed`] when it cannot. The link is needed from
    /// now on, until it or the dial ends or it is released.
    Send {
        /// To whom.
        to: P,
        /// What.
        msg: Message<P>,
    },
    /// The link to this peer is not needed here any longer. Whoever dialled closes it, once
    /// all is sent, when nobody else needs it either.
    Release {
        /// Whose link.
        peer: P,
    },
    /// A neighbour. It knows that, or learns it from what was sent before this.
    Up {
        /// Who it is.
        peer: P,
        /// By which link it spoke.
        link: Link,
    },
    /// No longer a neighbour; each follows its [`Output::Up`].
    Down {
        /// Who it was.
        peer: P,
        /// Why.
        reason: DownReason,
    },
    /// For logs and counters.
    Event(Event<P>),
}

/// Why somebody is no longer a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownReason {
    /// We needed the place.
    Evicted,
    /// The peer needed the place, or had none.
    Disconnected,
    /// An exchange of links.
    Switched,
    /// The link failed. The only reason that says anything about the peer's life.
    LinkFailed,
    /// The link was closed.
    LinkClosed,
    /// The peer leaves the cluster.
    PeerLeft,
    /// We leave the cluster.
    Leaving,
    /// The driver wants it forgotten.
    Forgotten,
}

impl DownReason {
    /// Whether the peer may be dead. All other reasons are maintenance of the overlay, and
    /// must not touch anybody's opinion of the peer.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self == Self::LinkFailed
    }
}

/// Something worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// The contact did not take our JOIN.
    JoinFailed {
        /// Which contact.
        contact: P,
    },
    /// A repair ran out of candidates.
    UnderFilled {
        /// Since when neighbours are missing.
        since: Duration,
        /// How many there are.
        active: usize,
    },
    /// A lost peer belongs to another component; it is asked to be a neighbour.
    Merging {
        /// Which peer.
        with: P,
    },
    /// A link was not given up because too many were taken by force lately.
    CapHit {
        /// Who insisted.
        by: P,
    },
    /// A newcomer was sent on, because we are in too many address books already.
    HubDeclined {
        /// Which newcomer.
        joiner: P,
    },
}

/// A peer broke the protocol. Nothing has changed here; the driver counts, and closes the
/// link when it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misbehaved<P> {
    /// The culprit.
    pub peer: P,
    /// What it did.
    pub offence: Offence,
}

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// It speaks with our own id.
    OwnId,
    /// More ids in one message than [`crate::MAX_PEERS`].
    TooManyPeers,
    /// A longer walk than [`crate::MAX_TTL`].
    LongWalk,
    /// More JOINs or NEIGHBORs of high priority than allowed.
    UrgentFlood,
    /// More messages than allowed.
    Flood,
    /// An id where it makes no sense, such as a node that exchanges a link with itself.
    Nonsense,
}

impl<P: std::fmt::Debug> std::fmt::Display for Misbehaved<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} misbehaved: {:?}", self.peer, self.offence)
    }
}

impl<P: std::fmt::Debug> std::error::Error for Misbehaved<P> {}
