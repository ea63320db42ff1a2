// SPDX-License-Identifier: Apache-2.0

//! Who are my neighbours.
//!
//! A node of a large cluster cannot hold a connection to everybody. It holds a few, its
//! *active view*, and knows the addresses of some more, its *passive view*. This crate keeps
//! both as HyParView does (Leitao, Pereira and Rodrigues, DSN 2007), so that the connections
//! of all nodes together form a connected random graph, also after most nodes have died.
//!
//! - A newcomer sends JOIN to a node it knows. That one takes it in, and starts a random walk
//!   along each of its own links. A walk ends six steps on, where the newcomer gets another
//!   neighbour; half way it leaves the newcomer's id in an address book.
//! - Links are symmetric: both ends have each other in their active view. Whoever
//!   takes a neighbour in drops another one when it is full, and tells it by DISCONNECT.
//! - A lost neighbour is replaced by asking nodes of the address book, NEIGHBOR, one after
//!   the other. They refuse when they are full, unless the one who asks has nobody.
//! - From time to time a node sends some of what it knows along a random walk, SHUFFLE, and
//!   gets as many addresses back. So address books forget the dead.
//!
//! # The machine
//!
//! [`HyParView`] is one node, without socket and without clock:
//!
//! ```text
//! handle_message(now, from, link, msg)   a peer said something
//! handle_timeout(now)                    it is as late as poll_timeout said
//! poll_timeout() -> Option<Duration>     when to come back
//! poll_output() -> Option<Output>        what to do; ask until None, after every call
//! ```
//!
//! and further `handle_*` for what else the driver knows: links that ended, dials that failed,
//! the size of the cluster. Time is a [`std::time::Duration`] since the start and never goes
//! back. The driver reports ends of links before messages that came after them: a
//! view that is full of dead neighbours would refuse the living.
//!
//! # Consent
//!
//! Two nodes decide at the same time, and their messages cross. Three rules keep links
//! symmetric whenever all is quiet, given that messages of one link arrive in order:
//!
//! 1. A node takes another in when that one asks, and says so; or when that one says so, and
//!    it had asked.
//! 2. It says DISCONNECT when it drops a neighbour, and to somebody who accepts what is not
//!    asked any more. Who hears that drops the other and goes on asking, if it was.
//! 3. A refusal by a neighbour ends the neighbourhood on both sides.
//!
//! When a link ends, both ends drop each other.
//!
//! # Beyond the paper
//!
//! Each with its switch in [`Config`]:
//!
//! - *lost book*: halves of a partition forget each other and would never meet again. So nodes
//!   remember whom they lost, and ask one of them now and then. An answer tells the
//!   [`Component`] of the other; where it differs a link is made. Once both halves agree on
//!   a component, that ends.
//! - *switch*: two halves that were joined by a few links mix, by exchanges of links
//!   among four nodes, as X-BOT has them (Leitao and others, SRDS 2009), but at random.
//! - *introducer share*, *sampler*: an address book is not filled by one peer; a reserve is
//!   drawn by min-wise hashing, as in Brahms (Bortnikov and others, 2009).
//! - *eviction cap*, *rate limit*: bounds on what others can force.
//! - *seekers*: who refuses a place names others whom it refused. When thousands join at once, a
//!   tenth of them misses a neighbour and the rest is full; by chance they would find each
//!   other in many periods, and so they do in one.
//! - *anti-hub*: a contact through which everybody joins sends them on.
//! - A small cluster is fully meshed.

#![forbid(unsafe_code)]

mod active;
mod check;
mod config;
mod fingerprint;
mod hyparview;
mod join;
mod links;
mod lost;
mod message;
mod meter;
mod neighbor;
mod output;
mod passive;
mod probe;
mod receive;
mod repair;
mod request;
mod sampler;
mod seekers;
mod shuffle;
mod stats;
mod switch;

#[cfg(feature = "mutants")]
pub use config::Mutant;
pub use config::{
    ACTIVE_SIZE, AntiHub, Config, EvictionCap, LostBook, MAX_VIEW, RateLimit, Switch,
};
pub use hyparview::{HyParView, Saved};
pub use message::{Component, MAX_PEERS, MAX_TTL, Message, Parting, Priority};
pub use output::{DownReason, Event, Link, LinkDown, Misbehaved, Offence, Output};
pub use stats::Stats;

/// What identifies a node.
///
/// `Hash` serves the sampler; it must not depend on the platform, as that of byte
/// arrays and integers of fixed size does not with the hasher used here.
pub trait Peer: Copy + Ord + std::fmt::Debug + std::hash::Hash {}

impl<P: Copy + Ord + std::fmt::Debug + std::hash::Hash> Peer for P {}
