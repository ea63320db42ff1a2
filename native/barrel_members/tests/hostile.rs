// SPDX-License-Identifier: Apache-2.0

//! Whatever peers say, and the driver does in whatever order: no panic, no broken
//! invariant, each node down told after its node up, and no more memory than there are
//! limits. Debug builds look at the invariants after each verb.

mod one;

use std::collections::BTreeSet;
use std::time::Duration;

use barrel_members::{Card, Claim, Config, Event, Members, Message, Output, Status};
use one::{One, claim};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Input {
    Wait(u64),
    Record(u32, Card),
    Gone(u32),
    Claim(u32, Claim<u32>),
    Message(u32, Message<u32>),
    Up(u32),
    Lost(u32, bool),
    DialFailed(u32),
    Clash(u64),
    Leave,
    Rejoin,
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..4u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn claims() -> impl Strategy<Value = Claim<u32>> {
    let status = prop::sample::select(vec![
        Status::Alive,
        Status::Suspect,
        Status::Unreachable,
        Status::Left,
    ]);
    let beat = prop_oneof![4 => 0..4u32, 1 => any::<u32>()];
    (0..6u32, number(), beat, status).prop_map(|(member, incarnation, beat, status)| Claim {
        member,
        incarnation,
        beat,
        status,
    })
}

fn cards() -> impl Strategy<Value = Card> {
    (0..6u32, number(), number(), number(), any::<bool>()).prop_map(
        |(name, incarnation, seq, ttl, pinned)| Card {
            name: format!("n{name}").into(),
            incarnation,
            seq,
            ttl: Duration::from_secs(ttl),
            pinned,
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    let id = 0..6u32;
    let message = prop_oneof![
        claims().prop_map(Message::PassOn),
        id.clone()
            .prop_map(|member| Message::ProbeRequest { member }),
        (id.clone(), any::<bool>())
            .prop_map(|(member, reachable)| Message::ProbeAnswer { member, reachable }),
    ];
    prop_oneof![
        4 => (0..20_000u64).prop_map(Input::Wait),
        1 => (0..100_000_000u64).prop_map(Input::Wait),
        6 => (id.clone(), cards()).prop_map(|(member, card)| Input::Record(member, card)),
        1 => id.clone().prop_map(Input::Gone),
        8 => (id.clone(), claims()).prop_map(|(from, claim)| Input::Claim(from, claim)),
        4 => (id.clone(), message).prop_map(|(from, message)| Input::Message(from, message)),
        3 => id.clone().prop_map(Input::Up),
        3 => (id.clone(), any::<bool>()).prop_map(|(peer, failed)| Input::Lost(peer, failed)),
        2 => id.prop_map(Input::DialFailed),
        1 => number().prop_map(Input::Clash),
        1 => Just(Input::Leave),
        1 => Just(Input::Rejoin),
    ]
}

fn give(node: &mut Members<u32>, now: &mut Duration, input: Input) {
    match input {
        Input::Wait(millis) => {
            *now += Duration::from_millis(millis);
            node.handle_timeout(*now);
        }
        Input::Record(member, card) => {
            let _refused = node.handle_record(*now, member, card);
        }
        Input::Gone(member) => node.handle_record_gone(*now, member),
        Input::Claim(from, claim) => {
            let covered = node.covers(&claim);
            let heard = node.handle_claim(*now, from, claim);
            assert!(!covered || !heard.is_new(), "what is known is no news");
            assert!(!heard.is_new() || node.covers(&claim), "news is known then");
        }
        Input::Message(from, message) => {
            let _misbehaved = node.handle_message(*now, from, message);
        }
        Input::Up(peer) => node.handle_link_up(*now, peer),
        Input::Lost(peer, failed) => node.handle_link_lost(*now, peer, failed),
        Input::DialFailed(peer) => node.handle_dial_failed(*now, peer),
        Input::Clash(theirs) => node.handle_clash(*now, theirs),
        Input::Leave => node.leave(*now),
        Input::Rejoin => node.rejoin(*now),
    }
}

/// As many as the schedules, which see.
fn cases() -> u32 {
    let cases = std::env::var("BARREL_SCHEDULES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(1_000)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_that_is_said_breaks_a_node(inputs in prop::collection::vec(input(), 1..80)) {
        let mut node = Members::new(0, "n0", 1, Config::default(), 1);
        let (mut now, mut up) = (Duration::ZERO, BTreeSet::new());
        for input in inputs {
            give(&mut node, &mut now, input);
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Event(Event::NodeUp { member, .. }) => {
                        prop_assert!(up.insert(member), "{} is up twice", member);
                    }
                    Output::Event(Event::NodeDown { member, .. }) => {
                        prop_assert!(up.remove(&member), "{} is down twice", member);
                    }
                    _ => {}
                }
            }
            node.check();
            let truth = node.iter().map(|(member, _)| member);
            let truth: BTreeSet<u32> = truth.filter(|&m| m != 0 && node.is_up(m)).collect();
            prop_assert_eq!(&up, &truth, "those told to be up are those who are");
        }
    }
}

#[test]
fn claims_about_ten_thousand_strangers_are_mostly_dropped_and_never_spread() {
    let mut one = One::among(3);
    for stranger in 0..10_000 {
        let lie = claim(1_000 + stranger, 1, Status::Suspect);
        assert!(!one.hear(1, lie).is_new());
    }
    let stats = one.node.stats();
    assert!(stats.refused + stats.early_dropped > 9_800);
    assert_eq!(one.broadcasts(), []);
    assert_eq!((one.node.len(), one.node.exceptions().count()), (3, 0));
}

#[test]
fn a_thousand_requests_make_sixteen_dials_at_most() {
    let mut one = One::among(1_000);
    for member in 2..1_000 {
        let msg = Message::ProbeRequest { member };
        let _flood = one.node.handle_message(one.now, 1, msg);
    }
    let dials = one.outputs();
    let dials = dials
        .iter()
        .filter(|output| matches!(output, Output::Probe(_)));
    assert_eq!(dials.count(), 16);
}
