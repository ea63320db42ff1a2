// SPDX-License-Identifier: Apache-2.0

//! Many nodes in virtual time: every message takes ten milliseconds, and nothing is lost but
//! by the death of a node or a partition.
//!
//! Links are as simple as can be: between two nodes that reach each other there is one, and
//! its number is that of the last partition between them.

#![allow(dead_code, reason = "each user needs a part")]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use barrel_hyparview::{Config, HyParView, Link, LinkDown, Message, Output};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) mod measure;

pub(crate) const LATENCY: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
enum What {
    Deliver { from: u32, msg: Message<u32> },
    DialFailed { peer: u32 },
    Timer,
}

#[derive(Clone, Debug)]
struct Due {
    at: Duration,
    seq: u64,
    node: u32,
    what: What,
}

impl Due {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.seq)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<HyParView<u32>>,
    pub(crate) alive: Vec<bool>,
    /// Nodes of different sides do not reach each other.
    pub(crate) side: Vec<u8>,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) config: Config,
    /// Who was told to be up, to be compared with the view.
    announced: Vec<BTreeSet<u32>>,
    timers: Vec<Duration>,
    due: BinaryHeap<Reverse<Due>>,
    /// Messages and failed dials under way.
    pub(crate) in_flight: usize,
    pub(crate) messages: u64,
    seq: u64,
    /// The sides in each partition so far.
    partitions: Vec<Vec<u8>>,
}

impl Net {
    pub(crate) fn new(size: u32, config: &Config, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let node = |id| HyParView::new(id, config.clone(), rng.random());
        let nodes: Vec<_> = (0..size).map(node).collect();
        Self {
            now: Duration::ZERO,
            alive: vec![true; nodes.len()],
            side: vec![0; nodes.len()],
            announced: vec![BTreeSet::new(); nodes.len()],
            timers: vec![Duration::MAX; nodes.len()],
            nodes,
            rng,
            config: config.clone(),
            due: BinaryHeap::new(),
            in_flight: 0,
            messages: 0,
            seq: 0,
            partitions: Vec::new(),
        }
    }

    /// Joins one after the other, so far apart, through node 0.
    pub(crate) fn joined(size: u32, config: &Config, seed: u64, apart: Duration) -> Self {
        let mut net = Self::new(size, config, seed);
        for id in 1..size {
            net.join(id, 0);
            net.run_for(apart);
        }
        net.settle();
        net
    }

    pub(crate) fn join(&mut self, id: u32, contact: u32) {
        let now = self.now;
        self.call(id, |node| node.join(now, contact));
    }

    pub(crate) fn tell_size(&mut self) {
        let (now, size) = (self.now, self.living().count());
        for id in self.living().collect::<Vec<_>>() {
            self.call(id, |node| node.handle_cluster_size(now, size));
        }
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = u32> {
        (0..self.nodes.len() as u32).filter(|id| self.alive[*id as usize])
    }

    pub(crate) fn node(&self, id: u32) -> &HyParView<u32> {
        &self.nodes[id as usize]
    }

    pub(crate) fn call<T>(&mut self, id: u32, verb: impl FnOnce(&mut HyParView<u32>) -> T) -> T {
        let answer = verb(&mut self.nodes[id as usize]);
        while let Some(output) = self.nodes[id as usize].poll_output() {
            self.output(id, output);
        }
        self.set_timer(id);
        answer
    }

    fn output(&mut self, id: u32, output: Output<u32>) {
        match output {
            Output::Send { to, msg } => {
                self.messages += 1;
                self.push(LATENCY, to, What::Deliver { from: id, msg });
            }
            Output::Up { peer, .. } => assert!(self.announced[id as usize].insert(peer)),
            Output::Down { peer, .. } => assert!(self.announced[id as usize].remove(&peer)),
            Output::Release { .. } | Output::Event(_) => {}
        }
    }

    fn set_timer(&mut self, id: u32) {
        let at = self.nodes[id as usize]
            .poll_timeout()
            .unwrap_or(Duration::MAX);
        let at = at.max(self.now);
        if at < self.timers[id as usize] {
            self.timers[id as usize] = at;
            self.push(at - self.now, id, What::Timer);
        }
    }

    fn push(&mut self, after: Duration, node: u32, what: What) {
        self.in_flight += usize::from(!matches!(what, What::Timer));
        self.seq += 1;
        self.due.push(Reverse(Due {
            at: self.now + after,
            seq: self.seq,
            node,
            what,
        }));
    }

    pub(crate) fn reach(&self, a: u32, b: u32) -> bool {
        let (a, b) = (a as usize, b as usize);
        self.alive[a] && self.alive[b] && self.side[a] == self.side[b]
    }

    fn link(&self, a: u32, b: u32) -> Link {
        let parted = |side: &Vec<u8>| side[a as usize] != side[b as usize];
        let last = self.partitions.iter().rposition(parted);
        Link(last.map_or(0, |last| last as u64 + 1))
    }

    fn step(&mut self) {
        if let Some(Reverse(due)) = self.due.pop() {
            self.now = self.now.max(due.at);
            self.happen(due);
        }
    }

    fn happen(&mut self, due: Due) {
        let (id, now) = (due.node, self.now);
        match due.what {
            What::Timer => {
                if self.timers[id as usize] == due.at {
                    self.timers[id as usize] = Duration::MAX;
                    if self.alive[id as usize] {
                        self.call(id, |node| node.handle_timeout(now));
                    }
                }
            }
            What::DialFailed { peer } => {
                self.in_flight -= 1;
                if self.alive[id as usize] {
                    self.call(id, |node| node.handle_dial_failed(now, peer));
                }
            }
            What::Deliver { from, msg } => {
                self.in_flight -= 1;
                if self.reach(from, id) {
                    let link = self.link(from, id);
                    let said = self.call(id, |node| node.handle_message(now, from, link, msg));
                    assert_eq!(said, Ok(()), "an honest node is blamed");
                } else if self.alive[from as usize] {
                    self.push(LATENCY, from, What::DialFailed { peer: id });
                }
            }
        }
    }

    fn next_at(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse(due)| due.at)
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    pub(crate) fn cycles(&mut self, cycles: u32) {
        self.run_for(self.config.shuffle_period * cycles);
    }

    /// Until nothing is under way. What is due by time alone waits: shuffles never end.
    pub(crate) fn settle(&mut self) {
        let mut waiting = Vec::new();
        while self.in_flight > 0 {
            match self.due.pop() {
                Some(Reverse(due)) if matches!(due.what, What::Timer) => waiting.push(due),
                Some(Reverse(due)) => {
                    self.now = self.now.max(due.at);
                    self.happen(due);
                }
                None => break,
            }
        }
        self.due.extend(waiting.into_iter().map(Reverse));
        for id in self.living() {
            let views = self.node(id).active().collect::<BTreeSet<_>>();
            assert_eq!(views, self.announced[id as usize], "views as announced");
        }
    }

    /// Kills that part of the living at random, and tells the others that the links failed.
    pub(crate) fn kill(&mut self, percent: u32) {
        self.kill_unseen(percent);
        self.links_fail();
    }

    /// Kills, and lets the others find out when they send something.
    pub(crate) fn kill_unseen(&mut self, percent: u32) {
        let mut living: Vec<u32> = self.living().collect();
        let victims = living.len() * percent as usize / 100;
        for at in 0..victims {
            let other = self.rng.random_range(at..living.len());
            living.swap(at, other);
        }
        for id in &living[..victims] {
            self.alive[*id as usize] = false;
        }
    }

    /// Nodes of different sides lose each other.
    pub(crate) fn part(&mut self, percent: u32) {
        for side in &mut self.side {
            *side = u8::from(self.rng.random_ratio(percent, 100));
        }
        self.links_fail();
        self.partitions.push(self.side.clone());
    }

    pub(crate) fn heal(&mut self) {
        self.side.fill(0);
    }

    fn links_fail(&mut self) {
        let now = self.now;
        for id in self.living().collect::<Vec<_>>() {
            let lost = self.node(id).active().filter(|peer| !self.reach(id, *peer));
            for peer in lost.collect::<Vec<_>>() {
                let link = self.link(id, peer);
                self.call(id, |node| {
                    node.handle_link_down(now, peer, link, LinkDown::Failed);
                });
            }
        }
    }
}
