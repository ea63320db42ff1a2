// SPDX-License-Identifier: Apache-2.0

//! Who else must hear this: a broadcast that costs one copy per node, and still
//! arrives when a node in the middle is gone.
//!
//! # The protocol
//!
//! This is Plumtree (Leitao, Pereira, Rodrigues: "Epidemic Broadcast Trees", SRDS 2007).
//! It runs over the few neighbours that a membership protocol such as HyParView picks for
//! each node. A neighbour is **eager** or **lazy**, on both ends alike when all is well:
//!
//! - To an eager neighbour a message goes at once and whole ([`Message::Gossip`]).
//! - To a lazy one goes only its id, a little later and with others
//!   ([`Message::IHave`]).
//!
//! All neighbours begin eager where there is no tree yet, so the first message floods. A node that gets a message
//! twice makes the second sender lazy and tells it so ([`Message::Prune`]). What remains is
//! a tree: each node gets the second message once. It is the tree of the fastest paths from
//! the first sender, and serves all others too.
//!
//! The lazy links are what heals it. A node that hears of an id and does not get
//! the message in time T1 asks the neighbour that announced it
//! ([`Message::Graft`]); both become eager, and the tree is whole again. Without an
//! answer in time T2 it asks the next that announced it. When all have failed it says
//! [`Event::Lost`], and whoever drives this fetches the message another way; for
//! replicated state that is anti-entropy.
//!
//! # The contract
//!
//! [`Plumtree`] has no clock, no socket and no store. The driver
//!
//! 1. brings what happened: `handle_neighbor_up`, `handle_neighbor_down`,
//!    `handle_message`, `handle_timeout`, or an own `broadcast`;
//! 2. then calls [`Plumtree::poll_output`] until it is `None`, and answers each
//!    [`Output::Deliver`] by [`Plumtree::handle_verdict`] before any other verb;
//! 3. and calls `handle_timeout` when the time of [`Plumtree::poll_timeout`] has come.
//!
//! Time is a [`Duration`](std::time::Duration) since some start and never goes back.
//! Only current neighbours are listened to; anybody else gets an error and changes nothing.
//!
//! What has been seen is asked of the driver ([`Seen`]), because replicated
//! state knows that better than any cache: its causal context forgets nothing.
//! For messages without such a state there is the bounded [`IdCache`].
//!
//! # Beside the paper
//!
//! - T1 is learnt ([`Config::t1_max`] says how it begins). Where it is shorter than
//!   the tree takes, every node asks for what is under way, and the tree falls apart.
//! - The optimisation of the paper is off ([`Config::optimize_at`]).
//! - While several messages are on their way, only few of them make links lazy: two that cut one
//!   way around in two places would cut off what lies between.
//! - A link that is new begins lazy once there is a tree, unless the node came off it. In the paper each
//!   begins eager, and costs a copy too many or two, though most replace lazy ones. A node knows that it came off
//!   when the neighbour goes that brought the last message; then its next three links are eager, and it says so to
//!   the other end. After four fifths of all nodes died, the second message is free of duplicates.
//! - An announcer is never sent the message: it has it.
//! - A message that anti-entropy brought before the tree does is passed on all the same, and
//!   its sender stays eager. Else each round of anti-entropy would cut the tree.
//! - A tree that repairs have made long is made shorter ([`Config::shorten_at`]).
//! - What one neighbour can make us hold, do or send is bounded, see [`Config`].

#![forbid(unsafe_code)]

mod anchor;
mod bucket;
mod cache;
mod config;
mod lag;
mod message;
mod missing;
mod neighbor;
mod passed;
mod plumtree;
mod repair;
mod shape;
mod stats;
mod tree;

pub use cache::{CacheConfig, IdCache};
pub use config::Config;
#[cfg(feature = "mutants")]
pub use config::Mutant;
pub use message::{Event, Message, Misbehaved, Output, Seen, Verdict};
pub use plumtree::Plumtree;
pub use stats::Stats;
