// SPDX-License-Identifier: Apache-2.0

//! One node, told things in turn: what it says, and to whom.

use std::time::Duration;

use barrel_hyparview::{
    Component, Config, DownReason, EvictionCap, HyParView, Link, LinkDown, MAX_PEERS, MAX_TTL,
    Message, Offence, Output, Parting, Priority, RateLimit,
};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, RngSeed};

const ME: u8 = 0;
const LINK: Link = Link(1);

/// A node and the time.
struct Desk {
    node: HyParView<u8>,
    now: Duration,
}

impl Desk {
    fn new(config: Config) -> Self {
        let node = HyParView::new(ME, config, 7);
        let now = Duration::from_secs(100);
        Self { node, now }
    }

    fn hear(&mut self, from: u8, msg: Message<u8>) -> Vec<Output<u8>> {
        let said = self.node.handle_message(self.now, from, LINK, msg);
        assert_eq!(said, Ok(()));
        self.outputs()
    }

    fn offence(&mut self, from: u8, msg: Message<u8>) -> Option<Offence> {
        let said = self.node.handle_message(self.now, from, LINK, msg);
        self.outputs();
        said.err().map(|said| {
            assert_eq!(said.peer, from);
            said.offence
        })
    }

    fn outputs(&mut self) -> Vec<Output<u8>> {
        std::iter::from_fn(|| self.node.poll_output()).collect()
    }

    fn fill(&mut self, peers: std::ops::RangeInclusive<u8>) {
        for peer in peers {
            self.hear(peer, low());
        }
    }
}

fn low() -> Message<u8> {
    Message::Neighbor {
        priority: Priority::Low,
        component: None,
    }
}

fn high() -> Message<u8> {
    Message::Neighbor {
        priority: Priority::High,
        component: None,
    }
}

/// What a node says that asks for a place.
fn own_low(desk: &Desk) -> Message<u8> {
    Message::Neighbor {
        priority: Priority::Low,
        component: desk.node.component(),
    }
}

fn reply(accepted: bool) -> Message<u8> {
    Message::NeighborReply {
        accepted,
        peers: Vec::new(),
        component: None,
    }
}

fn disconnect(parting: Parting) -> Message<u8> {
    Message::Disconnect { parting }
}

fn sent(outputs: &[Output<u8>], to: u8) -> Vec<Message<u8>> {
    let of = |output: &Output<u8>| match output {
        Output::Send { to: other, msg } if *other == to => Some(msg.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

#[test]
fn a_full_view_drops_one_peer_and_tells_it() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=5);
    let outputs = desk.hear(9, Message::Join);
    let down = outputs.iter().find_map(|output| match output {
        Output::Down { peer, reason } => Some((*peer, *reason)),
        _ => None,
    });
    let (dropped, reason) = down.unwrap();
    assert_eq!(reason, DownReason::Evicted);
    assert!(!reason.is_failure());
    assert_eq!(sent(&outputs, dropped)[0], disconnect(Parting::Evicted));
    assert!(outputs.contains(&Output::Release { peer: dropped }));
    assert!(desk.node.passive().any(|peer| peer == dropped));
    assert_eq!(sent(&outputs, 9), [reply(true)]);
    assert_eq!(desk.node.active().count(), 5);
}

#[test]
fn a_join_starts_a_walk_along_each_other_link() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=4);
    let outputs = desk.hear(9, Message::Join);
    let walk = Message::ForwardJoin { joiner: 9, ttl: 6 };
    assert!((1..=4).all(|peer| sent(&outputs, peer) == [walk.clone()]));
}

#[test]
fn a_walk_goes_on_leaves_an_address_and_ends_with_a_request() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=2);
    let outputs = desk.hear(1, Message::ForwardJoin { joiner: 9, ttl: 4 });
    assert_eq!(
        sent(&outputs, 2),
        [Message::ForwardJoin { joiner: 9, ttl: 3 }]
    );
    assert_eq!(desk.node.passive().count(), 0);
    desk.hear(1, Message::ForwardJoin { joiner: 9, ttl: 3 });
    assert!(desk.node.passive().eq([9]) || desk.node.needs(9));
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=5);
    let outputs = desk.hear(1, Message::ForwardJoin { joiner: 9, ttl: 0 });
    assert_eq!(sent(&outputs, 9), [high()]);
    assert_eq!(desk.node.active().count(), 5, "a request is no neighbour");
    desk.hear(9, reply(true));
    assert!(desk.node.is_active(9));
}

#[test]
fn a_full_node_refuses_low_and_takes_high() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=5);
    let outputs = desk.hear(8, low());
    assert_eq!(sent(&outputs, 8), [reply(false)]);
    let outputs = desk.hear(9, high());
    assert_eq!(sent(&outputs, 9), [reply(true)]);
}

#[test]
fn a_yes_is_said_before_the_neighbour_is_told_of() {
    for msg in [Message::Join, low(), high()] {
        let mut desk = Desk::new(Config::paper());
        let outputs = desk.hear(9, msg);
        let up = Output::Up {
            peer: 9,
            link: LINK,
        };
        let at = |wanted: &Output<u8>| outputs.iter().position(|output| output == wanted);
        let yes = Output::Send {
            to: 9,
            msg: reply(true),
        };
        assert!(at(&yes).is_some() && at(&yes) < at(&up), "{outputs:?}");
    }
}

#[test]
fn who_is_refused_hears_of_others_who_were() {
    let named = |config: Config, count: u8| {
        let mut desk = Desk::new(config);
        desk.fill(1..=5);
        let mut heard = Vec::new();
        for seeker in 10..10 + count {
            let [Message::NeighborReply { peers, .. }] =
                &sent(&desk.hear(seeker, low()), seeker)[..]
            else {
                panic!("one answer");
            };
            heard.push(peers.clone());
        }
        (desk, heard)
    };
    let config = Config {
        seekers: Some(2),
        ..Config::paper()
    };
    let (mut desk, heard) = named(config, 4);
    assert_eq!(heard, [vec![], vec![10], vec![10, 11], vec![11, 12]]);
    // one of them became a neighbour, and all is long ago later
    desk.hear(13, high());
    let refused = |peers: &[u8]| Message::NeighborReply {
        accepted: false,
        peers: peers.to_vec(),
        component: None,
    };
    assert_eq!(sent(&desk.hear(20, low()), 20), [refused(&[12])]);
    desk.now += Duration::from_secs(11);
    assert_eq!(sent(&desk.hear(21, low()), 21), [refused(&[])]);
    let (_, heard) = named(Config::paper(), 3);
    assert!(heard.iter().all(Vec::is_empty), "not in the paper");
}

#[test]
fn two_who_lack_a_neighbour_meet_through_one_who_has_all() {
    let mut full = Desk::new(Config::default());
    full.fill(1..=5);
    full.hear(8, low());
    let answer = sent(&full.hear(9, low()), 9).remove(0);
    let mut seeker = Desk::new(Config::default());
    seeker.fill(1..=4);
    // a node it has heard of is asked
    let outputs = seeker.hear(100, disconnect(Parting::Unwanted));
    seeker.node.handle_timeout(seeker.now);
    let outputs = [outputs, seeker.outputs()].concat();
    assert_eq!(sent(&outputs, 100), [own_low(&seeker)]);
    let outputs = seeker.hear(100, answer);
    assert_eq!(sent(&outputs, 8), [own_low(&seeker)]);
}

#[test]
fn a_lonely_node_asks_one_with_high_priority_and_several_with_low() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=1);
    desk.hear(
        1,
        Message::Shuffle {
            origin: 2,
            ttl: 1,
            peers: (3..9).collect(),
            component: None,
        },
    );
    desk.node.handle_timeout(desk.now + Duration::from_secs(5));
    desk.outputs();
    let mut desk = Desk::new(Config::paper());
    desk.node.join(desk.now, 1);
    desk.outputs();
    let outputs = desk.hear(
        1,
        Message::NeighborReply {
            accepted: false,
            peers: (2..9).collect(),
            component: None,
        },
    );
    let asked: Vec<Message<u8>> = (2..9).flat_map(|peer| sent(&outputs, peer)).collect();
    assert_eq!(asked.iter().filter(|msg| **msg == high()).count(), 1);
    assert_eq!(asked.len(), 4);
}

#[test]
fn a_refused_candidate_is_kept_and_not_asked_again_in_this_pass() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=1);
    desk.hear(1, disconnect(Parting::Evicted));
    // a node that is asked by nobody asks the one it knows when the next pass begins
    let due = desk.node.poll_timeout().unwrap();
    desk.now = desk.now.max(due);
    desk.node.handle_timeout(desk.now);
    assert_eq!(sent(&desk.outputs(), 1), [high()]);
    let outputs = desk.hear(1, reply(false));
    assert!(sent(&outputs, 1).is_empty());
    assert!(desk.node.passive().eq([1]));
}

#[test]
fn a_candidate_that_cannot_be_reached_is_deleted_and_the_next_is_asked() {
    let mut desk = Desk::new(Config {
        dials_at_once: 1,
        ..Config::paper()
    });
    desk.node.join(desk.now, 1);
    desk.outputs();
    let outputs = desk.hear(
        1,
        Message::NeighborReply {
            accepted: false,
            peers: vec![2, 3],
            component: None,
        },
    );
    let first = if sent(&outputs, 2).is_empty() { 3 } else { 2 };
    desk.node.handle_dial_failed(desk.now, first);
    assert_eq!(sent(&desk.outputs(), 5 - first), [high()]);
    assert!(desk.node.passive().all(|peer| peer != first));
}

#[test]
fn a_late_or_unasked_accept_is_answered_with_a_disconnect() {
    let mut desk = Desk::new(Config::paper());
    let outputs = desk.hear(1, reply(true));
    assert_eq!(sent(&outputs, 1), [disconnect(Parting::Unwanted)]);
    assert!(outputs.contains(&Output::Release { peer: 1 }));
    assert!(!desk.node.is_active(1));
}

#[test]
fn a_disconnect_that_crosses_a_request_does_not_end_it() {
    let mut desk = Desk::new(Config::paper());
    desk.node.join(desk.now, 1);
    desk.hear(1, disconnect(Parting::Evicted));
    desk.hear(1, reply(true));
    assert!(desk.node.is_active(1));
}

#[test]
fn a_message_of_an_older_link_is_ignored() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=1);
    let node = &mut desk.node;
    node.handle_link_down(desk.now, 1, LINK, LinkDown::Failed);
    assert_eq!(node.handle_message(desk.now, 1, LINK, low()), Ok(()));
    assert!(!node.is_active(1));
    assert_eq!(node.stats().stale, 1);
    assert_eq!(node.handle_message(desk.now, 1, Link(2), low()), Ok(()));
    assert!(node.is_active(1));
    node.handle_link_down(desk.now, 1, LINK, LinkDown::Failed);
    assert!(node.is_active(1), "an older link has ended");
}

#[test]
fn a_failed_link_is_the_only_end_that_is_a_failure() {
    for (how, reason) in [
        (LinkDown::Failed, DownReason::LinkFailed),
        (LinkDown::Closed, DownReason::LinkClosed),
        (LinkDown::Local, DownReason::LinkClosed),
    ] {
        let mut desk = Desk::new(Config::default());
        desk.fill(1..=1);
        desk.node.handle_link_down(desk.now, 1, LINK, how);
        assert!(desk.outputs().contains(&Output::Down { peer: 1, reason }));
        assert_eq!(reason.is_failure(), how == LinkDown::Failed);
        assert_eq!(desk.node.lost().count(), usize::from(reason.is_failure()));
    }
}

#[test]
fn who_leaves_tells_all_and_stays_away_until_it_joins() {
    let mut desk = Desk::new(Config::default());
    desk.fill(1..=3);
    desk.node.leave(desk.now);
    let outputs = desk.outputs();
    assert!((1..=3).all(|peer| sent(&outputs, peer) == [disconnect(Parting::Leaving)]));
    assert_eq!(desk.node.active().count() + desk.node.passive().count(), 0);
    let outputs = desk.hear(4, Message::Join);
    assert_eq!(sent(&outputs, 4), [disconnect(Parting::Leaving)]);
    desk.node.join(desk.now, 4);
    assert_eq!(sent(&desk.outputs(), 4), [Message::Join]);
}

#[test]
fn who_has_left_is_forgotten() {
    let mut desk = Desk::new(Config::default());
    desk.fill(1..=2);
    let outputs = desk.hear(1, disconnect(Parting::Leaving));
    let reason = DownReason::PeerLeft;
    assert!(outputs.contains(&Output::Down { peer: 1, reason }));
    assert_eq!(desk.node.passive().count() + desk.node.lost().count(), 0);
    desk.node.handle_forget(desk.now, 2);
    assert_eq!(desk.node.active().count() + desk.node.passive().count(), 0);
    assert_eq!(sent(&desk.outputs(), 2), [disconnect(Parting::Unwanted)]);
}

#[test]
fn the_answer_to_a_shuffle_goes_to_its_origin() {
    let mut desk = Desk::new(Config::paper());
    desk.fill(1..=5);
    let peers = vec![20, 21, 22];
    let shuffle = |ttl, peers: &[u8]| Message::Shuffle {
        origin: 9,
        ttl,
        peers: peers.to_vec(),
        component: None,
    };
    let outputs = desk.hear(1, shuffle(2, &peers));
    let next = (2..=5).find(|peer| !sent(&outputs, *peer).is_empty());
    assert_eq!(sent(&outputs, next.unwrap()), [shuffle(1, &peers)]);
    let outputs = desk.hear(1, shuffle(1, &peers));
    assert!(matches!(
        sent(&outputs, 9)[..],
        [Message::ShuffleReply { .. }]
    ));
    assert!(outputs.contains(&Output::Release { peer: 9 }));
    assert!(
        [9, 20, 21, 22]
            .iter()
            .all(|known| desk.node.passive().any(|peer| peer == *known))
    );
}

#[test]
fn an_answer_to_no_shuffle_changes_nothing() {
    let mut desk = Desk::new(Config::paper());
    let peers = vec![20, 21, 22];
    let component = None;
    desk.hear(1, Message::ShuffleReply { peers, component });
    assert_eq!(desk.node.passive().count(), 0);
}

#[test]
fn a_configured_size_is_a_bound_even_in_a_small_cluster() {
    let mut desk = Desk::new(Config {
        active_size: Some(3),
        ..Config::default()
    });
    desk.node.handle_cluster_size(desk.now, 8);
    assert_eq!(desk.node.target(), 3);
    let mut desk = Desk::new(Config::default());
    desk.node.handle_cluster_size(desk.now, 8);
    assert_eq!(desk.node.target(), 7);
    desk.node.handle_cluster_size(desk.now, 9);
    assert_eq!(desk.node.target(), 5);
}

#[test]
fn force_is_bounded_and_the_oldest_links_stay() {
    let mut desk = Desk::new(Config {
        eviction_cap: Some(EvictionCap::default()),
        ..Config::paper()
    });
    desk.fill(1..=5);
    for peer in 10..200 {
        desk.hear(peer, high());
    }
    assert!(desk.node.is_active(1) && desk.node.is_active(2));
    assert_eq!(desk.node.stats().evictions, 10);
    let mut desk = Desk::new(Config {
        eviction_cap: Some(EvictionCap::default()),
        ..Config::paper()
    });
    desk.fill(1..=5);
    for peer in 10..200 {
        desk.node.handle_group(desk.now, peer, 77);
        desk.hear(peer, high());
    }
    assert_eq!(desk.node.stats().evictions, 4, "one group");
}

#[test]
fn a_contact_sends_newcomers_on_when_many_came() {
    let mut desk = Desk::new(Config::default());
    desk.fill(1..=5);
    (10..15).for_each(|peer| drop(desk.hear(peer, Message::Join)));
    let outputs = desk.hear(50, Message::Join);
    let [
        Message::NeighborReply {
            accepted, peers, ..
        },
    ] = &sent(&outputs, 50)[..]
    else {
        panic!("{outputs:?}");
    };
    assert!(!accepted && !peers.is_empty());
    let walks = desk.node.active().map(|peer| sent(&outputs, peer).len());
    assert_eq!(walks.sum::<usize>(), 5);
    assert_eq!(desk.node.stats().declined_joins, 1);
}

#[test]
fn lost_peers_and_contacts_outlive_a_restart() {
    let mut desk = Desk::new(Config::default());
    desk.node.join(desk.now, 7);
    desk.fill(1..=1);
    desk.node
        .handle_link_down(desk.now, 1, LINK, LinkDown::Failed);
    let saved = desk.node.saved(desk.now + Duration::from_secs(5));
    assert_eq!(saved.lost, [(1, Duration::from_secs(5))]);
    assert_eq!(saved.seeds, [7]);
    let mut again = Desk::new(Config::default());
    again.node.restore(again.now, saved.clone());
    assert_eq!(again.node.saved(again.now), saved);
}

#[test]
fn a_lost_peer_of_another_component_is_merged_with_once() {
    let mut desk = Desk::new(Config::default());
    desk.fill(1..=2);
    for peer in [1, 2] {
        desk.node
            .handle_link_down(desk.now, peer, LINK, LinkDown::Failed);
    }
    desk.outputs();
    let mut probed: Vec<u8> = Vec::new();
    while probed.len() < 2 {
        desk.now = desk.node.poll_timeout().unwrap();
        desk.node.handle_timeout(desk.now);
        let outputs = desk.outputs();
        let is_probe = |msg: &Message<u8>| matches!(msg, Message::Probe { .. });
        probed.extend(
            [1, 2]
                .iter()
                .filter(|p| sent(&outputs, **p).iter().any(is_probe)),
        );
    }
    let elsewhere = || Message::ProbeReply {
        component: Some(Component { min: 1, epoch: 9 }),
    };
    let hear = |desk: &mut Desk, from: u8, msg| {
        desk.node
            .handle_message(desk.now, from, Link(5), msg)
            .unwrap();
        sent(&desk.outputs(), from)
    };
    let asked = hear(&mut desk, 1, elsewhere());
    assert!(matches!(
        asked[..],
        [Message::Neighbor {
            priority: Priority::High,
            ..
        }]
    ));
    hear(&mut desk, 1, reply(true));
    assert!(desk.node.is_active(1));
    let asked = hear(&mut desk, 2, elsewhere());
    assert!(asked.iter().all(|msg| !matches!(
        msg,
        Message::Neighbor {
            priority: Priority::High,
            ..
        }
    )));
    assert_eq!(desk.node.stats().merges, 1);
}

#[test]
fn wrong_input_names_the_culprit() {
    let mut desk = Desk::new(Config {
        rate_limit: Some(RateLimit::default()),
        ..Config::paper()
    });
    let many = Message::ShuffleReply {
        peers: vec![1; MAX_PEERS + 1],
        component: None,
    };
    assert_eq!(desk.offence(1, many), Some(Offence::TooManyPeers));
    let ttl = MAX_TTL + 1;
    let long = Message::ForwardJoin { joiner: 3, ttl };
    assert_eq!(desk.offence(1, long), Some(Offence::LongWalk));
    assert_eq!(desk.offence(ME, Message::Join), Some(Offence::OwnId));
    let itself = Message::SwitchLink { initiator: 1 };
    assert_eq!(desk.offence(1, itself), Some(Offence::Nonsense));
    let joins = (0..10).map(|_| desk.offence(1, Message::Join));
    assert_eq!(
        joins.flatten().collect::<Vec<_>>(),
        [Offence::UrgentFlood; 4]
    );
}

fn message() -> impl Strategy<Value = Message<u8>> {
    let peers = || prop::collection::vec(any::<u8>(), 0..=MAX_PEERS);
    let component = || {
        prop::option::of(any::<(u8, u64)>())
            .prop_map(|c| c.map(|(min, epoch)| Component { min, epoch }))
    };
    let parting = prop::sample::select(vec![
        Parting::Evicted,
        Parting::Unwanted,
        Parting::Switched,
        Parting::Leaving,
    ]);
    prop_oneof![
        Just(Message::Join),
        any::<(u8, u8)>().prop_map(|(joiner, ttl)| Message::ForwardJoin { joiner, ttl }),
        Just(low()),
        Just(high()),
        (any::<bool>(), peers(), component()).prop_map(|(accepted, peers, component)| {
            Message::NeighborReply {
                accepted,
                peers,
                component,
            }
        }),
        parting.prop_map(disconnect),
        (any::<u8>(), 0..=MAX_TTL, peers(), component()).prop_map(
            |(origin, ttl, peers, component)| Message::Shuffle {
                origin,
                ttl,
                peers,
                component
            }
        ),
        (peers(), component())
            .prop_map(|(peers, component)| Message::ShuffleReply { peers, component }),
        component().prop_map(|component| Message::Probe { component }),
        component().prop_map(|component| Message::ProbeReply { component }),
        any::<u8>().prop_map(|old| Message::SwitchAsk { old }),
        any::<(u8, u8)>().prop_map(|(initiator, old)| Message::SwitchReplace { initiator, old }),
        Just(Message::SwitchRefuse),
        any::<u8>().prop_map(|initiator| Message::SwitchLink { initiator }),
    ]
}

fn runs() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::XorShift,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(runs())]

    /// The invariants name every limit; debug builds test them after each verb.
    #[test]
    fn whatever_strangers_say_views_stay_within_their_limits(
        said in prop::collection::vec((any::<u8>(), 0..3_u64, message(), 0..500_u64), 0..300),
    ) {
        let mut desk = Desk::new(Config::default());
        for (from, link, msg, wait) in said {
            let said = desk.node.handle_message(desk.now, from, Link(link), msg);
            prop_assert!(said.is_ok_and(|()| true) || said.is_err_and(|said| said.peer == from));
            desk.now += Duration::from_millis(wait);
            desk.node.handle_timeout(desk.now);
            prop_assert_eq!(desk.node.check(), Ok(()));
            prop_assert!(desk.outputs().len() < 200);
        }
    }
}
