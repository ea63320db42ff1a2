// SPDX-License-Identifier: Apache-2.0

//! A network of many nodes in one thread and in virtual time: links of a fixed
//! latency between neighbours that a random graph says. One seed, one course.

#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    unused_imports,
    reason = "several targets use parts of this"
)]

mod graph;
mod report;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use barrel_plumtree::{Config, Event, Message, Output, Plumtree, Seen, Verdict};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use report::{Report, Summary};

/// A node, by number.
pub type Peer = usize;
/// A message: its place in [`Network::reports`].
pub type Id = usize;

/// Active views of HyParView hold five, so each node has five neighbours.
pub const DEGREE: usize = 5;

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How long a link takes, each way.
#[derive(Clone, Copy, Debug)]
pub enum Latency {
    /// 10 ms each.
    Unit,
    /// 10 to 100 ms, drawn for each link.
    Wan,
}

/// What happens to a message that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It does not come, and nobody is told.
    Silent,
    /// Its link fails, with all that is on it, and is replaced by a new one.
    Reset,
}

/// What a node has taken in.
#[derive(Clone, Default)]
pub struct Store {
    seen: BTreeSet<Id>,
}

impl Seen<Id> for Store {
    fn seen(&self, id: &Id) -> bool {
        self.seen.contains(id)
    }

    fn body(&self, id: &Id) -> Option<Bytes> {
        self.seen.contains(id).then(body)
    }
}

fn body() -> Bytes {
    Bytes::from_static(b"a message")
}

pub struct Node {
    pub tree: Plumtree<Peer, Id>,
    pub store: Store,
    pub alive: bool,
    alarm: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Link {
    latency: Duration,
    /// What is on the way belongs to one generation.
    generation: u64,
}

enum What {
    Alarm(Peer),
    Arrival(Peer, Peer, u64, Message<Id>),
}

/// What happens when. The first comes first, then what was set first.
struct Due {
    at: Duration,
    step: u64,
    what: What,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.step).cmp(&(self.at, self.step))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.step == other.step
    }
}

impl Eq for Due {}

pub struct Network {
    pub now: Duration,
    pub nodes: Vec<Node>,
    pub reports: Vec<Report>,
    /// Parts of a million, and what it means.
    pub loss: (u32, Loss),
    config: Config,
    latency: Latency,
    links: BTreeMap<(Peer, Peer), Link>,
    generations: u64,
    due: BinaryHeap<Due>,
    steps: u64,
    rng: ChaCha8Rng,
}

impl Network {
    /// Nodes without links.
    pub fn new(size: usize, latency: Latency, config: &Config, seed: u64) -> Self {
        let node = |n| Node {
            tree: Plumtree::new(config.clone(), seed ^ ((n as u64) << 20)),
            store: Store::default(),
            alive: true,
            alarm: None,
        };
        Self {
            now: Duration::ZERO,
            nodes: (0..size).map(node).collect(),
            reports: Vec::new(),
            loss: (0, Loss::Silent),
            config: config.clone(),
            latency,
            links: BTreeMap::new(),
            generations: 0,
            due: BinaryHeap::new(),
            steps: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Nodes with [`DEGREE`] neighbours each, at random.
    pub fn random(size: usize, latency: Latency, config: &Config, seed: u64) -> Self {
        let mut network = Self::new(size, latency, config, seed);
        for (a, b) in graph::regular(size, DEGREE, &mut network.rng) {
            network.link(a, b);
        }
        network
    }

    /// A ring, and some more links at random.
    pub fn ring(size: usize, more: usize, config: &Config, seed: u64) -> Self {
        let mut network = Self::new(size, Latency::Wan, config, seed);
        for peer in 0..size {
            network.link(peer, (peer + 1) % size);
        }
        for _ in 0..more {
            let (a, b) = (network.anybody(), network.anybody());
            if a != b {
                network.link(a, b);
            }
        }
        network
    }

    pub fn links(&self) -> Vec<(Peer, Peer)> {
        self.links.keys().copied().collect()
    }

    pub fn alive(&self) -> usize {
        self.nodes.iter().filter(|node| node.alive).count()
    }

    pub fn is_linked(&self, a: Peer, b: Peer) -> bool {
        self.links.contains_key(&ends(a, b))
    }

    /// Links two nodes, or replaces their link.
    pub fn link(&mut self, a: Peer, b: Peer) {
        let latency = match self.links.get(&ends(a, b)) {
            Some(link) => link.latency,
            None => match self.latency {
                Latency::Unit => ms(10),
                Latency::Wan => Duration::from_micros(self.rng.random_range(10_000..=100_000)),
            },
        };
        self.unlink(a, b);
        self.generations += 1;
        let generation = self.generations;
        let link = Link {
            latency,
            generation,
        };
        self.links.insert(ends(a, b), link);
        for (me, peer) in [(a, b), (b, a)] {
            let tree = &mut self.nodes[me].tree;
            tree.handle_neighbor_up(self.now, peer);
            tree.handle_rtt(peer, latency * 2);
            self.drain(me);
        }
    }

    /// A link is gone, with all that is on it.
    pub fn unlink(&mut self, a: Peer, b: Peer) {
        if self.links.remove(&ends(a, b)).is_some() {
            for (me, peer) in [(a, b), (b, a)] {
                let tree = &mut self.nodes[me].tree;
                tree.handle_neighbor_down(self.now, peer);
                self.drain(me);
            }
        }
    }

    /// A part of the nodes dies at once. The others notice, and those that
    /// have lost neighbours find new ones among themselves, as HyParView does.
    pub fn kill(&mut self, percent: usize) {
        let mut victims: Vec<Peer> = (0..self.nodes.len()).collect();
        graph::shuffle(&mut victims, &mut self.rng);
        victims.truncate(self.nodes.len() * percent / 100);
        for &victim in &victims {
            self.nodes[victim].alive = false;
        }
        let dead: Vec<_> = self
            .links
            .keys()
            .copied()
            .filter(|&(a, b)| !self.nodes[a].alive || !self.nodes[b].alive)
            .collect();
        for (a, b) in dead {
            self.unlink(a, b);
        }
        let mut free = Vec::new();
        for (peer, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.alive) {
            let stats = node.tree.stats();
            free.extend((stats.eager + stats.lazy..DEGREE).map(|_| peer));
        }
        let links = self.links.keys().copied().collect();
        for (a, b) in graph::pair(free, links, &mut self.rng).0 {
            self.link(a, b);
        }
    }

    /// A living node sends a message.
    pub fn broadcast(&mut self, origin: Peer) -> Id {
        let id = self.reports.len();
        self.reports.push(Report::new(self.now, self.alive()));
        let node = &mut self.nodes[origin];
        node.store.seen.insert(id);
        node.tree.broadcast(self.now, id, body());
        self.drain(origin);
        id
    }

    /// A node gets all that another has, as by anti-entropy.
    pub fn fetch(&mut self, from: Peer, to: Peer) {
        let theirs = &self.nodes[from].store.seen;
        let new: Vec<Id> = theirs
            .difference(&self.nodes[to].store.seen)
            .copied()
            .collect();
        for id in new {
            self.nodes[to].store.seen.insert(id);
            self.reports[id].fetched += 1;
        }
    }

    /// A living node, at random.
    pub fn anybody(&mut self) -> Peer {
        loop {
            let peer = self.rng.random_range(0..self.nodes.len());
            if self.nodes[peer].alive {
                return peer;
            }
        }
    }

    /// Until nothing is left to happen.
    pub fn run(&mut self) {
        while self.step(Duration::MAX) {}
    }

    /// Until that much later.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    fn step(&mut self, until: Duration) -> bool {
        if self.due.peek().is_none_or(|due| due.at > until) {
            return false;
        }
        let Some(due) = self.due.pop() else {
            return false;
        };
        self.now = due.at;
        match due.what {
            What::Alarm(peer) => self.on_alarm(peer),
            What::Arrival(from, to, generation, msg) => {
                self.on_arrival(from, to, generation, msg);
            }
        }
        true
    }

    fn set(&mut self, at: Duration, what: What) {
        self.steps += 1;
        let step = self.steps;
        self.due.push(Due { at, step, what });
    }

    fn on_alarm(&mut self, peer: Peer) {
        let node = &mut self.nodes[peer];
        if node.alarm == Some(self.now) {
            node.alarm = None;
            if node.alive {
                node.tree.handle_timeout(self.now, &node.store);
            }
        }
        self.drain(peer);
    }

    fn on_arrival(&mut self, from: Peer, to: Peer, generation: u64, msg: Message<Id>) {
        let link = self.links.get(&ends(from, to));
        if link.is_none_or(|link| link.generation != generation) {
            return;
        }
        let (part, loss) = self.loss;
        if part > 0 && self.rng.random_range(0..1_000_000) < part {
            if loss == Loss::Reset {
                self.link(from, to);
            }
            return;
        }
        self.deliver(from, to, msg).unwrap();
    }

    /// Gives a node a message, whoever it says it is from.
    pub fn deliver(
        &mut self,
        from: Peer,
        to: Peer,
        msg: Message<Id>,
    ) -> Result<(), barrel_plumtree::Misbehaved<Peer>> {
        let node = &mut self.nodes[to];
        let result = node.tree.handle_message(self.now, from, msg, &node.store);
        self.drain(to);
        result
    }

    fn drain(&mut self, peer: Peer) {
        if !self.nodes[peer].alive {
            return;
        }
        while let Some(output) = self.nodes[peer].tree.poll_output() {
            match output {
                Output::Send { to, msg } => self.send(peer, to, msg),
                Output::Deliver {
                    from, id, round, ..
                } => {
                    let node = &mut self.nodes[peer];
                    let new = node.store.seen.insert(id);
                    assert!(new, "{id} is delivered to {peer} twice");
                    node.tree.handle_verdict(self.now, from, id, Verdict::New);
                    self.reports[id].delivered(self.now, round);
                }
                Output::Event(Event::Lost { id, .. }) => self.reports[id].lost += 1,
                Output::Event(_) => {}
            }
        }
        self.set_alarm(peer);
    }

    fn set_alarm(&mut self, peer: Peer) {
        let node = &mut self.nodes[peer];
        let wanted = node.tree.poll_timeout().map(|at| at.max(self.now));
        if let Some(at) = wanted
            && node.alarm.is_none_or(|set| at < set)
        {
            node.alarm = Some(at);
            self.set(at, What::Alarm(peer));
        }
    }

    fn send(&mut self, from: Peer, to: Peer, msg: Message<Id>) {
        let latest = self.reports.len().saturating_sub(1);
        match &msg {
            Message::Gossip { id, .. } => self.reports[*id].payloads += 1,
            Message::IHave { ids } => {
                for (id, _) in ids {
                    self.reports[*id].announced += 1;
                }
            }
            Message::Graft { id, .. } => {
                if let Some(report) = self.reports.get_mut(id.unwrap_or(latest)) {
                    report.grafts += 1;
                }
            }
            Message::Prune => {
                if let Some(report) = self.reports.get_mut(latest) {
                    report.prunes += 1;
                }
            }
        }
        if let Some(link) = self.links.get(&ends(from, to)).copied() {
            let at = self.now + link.latency;
            self.set(at, What::Arrival(from, to, link.generation, msg));
        }
    }
}

fn ends(a: Peer, b: Peer) -> (Peer, Peer) {
    (a.min(b), a.max(b))
}
