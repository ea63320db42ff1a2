//! What a broadcast costs, and how long it takes (P1 to P4, P7).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Plan;
use super::limits::Limits;
use super::worlds::Worlds;
use crate::kernel::{Dice, Latency, NodeNo, World, mix};
use crate::measure::{Delivery, broadcast};
use crate::report::{Chart, Findings, Limit, Series};
use crate::subject::{Profile, Subject, TreeCounts};

/// Broadcasts until the tree stands.
const WARM_UP: u64 = 10;

/// Broadcasts that are measured.
const MEASURED: u64 = 20;

/// How long each is watched: the longest T1 twice.
const WATCH: Duration = Duration::from_secs(2);

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Senders {
    One,
    Many,
}

pub(super) fn run<S: Subject>(plan: Plan, worlds: &Worlds<S>) -> Findings {
    let mut findings = Findings::default();
    let settled = worlds.settled(plan, Profile::Paper);
    for (latency, name) in [
        (None, "10 ms"),
        (Some(Latency::wide(plan.seed)), "10-100 ms"),
    ] {
        for senders in [Senders::One, Senders::Many] {
            let mut world = settled.clone();
            if let Some(latency) = latency.clone() {
                world.set_latency(latency);
            }
            steady(world, plan, name, senders, &mut findings);
        }
    }
    findings
}

fn steady<S: Subject>(
    mut world: World<S>,
    plan: Plan,
    links: &str,
    senders: Senders,
    findings: &mut Findings,
) {
    let nodes = world.running();
    let mut dice = Dice::new(mix(plan.seed ^ 77));
    let mut sender = || match senders {
        Senders::One => nodes[0],
        Senders::Many => nodes[dice.index(nodes.len())],
    };
    let mut all = Vec::new();
    for number in 0..WARM_UP + MEASURED {
        let delivery = broadcast(&mut world, sender(), number, WATCH);
        if number >= WARM_UP {
            all.push(delivery);
        } else if number == 0 && senders == Senders::One {
            let flood = format!("{links}: redundancy of the very first");
            findings.note("-", flood, delivery.redundancy(), Limit::Shown);
        }
    }
    let who = if senders == Senders::One {
        "one sender"
    } else {
        "many senders"
    };
    report(&all, plan, &format!("{links}, {who}"), senders, findings);
    findings
        .charts
        .push(curve(&all, &format!("{links}, {who}"), plan));
    findings.seal(world.hash().value(), world.steps());
}

fn report(all: &[Delivery], plan: Plan, name: &str, senders: Senders, findings: &mut Findings) {
    let limits = Limits::of(plan.nodes);
    let is_wide = name.starts_with("10-");
    let what = |what: &str| format!("{name}: {what}");
    let (hops, last) = match senders {
        Senders::One => (limits.one_sender_hops, limits.last_ms.0),
        Senders::Many => (limits.many_senders_hops, limits.last_ms.1),
    };
    let mut cost = TreeCounts::default();
    all.iter().for_each(|delivery| cost += delivery.cost);
    let count = all.len() as f64;
    let per_node = |value: u64| value as f64 / count / f64::from(plan.nodes);
    let worst = all.iter().map(Delivery::reliability).fold(100.0, f64::min);
    findings.note("P1", what("reliability, %"), worst, Limit::AtLeast(100.0));
    let receivers: usize = all.iter().map(|delivery| delivery.times_ms.len()).sum();
    findings.note(
        "P1",
        what("redundancy"),
        cost.payload as f64 / receivers.max(1) as f64 - 1.0,
        Limit::AtMost(0.01),
    );
    let median = all
        .iter()
        .map(|delivery| delivery.percentile_ms(50) as f64)
        .fold(0.0, f64::max);
    findings.note("-", what("half have it after, ms"), median, Limit::Shown);
    let most = all
        .iter()
        .map(|delivery| delivery.percentile_ms(100) as f64)
        .fold(0.0, f64::max);
    // every link takes ten milliseconds
    if !is_wide {
        findings.note(
            "P2",
            what("hops of the longest way"),
            most / 10.0,
            Limit::AtMost(hops),
        );
    }
    findings.note(
        "P3",
        what("the last has it after, ms"),
        most,
        if is_wide {
            Limit::AtMost(last)
        } else {
            Limit::Shown
        },
    );
    findings.note(
        "P4",
        what("payloads of a node"),
        per_node(cost.payload),
        Limit::AtMost(1.01),
    );
    findings.note(
        "P4",
        what("announcements of a node"),
        per_node(cost.announced),
        Limit::AtMost(3.05),
    );
    findings.note(
        "-",
        what("grafts and prunes of a broadcast"),
        (cost.grafts + cost.prunes) as f64 / count,
        Limit::Shown,
    );
    let forwards = all
        .iter()
        .map(|delivery| delivery.most_forwards)
        .max()
        .unwrap_or(0);
    findings.note(
        "-",
        what("most forwards of one node"),
        forwards as f64,
        Limit::Shown,
    );
}

/// The last of the broadcasts over time.
fn curve(all: &[Delivery], name: &str, plan: Plan) -> Chart {
    let times = all
        .last()
        .map(|delivery| delivery.times_ms.as_slice())
        .unwrap_or_default();
    let part = |rank: usize| 100.0 * (rank + 1) as f64 / times.len().max(1) as f64;
    let every = times.len().div_ceil(200).max(1);
    let points = times
        .iter()
        .enumerate()
        .filter(|(rank, _)| rank % every == 0 || rank + 1 == times.len());
    Chart {
        file: "delivery".into(),
        title: format!("Who has a broadcast, {} nodes", plan.nodes),
        across: "milliseconds".into(),
        up: "nodes, %".into(),
        series: vec![Series {
            name: format!("{name}, seed {}", plan.seed),
            points: points.map(|(rank, ms)| (*ms as f64, part(rank))).collect(),
        }],
    }
}

/// Every node says one thing within a second.
pub(super) fn burst<S: Subject>(plan: Plan, worlds: &Worlds<S>) -> Findings {
    let mut findings = Findings::default();
    let mut world = worlds.settled(plan, Profile::Paper);
    for number in 0..WARM_UP {
        broadcast(&mut world, 0, number, WATCH);
    }
    let nodes = world.running();
    let before = total(&world, &nodes);
    let begun = world.now();
    for node in &nodes {
        world.act(*node, |machine, now| {
            machine.say(now, 1 << 32 | u64::from(*node))
        });
        world.run_until(begun.after(Duration::from_secs(1) / plan.nodes * (*node + 1)));
    }
    world.run_until(begun.after(WATCH * 4));
    let mut heard: BTreeMap<u64, usize> = BTreeMap::new();
    for one in world.take_happened() {
        if let Some(heard_of) = S::heard(&one.event) {
            *heard.entry(heard_of.number).or_default() += 1;
        }
    }
    let deliveries: usize = heard.values().sum();
    let wanted = nodes.len() * (nodes.len() - 1);
    let cost = total(&world, &nodes) - before;
    findings.note(
        "P7",
        "burst: reliability, %",
        100.0 * deliveries as f64 / wanted as f64,
        Limit::AtLeast(100.0),
    );
    findings.note(
        "P7",
        "burst: redundancy",
        cost.payload as f64 / deliveries.max(1) as f64 - 1.0,
        Limit::AtMost(0.05),
    );
    findings.seal(world.hash().value(), world.steps());
    findings
}

fn total<S: Subject>(world: &World<S>, nodes: &[NodeNo]) -> TreeCounts {
    let mut total = TreeCounts::default();
    nodes
        .iter()
        .filter_map(|node| world.machine(*node))
        .for_each(|machine| total += machine.tree());
    total
}
