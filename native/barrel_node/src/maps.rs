// SPDX-License-Identifier: Apache-2.0

//! Replicated maps: which are kept here, and who else keeps them.
//!
//! A map is kept by those nodes that opened it, and nobody else. Each of them says so in
//! the registry, under a key that no service can have; so everybody knows whom to compare
//! a map with, and who takes over the values of a writer that has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use barrel_members::Status;
use barrel_ormap::map::{self, PutError};
use barrel_ormap::{LwwMap, Pair};
use bytes::Bytes;
use rand::Rng;
use rand::seq::IteratorRandom;

use crate::event::{Event, Output, Table, Write};
use crate::node::Node;
use crate::stores::{Change, WriteError};
use crate::topic::Topic;
use crate::wire;
use crate::{NodeId, Now};

/// The first byte of keys in the registry that are not services'.
pub(crate) const RESERVED: u8 = 0;

/// A writer that starts again gets back what it wrote before, from the others, before
/// its first write is acknowledged; but it waits for them no longer than this. A few
/// round trips and a dial; a guess.
const SYNC_WAIT: Duration = Duration::from_secs(2);

/// Maps one node is believed to keep, at most: more than anybody opens.
const MAX_MAPS_OF_ONE: usize = 1024;

/// Who keeps which map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    by_map: BTreeMap<Topic, BTreeSet<NodeId>>,
    by_node: BTreeMap<NodeId, usize>,
}

/// The records of a map are not what this crate wrote. The file is to be kept aside, and
/// the map opened without it: the other nodes have its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptMap;

impl Node {
    /// Keeps a map here. `kept` is what [`Output::Persist`] wrote to its table before, if
    /// it is to persist. Does nothing when it is open already.
    ///
    /// # Errors
    /// Nothing was opened.
    pub fn open_map(
        &mut self,
        now: Now,
        map: Topic,
        config: map::Config,
        kept: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), CorruptMap> {
        debug_assert!(map.is_map());
        if self.stores.maps.contains_key(&map) {
            return Ok(());
        }
        let (me, incarnation) = (self.id(), self.members.incarnation());
        let records = kept
            .into_iter()
            .map(|(key, value)| wire::decode_kept(key, value));
        let records = records.collect::<Option<Vec<_>>>().ok_or(CorruptMap)?;
        let store = if records.is_empty() {
            LwwMap::new(me, incarnation, config)
        } else {
            LwwMap::restore(me, incarnation, config, now, records).map_err(|_| CorruptMap)?
        };
        self.stores.maps.insert(map, store);
        for claim in self
            .members
            .exceptions()
            .filter(|claim| claim.status >= Status::Unreachable)
        {
            if let Some(store) = self.stores.maps.get_mut(&map) {
                store.depart(now, claim.member);
            }
        }
        let stamp = self.clock.now(now.wall_ms);
        // the registry is full of other things: then others do not know that we keep it
        let _ = self.stores.registry.insert(&host_key(map), &[], stamp);
        self.stores.opening.insert(map, now.mono + SYNC_WAIT);
        self.pump(now);
        let others: Vec<NodeId> = self
            .stores
            .hosts
            .of(map)
            .filter(|host| *host != me)
            .collect();
        for peer in &others {
            self.compare(now, *peer, map);
        }
        // nobody else has any of it, as far as those know whom we have asked
        if others.is_empty() && (self.settled || !self.joined && self.contacts.is_empty()) {
            self.on_map_agreed(map);
        }
        self.pump(now);
        Ok(())
    }

    /// The map has agreed with somebody who keeps it, or there is nobody: what this node
    /// wrote in an earlier life, and the others still have, is here.
    pub(crate) fn on_map_agreed(&mut self, map: Topic) {
        if self.stores.opening.remove(&map).is_some() {
            self.tell(Event::MapReady(map));
        }
    }

    /// Who keeps a map does not answer in time; writes need not wait any longer.
    pub(crate) fn open_late_maps(&mut self, now: Now) {
        let late = self
            .stores
            .opening
            .iter()
            .filter(|(_, until)| **until <= now.mono);
        for map in late.map(|(map, _)| *map).collect::<Vec<_>>() {
            self.on_map_agreed(map);
        }
    }

    /// Keeps a map here no longer. The entries stay on the other nodes.
    pub fn close_map(&mut self, now: Now, map: Topic) {
        if self.stores.maps.remove(&map).is_some() {
            self.stores.registry.remove(&host_key(map));
            self.stores.opening.remove(&map);
            self.rounds.drop_topic(map);
        }
        self.pump(now);
    }

    /// Writes a value. It wins against everything this node knows of.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn map_put(
        &mut self,
        now: Now,
        map: Topic,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), WriteError> {
        let store = self
            .stores
            .maps
            .get_mut(&map)
            .ok_or(WriteError::NoSuchMap)?;
        store
            .put(now, &mut self.clock, key, value)
            .map_err(|error| match error {
                PutError::Empty => WriteError::Reserved,
                PutError::TooLarge => WriteError::TooLarge,
                PutError::Full => WriteError::Full,
            })?;
        self.pump(now);
        Ok(())
    }

    /// Removes a key; whether it had a value.
    ///
    /// # Errors
    /// The map is not kept here.
    pub fn map_remove(&mut self, now: Now, map: Topic, key: &[u8]) -> Result<bool, WriteError> {
        let store = self
            .stores
            .maps
            .get_mut(&map)
            .ok_or(WriteError::NoSuchMap)?;
        let had = store.remove(now, &mut self.clock, key);
        self.pump(now);
        Ok(had)
    }

    /// This value of another node is not to be shown here: the application's own check
    /// refuses it. It is kept and passed on all the same.
    pub fn map_reject(&mut self, now: Now, map: Topic, key: &[u8], value: &[u8]) {
        if let Some(store) = self.stores.maps.get_mut(&map) {
            store.reject(key, value);
        }
        self.pump(now);
    }

    /// A map that is kept here, to read.
    #[must_use]
    pub fn map(&self, map: Topic) -> Option<&LwwMap> {
        self.stores.maps.get(&map)
    }

    /// Who keeps a map, as far as we know.
    pub fn hosts(&self, map: Topic) -> impl Iterator<Item = NodeId> {
        self.stores.hosts.of(map)
    }

    /// Asks for the changes of persistent maps to be written down.
    pub(crate) fn keep(&mut self) {
        let mut batch = std::mem::take(&mut self.unsaved);
        for (topic, map) in &mut self.stores.maps {
            while let Some((id, record)) = map.poll_record() {
                let (key, value) = wire::encode_kept(&id, record.as_ref());
                batch.push(Write {
                    table: Table::Map(*topic),
                    key,
                    value,
                });
            }
        }
        if let Some(floor) = self.clock.poll_floor() {
            batch.push(Write {
                table: Table::Node,
                key: Bytes::from_static(b"clock_floor_ms"),
                value: Some(Bytes::copy_from_slice(&floor.to_be_bytes())),
            });
        }
        if !batch.is_empty() {
            self.written += 1;
            self.outputs.push_back(Output::Persist {
                token: self.written,
                batch,
            });
        }
    }

    /// Of the living that keep a map, the one with the smallest id takes over the values
    /// of those that have gone; nobody, while most members are out of sight.
    pub(crate) fn settle_leads(&mut self) {
        let (me, cut_off) = (self.id(), self.members.is_partitioned());
        for (topic, map) in &mut self.stores.maps {
            let alive = |host: &NodeId| *host == me || self.members.is_up(*host);
            let first = self.stores.hosts.of(*topic).find(alive);
            map.set_lead(!cut_off && first.is_none_or(|first| first == me));
        }
    }
}

impl Hosts {
    /// Takes note of a change of the registry; whether it was one for us and not a
    /// service's.
    pub(crate) fn on_change(&mut self, change: &Change) -> bool {
        match change {
            Change::ServiceUp { origin, pair } => self.note(*origin, pair, true),
            Change::ServiceDown { origin, pair } => self.note(*origin, pair, false),
            Change::ServicesReset => {
                *self = Self::default();
                false
            }
            _ => false,
        }
    }

    fn note(&mut self, origin: NodeId, pair: &Pair, keeps: bool) -> bool {
        let Some((&RESERVED, name)) = pair.key().split_first() else {
            return false;
        };
        let Ok(name) = name.try_into() else {
            return true;
        };
        let map = Topic(u64::from_be_bytes(name));
        let count = self.by_node.entry(origin).or_default();
        if keeps && *count < MAX_MAPS_OF_ONE && self.by_map.entry(map).or_default().insert(origin) {
            *count += 1;
        } else if !keeps
            && self
                .by_map
                .get_mut(&map)
                .is_some_and(|hosts| hosts.remove(&origin))
        {
            *count -= 1;
        }
        self.tidy(map, origin);
        true
    }

    fn tidy(&mut self, map: Topic, origin: NodeId) {
        if self.by_map.get(&map).is_some_and(BTreeSet::is_empty) {
            self.by_map.remove(&map);
        }
        if self.by_node.get(&origin) == Some(&0) {
            self.by_node.remove(&origin);
        }
    }

    /// Those who keep a map, by id.
    pub(crate) fn of(&self, map: Topic) -> impl Iterator<Item = NodeId> {
        self.by_map.get(&map).into_iter().flatten().copied()
    }

    /// Somebody to compare a map with.
    pub(crate) fn partner(&self, map: Topic, me: NodeId, rng: &mut impl Rng) -> Option<NodeId> {
        self.of(map).filter(|host| *host != me).choose(rng)
    }
}

fn host_key(map: Topic) -> [u8; 9] {
    let mut key = [RESERVED; 9];
    key[1..].copy_from_slice(&map.0.to_be_bytes());
    key
}
