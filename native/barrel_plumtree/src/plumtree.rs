// SPDX-License-Identifier: Apache-2.0

//! The state of one node, and what can be told to it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::anchor::ADRIFT;
use crate::bucket::Bucket;
use crate::config::{Config, Mutant};
use crate::lag::Lag;
use crate::message::{Event, Message, Misbehaved, Output, Seen, Verdict};
use crate::missing::Missing;
use crate::neighbor::Neighbor;
use crate::passed::{Passed, Trace};
use crate::stats::Stats;

/// One node. `P` names a neighbour, `I` a message. See the crate for the contract.
#[derive(Clone, Debug)]
pub struct Plumtree<P, I> {
    pub(crate) config: Config,
    pub(crate) rng: ChaCha8Rng,
    /// As many as the driver tells of.
    pub(crate) neighbors: BTreeMap<P, Neighbor<I>>,
    /// A message has passed here, so there is a tree.
    pub(crate) grown: bool,
    /// How many neighbours this node is to hang by.
    pub(crate) anchors_wanted: usize,
    pub(crate) missing: Missing<P, I>,
    pub(crate) passed: Passed<I>,
    pub(crate) lag: Lag,
    /// How many messages that came by another way before may go on.
    pub(crate) again: Bucket,
    /// Set while there is something to be announced.
    pub(crate) announce_at: Option<Duration>,
    /// Delivered, and not judged yet.
    delivered: Option<Delivered<P, I>>,
    /// What one verb leaves behind; the driver takes it before the next.
    pub(crate) outputs: VecDeque<Output<P, I>>,
    pub(crate) stats: Stats,
}

/// A message that the driver judges.
#[derive(Clone, Debug)]
pub(crate) struct Delivered<P, I> {
    pub(crate) from: P,
    pub(crate) id: I,
    pub(crate) round: u16,
    pub(crate) body: Bytes,
}

impl<P: Copy + Ord + Debug, I: Clone + Ord + Debug + Hash> Plumtree<P, I> {
    /// A node without neighbours. All its dice come from the seed.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            neighbors: BTreeMap::new(),
            grown: false,
            anchors_wanted: ADRIFT,
            missing: Missing::new(),
            passed: Passed::new(config.remembered),
            lag: Lag::new(),
            again: Bucket::new(Duration::ZERO, config.again_per_second),
            announce_at: None,
            delivered: None,
            outputs: VecDeque::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// There is a link to a neighbour. It begins eager until a first message has passed, and
    /// when the node has come off the tree; else it begins lazy. If it was one before, all that was
    /// known of it is forgotten: what was under way on the old link is lost.
    pub fn handle_neighbor_up(&mut self, now: Duration, peer: P) {
        self.missing.forget_peer(now, peer);
        self.end(peer);
        self.begin(now, peer);
        self.debug_check();
    }

    /// There is none any more. What was asked of it is asked of others.
    pub fn handle_neighbor_down(&mut self, now: Duration, peer: P) {
        self.missing.forget_peer(now, peer);
        self.end(peer);
        self.debug_check();
    }

    /// The round trip to a neighbour, smoothed. Without any, T1 stays what it is at
    /// the start.
    pub fn handle_rtt(&mut self, peer: P, rtt: Duration) {
        if let Some(neighbor) = self.neighbors.get_mut(&peer) {
            neighbor.rtt = Some(rtt);
        }
    }

    /// Sends an own message to all. The driver has taken it in: it is
    /// [`Seen`].
    pub fn broadcast(&mut self, now: Duration, id: I, body: Bytes) {
        self.stats.broadcasts += 1;
        self.grown = true;
        self.missing.fill(&id);
        let trace = Trace {
            hops: 0,
            announced: None,
        };
        self.passed.insert(now, id.clone(), trace);
        self.spread(now, None, &[], id, 0, &body);
        self.debug_check();
    }

    /// The driver got a message by another way, such as anti-entropy, and others may lack it
    /// too: it is announced to all neighbours but the one it came from. Who lacks it asks
    /// for it, and passes it on as any other.
    pub fn announce(&mut self, now: Duration, id: I, from: P) {
        self.missing.fill(&id);
        for (&peer, neighbor) in &mut self.neighbors {
            if peer != from {
                neighbor.queue.push((id.clone(), 0));
            }
        }
        self.schedule_announcements(now);
        self.debug_check();
    }

    /// A neighbour says something.
    ///
    /// # Errors
    /// Who misbehaves, and how; then nothing has changed.
    pub fn handle_message(
        &mut self,
        now: Duration,
        from: P,
        msg: Message<I>,
        seen: &impl Seen<I>,
    ) -> Result<(), Misbehaved<P>> {
        debug_assert!(self.delivered.is_none(), "a verdict is due");
        self.delivered = None;
        self.admit(now, from, &msg).inspect_err(|_| {
            self.stats.misbehaved += 1;
        })?;
        match msg {
            Message::Gossip { id, round, body } => {
                let message = Delivered {
                    from,
                    id,
                    round,
                    body,
                };
                self.on_gossip(now, message, seen);
            }
            Message::IHave { ids } => self.on_ihave(now, from, ids, seen),
            Message::Graft { id, round } => self.on_graft(now, from, id, round, seen),
            Message::Prune => self.on_prune(from),
        }
        self.debug_check();
        Ok(())
    }

    /// What an [`Output::Deliver`] was found to be.
    pub fn handle_verdict(&mut self, now: Duration, from: P, id: I, verdict: Verdict) {
        let Some(message) = self.delivered.take() else {
            debug_assert!(false, "a verdict on what was not delivered");
            return;
        };
        debug_assert!(message.from == from && message.id == id, "another verdict");
        match verdict {
            Verdict::New => self.on_first(now, message),
            Verdict::Duplicate => self.on_duplicate(now, from, &id),
            Verdict::Rejected => self.stats.rejected += 1,
            Verdict::Unwanted => self.on_unwanted(now, id, message.round),
        }
        self.debug_check();
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Duration, seen: &impl Seen<I>) {
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce_all();
        }
        // Each hole that is due is filled, given up or due later than now.
        while let Some(id) = self.missing.first_due(now) {
            self.seek(now, id, seen);
        }
        self.debug_check();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let both = [self.announce_at, self.missing.next_due()];
        both.into_iter().flatten().min()
    }

    /// What is to be done next.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P, I>> {
        self.outputs.pop_front()
    }

    /// Neighbours that get messages whole.
    pub fn eager(&self) -> impl Iterator<Item = P> {
        self.sort(true)
    }

    /// Neighbours that get announcements.
    pub fn lazy(&self) -> impl Iterator<Item = P> {
        self.sort(false)
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        Stats {
            eager: self.eager().count(),
            lazy: self.lazy().count(),
            pending: self.missing.len(),
            cached: self.passed.len(),
            t1: self.t1(),
            ..self.stats
        }
    }

    /// What is wrong with the state, if anything. Debug builds look after each verb.
    ///
    /// - Only neighbours have announced something or are asked, and none has announced more
    ///   than it may.
    /// - What is missing has not passed, and is due at some time.
    /// - What is to be announced is less than a batch per neighbour, and is due too.
    /// - Who this node hangs by is eager, and there are not more of them than wanted.
    /// - Memories hold no more than they may.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        self.missing.check(self.config.outstanding)?;
        if let Some(peer) = self
            .missing
            .peers()
            .find(|p| !self.neighbors.contains_key(p))
        {
            return Err(format!("{peer:?} announced something and is no neighbour"));
        }
        if let Some(id) = self.missing.ids().find(|id| self.passed.contains(id)) {
            return Err(format!("{id:?} passed and is missing"));
        }
        if self.anchors().count() > self.anchors_wanted
            || self.neighbors.values().any(|n| n.anchor && !n.eager)
        {
            return Err("it hangs by too many, or by a lazy one".into());
        }
        for (peer, neighbor) in &self.neighbors {
            let queued = neighbor.queue.len();
            if queued > 0 && (queued >= self.config.ihave_batch || self.announce_at.is_none()) {
                return Err(format!("{queued} announcements to {peer:?} are stuck"));
            }
        }
        if !self.passed.is_sound() || !self.lag.is_sound() {
            return Err("a memory holds what it should not".into());
        }
        Ok(())
    }

    fn sort(&self, eager: bool) -> impl Iterator<Item = P> {
        let some = self.neighbors.iter().filter(move |(_, n)| n.eager == eager);
        some.map(|(peer, _)| *peer)
    }

    /// Whether a message is one to look at.
    fn admit(&mut self, now: Duration, peer: P, msg: &Message<I>) -> Result<(), Misbehaved<P>> {
        if !self.neighbors.contains_key(&peer) {
            if !self.config.breaks(Mutant::HearStrangers) {
                return Err(Misbehaved::NotANeighbor { peer });
            }
            self.handle_neighbor_up(now, peer);
        }
        match msg {
            Message::IHave { ids } if ids.len() > self.config.ids_per_message => {
                let ids = ids.len();
                Err(Misbehaved::TooManyIds { peer, ids })
            }
            _ => Ok(()),
        }
    }

    /// Hands a message to the driver, to be judged.
    pub(crate) fn deliver(&mut self, message: Delivered<P, I>) {
        self.outputs.push_back(Output::Deliver {
            from: message.from,
            id: message.id.clone(),
            round: message.round,
            body: message.body.clone(),
        });
        self.delivered = Some(message);
    }

    pub(crate) fn send(&mut self, to: P, msg: Message<I>) {
        let stats = &mut self.stats;
        match &msg {
            Message::Gossip { .. } => stats.payload_sent += 1,
            Message::IHave { ids } => {
                stats.ihave_sent += 1;
                stats.ihave_ids_sent += ids.len() as u64;
            }
            Message::Graft { .. } => stats.graft_sent += 1,
            Message::Prune => stats.prune_sent += 1,
        }
        self.outputs.push_back(Output::Send { to, msg });
    }

    pub(crate) fn tell(&mut self, event: Event<P, I>) {
        self.outputs.push_back(Output::Event(event));
    }

    fn debug_check(&self) {
        debug_assert_eq!(self.check(), Ok(()));
    }
}
