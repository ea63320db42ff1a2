// SPDX-License-Identifier: Apache-2.0

//! A peer that says too much, asks too much, or reads nothing.

mod net;

use std::time::Duration;

use barrel_node::{CloseReason, Config, Event, Misdeed, NodeId, NotSent};
use bytes::Bytes;
use net::siege::Siege;
use net::words::{
    self, BROADCAST, Claim, DIRECTORY, LEFT, Name, REGISTRY, Record, SUSPECT, UNREACHABLE,
};

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An id of nobody.
fn nobody(number: u64) -> NodeId {
    let mut id = [0xee; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    barrel_ormap::OriginKey(id)
}

/// The name of a broadcast that was never sent.
fn unsent(number: u64) -> Name {
    Name {
        topic: BROADCAST,
        origin: nobody(1),
        incarnation: 1,
        seq: number + 1,
        span: 1,
    }
}

#[test]
fn announcements_of_nothing_are_kept_up_to_a_limit_and_named() {
    // fewer than by default: a debug build looks at all of them after each word
    let mut config = Config::default();
    config.tree.outstanding = 256;
    let mut siege = Siege::with(4, &config);
    let mut next = 0;
    let mut rounds = 0;
    while siege.is_neighbor() && rounds < 40 {
        for _ in 0..2 {
            let names: Vec<Name> = (next..next + 256).map(unsent).collect();
            next += 256;
            siege.say(words::ihave(&names));
        }
        let held = siege.net.nodes[&siege.honest[0]].held();
        assert!(held.missing <= 256, "{}", held.missing);
        siege.keeps_limits();
        siege.net.run(seconds(10));
        rounds += 1;
    }
    assert_eq!(siege.named(), [Misdeed::Tree]);
    assert_eq!(siege.closed().last(), Some(&CloseReason::Misbehaved));
    // sixteen offences, and two of the three minutes in which they were said are forgiven
    assert_eq!(rounds, 18);
    siege.ends_well();
}

#[test]
fn announcements_of_more_operations_than_there_are_cost_little() {
    let mut siege = Siege::of(3);
    let log = siege.honest[1];
    let name = |topic, seq, span| Name {
        topic,
        origin: log,
        incarnation: 1,
        seq,
        span,
    };
    for topic in [DIRECTORY, REGISTRY, 1 << 40] {
        let names = vec![name(topic, 1 << 62, 65_535); 1024];
        siege.say(words::ihave(&names));
        siege.say(words::graft(name(topic, 1 << 62, 65_535)));
    }
    siege.say(words::ihave(&[name(REGISTRY, u64::MAX, 0)]));
    siege.say(words::ihave(&[name(REGISTRY, 3, 4)]));
    assert_eq!(siege.named(), [Misdeed::Malformed]);
    siege.keeps_limits();
    siege.ends_well();
}

#[test]
fn requests_without_end_are_not_answered_without_end_and_named() {
    let mut siege = Siege::of(3);
    let now = siege.net.now;
    let first = siege.honest[0];
    let body = Bytes::from(vec![7; 1 << 20]);
    let id = siege
        .net
        .act(first, |node| node.broadcast(now, body).expect("room"));
    let name = Name {
        seq: id.seq,
        origin: id.origin,
        ..unsent(0)
    };
    let before = siege.net.heard(first, siege.ghost).count();
    let said = siege.insist(100_000, |_| words::graft(name));
    let got: usize = siege
        .net
        .heard(first, siege.ghost)
        .skip(before)
        .map(Bytes::len)
        .sum();
    assert!(got <= 40 << 20, "{got} bytes for {said} requests");
    assert!(said < 100_000);
    assert_eq!(siege.named(), [Misdeed::Tree]);
    siege.ends_well();
}

#[test]
fn who_insists_on_joining_is_named_and_evicts_few() {
    for frame in [words::join(&[]), words::neighbor_high()] {
        let mut siege = Siege::of(4);
        let said = siege.insist(1000, |_| frame.clone());
        assert!(said <= 22, "{said}");
        assert_eq!(siege.named(), [Misdeed::Overlay]);
        let overlay = siege.net.nodes[&siege.honest[0]].overlay();
        assert!(
            siege.honest[1..]
                .iter()
                .filter(|id| overlay.is_active(**id))
                .count()
                >= 2
        );
        siege.ends_well();
    }
}

#[test]
fn shuffles_without_end_are_named_and_who_passed_them_on_is_not() {
    for ttl in [0, 3, 16] {
        let mut siege = Siege::of(4);
        let ghost = siege.ghost;
        let liar = |n: u64| {
            let mut key = [9; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            Record::of(key, &format!("s{n}@host"))
        };
        let said = siege.insist(5000, |at| {
            let records: Vec<Record> = (0..8).map(|n| liar(at as u64 * 8 + n)).collect();
            let peers: Vec<NodeId> = records.iter().map(Record::id).collect();
            let records: Vec<Vec<u8>> = records.iter().map(Record::bytes).collect();
            let origin = if at % 2 == 0 { ghost } else { peers[0] };
            words::shuffle(origin, ttl, &peers, &records)
        });
        assert!(said <= 1100, "{said}");
        siege.keeps_limits();
        assert_eq!(siege.named(), [Misdeed::Overlay], "ttl {ttl}");
        siege.ends_well();
    }
}

#[test]
fn walks_at_the_allowed_rate_do_not_set_honest_nodes_against_each_other() {
    let mut siege = Siege::of(3);
    let first = siege.honest[0];
    let origin = siege.ghost;
    let mut steps = 0;
    while siege.is_neighbor() && steps < 1500 {
        // fifty in a second is what one peer may say
        for _ in 0..5 {
            siege
                .net
                .say(origin, first, words::shuffle(origin, 16, &[], &[]));
        }
        siege.net.run(millis(100));
        steps += 1;
    }
    siege.ends_well();
}

#[test]
fn claims_about_everybody_are_named_and_nobody_stays_hidden() {
    for status in [SUSPECT, UNREACHABLE, LEFT] {
        let mut siege = Siege::of(4);
        let members = siege.honest.clone();
        for round in 0..100u64 {
            for at in 0..200 {
                let member = members[at as usize % members.len()];
                let beat = round * 50 + at / members.len() as u64;
                let incarnation = siege.net.nodes[&member].members().incarnation();
                if !siege.say(
                    Claim {
                        member,
                        incarnation,
                        beat,
                        status,
                    }
                    .gossip(),
                ) {
                    break;
                }
            }
            siege.net.run(millis(100));
        }
        let named = siege.named();
        assert!(
            named.iter().all(|what| *what == Misdeed::Claims),
            "{named:?}"
        );
        assert!(
            status == LEFT || named == [Misdeed::Claims],
            "a life ends once, and needs no flood"
        );
        siege.ends_well();
    }
}

#[test]
fn what_a_peer_asks_for_is_bounded_while_it_reads_nothing() {
    let mut siege = Siege::of(3);
    siege.net.deaf.insert(siege.ghost);
    for at in 0..40 {
        let logs: Vec<NodeId> = (0..1000).map(|n| nobody(at * 1000 + n)).collect();
        siege.say(words::wants(REGISTRY, &logs, 2));
        siege.say(words::wants(DIRECTORY, &[nobody(at)], 1000));
        siege.say(words::root(REGISTRY));
        let all: Vec<u8> = (0..=u8::MAX).collect();
        siege.say(words::summaries(REGISTRY, &logs, 1, 1 << 62, &all));
        siege.keeps_limits();
    }
    let held = siege.net.nodes[&siege.honest[0]].held();
    // nobody else asks for anything here
    assert!((10_000..=16_000).contains(&held.wants), "{held:?}");
    assert!((10_000..=32_000).contains(&held.want_ranges), "{held:?}");
    siege.ends_well();
}

#[test]
fn summaries_without_end_are_asked_about_and_nothing_is_kept() {
    let mut siege = Siege::of(3);
    for at in 0..50 {
        let logs: Vec<NodeId> = (0..1000).map(|n| nobody(at * 1000 + n)).collect();
        siege.say(words::summaries(DIRECTORY, &logs, u64::MAX, 1 << 62, &[]));
        siege.say(words::summaries(REGISTRY, &logs, u64::MAX, 1 << 62, &[]));
        siege.keeps_limits();
    }
    for honest in &siege.honest {
        let held = siege.net.nodes[honest].held();
        assert!(held.logs <= 8, "{held:?}");
    }
    siege.ends_well();
}

#[test]
fn who_reads_nothing_costs_a_queue_and_then_its_link() {
    let mut siege = Siege::of(4);
    siege.net.deaf.insert(siege.ghost);
    let sender = siege.honest[1];
    for _ in 0..40 {
        let now = siege.net.now;
        let body = Bytes::from(vec![7; 1 << 18]);
        siege
            .net
            .act(sender, |node| node.broadcast(now, body).expect("room"));
        siege.net.run(millis(200));
        siege.keeps_limits();
    }
    let queued = siege.net.nodes[&siege.honest[0]].held().queued;
    assert!(queued > 3 << 20, "{queued}");
    let heard = |event: &Event| matches!(event, Event::Broadcast { .. });
    for id in siege.honest.iter().filter(|id| **id != sender) {
        assert_eq!(siege.net.count(*id, heard), 40);
    }
    siege.net.run(seconds(40));
    assert_eq!(siege.closed().first(), Some(&CloseReason::TooSlow));
    assert!(siege.net.nodes[&siege.honest[0]].held().queued < 10_000);
    siege.ends_well();
}

#[test]
fn neighbours_that_read_nothing_do_not_silence_a_node_for_long() {
    let mut siege = Siege::of(2);
    let first = siege.honest[0];
    for number in 201..204 {
        let other = siege.net.haunt(number);
        siege.net.link(other, first);
        siege.net.say(
            other,
            first,
            words::greeting(&Record::of(net::key_of(number), "deaf@host").bytes()),
        );
        siege.net.say(other, first, words::join(&[]));
        siege.net.say(other, first, words::graft_link());
        siege.net.deaf.insert(other);
    }
    let say = |siege: &mut Siege| {
        let now = siege.net.now;
        siege.net.act(first, |node| {
            node.broadcast(now, Bytes::from(vec![7; 1 << 20]))
        })
    };
    let busy = (0..100).any(|_| say(&mut siege) == Err(NotSent::Busy));
    assert!(busy, "so much is not taken in");
    siege.net.run(seconds(40));
    assert!(say(&mut siege).is_ok());
    siege.ends_well();
}

#[test]
fn who_reads_nothing_and_makes_us_answer_loses_its_link() {
    let mut siege = Siege::of(3);
    siege.net.deaf.insert(siege.ghost);
    let name = unsent(0);
    let first = siege.honest[0];
    let mut said = 0;
    while siege.closed().is_empty() && said < 10_000 {
        siege
            .net
            .say(siege.ghost, first, words::gossip(name, b"again"));
        said += 1;
    }
    assert_eq!(siege.closed()[0], CloseReason::TooSlow);
    siege.ends_well();
}
