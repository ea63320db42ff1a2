// SPDX-License-Identifier: Apache-2.0

//! What nodes say to each other. Ids only: whoever puts them on the wire adds
//! addresses and signatures.

/// Most ids in one message. Honest nodes send fewer than twenty.
pub const MAX_PEERS: usize = 64;

/// Most steps of a walk. Honest nodes ask for six.
pub const MAX_TTL: u8 = 16;

/// A message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<P> {
    /// I am new; take me and tell others. Answered with [`Message::NeighborReply`].
    Join,
    /// Somebody is new and looks for neighbours; a random walk.
    ForwardJoin {
        /// Who is new.
        joiner: P,
        /// Steps left.
        ttl: u8,
    },
    /// Be my neighbour. Answered with [`Message::NeighborReply`].
    Neighbor {
        /// How badly it is needed.
        priority: Priority,
        /// The component the sender believes to be in.
        component: Option<Component<P>>,
    },
    /// The answer to [`Message::Join`], [`Message::Neighbor`], [`Message::SwitchAsk`] and
    /// [`Message::SwitchLink`].
    NeighborReply {
        /// The sender has taken the receiver into its active view.
        accepted: bool,
        /// Others to try: any, when a contact declines a newcomer; those who were refused a
        /// place of late, when a place is refused.
        peers: Vec<P>,
        /// The component the sender believes to be in.
        component: Option<Component<P>>,
    },
    /// You are not my neighbour, and I am not asking you to be.
    Disconnect {
        /// Why not.
        parting: Parting,
    },
    /// Some of the nodes that the origin knows; a random walk.
    Shuffle {
        /// Who wants to exchange addresses.
        origin: P,
        /// Steps left.
        ttl: u8,
        /// Whom the origin knows.
        peers: Vec<P>,
        /// The component the last sender believes to be in.
        component: Option<Component<P>>,
    },
    /// As many of the receiver's addresses, straight to the origin.
    ShuffleReply {
        /// Whom the sender knows.
        peers: Vec<P>,
        /// The component the sender believes to be in.
        component: Option<Component<P>>,
    },
    /// Are you there, and where do you belong? Answered with [`Message::ProbeReply`].
    Probe {
        /// The component the sender believes to be in.
        component: Option<Component<P>>,
    },
    /// I am here.
    ProbeReply {
        /// The component the sender believes to be in.
        component: Option<Component<P>>,
    },
    /// First step of an exchange of links: take me in the place of a neighbour of yours,
    /// for whom my neighbour `old` would be free. Answered with [`Message::NeighborReply`].
    SwitchAsk {
        /// The neighbour the sender would give up.
        old: P,
    },
    /// Second step: leave me and take `old`, who is to lose `initiator`.
    SwitchReplace {
        /// Who began the exchange.
        initiator: P,
        /// The neighbour the initiator gives up.
        old: P,
    },
    /// No to [`Message::SwitchReplace`]. A yes is a [`Message::Disconnect`].
    SwitchRefuse,
    /// Third step: take me in the place of `initiator`. Answered with
    /// [`Message::NeighborReply`].
    SwitchLink {
        /// Who began the exchange, and is a neighbour of the receiver.
        initiator: P,
    },
}

/// How badly a neighbour is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// If there is room.
    Low,
    /// In any case: the sender has no neighbour, or brings a newcomer or another component.
    High,
}

/// Why somebody is not a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parting {
    /// Another one needed the place.
    Evicted,
    /// There is no place, or none was asked for.
    Unwanted,
    /// The place went to another one in an exchange of links.
    Switched,
    /// The sender leaves the cluster.
    Leaving,
}

/// What tells one connected part of the overlay from another: the smallest id in it, and a
/// number that its owner raises as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component<P> {
    /// The smallest id.
    pub min: P,
    /// How often its owner has raised the number.
    pub epoch: u64,
}
