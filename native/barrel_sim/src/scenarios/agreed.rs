//! Whole nodes that have agreed on everything from the beginning, in the same memory.

use std::sync::Arc;
use std::time::Duration;

use barrel_node::{self as node, Pool};

use super::Profile;
use crate::adapter::{Birth, SimNode, config};
use crate::kernel::{Config, Dice, Latency, NodeNo, Now, Time, World, mix};
use crate::measure::Graph;
use crate::notary::Notary;
use crate::report::{Findings, Limit};
use crate::subject::Subject;

/// Nodes that know all others from the beginning may come faster.
const BETWEEN_STARTS: Duration = Duration::from_millis(3);

/// They join through one that came so many earlier: a second, in which it has found neighbours of its own.
const EARLIER: u32 = 300;

/// In which the last walks end and views fill up.
const REST: Duration = Duration::from_secs(15);

/// A world of whole nodes and who signs for them.
pub(super) struct Cluster {
    pub(super) world: World<SimNode>,
    notary: Arc<Notary>,
    seed: u64,
}

impl Cluster {
    fn new(seed: u64, latency: Latency) -> Self {
        let world = World::new(Config {
            latency,
            // what the members' rules count on
            idle_timeout: link_timeout(),
            keep_alive: link_timeout() / 3,
            ..Config::new(seed)
        });
        Self {
            world,
            notary: Arc::default(),
            seed,
        }
    }

    /// Nodes that have known each other's records from the beginning, in the same memory, and join
    /// one after the other.
    pub(super) fn agreed(nodes: u32, seed: u64, latency: Latency) -> Self {
        let mut cluster = Self::strangers(nodes, seed, latency);
        cluster.introduce();
        cluster.unite();
        cluster
    }

    /// So many broadcasts in so long, one after the other, from anywhere. A cluster that runs has a tree, and its nodes
    /// know how long its ways are.
    pub(super) fn warm(&mut self, broadcasts: u32, span: Duration) {
        let mut dice = Dice::new(mix(self.seed ^ 0x3a));
        for number in 0..broadcasts {
            if let Some(node) = dice.pick(&self.world.running()).copied() {
                let say = |machine: &mut SimNode, now| machine.say(now, u64::from(number));
                self.world.act(node, say);
            }
            self.rest(span / broadcasts);
        }
    }

    /// What many nodes have registered is kept in memory once.
    pub(super) fn pool(&mut self) {
        let pool = Arc::new(Pool::default());
        for node in self.world.running() {
            let share = |machine: &mut SimNode, _| machine.node_mut().share_entries(pool.clone());
            self.world.act(node, share);
        }
    }

    /// Nodes that run and know nobody.
    pub(super) fn strangers(nodes: u32, seed: u64, latency: Latency) -> Self {
        let mut cluster = Self::new(seed, latency);
        for _ in 0..nodes {
            let node = cluster.world.add();
            cluster.start(node);
        }
        cluster
    }

    /// The first node is shown the records of all others.
    pub(super) fn introduce(&mut self) {
        for other in self.world.running().into_iter().skip(1) {
            let other = self.world.machine(other).cloned();
            self.world.act(0, |machine, now| {
                let others = other.iter().map(SimNode::node);
                others.for_each(|other| machine.node_mut().meet(theirs(now), other));
            });
            self.world.take_happened();
        }
    }

    /// The others are shown what the first one knows, and all join.
    pub(super) fn unite(&mut self) {
        self.share();
        let mut dice = Dice::new(mix(self.seed ^ 0xa9));
        for node in self.world.running().into_iter().skip(1) {
            let contact = dice.below(u64::from(node.saturating_sub(EARLIER)));
            self.join(node, contact as NodeNo);
            self.rest(BETWEEN_STARTS);
        }
        self.rest(REST);
    }

    fn share(&mut self) {
        let first = self.world.machine(0).cloned();
        for node in self.world.running().into_iter().skip(1) {
            self.world.act(node, |machine, _| {
                let first = first.iter().map(SimNode::node);
                first.for_each(|first| machine.node_mut().agree_with(first));
            });
        }
    }

    /// A new life of a node that is down.
    pub(super) fn start(&mut self, node: NodeNo) {
        let (seed, keys) = (self.seed, self.notary.keys(node));
        self.world.start(node, |now| {
            let birth = Birth {
                node,
                config: config(Profile::Shipped),
                seed,
                incarnation: now.wall_ms,
                saved: None,
            };
            SimNode::start_with(birth, keys, now)
        });
    }

    pub(super) fn join(&mut self, node: NodeNo, contact: NodeNo) {
        self.world
            .act(node, |machine, now| machine.join(now, contact));
    }

    /// Lets time pass; what is said meanwhile is not heard.
    pub(super) fn rest(&mut self, span: Duration) {
        let until = self.world.now().after(span);
        while self.world.now() < until {
            let next = self.world.now().after(Duration::from_secs(1)).min(until);
            self.world.run_until(next);
            self.world.take_happened();
        }
    }

    /// Lets time pass until then, and shows each event to somebody.
    pub(super) fn watch(
        &mut self,
        until: Time,
        step: Duration,
        mut see: impl FnMut(Time, NodeNo, &node::Event),
    ) {
        while self.world.now() < until {
            let next = self.world.now().after(step).min(until);
            self.world.run_until(next);
            for one in self.world.take_happened() {
                see(one.at, one.node, &one.event);
            }
        }
    }

    /// The node itself.
    pub(super) fn node(&self, node: NodeNo) -> Option<&node::Node> {
        self.world.machine(node).map(SimNode::node)
    }

    /// The fewest and the most members that a running node takes for living.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let running = self.world.running();
        let nodes = running.iter().filter_map(|node| self.node(*node));
        let sizes = nodes.map(|node| node.members().up());
        (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0))
    }

    /// The part of the running nodes that the largest component of the overlay has, in percent.
    pub(super) fn component(&self) -> f64 {
        Graph::of(&self.world).giant_percent()
    }

    /// The time a suspect has, at the node that waits longest.
    pub(super) fn suspect_timeout(&self) -> Duration {
        let running = self.world.running();
        let nodes = running.iter().filter_map(|node| self.node(*node));
        nodes
            .map(|node| node.members().suspect_timeout())
            .max()
            .unwrap_or_default()
    }

    /// Whether all running nodes take all running nodes for living, and nobody else.
    pub(super) fn is_whole(&self) -> bool {
        let running = self.world.running().len();
        self.sizes() == (running, running)
    }

    /// What the signatures cost, and the end of the world's history.
    pub(super) fn close(self, findings: &mut Findings) {
        let checks = self.notary.checks();
        findings.note(
            "M2",
            "verifications of one signed record",
            checks.verified as f64 / checks.signed.max(1) as f64,
            Limit::AtMost(1.0),
        );
        findings.note(
            "M2",
            "records that seemed forged",
            checks.forged as f64,
            Limit::AtMost(0.0),
        );
        findings.note(
            "-",
            "signatures that a node wanted verified",
            checks.asked as f64 / self.world.len().max(1) as f64,
            Limit::Shown,
        );
        findings.seal(self.world.hash().value(), self.world.steps());
    }
}

pub(super) fn theirs(now: Now) -> node::Now {
    crate::adapter::theirs(now)
}

/// The members' rules.
pub(super) fn rules() -> barrel_members::Config {
    config(Profile::Shipped).members
}

/// Silence after which a link has failed, as the members' rules have it.
pub(super) fn link_timeout() -> Duration {
    rules().link_timeout
}
