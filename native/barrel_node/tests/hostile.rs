// SPDX-License-Identifier: Apache-2.0

//! A peer that lies: it is named, it loses its link when it goes on, and the others do
//! not suffer.

mod net;

use std::time::Duration;

use barrel_node::{CloseReason, Config, Event, Misdeed, NodeId};
use barrel_ormap::Registry;
use net::siege::Siege;
use net::words::{self, Claim, DIRECTORY, Delta, REGISTRY, Record};
use net::{key_of, words::LEFT, words::UNREACHABLE};

/// No operation has a higher number.
const MAX_SEQ: u64 = 1 << 62;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An id of nobody.
fn nobody(number: u16) -> NodeId {
    let mut id = [0xee; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    barrel_ormap::OriginKey(id)
}

#[test]
fn garbage_is_forgiven_a_few_times_and_then_costs_the_link() {
    let mut siege = Siege::of(4);
    let said = siege.insist(1000, |at| vec![at as u8 % 128, 0xff, 0xff, 0xff]);
    assert_eq!(said, 16);
    assert_eq!(siege.named(), [Misdeed::Malformed]);
    assert_eq!(siege.closed(), [CloseReason::Misbehaved]);
    assert!(!siege.is_neighbor());
    siege.ends_well();
}

#[test]
fn who_does_not_greet_or_greets_twice_is_named() {
    let mut siege = Siege::of(3);
    let record = siege.record().bytes();
    siege.say(words::greeting(&record));
    assert_eq!(siege.named(), [Misdeed::Ungreeted]);
    let (ghost, first) = (siege.ghost, siege.honest[0]);
    siege.net.link(ghost, first);
    assert_eq!(siege.insist(1000, |_| words::join(&[])), 16);
    assert!(!siege.is_neighbor());
    siege.ends_well();
}

#[test]
fn a_greeting_needs_the_record_of_who_greets() {
    let mut siege = Siege::of(3);
    let good = siege.record();
    let another = Record::of(key_of(201), "ghost@host");
    let forged = Record {
        signed_by: key_of(201),
        ..good.clone()
    };
    let stolen = Record::of(key_of(2), "n2@host");
    for record in [
        another.bytes(),
        forged.bytes(),
        stolen.bytes(),
        b"none".to_vec(),
    ] {
        let (ghost, first) = (siege.ghost, siege.honest[0]);
        siege.net.link(ghost, first);
        siege.say(words::greeting(&record));
        assert!(!siege.say(words::join(&[])), "the link is closed at once");
        siege.net.link(ghost, first);
        assert!(
            !siege.say(words::greeting(&siege.record().bytes())),
            "and there is no other"
        );
        siege.net.run(seconds(61));
    }
    assert_eq!(siege.closed()[0], CloseReason::Misbehaved);
    assert_eq!(siege.named(), [Misdeed::Forged]);
    siege.ends_well();
}

#[test]
fn a_forged_record_in_a_message_is_named_and_the_book_stays_small() {
    let mut siege = Siege::of(3);
    let forged = Record {
        signed_by: key_of(9),
        ..Record::of(key_of(201), "x@host")
    };
    for visit in 0..20u16 {
        siege.enter();
        let said = siege.insist(1000, |at| {
            // good ones before the bad one, so that something is there to be kept
            let good = |n: u16| {
                let mut key = [7; 32];
                key[..6].copy_from_slice(
                    &[
                        visit.to_be_bytes(),
                        (at as u16).to_be_bytes(),
                        n.to_be_bytes(),
                    ]
                    .concat(),
                );
                Record::of(key, &format!("g{visit}.{at}.{n}@host")).bytes()
            };
            let mut records: Vec<Vec<u8>> = (0..65).map(good).collect();
            records.push(forged.bytes());
            words::join(&records)
        });
        assert_eq!(said, 16);
        siege.keeps_limits();
        siege.net.run(seconds(61));
    }
    assert_eq!(siege.named(), [Misdeed::Forged]);
    siege.ends_well();
}

/// What somebody else could say in the directory about an honest node.
fn lies_about(siege: &Siege, victim: u8) -> Vec<(&'static str, Delta)> {
    let good = Record {
        seq: 0,
        ..Record::of(key_of(victim), &format!("n{victim}@host"))
    };
    let id = good.id();
    let known = siege.net.nodes[&id].record().bytes().to_vec();
    let name = good.name.clone().into_bytes();
    let hlc = siege.stamp();
    let delta = |inc, to: u64| Delta::of(id, inc, 0, to);
    let with = |inc, to: u64, record: Vec<u8>| delta(inc, to).add(to, hlc, &name, &record);
    let nothing = |inc, until| Delta {
        nothing_until: Some(until),
        ..delta(inc, 0)
    };
    let higher = Record {
        incarnation: 9,
        ..good.clone()
    };
    let forged = Record {
        signed_by: key_of(200),
        ..higher.clone()
    };
    vec![
        ("the signature of somebody else", with(9, 1, forged.bytes())),
        (
            "the record of somebody else",
            with(9, 1, siege.record().bytes()),
        ),
        (
            "a record that is known, in another life",
            with(9, 1, known.clone()),
        ),
        ("a life without a record", delta(9, 1)),
        ("the last life there is", delta(u64::MAX, 1)),
        (
            "no record any more",
            Delta {
                removes: vec![(2, 1)],
                ..delta(1, 2)
            },
        ),
        ("all operations there can be", delta(1, MAX_SEQ)),
        (
            "all of them with a known record",
            with(1, MAX_SEQ, known.clone()),
        ),
        (
            "more after a known record",
            delta(1, MAX_SEQ).add(1, hlc, &name, &known),
        ),
        (
            "another name for a known record",
            delta(1, 1).add(1, hlc, b"other", &known),
        ),
        ("nothing live any more", nothing(1, 1)),
        ("nothing live in another life", nothing(9, 1)),
        ("a life that has begun, and nothing else", nothing(9, 0)),
        ("not even a record", with(9, 1, b"record".to_vec())),
    ]
}

#[test]
fn nobody_ends_or_renews_the_life_of_another() {
    for at in 0..14 {
        let mut siege = Siege::of(3);
        let (what, lie) = lies_about(&siege, 3).remove(at);
        let victim = siege.honest[2];
        siege.say(lie.gossip(DIRECTORY));
        siege.say(words::root(DIRECTORY));
        siege.say(words::summaries(DIRECTORY, &[victim], lie.inc, lie.to, &[]));
        siege.say(lie.chunk(DIRECTORY));
        siege.net.run(seconds(5));
        for id in &siege.honest {
            let node = &siege.net.nodes[id];
            let directory = node.directory().expect("there is one");
            assert_eq!(
                directory.context(victim).map(|(inc, _)| inc),
                Some(1),
                "{what}"
            );
            assert_eq!(directory.entries(victim).count(), 1, "{what}");
        }
        assert_eq!(
            siege.net.nodes[&victim].members().incarnation(),
            1,
            "{what}"
        );
        siege.named();
        siege.ends_well();
    }
}

#[test]
fn who_spreads_forged_records_is_named_and_loses_its_link() {
    let mut siege = Siege::of(3);
    let (_, lie) = lies_about(&siege, 3).remove(0);
    assert_eq!(siege.insist(100, |_| lie.gossip(DIRECTORY)), 16);
    assert_eq!(siege.named(), [Misdeed::Forged]);
    siege.ends_well();
}

/// The first words of a node that does not exist.
fn forged_member(siege: &Siege, number: usize) -> Vec<u8> {
    let mut key = [0xcc; 32];
    key[..8].copy_from_slice(
        &(number as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_le_bytes(),
    );
    let record = Record::of(key, &format!("crowd {number}@host"));
    let delta = Delta::of(record.id(), 1, 0, 1);
    let delta = delta.add(1, siege.stamp(), record.name.as_bytes(), &record.bytes());
    delta.gossip(DIRECTORY)
}

#[test]
fn a_crowd_of_forged_members_leaves_places_for_others() {
    let mut config = Config::default();
    (config.members.max_members, config.members.max_unknown) = (40, 30);
    let mut siege = Siege::with(3, &config);
    for number in 0..300 {
        let forged = forged_member(&siege, number);
        siege.say(forged);
    }
    // over one link half of the places for the unknown, and one
    for id in &siege.honest {
        let node = &siege.net.nodes[id];
        let members = node.members().len();
        assert!((10..=3 + 1 + 16).contains(&members), "{members}");
        assert_eq!(node.directory().map(Registry::known), Some(members));
    }
    siege.keeps_limits();
    // who comes himself is let in, and so is who is known
    let unknown = siege.net.start(9, config.clone());
    let known = siege.net.start_as(10, "known@host", 1, config.clone());
    siege.net.join(unknown, siege.honest[1]);
    siege.net.join(known, siege.honest[2]);
    siege.net.run(seconds(60));
    for id in &siege.honest {
        let members = siege.net.nodes[id].members();
        assert!(members.is_up(unknown) && members.is_up(known));
    }
    // nobody answers for the crowd, so it makes room for one that is there
    siege.net.run(seconds(600));
    for number in 0..300 {
        let forged = forged_member(&siege, number);
        siege.say(forged);
    }
    let late = siege.net.start(11, config);
    siege.net.join(late, siege.honest[1]);
    siege.net.run(seconds(60));
    for id in &siege.honest {
        let members = siege.net.nodes[id].members();
        assert!(members.len() <= 40 && members.is_up(late), "{id:?}");
    }
    assert_eq!(siege.named(), []);
    siege.ends_well();
}

#[test]
fn the_incarnation_of_another_is_lifted_within_bounds_only() {
    let mut siege = Siege::of(3);
    let victim = siege.honest[0];
    for incarnation in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 42] {
        for status in [UNREACHABLE, LEFT] {
            siege.say(
                Claim {
                    member: victim,
                    incarnation,
                    beat: 0,
                    status,
                }
                .gossip(),
            );
        }
        for topic in [DIRECTORY, REGISTRY] {
            siege.say(words::summaries(topic, &[victim], incarnation, 5, &[]));
            siege.say(Delta::of(victim, incarnation, 0, 1).gossip(topic));
        }
        siege.net.run(seconds(30));
        assert_eq!(
            siege.net.nodes[&victim].members().incarnation(),
            1,
            "{incarnation}"
        );
    }
    siege.ends_well();
}

#[test]
fn a_life_of_the_highest_number_is_its_own_affair() {
    let mut siege = Siege::of(3);
    let record = Record {
        incarnation: u64::MAX,
        seq: u64::MAX,
        ..siege.record()
    };
    let id = siege.ghost;
    let delta = Delta::of(id, u64::MAX, 0, 1).add(
        1,
        siege.stamp(),
        record.name.as_bytes(),
        &record.bytes(),
    );
    siege.say(delta.gossip(DIRECTORY));
    siege.say(
        Delta::of(id, u64::MAX, 0, 1)
            .add(1, siege.stamp(), b"k", b"v")
            .gossip(REGISTRY),
    );
    siege.net.run(seconds(5));
    for node in siege.net.nodes.values() {
        assert_eq!(node.registry().context(id), Some((u64::MAX, 1)));
    }
    assert_eq!(siege.named(), []);
    siege.ends_well();
}

#[test]
fn who_claims_all_operations_of_another_is_answered_by_a_new_life() {
    let mut siege = Siege::of(4);
    let victim = siege.honest[3];
    siege.say(Delta::of(victim, 1, 0, MAX_SEQ).chunk(REGISTRY));
    assert_eq!(siege.named(), [Misdeed::Unasked], "what nobody asked for");
    // a span that a broadcast's name can say
    siege.say(Delta::of(victim, 1, 1, 60_001).gossip(REGISTRY));
    siege.net.run(seconds(40));
    assert!(siege.net.nodes[&victim].members().incarnation() > 1);
    siege.ends_well();
}

#[test]
fn gaps_without_end_are_cut_off() {
    let mut siege = Siege::of(3);
    let id = siege.ghost;
    for at in 0..3000 {
        siege.say(
            Delta::of(id, 1, 2 * at + 1, 2 * at + 2)
                .add(2 * at + 2, siege.stamp(), b"k", b"v")
                .gossip(REGISTRY),
        );
    }
    for honest in &siege.honest {
        let registry = siege.net.nodes[honest].registry();
        assert_eq!(
            registry.entries(id).count(),
            1024,
            "one for each range that is kept"
        );
    }
    assert!(
        siege.net.nodes[&siege.honest[0]]
            .registry()
            .stats()
            .too_many_holes
            > 0
    );
    // they cannot be filled, and after a while are hardly looked after
    siege.net.run(seconds(120));
    let before = siege.net.frames.len();
    siege.net.run(seconds(60));
    let frames = siege.net.frames.len() - before;
    assert!(frames < 1000, "{frames} frames of three nodes in a minute");
    siege.ends_well();
}

#[test]
fn a_stamp_from_the_future_moves_no_clock_and_names_the_clock_it_came_from() {
    let mut siege = Siege::of(3);
    let future = (siege.net.now.wall_ms + 10 * 365 * 86_400_000) << 16;
    for seq in 1..=100 {
        siege.say(
            Delta::of(siege.ghost, 1, seq - 1, seq)
                .add(seq, future, b"k", b"v")
                .gossip(REGISTRY),
        );
    }
    for node in siege.net.nodes.values() {
        let ahead = node
            .clock()
            .latest()
            .wall_time()
            .saturating_sub(siege.net.now.wall_ms);
        assert!(ahead <= 500, "{ahead} ms ahead");
        assert!(
            node.registry().entries(siege.ghost).count() > 0,
            "the entry counts all the same"
        );
    }
    assert_eq!(siege.named(), [Misdeed::Clock]);
    let told = |event: &Event| {
        matches!(
            event,
            Event::Misbehaved {
                what: Misdeed::Clock,
                ..
            }
        )
    };
    assert_eq!(
        siege.net.count(siege.honest[0], told),
        1,
        "named once, and its link stays"
    );
    assert!(siege.is_neighbor());
    siege.ends_well();
}

#[test]
fn claims_about_nobody_fill_no_more_than_a_share() {
    let mut siege = Siege::of(3);
    for at in 0..40u16 {
        let all: Vec<Claim> = (0..100)
            .map(|n| Claim {
                member: nobody(at * 100 + n),
                incarnation: u64::MAX,
                beat: 0,
                status: LEFT,
            })
            .collect();
        siege.say(words::claims(&all));
    }
    let stats = siege.net.nodes[&siege.honest[0]].members().stats();
    assert!(stats.early_dropped > 0);
    siege.ends_well();
}
