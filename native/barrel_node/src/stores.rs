// SPDX-License-Identifier: Apache-2.0

//! The stores, by topic: the directory, the registry, and the maps that are kept here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barrel_members::{Members, Status};
use barrel_ormap::delta::MAX_CHUNK;
use barrel_ormap::{Clock, Delta, Hlc, LwwMap, MapDelta, Pair, Registry, Removes, Summary, Want};
use barrel_plumtree::{IdCache, Seen};
use bytes::Bytes;

use crate::config::Config;
use crate::keys::Keys;
use crate::maps::Hosts;
use crate::places::max_records;
use crate::pump::claim_of;
use crate::record::Record;
use crate::simulated::Pool;
use crate::sync::Told;
use crate::topic::{MessageId, Topic};
use crate::wire;
use crate::{NodeId, Now};

/// Removals of one log that the directory remembers. A log there has one live entry, which
/// is said in as many bytes as one removal; the few bridge records that arrive out of order.
const DIRECTORY_LOG: usize = 4;

/// All that is replicated.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    pub(crate) directory: Option<Registry>,
    pub(crate) registry: Registry,
    pub(crate) maps: BTreeMap<Topic, LwwMap>,
    /// Who keeps which map.
    pub(crate) hosts: Hosts,
    /// Broadcasts of applications, and of maps that are not kept here.
    pub(crate) cache: IdCache<MessageId>,
    /// Maps that wait for the first comparison with another host, and until when.
    pub(crate) opening: BTreeMap<Topic, Duration>,
    /// Only in simulations: where equal entries of all nodes are kept once.
    pub(crate) pool: Option<Arc<Pool>>,
}

/// A piece of a log, of either kind of store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Log(Delta),
    Map(MapDelta),
}

/// What others must be told of a change here.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Record(Pair),
    ServiceUp {
        origin: NodeId,
        pair: Pair,
    },
    ServiceDown {
        origin: NodeId,
        pair: Pair,
    },
    ServicesReset,
    MapPut {
        map: Topic,
        pair: Pair,
    },
    MapRemoved {
        map: Topic,
        key: Box<[u8]>,
    },
    /// Somebody has lived under our key, up to this incarnation.
    Clash(u64),
}

/// Why a piece of a log was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A record in it is not signed by the node it is about.
    Forged,
    /// It is no piece that an honest node makes.
    Store,
    /// Nobody is to blame: it is of a life that is over, or that no record has announced
    /// yet, or there is no room for it, or too much is missing before it.
    NotNow,
}

/// Why an application's write was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// Key and value together are too long.
    TooLarge,
    /// A budget is used up.
    Full,
    /// A key that begins with a zero byte, which this crate keeps for itself, or an
    /// empty value in a map, which means that there is none.
    Reserved,
    /// The map is not kept on this node.
    NoSuchMap,
}

impl Stores {
    pub(crate) fn new(me: NodeId, incarnation: u64, config: &Config) -> Self {
        let registry = |config| Registry::new(me, incarnation, config);
        Self {
            directory: config.directory.then(|| registry(directory_config(config))),
            registry: registry(config.registry.clone()),
            maps: BTreeMap::new(),
            hosts: Hosts::default(),
            cache: IdCache::new(config.cache.clone()),
            opening: BTreeMap::new(),
            pool: None,
        }
    }

    /// All that is compared with others, the directory first: what follows needs it.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let directory = self.directory.is_some();
        let first = [Topic::DIRECTORY, Topic::CLAIMS]
            .into_iter()
            .filter(|_| directory);
        first.chain([Topic::REGISTRY]).collect()
    }

    fn log(&self, topic: Topic) -> Option<&Registry> {
        match topic {
            Topic::DIRECTORY => self.directory.as_ref(),
            Topic::REGISTRY => Some(&self.registry),
            _ => None,
        }
    }

    fn log_mut(&mut self, topic: Topic) -> Option<&mut Registry> {
        match topic {
            Topic::DIRECTORY => self.directory.as_mut(),
            Topic::REGISTRY => Some(&mut self.registry),
            _ => None,
        }
    }

    pub(crate) fn is_kept(&self, topic: Topic) -> bool {
        self.log(topic).is_some() || self.maps.contains_key(&topic)
    }

    pub(crate) fn root(&self, topic: Topic) -> Option<u128> {
        self.log(topic)
            .map(Registry::root)
            .or_else(|| self.maps.get(&topic).map(LwwMap::root))
    }

    pub(crate) fn buckets(&self, topic: Topic) -> Option<Box<[u64; 256]>> {
        let log = self.log(topic).map(Registry::buckets);
        log.or_else(|| self.maps.get(&topic).map(|map| *map.buckets()))
            .map(Box::new)
    }

    /// The buckets that differ from a peer's.
    pub(crate) fn differing(&self, topic: Topic, theirs: &[u64; 256]) -> Vec<u8> {
        let Some(ours) = self.buckets(topic) else {
            return Vec::new();
        };
        (0..=u8::MAX)
            .filter(|at| ours[usize::from(*at)] != theirs[usize::from(*at)])
            .collect()
    }

    pub(crate) fn summaries(&self, topic: Topic, buckets: &[u8]) -> Vec<Summary> {
        let of = |bucket: &u8| match (self.log(topic), self.maps.get(&topic)) {
            (Some(log), _) => log.summaries(*bucket),
            (_, Some(map)) => map.summaries(*bucket),
            _ => Vec::new(),
        };
        buckets.iter().flat_map(of).collect()
    }

    pub(crate) fn wants(&mut self, topic: Topic, peer: NodeId, theirs: &[Summary]) -> Vec<Want> {
        if let Some(log) = self.log_mut(topic) {
            return log.wants(peer, theirs);
        }
        self.maps
            .get_mut(&topic)
            .map(|map| map.wants(peer, theirs))
            .unwrap_or_default()
    }

    /// A comparison of a map is over, and nothing was lacking: what was lost here although
    /// it is applied. `told` is what the peer has where the two differ.
    pub(crate) fn repairs(&mut self, topic: Topic, peer: NodeId, told: &Told) -> Vec<Want> {
        let map = self.maps.get_mut(&topic);
        map.map(|map| map.repairs(peer, &told.buckets, &told.summaries))
            .unwrap_or_default()
    }

    /// A peer has the same root: there is nothing that it has and we lack.
    pub(crate) fn agree(&mut self, topic: Topic, peer: NodeId) {
        if let Some(map) = self.maps.get_mut(&topic) {
            let buckets = *map.buckets();
            let wants = map.repairs(peer, &buckets, &[]);
            debug_assert!(wants.is_empty(), "equal and yet not: {wants:?}");
        }
    }

    /// The next piece of what a peer wants; the want moves on behind it.
    pub(crate) fn answer(&self, topic: Topic, want: &mut Want) -> Option<Piece> {
        let piece = if let Some(log) = self.log(topic) {
            Piece::Log(log.answer(want, MAX_CHUNK).into_iter().next()?)
        } else {
            Piece::Map(
                self.maps
                    .get(&topic)?
                    .answer(want, MAX_CHUNK)
                    .into_iter()
                    .next()?,
            )
        };
        move_on(want, piece.delta()).then_some(piece)
    }

    /// Applies a piece; whether it said anything new.
    pub(crate) fn apply(
        &mut self,
        now: Now,
        clock: &mut Clock,
        from: NodeId,
        topic: Topic,
        piece: Piece,
    ) -> Result<bool, Refused> {
        match piece {
            Piece::Log(mut delta) => {
                if let Some(pool) = &self.pool {
                    pool.share(&mut delta);
                }
                let Some(log) = self.log_mut(topic) else {
                    return Err(Refused::Store);
                };
                let latest = delta.adds.iter().map(|add| add.hlc).max();
                let applied = log.apply(from, &delta).map_err(refusal);
                // a stamp from the future moves nothing; no order depends on it here
                if let (Ok(_), Some(latest)) = (applied, latest) {
                    let _ = clock.receive(now.wall_ms, latest);
                }
                applied.map(|applied| applied.new)
            }
            Piece::Map(delta) => {
                let Some(map) = self.maps.get_mut(&topic) else {
                    return Err(Refused::Store);
                };
                match map.apply(now, clock, from, delta) {
                    Ok(applied) => Ok(applied.new),
                    Err(refused) => Err(map_refusal(refused)),
                }
            }
        }
    }

    /// The life of a node that its newest record speaks of. Without a directory all are
    /// believed.
    pub(crate) fn believes(&self, topic: Topic, origin: NodeId, incarnation: u64) -> bool {
        let Some(directory) = &self.directory else {
            return true;
        };
        match directory.context(origin) {
            Some((known, _)) if topic == Topic::REGISTRY => incarnation == known,
            Some((known, _)) => incarnation <= known,
            None => false,
        }
    }

    /// Own writes that were not sent out yet.
    pub(crate) fn poll_delta(&mut self) -> Option<(Topic, Piece)> {
        if let Some(delta) = self.directory.as_mut().and_then(Registry::poll_delta) {
            return Some((Topic::DIRECTORY, Piece::Log(delta)));
        }
        if let Some(delta) = self.registry.poll_delta() {
            return Some((Topic::REGISTRY, Piece::Log(delta)));
        }
        self.maps
            .iter_mut()
            .find_map(|(topic, map)| Some((*topic, Piece::Map(map.commit()?))))
    }

    /// Puts the own record into the directory.
    pub(crate) fn publish(&mut self, record: &Record, stamp: Hlc) {
        if let Some(directory) = &mut self.directory {
            let written = directory.insert(record.claims().name.as_bytes(), record.bytes(), stamp);
            debug_assert!(
                written.is_ok(),
                "the first entry of the own log fits: {written:?}"
            );
        }
    }

    pub(crate) fn find_record(&self, id: NodeId, keys: &dyn Keys) -> Option<Record> {
        Record::verify(self.record_bytes(id)?, keys).ok()
    }

    pub(crate) fn record_bytes(&self, id: NodeId) -> Option<Bytes> {
        self.record_pair(id)
            .map(|pair| Bytes::copy_from_slice(pair.value()))
    }

    /// Whether the directory has exactly this record of a node.
    pub(crate) fn has_record(&self, id: NodeId, bytes: &[u8]) -> bool {
        self.record_pair(id)
            .is_some_and(|pair| pair.value() == bytes)
    }

    /// Whether the directory knows the node.
    pub(crate) fn knows(&self, id: NodeId) -> bool {
        self.record_pair(id).is_some()
    }

    fn record_pair(&self, id: NodeId) -> Option<&Pair> {
        self.directory
            .as_ref()?
            .entries(id)
            .map(|(pair, _)| pair)
            .last()
    }

    /// Records in the directory of nodes that are no members.
    pub(crate) fn strays(&self, members: usize) -> usize {
        let records = self.directory.as_ref().map_or(0, Registry::known);
        records.saturating_sub(members)
    }

    /// A member has made room for another.
    pub(crate) fn forget(&mut self, member: NodeId) {
        if let Some(directory) = &mut self.directory {
            directory.forget(member);
        }
        self.registry.forget(member);
    }

    pub(crate) fn hide(&mut self, now: Now, member: NodeId) {
        self.registry.hide(now.mono, member);
        for map in self.maps.values_mut() {
            map.depart(now, member);
        }
    }

    pub(crate) fn show(&mut self, member: NodeId) {
        self.registry.show(member);
        for map in self.maps.values_mut() {
            map.show(member);
        }
    }

    /// A member's record speaks of this life of it: what it registered in an earlier one is
    /// gone, also if it registers nothing in this one.
    pub(crate) fn begin(&mut self, member: NodeId, incarnation: u64) {
        if self
            .registry
            .context(member)
            .is_some_and(|(known, _)| known < incarnation)
        {
            // the log of a life that a record speaks of is not refused
            let _ = self.registry.begin(member, incarnation);
        }
    }

    /// A copy of a log here differs from another that claims the same: the question to the
    /// origin itself, the only one who knows.
    pub(crate) fn poll_doubt(&mut self, topic: Topic) -> Option<Want> {
        self.log_mut(topic)?.poll_doubt()
    }

    /// A life of a member is over: what it registered goes, what it wrote into maps stays.
    pub(crate) fn depart(&mut self, now: Now, member: NodeId, incarnation: u64, left: bool) {
        self.registry.depart(member, incarnation);
        if left {
            if let Some(directory) = &mut self.directory {
                directory.depart(member, incarnation);
            }
            for map in self.maps.values_mut() {
                map.depart(now, member);
            }
        }
    }

    /// Goes on with a new life of this node, which has all that the old one wrote.
    pub(crate) fn restart(&mut self, incarnation: u64) {
        if let Some(directory) = &mut self.directory {
            directory.restart(incarnation);
        }
        self.registry.restart(incarnation);
        for map in self.maps.values_mut() {
            map.reincarnate(incarnation);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, clock: &mut Clock) {
        self.registry.handle_timeout(now.mono);
        for map in self.maps.values_mut() {
            map.handle_timeout(now, clock);
        }
        self.cache.expire(now.mono);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let maps = self.maps.values().filter_map(LwwMap::poll_timeout);
        maps.chain(self.registry.poll_timeout())
            .chain(self.opening.values().copied())
            .min()
    }

    /// Whether operations of that origin are missing before others of it.
    pub(crate) fn has_hole(&self, topic: Topic, origin: NodeId) -> bool {
        match topic {
            Topic::DIRECTORY => self
                .directory
                .as_ref()
                .is_some_and(|log| log.has_hole(origin)),
            Topic::REGISTRY => self.registry.has_hole(origin),
            map => self.maps.get(&map).is_some_and(|map| map.stats().holes > 0),
        }
    }

    /// Whether operations of anybody are missing before others.
    pub(crate) fn has_holes(&self) -> bool {
        let log = |log: &Registry| log.stats().with_holes > 0;
        self.directory.as_ref().is_some_and(log)
            || log(&self.registry)
            || self.maps.values().any(|map| map.stats().holes > 0)
    }

    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.poll_directory()
            .or_else(|| self.poll_registry())
            .or_else(|| self.poll_maps())
    }

    fn poll_directory(&mut self) -> Option<Change> {
        let directory = self.directory.as_mut()?;
        if let Some(theirs) = directory.poll_clash() {
            return Some(Change::Clash(theirs));
        }
        loop {
            match directory.poll_change()? {
                barrel_ormap::Change::Added { origin, pair, .. }
                | barrel_ormap::Change::Replaced { origin, pair, .. } => {
                    let _ = origin;
                    return Some(Change::Record(pair));
                }
                // the members decide who is gone, not the store
                barrel_ormap::Change::Removed { .. } | barrel_ormap::Change::Reset => {}
            }
        }
    }

    fn poll_registry(&mut self) -> Option<Change> {
        if let Some(theirs) = self.registry.poll_clash() {
            return Some(Change::Clash(theirs));
        }
        loop {
            let change = match self.registry.poll_change()? {
                barrel_ormap::Change::Added { origin, pair, .. }
                | barrel_ormap::Change::Replaced { origin, pair, .. } => {
                    Change::ServiceUp { origin, pair }
                }
                barrel_ormap::Change::Removed { origin, pair } => {
                    Change::ServiceDown { origin, pair }
                }
                barrel_ormap::Change::Reset => Change::ServicesReset,
            };
            if !self.hosts.on_change(&change) {
                return Some(change);
            }
        }
    }

    fn poll_maps(&mut self) -> Option<Change> {
        if let Some(theirs) = self.maps.values_mut().find_map(LwwMap::poll_clash) {
            return Some(Change::Clash(theirs));
        }
        self.maps.iter_mut().find_map(|(topic, map)| {
            let map_name = *topic;
            Some(match map.poll_change()? {
                barrel_ormap::map::Change::Put(pair) => Change::MapPut {
                    map: map_name,
                    pair,
                },
                barrel_ormap::map::Change::Removed { key } => {
                    Change::MapRemoved { map: map_name, key }
                }
            })
        })
    }

    /// What has been seen, for the tree.
    pub(crate) fn library<'a>(&'a self, members: &'a Members<NodeId>) -> Library<'a> {
        Library {
            stores: self,
            members,
        }
    }
}

impl Piece {
    pub(crate) fn delta(&self) -> &Delta {
        match self {
            Self::Log(delta) => delta,
            Self::Map(delta) => &delta.delta,
        }
    }
}

/// The budgets of the directory: those of the registry, but for what one entry in each log
/// makes needless, and as many logs as there may be members, and strays.
fn directory_config(config: &Config) -> barrel_ormap::Config {
    let max_origins = max_records(config);
    let mut config = config.registry.clone();
    config.limits.max_log = config.limits.max_log.min(DIRECTORY_LOG);
    config.limits.max_origins = max_origins;
    config
}

/// Moves a want on behind a piece of its answer; false when that brought it no further.
/// What cannot be told from here, the asker tells when it asks again.
fn move_on(want: &mut Want, delta: &Delta) -> bool {
    let before = (want.base, want.sweep.upto, want.repair);
    if let Removes::LiveSet(set) = &delta.removes {
        if let Some(above) = want.repair {
            want.repair = (set.until < delta.as_of && set.until > above).then_some(set.until);
            return want.repair != Some(above);
        }
        if set.above <= want.sweep.upto {
            want.sweep.upto = want.sweep.upto.max(set.until);
            want.sweep.as_of = set.complete;
        }
    }
    if delta.from <= want.base {
        want.base = want.base.max(delta.to);
    } else if delta.from < delta.to {
        want.have.push((delta.from + 1, delta.to));
    }
    (want.base, want.sweep.upto, want.repair) != before
}

fn refusal(refused: barrel_ormap::Refused) -> Refused {
    match refused {
        barrel_ormap::Refused::Malformed(_) | barrel_ormap::Refused::TooLong => Refused::Store,
        barrel_ormap::Refused::Old
        | barrel_ormap::Refused::Clash(_)
        | barrel_ormap::Refused::TooManyHoles
        | barrel_ormap::Refused::Full(_) => Refused::NotNow,
    }
}

fn map_refusal(refused: barrel_ormap::map::Refused) -> Refused {
    match refused {
        barrel_ormap::map::Refused::Malformed(_) => Refused::Store,
        _ => Refused::NotNow,
    }
}

/// What has been seen, and what a neighbour that missed it can be given.
pub(crate) struct Library<'a> {
    stores: &'a Stores,
    members: &'a Members<NodeId>,
}

impl Seen<MessageId> for Library<'_> {
    fn seen(&self, id: &MessageId) -> bool {
        let from = id.seq.saturating_sub(u64::from(id.span));
        if id.topic == Topic::CLAIMS && self.stores.directory.is_some() {
            return claim_of(id).is_some_and(|claim| self.members.covers(&claim));
        }
        if let Some(log) = self.stores.log(id.topic) {
            return log.covers(id.origin, id.incarnation, from, id.seq);
        }
        match self.stores.maps.get(&id.topic) {
            Some(map) => map.covers_all(id.origin, id.incarnation, from, id.seq),
            None => self.stores.cache.seen(id),
        }
    }

    /// That a member is gone, or has left: a death tears the tree that is to tell it.
    fn is_urgent(&self, id: &MessageId) -> bool {
        let status = || claim_of(id).map(|claim| claim.status);
        id.topic == Topic::CLAIMS && status().is_some_and(|status| status >= Status::Unreachable)
    }

    fn body(&self, id: &MessageId) -> Option<Bytes> {
        let from = id.seq.saturating_sub(u64::from(id.span));
        if id.topic == Topic::CLAIMS && self.stores.directory.is_some() {
            return claim_of(id).map(|claim| wire::encode_claim(&claim));
        }
        if let Some(log) = self.stores.log(id.topic) {
            return log
                .delta(id.origin, id.incarnation, from, id.seq)
                .map(|delta| wire::encode_piece(&Piece::Log(delta)));
        }
        match self.stores.maps.get(&id.topic) {
            Some(map) => map
                .delta(id.origin, id.incarnation, from, id.seq)
                .map(|delta| wire::encode_piece(&Piece::Map(delta))),
            None => self.stores.cache.body(id),
        }
    }
}
