//! How the overlay is knit (H1 to H6).

use super::Plan;
use super::limits::Limits;
use super::worlds::{Joins, Worlds};
use crate::kernel::{Dice, World, mix};
use crate::measure::{Graph, Spread};
use crate::report::{Chart, Findings, Limit, Series};
use crate::subject::{Profile, Subject};

/// Paths are measured from so many nodes at 10,000, and from all where there are no more than that.
const SOURCES: usize = 1000;

pub(super) fn run<S: Subject>(plan: Plan, worlds: &Worlds<S>) -> Findings {
    let mut findings = Findings::default();
    worlds.with(plan, Profile::Paper, |rest| {
        after_joins(rest.joins, &mut findings);
        settled(&rest.world, plan, &mut findings);
        findings.seal(rest.world.hash().value(), rest.world.steps());
    });
    findings
}

fn after_joins(joins: Joins, findings: &mut Findings) {
    findings.note(
        "H1",
        "largest component after the joins, %",
        joins.giant_percent,
        Limit::AtLeast(100.0),
    );
    findings.note("-", "evictions per join", joins.evictions, Limit::Shown);
    findings.note(
        "-",
        "address books with the contact after the joins",
        joins.most_books,
        Limit::Shown,
    );
}

fn settled<S: Subject>(world: &World<S>, plan: Plan, findings: &mut Findings) {
    let limits = Limits::of(plan.nodes);
    let graph = Graph::of(world);
    findings.note(
        "H1",
        "largest component after 50 cycles, %",
        graph.giant_percent(),
        Limit::AtLeast(100.0),
    );
    let degrees = graph.degrees();
    let full = degrees.iter().filter(|degree| **degree >= 5).count();
    findings.note(
        "H2",
        "full active views, %",
        100.0 * full as f64 / graph.len() as f64,
        Limit::AtLeast(limits.full),
    );
    findings.note(
        "H3",
        "asymmetric links",
        graph.asymmetric() as f64,
        Limit::AtMost(0.0),
    );
    let paths = graph.paths(SOURCES, &mut Dice::new(mix(plan.seed)));
    findings.note(
        "H4",
        format!("average shortest path ({} sources)", paths.sources),
        paths.mean,
        Limit::AtMost(limits.path),
    );
    findings.note(
        "H4",
        "longest shortest path",
        f64::from(paths.longest),
        Limit::AtMost(limits.hops),
    );
    findings.note(
        "-",
        "average of the longest of each node",
        paths.mean_longest,
        Limit::Shown,
    );
    findings.note(
        "H5",
        "clustering",
        graph.clustering(),
        Limit::AtMost(limits.clustering),
    );
    let books = Graph::passive_in_degrees(world);
    findings.note(
        "H6",
        "address books with one node, most",
        books.most as f64,
        Limit::AtMost(60.0),
    );
    findings.note(
        "H6",
        "address books with one node, least",
        books.least as f64,
        Limit::AtLeast(10.0),
    );
    findings.note(
        "H6",
        "address books with one node, deviation",
        books.deviation,
        Limit::AtMost(5.0),
    );
    findings.charts.push(histogram(degrees, plan));
}

fn histogram(degrees: Vec<u64>, plan: Plan) -> Chart {
    let most = Spread::of(degrees.clone()).most;
    let count = |degree: u64| degrees.iter().filter(|one| **one == degree).count();
    Chart {
        file: "degrees".into(),
        title: format!("Neighbours, {} nodes after 50 cycles", plan.nodes),
        across: "neighbours".into(),
        up: "nodes".into(),
        series: vec![Series {
            name: format!("seed {}", plan.seed),
            points: (0..=most)
                .map(|degree| (degree as f64, count(degree) as f64))
                .collect(),
        }],
    }
}
