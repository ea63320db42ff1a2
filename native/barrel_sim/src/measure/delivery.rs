//! How far a broadcast came, when, and at what cost.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kernel::{NodeNo, Time, World};
use crate::subject::{Subject, TreeCounts};

/// One broadcast.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Nodes that ran when it was sent and still did when it was measured, with the sender.
    pub living: usize,
    /// Milliseconds after which each of the others heard it, in order.
    pub times_ms: Vec<u64>,
    /// What all trees did together meanwhile.
    pub cost: TreeCounts,
    /// The most payloads that one node passed on.
    pub most_forwards: u64,
    /// Who of the living did not hear it.
    pub missed: Vec<NodeNo>,
}

impl Delivery {
    /// The part of the living that have it, in percent.
    #[must_use]
    pub fn reliability(&self) -> f64 {
        100.0 * (self.living - self.missed.len()) as f64 / self.living.max(1) as f64
    }

    /// Payload messages per receiver, beyond the one that each needs.
    #[must_use]
    pub fn redundancy(&self) -> f64 {
        let receivers = self.times_ms.len().max(1) as f64;
        self.cost.payload as f64 / receivers - 1.0
    }

    /// When so many of a hundred of those that heard it had done so, in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, percent: usize) -> u64 {
        let last = self.times_ms.len().saturating_sub(1);
        self.times_ms
            .get(last * percent / 100)
            .copied()
            .unwrap_or(0)
    }

    /// The same, for each living node.
    #[must_use]
    pub fn per_node(&self, count: u64) -> f64 {
        count as f64 / self.living.max(1) as f64
    }
}

/// Lets a node say something and watches for as long as told.
pub fn broadcast<S: Subject>(
    world: &mut World<S>,
    from: NodeNo,
    number: u64,
    watch: Duration,
) -> Delivery {
    let nodes = world.running();
    let before: Vec<TreeCounts> = counts(world, &nodes);
    world.take_happened();
    let sent = world.now();
    world.act(from, |node, now| node.say(now, number));
    world.run_until(sent.after(watch));
    let mut delivery = Delivery::default();
    let mut have = BTreeSet::from([from]);
    for one in world.take_happened() {
        if S::heard(&one.event).is_some_and(|heard| heard.number == number) {
            have.insert(one.node);
            delivery.times_ms.push(since_ms(one.at, sent));
        }
    }
    for (before, after) in before.into_iter().zip(counts(world, &nodes)) {
        // a node that died meanwhile counts from zero again
        if after.payload >= before.payload {
            delivery.cost += after - before;
            delivery.most_forwards = delivery.most_forwards.max(after.payload - before.payload);
        }
    }
    let living = nodes
        .into_iter()
        .filter(|node| world.machine(*node).is_some());
    let (heard, missed): (Vec<_>, Vec<_>) = living.partition(|node| have.contains(node));
    delivery.living = heard.len() + missed.len();
    delivery.missed = missed;
    delivery
}

fn counts<S: Subject>(world: &World<S>, nodes: &[NodeNo]) -> Vec<TreeCounts> {
    nodes
        .iter()
        .map(|node| world.machine(*node).map(S::tree).unwrap_or_default())
        .collect()
}

fn since_ms(at: Time, sent: Time) -> u64 {
    u64::try_from(at.since(sent).as_millis()).unwrap_or(u64::MAX)
}
