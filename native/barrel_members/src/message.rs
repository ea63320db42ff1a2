// SPDX-License-Identifier: Apache-2.0

//! What members say to each other, and what the driver is told.

use std::sync::Arc;

use crate::card::Claim;

/// From one member to another, over a link. Claims for everybody go by
/// [`Output::Broadcast`] instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<P> {
    /// To the member that the claim is about: this is said of you. Or from it: this
    /// is what I say of myself.
    PassOn(Claim<P>),
    /// I cannot reach this member. Can you?
    ProbeRequest {
        /// Whom.
        member: P,
    },
    /// What came of it.
    ProbeAnswer {
        /// Who was probed.
        member: P,
        /// Whether there is a link to it now.
        reachable: bool,
    },
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Spread the claim to all members.
    Broadcast(Claim<P>),
    /// Send to this member; open a link if there is none.
    Send {
        /// To whom.
        to: P,
        /// What.
        msg: Message<P>,
    },
    /// Dial this member. Ends in `handle_link_up` or `handle_dial_failed`; with a link
    /// there already, in `handle_link_up`.
    Probe(P),
    /// Show nothing of this member to readers; keep what it registered.
    Hide(P),
    /// Show it.
    Show(P),
    /// This incarnation is over: drop what it registered and remember that.
    Depart {
        /// Whose.
        member: P,
        /// Which life.
        incarnation: u64,
    },
    /// Forget all of this member, as if it had never been heard of: it has made room.
    Forget(P),
    /// Sign the own record again, with the next sequence number, and publish it.
    Refresh,
    /// The own incarnation is this one from now on: sign a new record and announce
    /// under it everything that was registered.
    Bump {
        /// The new one. To be kept on the disk, if there is one.
        incarnation: u64,
    },
    /// For logs, metrics and subscribers.
    Event(Event<P>),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// A member can be reached, for the first time or again.
    NodeUp {
        /// Who.
        member: P,
        /// Which life of it.
        incarnation: u64,
    },
    /// A member can be reached no longer. Told once for each [`NodeUp`](Self::NodeUp).
    NodeDown {
        /// Who.
        member: P,
        /// Which life of it.
        incarnation: u64,
        /// Why.
        reason: DownReason,
    },
    /// More than half of the members were lost in one go: rather a partition than
    /// their death.
    Partitioned {
        /// So many were lost.
        lost: usize,
        /// Of so many that were there.
        of: usize,
    },
    /// More than half of the members are there again.
    Healed,
    /// Two keys for one name.
    NameClash {
        /// The name.
        name: Arc<str>,
        /// Who keeps it.
        kept: P,
        /// Whose record is not accepted, or no longer.
        refused: P,
    },
    /// Somebody knows this key with an incarnation that is not below ours: a node with
    /// a copy of the key, or our own earlier life after a loss of memory.
    IdentityClash {
        /// What they know.
        theirs: u64,
    },
    /// A peer says more than its share, or what no member says. Told once, then
    /// counted.
    Misbehaves {
        /// Who.
        peer: P,
    },
}

/// Why a member is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownReason {
    /// It did not answer a suspicion.
    Unreachable,
    /// It said goodbye.
    Left,
    /// It runs in a new incarnation.
    Restarted,
    /// Its name belongs to another key.
    Displaced,
    /// The driver said so.
    Forgotten,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Heard {
    /// News. Spread it.
    New,
    /// Known already, or overtaken. Do not spread it.
    Known,
    /// Taken note of, but not to be spread: it is about this node, which answers it,
    /// or about a member whose record has not come yet.
    Unwanted,
    /// Not plausible, or beyond the share of the sender. Nothing has changed; the
    /// sender is counted.
    Refused,
}

impl Heard {
    /// Whether the claim is to be spread.
    pub fn is_new(self) -> bool {
        self == Self::New
    }
}

/// Why a record was not accepted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<P> {
    /// Its name belongs to another key.
    NameTaken {
        /// That one.
        by: P,
    },
    /// A younger record of the same key is known.
    Stale,
    /// The incarnation is over.
    Departed,
    /// The directory has no room.
    Full,
    /// The name is empty or too long.
    BadName,
    /// It is a record of this node with a higher incarnation. The clash is dealt with.
    Clash,
}

/// What a peer did that no correct peer does. Nothing has changed; it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misbehaved<P> {
    /// Who.
    pub peer: P,
    /// What.
    pub what: Misdeed,
}

/// See [`Misbehaved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misdeed {
    /// Passed on a claim that concerns neither side.
    WrongAddressee,
    /// Asked for more than its share.
    Flood,
}

/// Counters since the birth of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Probes by dialling, of this node's own round.
    pub probes: u64,
    /// Members two others were asked about.
    pub asked: u64,
    /// Suspicions raised by this node.
    pub suspicions: u64,
    /// Suspicions of others that were refuted in time.
    pub refuted: u64,
    /// Refutations of this node.
    pub refutations: u64,
    /// New incarnations that others made necessary.
    pub bumps: u64,
    /// Claims and requests beyond the share of a peer, or implausible.
    pub refused: u64,
    /// Claims about unknown members that found no room.
    pub early_dropped: u64,
    /// Times when the driver called late: the process slept.
    pub late: u64,
}
