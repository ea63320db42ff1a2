// SPDX-License-Identifier: Apache-2.0

//! What an overlay must look like: connected, random, symmetric, and again so after failures.
//!
//! A thousand nodes here; ten thousand with
//! `cargo test --release -p barrel_hyparview --test overlay -- --ignored`, and all figures with
//! `cargo run --release -p barrel_hyparview --example figures -- 10000`.

mod net;

use std::sync::LazyLock;
use std::time::Duration;

use barrel_hyparview::Config;
use net::Net;

/// A network under construction gets a new node so often.
const APART: Duration = Duration::from_millis(100);

/// The paper's protocol, joined through one contact and shuffled for a while.
static PAPER: LazyLock<Net> = LazyLock::new(|| paper(1000, 1, 16));

/// What is shipped.
static SHIPPED: LazyLock<Net> = LazyLock::new(|| shipped(500, 1, Config::default(), 12));

/// So long a period keeps shuffles out of the joins, as in the paper.
fn paper(size: u32, seed: u64, cycles: u32) -> Net {
    let config = Config {
        shuffle_period: Duration::from_secs(36_000),
        ..Config::paper()
    };
    let mut net = Net::joined(size, &config, seed, APART);
    assert!(net.giant() >= 100.0, "one component after the joins");
    net.cycles(cycles);
    net.settle();
    net
}

fn shipped(size: u32, seed: u64, config: Config, cycles: u32) -> Net {
    let mut net = Net::joined(size, &config, seed, APART);
    net.tell_size();
    net.cycles(cycles);
    net.settle();
    net
}

fn dials(net: &Net) -> f64 {
    let failed = |id| net.node(id).stats().failed_requests;
    net.living().map(failed).sum::<u64>() as f64 / net.living().count() as f64
}

/// Kills, tells, lets all repair once; the part that a broadcast reaches, and the failed
/// dials of a survivor.
fn after_failure(net: &Net, percent: u32) -> (f64, f64) {
    let mut net = net.clone();
    let before = dials(&net);
    net.kill(percent);
    net.settle();
    assert_eq!(net.asymmetric(), 0);
    (net.reliability(20), dials(&net) - before)
}

#[test]
fn joins_and_shuffles_make_a_random_graph() {
    let net = &*PAPER;
    assert!(net.giant() >= 100.0);
    assert!(net.full() >= 99.0, "{}", net.full());
    assert_eq!(net.asymmetric(), 0);
    let paths = net.paths(100);
    assert!(paths.average <= 4.8 && paths.longest <= 8, "{paths:?}");
    assert!(net.clustering() <= 0.008, "{}", net.clustering());
    // after so few periods the contact is still in more address books than others
    let books = net.passive_in_degree();
    assert!(
        books.deviation <= 5.0 && books.max <= 100 && books.min >= 10,
        "{books:?}"
    );
}

#[test]
fn the_additions_leave_it_random() {
    let net = &*SHIPPED;
    assert!(net.giant() >= 100.0);
    assert!(net.full() >= 99.0, "{}", net.full());
    assert_eq!(net.asymmetric(), 0);
    let paths = net.paths(100);
    assert!(paths.average <= 4.4 && paths.longest <= 8, "{paths:?}");
    let books = net.passive_in_degree();
    assert!(books.max as f64 <= 3.0 * books.mean, "{books:?}");
}

#[test]
fn one_pass_of_repair_survives_the_death_of_most() {
    for net in [&*PAPER, &*SHIPPED] {
        for percent in [30, 80] {
            let (reliability, dials) = after_failure(net, percent);
            assert!(reliability >= 100.0, "{percent} %: {reliability}");
            assert!(dials <= 16.0, "{percent} %: {dials} dials");
        }
        // of a hundred survivors, some know nobody who lives
        let (reliability, _) = after_failure(net, 90);
        assert!(reliability >= 90.0, "90 %: {reliability}");
    }
}

#[test]
fn shuffles_alone_find_the_dead() {
    for (percent, cycles) in [(50, 1), (80, 2)] {
        let mut net = PAPER.clone();
        net.kill_unseen(percent);
        net.cycles(cycles);
        net.settle();
        assert!(net.giant() >= 100.0, "{percent} %: {}", net.giant());
    }
}

#[test]
fn halves_of_a_partition_find_each_other_and_mix() {
    let before = shipped(200, 1, Config::default(), 5);
    for (percent, cycles) in [(50, 12), (10, 12)] {
        let mut net = before.clone();
        net.part(percent);
        net.cycles(cycles);
        net.settle();
        let side = net.side.clone();
        assert_eq!(net.cross_links(&side), 0);
        net.heal();
        net.cycles(3);
        assert!(net.giant() >= 100.0, "{percent} %: {}", net.giant());
        net.cycles(97);
        net.settle();
        let minority = side.iter().filter(|side| **side == 1).count() as f64;
        let random = 5.0 * minority * (200.0 - minority) / 200.0;
        let links = net.cross_links(&side);
        assert!(
            links as f64 >= 0.85 * random,
            "{percent} %: {links} of {random}"
        );
        assert_eq!(net.asymmetric(), 0);
        let merges: u64 = net.living().map(|id| net.node(id).stats().merges).sum();
        assert!(merges <= 100, "{merges} merges");
    }
}

#[test]
fn a_cluster_that_joins_at_once_has_no_hub() {
    let size = 300;
    let mut net = Net::new(size, &Config::default(), 1);
    net.join(1, 0);
    net.join(2, 0);
    net.settle();
    (3..size).for_each(|id| net.join(id, id % 3));
    net.cycles(1);
    net.settle();
    assert!(net.giant() >= 100.0);
    assert!(net.full() >= 99.0, "{}", net.full());
    net.cycles(9);
    net.settle();
    assert!(net.full() >= 99.0, "{}", net.full());
    let books = net.passive_in_degree();
    assert!(books.max as f64 <= 5.0 * books.mean, "{books:?}");
    assert_eq!(net.asymmetric(), 0);
}

#[test]
fn a_small_cluster_is_fully_meshed() {
    let mut net = Net::new(8, &Config::default(), 1);
    (1..8).for_each(|id| net.join(id, 0));
    net.tell_size();
    net.cycles(3);
    net.settle();
    assert!(net.living().all(|id| net.node(id).active().count() == 7));
}

#[test]
fn the_same_seed_makes_the_same_network() {
    let views = |net: &Net| -> Vec<Vec<u32>> {
        net.living()
            .map(|id| {
                net.node(id)
                    .active()
                    .chain(net.node(id).passive())
                    .collect()
            })
            .collect()
    };
    let [one, other] = [1, 1].map(|seed| shipped(100, seed, Config::default(), 5));
    assert_eq!(views(&one), views(&other));
    assert_eq!(one.messages, other.messages);
    let third = shipped(100, 2, Config::default(), 5);
    assert_ne!(views(&one), views(&third));
}

#[test]
#[ignore = "minutes without optimisation"]
fn ten_thousand_nodes_are_as_good_as_the_paper_says() {
    for seed in 1..=3 {
        let net = paper(10_000, seed, 50);
        assert!(net.giant() >= 100.0 && net.full() >= 99.5);
        assert_eq!(net.asymmetric(), 0);
        let paths = net.paths(200);
        assert!(paths.average <= 6.45 && paths.longest <= 10, "{paths:?}");
        assert!(net.clustering() <= 0.001, "{}", net.clustering());
        let books = net.passive_in_degree();
        assert!(
            books.deviation <= 5.0 && books.max <= 60 && books.min >= 10,
            "{books:?}"
        );
        for (percent, least) in [
            (10, 100.0),
            (30, 100.0),
            (50, 100.0),
            (70, 100.0),
            (80, 100.0),
            (90, 99.5),
        ] {
            let (reliability, dials) = after_failure(&net, percent);
            assert!(reliability >= least, "{percent} %: {reliability}");
            assert!(percent > 80 || dials <= 16.0, "{percent} %: {dials} dials");
        }
        let mut last = net.clone();
        last.kill(95);
        last.settle();
        assert!(last.giant() >= 92.0, "95 %: {}", last.giant());
    }
}

#[test]
#[ignore = "minutes without optimisation"]
fn ten_thousand_nodes_with_large_address_books_survive_more() {
    let config = Config {
        passive_size: 128,
        ..Config::default()
    };
    for seed in 1..=3 {
        let net = shipped(10_000, seed, config.clone(), 50);
        assert!(net.giant() >= 100.0);
        for (percent, least) in [(80, 100.0), (90, 99.95), (95, 99.5)] {
            let mut net = net.clone();
            net.kill(percent);
            net.settle();
            assert!(net.giant() >= least, "{percent} %: {}", net.giant());
        }
    }
}
