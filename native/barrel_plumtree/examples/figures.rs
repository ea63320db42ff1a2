// SPDX-License-Identifier: Apache-2.0

//! Measures the tree: `cargo run --release -p barrel_plumtree --example figures -- 10000 1`
//! for ten thousand nodes and seed 1, and with one of `steady`, `senders`, `settings`, `losses`,
//! `burst` and `failures` behind these for that alone.
//!
//! The columns are: part of the deliveries that were; copies per receiver above one (RMR); the
//! last delivery hop, mean and worst; milliseconds until half of the nodes and until all had
//! it, and the worst of the latter; ids announced per node; links grafted and pruned
//! per message; messages that a node gave up.

#![allow(clippy::print_stdout, reason = "it is what this is for")]
#![allow(clippy::unwrap_used, reason = "a measurement may fail")]

#[path = "../tests/network/mod.rs"]
mod network;

use std::env;
use std::time::Duration;

use barrel_plumtree::Config;
use network::{Latency, Loss, Network, Summary, ms};

type Scenario = fn(usize, Latency, u64);

const SCENARIOS: [(&str, Scenario); 5] = [
    ("steady", steady),
    ("senders", senders_change),
    ("settings", settings),
    ("losses", losses),
    ("burst", burst),
];

fn main() {
    let mut args = env::args().skip(1);
    let size = args.next().map_or(1000, |arg| arg.parse().unwrap());
    let seed = args.next().map_or(1, |arg| arg.parse().unwrap());
    println!("{size} nodes, seed {seed}");
    println!(
        "{:32} | reliability |  RMR  | hops max | t50  last worst | ihave |  grafts |  prunes | lost",
        ""
    );
    let only = args.next();
    let wanted = |name| only.as_deref().is_none_or(|only| only == name);
    for latency in [Latency::Wan, Latency::Unit] {
        for (name, scenario) in SCENARIOS {
            if wanted(name) {
                scenario(size, latency, seed);
            }
        }
    }
    for percent in [10, 30, 50, 80, 90] {
        if wanted("failures") {
            failure(size, percent, seed);
        }
    }
}

fn network(size: usize, latency: Latency, seed: u64) -> Network {
    Network::random(size, latency, &Config::default(), seed)
}

/// Messages one after the other, from one sender or many.
fn send(network: &mut Network, count: usize, origin: Option<usize>) -> Summary {
    let first = network.reports.len();
    for _ in 0..count {
        let peer = match origin {
            Some(peer) => peer,
            None => network.anybody(),
        };
        network.broadcast(peer);
        network.run();
    }
    Summary::of(&network.reports[first..])
}

fn show(name: &str, summary: Summary) {
    println!("{name:32} | {summary}");
}

fn show_t1(network: &Network) {
    let sum: Duration = network.nodes.iter().map(|n| n.tree.stats().t1).sum();
    let mean = sum.as_millis() / network.nodes.len() as u128;
    println!("  T1 is now {mean} ms on average");
}

fn steady(size: usize, latency: Latency, seed: u64) {
    let mut network = network(size, latency, seed);
    let first = send(&mut network, 1, Some(0));
    show(&format!("{latency:?}: first message"), first);
    show("  one sender", send(&mut network, 10, Some(0)));
    show("  many senders", send(&mut network, 40, None));
    show("  ... while T1 is learnt", send(&mut network, 70, None));
    show_t1(&network);
    show("  ... and after", send(&mut network, 40, None));
}

fn senders_change(size: usize, latency: Latency, seed: u64) {
    let mut network = network(size, latency, seed);
    send(&mut network, 110, Some(0));
    show_t1(&network);
    show(
        "  many senders after a single one",
        send(&mut network, 30, None),
    );
}

fn settings(size: usize, latency: Latency, seed: u64) {
    let learnt = Config::default();
    let fixed = |t1| Config {
        t1_min: ms(t1),
        t1_max: ms(t1),
        ..learnt.clone()
    };
    let optimized = |rounds| Config {
        optimize_at: Some(rounds),
        ..learnt.clone()
    };
    for (name, config) in [
        ("many, optimised at 7 rounds", optimized(7)),
        ("many, optimised at 3 rounds", optimized(3)),
        ("many, T1 of 400 ms", fixed(400)),
        ("many, T1 of 250 ms", fixed(250)),
        ("many, T1 of 150 ms", fixed(150)),
        ("many, T1 of 80 ms", fixed(80)),
    ] {
        let mut network = Network::random(size, latency, &config, seed);
        send(&mut network, 10, None);
        show(&format!("  {name}"), send(&mut network, 20, None));
    }
}

fn losses(size: usize, latency: Latency, seed: u64) {
    for (part, loss) in [
        (20_000, Loss::Silent),
        (20_000, Loss::Reset),
        (2000, Loss::Reset),
    ] {
        let mut network = network(size, latency, seed);
        send(&mut network, 5, None);
        network.loss = (part, loss);
        let summary = send(&mut network, 20, None);
        let percent = f64::from(part) / 10_000.0;
        show(&format!("  {percent} % lost, {loss:?}"), summary);
        network.loss = (0, loss);
        send(&mut network, 1, None);
        show("  ... and after", send(&mut network, 10, None));
    }
}

/// A thousand messages at once.
fn burst(size: usize, latency: Latency, seed: u64) {
    let mut network = network(size, latency, seed);
    send(&mut network, 5, None);
    let first = network.reports.len();
    for peer in 0..size.min(1000) {
        network.broadcast(peer);
    }
    network.run();
    show(
        "  a thousand at once",
        Summary::of(&network.reports[first..]),
    );
}

fn failure(size: usize, percent: usize, seed: u64) {
    let mut network = network(size, Latency::Unit, seed);
    send(&mut network, 3, Some(0));
    network.kill(percent);
    let origin = Some(network.anybody());
    let first = send(&mut network, 1, origin);
    show(&format!("{percent} % killed: first message"), first);
    show("  second", send(&mut network, 1, origin));
    show("  many senders", send(&mut network, 10, None));
}
