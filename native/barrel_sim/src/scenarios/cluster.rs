//! Whole nodes that know each other.

use std::time::Duration;

use crate::adapter::{Birth, SimNode, config, theirs};
use crate::kernel::{Config, NodeNo, Now, World};
use crate::subject::{Profile, Subject};

/// Nodes join so far apart.
const BETWEEN_JOINS: Duration = Duration::from_millis(50);

/// Until everybody has heard of everybody: several comparisons.
const SETTLE: Duration = Duration::from_secs(90);

/// What a service is worth.
const VALUE: &[u8] = &[9; 24];

/// A node with a directory, at its first start or a later one.
pub(super) fn start(world: &mut World<SimNode>, node: NodeNo, seed: u64) {
    let make = |now: Now| {
        let birth = Birth {
            node,
            config: config(Profile::Shipped),
            seed,
            incarnation: now.wall_ms,
            saved: None,
        };
        SimNode::start(birth, now)
    };
    world.start(node, make);
}

/// A cluster in which deaths are noticed by silence, after joins one by one.
pub(super) fn grown(nodes: u32, seed: u64) -> World<SimNode> {
    let mut world = World::new(Config {
        idle_timeout: config(Profile::Shipped).members.link_timeout,
        ..Config::new(seed)
    });
    for _ in 0..nodes {
        let node = world.add();
        start(&mut world, node, seed);
        if node > 0 {
            world.act(node, |machine, now| machine.join(now, node / 2));
        }
        run(&mut world, BETWEEN_JOINS);
    }
    run(&mut world, SETTLE);
    world
}

/// Goes on for a while; nobody asks what was said.
pub(super) fn run(world: &mut World<SimNode>, span: Duration) {
    let until = world.now().after(span);
    world.run_until(until);
    world.take_happened();
}

/// Registers a service at a node.
pub(super) fn register(world: &mut World<SimNode>, node: NodeNo, key: &str) {
    world.act(node, |machine, now| {
        let taken = machine
            .node_mut()
            .register(theirs(now), key.as_bytes(), VALUE);
        assert!(taken.is_ok(), "node {node} does not take {key}: {taken:?}");
        machine.node_mut().commit(theirs(now));
    });
}
