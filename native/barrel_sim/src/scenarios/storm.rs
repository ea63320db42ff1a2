//! A thousand nodes join at once through three seeds (H14).

use super::base::{self, CYCLE};
use super::limits::Limits;
use super::{Plan, Profile};
use crate::measure::Graph;
use crate::report::{Findings, Limit};
use crate::subject::Subject;

const SEEDS: u32 = 3;

const CYCLES: u32 = 10;

pub(super) fn run<S: Subject>(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let mut world = base::world::<S>(plan.seed);
    for number in 0..plan.nodes {
        let node = base::add(&mut world, plan.seed, Profile::Shipped);
        if number > 0 && number < SEEDS {
            base::join(&mut world, node, 0);
        }
    }
    base::run(&mut world, CYCLE);
    for node in SEEDS..plan.nodes {
        base::join(&mut world, node, node % SEEDS);
    }
    let enough = Limits::of(plan.nodes).full;
    let mut full_after = f64::NAN;
    for cycle in 1..=CYCLES {
        base::run(&mut world, CYCLE);
        let degrees = Graph::of(&world).degrees();
        let full = degrees.iter().filter(|degree| **degree >= 5).count();
        if full_after.is_nan() && 100.0 * full as f64 >= enough * degrees.len() as f64 {
            full_after = f64::from(cycle);
        }
    }
    let graph = Graph::of(&world);
    findings.note(
        "H14",
        "storm: largest component, %",
        graph.giant_percent(),
        Limit::AtLeast(100.0),
    );
    findings.note(
        "H14",
        format!("storm: cycles until {enough} % of the views are full"),
        full_after,
        Limit::AtMost(f64::from(CYCLES)),
    );
    let books = Graph::passive_in_degrees(&world);
    findings.note(
        "H14",
        "storm: address books with one node, most of mean",
        books.most as f64 / books.mean,
        Limit::AtMost(5.0),
    );
    findings.seal(world.hash().value(), world.steps());
    findings
}
