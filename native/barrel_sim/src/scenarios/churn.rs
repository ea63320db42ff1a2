//! Nodes come and go (H13).

use std::time::Duration;

use super::base::{self, CYCLE};
use super::worlds::Worlds;
use super::{Plan, Profile};
use crate::kernel::{Dice, NodeNo, World, mix};
use crate::measure::{Graph, broadcast};
use crate::report::{Findings, Limit};
use crate::subject::Subject;

const CYCLES: u32 = 200;

/// Of the nodes, replaced in each cycle.
const PERCENT: u32 = 1;

/// Up to so many nodes the paper's settings are asked too.
const MOST_TWICE: u32 = 1000;

/// How long a broadcast is watched.
const WATCH: Duration = Duration::from_secs(4);

pub(super) fn run<S: Subject>(plan: Plan, worlds: &Worlds<S>) -> Findings {
    let mut findings = Findings::default();
    for profile in [Profile::Shipped, Profile::Paper] {
        // two hundred cycles of many nodes are a large part of the whole table's time
        if profile == Profile::Shipped || plan.nodes <= MOST_TWICE {
            churn(plan, profile, worlds, &mut findings);
        }
    }
    findings
}

fn churn<S: Subject>(plan: Plan, profile: Profile, worlds: &Worlds<S>, findings: &mut Findings) {
    let mut world = worlds.settled(plan, profile);
    let mut dice = Dice::new(mix(plan.seed ^ 13));
    let replaced = (plan.nodes * PERCENT / 100).max(1);
    let (mut whole, mut heard, mut living, mut smallest) = (0, 0, 0, 100.0f64);
    for cycle in 0..CYCLES {
        for _ in 0..replaced {
            replace(&mut world, &mut dice, plan.seed ^ u64::from(cycle), profile);
            base::run(&mut world, (CYCLE - WATCH) / replaced);
        }
        let graph = Graph::of(&world);
        whole += u32::from(graph.giant().len() == graph.len());
        smallest = smallest.min(graph.giant_percent());
        let from = *dice.pick(&world.running()).unwrap_or(&0);
        let delivery = broadcast(&mut world, from, u64::from(cycle), WATCH);
        living += delivery.living;
        heard += delivery.living - delivery.missed.len();
    }
    let name = profile.name();
    findings.note(
        "H13",
        format!("churn, {name}: cycles with one component, %"),
        100.0 * f64::from(whole) / f64::from(CYCLES),
        Limit::AtLeast(99.9),
    );
    findings.note(
        "-",
        format!("churn, {name}: smallest largest component, %"),
        smallest,
        Limit::Shown,
    );
    findings.note(
        "H13",
        format!("churn, {name}: reliability, %"),
        100.0 * heard as f64 / living.max(1) as f64,
        Limit::AtLeast(99.9),
    );
    findings.seal(world.hash().value(), world.steps());
}

/// One dies without a word; a new life of some dead node begins, with nothing remembered.
fn replace<S: Subject>(world: &mut World<S>, dice: &mut Dice, seed: u64, profile: Profile) {
    let living = world.running();
    let victim = living[dice.index(living.len())];
    world.crash(victim);
    let contacts: Vec<NodeNo> = world.running();
    let contact = contacts[dice.index(contacts.len())];
    let node = base::add(world, seed, profile);
    base::join(world, node, contact);
}
