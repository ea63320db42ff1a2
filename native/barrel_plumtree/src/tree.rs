// SPDX-License-Identifier: Apache-2.0

//! The tree: messages go along it, and shape it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Mutant;
use crate::message::{Event, Message, Seen};
use crate::missing::Hole;
use crate::passed::Trace;
use crate::plumtree::{Delivered, Plumtree};
use crate::shape::shapes;

impl<P: Copy + Ord + Debug, I: Clone + Ord + Debug + Hash> Plumtree<P, I> {
    pub(crate) fn on_gossip(
        &mut self,
        now: Duration,
        message: Delivered<P, I>,
        seen: &impl Seen<I>,
    ) {
        self.stats.payload_received += 1;
        if let Some(neighbor) = self.neighbors.get_mut(&message.from) {
            neighbor.unanswered = 0;
        }
        if self.passed.contains(&message.id) {
            self.on_duplicate(now, message.from, &message.id);
        } else if seen.seen(&message.id) {
            self.on_fetched(now, message, seen);
        } else {
            self.deliver(message);
        }
    }

    /// A message came by the tree for the first time: its sender is eager, and it goes on.
    pub(crate) fn on_first(&mut self, now: Duration, message: Delivered<P, I>) {
        let Delivered {
            from,
            id,
            round,
            body,
        } = message;
        let hops = round.saturating_add(1);
        let hole = self.missing.fill(&id);
        let late = hole.as_ref().and_then(|hole| hole.late(now));
        let announced = self.learn(now, from, hops, hole.as_ref());
        let trace = Trace { hops, announced };
        self.passed.insert(now, id.clone(), trace);
        self.hold_by(from);
        let (announcers, asked) = hole.map_or((VecDeque::new(), None), |h| (h.announcers, h.asked));
        let holders: Vec<P> = announcers.iter().map(|(p, _)| *p).chain(asked).collect();
        let better = self.better(round, late, &announcers);
        let better = better.filter(|_| self.shapes(now, &id));
        self.spread(now, Some(from), &holders, id, hops, &body);
        if let Some(better) = better {
            self.replace(from, better);
        }
    }

    /// What was seen and did not pass here came by another way, such as anti-entropy, before the
    /// tree brings it. Those below still wait for it, and who brings it is not one too many.
    /// What goes on is what was found valid then, and not more than a few per second, because
    /// it may also be very old.
    fn on_fetched(&mut self, now: Duration, message: Delivered<P, I>, seen: &impl Seen<I>) {
        if self.again.take_up_to(now, 1) == 0 {
            return self.on_duplicate(now, message.from, &message.id);
        }
        match seen.body(&message.id) {
            Some(body) => self.on_first(now, Delivered { body, ..message }),
            None => self.on_unwanted(now, message.id, message.round),
        }
    }

    /// Nothing is missing, and nothing goes on. Further copies are too many.
    pub(crate) fn on_unwanted(&mut self, now: Duration, id: I, round: u16) {
        self.missing.fill(&id);
        let trace = Trace {
            hops: round.saturating_add(1),
            announced: None,
        };
        self.passed.insert(now, id, trace);
    }

    /// A link that brings what is known is one too many. It becomes lazy on both ends: here
    /// at once, there when the neighbour hears of it.
    pub(crate) fn on_duplicate(&mut self, now: Duration, from: P, id: &I) {
        self.stats.duplicates += 1;
        self.learn_from_duplicate(now, id);
        if !self.shapes(now, id) {
            return;
        }
        if !self.config.breaks(Mutant::KeepDuplicateSender) {
            self.set_eager(from, false);
        }
        if !self.config.breaks(Mutant::NoPrune) {
            self.send(from, Message::Prune);
        }
    }

    /// Whether this message may take links out of the tree. T1 is about as long as one is on its way.
    fn shapes(&self, now: Duration, id: &I) -> bool {
        let lately = self.passed.since(now.saturating_sub(self.t1()));
        self.config.breaks(Mutant::AllShape) || shapes(id, lately.saturating_sub(1))
    }

    pub(crate) fn on_prune(&mut self, from: P) {
        self.stats.prune_received += 1;
        self.set_eager(from, false);
    }

    pub(crate) fn on_graft(
        &mut self,
        now: Duration,
        from: P,
        id: Option<I>,
        round: u16,
        seen: &impl Seen<I>,
    ) {
        self.stats.graft_received += 1;
        self.set_eager(from, true);
        let Some(id) = id else { return };
        let Some(body) = seen.body(&id) else {
            self.stats.graft_unknown += 1;
            return;
        };
        let admitted = self
            .neighbors
            .get_mut(&from)
            .is_some_and(|neighbor| neighbor.admit_body(now, body.len()));
        if admitted {
            self.send(from, Message::Gossip { id, round, body });
        } else {
            self.stats.graft_refused += 1;
        }
    }

    /// Sends a message to the eager neighbours and queues its id for the lazy ones. It does not go
    /// back where it came from, and those who announced it get no more than its id,
    /// which tells them how far this end is from the sender.
    pub(crate) fn spread(
        &mut self,
        now: Duration,
        from: Option<P>,
        holders: &[P],
        id: I,
        round: u16,
        body: &Bytes,
    ) {
        let mut whole = Vec::new();
        for (&peer, neighbor) in &mut self.neighbors {
            if Some(peer) == from {
                continue;
            }
            if neighbor.eager && !holders.contains(&peer) {
                whole.push(peer);
            } else {
                neighbor.queue.push((id.clone(), round));
            }
        }
        for to in whole {
            let (id, body) = (id.clone(), body.clone());
            self.send(to, Message::Gossip { id, round, body });
        }
        self.schedule_announcements(now);
    }

    /// Who should have brought a message instead: who announced it by so many rounds fewer, as
    /// in the paper, or so long before it came.
    fn better(
        &self,
        round: u16,
        late: Option<Duration>,
        announcers: &VecDeque<(P, u16)>,
    ) -> Option<(P, u16)> {
        let nearest = announcers.iter().min_by_key(|(_, round)| *round).copied();
        let saves = |at| nearest.filter(|&(_, r)| r < round && round - r >= at);
        let first = announcers.front().copied();
        let limit = self.config.shorten_at.zip(self.rtt());
        let limit = limit.map(|(trips, (mean, _))| mean.saturating_mul(trips));
        let is_long = limit
            .zip(late)
            .is_some_and(|(limit, late)| late >= limit.max(self.config.t1_min));
        let by_round = self.config.optimize_at.and_then(saves);
        by_round.or_else(|| first.filter(|_| is_long))
    }

    /// Replaces a link of the tree by another one.
    fn replace(&mut self, from: P, (peer, round): (P, u16)) {
        if peer == from {
            return;
        }
        self.hold_by(peer);
        self.send(peer, Message::Graft { id: None, round });
        self.set_eager(from, false);
        self.send(from, Message::Prune);
    }

    pub(crate) fn set_eager(&mut self, peer: P, eager: bool) {
        let Some(neighbor) = self.neighbors.get_mut(&peer) else {
            return;
        };
        if neighbor.eager != eager {
            neighbor.eager = eager;
            neighbor.anchor &= eager;
            self.stats.tree_changes += 1;
            self.tell(Event::TreeChanged { peer, eager });
        }
    }

    /// Whether a message needs no fetching.
    pub(crate) fn is_known(&self, id: &I, seen: &impl Seen<I>) -> bool {
        self.passed.contains(id) || seen.seen(id)
    }

    /// Learns how late a message came. Returns when it was announced, if that is to be
    /// learnt from a duplicate: it was asked for, and came because of that.
    fn learn(
        &mut self,
        now: Duration,
        from: P,
        hops: u16,
        hole: Option<&Hole<P>>,
    ) -> Option<Duration> {
        let Some(hole) = hole else {
            self.lag.learn(Duration::ZERO);
            return None;
        };
        for &(_, round) in &hole.announcers {
            self.lag.learn_hops(hops, round);
        }
        if hole.failed > 0 {
            // Too much went wrong to tell.
            return None;
        }
        if hole.asked == Some(from) {
            return Some(hole.since);
        }
        self.lag.learn(now.saturating_sub(hole.since));
        None
    }

    /// It was asked for, and would have come without: T1 was too short.
    fn learn_from_duplicate(&mut self, now: Duration, id: &I) {
        let trace = self.passed.trace_mut(id);
        if let Some(announced) = trace.and_then(|trace| trace.announced.take()) {
            self.lag.learn(now.saturating_sub(announced));
        }
    }
}
