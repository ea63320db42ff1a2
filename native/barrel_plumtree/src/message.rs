// SPDX-License-Identifier: Apache-2.0

//! What neighbours say to each other, and what the driver hears.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

/// What is known already. The driver supplies it: the causal context of replicated
/// state, or an [`IdCache`](crate::IdCache).
pub trait Seen<I> {
    /// Whether the message has been taken in.
    fn seen(&self, id: &I) -> bool;

    /// The message, for a neighbour that asks for it. `None` when it is not kept any more;
    /// the neighbour then asks another.
    fn body(&self, id: &I) -> Option<Bytes>;

    /// Whether a copy too many costs less than to wait for T1, should the tree be broken: the
    /// message is small and rare, and somebody waits for it.
    fn is_urgent(&self, _id: &I) -> bool {
        false
    }
}

/// Between neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<I> {
    /// The message itself, to an eager neighbour or one that asked.
    Gossip {
        /// Whose copies are the same message.
        id: I,
        /// Links it had passed when it was sent: 0 from its origin.
        round: u16,
        /// The message.
        body: Bytes,
    },
    /// "I have these", to a lazy neighbour.
    IHave {
        /// Each with the round its Gossip would have had.
        ids: Vec<(I, u16)>,
    },
    /// "From now on send me all, and this one now."
    Graft {
        /// The one that is missing. `None`: the link alone is wanted.
        id: Option<I>,
        /// The round of its announcement, to be repeated in the answer.
        round: u16,
    },
    /// "I had that already, announce only."
    Prune,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P, I> {
    /// Send it, in order. What is sent is never waited for, so it may be dropped
    /// when the link is too slow.
    Send {
        /// A neighbour.
        to: P,
        /// The message.
        msg: Message<I>,
    },
    /// A message that was not [`Seen`]. Answer by
    /// [`handle_verdict`](crate::Plumtree::handle_verdict) before any other verb.
    Deliver {
        /// Who brought it.
        from: P,
        /// As in [`Message::Gossip`].
        id: I,
        /// As in [`Message::Gossip`]: it has passed one link more.
        round: u16,
        /// The message.
        body: Bytes,
    },
    /// For logs and metrics; of these only [`Event::Lost`] asks for an action.
    Event(Event<P, I>),
}

/// What the driver found a delivered message to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Valid and new: spread it.
    New,
    /// It was known under another form: as if it had been seen.
    Duplicate,
    /// Invalid: not spread, counted against the sender. Another neighbour may still
    /// bring a valid one under the same id.
    Rejected,
    /// Done with, but not to be spread.
    Unwanted,
}

/// What is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P, I> {
    /// It was announced, and nobody who did gave it in time. A later announcement starts
    /// anew, but it is better fetched another way.
    Lost {
        /// The message.
        id: I,
        /// How many were asked in vain. None, when all that announced it went away.
        asked: u32,
    },
    /// A neighbour did not give what it had announced, several times in a row.
    Lagging {
        /// Who.
        peer: P,
    },
    /// A neighbour announces more than it may; what is too much is not looked at.
    Flooding {
        /// Who.
        peer: P,
    },
    /// A neighbour became eager or lazy.
    TreeChanged {
        /// Who.
        peer: P,
        /// Whether it is eager now.
        eager: bool,
    },
}

/// A message that no correct peer sends. Nothing was changed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaved<P> {
    /// It is not a neighbour, or not any more.
    NotANeighbor {
        /// Who.
        peer: P,
    },
    /// One announcement held more ids than [`Config::ids_per_message`](crate::Config).
    TooManyIds {
        /// Who.
        peer: P,
        /// How many.
        ids: usize,
    },
}

impl<P> Misbehaved<P> {
    /// The culprit.
    pub fn peer(&self) -> &P {
        match self {
            Self::NotANeighbor { peer } | Self::TooManyIds { peer, .. } => peer,
        }
    }
}

impl<P: fmt::Debug> fmt::Display for Misbehaved<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANeighbor { peer } => write!(f, "{peer:?} is not a neighbour"),
            Self::TooManyIds { peer, ids } => {
                write!(f, "{peer:?} announces {ids} messages at once")
            }
        }
    }
}

impl<P: fmt::Debug> Error for Misbehaved<P> {}
