// SPDX-License-Identifier: Apache-2.0

//! A few replicas, the messages between them, and what must be true of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use barrel_ormap::map::{Config, LogName, Record, RecordId, Refused};
use barrel_ormap::{Clock, Hlc, LwwMap, MapDelta, Now, OriginKey};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

pub(crate) const START: u64 = 1_800_000_000_000;
pub(crate) const NODES: usize = 4;

/// Schedules per property: the same ones each time, or as many new ones as asked for.
pub(crate) fn schedules() -> ProptestConfig {
    let asked = std::env::var("BARREL_SCHEDULES").ok();
    let asked = asked.and_then(|number| number.parse().ok());
    let rng_seed = match asked {
        None => RngSeed::Fixed(2_012),
        Some(_) => RngSeed::Random,
    };
    ProptestConfig {
        cases: asked.unwrap_or(2_000),
        rng_seed,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put(usize, u8),
    Remove(usize, u8),
    /// A message in flight arrives, arrives and stays in flight, or is lost.
    Deliver(usize),
    Duplicate(usize),
    Lose(usize),
    /// The first pulls from the second: everything, or so many answers.
    Sync(usize, usize),
    Pull(usize, usize, usize),
    /// Who has its bit set cannot reach who has not.
    Split(u8),
    Heal,
    /// Time goes on, in milliseconds.
    Pass(u64),
    /// The wall clock of one is off by so much.
    Skew(usize, i64),
    /// What is written so far becomes durable.
    Flush(usize),
    /// Begins a new life, with what is durable or with nothing.
    Restart(usize),
    Forget(usize),
    /// The second is gone for the first, who may move its values.
    Depart(usize, usize),
}

/// A write that somebody made.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) node: usize,
    pub(crate) key: Vec<u8>,
    pub(crate) stamp: Stamp,
    pub(crate) value: Vec<u8>,
    pub(crate) durable: bool,
    /// The node has restarted without it.
    pub(crate) lost: bool,
    /// It is certain that somebody has it, or something later.
    pub(crate) counts: bool,
    /// Of a removal: the stamp that it removed.
    pub(crate) removed: Option<Stamp>,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) map: LwwMap,
    pub(crate) clock: Clock,
    pub(crate) disk: BTreeMap<RecordId, Record>,
    floor: u64,
    skew: i64,
    side: bool,
}

/// When and by whom.
type Stamp = (Hlc, OriginKey);

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) writes: Vec<Write>,
    wire: Vec<(usize, usize, MapDelta)>,
    config: Config,
    time: u64,
    lives: u64,
    values: u32,
    prepare: fn(&mut LwwMap),
}

pub(crate) fn key_of(node: usize) -> OriginKey {
    // All in one bucket or not: both must work.
    OriginKey::from(((node as u128 % 2) << 120) + node as u128 + 1)
}

/// Live entries by dot, with what they say.
pub(crate) fn values(map: &LwwMap) -> BTreeMap<(LogName, u64), (Vec<u8>, Vec<u8>)> {
    let entries = map.snapshot().filter_map(|record| match record {
        (RecordId::Entry(log, seq), Record::Entry { pair, .. }) if !pair.value().is_empty() => {
            Some(((log, seq), (pair.key().to_vec(), pair.value().to_vec())))
        }
        _ => None,
    });
    entries.collect()
}

/// Live entries of a key by stamp; removals have an empty value.
fn stamps(map: &LwwMap) -> Vec<(Vec<u8>, Stamp, Vec<u8>)> {
    let entries = map.snapshot().filter_map(|record| match record {
        (
            RecordId::Entry(log, _),
            Record::Entry {
                pair, hlc, writer, ..
            },
        ) => {
            let stamp = (hlc, writer.unwrap_or(log.origin));
            Some((pair.key().to_vec(), stamp, pair.value().to_vec()))
        }
        _ => None,
    });
    entries.collect()
}

pub(crate) fn shown(map: &LwwMap) -> BTreeMap<Vec<u8>, Vec<u8>> {
    map.iter()
        .map(|p| (p.key().to_vec(), p.value().to_vec()))
        .collect()
}

/// The summaries of the buckets that differ.
pub(crate) fn difference(from: &LwwMap, to: &LwwMap) -> Vec<barrel_ormap::Summary> {
    let different = |b: &u8| from.buckets()[usize::from(*b)] != to.buckets()[usize::from(*b)];
    let buckets = (0..=u8::MAX).filter(different);
    buckets.flat_map(|bucket| from.summaries(bucket)).collect()
}

impl Cluster {
    pub(crate) fn new(config: Config, prepare: fn(&mut LwwMap)) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            writes: Vec::new(),
            wire: Vec::new(),
            config,
            time: 0,
            lives: 0,
            values: 0,
            prepare,
        };
        for node in 0..NODES {
            cluster.lives += 1;
            let mut map = LwwMap::new(key_of(node), cluster.lives, cluster.config.clone());
            prepare(&mut map);
            cluster.nodes.push(Node {
                map,
                clock: Clock::default(),
                disk: BTreeMap::new(),
                floor: 0,
                skew: 0,
                side: false,
            });
        }
        cluster
    }

    pub(crate) fn now(&self, node: usize) -> Now {
        let wall_ms = (START + self.time).saturating_add_signed(self.nodes[node].skew);
        let mono = Duration::from_millis(self.time);
        Now { mono, wall_ms }
    }

    fn split(&self, a: usize, b: usize) -> bool {
        self.nodes[a].side != self.nodes[b].side
    }

    pub(crate) fn run(&mut self, step: &Step) {
        match *step {
            Step::Put(node, key) => self.put(node, key % 8),
            Step::Remove(node, key) => self.remove(node, key % 8),
            Step::Deliver(at) => self.deliver(at, true),
            Step::Duplicate(at) => self.deliver(at, false),
            Step::Lose(at) => {
                if !self.wire.is_empty() {
                    self.wire.swap_remove(at % self.wire.len());
                }
            }
            Step::Sync(to, from) => self.pull(to, from, usize::MAX),
            Step::Pull(to, from, answers) => self.pull(to, from, answers),
            Step::Split(sides) => {
                for (node, state) in self.nodes.iter_mut().enumerate() {
                    state.side = sides >> node & 1 == 1;
                }
            }
            Step::Heal => self.nodes.iter_mut().for_each(|node| node.side = false),
            Step::Pass(ms) => {
                self.time += ms;
                for node in 0..NODES {
                    let now = self.now(node);
                    let Node { map, clock, .. } = &mut self.nodes[node];
                    map.handle_timeout(now, clock);
                    self.publish(node);
                }
            }
            Step::Skew(node, by) => self.nodes[node].skew = by,
            Step::Flush(node) => self.flush(node),
            Step::Restart(node) => self.restart(node, true),
            Step::Forget(node) => self.restart(node, false),
            Step::Depart(node, other) => {
                let now = self.now(node);
                self.nodes[node].map.set_lead(true);
                self.nodes[node].map.depart(now, key_of(other));
            }
        }
    }

    fn put(&mut self, node: usize, key: u8) {
        self.values += 1;
        let value = format!("{}", self.values).into_bytes();
        let now = self.now(node);
        let Node { map, clock, .. } = &mut self.nodes[node];
        let written = map.put(now, clock, &[key], &value);
        assert_eq!(written, Ok(()));
        assert_eq!(map.get(&[key]), Some(&value[..]), "a put is seen at once");
        self.wrote(node, key, value, None);
    }

    fn remove(&mut self, node: usize, key: u8) {
        let now = self.now(node);
        let Node { map, clock, .. } = &mut self.nodes[node];
        let before = stamps(map).into_iter().filter(|(k, ..)| *k == [key]);
        let shown = map.get(&[key]).map(<[u8]>::to_vec);
        let before = before.filter(|(.., value)| Some(value) == shown.as_ref());
        let before = before.map(|(_, stamp, _)| stamp).max();
        if map.remove(now, clock, &[key]) {
            assert_eq!(map.get(&[key]), None, "a removal is seen at once");
            self.wrote(node, key, Vec::new(), before);
        }
    }

    fn wrote(&mut self, node: usize, key: u8, value: Vec<u8>, removed: Option<Stamp>) {
        self.writes.push(Write {
            node,
            key: vec![key],
            stamp: (self.nodes[node].clock.latest(), key_of(node)),
            value,
            durable: false,
            lost: false,
            counts: true,
            removed,
        });
        self.publish(node);
    }

    fn publish(&mut self, node: usize) {
        while let Some(delta) = self.nodes[node].map.commit() {
            assert!(delta.encoded_len() <= barrel_ormap::delta::MAX_CHUNK);
            for to in (0..NODES).filter(|to| *to != node) {
                self.wire.push((node, to, delta.clone()));
            }
        }
    }

    fn deliver(&mut self, at: usize, once: bool) {
        if self.wire.is_empty() {
            return;
        }
        let at = at % self.wire.len();
        let (from, to, delta) = self.wire[at].clone();
        if once {
            self.wire.swap_remove(at);
        }
        if !self.split(from, to) {
            self.apply(to, from, delta);
        }
    }

    fn apply(&mut self, to: usize, from: usize, delta: MapDelta) {
        let now = self.now(to);
        let Node { map, clock, .. } = &mut self.nodes[to];
        match map.apply(now, clock, key_of(from), delta) {
            Ok(_) | Err(Refused::NeedsReset | Refused::TooFarAhead) => {}
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// One pulls from the other, at most so many answers.
    pub(crate) fn pull(&mut self, to: usize, from: usize, mut answers: usize) {
        if to == from || self.split(to, from) {
            return;
        }
        // A reset takes one round more.
        for _ in 0..4 {
            let summaries = difference(&self.nodes[from].map, &self.nodes[to].map);
            let buckets = *self.nodes[from].map.buckets();
            let map = &mut self.nodes[to].map;
            let mut wants = map.wants(key_of(from), &summaries);
            wants.extend(map.repairs(key_of(from), &buckets, &summaries));
            if wants.is_empty() {
                return;
            }
            for want in wants {
                // A budget that cuts most answers.
                let budget = if answers == usize::MAX {
                    usize::MAX
                } else {
                    200
                };
                for delta in self.nodes[from].map.answer(&want, budget) {
                    if answers == 0 {
                        return;
                    }
                    answers -= 1;
                    self.apply(to, from, delta);
                    self.publish(to);
                }
            }
        }
    }

    fn flush(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        while let Some((id, record)) = state.map.poll_record() {
            match record {
                Some(record) => state.disk.insert(id, record),
                None => state.disk.remove(&id),
            };
        }
        state.floor = state.clock.poll_floor().unwrap_or(state.floor);
        let own = self.writes.iter_mut().filter(|write| write.node == node);
        own.filter(|write| !write.lost)
            .for_each(|write| write.durable = true);
    }

    fn restart(&mut self, node: usize, durable: bool) {
        self.lives += 1;
        let now = self.now(node);
        let (inc, config) = (self.lives, self.config.clone());
        let state = &mut self.nodes[node];
        if durable {
            let disk = state.disk.clone();
            let map = LwwMap::restore(key_of(node), inc, config, now, disk);
            state.map = map.expect("what was written can be read");
        } else {
            state.map = LwwMap::new(key_of(node), inc, config);
            state.disk.clear();
        }
        (self.prepare)(&mut state.map);
        // Without a disk there is no floor either; then the wall clock has to do.
        let floor = if durable { state.floor } else { 0 };
        state.clock = Clock::new(barrel_ormap::hlc::MAX_DRIFT_MS, floor);
        let writes = self.writes.iter_mut();
        for write in writes.filter(|write| !durable || !write.durable) {
            write.counts = false;
            write.lost |= write.node == node;
        }
        self.recount();
    }

    /// A write that may be lost counts again if somebody has it or something later.
    fn recount(&mut self) {
        let held: Vec<_> = self
            .nodes
            .iter()
            .flat_map(|node| stamps(&node.map))
            .collect();
        for write in self.writes.iter_mut().filter(|write| !write.counts) {
            let known = held
                .iter()
                .any(|(key, stamp, _)| *key == write.key && *stamp >= write.stamp);
            write.counts = known;
        }
    }

    /// No faults any more: everybody pulls from everybody, until nothing changes.
    pub(crate) fn settle(&mut self) {
        self.run(&Step::Heal);
        (0..NODES).for_each(|node| self.nodes[node].skew = 0);
        for _ in 0..12 {
            for to in 0..NODES {
                (0..NODES).for_each(|from| self.pull(to, from, usize::MAX));
            }
            if self
                .nodes
                .iter()
                .all(|node| node.map.root() == self.nodes[0].map.root())
            {
                break;
            }
        }
        self.nodes.iter().for_each(|node| node.map.check());
    }

    /// Says what is wrong if the replicas do not agree.
    pub(crate) fn disagreement(&self) -> Option<String> {
        for node in &self.nodes[1..] {
            let (first, other) = (&self.nodes[0].map, &node.map);
            if shown(first) != shown(other) {
                return Some(format!("{:?} is not {:?}", shown(first), shown(other)));
            }
            if first.root() != other.root() {
                return Some(format!(
                    "agreed on {:?}, and the roots differ",
                    shown(first)
                ));
            }
            if values(first) != values(other) {
                return Some("equal roots, different values".to_string());
            }
        }
        None
    }

    /// Says which write was lost or came back, if each key must have its last write.
    pub(crate) fn wrong_winner(&self) -> Option<String> {
        let keys: BTreeSet<_> = self.writes.iter().map(|write| &write.key).collect();
        for key in keys {
            let own = self.writes.iter().filter(|write| write.key == *key);
            let last = own
                .clone()
                .filter(|write| write.counts)
                .max_by_key(|write| write.stamp);
            let shown = self.nodes[0].map.get(key).unwrap_or_default();
            let winner = own.filter(|write| {
                write.value == shown && (!shown.is_empty() || write.value.is_empty())
            });
            let least = last.map(|write| write.stamp);
            let good = match last {
                None => true,
                Some(_) => winner.map(|write| Some(write.stamp)).max() >= Some(least),
            };
            if !good {
                return Some(format!("{key:?} is {shown:?}, not {last:?}"));
            }
        }
        None
    }
}
