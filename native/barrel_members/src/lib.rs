// SPDX-License-Identifier: Apache-2.0

//! Who is a member, and who is alive.
//!
//! An overlay like HyParView knows a few neighbours, and who falls out of their views
//! is not dead. This crate keeps the *directory*: every member of the cluster, its name
//! and its incarnation, and whether it can be reached. It is a pure state machine. It
//! opens no socket, reads no clock and rolls no dice but those of its seed; the driver
//! brings what happens and does what comes out.
//!
//! ```text
//!  handle_record   a signed record, verified         Broadcast   spread a claim to all
//!  handle_claim    what somebody says of a member    Send        a message over a link
//!  handle_link_..  a link works, a link is lost      Probe       dial this member
//!  handle_dial_..  a dial came to nothing            Hide, Show  its entries
//!  handle_message  a message over a link             Depart      its life is over
//!  handle_timeout  time has passed                   Refresh     sign our record again
//!                         |                          Bump        we have a new life
//!                         v                          Event       node up, node down, ...
//!                  [   Members   ] -- poll_output -------^
//!                         `---------- poll_timeout: when to call handle_timeout
//! ```
//!
//! Contract: each `now` is a time since one fixed start and never goes back. After each
//! verb the driver drains `poll_output`, then asks `poll_timeout`. A [`Output::Probe`]
//! ends in [`Members::handle_link_up`] or [`Members::handle_dial_failed`].
//!
//! # Two numbers
//!
//! The **incarnation** of a member says which of its lives is meant. It changes when the
//! member starts, or leaves and joins again, and then everything is dropped that the
//! earlier life had registered. The **beat** counts how often the member has contradicted
//! within one life. Nobody but the member raises either. With one number for both, a
//! suspicion that was wrong would cost a member all its registrations. A [`Claim`] names
//! both and a [`Status`], and the younger claim wins, by incarnation, then beat, then
//! status: unreachable over suspect over alive. A goodbye is final for its incarnation,
//! whatever the beat.
//!
//! # How a death is found
//!
//! The shape is that of SWIM (Das, Gupta, Motivala 2002): suspicion before verdict, a
//! refutation by the suspect alone, probes in a shuffled round, and helpers. What differs
//! is the first sensor, for there are links here which fail when a peer is silent.
//!
//! 1. A node that loses a *link* by failure dials once more. Without a new link after
//!    [`Config::redial_wait`] it announces `suspect(i, b)`, at most once for each
//!    incarnation and beat. Whoever holds a working link to the suspect passes that
//!    on over the link, and never answers for it.
//! 2. The suspect says `alive(i, b + 1)`. No store changes.
//! 3. If it does not within [`Members::suspect_timeout`], whoever raised the suspicion
//!    announces `unreachable(i, b)`. The member is hidden, the node down event is told
//!    once, and nothing is deleted. The timeout grows with the logarithm of the cluster and
//!    with the time that refutations were seen to take.
//! 4. A death that no neighbour survived is found by probing: in each `probe_period` a
//!    node dials the next member of its round that it has no link to. Two others repeat
//!    a failed dial before it is a suspicion. After each death the next probes come
//!    faster, because deaths come in groups.
//! 5. A node that returns from a partition hears `unreachable(i, b)` of itself, says
//!    `alive(i, b + 1)`, and is shown again everywhere.
//!
//! So a death is known to all within the link timeout, the suspect timeout and about a
//! second where a neighbour survives it, and some probe periods later where none does.
//! A node that is frozen for less than the link timeout is never reported, as a probe
//! becomes a suspicion only when the link timeout is over, too.
//!
//! # Records
//!
//! A member is who has a signed record; the [`Card`] is what this crate needs of it, and
//! verifying is the driver's. Its time to live counts from the moment this node first
//! saw this version, on its own clock, so no clock is compared with another. A record
//! that ends makes its member unreachable first; long after, it is dropped. Two keys for
//! one name: the one that the operator placed wins, else the one that was known first,
//! and both sides are told.
//!
//! # What a liar can do
//!
//! Members are authenticated, and claims are not signed. So a member can have others
//! suspected, hidden for a moment, or made to begin a new life. It cannot do so often: what
//! a peer may say has a rate; a refutation, a renewed record and a new incarnation have
//! a shortest distance; claims about strangers have little room and are not spread; numbers
//! that no member reaches are refused. It is counted against the peer that passed it on.
//!
//! # Memory
//!
//! A member that is plain alive costs 48 bytes besides its card, with a key of 16 bytes,
//! and one that is not, 32 more; with what the pieces and the allocator waste, 70 were
//! measured. The tables lie in pieces that copies of a node share: another copy of a node
//! with ten thousand members costs 6 kB.

#![forbid(unsafe_code)]

mod card;
mod claims;
mod config;
mod departed;
mod directory;
mod early;
mod exceptions;
mod members;
mod message;
#[cfg(feature = "mutants")]
mod mutant;
mod own;
mod partition;
mod places;
mod probes;
mod probing;
mod records;
mod round;
mod senders;
mod sorted;
mod view;

pub use card::{Card, Claim, MAX_BEAT, MAX_NAME, Status};
pub use config::Config;
pub use directory::Directory;
pub use members::Members;
pub use message::{DownReason, Event, Heard, Message, Misbehaved, Misdeed, Output, Refused, Stats};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use senders::Record;
