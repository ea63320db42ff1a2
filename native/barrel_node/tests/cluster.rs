// SPDX-License-Identifier: Apache-2.0

//! A few whole nodes: what one does, the others see.

mod net;

use std::time::Duration;

use barrel_node::{Config, Contact, Event, NodeId, Topic};
use bytes::Bytes;
use net::Net;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Services that a node sees: whose, and the key.
fn seen(net: &Net, who: NodeId) -> Vec<(NodeId, String)> {
    let mut seen = std::collections::BTreeSet::new();
    for event in &net.events[&who] {
        match event {
            Event::ServiceUp { origin, pair } => {
                seen.insert((*origin, String::from_utf8_lossy(pair.key()).into_owned()));
            }
            Event::ServiceDown { origin, pair } => {
                let entry = (*origin, String::from_utf8_lossy(pair.key()).into_owned());
                assert!(seen.remove(&entry), "{entry:?} goes only after it came");
            }
            _ => {}
        }
    }
    seen.into_iter().collect()
}

fn register(net: &mut Net, who: NodeId, key: &str, value: &str) {
    let now = net.now;
    net.act(who, |node| {
        node.register(now, key.as_bytes(), value.as_bytes())
            .expect("room for a service");
        node.commit(now);
    });
}

#[test]
fn two_nodes_find_each_other_and_say_so_once() {
    let mut net = Net::default();
    let ids = net.cluster(2, &Config::default());
    net.run(seconds(1));
    for id in &ids {
        assert_eq!(net.count(*id, |event| matches!(event, Event::Joined)), 1);
        assert_eq!(net.nodes[id].overlay().active().count(), 1);
        assert_eq!(net.nodes[id].members().up(), 2);
        assert_eq!(
            net.count(*id, |event| matches!(event, Event::NodeUp { .. })),
            1
        );
    }
}

#[test]
fn everybody_sees_what_one_registers_and_what_it_takes_back() {
    let mut net = Net::default();
    let ids = net.cluster(12, &Config::default());
    net.run(seconds(5));
    register(&mut net, ids[3], "door", "pid 1");
    net.run(seconds(2));
    for id in &ids {
        assert_eq!(seen(&net, *id), [(ids[3], "door".to_owned())]);
    }
    let now = net.now;
    net.act(ids[3], |node| {
        assert!(node.unregister(now, b"door"));
        node.commit(now);
    });
    net.run(seconds(2));
    for id in &ids {
        assert_eq!(seen(&net, *id), []);
    }
}

#[test]
fn who_joins_late_is_told_all_there_is() {
    let mut net = Net::default();
    let ids = net.cluster(3, &Config::default());
    for service in 0..200 {
        register(
            &mut net,
            ids[service % 3],
            &format!("service {service}"),
            &"x".repeat(500),
        );
    }
    net.run(seconds(2));
    let late = net.start(9, Config::default());
    net.join(late, ids[1]);
    net.run(seconds(2));
    assert_eq!(seen(&net, late).len(), 200);
    assert_eq!(
        net.nodes[&late].registry().root(),
        net.nodes[&ids[0]].registry().root()
    );
    assert_eq!(net.nodes[&late].members().up(), 4);
}

#[test]
fn a_killed_node_is_told_once_and_its_services_are_hidden() {
    let mut net = Net::default();
    let ids = net.cluster(8, &Config::default());
    net.run(seconds(5));
    register(&mut net, ids[7], "door", "pid 1");
    net.run(seconds(1));
    net.kill(ids[7]);
    net.run(seconds(20));
    for id in &ids[..7] {
        let down = |event: &Event| matches!(event, Event::NodeDown { node, left: false, .. } if *node == ids[7]);
        assert_eq!(net.count(*id, down), 1);
        assert_eq!(seen(&net, *id), []);
    }
}

#[test]
fn a_restarted_node_does_not_bring_its_old_services_back() {
    let mut net = Net::default();
    let ids = net.cluster(5, &Config::default());
    register(&mut net, ids[4], "old", "pid 1");
    net.run(seconds(2));
    net.kill(ids[4]);
    let again = net.start_as(5, "n5@host", 2, Config::default());
    assert_eq!(again, ids[4]);
    net.join(again, ids[0]);
    register(&mut net, again, "new", "pid 2");
    net.run(seconds(40));
    for id in &ids[..4] {
        assert_eq!(seen(&net, *id), [(again, "new".to_owned())]);
        assert_eq!(net.nodes[id].members().up(), 5);
    }
}

#[test]
fn a_good_bye_removes_the_services_at_once_and_everywhere() {
    let mut net = Net::default();
    let ids = net.cluster(10, &Config::default());
    net.run(seconds(5));
    register(&mut net, ids[2], "door", "pid 1");
    net.run(seconds(1));
    let now = net.now;
    net.act(ids[2], |node| node.leave(now));
    for id in ids.iter().filter(|id| **id != ids[2]) {
        let left = |event: &Event| matches!(event, Event::NodeDown { left: true, .. });
        assert_eq!(net.count(*id, left), 1);
        assert_eq!(seen(&net, *id), []);
        assert!(!net.nodes[id].overlay().is_active(ids[2]));
    }
    assert_eq!(net.nodes[&ids[2]].overlay().active().count(), 0);

    net.join(ids[2], ids[5]);
    net.run(seconds(5));
    for id in &ids {
        assert_eq!(net.nodes[id].members().up(), 10, "{id:?}");
    }
}

#[test]
fn halves_of_a_partition_agree_again_when_it_heals() {
    let mut net = Net::default();
    let ids = net.cluster(8, &Config::default());
    net.run(seconds(5));
    net.partition(&ids[..4]);
    net.run(seconds(60));
    register(&mut net, ids[0], "left", "1");
    register(&mut net, ids[7], "right", "2");
    net.run(seconds(10));
    assert_eq!(seen(&net, ids[1]), [(ids[0], "left".to_owned())]);
    assert_eq!(seen(&net, ids[6]), [(ids[7], "right".to_owned())]);
    net.heal();
    net.run(seconds(60));
    for id in &ids {
        assert_eq!(seen(&net, *id).len(), 2, "{id:?}");
        assert_eq!(net.nodes[id].members().up(), 8);
    }
}

#[test]
fn a_broadcast_reaches_everybody_once() {
    let mut net = Net::default();
    let ids = net.cluster(20, &Config::default());
    net.run(seconds(5));
    let now = net.now;
    for (at, id) in ids.iter().enumerate() {
        net.act(*id, |node| {
            node.broadcast(now, Bytes::from(format!("word {at}")))
                .expect("room")
        });
    }
    net.run(seconds(3));
    for id in &ids {
        assert_eq!(
            net.count(*id, |event| matches!(event, Event::Broadcast { .. })),
            19
        );
    }
}

#[test]
fn a_map_has_the_same_value_on_all_that_keep_it_and_none_elsewhere() {
    let mut net = Net::default();
    let map = Topic::of_map(b"colours");
    let ids = net.cluster(6, &Config::default());
    net.run(seconds(5));
    let now = net.now;
    for id in &ids[..4] {
        net.act(*id, |node| {
            node.open_map(now, map, barrel_ormap::map::Config::default(), [])
                .expect("nothing kept");
            node.commit(now);
        });
    }
    net.run(seconds(2));
    let now = net.now;
    net.act(ids[0], |node| {
        node.map_put(now, map, b"sky", b"blue").expect("room");
        node.commit(now);
    });
    net.run(seconds(2));
    for id in &ids[..4] {
        assert_eq!(
            net.nodes[id].map(map).and_then(|map| map.get(b"sky")),
            Some(&b"blue"[..])
        );
    }
    for id in &ids[4..] {
        assert!(net.nodes[id].map(map).is_none());
    }

    // the writer goes; its value is the map's
    net.kill(ids[0]);
    net.run(seconds(20));
    let now = net.now;
    net.act(ids[5], |node| {
        node.open_map(now, map, barrel_ormap::map::Config::default(), [])
            .expect("nothing kept");
    });
    net.run(seconds(2));
    assert_eq!(
        net.nodes[&ids[5]].map(map).and_then(|map| map.get(b"sky")),
        Some(&b"blue"[..])
    );
}

#[test]
fn a_contact_that_does_not_answer_is_told_and_asked_again() {
    let mut net = Net::default();
    let alone = net.start(1, Config::default());
    let missing = net::id_of(&net::key_of(2));
    net.join(alone, missing);
    let failed = |event: &Event| matches!(event, Event::JoinFailed(Contact::Seed(_)));
    assert_eq!(net.count(alone, failed), 1);
    net.run(seconds(60));
    assert!(net.count(alone, failed) >= 3);
    net.start(2, Config::default());
    net.run(seconds(60));
    assert_eq!(net.count(alone, |event| matches!(event, Event::Joined)), 1);
}
