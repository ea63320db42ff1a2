//! Many nodes die at once (H7 to H11, P5).
//!
//! Each survivor learns at once that the links to its dead neighbours are gone, and repairs
//! its view. After three seconds, less than a third of a cycle, a survivor says something.

use std::time::Duration;

use super::base::{self, CYCLE};
use super::worlds::Worlds;
use super::{PROFILES, Plan};
use crate::kernel::{Dice, NodeNo, World, mix};
use crate::measure::{Graph, broadcast};
use crate::report::{Chart, Findings, Limit, Series};
use crate::subject::{Profile, Subject};

const PERCENTS: [u32; 8] = [10, 20, 30, 50, 70, 80, 90, 95];

/// In which the survivors notice and repair.
const REPAIR: Duration = Duration::from_secs(3);

/// How long a broadcast is watched: the longest T1 twice. Longer, and the shuffles of a second cycle would add links.
const WATCH: Duration = Duration::from_secs(2);

/// Messages before the failure, so that there is a tree.
const WARM_UP: u64 = 3;

pub(super) fn run<S: Subject>(plan: Plan, worlds: &Worlds<S>) -> Findings {
    let mut findings = Findings::default();
    for profile in PROFILES {
        let mut world = worlds.settled(plan, profile);
        for number in 0..WARM_UP {
            broadcast(&mut world, 0, number, WATCH);
        }
        let mut curve = Vec::new();
        for percent in PERCENTS {
            let reliability = kill(world.clone(), plan, profile, percent, &mut findings);
            curve.push((f64::from(percent), reliability));
        }
        findings.charts.push(Chart {
            file: "reliability".into(),
            title: format!(
                "Reliability of the first broadcast after failures, {} nodes",
                plan.nodes
            ),
            across: "nodes that died at once, %".into(),
            up: "survivors that heard it, %".into(),
            series: vec![Series {
                name: format!("{}, seed {}", profile.name(), plan.seed),
                points: curve,
            }],
        });
    }
    findings
}

fn kill<S: Subject>(
    mut world: World<S>,
    plan: Plan,
    profile: Profile,
    percent: u32,
    findings: &mut Findings,
) -> f64 {
    let mut dice = Dice::new(mix(plan.seed) ^ u64::from(percent));
    let mut order: Vec<NodeNo> = world.running();
    dice.shuffle(&mut order);
    let dead = order.len() * percent as usize / 100;
    world.reset_counts();
    for node in &order[..dead] {
        world.crash(*node);
    }
    let before = Graph::of(&world).giant_percent();
    let died = world.now();
    base::run(&mut world, REPAIR);
    let name = profile.name();
    let what = |what: &str| format!("{percent} % die, {name}: {what}");
    findings.note(
        "-",
        what("largest component before repair, %"),
        before,
        Limit::Shown,
    );
    let component = Graph::of(&world).giant_percent();
    let limit = if percent == 95 {
        component_limit(profile)
    } else {
        Limit::Shown
    };
    findings.note(
        row_of(percent),
        what("largest component, %"),
        component,
        limit,
    );
    dials(&world, profile, percent, findings);
    let from = *dice.pick(&order[dead..]).unwrap_or(&0);
    let first = broadcast(&mut world, from, 1000, WATCH);
    findings.note(
        row_of(percent),
        what("reliability, %"),
        first.reliability(),
        reliability_limit(profile, percent),
    );
    let second = broadcast(&mut world, from, 1001, WATCH);
    if percent <= 80 {
        findings.note(
            "P5",
            what("redundancy of the first broadcast"),
            first.redundancy(),
            Limit::AtMost(2.3),
        );
        findings.note(
            "P5",
            what("redundancy of the second"),
            second.redundancy(),
            second_limit(plan),
        );
        heal(&mut world, died, profile, percent, findings);
    }
    findings.note(
        "-",
        what("last node heard the first after, ms"),
        first.percentile_ms(100) as f64,
        Limit::Shown,
    );
    findings.seal(world.hash().value(), world.steps());
    first.reliability()
}

fn dials<S: Subject>(world: &World<S>, profile: Profile, percent: u32, findings: &mut Findings) {
    let living = world.running();
    let failed: u64 = living
        .iter()
        .map(|node| u64::from(world.counts(*node).failed_dials))
        .sum();
    let limit = match (percent, profile) {
        (80, Profile::Paper) => Limit::AtMost(16.0),
        _ => Limit::Shown,
    };
    let name = profile.name();
    findings.note(
        "H11",
        format!("{percent} % die, {name}: failed dials of a survivor"),
        failed as f64 / living.len() as f64,
        limit,
    );
}

/// In which cycle after the failure the overlay is one component.
fn heal<S: Subject>(
    world: &mut World<S>,
    died: crate::kernel::Time,
    profile: Profile,
    percent: u32,
    findings: &mut Findings,
) {
    const PATIENCE: u32 = 5;
    let mut cycles = f64::NAN;
    for cycle in 1..=PATIENCE {
        world.run_until(died.after(CYCLE * cycle).max(world.now()));
        world.take_happened();
        if Graph::of(world).giant().len() == world.running().len() {
            cycles =
                f64::from(cycle.max((world.now().since(died).as_secs() / CYCLE.as_secs()) as u32));
            break;
        }
    }
    findings.note(
        "H10",
        format!(
            "{percent} % die, {}: cycles until one component",
            profile.name()
        ),
        cycles,
        Limit::AtMost(1.0),
    );
}

fn row_of(percent: u32) -> &'static str {
    match percent {
        90 => "H8",
        95 => "H9",
        _ => "H7",
    }
}

/// An address book of 30 is lost with 95 % of the nodes by one survivor in five; the shipped profile has the
/// lost book and the same 30.
fn component_limit(profile: Profile) -> Limit {
    match profile {
        Profile::Large => Limit::AtLeast(99.5),
        Profile::Paper | Profile::Shipped => Limit::AtLeast(92.0),
    }
}

/// Of a few hundred survivors each link that is switched meanwhile counts.
fn second_limit(plan: Plan) -> Limit {
    Limit::AtMost(if plan.nodes >= 5000 { 0.01 } else { 0.05 })
}

fn reliability_limit(profile: Profile, percent: u32) -> Limit {
    match (percent, profile) {
        (95, _) => Limit::Shown,
        (90, Profile::Large) => Limit::AtLeast(99.95),
        (90, _) => Limit::AtLeast(99.5),
        _ => Limit::AtLeast(100.0),
    }
}
