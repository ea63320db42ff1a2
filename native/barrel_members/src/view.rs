// SPDX-License-Identifier: Apache-2.0

//! What can be read, and what must hold.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::card::{Card, Claim, Status};
use crate::config::Config;
use crate::directory::Directory;
use crate::members::Members;
use crate::message::Stats;
use crate::senders::Record;

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// What is held true of a member. None for strangers and for those who left.
    pub fn state(&self, member: P) -> Option<Claim<P>> {
        let entry = self.directory.get(member)?;
        let plain = Claim {
            member,
            incarnation: entry.card.incarnation,
            beat: 0,
            status: Status::Alive,
        };
        Some(self.exceptions.get(member).unwrap_or(plain))
    }

    /// Whether it is a member that can be reached.
    pub fn is_up(&self, member: P) -> bool {
        let state = self.state(member);
        state.is_some_and(|claim| claim.status < Status::Unreachable)
    }

    /// The card of a member.
    pub fn card(&self, member: P) -> Option<&Arc<Card>> {
        Some(&self.directory.get(member)?.card)
    }

    /// Who has this name.
    pub fn by_name(&self, name: &str) -> Option<P> {
        self.directory.holder(name)
    }

    /// All members with their cards, in the order of the keys, this one included.
    pub fn iter(&self) -> impl Iterator<Item = (P, &Arc<Card>)> {
        let entries = self.directory.iter();
        entries.map(|entry| (entry.member, &entry.card))
    }

    /// How many members there are, this one included.
    pub fn len(&self) -> usize {
        self.directory.len()
    }

    /// Never: this node is a member.
    pub fn is_empty(&self) -> bool {
        self.directory.is_empty()
    }

    /// How many of them can be reached, this one included.
    pub fn up(&self) -> usize {
        self.directory.len() - self.exceptions.unreachable()
    }

    /// Whether more than half were lost in one go and are not back.
    pub fn is_partitioned(&self) -> bool {
        self.partition.is()
    }

    /// Every claim that is not plain alive with beat 0, and the goodbyes of late: what
    /// an exchange between two nodes has to carry. Each goes into
    /// [`handle_claim`](Self::handle_claim) of the other.
    pub fn exceptions(&self) -> impl Iterator<Item = Claim<P>> {
        self.exceptions.iter().chain(self.departed.iter())
    }

    /// Equal where [`exceptions`](Self::exceptions) are equal. Costs nothing.
    pub fn digest(&self) -> u128 {
        let departed = self.departed.digest();
        self.exceptions.digest().wrapping_add(departed)
    }

    /// The directory, for [`with_directory`](Self::with_directory).
    pub fn directory(&self) -> Directory<P> {
        self.directory.clone()
    }

    /// This node.
    pub fn me(&self) -> P {
        self.me
    }

    /// The own incarnation.
    pub fn incarnation(&self) -> u64 {
        self.own.incarnation
    }

    /// How often this node has refuted in this incarnation.
    pub fn beat(&self) -> u32 {
        self.own.beat
    }

    /// Whether this node has left.
    pub fn has_left(&self) -> bool {
        self.own.left
    }

    /// The time a suspect has, as things are.
    pub fn suspect_timeout(&self) -> Duration {
        self.config.suspect_timeout(self.len(), self.refuted)
    }

    /// What is known against a peer.
    pub fn record_of(&self, peer: P) -> Record {
        self.senders.get(peer)
    }

    /// The rules.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Debug builds check after each verb: all of a small directory, the counters of a
    /// large one, because looking at a thousand members a thousand times takes long.
    pub(crate) fn checked(&self) {
        if cfg!(debug_assertions) {
            self.check_counters();
            if self.directory.len() + self.exceptions.len() <= 64 {
                self.check();
            }
        }
    }

    fn check_counters(&self) {
        let state = self.state(self.me);
        assert!(state.is_some(), "this node is in its own directory");
        assert!(
            state.is_some_and(|own| own.incarnation == self.own.incarnation
                && own.status == Status::Alive
                && (own.beat == self.own.beat || self.own.left)),
            "nobody but this node says how it fares"
        );
        assert!(self.exceptions.unreachable() < self.directory.len());
        assert!(self.directory.len() <= self.config.max_members.max(1));
        assert!(
            self.verdict_at.is_some() || self.exceptions.suspects() == 0,
            "every suspicion ends"
        );
        assert_eq!(self.departed.get(self.me).is_some(), self.own.left);
    }

    /// The invariants.
    ///
    /// # Panics
    /// When one is broken: a bug here, not of a peer.
    pub fn check(&self) {
        self.check_counters();
        self.directory.check();
        self.exceptions.check();
        self.departed.check();
        self.early.check();
        self.senders.check();
        self.probes.check();
        for claim in self.exceptions.iter() {
            let card = self.card(claim.member);
            assert!(
                card.is_some_and(|card| card.incarnation == claim.incarnation),
                "an exception is about the incarnation of the card"
            );
        }
        for (member, card) in self.iter().filter(|&(member, _)| member != self.me) {
            let gone = self.departed.get(member);
            assert!(gone.is_none_or(|gone| gone < card.incarnation));
        }
    }
}
