// SPDX-License-Identifier: Apache-2.0

//! Measures the tree: `cargo run --release -p barrel_plumtree --example figures -- 10000 1`
//! for ten thousand nodes and seed 1.

#![allow(clippy::print_stdout, reason = "it is what this is for")]
#![allow(clippy::unwrap_used, reason = "a measurement may fail")]

#[path = "../tests/network/mod.rs"]
mod network;

use std::env;
use std::time::Duration;

use barrel_plumtree::Config;
use network::{Latency, Loss, Network, Summary, ms};

/// Messages from random senders, or one, far apart.
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

fn fixed(t1: u64, optimize_at: Option<u16>) -> Config {
    Config {
        t1_max: ms(t1),
        t1_min: ms(t1),
        optimize_at,
        ..Config::default()
    }
}

fn main() {
    let mut args = env::args().skip(1).map_while(|arg| arg.parse().ok());
    let size: usize = args.next().unwrap_or(1000);
    let seed: u64 = args.next().unwrap_or(1) as u64;
    println!("{size} nodes, seed {seed}");
    println!(
        "{:34} | reliability|  RMR   | hops avg max | t50 / last / worst ms | ihave | grafts | prunes | lost",
        ""
    );
    let show = |name: &str, summary: Summary| println!("{name:34} | {summary}");
    for latency in [Latency::Unit, Latency::Wan] {
        let mut network = Network::random(size, latency, &Config::default(), seed);
        show(
            &format!("{latency:?}: first message"),
            send(&mut network, 1, Some(0)),
        );
        show("  second", send(&mut network, 1, Some(0)));
        show("  one sender, 3..10", send(&mut network, 8, Some(0)));
        show("  many senders, 11..60", send(&mut network, 50, None));
        show("  many senders, 61..160", send(&mut network, 100, None));
        show("  many senders, 161..210", send(&mut network, 50, None));
        let t1: Duration = network.nodes.iter().map(|n| n.tree.stats().t1).sum();
        println!("  T1 on average: {} ms", t1.as_millis() / size as u128);
        show(
            "  another single sender",
            send(&mut network, 20, Some(size / 2)),
        );

        let mut network = Network::random(size, latency, &Config::default(), seed);
        send(&mut network, 150, Some(0));
        let t1: Duration = network.nodes.iter().map(|n| n.tree.stats().t1).sum();
        println!(
            "  T1 after 150 messages from one sender: {} ms",
            t1.as_millis() / size as u128
        );
        show("  then many senders", send(&mut network, 50, None));

        for (t1, optimize_at) in [
            (1000, Some(7)),
            (1000, Some(3)),
            (400, None),
            (250, None),
            (150, None),
            (80, None),
        ] {
            let mut network = Network::random(size, latency, &fixed(t1, optimize_at), seed);
            send(&mut network, 10, None);
            show(
                &format!("  T1 {t1} ms, threshold {optimize_at:?}, many"),
                send(&mut network, 30, None),
            );
        }
        for loss in [Loss::Silent, Loss::Reset] {
            let mut network = Network::random(size, latency, &Config::default(), seed);
            send(&mut network, 5, None);
            network.loss = (20_000, loss);
            show(
                &format!("  2 % loss, {loss:?}, many senders"),
                send(&mut network, 50, None),
            );
        }
        let mut network = Network::random(size, latency, &Config::default(), seed);
        send(&mut network, 5, None);
        let first = network.reports.len();
        for peer in 0..size.min(1000) {
            network.broadcast(peer);
        }
        network.run();
        show(
            "  burst of one message each (1,000)",
            Summary::of(&network.reports[first..]),
        );
    }
    for percent in [10, 30, 50, 80, 90] {
        let mut network = Network::random(size, Latency::Unit, &Config::default(), seed);
        send(&mut network, 3, Some(0));
        network.kill(percent);
        let origin = network.anybody();
        show(
            &format!("{percent} % killed: first message"),
            send(&mut network, 1, Some(origin)),
        );
        show("  second", send(&mut network, 1, Some(origin)));
        show("  then many senders", send(&mut network, 10, None));
    }
}
