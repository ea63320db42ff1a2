// SPDX-License-Identifier: Apache-2.0

//! The whole gossip node, without a socket.
//!
//! # The parts
//!
//! - The **overlay** ([`barrel_hyparview`]) gives each node a handful of neighbours.
//! - The **tree** ([`barrel_plumtree`]) brings a message from one node to all, over links
//!   between neighbours.
//! - The **stores** ([`barrel_ormap`]) hold what all nodes agree on: the directory of
//!   members, the registry of services, replicated maps. What one node writes is
//!   broadcast; what a broadcast did not bring is found by comparing stores with
//!   somebody now and then.
//! - The **members** ([`barrel_members`]) are those in the directory, and how they fare.
//!
//! None of the four knows another. This crate joins them in one place, `pump.rs`, and is
//! the only one that knows bytes, in `wire.rs`.
//!
//! # The contract
//!
//! [`Node`] has no socket, no clock and no thread. The driver
//!
//! ```text
//! 1. brings what happened:      handle_link_up, handle_link_down, handle_dial_failed,
//!                               handle_message, handle_persisted, handle_timeout,
//!                               or what an application asks: join, leave, register, ...
//! 2. does what it is told:      poll_output until None
//! 3. sends what waits:          after Output::Ready, poll_send of that link until None
//! 4. and comes back in time:    poll_timeout
//! ```
//!
//! A [`Link`] is an authenticated, reliable, ordered channel of frames to one peer, whose
//! key the driver has proven. Links are numbered by the driver, rising; a peer has at
//! most one, and a newer one takes the place of an older.
//!
//! Time is [`Now`]: a duration since the node started, which never jumps, for all that
//! waits, and the wall clock for the stamps of what is written. All dice come from one
//! seed. Two nodes with the same seed that are told the same do the same.
//!
//! # What peers can do
//!
//! Any bytes from a peer are survived. A peer that breaks the protocol is named in
//! [`Event::Misbehaved`] and loses its link in the end, for a minute; what it can make this node hold,
//! send or compute is bounded by constants and settings that stand beside each container.
//! Members are authenticated, and trusted not to lie about other members' services; what
//! a record says of a node is signed by that node.

#![forbid(unsafe_code)]

mod book;
mod compare;
mod config;
mod contacts;
mod deliver;
mod event;
mod frames;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod held;
mod inputs;
mod keys;
mod links;
mod maps;
mod node;
mod places;
mod pump;
mod queue;
mod record;
mod saved;
mod services;
mod simulated;
mod stores;
mod sync;
mod topic;
mod wire;

pub use barrel_hyparview::{Link, LinkDown};
pub use barrel_ormap::{Now, Pair};
pub use config::Config;
pub use event::{CloseReason, Contact, Event, Misdeed, Output, Table, Write};
pub use held::Held;
pub use keys::{Keys, PublicKey, Signature, Standing};
pub use maps::CorruptMap;
pub use node::{Identity, Node, NotSent};
pub use record::{BadRecord, Claims, MAX_ADDRESS, MAX_ADDRESSES, MAX_NAME, Record};
pub use saved::Saved;
pub use simulated::Pool;
pub use stores::WriteError;
pub use topic::{MessageId, Topic};
pub use wire::{FEATURES, MAX_BODY, MAX_FRAME, VERSIONS};

/// A node: the first 16 bytes of the SHA-256 of its Ed25519 public key.
pub type NodeId = barrel_ormap::OriginKey;
