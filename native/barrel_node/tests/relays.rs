// SPDX-License-Identifier: Apache-2.0

//! Who passes on in good faith what somebody else made up is not blamed for it.

mod net;

use std::sync::Arc;
use std::time::Duration;

use barrel_node::{Config, Keys, Misdeed, NodeId, PublicKey, Signature, Standing, Topic};
use net::siege::Siege;
use net::words::{self, BROADCAST, DIRECTORY, Delta, Name, REGISTRY, Record};
use net::{Net, ToyKeys, key_of};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The keys of an operator who trusts nobody with that name.
struct Suspicious(ToyKeys, &'static str);

impl Keys for Suspicious {
    fn sign(&self, bytes: &[u8]) -> Signature {
        self.0.sign(bytes)
    }

    fn verify(&self, key: &PublicKey, bytes: &[u8], signature: &Signature) -> bool {
        self.0.verify(key, bytes, signature)
    }

    fn id(&self, key: &PublicKey) -> NodeId {
        self.0.id(key)
    }

    fn standing(&self, name: &str, key: &PublicKey) -> Standing {
        if name == self.1 {
            Standing::Refused
        } else {
            self.0.standing(name, key)
        }
    }
}

#[test]
fn a_broken_piece_of_a_map_is_stopped_by_who_does_not_even_keep_the_map() {
    let mut siege = Siege::of(3);
    let map = Topic::of_map(b"colours");
    let now = siege.net.now;
    for id in &siege.honest[1..] {
        siege.net.act(*id, |node| {
            node.open_map(now, map, barrel_ormap::map::Config::default(), [])
                .expect("nothing kept");
            node.commit(now);
        });
    }
    let name = Name {
        topic: map.0,
        origin: siege.ghost,
        incarnation: 1,
        seq: 1,
        span: 1,
    };
    siege.say(words::gossip(name, b"no piece of anything"));
    // a piece of a log is none of a map
    let piece = Delta::of(siege.ghost, 1, 0, 1).add(1, siege.stamp(), b"k", b"v");
    siege.say(piece.gossip(map.0));
    // and one that is, but goes by another name
    let of_map = words::Words(piece.body()).n(0).n(0).n(0).n(0).done();
    siege.say(words::gossip(Name { seq: 2, ..name }, &of_map));
    assert_eq!(siege.named(), [Misdeed::Malformed]);
    siege.say(words::gossip(name, &of_map));
    siege.net.run(seconds(2));
    for id in &siege.honest[1..] {
        assert_eq!(
            siege.net.nodes[id].map(map).and_then(|map| map.get(b"k")),
            Some(&b"v"[..])
        );
    }
    siege.ends_well();
}

#[test]
fn a_record_that_only_our_operator_refuses_is_nobody_elses_fault() {
    let mut net = Net::default();
    let mut honest = net.cluster(3, &Config::default());
    let keys = Suspicious(ToyKeys(key_of(4)), "disliked@host");
    honest.push(net.start_with(4, "n4@host", 1, Config::default(), Arc::new(keys)));
    net.join(honest[3], honest[0]);
    let mut siege = Siege::around(net, honest);
    let disliked = Record::of(key_of(210), "disliked@host");
    for seq in 1..=40 {
        let record = Record {
            seq,
            ..disliked.clone()
        };
        let delta = Delta::of(record.id(), 1, seq - 1, seq).add(
            seq,
            siege.stamp(),
            record.name.as_bytes(),
            &record.bytes(),
        );
        siege.say(delta.gossip(DIRECTORY));
        siege.net.run(seconds(1));
    }
    let knows = |siege: &Siege, at: usize| {
        siege.net.nodes[&siege.honest[at]]
            .members()
            .card(disliked.id())
            .is_some()
    };
    assert!(knows(&siege, 1) && !knows(&siege, 3));
    assert_eq!(siege.named(), []);
    for at in 0..3 {
        let (who, other) = (siege.honest[3], siege.honest[at]);
        assert!(
            siege.net.link_between(who, other).is_some(),
            "the links are still there"
        );
    }
    siege.ends_well();
}

#[test]
fn a_piece_that_the_registry_refuses_is_not_passed_on() {
    let mut siege = Siege::of(3);
    siege.say(words::ghostwritten(
        siege.ghost,
        siege.honest[1],
        siege.stamp(),
    ));
    assert_eq!(siege.named(), [Misdeed::Store]);
    siege.ends_well();
}

#[test]
fn what_is_of_nobody_or_of_another_life_is_let_lie() {
    let mut siege = Siege::of(3);
    let nobody = barrel_ormap::OriginKey([0xee; 16]);
    for (origin, inc) in [(nobody, 1), (siege.ghost, 7), (siege.honest[1], 0)] {
        siege.say(
            Delta::of(origin, inc, 0, 1)
                .add(1, siege.stamp(), b"k", b"v")
                .gossip(REGISTRY),
        );
    }
    siege.net.run(seconds(1));
    for id in &siege.honest {
        let registry = siege.net.nodes[id].registry();
        assert_eq!(registry.context(nobody), None);
        assert!(
            registry
                .context(siege.ghost)
                .is_none_or(|(inc, _)| inc == 1)
        );
    }
    assert_eq!(siege.named(), []);
    siege.ends_well();
}

#[test]
fn a_broadcast_in_the_name_of_nobody_blames_nobody() {
    let mut siege = Siege::of(4);
    for seq in 1..=100 {
        let origin = barrel_ormap::OriginKey([0xee; 16]);
        let name = Name {
            topic: BROADCAST,
            origin,
            incarnation: u64::MAX,
            seq,
            span: 1,
        };
        siege.say(words::gossip(name, b"boo"));
    }
    assert_eq!(siege.named(), []);
    siege.ends_well();
}
