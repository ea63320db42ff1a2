// SPDX-License-Identifier: Apache-2.0

//! The repair: announcements, and asking for what they promise.

use std::fmt::Debug;
use std::hash::Hash;
use std::mem;
use std::time::Duration;

use rand::Rng;

use crate::config::Mutant;
use crate::message::{Event, Message, Seen};
use crate::missing::Noted;
use crate::passed::Trace;
use crate::plumtree::Plumtree;

impl<P: Copy + Ord + Debug, I: Clone + Ord + Debug + Hash> Plumtree<P, I> {
    /// Sends full batches, and sees to it that the others go out in time.
    pub(crate) fn schedule_announcements(&mut self, now: Duration) {
        let mut full = Vec::new();
        let mut waiting = false;
        for (&peer, neighbor) in &mut self.neighbors {
            if neighbor.queue.len() >= self.config.ihave_batch {
                full.push((peer, mem::take(&mut neighbor.queue)));
            }
            waiting |= !neighbor.queue.is_empty();
        }
        for (peer, ids) in full {
            self.send(peer, Message::IHave { ids });
        }
        if !waiting {
            self.announce_at = None;
        } else if self.announce_at.is_none() {
            self.announce_at = Some(now.saturating_add(self.config.ihave_delay));
        }
    }

    pub(crate) fn announce_all(&mut self) {
        self.announce_at = None;
        let queues: Vec<_> = self
            .neighbors
            .iter_mut()
            .filter(|(_, neighbor)| !neighbor.queue.is_empty())
            .map(|(&peer, neighbor)| (peer, mem::take(&mut neighbor.queue)))
            .collect();
        for (peer, ids) in queues {
            self.send(peer, Message::IHave { ids });
        }
    }

    /// What is unknown is waited for, T1 long.
    pub(crate) fn on_ihave(
        &mut self,
        now: Duration,
        from: P,
        ids: Vec<(I, u16)>,
        seen: &impl Seen<I>,
    ) {
        let told = ids.len();
        self.stats.ihave_ids_received += told as u64;
        let Some(neighbor) = self.neighbors.get_mut(&from) else {
            return;
        };
        let admitted = neighbor.admit_ids(now, told);
        let t1 = self.t1();
        let mut dropped = told - admitted;
        for (id, round) in ids.into_iter().take(admitted) {
            if self.note(now, (from, round), id, t1, seen) == Noted::TooMany {
                dropped += 1;
            }
        }
        self.stats.ihave_ids_dropped += dropped as u64;
        if dropped > 0
            && let Some(neighbor) = self.neighbors.get_mut(&from)
            && neighbor.tell_flooding(now)
        {
            self.tell(Event::Flooding { peer: from });
        }
    }

    fn note(
        &mut self,
        now: Duration,
        (from, round): (P, u16),
        id: I,
        t1: Duration,
        seen: &impl Seen<I>,
    ) -> Noted {
        if let Some(trace) = self.passed.trace_mut(&id) {
            self.lag.learn_hops(trace.hops, round);
            return Noted::Yes;
        }
        if seen.seen(&id) {
            return Noted::Yes;
        }
        let wait = if self.config.breaks(Mutant::ImmediateGraft) {
            Duration::ZERO
        } else if seen.is_urgent(&id) {
            self.jitter(self.urgent_t1(t1))
        } else {
            self.jitter(t1)
        };
        let due = now.saturating_add(wait);
        let limit = self.config.outstanding;
        self.missing.announce(now, (from, round), id, due, limit)
    }

    /// A hole is due: asks the next that announced it. When all have failed, it is
    /// forgotten, so that a later announcement starts anew.
    pub(crate) fn seek(&mut self, now: Duration, id: I, seen: &impl Seen<I>) {
        if self.is_known(&id, seen) {
            self.missing.fill(&id);
            return;
        }
        if let Some(peer) = self.missing.give_up(&id) {
            self.on_unanswered(peer);
        }
        let Some(peer) = self.next_to_ask(&id) else {
            self.give_up(now, id);
            return;
        };
        let t2 = self.neighbors.get(&peer).map(|n| n.t2(&self.config));
        let until = now.saturating_add(t2.unwrap_or(self.config.t2_unknown));
        if self.missing.asked_of(peer) >= self.config.asked_at_once.max(1) {
            self.missing.postpone(&id, until);
        } else if let Some((peer, round)) = self.missing.ask(&id, until) {
            self.set_eager(peer, true);
            let id = Some(id);
            self.send(peer, Message::Graft { id, round });
        }
    }

    /// T1 for what is urgent: two round trips, in which the tree would bring it if its way were as
    /// short as the announcement's.
    fn urgent_t1(&self, t1: Duration) -> Duration {
        let trips = self.rtt().map(|(_, longest)| longest * 2);
        trips.map_or(t1, |trips| trips.max(self.config.t1_min).min(t1))
    }

    /// T1, from what was learnt and the round trips that are known.
    pub(crate) fn t1(&self) -> Duration {
        self.lag.t1(&self.config, self.rtt())
    }

    /// The mean and the longest round trip to the neighbours, of those that are known.
    pub(crate) fn rtt(&self) -> Option<(Duration, Duration)> {
        let known = || self.neighbors.values().filter_map(|n| n.rtt);
        let longest = known().max()?;
        let sum = known().fold(Duration::ZERO, Duration::saturating_add);
        let count = u32::try_from(known().count()).unwrap_or(u32::MAX).max(1);
        Some((sum / count, longest))
    }

    fn next_to_ask(&self, id: &I) -> Option<P> {
        let hole = self.missing.hole(id)?;
        if hole.failed > 0 && self.config.breaks(Mutant::AskOnce) {
            return None;
        }
        hole.announcers.front().map(|(peer, _)| *peer)
    }

    fn give_up(&mut self, now: Duration, id: I) {
        let asked = self.missing.fill(&id).map_or(0, |hole| hole.failed);
        self.stats.lost += 1;
        if self.config.breaks(Mutant::KeepLost) {
            let trace = Trace {
                hops: 0,
                announced: None,
            };
            self.passed.insert(now, id.clone(), trace);
        }
        self.tell(Event::Lost { id, asked });
    }

    fn on_unanswered(&mut self, peer: P) {
        self.stats.graft_unanswered += 1;
        let Some(neighbor) = self.neighbors.get_mut(&peer) else {
            return;
        };
        neighbor.unanswered = neighbor.unanswered.saturating_add(1);
        if neighbor.unanswered == self.config.lagging_after {
            self.tell(Event::Lagging { peer });
        }
    }

    /// Up to a quarter more.
    fn jitter(&mut self, t1: Duration) -> Duration {
        let part = self.rng.next_u32() >> 16;
        t1.saturating_add(t1 / 4 * part / (1 << 16))
    }
}
