// SPDX-License-Identifier: Apache-2.0

//! When stores are compared, with whom, and what is said then. The conversation is
//! drawn in [`crate::sync`].

use std::time::Duration;

use barrel_members::{Heard, MAX_BEAT};
use barrel_ormap::Summary;
use bytes::Bytes;
use rand::RngExt;
use rand::seq::IteratorRandom;

use crate::event::Misdeed;
use crate::node::Node;
use crate::pump::{claim_id, piece_id};
use crate::queue::Class;
use crate::stores::{Piece, Refused};
use crate::sync::{MAX_CLAIMS, MAX_SUMMARIES, SyncMessage, portions};
use crate::topic::Topic;
use crate::wire::{self, Frame};
use crate::{NodeId, Now};

/// A hole in a log that no announcement fills is looked after so much later. Longer than
/// the tree's own repair, whose first timer is at most a second.
const MEND_AFTER: Duration = Duration::from_secs(2);

/// One comparison in so many goes to any member, the others to a neighbour: so parts of
/// the cluster that are far apart in the overlay do not wait for many hops.
const ANYBODY: u32 = 4;

impl Node {
    /// Compares all stores with a new neighbour. One end begins, the one with the smaller
    /// id, as the conversation serves both.
    pub(crate) fn compare_with_neighbor(&mut self, now: Now, peer: NodeId) {
        if self.id() < peer {
            self.compare_all(now, peer);
        }
    }

    /// Looks soon after something that is missing.
    pub(crate) fn mend_soon(&mut self, now: Now) {
        let jitter = Duration::from_millis(self.rng.random_range(0..200));
        self.mend_by(now.mono + jitter);
    }

    /// Looks after a hole, should nobody fill it.
    pub(crate) fn mend_later(&mut self, now: Now) {
        let wait = MEND_AFTER.saturating_mul(1 << self.mends.min(8));
        self.mend_by(now.mono + wait.min(self.config.compare_period.max(MEND_AFTER)));
    }

    fn mend_by(&mut self, at: Duration) {
        self.mend_at = Some(self.mend_at.map_or(at, |known| known.min(at)));
    }

    pub(crate) fn compare_when_due(&mut self, now: Now) {
        for peer in self.links.caught_up() {
            self.compare_all(now, peer);
        }
        if self.compare_at <= now.mono {
            self.compare_at = self.next_comparison(now.mono);
            self.rounds.expire(now.mono);
            if let Some(peer) = self.partner() {
                self.compare_all(now, peer);
            }
            for map in self.stores.maps.keys().copied().collect::<Vec<_>>() {
                if let Some(host) = self
                    .stores
                    .hosts
                    .partner(map, self.record.id(), &mut self.rng)
                {
                    self.compare(now, host, map);
                }
            }
        }
        if self.mend_at.is_some_and(|at| at <= now.mono) {
            self.mend_at = None;
            if let Some(peer) = self.overlay.active().choose(&mut self.rng) {
                self.compare_all(now, peer);
            }
            if self.stores.has_holes() {
                // one that nobody can fill is looked after less and less often
                self.mends = self.mends.saturating_add(1);
                self.mend_later(now);
            } else {
                self.mends = 0;
            }
        }
    }

    pub(crate) fn next_comparison(&mut self, now: Duration) -> Duration {
        now + self.config.compare_period * self.rng.random_range(75..=125) / 100
    }

    fn partner(&mut self) -> Option<NodeId> {
        if self.rng.random_range(0..ANYBODY) == 0 {
            let others = self
                .members
                .iter()
                .map(|(id, _)| id)
                .filter(|id| *id != self.record.id());
            if let Some(anybody) = others.choose(&mut self.rng) {
                return Some(anybody);
            }
        }
        self.overlay.active().choose(&mut self.rng)
    }

    fn compare_all(&mut self, now: Now, peer: NodeId) {
        for topic in self.stores.topics() {
            self.compare(now, peer, topic);
        }
    }

    pub(crate) fn compare(&mut self, now: Now, peer: NodeId, topic: Topic) {
        if let Some(root) = self.root(topic)
            && self.rounds.begin(now.mono, peer, topic)
        {
            self.say(now, peer, SyncMessage::Root { topic, root });
        }
    }

    fn root(&self, topic: Topic) -> Option<u128> {
        if topic == Topic::CLAIMS {
            Some(self.members.digest())
        } else {
            self.stores.root(topic)
        }
    }

    pub(crate) fn on_sync(&mut self, now: Now, peer: NodeId, msg: SyncMessage) {
        match msg {
            SyncMessage::Root { topic, root } => self.on_root(now, peer, topic, root),
            SyncMessage::Equal { topic } => {
                self.rounds.end(peer, topic);
                self.stores.agree(topic, peer);
                self.settle(topic);
            }
            SyncMessage::Buckets { topic, buckets } => {
                if self.rounds.goes_on(now.mono, peer, topic) {
                    let differing = self.stores.differing(topic, &buckets);
                    if topic.is_map() {
                        self.rounds.keep_buckets(peer, topic, buckets);
                    }
                    self.say_summaries(now, peer, topic, false, &differing);
                }
            }
            SyncMessage::Summaries {
                topic,
                answer,
                last,
                buckets,
                summaries,
            } => {
                if answer {
                    self.rounds.keep_summaries(peer, topic, &summaries);
                }
                self.on_summaries(now, peer, topic, &summaries, answer && last);
                if !answer && !buckets.is_empty() {
                    self.say_summaries(now, peer, topic, true, &buckets);
                }
            }
            SyncMessage::Wants { topic, wants } => {
                if self.stores.root(topic).is_some() {
                    self.rounds.serve(peer, topic, wants);
                    if let Some(link) = self.links.ring(peer) {
                        self.outputs.push_back(crate::event::Output::Ready(link));
                    }
                }
            }
            SyncMessage::Chunk { topic, piece } => self.on_chunk(now, peer, topic, piece),
            SyncMessage::Done { topic } => {
                if self.rounds.end(peer, topic) {
                    self.compare(now, peer, topic);
                } else {
                    self.settle(topic);
                }
            }
            SyncMessage::Claims { answer, claims } => self.on_claims(now, peer, answer, claims),
        }
    }

    /// A store agrees with somebody's. From the first time on, what a comparison brings
    /// is news for the neighbours too, and not what everybody else has had for long.
    fn settle(&mut self, topic: Topic) {
        let first = if self.config.directory {
            Topic::DIRECTORY
        } else {
            Topic::REGISTRY
        };
        self.settled |= topic == first;
        self.on_map_agreed(topic);
    }

    fn on_root(&mut self, now: Now, peer: NodeId, topic: Topic, theirs: u128) {
        match self.root(topic) {
            // of a store that is not kept here there is nothing to compare
            None => self.say(now, peer, SyncMessage::Equal { topic }),
            Some(ours) if ours == theirs => {
                self.stores.agree(topic, peer);
                self.settle(topic);
                self.say(now, peer, SyncMessage::Equal { topic });
            }
            Some(_) if topic == Topic::CLAIMS => self.say_claims(now, peer, false),
            Some(_) => {
                if let Some(buckets) = self.stores.buckets(topic) {
                    self.say(now, peer, SyncMessage::Buckets { topic, buckets });
                }
            }
        }
    }

    fn on_summaries(
        &mut self,
        now: Now,
        peer: NodeId,
        topic: Topic,
        theirs: &[Summary],
        last: bool,
    ) {
        let mut wants = self.stores.wants(topic, peer, theirs);
        while let Some(want) = self.stores.poll_doubt(topic) {
            let origin = want.origin;
            self.rounds.wants(now.mono, origin, topic);
            self.say(
                now,
                origin,
                SyncMessage::Wants {
                    topic,
                    wants: vec![want],
                },
            );
            if let Some(up) = self.links.up_mut(origin) {
                up.asked = true;
            }
        }
        let nothing_wanted = wants.is_empty() && !self.rounds.is_wanting(peer, topic);
        if last && nothing_wanted {
            let told = self.rounds.told(peer, topic);
            wants = told.map_or_else(Vec::new, |told| self.stores.repairs(topic, peer, &told));
            if wants.is_empty() {
                self.rounds.end(peer, topic);
            }
        }
        if wants.is_empty() {
            return;
        }
        self.rounds.wants(now.mono, peer, topic);
        if let Some(up) = self.links.up_mut(peer) {
            up.asked = true;
        }
        for wants in portions(wants) {
            self.say(now, peer, SyncMessage::Wants { topic, wants });
        }
    }

    fn on_chunk(&mut self, now: Now, peer: NodeId, topic: Topic, piece: Piece) {
        if !self.rounds.is_wanting(peer, topic) {
            // of a round that took too long, unless there never was one
            if self.links.up(peer).is_some_and(|up| !up.asked) {
                self.accuse(now, peer, Misdeed::Unasked);
            }
            return;
        }
        let id = piece_id(topic, &piece);
        match self.take(now, peer, topic, piece) {
            Ok(news) => {
                self.rounds.on_chunk(now.mono, peer, topic, news);
                if let Some(id) = id.filter(|_| news && self.settled) {
                    self.tree.announce(now.mono, id, peer);
                }
            }
            Err(Refused::Forged) => self.accuse(now, peer, Misdeed::Forged),
            Err(Refused::Store) => self.accuse(now, peer, Misdeed::Store),
            Err(Refused::NotNow) => {}
        }
    }

    fn on_claims(
        &mut self,
        now: Now,
        peer: NodeId,
        answer: bool,
        claims: Vec<barrel_members::Claim<NodeId>>,
    ) {
        for claim in claims {
            match self.members.handle_claim(now.mono, peer, claim) {
                Heard::New => self.tree.announce(now.mono, claim_id(&claim), peer),
                Heard::Refused if claim.beat > MAX_BEAT => {
                    self.accuse(now, peer, Misdeed::Claims);
                    return;
                }
                Heard::Refused => self.on_refused_claim(now, peer),
                Heard::Known | Heard::Unwanted => {}
            }
        }
        self.rounds.end(peer, Topic::CLAIMS);
        if !answer {
            self.say_claims(now, peer, true);
        }
    }

    fn say_claims(&mut self, now: Now, peer: NodeId, answer: bool) {
        let claims: Vec<_> = self.members.exceptions().collect();
        if claims.is_empty() && !answer {
            self.say(now, peer, SyncMessage::Claims { answer, claims });
            return;
        }
        for (at, portion) in claims.chunks(MAX_CLAIMS).enumerate() {
            // only the first asks for an answer
            let answer = answer || at > 0;
            self.say(
                now,
                peer,
                SyncMessage::Claims {
                    answer,
                    claims: portion.to_vec(),
                },
            );
        }
    }

    fn say_summaries(
        &mut self,
        now: Now,
        peer: NodeId,
        topic: Topic,
        answer: bool,
        buckets: &[u8],
    ) {
        let summaries = self.stores.summaries(topic, buckets);
        let count = summaries.len().div_ceil(MAX_SUMMARIES).max(1);
        for at in 0..count {
            let from = at * MAX_SUMMARIES;
            let until = summaries.len().min(from + MAX_SUMMARIES);
            // only the first asks for an answer, about all of them
            let buckets = if at == 0 && !answer {
                buckets.to_vec()
            } else {
                Vec::new()
            };
            let summaries = summaries[from..until].to_vec();
            let last = at + 1 == count;
            self.say(
                now,
                peer,
                SyncMessage::Summaries {
                    topic,
                    answer,
                    last,
                    buckets,
                    summaries,
                },
            );
        }
    }

    fn say(&mut self, now: Now, peer: NodeId, msg: SyncMessage) {
        self.send(now, peer, Class::Repair, &Frame::Sync(msg));
    }

    /// The next chunk of what a peer asked for, made when its link can take it.
    pub(crate) fn next_chunk(&mut self, peer: NodeId) -> Option<Bytes> {
        while let Some((topic, want)) = self.rounds.served(peer) {
            if let Some(piece) = self.stores.answer(topic, want) {
                return Some(wire::encode(&Frame::Sync(SyncMessage::Chunk {
                    topic,
                    piece,
                })));
            }
            if let Some(topic) = self.rounds.served_one(peer) {
                return Some(wire::encode(&Frame::Sync(SyncMessage::Done { topic })));
            }
        }
        None
    }
}
