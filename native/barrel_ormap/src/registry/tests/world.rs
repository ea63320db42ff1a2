// SPDX-License-Identifier: Apache-2.0

//! A few replicas, what is under way between them, and what really happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dice::Dice;
use crate::registry::{Change, Config, Limits, Registry};
use crate::{Delta, Hlc, OriginKey};

/// What the owner did in one life.
#[derive(Default)]
struct Life {
    seq: u64,
    /// Every entry ever written, by its dot.
    written: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    /// Removed dot and the operation that did it.
    removed: BTreeMap<u64, u64>,
    keys: BTreeMap<Vec<u8>, u64>,
}

/// The entries of one reader, as the changes have told them.
type Picture = BTreeMap<(OriginKey, Vec<u8>), Vec<u8>>;

pub(super) struct World {
    dice: Dice,
    config: Config,
    nodes: Vec<Registry>,
    pictures: Vec<Picture>,
    lives: BTreeMap<(OriginKey, u64), Life>,
    wire: Vec<(usize, usize, Delta)>,
    /// Nodes of different sides do not hear each other.
    sides: Vec<bool>,
    loss: usize,
    inc: u64,
}

pub(super) fn key(node: usize) -> OriginKey {
    // Two nodes share a bucket of the digest, the others do not.
    OriginKey::from((node as u128 + 1) << 119)
}

impl World {
    pub(super) fn new(seed: u64, loss: usize, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut dice = Dice::new(seed);
        let limits = Limits {
            max_log: 8,
            ..Limits::default()
        };
        let mut config = Config {
            limits,
            ..Config::default()
        };
        adjust(&mut config);
        let count = 2 + dice.below(4);
        let mut world = Self {
            dice,
            config,
            nodes: Vec::new(),
            pictures: vec![Picture::new(); count],
            lives: BTreeMap::new(),
            wire: Vec::new(),
            sides: vec![false; count],
            loss,
            inc: 0,
        };
        for node in 0..count {
            let registry = world.born(node);
            world.nodes.push(registry);
        }
        world
    }

    /// Steps at random, then peace; the first thing that is wrong, in words.
    pub(super) fn run(&mut self, steps: usize) -> Result<(), String> {
        for step in 0..steps {
            let touched = self.step();
            self.examine(touched)
                .map_err(|wrong| format!("after step {step}: {wrong}"))?;
        }
        self.settle()
    }

    fn born(&mut self, node: usize) -> Registry {
        self.inc += 1;
        self.lives.insert((key(node), self.inc), Life::default());
        Registry::new(key(node), self.inc, self.config.clone())
    }

    /// Something happens; to which node.
    fn step(&mut self) -> usize {
        let mut node = self.dice.below(self.nodes.len());
        let other = self.dice.below(self.nodes.len());
        match self.dice.below(100) {
            0..30 => self.write(node),
            30..45 => self.announce(node),
            45..70 => node = self.deliver().unwrap_or(node),
            70..84 => self.sync(node, other),
            84..92 => self.graft(node, other),
            92..94 => self.restart(node),
            94..96 => self.sides[node] = !self.sides[node],
            96..98 => self.nodes[node].hide(Duration::ZERO, key(other)),
            _ => self.nodes[node].show(key(other)),
        }
        node
    }

    /// A write, or a few in one turn.
    fn write(&mut self, node: usize) {
        for _ in 0..=self.dice.below(3) {
            let name = vec![b'a' + self.dice.below(6) as u8];
            let registry = &mut self.nodes[node];
            let Some(life) = self.lives.get_mut(&(key(node), registry.incarnation())) else {
                return;
            };
            let old = life.keys.get(&name).copied();
            if self.dice.percent(60) {
                life.seq += 1;
                let value = life.seq.to_string().into_bytes();
                assert_eq!(
                    registry.insert(&name, &value, Hlc::from_u64(life.seq)),
                    Ok(())
                );
                life.written.insert(life.seq, (name.clone(), value));
                life.keys.insert(name, life.seq);
            } else {
                assert_eq!(registry.remove(&name), old.is_some());
                life.seq += u64::from(old.is_some());
                life.keys.remove(&name);
            }
            if let Some(old) = old {
                life.removed.insert(old, life.seq);
            }
        }
    }

    fn announce(&mut self, node: usize) {
        while let Some(delta) = self.nodes[node].poll_delta() {
            assert_eq!(delta.validate(), Ok(()));
            for other in 0..self.nodes.len() {
                if other != node {
                    self.send(node, other, delta.clone());
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, delta: Delta) {
        if self.sides[from] == self.sides[to] && !self.dice.percent(self.loss) {
            self.wire.push((from, to, delta));
        }
    }

    /// Something under way arrives, and perhaps will again. News are passed on.
    fn deliver(&mut self) -> Option<usize> {
        if self.wire.is_empty() {
            return None;
        }
        let at = self.dice.below(self.wire.len());
        let (from, to, delta) = match self.dice.percent(20) {
            true => self.wire[at].clone(),
            false => self.wire.swap_remove(at),
        };
        let result = self.nodes[to].apply(key(from), &delta);
        if result.is_ok_and(|applied| applied.new) && self.dice.percent(30) {
            let other = self.dice.below(self.nodes.len());
            self.send(to, other, delta);
        }
        Some(to)
    }

    /// One compares itself with another. The answer comes in small chunks and any of them
    /// may be lost, or be late and out of order.
    fn sync(&mut self, asker: usize, other: usize) {
        if self.sides[asker] != self.sides[other] {
            return;
        }
        for want in self.wants(asker, other) {
            let budget = 100 + self.dice.below(400);
            for delta in self.nodes[other].answer(&want, budget) {
                assert_eq!(delta.validate(), Ok(()));
                match self.dice.below(100) {
                    0..10 => self.send(other, asker, delta),
                    10..20 => {}
                    _ => _ = self.nodes[asker].apply(key(other), &delta),
                }
            }
        }
    }

    fn wants(&mut self, asker: usize, other: usize) -> Vec<crate::Want> {
        if self.nodes[asker].root() == self.nodes[other].root() {
            return Vec::new();
        }
        let buckets = self.nodes[other].buckets();
        let different: Vec<u8> = self.nodes[asker].digest().different(&buckets).collect();
        let summaries: Vec<_> = different
            .into_iter()
            .flat_map(|bucket| self.nodes[other].summaries(bucket))
            .collect();
        self.nodes[asker].wants(key(other), &summaries)
    }

    /// One asks another for some operations of somebody.
    fn graft(&mut self, asker: usize, other: usize) {
        let owner = key(self.dice.below(self.nodes.len()));
        let Some((inc, base)) = self.nodes[other].context(owner) else {
            return;
        };
        let from = self.dice.below(base as usize + 1) as u64;
        let to = from + 1 + self.dice.below(3) as u64;
        if let Some(delta) = self.nodes[other].delta(owner, inc, from, to) {
            assert_eq!(delta.validate(), Ok(()));
            assert_eq!((delta.from, delta.to), (from, to));
            self.send(other, asker, delta);
        }
    }

    /// The node forgets all, or all but what others wrote, and lives again.
    fn restart(&mut self, node: usize) {
        let old = self.nodes[node].snapshot();
        let new = self.born(node);
        self.nodes[node] = match self.dice.percent(50) {
            true => new,
            false => Registry::restore(key(node), self.inc, self.config.clone(), &old),
        };
        self.pictures[node].clear();
    }

    /// Faults stop. Everybody compares with everybody, once more than there are nodes.
    fn settle(&mut self) -> Result<(), String> {
        self.wire.clear();
        let count = self.nodes.len();
        for _ in 0..=count {
            let root = self.nodes[0].root();
            if self.nodes.iter().all(|node| node.root() == root) {
                break;
            }
            for (asker, other) in (0..count * count).map(|n| (n / count, n % count)) {
                // As often as it brings something: each answer is a part.
                for _ in 0..200 {
                    let wants = self.wants(asker, other);
                    let answers: Vec<Delta> = wants
                        .iter()
                        .flat_map(|want| self.nodes[other].answer(want, 300))
                        .collect();
                    if answers.is_empty() {
                        break;
                    }
                    for delta in answers {
                        _ = self.nodes[asker].apply(key(other), &delta);
                    }
                }
            }
        }
        for (node, owner) in (0..count * count).map(|n| (n / count, n % count)) {
            self.nodes[node].show(key(owner));
        }
        for node in 0..count {
            self.examine(node)?;
            self.is_complete(node)?;
        }
        let root = self.nodes[0].root();
        match self.nodes.iter().all(|node| node.root() == root) {
            true => Ok(()),
            false => Err("the roots differ".into()),
        }
    }

    /// Nothing is missing, and nothing is left over.
    fn is_complete(&self, node: usize) -> Result<(), String> {
        let registry = &self.nodes[node];
        for (owner, other) in self.nodes.iter().enumerate() {
            let life = &self.lives[&(key(owner), other.incarnation())];
            let entries = registry.entries(key(owner));
            let entries: BTreeMap<Vec<u8>, u64> = entries
                .map(|(pair, hlc)| (pair.key().to_vec(), hlc.to_u64()))
                .collect();
            if entries != life.keys {
                return Err(format!(
                    "node {node} has {entries:?} of {owner}, not {:?}",
                    life.keys
                ));
            }
            let slot = registry.slots.slot(key(owner));
            let whole = slot.is_none_or(|slot| {
                slot.base == life.seq && slot.cloud().is_empty() && slot.dead().is_empty()
            });
            if !whole || (slot.is_none() && life.seq > 0) {
                return Err(format!("node {node} is not done with {owner}: {slot:?}"));
            }
        }
        if registry.stats().mismatches > 0 {
            return Err(format!("node {node} found a copy that differs"));
        }
        Ok(())
    }

    /// What must hold at any time.
    fn examine(&mut self, node: usize) -> Result<(), String> {
        if self.dice.percent(10) {
            self.nodes[node].check();
        }
        self.read(node)?;
        self.is_true(node)
            .map_err(|wrong| format!("node {node}: {wrong}"))?;
        let examined = &self.nodes[node];
        let alike =
            |other: &&Registry| !std::ptr::eq(*other, examined) && other.root() == examined.root();
        match self
            .nodes
            .iter()
            .filter(alike)
            .all(|other| same_entries(examined, other))
        {
            true => Ok(()),
            false => Err("equal roots, different entries".into()),
        }
    }

    /// Every log is a part of what its owner did.
    fn is_true(&self, node: usize) -> Result<(), String> {
        let known = |owner| self.nodes[node].slots.slot(key(owner));
        for slot in (0..self.nodes.len()).filter_map(known) {
            let life = &self.lives[&(slot.origin, slot.inc)];
            for (seq, entry) in slot.live().iter() {
                let pair = (entry.pair.key().to_vec(), entry.pair.value().to_vec());
                if life.written.get(&seq) != Some(&pair) {
                    return Err(format!("{seq} was never written: {pair:?}"));
                }
                if life.removed.get(&seq).is_some_and(|by| slot.contains(*by)) {
                    return Err(format!("{seq} is back from the dead"));
                }
            }
            for seq in life.written.keys().filter(|seq| slot.contains(**seq)) {
                if slot.live().entry(*seq).is_none() && !life.removed.contains_key(seq) {
                    return Err(format!("{seq} is lost"));
                }
            }
            let logged: BTreeSet<_> = slot
                .log()
                .iter_after(slot.log_begin())
                .map(|r| (r.seq, r.by))
                .collect();
            let due = life.removed.iter().map(|(seq, by)| (*seq, *by));
            let due: BTreeSet<_> = due
                .filter(|(_, by)| *by > slot.log_begin() && slot.contains(*by))
                .collect();
            if logged != due {
                return Err(format!("the log tells {logged:?}, not {due:?}"));
            }
        }
        Ok(())
    }

    /// The reader follows the changes and sees what is there.
    fn read(&mut self, node: usize) -> Result<(), String> {
        let picture = &mut self.pictures[node];
        while let Some(change) = self.nodes[node].poll_change() {
            let fits = match change.clone() {
                Change::Added { origin, pair, .. } => picture
                    .insert((origin, pair.key().to_vec()), pair.value().to_vec())
                    .is_none(),
                Change::Replaced { origin, pair, .. } => picture
                    .insert((origin, pair.key().to_vec()), pair.value().to_vec())
                    .is_some(),
                Change::Removed { origin, pair } => {
                    picture.remove(&(origin, pair.key().to_vec())).as_deref() == Some(pair.value())
                }
                Change::Reset => {
                    picture.clear();
                    true
                }
            };
            if !fits {
                return Err(format!("the reader of {node} did not expect {change:?}"));
            }
        }
        let registry = &self.nodes[node];
        let owners = (0..self.nodes.len()).map(key);
        let shown = owners.filter(|origin| registry.shows(*origin));
        // In the order of the dots, so that the latest of a key is seen.
        let shown: Picture = shown
            .flat_map(|origin| {
                registry
                    .entries(origin)
                    .map(move |(pair, _)| ((origin, pair.key().to_vec()), pair.value().to_vec()))
            })
            .collect();
        if *picture != shown {
            return Err(format!(
                "the reader of {node} sees {picture:?}, not {shown:?}"
            ));
        }
        Ok(())
    }
}

fn same_entries(a: &Registry, b: &Registry) -> bool {
    let entries = |registry: &Registry| -> Vec<_> {
        let all = registry
            .origins()
            .flat_map(|origin| registry.entries(origin).map(move |entry| (origin, entry)));
        all.map(|(origin, (pair, hlc))| (origin, pair.clone(), hlc))
            .collect()
    };
    entries(a) == entries(b)
}
