// SPDX-License-Identifier: Apache-2.0

//! A thousand members who know each other: how soon a death is known to all, and who is
//! wrongly taken for dead.

mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use barrel_members::{Config, DownReason};
use net::{Id, Net, millis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NODES: u32 = 1_000;
const SEEDS: [u64; 3] = [1, 2, 3];

/// Five neighbours each, like the overlay: two rings and one set of pairs, at random.
fn overlay(seed: u64) -> BTreeSet<(Id, Id)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pairs = BTreeSet::new();
    for ring in 0..3 {
        let mut order: Vec<Id> = (0..NODES).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, rng.random_range(0..=at as u32) as usize);
        }
        let step = if ring < 2 { 1 } else { 2 };
        for at in (0..order.len()).step_by(step) {
            let (a, b) = (order[at], order[(at + 1) % order.len()]);
            pairs.insert((a.min(b), a.max(b)));
        }
    }
    pairs
}

fn network(seed: u64) -> Net {
    network_of(seed, Config::default())
}

fn network_of(seed: u64, config: Config) -> Net {
    let mut net = Net::new(NODES, overlay(seed), config, seed);
    net.records = false;
    // Let every node be somewhere in its round.
    net.run(Duration::from_secs(20));
    net
}

/// The time after which 99 of 100 who live had been told of each of these deaths.
fn told(net: &Net, died: Duration, dead: &[Id]) -> BTreeMap<Id, Duration> {
    let living = net.peers.iter().filter(|peer| peer.up).count();
    let mut told = BTreeMap::new();
    for &member in dead {
        let downs = net.downs.iter().filter(|down| down.member == member);
        let living_ones = downs.filter(|down| net.peers[down.by as usize].up);
        let mut times: Vec<_> = living_ones.map(|down| down.at - died).collect();
        times.sort_unstable();
        let needed = (living * 99).div_ceil(100);
        assert!(
            times.len() >= needed,
            "{member}: only {} of {living} were told",
            times.len()
        );
        told.insert(member, times[needed - 1]);
    }
    told
}

fn allowed(net: &Net) -> Duration {
    let timeout = net
        .peers
        .iter()
        .map(|peer| peer.members.suspect_timeout())
        .max();
    net.config.link_timeout + timeout.unwrap_or_default() + millis(1_000)
}

fn only_these_are_down(net: &Net, dead: &[Id]) {
    let wrong = net.downs.iter().find(|down| !dead.contains(&down.member));
    let wrong = wrong.map(|down| (down.by, down.member, down.at));
    assert_eq!(wrong, None, "who is told, of whom, when");
    assert!(
        net.downs
            .iter()
            .all(|down| down.reason == DownReason::Unreachable)
    );
}

#[test]
fn a_death_that_a_neighbour_survives_is_known_after_the_timeouts_and_a_second() {
    for seed in SEEDS {
        let mut net = network(seed);
        let (died, dead) = (net.now, [17, 400, 801]);
        for id in dead {
            net.crash(id);
        }
        net.run(Duration::from_secs(60));
        for (member, time) in told(&net, died, &dead) {
            let most = allowed(&net);
            assert!(
                time <= most,
                "seed {seed}: {member} after {time:?}, allowed {most:?}"
            );
        }
        only_these_are_down(&net, &dead);
    }
}

#[test]
fn a_death_with_all_neighbours_is_known_three_probe_periods_later_at_most() {
    for seed in SEEDS {
        let mut net = network(seed);
        let mut dead = net.neighbours_of(500);
        dead.push(500);
        let died = net.now;
        for &id in &dead {
            net.crash(id);
        }
        net.run(Duration::from_secs(90));
        let told = told(&net, died, &dead);
        let most = allowed(&net) + 3 * net.config.probe_period;
        assert!(
            told[&500] <= most,
            "seed {seed}: {:?}, allowed {most:?}",
            told[&500]
        );
        only_these_are_down(&net, &dead);
    }
}

#[test]
fn five_percent_loss_and_failing_links_leave_nobody_unreachable() {
    for seed in SEEDS {
        // who asks nobody before suspects most
        let mut net = network_of(
            seed,
            Config {
                redial_wait: Duration::ZERO,
                ..Config::default()
            },
        );
        net.loss = 50;
        for _ in 0..30 {
            net.break_one_of_all_links();
            net.run(Duration::from_secs(2));
        }
        let raised: u64 = net
            .peers
            .iter()
            .map(|peer| peer.members.stats().suspicions)
            .sum();
        assert!(raised > 0, "nothing was suspected, so nothing is shown");
        only_these_are_down(&net, &[]);
    }
}

#[test]
fn links_that_fail_and_can_be_made_again_are_no_news() {
    for seed in SEEDS {
        let mut net = network(seed);
        for _ in 0..10 {
            net.break_one_of_all_links();
            net.run(Duration::from_secs(2));
        }
        let stats = net.peers.iter().map(|peer| peer.members.stats());
        assert_eq!(stats.map(|stats| stats.suspicions).sum::<u64>(), 0);
        only_these_are_down(&net, &[]);
    }
}

#[test]
fn who_is_frozen_for_less_than_the_link_timeout_is_never_reported() {
    for seed in SEEDS {
        let mut net = network(seed);
        for id in 0..40 {
            net.freeze(id * 25, net.config.link_timeout - millis(200));
            net.run(Duration::from_secs(2));
        }
        net.run(Duration::from_secs(40));
        only_these_are_down(&net, &[]);
    }
}
