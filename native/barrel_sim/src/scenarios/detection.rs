//! Who is dead, who is not, and who lives again.

use std::collections::BTreeMap;
use std::time::Duration;

use barrel_node::Event;

use super::Plan;
use super::agreed::{Cluster, link_timeout, rules, theirs};
use crate::adapter::{config, id, number};
use crate::kernel::{Act, Dice, Latency, NodeNo, PPM, Rule, Time, mix};
use crate::report::{Findings, Limit};
use crate::subject::Profile;

/// Every link takes so long, one way.
const HOP: Duration = Duration::from_millis(10);

/// Broadcasts before anybody dies, so that there is a tree.
const WARM_UP: u32 = 20;
const WARM_UP_SPAN: Duration = Duration::from_secs(10);

/// Deaths of which each is measured.
const DEATHS: usize = 5;

/// Nodes that die together with all their neighbours.
const LONELY: usize = 3;

/// What detection may take beyond the two timeouts, and beyond that where no neighbour survives.
const BEYOND: Duration = Duration::from_secs(1);

/// Probe periods that a death without witnesses may take more.
const PERIODS: u32 = 3;

/// How long is watched when all is known.
const AFTERMATH: Duration = Duration::from_secs(3);

/// Of a hundred living nodes, so many have to know.
const KNOWING: usize = 99;

/// How long messages are lost.
const LOSSY: Duration = Duration::from_secs(120);

/// Of a million messages or links so many are hit.
const PART: u32 = PPM / 20;

/// Seconds in which links fail.
const RESETS: u32 = 20;

/// How long the cluster is in two parts.
const APART: Duration = Duration::from_secs(60);

/// In how long all are shown again.
const REUNION: Duration = Duration::from_secs(60);

/// Deaths, among ten thousand.
pub(super) fn run(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let mut cluster = begin(plan, &mut findings);
    deaths(&mut cluster, plan, &mut findings);
    lonely(&mut cluster, plan, &mut findings);
    cluster.close(&mut findings);
    findings
}

/// Who seemed dead and is not, and who begins a new life.
pub(super) fn returns(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let mut cluster = begin(plan, &mut findings);
    frozen(&mut cluster, plan, &mut findings);
    restart(&mut cluster, plan, &mut findings);
    losses(&mut cluster, &mut findings);
    resets(&mut cluster, &mut findings);
    partition(&mut cluster, &mut findings);
    cluster.close(&mut findings);
    findings
}

fn begin(plan: Plan, findings: &mut Findings) -> Cluster {
    let mut cluster = Cluster::agreed(plan.nodes, plan.seed, Latency::Fixed(HOP));
    cluster.warm(WARM_UP, WARM_UP_SPAN);
    findings.must("M2", "all know all", cluster.is_whole());
    findings.note(
        "-",
        "largest component of the overlay, %",
        cluster.component(),
        Limit::AtLeast(100.0),
    );
    cluster
}

/// Some die, and their neighbours live.
fn deaths(cluster: &mut Cluster, plan: Plan, findings: &mut Findings) {
    let mut dice = Dice::new(mix(plan.seed ^ 0xdead));
    let mut living = cluster.world.running();
    dice.shuffle(&mut living);
    living.truncate(DEATHS);
    let bound = link_timeout() + cluster.suspect_timeout() + BEYOND;
    let reports = watch_deaths(cluster, &living, bound + BEYOND * 5);
    findings.note(
        "-",
        "time a suspect has, s",
        cluster.suspect_timeout().as_secs_f64(),
        Limit::Shown,
    );
    reports.tell(&living, "a neighbour survives", bound, findings);
}

/// Some die with all their neighbours; only those in the middle are measured.
fn lonely(cluster: &mut Cluster, plan: Plan, findings: &mut Findings) {
    let mut dice = Dice::new(mix(plan.seed ^ 0x10_4e1));
    let living = cluster.world.running();
    let mut centres = Vec::new();
    let mut victims = Vec::new();
    while centres.len() < LONELY {
        let centre = living[dice.index(living.len())];
        if !victims.contains(&centre) {
            let neighbours = cluster
                .node(centre)
                .into_iter()
                .flat_map(|node| node.overlay().active());
            victims.extend(neighbours.filter_map(number));
            victims.push(centre);
            centres.push(centre);
        }
    }
    victims.sort_unstable();
    victims.dedup();
    let bound =
        link_timeout() + cluster.suspect_timeout() + BEYOND + rules().probe_period * PERIODS;
    let reports = watch_deaths(cluster, &victims, bound + BEYOND * 5);
    reports.tell(&centres, "no neighbour survives", bound, findings);
}

/// Who was reported when, and how often the living were.
struct Reports {
    died: Time,
    living: usize,
    of: BTreeMap<NodeNo, Vec<Time>>,
    wrong: usize,
}

fn watch_deaths(cluster: &mut Cluster, victims: &[NodeNo], span: Duration) -> Reports {
    cluster.world.take_happened();
    victims
        .iter()
        .for_each(|victim| cluster.world.crash(*victim));
    let died = cluster.world.now();
    let mut reports = Reports {
        died,
        living: cluster.world.running().len(),
        of: victims.iter().map(|victim| (*victim, Vec::new())).collect(),
        wrong: 0,
    };
    let end = died.after(span);
    // who is reported wrongly is so soon after
    let mut until = end;
    while cluster.world.now() < until {
        let next = cluster.world.now().after(BEYOND).min(until);
        cluster.watch(next, BEYOND, |at, _, event| {
            if let Some(member) = down(event) {
                match reports.of.get_mut(&member) {
                    Some(times) => times.push(at),
                    None => reports.wrong += 1,
                }
            }
        });
        if until == end && reports.are_complete() {
            until = next.after(AFTERMATH);
        }
    }
    reports
}

impl Reports {
    /// Whether all the living know of all deaths.
    fn are_complete(&self) -> bool {
        self.of.values().all(|times| times.len() >= self.living)
    }

    /// The slowest death among these.
    fn tell(&self, victims: &[NodeNo], what: &str, bound: Duration, findings: &mut Findings) {
        let needed = (self.living * KNOWING).div_ceil(100);
        let times = victims.iter().filter_map(|victim| self.of.get(victim));
        let known = times.map(|times| {
            let mut times = times.clone();
            times.sort_unstable();
            let at = times.get(needed.saturating_sub(1));
            at.map_or(f64::INFINITY, |at| at.since(self.died).as_secs_f64())
        });
        findings.note(
            "M2",
            format!(
                "{what}: {KNOWING} % know of the slowest of {} deaths after, s",
                victims.len()
            ),
            known.fold(0.0, f64::max),
            Limit::AtMost(bound.as_secs_f64()),
        );
        findings.note(
            "M2",
            format!("{what}: living nodes reported dead"),
            self.wrong as f64,
            Limit::AtMost(0.0),
        );
    }
}

/// Nodes that stand still for almost the link timeout.
fn frozen(cluster: &mut Cluster, plan: Plan, findings: &mut Findings) {
    let mut dice = Dice::new(mix(plan.seed ^ 0xf0));
    let mut nodes = cluster.world.running();
    dice.shuffle(&mut nodes);
    cluster.world.take_happened();
    for node in &nodes[..DEATHS] {
        cluster.world.freeze(*node, link_timeout() - BEYOND);
    }
    let reported = reported(cluster, link_timeout() * 4);
    findings.note(
        "M2",
        format!(
            "{DEATHS} nodes frozen for {} s: reports of a death",
            (link_timeout() - BEYOND).as_secs()
        ),
        reported as f64,
        Limit::AtMost(0.0),
    );
}

/// Messages are lost while their links live on.
fn losses(cluster: &mut Cluster, findings: &mut Findings) {
    cluster
        .world
        .set_rules(vec![Rule::everywhere(PART, Act::Drop)]);
    let before = suspicions(cluster);
    let reported = reported(cluster, LOSSY);
    cluster.world.set_rules(Vec::new());
    let raised = suspicions(cluster) - before;
    innocent(
        cluster,
        "5 % of the messages are lost",
        reported,
        raised,
        findings,
    );
}

/// Links fail all the time. Both ends suspect each other, and both refute.
fn resets(cluster: &mut Cluster, findings: &mut Findings) {
    let before = suspicions(cluster);
    let mut reported = 0;
    for _ in 0..RESETS {
        cluster.world.reset_links(PART);
        reported += self::reported(cluster, BEYOND);
    }
    let raised = suspicions(cluster) - before;
    innocent(
        cluster,
        "5 % of the links fail in each second",
        reported,
        raised,
        findings,
    );
}

/// Nobody has died: nobody is to be reported, then or later.
fn innocent(
    cluster: &mut Cluster,
    what: &str,
    reported: usize,
    raised: u64,
    findings: &mut Findings,
) {
    let later = self::reported(cluster, link_timeout() * 4);
    findings.note(
        "M2",
        format!("{what}: reports of a death"),
        (reported + later) as f64,
        Limit::AtMost(0.0),
    );
    findings.note(
        "-",
        format!("{what}: suspicions, all refuted"),
        raised as f64,
        Limit::Shown,
    );
}

fn suspicions(cluster: &Cluster) -> u64 {
    let all = cluster.world.running();
    let nodes = all.iter().filter_map(|node| cluster.node(*node));
    nodes.map(|node| node.members().stats().suspicions).sum()
}

/// How often anybody is reported dead for so long.
fn reported(cluster: &mut Cluster, span: Duration) -> usize {
    let mut count = 0;
    let until = cluster.world.now().after(span);
    cluster.watch(until, Duration::from_secs(1), |_, _, event| {
        count += usize::from(down(event).is_some());
    });
    count
}

/// Two halves, and then one cluster again.
fn partition(cluster: &mut Cluster, findings: &mut Findings) {
    let mut half = cluster.world.running();
    let larger = half.len().div_ceil(2);
    half.truncate(larger);
    cluster.world.partition(&[half]);
    cluster.rest(APART);
    findings.note(
        "M2",
        format!(
            "after {} s in two halves: most members of one, less half of all",
            APART.as_secs()
        ),
        cluster.sizes().1 as f64 - larger as f64,
        Limit::AtMost(0.0),
    );
    cluster.world.heal();
    let begun = cluster.world.now();
    let mut healed = f64::INFINITY;
    while healed.is_infinite() && cluster.world.now() < begun.after(REUNION) {
        cluster.rest(BEYOND);
        if cluster.is_whole() {
            healed = cluster.world.now().since(begun).as_secs_f64();
        }
    }
    findings.note(
        "M2",
        "halves meet: all are shown again after, s",
        healed,
        Limit::AtMost(REUNION.as_secs_f64()),
    );
}

/// Nodes die and come back under their names before anybody has noticed.
fn restart(cluster: &mut Cluster, plan: Plan, findings: &mut Findings) {
    let mut dice = Dice::new(mix(plan.seed ^ 0x4e));
    let mut nodes = cluster.world.running();
    dice.shuffle(&mut nodes);
    let contact = nodes[DEATHS];
    nodes.truncate(DEATHS);
    nodes
        .iter()
        .for_each(|node| register(cluster, *node, "old"));
    cluster.rest(BEYOND * 5);
    let shown = shown(cluster, &nodes);
    for node in &nodes {
        cluster.world.crash(*node);
        cluster.rest(BEYOND);
        cluster.start(*node);
        cluster.join(*node, contact);
        register(cluster, *node, "new");
    }
    // what a broadcast did not bring, two comparisons do
    cluster.rest(config(Profile::Shipped).compare_period * 2);
    let everywhere = nodes.len() * cluster.world.running().len();
    findings.must(
        "M2",
        "restart: services of the first life are shown everywhere",
        shown == (everywhere, 0),
    );
    let (old, new) = self::shown(cluster, &nodes);
    findings.note(
        "M2",
        "restart: services of the first life still shown",
        old as f64,
        Limit::AtMost(0.0),
    );
    findings.note(
        "M2",
        "restart: services of the second life shown, of all nodes, %",
        100.0 * new as f64 / everywhere as f64,
        Limit::AtLeast(100.0),
    );
    findings.must("M2", "restart: all know all", cluster.is_whole());
}

fn register(cluster: &mut Cluster, node: NodeNo, key: &str) {
    cluster.world.act(node, |machine, now| {
        let node = machine.node_mut();
        let done = node.register(theirs(now), key.as_bytes(), b"pid");
        debug_assert!(done.is_ok(), "one service is not taken: {done:?}");
        node.commit(theirs(now));
    });
}

/// How many copies there are of the old services of these nodes, and of the new.
fn shown(cluster: &Cluster, of: &[NodeNo]) -> (usize, usize) {
    let all = cluster.world.running();
    let registries = all
        .iter()
        .filter_map(|node| cluster.node(*node))
        .map(|node| node.registry());
    let (mut old, mut new) = (0, 0);
    for registry in registries {
        for (pair, _) in of.iter().flat_map(|owner| registry.entries(id(*owner))) {
            old += usize::from(pair.key() == b"old");
            new += usize::from(pair.key() == b"new");
        }
    }
    (old, new)
}

/// Who is reported dead.
fn down(event: &Event) -> Option<NodeNo> {
    match event {
        Event::NodeDown {
            node, left: false, ..
        } => number(*node),
        _ => None,
    }
}
