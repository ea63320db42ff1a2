//! The same seed gives the same history (D1).

use super::base;
use super::{Plan, Profile};
use crate::measure::broadcast;
use crate::report::{Findings, Limit};
use crate::subject::Subject;

use std::time::Duration;

pub(super) fn run<S: Subject>(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let (one, other) = (history::<S>(plan, plan.seed), history::<S>(plan, plan.seed));
    findings.must("D1", "the same seed gives the same history", one == other);
    let different = history::<S>(plan, plan.seed + 1);
    findings.must("D1", "another seed gives another one", one != different);
    findings.note(
        "-",
        "the upper 32 bits of the hash of the history",
        (one >> 96) as f64,
        Limit::Shown,
    );
    findings.seal(one, 0);
    findings
}

/// Joins, shuffles, broadcasts, crashes and a partition.
fn history<S: Subject>(plan: Plan, seed: u64) -> u128 {
    let mut world = base::joined::<S>(plan.nodes, seed, Profile::Shipped);
    base::run(&mut world, base::CYCLE * 5);
    for number in 0..10 {
        broadcast(
            &mut world,
            number as u32 * 7,
            number,
            Duration::from_secs(2),
        );
    }
    for node in (0..plan.nodes).step_by(5) {
        world.crash(node);
    }
    base::run(&mut world, base::CYCLE * 2);
    world.partition(&[(0..plan.nodes / 3).collect()]);
    base::run(&mut world, base::CYCLE * 3);
    world.heal();
    base::run(&mut world, base::CYCLE * 3);
    world.hash().value()
}
