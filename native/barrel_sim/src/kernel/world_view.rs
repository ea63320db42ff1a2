//! What can be seen of a world from outside.

use super::conn::Phase;
use super::hash::LogHash;
use super::linklog::Life;
use super::machine::{Machine, NodeNo, Now};
use super::slot::Counts;
use super::time::Time;
use super::world::{Happened, World};

impl<M: Machine> World<M> {
    /// The moment of what happened last.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many nodes there are, with those that are down.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node that runs.
    #[must_use]
    pub fn machine(&self, node: NodeNo) -> Option<&M> {
        self.nodes.get(node as usize)?.machine.as_ref()
    }

    /// The numbers of all nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<NodeNo> {
        let slots = self.nodes.iter().filter(|slot| slot.machine.is_some());
        slots.map(|slot| slot.who.node).collect()
    }

    /// The present or last life of a node.
    #[must_use]
    pub fn life(&self, node: NodeNo) -> Life {
        self.nodes[node as usize].who
    }

    /// The clocks of a node.
    #[must_use]
    pub fn clock(&self, node: NodeNo) -> Now {
        self.nodes[node as usize].now(self.now, self.config.wall_ms)
    }

    /// What a node did.
    #[must_use]
    pub fn counts(&self, node: NodeNo) -> &Counts {
        &self.nodes[node as usize].counts
    }

    /// Sets the counts of all nodes to zero.
    pub fn reset_counts(&mut self) {
        for slot in &mut self.nodes {
            slot.counts = Counts::default();
        }
    }

    /// What is on the disk of a node, in the order in which it got there.
    #[must_use]
    pub fn disk(&self, node: NodeNo) -> &[M::Batch] {
        &self.nodes[node as usize].disk
    }

    /// What the nodes said since this was last asked.
    pub fn take_happened(&mut self) -> Vec<Happened<M::Event>> {
        std::mem::take(&mut self.happened)
    }

    /// The running hash over everything that happened.
    #[must_use]
    pub fn hash(&self) -> LogHash {
        self.hash
    }

    /// How many things have happened.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How many things are due.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is a link between two nodes that both know.
    #[must_use]
    pub fn is_linked(&self, a: NodeNo, b: NodeNo) -> bool {
        let knows = |from: NodeNo, to: NodeNo| {
            let which = self.nodes[from as usize].links.get(&to)?;
            let conn = self.conns.find(*which)?;
            (conn.ends[conn.end_of(from)].phase == Phase::Up).then_some(*which)
        };
        knows(a, b).is_some() && knows(a, b) == knows(b, a)
    }
}
