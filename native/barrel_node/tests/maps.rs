// SPDX-License-Identifier: Apache-2.0

//! Whose value is it: what happens to the entries of a map when its writers come and go.

mod net;

use std::time::Duration;

use barrel_node::{Config, Event, NodeId, Table, Topic, WriteError};
use barrel_ormap::delta::MAX_PAIR;
use barrel_ormap::map;
use bytes::Bytes;
use net::Net;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn colours() -> Topic {
    Topic::of_map(b"colours")
}

fn open(net: &mut Net, who: NodeId, config: map::Config, kept: Vec<(Bytes, Bytes)>) {
    let now = net.now;
    net.act(who, |node| {
        node.open_map(now, colours(), config, kept)
            .expect("sound records");
        node.commit(now);
    });
}

fn put(net: &mut Net, who: NodeId, key: &str, value: &str) {
    let now = net.now;
    net.act(who, |node| {
        node.map_put(now, colours(), key.as_bytes(), value.as_bytes())
            .expect("room");
        node.commit(now);
    });
}

fn value(net: &Net, who: NodeId, key: &str) -> Option<String> {
    let map = net.nodes[&who].map(colours())?;
    map.get(key.as_bytes())
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

fn is_ready(event: &Event) -> bool {
    *event == Event::MapReady(colours())
}

fn is_misdeed(event: &Event) -> bool {
    matches!(event, Event::Misbehaved { .. })
}

fn persistent() -> map::Config {
    map::Config {
        persist: true,
        ..map::Config::default()
    }
}

#[test]
fn a_writer_that_restarts_empty_gets_its_own_values_back_before_it_may_acknowledge() {
    let mut net = Net::default();
    let ids = net.cluster(4, &Config::default());
    net.run(seconds(5));
    for id in &ids {
        open(&mut net, *id, map::Config::default(), Vec::new());
    }
    put(&mut net, ids[3], "sky", "blue");
    net.run(seconds(1));
    net.kill(ids[3]);

    let again = net.start_as(4, "n4@host", 2, Config::default());
    net.events.insert(again, Vec::new());
    net.join(again, ids[0]);
    open(&mut net, again, map::Config::default(), Vec::new());
    assert_eq!(net.count(again, is_ready), 1, "the others answered at once");
    assert_eq!(value(&net, again, "sky").as_deref(), Some("blue"));
    put(&mut net, again, "sea", "green");
    net.run(seconds(2));
    for id in &ids {
        assert_eq!(value(&net, *id, "sky").as_deref(), Some("blue"));
        assert_eq!(value(&net, *id, "sea").as_deref(), Some("green"));
    }
}

#[test]
fn the_largest_values_travel_and_larger_ones_are_refused() {
    let mut net = Net::default();
    let ids = net.cluster(3, &Config::default());
    net.run(seconds(5));
    open(&mut net, ids[0], map::Config::default(), Vec::new());
    open(&mut net, ids[1], map::Config::default(), Vec::new());
    let (key, last) = (vec![1; MAX_PAIR / 2], vec![3; MAX_PAIR - MAX_PAIR / 2]);
    let now = net.now;
    net.act(ids[0], |node| {
        for fill in [2, 3] {
            let value = vec![fill; last.len()];
            assert_eq!(node.map_put(now, colours(), &key, &value), Ok(()));
            assert_eq!(node.register(now, &key, &value), Ok(()));
            node.commit(now);
        }
        let larger = vec![4; last.len() + 1];
        let put = node.map_put(now, colours(), &key, &larger);
        assert_eq!(put, Err(WriteError::TooLarge));
        let registered = node.register(now, &key, &larger);
        assert_eq!(registered, Err(WriteError::TooLarge));
    });
    let registered = |net: &Net, who: NodeId| {
        let entries = net.nodes[&who].registry().entries(ids[0]);
        let mut pairs = entries.filter(|(pair, _)| pair.key() == key);
        pairs.any(|(pair, _)| pair.value() == last)
    };
    // who was there hears it, and who comes later is told when it compares
    let later = net.start(9, Config::default());
    net.join(later, ids[2]);
    open(&mut net, later, map::Config::default(), Vec::new());
    net.run(seconds(30));
    for who in [ids[1], ids[2], later] {
        assert!(registered(&net, who));
    }
    for who in [ids[1], later] {
        let map = net.nodes[&who].map(colours()).expect("it is open");
        assert_eq!(map.get(&key), Some(&last[..]));
    }
    for who in ids {
        assert_eq!(net.count(who, is_misdeed), 0);
    }
}

#[test]
fn what_one_replica_has_lost_it_takes_from_another_and_counts() {
    let mut net = Net::default();
    let ids = net.cluster(3, &Config::default());
    net.run(seconds(2));
    for id in &ids {
        open(&mut net, *id, persistent(), Vec::new());
    }
    for number in 0..10 {
        put(
            &mut net,
            ids[0],
            &format!("key {number}"),
            &format!("value {number}"),
        );
        put(&mut net, ids[1], &format!("of 2, {number}"), "same");
    }
    net.run(seconds(1));
    net.kill(ids[2]);
    // its disk has lost what is of use in two of the records, and not the logs
    let of_use = |value: &Bytes| {
        let is = |text: &[u8]| value.windows(text.len()).any(|part| part == text);
        is(b"value 3") || is(b"value 7")
    };
    let disk = net.disks[&ids[2]].clone();
    let kept: Vec<_> = disk
        .into_iter()
        .filter(|((table, _), value)| *table == Table::Map(colours()) && !of_use(value))
        .map(|((_, key), value)| (key, value))
        .collect();
    net.start_as(3, "n3@host", 2, Config::default());
    open(&mut net, ids[2], persistent(), kept);
    assert_eq!(value(&net, ids[2], "key 3"), None);
    assert_eq!(value(&net, ids[2], "key 4").as_deref(), Some("value 4"));
    net.join(ids[2], ids[0]);
    net.run(seconds(60));
    for number in 0..10 {
        let mended = value(&net, ids[2], &format!("key {number}"));
        assert_eq!(mended, Some(format!("value {number}")));
    }
    let stats = |id| net.nodes[&id].map(colours()).expect("it is open").stats();
    assert_eq!(stats(ids[2]).repaired, 2);
    assert!(stats(ids[2]).audit_mismatches >= 1);
    assert_eq!((stats(ids[0]).repaired, stats(ids[1]).repaired), (0, 0));
    for id in &ids {
        assert_eq!(net.count(*id, is_misdeed), 0);
    }
}

#[test]
fn a_life_that_was_lived_before_ends_and_loses_nothing() {
    let mut net = Net::default();
    let ids = net.cluster(3, &Config::default());
    net.run(seconds(5));
    for id in &ids {
        open(&mut net, *id, map::Config::default(), Vec::new());
    }
    put(&mut net, ids[2], "sky", "blue");
    put(&mut net, ids[2], "sea", "green");
    net.run(seconds(1));
    net.kill(ids[2]);
    // the same life again, as from a copy of its disk: as far as the registry and the
    // directory go it has said the same, and in the map less
    let is_clash = |event: &Event| matches!(event, Event::Clash { .. });
    let again = net.start_as(3, "n3@host", 1, Config::default());
    net.events.insert(again, Vec::new());
    open(&mut net, again, map::Config::default(), Vec::new());
    put(&mut net, again, "land", "brown");
    net.join(again, ids[0]);
    net.run(seconds(60));
    assert_eq!(net.count(again, is_clash), 1);
    let node = &net.nodes[&again];
    let inc = node.map(colours()).expect("it is open").me().inc;
    assert!(inc > 1 && inc == node.members().incarnation());
    put(&mut net, again, "sky", "red");
    net.run(seconds(5));
    for id in ids {
        assert_eq!(value(&net, id, "sky").as_deref(), Some("red"));
        assert_eq!(value(&net, id, "sea").as_deref(), Some("green"));
        assert_eq!(value(&net, id, "land").as_deref(), Some("brown"));
        assert_eq!(net.count(id, is_misdeed), 0);
    }
}

#[test]
fn a_map_alone_is_ready_at_once() {
    let mut net = Net::default();
    let alone = net.start(1, Config::default());
    open(&mut net, alone, map::Config::default(), Vec::new());
    assert_eq!(net.count(alone, is_ready), 1);
}

#[test]
fn what_was_made_durable_survives_the_restart_of_all() {
    let mut net = Net::default();
    let ids = net.cluster(3, &Config::default());
    net.run(seconds(2));
    for id in &ids {
        open(&mut net, *id, persistent(), Vec::new());
    }
    for (at, id) in ids.iter().enumerate() {
        put(&mut net, *id, &format!("key {at}"), &format!("value {at}"));
    }
    put(&mut net, ids[0], "key 1", "changed");
    let now = net.now;
    net.act(ids[1], |node| {
        assert_eq!(node.map_remove(now, colours(), b"key 2"), Ok(true));
        node.commit(now);
    });
    net.run(seconds(1));
    for id in &ids {
        net.kill(*id);
    }
    for (number, id) in (1..).zip(&ids) {
        net.start_as(number, &format!("n{number}@host"), 2, Config::default());
        let kept = net.disks[id]
            .iter()
            .filter(|((table, _), _)| *table == Table::Map(colours()));
        let kept = kept
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        open(&mut net, *id, persistent(), kept);
        assert_eq!(
            value(&net, *id, "key 0").as_deref(),
            Some("value 0"),
            "before anybody was asked"
        );
    }
    net.join(ids[1], ids[0]);
    net.join(ids[2], ids[0]);
    put(&mut net, ids[2], "key 0", "later");
    net.run(seconds(5));
    for id in &ids {
        assert_eq!(value(&net, *id, "key 0").as_deref(), Some("later"));
        assert_eq!(value(&net, *id, "key 1").as_deref(), Some("changed"));
        assert_eq!(value(&net, *id, "key 2"), None);
    }
}

#[test]
fn records_that_nobody_wrote_open_no_map() {
    let mut net = Net::default();
    let id = net.start(1, Config::default());
    let now = net.now;
    let kept = [(Bytes::from_static(b"\x09"), Bytes::from_static(b"nonsense"))];
    net.act(id, |node| {
        assert!(node.open_map(now, colours(), persistent(), kept).is_err());
        assert!(node.map(colours()).is_none());
    });
}

#[test]
fn a_writer_that_says_good_bye_leaves_its_values_behind() {
    let mut net = Net::default();
    let ids = net.cluster(4, &Config::default());
    net.run(seconds(5));
    for id in &ids {
        open(&mut net, *id, map::Config::default(), Vec::new());
    }
    put(&mut net, ids[1], "sky", "blue");
    net.run(seconds(1));
    let now = net.now;
    net.act(ids[1], |node| node.leave(now));
    net.run(seconds(30));
    for id in [ids[0], ids[2], ids[3]] {
        assert_eq!(value(&net, id, "sky").as_deref(), Some("blue"));
        assert_eq!(net.nodes[&id].hosts(colours()).count(), 3);
    }
}

#[test]
fn both_sides_of_a_partition_write_and_agree_afterwards() {
    let mut net = Net::default();
    let ids = net.cluster(6, &Config::default());
    net.run(seconds(5));
    for id in &ids {
        open(&mut net, *id, map::Config::default(), Vec::new());
    }
    put(&mut net, ids[0], "both", "before");
    net.run(seconds(1));
    net.partition(&ids[..3]);
    net.run(seconds(30));
    put(&mut net, ids[0], "both", "left");
    put(&mut net, ids[1], "left", "1");
    net.run(seconds(1));
    put(&mut net, ids[5], "both", "right, later");
    put(&mut net, ids[4], "right", "2");
    net.heal();
    net.run(seconds(60));
    for id in &ids {
        assert_eq!(value(&net, *id, "both").as_deref(), Some("right, later"));
        assert_eq!(value(&net, *id, "left").as_deref(), Some("1"));
        assert_eq!(value(&net, *id, "right").as_deref(), Some("2"));
    }
}
