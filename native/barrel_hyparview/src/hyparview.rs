// SPDX-License-Identifier: Apache-2.0

//! One node: what it knows, and the verbs.

use std::collections::VecDeque;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::Peer;
use crate::active::Active;
use crate::config::Config;
use crate::message::{Component, Message};
use crate::output::{Link, LinkDown, Misbehaved, Output};

/// The views of one node.
#[derive(Clone, Debug)]
pub struct HyParView<P> {
    me: P,
    config: Config,
    rng: ChaCha8Rng,
    active: Active<P>,
    outputs: VecDeque<Output<P>>,
    stats: Stats,
}

/// What outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved<P> {
    /// Lost peers, and how long ago they were lost.
    pub lost: Vec<(P, Duration)>,
    /// Contacts we joined through.
    pub seeds: Vec<P>,
}

/// Counts since birth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {}

impl<P: Peer> HyParView<P> {
    /// A node alone. It takes in whoever joins, and joins nobody by itself.
    #[must_use]
    pub fn new(me: P, config: Config, seed: u64) -> Self {
        Self {
            me,
            config,
            rng: ChaCha8Rng::seed_from_u64(seed),
            active: Active::new(),
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Puts back what [`Self::saved`] gave before a restart.
    pub fn restore(&mut self, now: Duration, saved: Saved<P>) {
        let _ = (now, saved);
    }

    /// What should outlive a restart.
    #[must_use]
    pub fn saved(&self, now: Duration) -> Saved<P> {
        let _ = now;
        Saved {
            lost: Vec::new(),
            seeds: Vec::new(),
        }
    }

    /// Joins through a node whose id is known. Also joins two clusters: the contact becomes
    /// a neighbour in any case.
    pub fn join(&mut self, now: Duration, contact: P) {
        let _ = (now, contact);
    }

    /// Says good-bye to the neighbours and forgets everybody; nothing is repaired and nobody
    /// is taken in until the next [`Self::join`].
    pub fn leave(&mut self, now: Duration) {
        let _ = now;
    }

    /// A peer said something over that link.
    ///
    /// # Errors
    /// The peer broke the protocol; nothing has changed.
    pub fn handle_message(
        &mut self,
        now: Duration,
        from: P,
        link: Link,
        msg: Message<P>,
    ) -> Result<(), Misbehaved<P>> {
        let _ = (now, from, link, msg);
        Ok(())
    }

    /// A link has ended.
    pub fn handle_link_down(&mut self, now: Duration, peer: P, link: Link, reason: LinkDown) {
        let _ = (now, peer, link, reason);
    }

    /// What was to be sent to a peer without a link could not be delivered.
    pub fn handle_dial_failed(&mut self, now: Duration, peer: P) {
        let _ = (now, peer);
    }

    /// How many members the cluster has, with us.
    pub fn handle_cluster_size(&mut self, now: Duration, members: usize) {
        let _ = (now, members);
    }

    /// Peers of one group share what they may force, such as those behind one network
    /// prefix. A peer nobody told about is a group of its own.
    pub fn handle_group(&mut self, now: Duration, peer: P, group: u64) {
        let _ = (now, peer, group);
    }

    /// The peer has left the cluster, or is not trusted: out of every view and book.
    pub fn handle_forget(&mut self, now: Duration, peer: P) {
        let _ = (now, peer);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        let _ = now;
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// What to do next; to be asked until `None` after each other call.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.outputs.pop_front()
    }

    /// Our own id.
    pub fn me(&self) -> P {
        self.me
    }

    /// What was chosen at birth.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The neighbours, the oldest first.
    pub fn active(&self) -> impl Iterator<Item = P> {
        self.active.peers()
    }

    /// The address book.
    pub fn passive(&self) -> impl Iterator<Item = P> {
        std::iter::empty()
    }

    /// Peers lost to failures, and not found again.
    pub fn lost(&self) -> impl Iterator<Item = P> {
        std::iter::empty()
    }

    /// Whether it is a neighbour.
    #[must_use]
    pub fn is_active(&self, peer: P) -> bool {
        self.active.contains(peer)
    }

    /// How many neighbours there should be.
    #[must_use]
    pub fn target(&self) -> usize {
        self.config.active_size.unwrap_or(5)
    }

    /// The component we believe to be in; `None` without a lost book.
    #[must_use]
    pub fn component(&self) -> Option<Component<P>> {
        None
    }

    /// Since when neighbours are missing.
    #[must_use]
    pub fn under_filled_since(&self) -> Option<Duration> {
        None
    }

    /// Counts since birth.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The invariants; debug builds test them after each verb.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.active.contains(self.me) {
            return Err("a node is its own neighbour");
        }
        let _ = &self.rng;
        Ok(())
    }
}
