//! Which link serves which peer: the rules, without a socket.
//!
//! One link per peer is the aim. Three things make it hard, and each has one
//! rule that both ends apply to the same facts:
//!
//! * A peer that was started again has a **newer incarnation**. It takes the
//!   place of the older one at once, whose links are dead even if nobody told.
//! * Both ends may dial **at the same time**. Of two links with equal
//!   incarnations the one stays whose dialler has the smaller key. The loser is
//!   *drained*: no new streams, those it has finish on it.
//! * A peer may dial **again** because it gave up the first link. Of two links
//!   of the same dialler the newer stays.
//!
//! One name belongs to one key and one key to one name while a link lives;
//! clients claim no name, so this does not concern them.

use std::collections::BTreeMap;

use crate::identity::PublicKey;
use crate::name::{NodeName, PeerName};
use crate::seam::{LinkId, Peer};

/// Most links of one peer at once. Two serve a tie, three or four a series of
/// reconnects; a peer that makes more loses its oldest.
pub const MAX_PER_PEER: usize = 8;

/// What follows from a new link.
#[derive(Debug, PartialEq, Eq)]
pub struct Admission {
    /// Its name from now on.
    pub id: LinkId,
    /// Links of an older incarnation, or too many: close them before this one
    /// is used.
    pub displaced: Vec<LinkId>,
    /// The loser of a tie, perhaps the new link itself: drain it.
    pub loser: Option<LinkId>,
}

/// Why a link is not admitted. The table did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A newer incarnation of this peer has a link.
    Stale {
        /// The incarnation that is known.
        known: u64,
    },
    /// Another key has a link under this name.
    NameHeld {
        /// That key.
        by: PublicKey,
    },
    /// This key has a link under another name.
    KeyHeld {
        /// That name.
        by: PeerName,
    },
}

/// All live links of one endpoint.
#[derive(Debug)]
pub struct LinkTable {
    own_key: PublicKey,
    slots: Vec<Slot>,
    by_key: BTreeMap<PublicKey, Vec<LinkId>>,
    by_name: BTreeMap<NodeName, PublicKey>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: PublicKey,
    name: PeerName,
    incarnation: u64,
    dialled: bool,
    draining: bool,
}

impl LinkTable {
    /// An empty table of the node with this key.
    pub fn new(own_key: PublicKey) -> Self {
        Self {
            own_key,
            slots: Vec::new(),
            by_key: BTreeMap::new(),
            by_name: BTreeMap::new(),
        }
    }

    /// Judges a link whose peer was authenticated.
    ///
    /// # Errors
    /// The link must be closed; the table did not change.
    pub fn admit(&mut self, peer: &Peer) -> Result<Admission, Refusal> {
        if let PeerName::Member(name) = &peer.name
            && let Some(holder) = self.by_name.get(name).filter(|holder| **holder != peer.key)
        {
            return Err(Refusal::NameHeld { by: *holder });
        }
        let rivals = self.by_key.get(&peer.key).cloned().unwrap_or_default();
        for rival in rivals.iter().filter_map(|id| self.entry(*id)) {
            if rival.name != peer.name {
                return Err(Refusal::KeyHeld {
                    by: rival.name.clone(),
                });
            }
            if rival.incarnation > peer.incarnation {
                return Err(Refusal::Stale {
                    known: rival.incarnation,
                });
            }
        }
        let id = self.insert(peer);
        let (mut displaced, equal): (Vec<LinkId>, Vec<LinkId>) =
            rivals.into_iter().partition(|rival| {
                self.entry(*rival)
                    .is_some_and(|e| e.incarnation < peer.incarnation)
            });
        let too_many = (equal.len() + 1).saturating_sub(MAX_PER_PEER);
        let (used, given_up): (Vec<LinkId>, Vec<LinkId>) = equal
            .into_iter()
            .partition(|rival| self.entry(*rival).is_some_and(|e| !e.draining));
        let crowd = given_up.into_iter().take(too_many);
        let rival = used.into_iter().next();
        let loser = rival.map(|rival| if self.stays(id, rival) { rival } else { id });
        displaced.extend(crowd);
        for id in displaced.iter().chain(&loser) {
            self.drain(*id);
        }
        Ok(Admission {
            id,
            displaced,
            loser,
        })
    }

    /// The link that new streams to this member use.
    pub fn preferred(&self, name: &NodeName) -> Option<LinkId> {
        let links = self.by_key.get(self.by_name.get(name)?)?;
        links
            .iter()
            .copied()
            .find(|id| self.entry(*id).is_some_and(|entry| !entry.draining))
    }

    /// Every link to the peer with this key, the oldest first.
    pub fn links_of(&self, key: &PublicKey) -> &[LinkId] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// The key that has a link under this name.
    pub fn holder(&self, name: &NodeName) -> Option<PublicKey> {
        self.by_name.get(name).copied()
    }

    /// No new streams on this link.
    pub fn drain(&mut self, id: LinkId) {
        if let Some(entry) = self.slot_mut(id).and_then(|slot| slot.entry.as_mut()) {
            entry.draining = true;
        }
    }

    /// The link has ended.
    pub fn remove(&mut self, id: LinkId) {
        let Some(entry) = self.slot_mut(id).and_then(|slot| slot.entry.take()) else {
            return;
        };
        if let Some(links) = self.by_key.get_mut(&entry.key) {
            links.retain(|other| *other != id);
            if links.is_empty() {
                self.by_key.remove(&entry.key);
                if let PeerName::Member(name) = &entry.name {
                    self.by_name.remove(name);
                }
            }
        }
        self.check();
    }

    fn insert(&mut self, peer: &Peer) -> LinkId {
        let index = match self.slots.iter().position(|slot| slot.entry.is_none()) {
            Some(free) => free,
            None => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
        };
        let slot = &mut self.slots[index];
        slot.generation += 1;
        slot.entry = Some(Entry {
            key: peer.key,
            name: peer.name.clone(),
            incarnation: peer.incarnation,
            dialled: peer.dialled,
            draining: false,
        });
        let id = LinkId {
            index: index as u32,
            generation: slot.generation,
        };
        self.by_key.entry(peer.key).or_default().push(id);
        if let PeerName::Member(name) = &peer.name {
            self.by_name.insert(name.clone(), peer.key);
        }
        self.check();
        id
    }

    /// Whether `new` stays beside `old` of the same incarnation.
    fn stays(&self, new: LinkId, old: LinkId) -> bool {
        let (Some(new), Some(old)) = (self.entry(new), self.entry(old)) else {
            return true;
        };
        if new.dialled == old.dialled {
            return true;
        }
        let dialler = if new.dialled { self.own_key } else { new.key };
        let other = if old.dialled { self.own_key } else { old.key };
        dialler < other
    }

    fn entry(&self, id: LinkId) -> Option<&Entry> {
        let slot = self.slots.get(id.index as usize)?;
        slot.entry
            .as_ref()
            .filter(|_| slot.generation == id.generation)
    }

    fn slot_mut(&mut self, id: LinkId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|slot| slot.generation == id.generation)
    }

    /// The invariants; in debug builds after each change.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        for (key, links) in &self.by_key {
            assert!(!links.is_empty(), "a key without links is forgotten");
            for id in links {
                assert_eq!(self.entry(*id).map(|entry| entry.key), Some(*key));
            }
        }
        for (name, key) in &self.by_name {
            let links = self.by_key.get(key).expect("a name is held by a live key");
            assert!(links.iter().all(|id| {
                self.entry(*id)
                    .is_some_and(|entry| entry.name == PeerName::Member(name.clone()))
            }));
        }
    }
}
