//! Who is said to be dead, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Plan, cluster};
use crate::adapter::{SimNode, config, id};
use crate::kernel::{Act, NodeNo, PPM, Rule, World};
use crate::report::{Findings, Limit};
use crate::subject::{Profile, Subject};

/// Beyond link timeout and time of suspicion.
const MARGIN: Duration = Duration::from_secs(1);

/// Probe rounds until a death is found that no neighbour survived.
const ROUNDS: u32 = 3;

/// What a lost packet costs over links of 10 ms, where nothing is sent behind it: three round trips, a guess.
const RESENT: Duration = Duration::from_millis(60);

/// Up to so many nodes it is shown what happens where links end all the time, which no network does.
const MOST_BROKEN: u32 = 100;

/// In which somebody who was wrongly suspected would be told dead.
const AFTERMATH: Duration = Duration::from_secs(60);

pub(super) fn run(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let grown = cluster::grown(plan.nodes, plan.seed);
    let known = grown
        .running()
        .iter()
        .filter_map(|node| grown.machine(*node))
        .map(|one| one.node().members().up())
        .min();
    findings.note(
        "M2",
        "members that everybody knows",
        known.unwrap_or(0) as f64,
        Limit::AtLeast(f64::from(plan.nodes)),
    );
    let (victim, bound) = (plan.nodes / 2, bound(&grown));
    for (with_neighbours, more) in [(false, 0), (true, ROUNDS)] {
        let bound = bound + config(Profile::Shipped).members.probe_period * more;
        death(grown.clone(), victim, with_neighbours, bound, &mut findings);
    }
    freeze(grown.clone(), victim, &mut findings);
    loss(
        grown.clone(),
        Act::Late(RESENT),
        "5 % of all messages are sent again",
        Limit::AtMost(0.0),
        &mut findings,
    );
    // the worse the larger the cluster: every link fails within seconds
    if plan.nodes <= MOST_BROKEN {
        loss(
            grown,
            Act::Reset,
            "5 % of all messages end their link",
            Limit::Shown,
            &mut findings,
        );
    }
    findings
}

/// By when a death is told that a neighbour survived.
fn bound(world: &World<SimNode>) -> Duration {
    let members = config(Profile::Shipped).members;
    let suspicion = world.machine(0).map_or(members.suspect_max, |one| {
        one.node().members().suspect_timeout()
    });
    members.link_timeout + suspicion + MARGIN
}

fn death(
    mut world: World<SimNode>,
    victim: NodeNo,
    with_neighbours: bool,
    bound: Duration,
    findings: &mut Findings,
) {
    let neighbours = world
        .machine(victim)
        .map(SimNode::neighbours)
        .unwrap_or_default();
    world.crash(victim);
    if with_neighbours {
        neighbours.iter().for_each(|node| world.crash(*node));
    }
    let until = world.now().after(bound);
    world.take_happened();
    world.run_until(until);
    let told = told_dead(&mut world, Some(victim));
    let living = world.running().len();
    let who = if with_neighbours {
        "a node and all its neighbours die"
    } else {
        "a node dies"
    };
    let what = format!("{who}: told within {} s, % of the living", bound.as_secs());
    findings.note(
        "M2",
        what,
        100.0 * told.len() as f64 / living as f64,
        Limit::AtLeast(99.0),
    );
    findings.seal(world.hash().value(), world.steps());
}

fn freeze(mut world: World<SimNode>, victim: NodeNo, findings: &mut Findings) {
    let span = config(Profile::Shipped).members.link_timeout - Duration::from_secs(1);
    world.take_happened();
    world.freeze(victim, span);
    let until = world.now().after(span + AFTERMATH);
    world.run_until(until);
    let told = told_dead(&mut world, None);
    findings.note(
        "M2",
        "a node freezes for less than the link timeout: told dead by",
        told.len() as f64,
        Limit::AtMost(0.0),
    );
    findings.seal(world.hash().value(), world.steps());
}

fn loss(mut world: World<SimNode>, act: Act, name: &str, limit: Limit, findings: &mut Findings) {
    world.take_happened();
    world.set_rules(vec![Rule::everywhere(PPM / 20, act)]);
    let until = world.now().after(AFTERMATH);
    world.run_until(until);
    world.set_rules(Vec::new());
    let until = world.now().after(AFTERMATH);
    world.run_until(until);
    let told = told_dead(&mut world, None);
    findings.note(
        "M2",
        format!("{name}: living told dead by"),
        told.len() as f64,
        limit,
    );
    findings.seal(world.hash().value(), world.steps());
}

/// Who said of that node, or of anybody, that it is down.
fn told_dead(world: &mut World<SimNode>, victim: Option<NodeNo>) -> BTreeSet<NodeNo> {
    let is_meant = |event: &barrel_node::Event| match event {
        barrel_node::Event::NodeDown { node, .. } => {
            victim.is_none_or(|victim| *node == id(victim))
        }
        _ => false,
    };
    let all = world.take_happened();
    let told = all
        .into_iter()
        .filter(|one| is_meant(&one.event))
        .map(|one| one.node);
    told.filter(|node| world.machine(*node).is_some()).collect()
}
