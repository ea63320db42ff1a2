// SPDX-License-Identifier: Apache-2.0

//! What the node wants done, and what it has to tell.

use std::fmt;
use std::sync::Arc;

use barrel_ormap::Pair;
use bytes::Bytes;

use crate::record::Record;
use crate::topic::{MessageId, Topic};
use crate::{Link, NodeId};

/// Somebody to dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contact {
    /// A node we know by its key.
    Peer(NodeId),
    /// An address that an operator gave; who answers there is known after the handshake.
    Seed(Bytes),
}

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Open a link. Ends in `handle_link_up` or `handle_dial_failed`, always.
    Dial {
        /// Whom.
        contact: Contact,
        /// Its record, where `contact` is a peer and we have one.
        record: Option<Record>,
    },
    /// Something waits for this link: take it with `poll_send` until there is nothing.
    /// Said once; said again after `poll_send` gave nothing.
    Ready(Link),
    /// The gossip has no more use for this link.
    Close {
        /// Which.
        link: Link,
        /// Why.
        reason: CloseReason,
    },
    /// Make this durable, in this order, then say `handle_persisted`.
    Persist {
        /// Named in `handle_persisted`; they rise.
        token: u64,
        /// What to write; `None` deletes.
        batch: Vec<Write>,
    },
    /// For whoever listens.
    Event(Event),
}

/// One change of what is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// Unique within the table.
    pub key: Bytes,
    /// `None` deletes.
    pub value: Option<Bytes>,
}

/// What is kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Incarnation and clock.
    Node,
    /// Peers lost to failure, and seeds.
    Peers,
    /// The entries of one map.
    Map(Topic),
}

/// Why a link is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A visit is over.
    Unneeded,
    /// The peer does not keep to the protocol.
    Misbehaved,
    /// The peer takes nothing.
    TooSlow,
    /// No common version of the wire format.
    Version,
}

/// What the node has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first neighbour is up.
    Joined,
    /// The views are empty because this node left.
    Left,
    /// A contact did not answer.
    JoinFailed(Contact),
    /// The active view gained a peer.
    PeerUp(NodeId),
    /// The active view lost a peer.
    PeerDown {
        /// Which.
        peer: NodeId,
        /// Why.
        reason: barrel_hyparview::DownReason,
    },
    /// A member lives.
    NodeUp {
        /// Who.
        node: NodeId,
        /// Its name.
        name: Arc<str>,
    },
    /// A member does not, or not where we can see it.
    NodeDown {
        /// Who.
        node: NodeId,
        /// Its name.
        name: Arc<str>,
        /// It said good-bye.
        left: bool,
    },
    /// Most members went at once: more likely it is we who are cut off.
    Partitioned(bool),
    /// Two keys claim one name; the first is the one that keeps it.
    NameClash {
        /// The name.
        name: Arc<str>,
        /// Who keeps it.
        keeps: NodeId,
        /// Who does not.
        refused: NodeId,
    },
    /// An entry of the registry is to be seen, or its value changed.
    ServiceUp {
        /// Whose.
        origin: NodeId,
        /// Its key and value.
        pair: Pair,
    },
    /// An entry of the registry is no longer to be seen.
    ServiceDown {
        /// Whose.
        origin: NodeId,
        /// Its key and last value.
        pair: Pair,
    },
    /// Too many changes waited: what follows is the registry from the beginning.
    ServicesReset,
    /// A map shows a value it did not show before.
    MapPut {
        /// Which.
        map: Topic,
        /// Key and value.
        pair: Pair,
    },
    /// A map shows no value for this key any more.
    MapRemoved {
        /// Which.
        map: Topic,
        /// The key.
        key: Box<[u8]>,
    },
    /// A map that was opened has what others kept of it: writes may be acknowledged.
    MapReady(Topic),
    /// A broadcast of an application.
    Broadcast {
        /// Its name.
        id: MessageId,
        /// What it says.
        body: Bytes,
    },
    /// All that was written up to this token is durable.
    Durable(u64),
    /// A peer does not keep to the protocol.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// What it did.
        what: Misdeed,
    },
    /// A peer speaks no version of the wire format that we speak.
    Incompatible {
        /// Who.
        peer: NodeId,
        /// Oldest and newest it speaks.
        theirs: (u16, u16),
        /// Oldest and newest we speak.
        ours: (u16, u16),
    },
    /// Something the overlay reports, for logs and metrics.
    Overlay(barrel_hyparview::Event<NodeId>),
    /// A broadcast could not be fetched from anybody; the next comparison brings it.
    Lost(MessageId),
    /// Somebody lives under our key, with this incarnation or a newer one: we took the
    /// next.
    Clash {
        /// What we go by now.
        incarnation: u64,
    },
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misdeed {
    /// A frame that cannot be read.
    Malformed,
    /// A word before the greeting, or a second greeting.
    Ungreeted,
    /// A record whose signature is not by its key, or that is not the sender's own.
    Forged,
    /// A message that the overlay's rules forbid, or too many.
    Overlay,
    /// A message that the tree's rules forbid, or too many.
    Tree,
    /// A delta that its store refused.
    Store,
    /// A timestamp too far in the future.
    Clock,
    /// Liveness claims that the rules forbid, or too many.
    Claims,
    /// Answers nobody asked for.
    Unasked,
}

impl fmt::Display for Misdeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a frame that cannot be read",
            Self::Ungreeted => "a word before the greeting",
            Self::Forged => "a record that is not by its key",
            Self::Overlay => "a forbidden or too frequent overlay message",
            Self::Tree => "a forbidden or too frequent broadcast message",
            Self::Store => "a delta that the store refused",
            Self::Clock => "a timestamp from the future",
            Self::Claims => "forbidden or too frequent liveness claims",
            Self::Unasked => "an answer nobody asked for",
        })
    }
}
