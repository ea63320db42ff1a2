// SPDX-License-Identifier: Apache-2.0

//! The state machine.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::card::{Card, Claim, Status};
use crate::config::Config;
use crate::message::{Heard, Message, Misbehaved, Output, Refused, Stats};

/// The directory of one node.
#[derive(Clone, Debug)]
pub struct Members<P> {
    me: P,
    config: Config,
    incarnation: u64,
    outbox: VecDeque<Output<P>>,
    stats: Stats,
}

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// A node alone. `seed` feeds its only source of chance.
    pub fn new(
        me: P,
        name: impl Into<Arc<str>>,
        incarnation: u64,
        config: Config,
        seed: u64,
    ) -> Self {
        let _ = (name.into(), seed);
        Self {
            me,
            config,
            incarnation,
            outbox: VecDeque::new(),
            stats: Stats::default(),
        }
    }
    /// A verified record, of another member or of this one.
    pub fn handle_record(
        &mut self,
        now: Duration,
        member: P,
        card: impl Into<Arc<Card>>,
    ) -> Result<(), Refused<P>> {
        let _ = (now, member, card.into());
        Ok(())
    }
    /// The record of the member is trusted no longer: forget it without a trace.
    pub fn handle_record_gone(&mut self, now: Duration, member: P) {
        let _ = (now, member);
    }
    /// A link to this peer works. Answers a probe, too.
    pub fn handle_link_up(&mut self, now: Duration, peer: P) {
        let _ = (now, peer);
    }
    /// The last link to this peer is down; `failed` unless one of both closed it.
    pub fn handle_link_lost(&mut self, now: Duration, peer: P, failed: bool) {
        let _ = (now, peer, failed);
    }
    /// A dial to this peer came to nothing, whoever wanted it.
    pub fn handle_dial_failed(&mut self, now: Duration, peer: P) {
        let _ = (now, peer);
    }
    /// A claim, by broadcast or by an exchange of exceptions.
    pub fn handle_claim(&mut self, now: Duration, from: P, claim: Claim<P>) -> Heard {
        let _ = (now, from, claim);
        Heard::Known
    }
    /// A message over the link to `from`.
    ///
    /// # Errors
    /// The peer did what no correct peer does. Nothing has changed.
    pub fn handle_message(
        &mut self,
        now: Duration,
        from: P,
        msg: Message<P>,
    ) -> Result<(), Misbehaved<P>> {
        let _ = (now, from, msg);
        Ok(())
    }
    /// Proof that this key was seen with this incarnation elsewhere.
    pub fn handle_clash(&mut self, now: Duration, theirs: u64) {
        let _ = (now, theirs);
    }
    /// Says goodbye.
    pub fn leave(&mut self, now: Duration) {
        let _ = now;
    }
    /// Comes back after [`leave`](Self::leave), in a new incarnation.
    pub fn rejoin(&mut self, now: Duration) {
        let _ = now;
    }
    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        let _ = now;
    }
    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }
    /// What to do next; to be called until there is nothing.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.outbox.pop_front()
    }
    /// Whether the claim is known or overtaken: the seen-set of the broadcast.
    pub fn covers(&self, claim: &Claim<P>) -> bool {
        let _ = claim;
        false
    }
    /// Every claim that is not plain alive, beat 0: what an exchange has to carry.
    pub fn exceptions(&self) -> impl Iterator<Item = Claim<P>> {
        std::iter::empty()
    }
    /// Equal where [`exceptions`](Self::exceptions) are equal. Costs nothing.
    pub fn digest(&self) -> u128 {
        0
    }
    /// What is held true of a member.
    pub fn state(&self, member: P) -> Option<Claim<P>> {
        let _ = member;
        None
    }
    /// All members with their cards, this one included.
    pub fn iter(&self) -> impl Iterator<Item = (P, &Arc<Card>, Status)> {
        std::iter::empty()
    }
    /// How many members there are, this one included.
    pub fn len(&self) -> usize {
        1
    }
    /// Never: this node is a member.
    pub fn is_empty(&self) -> bool {
        false
    }
    /// How many of them can be reached, this one included.
    pub fn up(&self) -> usize {
        1
    }
    /// Whether more than half were lost in one go and are not back.
    pub fn is_partitioned(&self) -> bool {
        false
    }
    /// This node.
    pub fn me(&self) -> P {
        self.me
    }
    /// The own incarnation.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }
    /// The rules.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
