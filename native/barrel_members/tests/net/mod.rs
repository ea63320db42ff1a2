// SPDX-License-Identifier: Apache-2.0

//! A network of members in virtual time, small enough to be read.
//!
//! A broadcast is a delay to each node. Neighbours are fixed pairs that link anew
//! every two seconds where both ends are there. A dial tries five times, once a
//! second. Loss makes broadcasts late or drops them, and tries fail.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use barrel_members::{
    Card, Claim, Config, DownReason, Event, Members, Message, Output, Refused, Status,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) type Id = u32;

const RELINK: Duration = Duration::from_secs(2);
const TRIES: u32 = 5;

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

enum What {
    Wake,
    Claim {
        from: Id,
        claim: Claim<Id>,
    },
    Message {
        from: Id,
        msg: Message<Id>,
    },
    Record {
        member: Id,
        card: Arc<Card>,
    },
    Try {
        to: Id,
        tries: u32,
        msg: Option<Message<Id>>,
    },
    Lost {
        peer: Id,
    },
    Closes {
        peer: Id,
        link: u64,
    },
    Silence {
        peer: Id,
        link: u64,
        since: Duration,
    },
    Exchange,
}

pub(crate) struct Peer {
    pub(crate) members: Members<Id>,
    pub(crate) up: bool,
    pub(crate) frozen_until: Duration,
    frozen_since: Duration,
    pub(crate) island: u8,
    pub(crate) incarnation: u64,
    card: Arc<Card>,
    wake_at: Option<Duration>,
    /// Whom it told its subscribers to be up, and whom it told the stores to hide.
    pub(crate) shown: Vec<bool>,
    pub(crate) hidden: Vec<bool>,
    pub(crate) bumps: u32,
}

pub(crate) struct Down {
    pub(crate) at: Duration,
    pub(crate) by: Id,
    pub(crate) member: Id,
    pub(crate) reason: DownReason,
}

pub(crate) struct Net {
    pub(crate) now: Duration,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rng: ChaCha8Rng,
    /// In a thousand.
    pub(crate) loss: u32,
    /// Exchanges carry records, too.
    pub(crate) records: bool,
    pub(crate) downs: Vec<Down>,
    pub(crate) broadcasts: u64,
    pub(crate) config: Config,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: barrel_members::Mutant,
    neighbours: BTreeSet<(Id, Id)>,
    links: BTreeMap<(Id, Id), u64>,
    queue: BTreeMap<(Duration, u64), (Id, What)>,
    count: u64,
    relink_at: Duration,
}

fn pair(a: Id, b: Id) -> (Id, Id) {
    (a.min(b), a.max(b))
}

fn card(id: Id, incarnation: u64, seq: u64, config: &Config) -> Arc<Card> {
    Arc::new(Card {
        name: format!("n{id}").into(),
        incarnation,
        seq,
        ttl: config.record_ttl,
        pinned: false,
    })
}

impl Net {
    /// Nodes that know each other, with these pairs of neighbours.
    pub(crate) fn new(
        nodes: u32,
        neighbours: BTreeSet<(Id, Id)>,
        config: Config,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let cards: Vec<_> = (0..nodes).map(|id| card(id, 1, 1, &config)).collect();
        let mut first = Members::new(0, "n0", 1, config.clone(), seed);
        for (id, card) in (0..).zip(&cards) {
            assert_eq!(
                first.handle_record(Duration::ZERO, id, card.clone()),
                Ok(())
            );
        }
        let newborn = |(id, card): (Id, Arc<Card>)| Peer {
            members: Members::with_directory(
                id,
                card.name.clone(),
                1,
                config.clone(),
                rng.random(),
                first.directory(),
            ),
            up: true,
            frozen_until: Duration::ZERO,
            frozen_since: Duration::ZERO,
            island: 0,
            incarnation: 1,
            card,
            wake_at: None,
            shown: vec![true; nodes as usize],
            hidden: vec![false; nodes as usize],
            bumps: 0,
        };
        let peers: Vec<Peer> = (0..).zip(cards).map(newborn).collect();
        let mut net = Self {
            now: Duration::ZERO,
            peers,
            rng,
            loss: 0,
            records: true,
            downs: Vec::new(),
            broadcasts: 0,
            config,
            #[cfg(feature = "mutants")]
            mutant: barrel_members::Mutant::None,
            neighbours,
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            count: 0,
            relink_at: Duration::ZERO,
        };
        for id in 0..nodes {
            net.exchange_later(id);
            net.settle(id);
        }
        net.relink();
        net
    }

    pub(crate) fn peer(&mut self, id: Id) -> &mut Peer {
        &mut self.peers[id as usize]
    }

    fn at(&self, id: Id) -> &Peer {
        &self.peers[id as usize]
    }

    pub(crate) fn ids(&self) -> std::ops::Range<Id> {
        0..self.peers.len() as Id
    }

    pub(crate) fn responds(&self, id: Id) -> bool {
        self.at(id).up && self.now >= self.at(id).frozen_until
    }

    fn reaches(&self, a: Id, b: Id) -> bool {
        self.responds(a) && self.responds(b) && self.at(a).island == self.at(b).island
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        millis(self.rng.random_range(from..to))
    }

    pub(crate) fn neighbours_of(&self, id: Id) -> Vec<Id> {
        let pairs = self.neighbours.iter();
        let mine = pairs.filter(|&&(a, b)| a == id || b == id);
        mine.map(|&(a, b)| if a == id { b } else { a }).collect()
    }

    fn links_of(&self, id: Id) -> Vec<(Id, u64)> {
        let links = self.links.iter();
        let mine = links.filter(|&(&(a, b), _)| a == id || b == id);
        mine.map(|(&(a, b), &link)| (if a == id { b } else { a }, link))
            .collect()
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn break_rule(&mut self, mutant: barrel_members::Mutant) {
        self.mutant = mutant;
        for peer in &mut self.peers {
            peer.members.break_rule(mutant);
        }
    }

    // What happens to nodes.

    /// The process of the node ends without a word.
    pub(crate) fn crash(&mut self, id: Id) {
        self.peer(id).up = false;
        self.silence(id);
    }

    /// The node starts again and forgets everything but its incarnation, or that, too.
    pub(crate) fn restart(&mut self, id: Id, remembers: bool) {
        for (peer, _) in self.links_of(id) {
            self.links.remove(&pair(id, peer));
            if self.at(peer).up {
                self.push(Duration::ZERO, peer, What::Lost { peer: id });
            }
        }
        #[cfg(feature = "mutants")]
        let mutant = self.mutant;
        let incarnation = if remembers {
            self.at(id).incarnation + 1
        } else {
            1
        };
        let (config, seed) = (self.config.clone(), self.rng.random());
        let name = self.at(id).card.name.clone();
        let peer = self.peer(id);
        peer.members = Members::new(id, name, incarnation, config.clone(), seed);
        #[cfg(feature = "mutants")]
        peer.members.break_rule(mutant);
        peer.up = true;
        peer.frozen_until = Duration::ZERO;
        peer.incarnation = incarnation;
        peer.wake_at = None;
        peer.shown.fill(false);
        peer.hidden.fill(false);
        self.publish(id, card(id, incarnation, 1, &config));
        self.push(millis(500), id, What::Exchange);
        self.settle(id);
    }

    pub(crate) fn freeze(&mut self, id: Id, time: Duration) {
        let now = self.now;
        let peer = self.peer(id);
        if now >= peer.frozen_until {
            peer.frozen_since = now;
        }
        peer.frozen_until = peer.frozen_until.max(now + time);
        self.silence(id);
    }

    /// Only nodes of one island reach each other.
    pub(crate) fn part(&mut self, id: Id, island: u8) {
        if self.at(id).island != island {
            self.peer(id).island = island;
            self.silence(id);
        }
    }

    pub(crate) fn leave(&mut self, id: Id) {
        let now = self.now;
        self.peer(id).members.leave(now);
        self.settle(id);
        for (peer, _) in self.links_of(id) {
            self.unlink(id, peer, false);
        }
        self.peer(id).up = false;
    }

    /// Comes back in the same process.
    pub(crate) fn rejoin(&mut self, id: Id) {
        let now = self.now;
        self.peer(id).up = true;
        self.peer(id).wake_at = None;
        self.peer(id).members.rejoin(now);
        self.push(millis(500), id, What::Exchange);
        self.settle(id);
    }

    /// A link fails although both ends are there.
    pub(crate) fn break_link(&mut self, id: Id) {
        if let Some(&(peer, _)) = self.links_of(id).first() {
            self.unlink(id, peer, true);
        }
    }

    pub(crate) fn break_one_of_all_links(&mut self) {
        let at = self.rng.random_range(0..self.links.len() as u32) as usize;
        if let Some((&(a, b), _)) = self.links.iter().nth(at) {
            self.unlink(a, b, true);
        }
    }

    /// A claim that `from` has made up reaches everybody it can reach.
    pub(crate) fn lie(&mut self, from: Id, claim: Claim<Id>) {
        self.broadcast(from, claim);
    }

    // The machinery.

    fn push(&mut self, after: Duration, to: Id, what: What) {
        self.count += 1;
        self.queue
            .insert((self.now + after, self.count), (to, what));
    }

    fn silence(&mut self, id: Id) {
        let since = self.now;
        for (peer, link) in self.links_of(id) {
            let what = What::Silence { peer, link, since };
            self.push(self.config.link_timeout, id, what);
        }
    }

    fn link(&mut self, a: Id, b: Id) {
        if self.links.contains_key(&pair(a, b)) {
            return;
        }
        self.count += 1;
        self.links.insert(pair(a, b), self.count);
        let now = self.now;
        for (id, other) in [(a, b), (b, a)] {
            self.peer(id).members.handle_link_up(now, other);
            self.settle(id);
        }
    }

    fn unlink(&mut self, a: Id, b: Id, failed: bool) {
        if self.links.remove(&pair(a, b)).is_none() {
            return;
        }
        let now = self.now;
        for (id, other) in [(a, b), (b, a)] {
            if self.responds(id) {
                self.peer(id).members.handle_link_lost(now, other, failed);
                self.settle(id);
            } else if self.at(id).up {
                self.push(Duration::ZERO, id, What::Lost { peer: other });
            }
        }
    }

    fn relink(&mut self) {
        self.relink_at = self.now + RELINK;
        for (a, b) in self.neighbours.clone() {
            if self.reaches(a, b) {
                self.link(a, b);
            }
        }
    }

    fn exchange_later(&mut self, id: Id) {
        let after = self.between(10_000, 20_000);
        self.push(after, id, What::Exchange);
    }

    fn publish(&mut self, id: Id, card: Arc<Card>) {
        self.peer(id).card = card.clone();
        let now = self.now;
        let _known = self.peer(id).members.handle_record(now, id, card.clone());
        for to in self.ids().filter(|&to| to != id) {
            let after = self.between(20, 300);
            let card = card.clone();
            self.push(after, to, What::Record { member: id, card });
        }
    }

    fn broadcast(&mut self, from: Id, claim: Claim<Id>) {
        self.broadcasts += 1;
        if self.links_of(from).is_empty() {
            return;
        }
        for to in self.ids().filter(|&to| to != from) {
            let mut after = self.between(20, 300);
            if self.rng.random_range(0..1_000) < self.loss {
                // The tree repairs itself, or the exchange does it.
                if self.rng.random_range(0..1_000) < self.loss {
                    continue;
                }
                after += millis(1_000);
            }
            self.push(after, to, What::Claim { from, claim });
        }
    }

    /// Does what the node wants done.
    pub(crate) fn settle(&mut self, id: Id) {
        while let Some(output) = self.peer(id).members.poll_output() {
            match output {
                Output::Broadcast(claim) => self.broadcast(id, claim),
                Output::Send { to, msg } => self.attempt(id, to, Some(msg)),
                Output::Probe(to) => self.attempt(id, to, None),
                Output::Hide(member) => {
                    self.peer(id).hidden[member as usize] = true;
                }
                Output::Show(member) => {
                    self.peer(id).hidden[member as usize] = false;
                }
                Output::Depart { member, .. } => {
                    self.peer(id).hidden[member as usize] = false;
                }
                Output::Forget(member) => panic!("there was a place for {member}"),
                Output::Refresh => {
                    let (incarnation, seq) = (self.at(id).incarnation, self.at(id).card.seq);
                    let card = card(id, incarnation, seq + 1, &self.config);
                    self.publish(id, card);
                }
                Output::Bump { incarnation } => {
                    self.peer(id).incarnation = incarnation;
                    self.peer(id).bumps += 1;
                    let card = card(id, incarnation, 1, &self.config);
                    self.publish(id, card);
                }
                Output::Event(event) => self.event(id, event),
            }
        }
        let wake = self.at(id).members.poll_timeout();
        if wake != self.at(id).wake_at && self.at(id).up {
            self.peer(id).wake_at = wake;
            if let Some(at) = wake {
                self.push(at.saturating_sub(self.now), id, What::Wake);
            }
        }
    }

    /// Each is told once.
    fn event(&mut self, id: Id, event: Event<Id>) {
        match event {
            Event::NodeUp { member, .. } => {
                let shown = &mut self.peer(id).shown[member as usize];
                assert!(
                    !std::mem::replace(shown, true),
                    "{id} hears twice that {member} is up"
                );
            }
            Event::NodeDown { member, reason, .. } => {
                let shown = &mut self.peer(id).shown[member as usize];
                assert!(
                    std::mem::replace(shown, false),
                    "{id} hears twice that {member} is down"
                );
                self.downs.push(Down {
                    at: self.now,
                    by: id,
                    member,
                    reason,
                });
            }
            _ => {}
        }
    }

    fn attempt(&mut self, from: Id, to: Id, msg: Option<Message<Id>>) {
        let tries = 0;
        self.push(millis(30), from, What::Try { to, tries, msg });
    }

    fn on_try(&mut self, from: Id, to: Id, tries: u32, msg: Option<Message<Id>>) {
        let now = self.now;
        let linked = self.links.contains_key(&pair(from, to));
        let lost = self.rng.random_range(0..1_000) < 2 * self.loss;
        if !linked && self.reaches(from, to) && !lost {
            self.link(from, to);
            if !self.neighbours.contains(&pair(from, to)) {
                let link = self.links[&pair(from, to)];
                self.push(millis(1_500), from, What::Closes { peer: to, link });
            }
        }
        if self.links.contains_key(&pair(from, to)) {
            if linked && msg.is_none() {
                self.peer(from).members.handle_link_up(now, to);
            }
            if let Some(msg) = msg {
                // A link swallows nothing, but what is on it when it fails is gone.
                self.push(millis(30), to, What::Message { from, msg });
            }
        } else if tries + 1 < TRIES {
            let tries = tries + 1;
            self.push(millis(1_000), from, What::Try { to, tries, msg });
        } else {
            self.peer(from).members.handle_dial_failed(now, to);
        }
    }

    fn exchange(&mut self, id: Id) {
        self.exchange_later(id);
        let others: Vec<Id> = self
            .ids()
            .filter(|&to| to != id && self.reaches(id, to))
            .collect();
        if others.is_empty() {
            return;
        }
        let with = others[self.rng.random_range(0..others.len() as u32) as usize];
        for (from, to) in [(id, with), (with, id)] {
            if self.records {
                self.hand_records(from, to);
            }
            if self.at(from).members.digest() != self.at(to).members.digest() {
                let claims: Vec<_> = self.at(from).members.exceptions().collect();
                for claim in claims {
                    self.on_claim(to, from, claim);
                }
            }
            self.settle(to);
        }
    }

    fn hand_records(&mut self, from: Id, to: Id) {
        let now = self.now;
        let cards: Vec<_> = self
            .at(from)
            .members
            .iter()
            .map(|(m, c)| (m, c.clone()))
            .collect();
        for (member, card) in cards {
            self.on_record(now, to, member, card);
        }
    }

    fn on_record(&mut self, now: Duration, to: Id, member: Id, card: Arc<Card>) {
        match self.peer(to).members.handle_record(now, member, card) {
            Ok(()) | Err(Refused::Stale | Refused::Departed | Refused::Clash) => {}
            Err(other) => panic!("{to} refuses {member}: {other:?}"),
        }
    }

    fn on_claim(&mut self, to: Id, from: Id, claim: Claim<Id>) {
        let now = self.now;
        let heard = self.peer(to).members.handle_claim(now, from, claim);
        assert!(
            !heard.is_new() || self.at(to).members.covers(&claim),
            "what was new is known now"
        );
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let next = next.unwrap_or(end).min(self.relink_at).min(end);
            self.now = next;
            if next == self.relink_at {
                self.relink();
            }
            match self.queue.first_entry() {
                Some(entry) if entry.key().0 <= next => {
                    let (to, what) = entry.remove();
                    self.step(to, what);
                }
                _ if next == end => return,
                _ => {}
            }
        }
    }

    fn step(&mut self, to: Id, what: What) {
        let now = self.now;
        if let What::Silence { peer, link, since } = what {
            return self.on_silence(to, peer, link, since);
        }
        if !self.at(to).up {
            match what {
                What::Exchange => self.exchange_later(to),
                // Who has left still sees its links go.
                What::Lost { peer } => self.peer(to).members.handle_link_lost(now, peer, true),
                _ => {}
            }
            return;
        }
        if now < self.at(to).frozen_until {
            let thaws = self.at(to).frozen_until - now;
            return self.push(thaws, to, what);
        }
        let same = |net: &Self, from: Id| net.at(from).island == net.at(to).island;
        match what {
            What::Wake if self.at(to).wake_at.is_some_and(|at| at <= now) => {
                self.peer(to).wake_at = None;
                self.peer(to).members.handle_timeout(now);
            }
            What::Claim { from, claim } if same(self, from) => self.on_claim(to, from, claim),
            What::Message { from, msg } if same(self, from) => {
                let result = self.peer(to).members.handle_message(now, from, msg);
                assert_eq!(result, Ok(()), "nobody misbehaves here");
            }
            What::Record { member, card } if same(self, member) => {
                self.on_record(now, to, member, card);
            }
            What::Try {
                to: whom,
                tries,
                msg,
            } => self.on_try(to, whom, tries, msg),
            What::Lost { peer } if !self.links.contains_key(&pair(to, peer)) => {
                self.peer(to).members.handle_link_lost(now, peer, true);
            }
            What::Closes { peer, link } => {
                let same = self.links.get(&pair(to, peer)) == Some(&link);
                if same && self.reaches(to, peer) {
                    self.unlink(to, peer, false);
                }
            }
            What::Exchange => self.exchange(to),
            _ => {}
        }
        self.settle(to);
    }

    /// The link has been silent for its timeout, if nothing has changed since.
    fn on_silence(&mut self, a: Id, b: Id, link: u64, since: Duration) {
        let still = |net: &Self, id: Id| {
            let peer = net.at(id);
            !peer.up || net.now < peer.frozen_until && peer.frozen_since <= since
        };
        let parted = self.at(a).island != self.at(b).island;
        if self.links.get(&pair(a, b)) == Some(&link)
            && (parted || still(self, a) || still(self, b))
        {
            self.unlink(a, b, true);
        }
    }

    fn all_know(&self, member: Id) -> bool {
        let mut there = self.ids().filter(|&id| self.at(id).up);
        there.all(|id| self.at(id).members.state(member).is_some())
    }

    /// Whether all that are there agree, and on the truth.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let there = self.ids().filter(|&id| self.at(id).up);
        for id in there {
            let peer = self.at(id);
            for other in self.ids().filter(|&other| other != id) {
                let state = peer.members.state(other);
                let truth = self.at(other);
                let left = truth.members.has_left();
                let good = match state {
                    None => left || !truth.up,
                    // Nobody that is there has heard the goodbye.
                    Some(state) if left => {
                        state.status == Status::Unreachable && self.all_know(other)
                    }
                    Some(state) if truth.up => {
                        state.status == Status::Alive
                            && state.incarnation == truth.incarnation
                            && state.beat == truth.members.beat()
                    }
                    Some(state) => state.status == Status::Unreachable,
                };
                let up = state.is_some_and(|state| state.status < Status::Unreachable);
                let hidden = state.is_some_and(|state| state.status == Status::Unreachable);
                let told = peer.shown[other as usize] == up;
                if !good || !told || peer.hidden[other as usize] != hidden {
                    return Some(format!("{id} of {other}: {state:?}, told {told}"));
                }
            }
        }
        None
    }

    /// Runs until all agree, at most so long. What they disagree on, if they do.
    pub(crate) fn converge(&mut self, within: Duration) -> Option<String> {
        let end = self.now + within;
        while self.now < end && self.disagreement().is_some() {
            self.run(millis(5_000));
        }
        self.disagreement()
    }
}
