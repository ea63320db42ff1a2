// SPDX-License-Identifier: Apache-2.0

//! Random courses. `BARREL_SCHEDULES` says how many; a failing one is printed, as short as
//! it can be made.

mod network;

use std::env;

use barrel_plumtree::{
    CacheConfig, Config, IdCache, Message, Misbehaved, Output, Plumtree, Seen, Verdict,
};
use bytes::Bytes;
use network::{Loss, Network, ms};
use proptest::collection::vec;
use proptest::prelude::*;

fn schedules() -> ProptestConfig {
    let cases = env::var("BARREL_SCHEDULES").ok();
    ProptestConfig {
        cases: cases.and_then(|n| n.parse().ok()).unwrap_or(2000),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What happens to a small network. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Broadcast(usize),
    Run(u64),
    Cut(usize),
    Mend(usize),
    Lose(u32, bool),
    Fetch(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8usize).prop_map(Step::Broadcast),
        4 => (0..1500u64).prop_map(Step::Run),
        1 => (0..20usize).prop_map(Step::Cut),
        1 => (0..20usize).prop_map(Step::Mend),
        1 => (0..400_000u32, any::<bool>()).prop_map(|(part, reset)| Step::Lose(part, reset)),
        1 => (0..8usize, 0..8usize).prop_map(|(from, to)| Step::Fetch(from, to)),
    ]
}

/// The links are those of the beginning; some of them are cut at times.
fn take(network: &mut Network, links: &[(usize, usize)], step: &Step) {
    let size = network.nodes.len();
    match *step {
        Step::Broadcast(peer) => {
            network.broadcast(peer % size);
        }
        Step::Run(time) => network.run_for(ms(time)),
        Step::Cut(link) => {
            let (a, b) = links[link % links.len()];
            network.unlink(a, b);
        }
        Step::Mend(link) => {
            let (a, b) = links[link % links.len()];
            network.link(a, b);
        }
        Step::Lose(part, true) => network.loss = (part, Loss::Reset),
        Step::Lose(part, false) => network.loss = (part, Loss::Silent),
        Step::Fetch(from, to) => network.fetch(from % size, to % size),
    }
}

proptest! {
    #![proptest_config(schedules())]

    /// Nothing is delivered twice, which the network asserts, and the state is sound. And when the faults end, all that is sent is delivered, soon along a
    /// tree.
    #[test]
    fn after_any_course_there_is_a_tree(
        size in 3..8usize,
        more in 0..6usize,
        seed in any::<u64>(),
        steps in vec(step(), 1..24),
    ) {
        let config = Config { shorten_at: (seed % 2 == 0).then_some(2), ..Config::default() };
        let mut network = Network::ring(size, more, &config, seed);
        let links = network.links();
        for step in &steps {
            take(&mut network, &links, step);
            for node in &network.nodes {
                prop_assert_eq!(node.tree.check(), Ok(()));
            }
        }
        network.loss = (0, Loss::Silent);
        for &(a, b) in &links {
            if !network.is_linked(a, b) {
                network.link(a, b);
            }
        }
        network.run();
        let mut copies = 0;
        for _ in 0..6 {
            // one that is alone shapes the tree
            network.run_for(Config::default().t1_max);
            let id = network.broadcast(0);
            network.run();
            let report = &network.reports[id];
            prop_assert!(report.is_complete(), "{report:?}");
            prop_assert_eq!(report.lost, 0);
            copies = report.payloads;
        }
        prop_assert_eq!(copies, size - 1);
        prop_assert!(network.nodes.iter().all(|node| node.tree.stats().pending == 0));
    }
}

/// What strangers, neighbours and the driver may do to one node.
#[derive(Clone, Debug)]
enum Deed {
    Up(u8),
    Down(u8),
    Rtt(u8, u64),
    Gossip(u8, u8, u16, usize, Verdict),
    IHave(u8, Vec<(u8, u16)>),
    Graft(u8, Option<u8>, u16),
    Prune(u8),
    Fetched(u8),
    Own(u8),
    Wait(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    let peer = || 0..5u8;
    let verdict = prop_oneof![
        4 => Just(Verdict::New),
        1 => Just(Verdict::Duplicate),
        1 => Just(Verdict::Rejected),
        1 => Just(Verdict::Unwanted),
    ];
    prop_oneof![
        2 => peer().prop_map(Deed::Up),
        1 => peer().prop_map(Deed::Down),
        1 => (peer(), any::<u64>()).prop_map(|(peer, rtt)| Deed::Rtt(peer, rtt)),
        6 => (peer(), any::<u8>(), any::<u16>(), 0..40usize, verdict)
            .prop_map(|(peer, id, round, size, v)| Deed::Gossip(peer, id, round, size, v)),
        6 => (peer(), vec((any::<u8>(), any::<u16>()), 0..12))
            .prop_map(|(peer, ids)| Deed::IHave(peer, ids)),
        3 => (peer(), any::<Option<u8>>(), any::<u16>())
            .prop_map(|(peer, id, round)| Deed::Graft(peer, id, round)),
        2 => peer().prop_map(Deed::Prune),
        1 => any::<u8>().prop_map(Deed::Fetched),
        1 => any::<u8>().prop_map(Deed::Own),
        4 => (0..3000u64).prop_map(Deed::Wait),
    ]
}

/// One node whose limits are narrow.
struct Victim {
    now: u64,
    tree: Plumtree<u8, u8>,
    cache: IdCache<u8>,
    verdict: Verdict,
    neighbors: Vec<u8>,
    bodies: usize,
}

impl Victim {
    fn new(seed: u64) -> Self {
        let config = Config {
            ihave_batch: 4,
            ids_per_message: 10,
            ids_per_second: 50,
            outstanding: 9,
            asked_at_once: 2,
            bodies_per_second: 3,
            remembered: 20,
            lagging_after: 2,
            optimize_at: Some(2),
            ..Config::default()
        };
        let cache = CacheConfig {
            ids: 30,
            bodies: 10,
            bytes: 200,
            ..CacheConfig::default()
        };
        Self {
            now: 0,
            tree: Plumtree::new(config, seed),
            cache: IdCache::new(cache),
            verdict: Verdict::New,
            neighbors: Vec::new(),
            bodies: 0,
        }
    }

    fn suffer(&mut self, deed: Deed) {
        let now = ms(self.now);
        let (from, msg) = match deed {
            Deed::Up(peer) => {
                self.neighbors.retain(|p| *p != peer);
                self.neighbors.push(peer);
                return self.tree.handle_neighbor_up(now, peer);
            }
            Deed::Down(peer) => {
                self.neighbors.retain(|p| *p != peer);
                return self.tree.handle_neighbor_down(now, peer);
            }
            Deed::Rtt(peer, rtt) => return self.tree.handle_rtt(peer, ms(rtt)),
            Deed::Fetched(id) => {
                self.cache.insert(now, id, Bytes::from_static(b"fetched"));
                return;
            }
            Deed::Own(id) => {
                if self.cache.insert(now, id, Bytes::from_static(b"own")) {
                    self.tree.broadcast(now, id, Bytes::from_static(b"own"));
                }
                return;
            }
            Deed::Wait(time) => {
                self.now += time;
                return self.tree.handle_timeout(ms(self.now), &self.cache);
            }
            Deed::Gossip(peer, id, round, size, verdict) => {
                self.verdict = verdict;
                let body = vec![id; size].into();
                (peer, Message::Gossip { id, round, body })
            }
            Deed::IHave(peer, ids) => (peer, Message::IHave { ids }),
            Deed::Graft(peer, id, round) => (peer, Message::Graft { id, round }),
            Deed::Prune(peer) => (peer, Message::Prune),
        };
        let too_many = matches!(&msg, Message::IHave { ids } if ids.len() > 10);
        let result = self.tree.handle_message(now, from, msg, &self.cache);
        match result {
            Ok(()) => assert!(self.neighbors.contains(&from) && !too_many),
            Err(Misbehaved::NotANeighbor { peer }) => {
                assert!(peer == from && !self.neighbors.contains(&from));
            }
            Err(Misbehaved::TooManyIds { peer, .. }) => assert!(peer == from && too_many),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.tree.poll_output() {
            match output {
                Output::Send { to, msg } => {
                    assert!(self.neighbors.contains(&to), "{to} is no neighbour");
                    self.bodies += usize::from(matches!(msg, Message::Gossip { .. }));
                }
                Output::Deliver { from, id, body, .. } => {
                    assert!(!self.cache.seen(&id));
                    if self.verdict == Verdict::New {
                        self.cache.insert(ms(self.now), id, body);
                    }
                    let now = ms(self.now);
                    self.tree.handle_verdict(now, from, id, self.verdict);
                }
                Output::Event(_) => {}
            }
        }
        assert_eq!(self.tree.check(), Ok(()));
        assert_eq!(self.cache.check(), Ok(()));
    }
}

proptest! {
    #![proptest_config(schedules())]

    /// Whatever is said to a node, it stays sound and within its limits, and speaks to
    /// neighbours only.
    #[test]
    fn no_message_confuses_a_node(seed in any::<u64>(), deeds in vec(deed(), 1..60)) {
        let mut victim = Victim::new(seed);
        for deed in deeds {
            victim.suffer(deed);
            victim.drain();
            let stats = victim.tree.stats();
            prop_assert!(stats.pending <= 9 * 5);
            prop_assert!(stats.cached <= 20);
            prop_assert_eq!(stats.eager + stats.lazy, victim.neighbors.len());
        }
        // What is still missing is found or given up, and then there is peace.
        for _ in 0..200 {
            let Some(at) = victim.tree.poll_timeout() else { break };
            victim.now = victim.now.max(at.as_millis() as u64 + 1);
            victim.suffer(Deed::Wait(0));
            victim.drain();
        }
        prop_assert_eq!(victim.tree.poll_timeout(), None);
        prop_assert_eq!(victim.tree.stats().pending, 0);
    }
}
