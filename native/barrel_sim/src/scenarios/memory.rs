//! What a node holds (M1).
//!
//! Bytes asked of the allocator. Where nobody counts them, as in a unit test, the figures are no numbers.

use std::time::Duration;

use barrel_members::{Card, Members};
use barrel_node::Node;
use barrel_ormap::Registry;

use super::Plan;
use super::agreed::{Cluster, rules};
use crate::adapter::id;
use crate::kernel::Latency;
use crate::measure::heap;
use crate::report::{Findings, Limit};

/// What a node may take with its views, its tree and the context of its registry: half a megabyte.
const NODE: f64 = 512.0 * 1024.0;

/// What the views may take of it.
const VIEWS: f64 = 20.0 * 1024.0;

/// What a record in the directory may take.
const RECORD: f64 = 300.0;

/// Broadcasts before it is measured.
const BROADCASTS: u32 = 20;
const BROADCASTS_SPAN: Duration = Duration::from_secs(30);

/// Nodes that are looked at one by one.
const SAMPLE: u32 = 100;

pub(super) fn run(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let context = context(plan.nodes, &mut findings);
    let (mut cluster, born) =
        heap::of(|| Cluster::strangers(plan.nodes, plan.seed, Latency::wide(plan.seed)));
    let ((), met) = heap::of(|| cluster.introduce());
    directory(&cluster, met, &mut findings);
    let ((), joined) = heap::of(|| {
        cluster.unite();
        cluster.warm(BROADCASTS, BROADCASTS_SPAN);
    });
    let own = born
        .zip(joined)
        .map_or(f64::NAN, |(born, joined)| born + joined);
    nodes(
        &cluster,
        own / f64::from(plan.nodes),
        context,
        &mut findings,
    );
    cluster.close(&mut findings);
    findings
}

/// A registry that knows the log of each node, in which nothing is registered any more.
fn context(nodes: u32, findings: &mut Findings) -> f64 {
    let (registry, bytes) = heap::of(|| {
        let mut registry = Registry::new(id(0), 1, barrel_ormap::Config::default());
        for node in 1..nodes {
            let begun = registry.begin(id(node), 1);
            debug_assert!(begun.is_ok(), "a log more is refused: {begun:?}");
        }
        registry
    });
    let bytes = bytes.unwrap_or(f64::NAN);
    let origins = registry.stats().origins as f64;
    findings.note(
        "-",
        "context of the registry for one origin, B",
        bytes / origins,
        Limit::Shown,
    );
    bytes
}

/// All have joined, and some have said something. The directory is in the memory of the first alone.
fn nodes(cluster: &Cluster, each: f64, context: f64, findings: &mut Findings) {
    findings.note(
        "M1",
        "views, tree, links and registry context of a node, B",
        each + context,
        Limit::AtMost(NODE),
    );
    findings.note(
        "-",
        "of this all but the context, with what the simulator adds, B",
        each,
        Limit::Shown,
    );

    let sample: Vec<&Node> = (0..SAMPLE).filter_map(|node| cluster.node(node)).collect();
    let count = sample.len() as f64;
    let (views, bytes) = heap::of(|| {
        sample
            .iter()
            .map(|one| one.overlay().clone())
            .collect::<Vec<_>>()
    });
    drop(views);
    findings.note(
        "M1",
        "views of a node, B",
        bytes.unwrap_or(f64::NAN) / count,
        Limit::AtMost(VIEWS),
    );
    let (trees, bytes) = heap::of(|| {
        sample
            .iter()
            .map(|one| one.tree().clone())
            .collect::<Vec<_>>()
    });
    drop(trees);
    findings.note(
        "-",
        "tree of a node, B",
        bytes.unwrap_or(f64::NAN) / count,
        Limit::Shown,
    );
    let books: usize = sample.iter().map(|one| one.held().records).sum();
    findings.note(
        "-",
        "records of others outside of the directory",
        books as f64 / count,
        Limit::Shown,
    );
}

/// A node that has met all others, in so many bytes: their records, and what is kept of how they fare.
fn directory(cluster: &Cluster, met: Option<f64>, findings: &mut Findings) {
    let others = cluster.world.len() as f64 - 1.0;
    let all = met.unwrap_or(f64::NAN) / others;
    let liveness = liveness(cluster) / others;
    let length = cluster
        .node(0)
        .map_or(0, |node| node.record().bytes().len());
    findings.note(
        "M1",
        "record of a member in the directory, B",
        all - liveness,
        Limit::AtMost(RECORD),
    );
    findings.note(
        "-",
        "of this the signed bytes, B",
        length as f64,
        Limit::Shown,
    );
    findings.note(
        "-",
        "how a member fares and what it is called, B",
        liveness,
        Limit::Shown,
    );
    let members = cluster.node(0).map_or(0, |node| node.members().len());
    findings.must("-", "the node has met all", members == cluster.world.len());
}

/// What the members' table of the first node takes, in memory of its own.
fn liveness(cluster: &Cluster) -> f64 {
    let Some(known) = cluster.node(0).map(Node::members) else {
        return f64::NAN;
    };
    let (table, bytes) = heap::of(|| {
        let mut table = Members::new(id(0), "n0@sim", 1, rules(), 1);
        for (member, card) in known.iter().filter(|(member, _)| *member != id(0)) {
            let card = Card {
                name: (*card.name).into(),
                ..(**card).clone()
            };
            let taken = table.handle_record(Duration::ZERO, member, card);
            debug_assert!(taken.is_ok(), "a member is refused: {taken:?}");
            while table.poll_output().is_some() {}
        }
        table
    });
    drop(table);
    bytes.unwrap_or(f64::NAN)
}
