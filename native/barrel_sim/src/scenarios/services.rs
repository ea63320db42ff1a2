//! Everybody sees the services of everybody (C3).

use std::collections::BTreeMap;
use std::time::Duration;

use barrel_node::{Event, NodeId};

use super::Plan;
use super::agreed::{Cluster, theirs};
use crate::adapter::{config, number};
use crate::kernel::{Latency, NodeNo, Time};
use crate::report::{Findings, Limit};
use crate::subject::Profile;

/// Services of each node, as the target says.
const SERVICES: u64 = 100;

/// Entries of all replicas together, at most: more take minutes and many gigabytes. The hundred million of a thousand
/// nodes with a hundred services each were run once by raising this, in six gigabytes.
const MOST_COPIES: u64 = 4_000_000;

/// What is registered in one turn: a name service reads that many messages before it asks for more.
const TURN: u32 = 50;

/// Broadcasts before: more than a node needs to learn how long to wait for one.
const WARM_UP: u32 = 150;
const WARM_UP_SPAN: Duration = Duration::from_secs(30);

/// In which all nodes register.
const BURST: Duration = Duration::from_secs(10);

/// How often events are collected: a hundred million of them are not kept.
const STEP: Duration = Duration::from_millis(20);

/// How long the cluster is in two parts.
const APART: Duration = Duration::from_secs(60);

/// Of a thousand.
const P99: u64 = 990;

pub(super) fn run(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let services = MOST_COPIES / u64::from(plan.nodes).pow(2);
    let services = services.clamp(1, SERVICES) as u32;
    let mut cluster = Cluster::agreed(plan.nodes, plan.seed, Latency::wide(plan.seed));
    cluster.pool();
    cluster.warm(WARM_UP, WARM_UP_SPAN);
    let period = config(Profile::Shipped).compare_period;
    let name = format!("{} nodes, {services} services each", plan.nodes);
    findings.note(
        "-",
        format!("{name}: largest component, %"),
        cluster.component(),
        Limit::AtLeast(100.0),
    );
    let seen = registered(&mut cluster, services);
    let expected = u64::from(plan.nodes - 1) * u64::from(plan.nodes) * u64::from(services);
    findings.note(
        "C3",
        format!("{name}: 99 % are seen elsewhere after, ms"),
        seen.reached(expected * P99 / 1000),
        Limit::AtMost(1000.0),
    );
    let rest = settle(&mut cluster, period * 2);
    findings.note(
        "C3",
        format!("{name}: all are seen everywhere, comparisons later"),
        rest / period.as_secs_f64(),
        Limit::AtMost(1.0),
    );
    findings.note(
        "-",
        format!("{name}: all are seen after, ms"),
        seen.reached(expected),
        Limit::Shown,
    );
    let rest = parted(&mut cluster, services, period * 4);
    findings.note(
        "C3",
        format!(
            "{name}: after {} s in two halves all agree, comparisons later",
            APART.as_secs()
        ),
        rest / period.as_secs_f64(),
        Limit::AtMost(2.0),
    );
    findings.must(
        "C3",
        format!("{name}: each node shows them all"),
        is_complete(&cluster, services),
    );
    cluster.close(&mut findings);
    findings
}

/// How many services became visible so many milliseconds after they were registered.
#[derive(Default)]
struct Seen {
    by_ms: BTreeMap<u64, u64>,
}

impl Seen {
    /// The milliseconds after which so many were.
    fn reached(&self, count: u64) -> f64 {
        let mut sum = 0;
        for (ms, seen) in &self.by_ms {
            sum += seen;
            if sum >= count {
                return *ms as f64;
            }
        }
        f64::INFINITY
    }
}

/// All nodes register their services, each a turn's worth at a time.
fn registered(cluster: &mut Cluster, services: u32) -> Seen {
    let nodes = cluster.world.running();
    let begun = cluster.world.now();
    let turns = services.div_ceil(TURN);
    let mut at: BTreeMap<(NodeId, u32), Time> = BTreeMap::new();
    let mut seen = Seen::default();
    for turn in 0..turns {
        for (rank, node) in (0..).zip(&nodes) {
            let due = BURST / turns * turn + BURST / turns / nodes.len() as u32 * rank;
            watch(cluster, begun.after(due), &at, &mut seen);
            at.insert((crate::adapter::id(*node), turn), cluster.world.now());
            register(cluster, *node, turn * TURN..services.min((turn + 1) * TURN));
        }
    }
    let end = begun.after(BURST + Duration::from_secs(5));
    watch(cluster, end, &at, &mut seen);
    seen
}

fn watch(
    cluster: &mut Cluster,
    until: Time,
    begun: &BTreeMap<(NodeId, u32), Time>,
    seen: &mut Seen,
) {
    cluster.watch(until, STEP, |at, node, event| {
        if let Event::ServiceUp { origin, pair } = event
            && number(*origin) != Some(node)
            && let Some(service) = service(pair.key())
            && let Some(registered) = begun.get(&(*origin, service / TURN))
        {
            let ms = at.since(*registered).as_millis();
            *seen
                .by_ms
                .entry(u64::try_from(ms).unwrap_or(u64::MAX))
                .or_default() += 1;
        }
    });
}

fn register(cluster: &mut Cluster, node: NodeNo, services: std::ops::Range<u32>) {
    cluster.world.act(node, |machine, now| {
        let machine = machine.node_mut();
        for service in services {
            let done =
                machine.register(theirs(now), key(service).as_bytes(), &value(node, service));
            debug_assert!(done.is_ok(), "a service is not taken: {done:?}");
        }
        machine.commit(theirs(now));
    });
}

/// A registered name.
fn key(service: u32) -> String {
    format!("service_{service}")
}

fn service(key: &[u8]) -> Option<u32> {
    std::str::from_utf8(key)
        .ok()?
        .strip_prefix("service_")?
        .parse()
        .ok()
}

/// As long as a process id in Erlang's external format.
fn value(node: NodeNo, service: u32) -> [u8; 27] {
    let mut value = [b'p'; 27];
    value[..4].copy_from_slice(&node.to_le_bytes());
    value[4..8].copy_from_slice(&service.to_le_bytes());
    value
}

/// Seconds until all registries are equal and nobody is hidden, or infinity.
fn settle(cluster: &mut Cluster, patience: Duration) -> f64 {
    let begun = cluster.world.now();
    while cluster.world.now() < begun.after(patience) {
        if are_equal(cluster) && cluster.is_whole() {
            return cluster.world.now().since(begun).as_secs_f64();
        }
        let next = cluster.world.now().after(Duration::from_millis(500));
        cluster.watch(next, STEP, |_, _, _| ());
    }
    f64::INFINITY
}

fn are_equal(cluster: &Cluster) -> bool {
    let running = cluster.world.running();
    let nodes = running.iter().filter_map(|node| cluster.node(*node));
    let mut roots = nodes.map(|node| node.registry().root());
    let first = roots.next();
    roots.all(|root| Some(root) == first)
}

/// Two halves that go on registering and taking back, and then one cluster again.
fn parted(cluster: &mut Cluster, services: u32, patience: Duration) -> f64 {
    let nodes = cluster.world.running();
    let half = nodes.iter().copied().filter(|node| node % 2 == 0).collect();
    cluster.world.partition(&[half]);
    let begun = cluster.world.now();
    for (rank, node) in (0..).zip(&nodes) {
        let due = begun.after(APART / 2 / nodes.len() as u32 * rank);
        cluster.watch(due, STEP, |_, _, _| ());
        change(cluster, *node, services);
    }
    cluster.watch(begun.after(APART), STEP, |_, _, _| ());
    cluster.world.heal();
    settle(cluster, patience)
}

/// One service goes and another one comes.
fn change(cluster: &mut Cluster, node: NodeNo, services: u32) {
    cluster.world.act(node, |machine, now| {
        let machine = machine.node_mut();
        let was = machine.unregister(theirs(now), key(0).as_bytes());
        debug_assert!(was, "the first service was registered");
        let done = machine.register(
            theirs(now),
            key(services).as_bytes(),
            &value(node, services),
        );
        debug_assert!(done.is_ok(), "a service is not taken: {done:?}");
        machine.commit(theirs(now));
    });
}

/// Whether each node holds all services of all nodes, and hides none.
fn is_complete(cluster: &Cluster, services: u32) -> bool {
    let running = cluster.world.running();
    let wanted = running.len() * services as usize;
    let nodes = running.iter().filter_map(|node| cluster.node(*node));
    nodes
        .map(|node| node.registry().stats())
        .all(|stats| stats.entries == wanted && stats.hidden == 0)
}
