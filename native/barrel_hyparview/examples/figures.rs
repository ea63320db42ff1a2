// SPDX-License-Identifier: Apache-2.0

//! Prints the figures of an overlay: `figures [NODES] [SEED] [paper|shipped|large]`.
//!
//! `large` is what is shipped, with an address book of 128.

#![allow(clippy::print_stdout, reason = "it prints")]

#[path = "../tests/net/mod.rs"]
mod net;

use std::time::Duration;

use barrel_hyparview::{Config, Stats};
use net::Net;

fn main() {
    let mut args = std::env::args().skip(1);
    let size = args
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    let seed = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let which = args.next().unwrap_or_else(|| "paper".into());
    let config = match which.as_str() {
        "shipped" => Config::default(),
        "large" => Config {
            passive_size: 128,
            ..Config::default()
        },
        // So long a period keeps shuffles out of the joins and of one pass of repair.
        _ => Config {
            shuffle_period: Duration::from_secs(36_000),
            ..Config::paper()
        },
    };
    println!("{which}, {size} nodes, seed {seed}");
    let net = build(size, &config, seed);
    let paper = config.lost_book.is_none();
    failures(&net);
    if !paper {
        let few = build(size.min(1000), &config, seed);
        partitions(&few);
    }
    storm(size.min(1000), &config, seed);
}

fn sum(net: &Net, count: impl Fn(&Stats) -> u64) -> f64 {
    let total: u64 = net.living().map(|id| count(net.node(id).stats())).sum();
    total as f64 / net.living().count() as f64
}

fn build(size: u32, config: &Config, seed: u64) -> Net {
    let mut net = Net::joined(size, config, seed, Duration::from_millis(100));
    let contact = |net: &Net| {
        let holds = |id: &u32| net.node(*id).passive().any(|peer| peer == 0);
        net.living().filter(holds).count()
    };
    println!(
        "after joins: giant {:.2} %, full {:.2} %, asymmetric {}, contact in {} books, walk steps {:.1}, evictions {:.2} per join",
        net.giant(),
        net.full(),
        net.asymmetric(),
        contact(&net),
        sum(&net, |stats| stats.walk_steps),
        sum(&net, |stats| stats.evictions),
    );
    println!("  address books {:?}", net.passive_in_degree());
    net.tell_size();
    let messages = net.messages;
    net.cycles(50);
    let messages = (net.messages - messages) as f64 / f64::from(size) / 50.0;
    net.settle();
    let paths = net.paths(200);
    println!(
        "after 50 cycles: giant {:.2} %, full {:.2} %, asymmetric {}, path {:.4}, hops {}, clustering {:.5}, {messages:.2} messages per cycle",
        net.giant(),
        net.full(),
        net.asymmetric(),
        paths.average,
        paths.longest,
        net.clustering(),
    );
    println!(
        "  address books {:?}, contact in {}",
        net.passive_in_degree(),
        contact(&net)
    );
    net
}

fn failures(net: &Net) {
    for percent in [10, 30, 50, 70, 80, 90, 95] {
        let mut net = net.clone();
        let before = (
            sum(&net, |stats| stats.failed_requests),
            sum(&net, |stats| stats.requests),
        );
        let mut undetected = net.clone();
        net.kill(percent);
        let giant = net.giant();
        net.settle();
        // survivors had the same counts as all, on average
        let failed = sum(&net, |stats| stats.failed_requests) - before.0;
        let asked = sum(&net, |stats| stats.requests) - before.1 - failed;
        println!(
            "kill {percent} %: giant {giant:.2} %, repaired {:.2} %, reliability {:.2} %, failed dials {failed:.2}, requests {asked:.2}, full {:.1} %, asymmetric {}",
            net.giant(),
            net.reliability(50),
            net.full(),
            net.asymmetric(),
        );
        undetected.kill_unseen(percent);
        let mut healed = Vec::new();
        for _ in 0..4 {
            undetected.cycles(1);
            healed.push(format!("{:.2}", undetected.giant()));
        }
        println!("  giant after cycles 1..4: {}", healed.join(" "));
    }
}

fn partitions(net: &Net) {
    for (percent, length) in [(50, 10), (50, 50), (50, 200), (10, 10), (10, 50), (10, 200)] {
        let mut net = net.clone();
        net.part(percent);
        let side = net.side.clone();
        net.cycles(length);
        net.heal();
        let merges = |net: &Net| sum(net, |stats| stats.merges) * net.living().count() as f64;
        let before = merges(&net);
        let minority = side.iter().filter(|side| **side == 1).count() as f64;
        let random = 5.0 * minority * (side.len() as f64 - minority) / side.len() as f64;
        let mut line =
            format!("part {percent} % for {length} cycles, {random:.0} cross links at random:");
        let mut passed = 0;
        for cycle in [1, 2, 3, 5, 10, 20, 50, 100] {
            net.cycles(cycle - passed);
            passed = cycle;
            line += &format!(" {cycle}: {:.0} % {}", net.giant(), net.cross_links(&side));
        }
        println!(
            "{line}; merges {}, asymmetric {}",
            merges(&net) - before,
            net.asymmetric()
        );
    }
}

/// All at once through three contacts.
fn storm(size: u32, config: &Config, seed: u64) {
    let mut net = Net::new(size, config, seed);
    net.join(1, 0);
    net.join(2, 0);
    net.settle();
    (3..size).for_each(|id| net.join(id, id % 3));
    let mut line = format!("{size} join at once:");
    let mut passed = 0;
    for cycle in [1, 2, 5, 10] {
        net.cycles(cycle - passed);
        passed = cycle;
        let spread = net.passive_in_degree();
        line += &format!(
            " {cycle}: giant {:.2} % full {:.1} % in-degree max {} mean {:.1};",
            net.giant(),
            net.full(),
            spread.max,
            spread.mean
        );
    }
    net.settle();
    println!("{line} asymmetric {}", net.asymmetric());
}
