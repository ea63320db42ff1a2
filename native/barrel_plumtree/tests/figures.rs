// SPDX-License-Identifier: Apache-2.0

//! What the tree costs and how fast it is, with a thousand nodes of five neighbours each. The
//! example `figures` prints the same for more.

mod network;

use barrel_plumtree::Config;
use network::{Latency, Loss, Network, Summary, ms};

fn network(latency: Latency, seed: u64) -> Network {
    Network::random(1000, latency, &Config::default(), seed)
}

/// Messages one after the other, from one sender or many. Each has arrived when the next
/// is sent, also as far as the nodes can tell.
fn send(network: &mut Network, count: usize, origin: Option<usize>) -> Summary {
    let first = network.reports.len();
    for _ in 0..count {
        let peer = match origin {
            Some(peer) => peer,
            None => network.anybody(),
        };
        network.run_for(Config::default().t1_max);
        network.broadcast(peer);
        network.run();
    }
    let reports = &network.reports[first..];
    assert!(reports.iter().all(network::Report::is_complete));
    Summary::of(reports)
}

/// Each node announces each message to the three neighbours that are not in the tree.
fn assert_is_a_tree(summary: Summary) {
    assert!(summary.rmr <= 0.01, "{summary}");
    assert!(summary.announced <= 3.05, "{summary}");
}

#[test]
fn the_first_message_floods_and_leaves_a_tree() {
    for (latency, hops, last) in [(Latency::Unit, 8, 80.0), (Latency::Wan, 13, 400.0)] {
        let mut network = network(latency, 1);
        let flood = send(&mut network, 1, Some(0));
        assert!((2.9..=3.1).contains(&flood.rmr), "{flood}");
        let steady = send(&mut network, 5, Some(0));
        assert_is_a_tree(steady);
        assert!(steady.hops <= hops && steady.worst_ms <= last, "{steady}");
    }
}

#[test]
fn one_tree_serves_all_senders() {
    for (latency, hops, last) in [(Latency::Unit, 14, 140.0), (Latency::Wan, 24, 700.0)] {
        let mut network = network(latency, 2);
        send(&mut network, 1, Some(0));
        let many = send(&mut network, 10, None);
        assert_is_a_tree(many);
        assert!(many.hops <= hops && many.worst_ms <= last, "{many}");
    }
}

#[test]
fn what_one_sender_teaches_is_not_too_short_for_others() {
    let config = Config::default();
    for latency in [Latency::Unit, Latency::Wan] {
        let mut network = Network::random(200, latency, &config, 3);
        send(&mut network, 110, Some(0));
        let learnt = |network: &Network| network.nodes[1].tree.stats().t1;
        assert!(learnt(&network) < config.t1_max);
        let many = send(&mut network, 30, None);
        assert_is_a_tree(many);
    }
}

#[test]
fn what_a_few_messages_teach_is_not_too_short_for_others() {
    let config = Config::default();
    for latency in [Latency::Unit, Latency::Wan] {
        for seed in 1..=5 {
            let mut network = Network::random(500, latency, &config, seed);
            send(&mut network, 10, Some(0));
            let many = send(&mut network, 30, None);
            assert_is_a_tree(many);
        }
    }
}

#[test]
fn all_may_send_at_once() {
    let mut network = network(Latency::Wan, 3);
    send(&mut network, 2, None);
    let first = network.reports.len();
    for peer in (0..1000).step_by(10) {
        network.broadcast(peer);
    }
    network.run();
    let reports = &network.reports[first..];
    assert!(reports.iter().all(network::Report::is_complete));
    assert_is_a_tree(Summary::of(reports));
}

#[test]
fn the_tree_is_whole_again_with_the_second_message_after_a_mass_failure() {
    for percent in [10, 30, 50, 80] {
        let mut network = network(Latency::Unit, 4);
        send(&mut network, 2, Some(0));
        network.kill(percent);
        // who came off tells its new neighbours
        network.run();
        let origin = network.anybody();
        let first = send(&mut network, 1, Some(origin));
        // All new links eager would be a flood, and a redundancy of 3.
        assert!(first.rmr <= 1.6, "{percent} %: {first}");
        let second = send(&mut network, 1, Some(origin));
        assert!(second.rmr <= 0.01, "{percent} %: {second}");
    }
}

#[test]
fn almost_all_is_delivered_where_a_fiftieth_is_lost() {
    for loss in [Loss::Silent, Loss::Reset] {
        let mut network = network(Latency::Unit, 5);
        send(&mut network, 3, None);
        network.loss = (20_000, loss);
        let first = network.reports.len();
        for _ in 0..15 {
            let peer = network.anybody();
            network.broadcast(peer);
            network.run();
        }
        let summary = Summary::of(&network.reports[first..]);
        assert!(summary.reliability >= 0.999, "{loss:?}: {summary}");
        assert!(summary.rmr <= 0.5, "{loss:?}: {summary}");
    }
}

#[test]
fn anti_entropy_beside_the_tree_does_not_cut_it() {
    let mut network = Network::random(500, Latency::Wan, &Config::default(), 8);
    send(&mut network, 3, None);
    let first = network.reports.len();
    for _ in 0..15 {
        let origin = network.anybody();
        network.broadcast(origin);
        // Within the second in which the message is under way a tenth of the nodes compare.
        for _ in 0..50 {
            network.run_for(ms(20));
            let (a, b) = (network.anybody(), network.anybody());
            network.fetch(a, b);
            network.fetch(b, a);
        }
        network.run();
    }
    let reports = &network.reports[first..];
    let fetched: usize = reports.iter().map(|report| report.fetched).sum();
    assert!(
        fetched > 30,
        "{fetched} of them are too few to show anything"
    );
    assert!(reports.iter().all(network::Report::is_complete));
    let summary = Summary::of(reports);
    assert_is_a_tree(summary);
    assert!(summary.worst_ms <= 700.0, "{summary}");
}

#[test]
fn one_seed_has_one_course() {
    let course = |seed| {
        let mut network = network(Latency::Wan, seed);
        network.loss = (50_000, Loss::Reset);
        for _ in 0..3 {
            let peer = network.anybody();
            network.broadcast(peer);
            network.run_for(ms(150));
        }
        network.run();
        format!("{:?} {:?}", network.now, network.reports)
    };
    assert_eq!(course(6), course(6));
    assert_ne!(course(6), course(7));
}
