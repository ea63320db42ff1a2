// SPDX-License-Identifier: Apache-2.0

//! The rules, one by one, told to one node. With the feature `mutants` each is
//! broken on purpose, and its test must fail.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod network;

use std::time::Duration;

use barrel_plumtree::{
    CacheConfig, Config, Event, IdCache, Message, Misbehaved, Output, Plumtree, Seen, Verdict,
};
use bytes::Bytes;
use network::{Latency, Network, Summary, ms};

type Out = Output<char, u32>;

/// One node and what it has taken in.
struct One {
    now: Duration,
    tree: Plumtree<char, u32>,
    cache: IdCache<u32>,
    verdict: Verdict,
}

impl One {
    fn new(config: &Config, neighbors: &str) -> Self {
        let mut one = Self {
            now: Duration::ZERO,
            tree: Plumtree::new(config.clone(), 1),
            cache: IdCache::new(CacheConfig::default()),
            verdict: Verdict::New,
        };
        for peer in neighbors.chars() {
            one.meet(peer);
        }
        one
    }

    fn meet(&mut self, peer: char) -> Vec<Out> {
        self.tree.handle_neighbor_up(self.now, peer);
        self.drain()
    }

    fn part(&mut self, peer: char) {
        self.tree.handle_neighbor_down(self.now, peer);
        assert_eq!(self.drain(), []);
    }

    fn hear(&mut self, from: char, msg: Message<u32>) -> Vec<Out> {
        self.tree
            .handle_message(self.now, from, msg, &self.cache)
            .unwrap();
        self.drain()
    }

    fn gossip(&mut self, from: char, id: u32) -> Vec<Out> {
        self.hear(from, gossip(id, 3))
    }

    fn announce(&mut self, from: char, id: u32) -> Vec<Out> {
        self.hear(from, ihave(&[(id, 2)]))
    }

    fn broadcast(&mut self, id: u32) -> Vec<Out> {
        self.cache.insert(self.now, id, body());
        self.tree.broadcast(self.now, id, body());
        self.drain()
    }

    /// Until the next timeout.
    fn wait(&mut self) -> Vec<Out> {
        self.now = self.tree.poll_timeout().unwrap();
        self.tree.handle_timeout(self.now, &self.cache);
        self.drain()
    }

    /// All that happens in that time.
    fn wait_for(&mut self, time: Duration) -> Vec<Out> {
        let until = self.now + time;
        let mut all = Vec::new();
        while self.tree.poll_timeout().is_some_and(|at| at <= until) {
            all.extend(self.wait());
        }
        self.now = until;
        all
    }

    /// What it does, without the events that say that the tree has changed.
    fn drain(&mut self) -> Vec<Out> {
        let mut all = Vec::new();
        while let Some(output) = self.tree.poll_output() {
            match output {
                Output::Event(Event::TreeChanged { .. }) => {}
                Output::Deliver { from, id, body, .. } => {
                    if self.verdict == Verdict::New {
                        assert!(self.cache.insert(self.now, id, body));
                    }
                    self.tree.handle_verdict(self.now, from, id, self.verdict);
                }
                output => all.push(output),
            }
        }
        all
    }

    fn eager(&self) -> String {
        self.tree.eager().collect()
    }

    fn lazy(&self) -> String {
        self.tree.lazy().collect()
    }
}

fn body() -> Bytes {
    Bytes::from_static(b"a message")
}

fn gossip(id: u32, round: u16) -> Message<u32> {
    let body = body();
    Message::Gossip { id, round, body }
}

fn ihave(ids: &[(u32, u16)]) -> Message<u32> {
    Message::IHave { ids: ids.to_vec() }
}

fn graft(id: u32) -> Message<u32> {
    Message::Graft {
        id: Some(id),
        round: 2,
    }
}

fn send(to: char, msg: Message<u32>) -> Out {
    Output::Send { to, msg }
}

/// From now on, whole.
const HOLD: Message<u32> = Message::Graft { id: None, round: 0 };

fn lost(id: u32, asked: u32) -> Out {
    Output::Event(Event::Lost { id, asked })
}

#[test]
fn an_own_message_goes_to_all_at_first() {
    let mut one = One::new(&Config::default(), "ab");
    let all = [send('a', gossip(1, 0)), send('b', gossip(1, 0))];
    assert_eq!(one.broadcast(1), all);
}

#[test]
fn a_new_message_goes_to_all_but_its_sender() {
    let mut one = One::new(&Config::default(), "abc");
    one.hear('b', Message::Prune);
    assert_eq!(one.gossip('a', 1), [send('c', gossip(1, 4))]);
    assert_eq!(one.wait(), [send('b', ihave(&[(1, 4)]))]);
    assert_eq!(one.tree.poll_timeout(), None);
}

fn who_sends_a_duplicate_is_lazy_at_once(config: &Config) {
    let mut one = One::new(config, "abc");
    one.gossip('a', 1);
    one.gossip('b', 1);
    assert_eq!((one.eager().as_str(), one.lazy().as_str()), ("ac", "b"));
}

fn who_sends_a_duplicate_is_told_each_time(config: &Config) {
    let mut one = One::new(config, "ab");
    one.gossip('a', 1);
    for _ in 0..2 {
        // It may not have heard the first time.
        assert_eq!(one.gossip('b', 1), [send('b', Message::Prune)]);
    }
}

fn all_that_announced_are_asked_in_turn(config: &Config) {
    let mut one = One::new(config, "abc");
    one.hear('a', Message::Prune);
    one.announce('a', 1);
    one.announce('b', 1);
    assert_eq!(one.wait(), [send('a', graft(1))]);
    assert_eq!(one.eager(), "abc");
    assert_eq!(one.wait(), [send('b', graft(1))]);
    assert_eq!(one.wait(), [lost(1, 2)]);
    assert_eq!(one.tree.poll_timeout(), None);
}

fn what_was_lost_is_asked_for_when_it_is_announced_again(config: &Config) {
    let mut one = One::new(config, "a");
    one.announce('a', 1);
    assert_eq!(one.wait(), [send('a', graft(1))]);
    assert_eq!(one.wait(), [lost(1, 1)]);
    one.announce('a', 1);
    assert_eq!(one.wait(), [send('a', graft(1))]);
}

fn what_is_announced_is_waited_for(config: &Config) {
    let mut one = One::new(config, "ab");
    one.announce('a', 1);
    assert_eq!(one.wait_for(ms(999)), []);
    one.gossip('b', 1);
    assert_eq!(one.wait_for(ms(5000)), [send('a', ihave(&[(1, 4)]))]);
}

fn a_stranger_changes_nothing(config: &Config) {
    let mut one = One::new(config, "a");
    for msg in [gossip(1, 0), ihave(&[(2, 0)]), graft(3), Message::Prune] {
        let result = one.tree.handle_message(one.now, 'x', msg, &one.cache);
        assert_eq!(result, Err(Misbehaved::NotANeighbor { peer: 'x' }));
        assert_eq!(one.drain(), []);
    }
    assert_eq!((one.eager().as_str(), one.tree.poll_timeout()), ("a", None));
}

/// Over links as different as those of the Internet, many senders, all the time.
fn no_sender_pulls_the_tree_apart(config: &Config) {
    let mut network = Network::random(100, Latency::Wan, config, 1);
    for _ in 0..12 {
        let peer = network.anybody();
        network.broadcast(peer);
        network.run();
    }
    let summary = Summary::of(&network.reports[4..]);
    assert!(summary.rmr <= 0.01, "{summary}");
}

/// Twenty messages a second from anywhere, while one takes half a second. All links are new.
fn under_load_a_flood_becomes_a_tree(config: &Config) {
    let mut network = Network::random(100, Latency::Wan, config, 5);
    for _ in 0..1200 {
        let peer = network.anybody();
        network.broadcast(peer);
        network.run_for(ms(50));
    }
    network.run();
    let settled = Summary::of(&network.reports[1000..]);
    assert!(settled.reliability >= 1.0, "{settled}");
    assert!(settled.rmr <= 0.01, "{settled}");
    assert!(settled.worst_ms <= 800.0, "{settled}");
}

macro_rules! rules {
    ($($rule:ident, $mutant:ident;)*) => {
        mod kept {
            use super::Config;
            $(#[test] fn $rule() { super::$rule(&Config::default()); })*
        }

        #[cfg(feature = "mutants")]
        mod broken {
            use super::Config;
            use barrel_plumtree::Mutant;
            $(#[test] #[should_panic] fn $rule() {
                let mutant = Some(Mutant::$mutant);
                super::$rule(&Config { mutant, ..Config::default() });
            })*
        }
    };
}

rules! {
    who_sends_a_duplicate_is_lazy_at_once, KeepDuplicateSender;
    who_sends_a_duplicate_is_told_each_time, NoPrune;
    all_that_announced_are_asked_in_turn, AskOnce;
    what_was_lost_is_asked_for_when_it_is_announced_again, KeepLost;
    what_is_announced_is_waited_for, ImmediateGraft;
    a_stranger_changes_nothing, HearStrangers;
    no_sender_pulls_the_tree_apart, ImmediateGraft;
    under_load_a_flood_becomes_a_tree, AllShape;
}

#[test]
fn announcements_wait_for_others_until_they_are_many() {
    let config = Config::default();
    let mut one = One::new(&config, "ab");
    one.hear('b', Message::Prune);
    let ids: Vec<_> = (0..=32).map(|id| (id, 4)).collect();
    let sent: Vec<_> = (0..=32)
        .flat_map(|id| one.gossip('a', id))
        .filter(|output| matches!(output, Output::Send { to: 'b', .. }))
        .collect();
    assert_eq!(sent, [send('b', ihave(&ids[..32]))]);
    assert_eq!(
        one.wait_for(config.ihave_delay),
        [send('b', ihave(&ids[32..]))]
    );
}

#[test]
fn who_announced_a_message_is_not_sent_it() {
    let mut one = One::new(&Config::default(), "abc");
    one.announce('b', 1);
    assert_eq!(one.gossip('a', 1), [send('c', gossip(1, 4))]);
    assert_eq!(one.eager(), "abc");
}

#[test]
fn who_asks_gets_the_message_and_those_that_follow() {
    let mut one = One::new(&Config::default(), "ab");
    one.gossip('a', 1);
    one.hear('b', Message::Prune);
    assert_eq!(one.hear('b', graft(1)), [send('b', gossip(1, 2))]);
    assert_eq!(one.gossip('a', 2), [send('b', gossip(2, 4))]);
    // What is not kept is not answered: it asks another.
    assert_eq!(one.hear('b', graft(7)), []);
}

#[test]
fn nobody_makes_a_node_send_without_end() {
    let config = Config {
        bodies_per_second: 10,
        ..Config::default()
    };
    let mut one = One::new(&config, "ab");
    one.gossip('a', 1);
    let given = |one: &mut One| (0..100).flat_map(|_| one.hear('b', graft(1))).count();
    assert_eq!(given(&mut one), 10);
    one.now += ms(500);
    assert_eq!(given(&mut one), 5);
    assert_eq!(one.tree.stats().graft_refused, 185);
}

#[test]
fn one_neighbor_announces_no_more_than_it_may() {
    let mut one = One::new(&Config::default(), "ab");
    let mut told = Vec::new();
    for first in (0..8192).step_by(1024) {
        let ids: Vec<_> = (first..first + 1024).map(|id| (id, 1)).collect();
        told.extend(one.hear('a', ihave(&ids)));
    }
    assert_eq!(told, [Output::Event(Event::Flooding { peer: 'a' })]);
    assert_eq!(one.tree.stats().pending, 4096);
    assert_eq!(one.tree.stats().ihave_ids_dropped, 4096);
    // The other one is not concerned.
    one.announce('b', 9999);
    assert_eq!(one.tree.stats().pending, 4097);
}

#[test]
fn an_announcement_that_is_too_large_is_an_error() {
    let mut one = One::new(&Config::default(), "a");
    let ids = vec![(1, 1); 1025];
    let msg = Message::IHave { ids };
    let result = one.tree.handle_message(one.now, 'a', msg, &one.cache);
    let (peer, ids) = ('a', 1025);
    assert_eq!(result, Err(Misbehaved::TooManyIds { peer, ids }));
    assert_eq!(one.tree.stats().pending, 0);
}

#[test]
fn questions_to_one_neighbor_wait_for_each_other() {
    let config = Config {
        asked_at_once: 2,
        ..Config::default()
    };
    let mut one = One::new(&config, "a");
    for id in 0..5 {
        one.announce('a', id);
    }
    // Each question fails after T2, and then another is asked.
    let mut asked = 0;
    let before = one.tree.stats().graft_sent;
    while one.tree.poll_timeout().is_some() {
        let grafts = one.wait();
        asked += grafts
            .iter()
            .filter(|output| matches!(output, Output::Send { .. }))
            .count();
        let stats = one.tree.stats();
        assert!(stats.graft_sent - before - stats.graft_unanswered <= 2);
    }
    assert_eq!((asked, one.tree.stats().lost), (5, 5));
}

#[test]
fn a_neighbor_that_promises_in_vain_is_told_of() {
    let mut one = One::new(&Config::default(), "a");
    for id in 0..8 {
        one.announce('a', id);
    }
    let all = one.wait_for(ms(5000));
    let lagging = Output::Event(Event::Lagging { peer: 'a' });
    assert_eq!(all.iter().filter(|output| **output == lagging).count(), 1);
}

#[test]
fn what_is_asked_of_a_neighbor_that_goes_is_asked_of_the_next() {
    let mut one = One::new(&Config::default(), "ab");
    one.announce('a', 1);
    one.announce('b', 1);
    assert_eq!(one.wait(), [send('a', graft(1))]);
    one.tree.handle_neighbor_down(one.now, 'a');
    assert_eq!(one.tree.poll_timeout(), Some(one.now));
    assert_eq!(one.wait(), [send('b', graft(1))]);
    one.tree.handle_neighbor_down(one.now, 'b');
    assert_eq!(one.wait(), [lost(1, 2)]);
}

#[test]
fn a_new_link_to_a_neighbor_begins_anew() {
    let mut one = One::new(&Config::default(), "ab");
    one.hear('a', Message::Prune);
    one.announce('a', 1);
    assert_eq!(one.meet('a'), [send('a', HOLD)]);
    assert_eq!(one.eager(), "ab");
    assert_eq!(one.wait(), [lost(1, 0)]);
}

#[test]
fn a_new_node_holds_on_to_some_and_floods_to_all() {
    let mut one = One::new(&Config::default(), "");
    for peer in ['a', 'b', 'c'] {
        assert_eq!(one.meet(peer), [send(peer, HOLD)]);
    }
    assert_eq!(one.meet('d'), []);
    assert_eq!(one.eager(), "abcd");
}

#[test]
fn a_new_link_of_a_node_in_the_tree_begins_lazy() {
    let mut one = One::new(&Config::default(), "ab");
    one.gossip('a', 1);
    assert_eq!(one.meet('c'), []);
    // below it: that one has to see to it
    one.part('b');
    assert_eq!(one.meet('d'), []);
    assert_eq!((one.eager().as_str(), one.lazy().as_str()), ("a", "cd"));
    let mut sender = One::new(&Config::default(), "ab");
    sender.broadcast(1);
    assert_eq!(sender.meet('c'), [send('c', HOLD)]);
    assert_eq!(sender.meet('d'), []);
    assert_eq!(sender.lazy(), "d");
}

#[test]
fn who_came_off_the_tree_holds_on_to_its_next_links_until_a_message_comes() {
    let mut one = One::new(&Config::default(), "ab");
    one.gossip('a', 1);
    one.part('a');
    for peer in ['c', 'd', 'e'] {
        assert_eq!(one.meet(peer), [send(peer, HOLD)]);
    }
    assert_eq!(one.meet('f'), []);
    assert_eq!((one.eager().as_str(), one.lazy().as_str()), ("bcde", "f"));
    // who brings a message is enough again
    one.gossip('c', 2);
    one.part('d');
    assert_eq!(one.meet('g'), []);
    one.part('c');
    assert_eq!(one.meet('h'), [send('h', HOLD)]);
}

/// All that is announced is urgent.
struct Urgent<'a>(&'a IdCache<u32>);

impl Seen<u32> for Urgent<'_> {
    fn seen(&self, id: &u32) -> bool {
        self.0.seen(id)
    }

    fn body(&self, id: &u32) -> Option<Bytes> {
        self.0.body(id)
    }

    fn is_urgent(&self, _id: &u32) -> bool {
        true
    }
}

#[test]
fn what_is_urgent_is_waited_for_two_round_trips_and_not_for_t1() {
    for (urgent, least) in [(false, 1000), (true, 200)] {
        let mut one = One::new(&Config::default(), "ab");
        one.tree.handle_rtt('a', ms(20));
        one.tree.handle_rtt('b', ms(100));
        let told = ihave(&[(1, 2)]);
        let heard = if urgent {
            one.tree
                .handle_message(one.now, 'b', told, &Urgent(&one.cache))
        } else {
            one.tree.handle_message(one.now, 'b', told, &one.cache)
        };
        assert_eq!(heard, Ok(()));
        let due = one.tree.poll_timeout().unwrap() - one.now;
        assert!((ms(least)..=ms(least) * 5 / 4).contains(&due), "{due:?}");
    }
}

#[test]
fn a_link_that_was_pruned_is_no_hold() {
    let mut one = One::new(&Config::default(), "a");
    one.gossip('a', 1);
    one.hear('a', Message::Prune);
    assert_eq!(one.meet('b'), [send('b', HOLD)]);
    assert_eq!(one.meet('c'), []);
}

#[test]
fn an_invalid_message_is_still_awaited_from_others() {
    let mut one = One::new(&Config::default(), "abc");
    one.announce('b', 1);
    one.verdict = Verdict::Rejected;
    assert_eq!(one.gossip('a', 1), []);
    one.verdict = Verdict::New;
    assert_eq!(one.wait(), [send('b', graft(1))]);
    assert_eq!(one.gossip('b', 1).len(), 2);
}

#[test]
fn what_is_not_wanted_is_not_spread_nor_asked_for() {
    let mut one = One::new(&Config::default(), "abc");
    one.announce('b', 1);
    one.verdict = Verdict::Unwanted;
    assert_eq!(one.gossip('a', 1), []);
    one.announce('c', 1);
    assert_eq!(one.tree.poll_timeout(), None);
}

#[test]
fn what_was_known_in_another_form_is_a_duplicate() {
    let mut one = One::new(&Config::default(), "ab");
    one.verdict = Verdict::Duplicate;
    assert_eq!(one.gossip('a', 1), [send('a', Message::Prune)]);
    assert_eq!(one.lazy(), "a");
}

#[test]
fn what_was_fetched_is_passed_on_when_the_tree_brings_it() {
    let mut one = One::new(&Config::default(), "abc");
    one.announce('b', 1);
    let fetched = Bytes::from_static(b"as fetched");
    one.cache.insert(one.now, 1, fetched.clone());
    let (id, round, body) = (1, 4, fetched);
    let whole = Message::Gossip { id, round, body };
    assert_eq!(one.gossip('a', 1), [send('c', whole)]);
    assert_eq!(one.eager(), "abc");
    assert_eq!(one.gossip('b', 1), [send('b', Message::Prune)]);
}

#[test]
fn what_was_fetched_is_not_asked_for() {
    let mut one = One::new(&Config::default(), "a");
    one.announce('a', 1);
    one.cache.insert(one.now, 1, body());
    assert_eq!(one.wait(), []);
    assert_eq!(one.tree.poll_timeout(), None);
}

#[test]
fn old_messages_that_are_replayed_go_on_a_few_at_a_time() {
    let mut one = One::new(&Config::default(), "ab");
    for id in 0..300 {
        one.cache.insert(one.now, id, body());
    }
    let sent: Vec<_> = (0..300).flat_map(|id| one.gossip('a', id)).collect();
    let to_b = |output: &&Out| matches!(output, Output::Send { to: 'b', .. });
    assert_eq!(sent.iter().filter(to_b).count(), 100);
}

#[test]
fn a_nearer_announcer_replaces_the_sender_where_that_is_set() {
    let config = Config {
        optimize_at: Some(3),
        ..Config::default()
    };
    for (round, replaced) in [(4, false), (5, true)] {
        let mut one = One::new(&config, "ab");
        one.hear('b', Message::Prune);
        one.announce('b', 1);
        let sent = one.hear('a', gossip(1, round));
        let link = Message::Graft { id: None, round: 2 };
        let swap = [send('b', link), send('a', Message::Prune)];
        assert_eq!(sent == swap, replaced, "{sent:?}");
        assert_eq!(one.eager(), if replaced { "b" } else { "a" });
    }
}

#[test]
fn an_announcer_that_is_much_earlier_replaces_the_sender() {
    for (late, lazy) in [(ms(79), "b"), (ms(80), "a")] {
        let mut one = One::new(&Config::default(), "ab");
        for peer in ['a', 'b'] {
            one.tree.handle_rtt(peer, ms(10));
        }
        one.hear('b', Message::Prune);
        one.announce('b', 1);
        one.wait_for(late);
        one.gossip('a', 1);
        assert_eq!(one.lazy(), lazy);
    }
}

#[test]
fn a_message_that_was_asked_for_too_early_teaches_patience() {
    let mut one = One::new(&Config::default(), "ab");
    one.tree.handle_rtt('a', ms(10));
    for id in 0..128 {
        one.gossip('a', id);
    }
    let short = one.tree.stats().t1;
    assert!(short < ms(100));
    for id in [200, 201] {
        one.announce('b', id);
        let asked = one.wait_for(ms(120));
        assert!(asked.contains(&send('b', graft(id))));
        one.gossip('b', id);
        one.wait_for(ms(180));
        one.gossip('a', id);
    }
    // 300 ms late, and half of that more.
    assert_eq!(one.tree.stats().t1, ms(450));
    one.announce('b', 202);
    let waited = one.wait_for(ms(449));
    assert!(!waited.contains(&send('b', graft(202))));
}

#[test]
fn a_cache_is_enough_to_know_what_was_seen() {
    let mut one = One::new(&Config::default(), "ab");
    one.gossip('a', 1);
    assert!(one.cache.seen(&1));
    assert_eq!(one.cache.body(&1), Some(body()));
}
