//! How services become known, and what gets lost (C3, P6, P8).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Plan, cluster};
use crate::adapter::{SimNode, config};
use crate::kernel::{Act, Dice, Latency, Life, NodeNo, PPM, Rule, Time, World, mix};
use crate::measure::Spread;
use crate::report::{Findings, Limit};
use crate::subject::Profile;

/// Entries of all replicas together, so that a world fits into a few gigabytes.
const MOST_COPIES: u64 = 5_000_000;

/// Services of one node, at most.
const SERVICES: u64 = 100;

/// In which they are registered, and in which they become known.
const SPAN: Duration = Duration::from_secs(10);

/// The cluster is in two parts for so long.
const APART: Duration = Duration::from_secs(60);

pub(super) fn run(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let mut world = cluster::grown(plan.nodes, plan.seed);
    faults(world.clone(), plan, &mut findings);
    world.set_latency(Latency::wide(plan.seed));
    // the trees learn what is far now
    cluster::run(&mut world, Duration::from_secs(30));
    visibility(&mut world, plan, &mut findings);
    agreement(&mut world, plan, &mut findings);
    findings.seal(world.hash().value(), world.steps());
    findings
}

fn visibility(world: &mut World<SimNode>, plan: Plan, findings: &mut Findings) {
    let nodes = u64::from(plan.nodes);
    let services = (MOST_COPIES / nodes / nodes).clamp(1, SERVICES);
    let begun = world.now();
    let mut registered: BTreeMap<String, Time> = BTreeMap::new();
    for round in 0..services {
        for node in 0..plan.nodes {
            let turn = round * nodes + u64::from(node);
            world.run_until(begun.after(SPAN * turn as u32 / (nodes * services) as u32));
            let key = format!("service-{node}-{round}");
            cluster::register(world, node, &key);
            registered.insert(key, world.now());
        }
    }
    world.run_until(begun.after(SPAN * 2));
    let mut waits: Vec<u64> = Vec::new();
    for one in world.take_happened() {
        if let barrel_node::Event::ServiceUp { origin, pair, .. } = &one.event {
            let at = std::str::from_utf8(pair.key())
                .ok()
                .and_then(|key| registered.get(key));
            if let Some(at) = at.filter(|_| crate::adapter::id(one.node) != *origin) {
                waits.push(one.at.since(*at).as_millis() as u64);
            }
        }
    }
    let wanted = (nodes - 1) * nodes * services;
    // what was not seen took for ever
    let missing = wanted.saturating_sub(waits.len() as u64);
    waits.extend(std::iter::repeat_n(u64::MAX >> 16, missing as usize));
    let spread = Spread::of(waits);
    let name = format!("{} x {services} services, 10-100 ms", plan.nodes);
    findings.note(
        "C3",
        format!("{name}: half are seen after, ms"),
        spread.median as f64,
        Limit::Shown,
    );
    findings.note(
        "C3",
        format!("{name}: 99 % are seen after, ms"),
        spread.p99 as f64,
        Limit::AtMost(1000.0),
    );
    findings.note(
        "C3",
        format!("{name}: not seen"),
        missing as f64,
        Limit::AtMost(0.0),
    );
}

fn agreement(world: &mut World<SimNode>, plan: Plan, findings: &mut Findings) {
    let half: Vec<NodeNo> = (0..plan.nodes).filter(|node| node % 2 == 0).collect();
    world.partition(&[half]);
    for node in 0..plan.nodes {
        cluster::run(world, APART / plan.nodes);
        cluster::register(world, node, &format!("apart-{node}"));
        world.act(node, |machine, now| {
            let now = crate::adapter::theirs(now);
            machine
                .node_mut()
                .unregister(now, format!("service-{node}-0").as_bytes());
            machine.node_mut().commit(now);
        });
    }
    world.heal();
    let healed = world.now();
    let bound = config(Profile::Shipped).compare_period * 2;
    let mut after = f64::NAN;
    while world.now() < healed.after(bound * 4) {
        cluster::run(world, Duration::from_secs(1));
        let roots: BTreeSet<u128> = roots(world);
        if roots.len() == 1 {
            after = world.now().since(healed).as_secs_f64();
            break;
        }
    }
    findings.note(
        "C3",
        "60 s apart: all agree after, s",
        after,
        Limit::AtMost(bound.as_secs_f64()),
    );
}

fn roots(world: &World<SimNode>) -> BTreeSet<u128> {
    let running = world.running();
    running
        .iter()
        .filter_map(|node| world.machine(*node))
        .map(|one| one.node().registry().root())
        .collect()
}

/// A service that was registered while things went wrong.
struct Said {
    origin: Life,
    at: Time,
    key: String,
}

/// Links fail, nodes crash and start anew, half of the nodes are cut off for a while.
fn faults(mut world: World<SimNode>, plan: Plan, findings: &mut Findings) {
    const SAID: u32 = 40;
    let period = config(Profile::Shipped).compare_period;
    let mut dice = Dice::new(mix(plan.seed ^ 5));
    world.begin_link_log();
    world.set_rules(vec![Rule::everywhere(PPM / 50, Act::Reset)]);
    let all = said(&mut world, &mut dice, SAID, "reset", |_, _, _| ());
    cluster::run(&mut world, Duration::from_secs(2));
    findings.note(
        "P6",
        "2 % of all messages end their link: known at once, %",
        known_percent(&world, &all),
        Limit::AtLeast(99.9),
    );
    cluster::run(&mut world, period * 2);
    findings.note(
        "P6",
        "2 % of all messages end their link: known after two comparisons, %",
        known_percent(&world, &all),
        Limit::AtLeast(100.0),
    );
    let more = said(&mut world, &mut dice, SAID, "chaos", |world, dice, turn| {
        chaos(world, dice, turn, plan)
    });
    world.heal();
    world.set_rules(Vec::new());
    let until = world.now();
    cluster::run(&mut world, period * 4);
    let (missed, unexplained) = judge(&world, &more, until);
    findings.note(
        "P8",
        "chaos: services that a living node misses",
        missed as f64,
        Limit::Shown,
    );
    findings.note(
        "P8",
        "chaos: of these, not explained by the log of links",
        unexplained as f64,
        Limit::AtMost(0.0),
    );
    findings.seal(world.hash().value(), world.steps());
}

/// Somebody registers something every second.
fn said(
    world: &mut World<SimNode>,
    dice: &mut Dice,
    count: u32,
    name: &str,
    mut meanwhile: impl FnMut(&mut World<SimNode>, &mut Dice, u32),
) -> Vec<Said> {
    let mut all = Vec::new();
    for turn in 0..count {
        meanwhile(world, dice, turn);
        let running = world.running();
        let node = running[dice.index(running.len())];
        let key = format!("{name}-{turn}");
        cluster::register(world, node, &key);
        all.push(Said {
            origin: world.life(node),
            at: world.now(),
            key,
        });
        cluster::run(world, Duration::from_secs(1));
    }
    all
}

fn chaos(world: &mut World<SimNode>, dice: &mut Dice, turn: u32, plan: Plan) {
    let running = world.running();
    let victim = running[dice.index(running.len())];
    match turn % 4 {
        0 if victim != 0 => world.crash(victim),
        1 => {
            if let Some(down) = (0..plan.nodes).find(|node| world.machine(*node).is_none()) {
                cluster::start(world, down, plan.seed ^ u64::from(turn));
                world.act(down, |machine, now| {
                    crate::subject::Subject::join(machine, now, 0)
                });
            }
        }
        2 => world.freeze(victim, Duration::from_secs(1 + dice.below(15))),
        _ if turn == 11 => world.partition(&[(0..plan.nodes / 2).collect()]),
        _ if turn == 31 => world.heal(),
        _ => {}
    }
}

/// Of those that still run in the life in which they said it, what all others know.
fn known_percent(world: &World<SimNode>, all: &[Said]) -> f64 {
    let (mut known, mut wanted) = (0u64, 0u64);
    for said in all
        .iter()
        .filter(|said| world.life(said.origin.node) == said.origin)
    {
        for node in world.running() {
            wanted += 1;
            known += u64::from(knows(world, node, said));
        }
    }
    100.0 * known as f64 / wanted.max(1) as f64
}

fn knows(world: &World<SimNode>, node: NodeNo, said: &Said) -> bool {
    let machine = world.machine(node);
    machine.is_some_and(|one| {
        let mut entries = one
            .node()
            .registry()
            .entries(crate::adapter::id(said.origin.node));
        entries.any(|(pair, _)| pair.key() == said.key.as_bytes())
    })
}

/// Misses, and those of nodes to which a path led.
fn judge(world: &World<SimNode>, all: &[Said], until: Time) -> (u64, u64) {
    let (mut missed, mut unexplained) = (0, 0);
    // whoever said something and is gone took it along
    let is_there = |said: &&Said| {
        world.life(said.origin.node) == said.origin && world.machine(said.origin.node).is_some()
    };
    for said in all.iter().filter(is_there) {
        let missing: Vec<NodeNo> = world
            .running()
            .into_iter()
            .filter(|node| !knows(world, *node, said))
            .collect();
        if missing.is_empty() {
            continue;
        }
        missed += missing.len() as u64;
        let reached = world
            .link_log()
            .map(|log| log.reach(said.origin, said.at, until))
            .unwrap_or_default();
        unexplained += missing
            .iter()
            .filter(|node| reached.contains_key(&world.life(**node)))
            .count() as u64;
    }
    (missed, unexplained)
}
