//! A cluster that has come to rest.

use std::time::Duration;

use crate::kernel::{Config, Detection, NodeNo, Time, World};
use crate::subject::{Profile, Subject};

/// Time between two shuffles of a node, as the views have it by default. Cycles are counted in it.
pub(super) const CYCLE: Duration = Duration::from_secs(10);

/// Nodes join one after the other, so far apart: a walk of six steps over links of 10 ms that must be dialled takes
/// a quarter of a second, so some twenty walks are under way at a time.
const BETWEEN_JOINS: Duration = Duration::from_millis(50);

/// Cycles in which the overlay settles, as in the experiments of the paper.
pub(super) const SETTLE: u32 = 50;

/// An empty world with links of 10 ms, in which deaths are noticed at once.
pub(super) fn world<S: Subject>(seed: u64) -> World<S> {
    World::new(Config {
        detection: Detection::Reset,
        ..Config::new(seed)
    })
}

/// Nodes that joined one by one through node 0, right after the last of them.
pub(super) fn joined<S: Subject>(nodes: u32, seed: u64, profile: Profile) -> World<S> {
    let mut world = world(seed);
    for number in 0..nodes {
        let node = add(&mut world, seed, profile);
        if number > 0 {
            join(&mut world, node, 0);
            let next = world.now().after(BETWEEN_JOINS);
            world.run_until(next);
        }
    }
    // the last walks end
    run(&mut world, Duration::from_secs(1));
    world
}

/// One more node, which runs and knows nobody.
pub(super) fn add<S: Subject>(world: &mut World<S>, seed: u64, profile: Profile) -> NodeNo {
    let node = world.add();
    world.start(node, |now| S::born(node, profile, seed, now));
    node
}

pub(super) fn join<S: Subject>(world: &mut World<S>, node: NodeNo, contact: NodeNo) {
    world.act(node, |machine, now| machine.join(now, contact));
}

/// Lets a world go on for a while.
pub(super) fn run<S: Subject>(world: &mut World<S>, span: Duration) {
    let until: Time = world.now().after(span);
    world.run_until(until);
    // nobody asks what was said meanwhile
    world.take_happened();
}
