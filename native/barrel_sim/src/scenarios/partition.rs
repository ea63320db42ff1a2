//! The cluster falls into two parts, and they meet again (H12).

use super::base::{self, CYCLE};
use super::worlds::Worlds;
use super::{Plan, Profile};
use crate::kernel::{NodeNo, World};
use crate::measure::Graph;
use crate::report::{Chart, Findings, Limit, Series};
use crate::subject::Subject;

/// Cycles that the parts are apart.
const APART: [u32; 3] = [10, 50, 200];

/// Nodes of the smaller part, in percent.
const SMALLER: [u32; 2] = [50, 10];

/// Cycles in which they become one component.
const MERGED_IN: u32 = 3;

/// Cycles in which they are mixed.
const MIXED_IN: u32 = 100;

/// Links between the parts, as a part of those that a random overlay has.
const MIXED: f64 = 90.0;

/// Links of a node.
const DEGREE: u32 = 5;

pub(super) fn run<S: Subject>(plan: Plan, worlds: &Worlds<S>) -> Findings {
    let mut findings = Findings::default();
    for profile in [Profile::Large, Profile::Shipped] {
        let settled = worlds.settled(plan, profile);
        for percent in SMALLER {
            for cycles in APART {
                part(
                    settled.clone(),
                    plan,
                    profile,
                    percent,
                    cycles,
                    &mut findings,
                );
            }
        }
    }
    findings
}

fn part<S: Subject>(
    mut world: World<S>,
    plan: Plan,
    profile: Profile,
    percent: u32,
    cycles: u32,
    findings: &mut Findings,
) {
    // who joined early and who late are in both parts
    let is_small = |node: NodeNo| node * 7 % 100 < percent;
    let small: Vec<NodeNo> = world
        .running()
        .into_iter()
        .filter(|node| is_small(*node))
        .collect();
    let random =
        2.0 * f64::from(plan.nodes * DEGREE / 2) * f64::from(percent * (100 - percent)) / 10_000.0;
    world.partition(&[small]);
    base::run(&mut world, CYCLE * cycles);
    let across = Graph::of(&world).links_across(is_small);
    world.heal();
    let name = format!(
        "{}/{percent} for {cycles} cycles, {}",
        100 - percent,
        profile.name()
    );
    findings.note(
        "H12",
        format!("{name}: links across while apart"),
        across as f64,
        Limit::AtMost(0.0),
    );
    let (mut merged, mut mixed) = (f64::NAN, f64::NAN);
    let mut points = Vec::new();
    for cycle in 1..=MIXED_IN {
        base::run(&mut world, CYCLE);
        let graph = Graph::of(&world);
        let part = 100.0 * graph.links_across(is_small) as f64 / random;
        points.push((f64::from(cycle), part));
        if merged.is_nan() && graph.giant().len() == graph.len() {
            merged = f64::from(cycle);
        }
        if mixed.is_nan() && part >= MIXED {
            mixed = f64::from(cycle);
        }
    }
    findings.note(
        "H12",
        format!("{name}: cycles until one component"),
        merged,
        Limit::AtMost(f64::from(MERGED_IN)),
    );
    findings.note(
        "H12",
        format!("{name}: cycles until 90 % of random links across"),
        mixed,
        Limit::AtMost(f64::from(MIXED_IN)),
    );
    let last = points.last().map_or(0.0, |point| point.1);
    findings.note(
        "-",
        format!("{name}: links across at the end, % of random"),
        last,
        Limit::Shown,
    );
    findings.charts.push(Chart {
        file: "mixing".into(),
        title: format!(
            "Links between the parts after a partition, {} nodes",
            plan.nodes
        ),
        across: "cycles after the parts could reach each other".into(),
        up: "% of a random overlay".into(),
        series: vec![Series {
            name: format!("{name}, seed {}", plan.seed),
            points,
        }],
    });
    findings.seal(world.hash().value(), world.steps());
}
