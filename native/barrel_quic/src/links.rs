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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::HostName;
    use crate::seam::Peer;
    use proptest::prelude::*;

    const OWN: u8 = 100;

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn name(text: &str) -> NodeName {
        NodeName::parse(text).unwrap()
    }

    fn peer(node: &str, key_byte: u8, incarnation: u64, dialled: bool) -> Peer {
        Peer {
            name: PeerName::Member(name(node)),
            key: key(key_byte),
            incarnation,
            address: ([127, 0, 0, 1], 1).into(),
            dialled,
            features: 0,
        }
    }

    fn client(host: &str, key_byte: u8) -> Peer {
        Peer {
            name: PeerName::Client(HostName::parse(host).unwrap()),
            ..peer("unused@h", key_byte, 1, false)
        }
    }

    fn table() -> LinkTable {
        LinkTable::new(key(OWN))
    }

    #[test]
    fn a_first_link_is_preferred_until_it_is_drained_or_removed() {
        let mut table = table();
        let first = table.admit(&peer("b@h", 1, 1, true)).unwrap();
        assert_eq!((first.displaced.len(), first.loser), (0, None));
        assert_eq!(table.preferred(&name("b@h")), Some(first.id));
        assert_eq!(table.holder(&name("b@h")), Some(key(1)));
        assert_eq!(table.preferred(&name("c@h")), None);
        table.drain(first.id);
        assert_eq!(table.preferred(&name("b@h")), None);
        table.remove(first.id);
        assert_eq!(table.holder(&name("b@h")), None);
        assert!(table.links_of(&key(1)).is_empty());
    }

    #[test]
    fn a_newer_incarnation_displaces_every_link_of_the_older() {
        let mut table = table();
        let one = table.admit(&peer("b@h", 1, 5, true)).unwrap().id;
        let two = table.admit(&peer("b@h", 1, 5, true)).unwrap().id;
        let new = table.admit(&peer("b@h", 1, 6, false)).unwrap();
        assert_eq!(new.displaced, [one, two]);
        assert_eq!(new.loser, None);
        assert_eq!(table.preferred(&name("b@h")), Some(new.id));
    }

    #[test]
    fn an_older_incarnation_is_refused_as_long_as_the_newer_has_a_link() {
        let mut table = table();
        let new = table.admit(&peer("b@h", 1, 6, true)).unwrap().id;
        let old = peer("b@h", 1, 5, true);
        assert_eq!(table.admit(&old), Err(Refusal::Stale { known: 6 }));
        table.drain(new);
        assert_eq!(table.admit(&old), Err(Refusal::Stale { known: 6 }));
        table.remove(new);
        assert!(table.admit(&old).is_ok());
    }

    #[test]
    fn of_two_dials_at_once_the_one_of_the_smaller_key_stays() {
        // This node has the larger key: the peer's dial stays, whichever came first.
        let (ours, theirs) = (
            peer("b@h", OWN - 1, 1, true),
            peer("b@h", OWN - 1, 1, false),
        );
        let mut one = table();
        let first = one.admit(&ours).unwrap().id;
        let second = one.admit(&theirs).unwrap();
        assert_eq!(second.loser, Some(first));
        assert_eq!(one.preferred(&name("b@h")), Some(second.id));
        let mut other = table();
        let first = other.admit(&theirs).unwrap().id;
        let second = other.admit(&ours).unwrap();
        assert_eq!(second.loser, Some(second.id));
        assert_eq!(other.preferred(&name("b@h")), Some(first));
    }

    #[test]
    fn of_two_links_of_one_dialler_the_newer_stays() {
        for dialled in [true, false] {
            let mut table = table();
            let first = table.admit(&peer("b@h", 1, 1, dialled)).unwrap().id;
            let second = table.admit(&peer("b@h", 1, 1, dialled)).unwrap();
            assert_eq!(second.loser, Some(first));
            assert_eq!(table.preferred(&name("b@h")), Some(second.id));
        }
    }

    #[test]
    fn a_drained_link_is_no_rival() {
        let mut table = table();
        let first = table.admit(&peer("b@h", 1, 1, false)).unwrap().id;
        table.drain(first);
        // It would lose the tie.
        let second = table.admit(&peer("b@h", 1, 1, true)).unwrap();
        assert_eq!(second.loser, None);
        assert_eq!(table.preferred(&name("b@h")), Some(second.id));
    }

    #[test]
    fn a_name_belongs_to_one_key_and_a_key_to_one_name() {
        let mut table = table();
        let first = table.admit(&peer("b@h", 1, 1, true)).unwrap().id;
        let held = Refusal::NameHeld { by: key(1) };
        assert_eq!(table.admit(&peer("b@h", 2, 9, true)), Err(held));
        let by = PeerName::Member(name("b@h"));
        assert_eq!(
            table.admit(&peer("c@h", 1, 9, true)),
            Err(Refusal::KeyHeld { by })
        );
        // The table did not change.
        assert_eq!(table.preferred(&name("b@h")), Some(first));
        assert_eq!(table.links_of(&key(1)), [first]);
        assert!(table.links_of(&key(2)).is_empty());
        table.remove(first);
        assert!(table.admit(&peer("b@h", 2, 1, true)).is_ok());
        assert!(table.admit(&peer("c@h", 1, 1, true)).is_ok());
    }

    #[test]
    fn clients_claim_no_name_but_their_key_is_theirs() {
        let mut table = table();
        let one = table.admit(&client("h", 1)).unwrap();
        let two = table.admit(&client("h", 2)).unwrap();
        assert_eq!((one.loser, two.loser), (None, None));
        let by = one_client_name();
        assert_eq!(
            table.admit(&peer("b@h", 1, 9, true)),
            Err(Refusal::KeyHeld { by })
        );
        table.remove(one.id);
        assert_eq!(table.links_of(&key(2)), [two.id]);
    }

    fn one_client_name() -> PeerName {
        PeerName::Client(HostName::parse("h").unwrap())
    }

    #[test]
    fn a_slot_used_again_has_another_generation_and_old_names_do_nothing() {
        let mut table = table();
        let old = table.admit(&peer("b@h", 1, 1, true)).unwrap().id;
        table.remove(old);
        let new = table.admit(&peer("c@h", 2, 1, true)).unwrap().id;
        assert_eq!(new.index, old.index);
        assert_ne!(new, old);
        table.drain(old);
        table.remove(old);
        assert_eq!(table.preferred(&name("c@h")), Some(new));
    }

    #[test]
    fn a_peer_with_too_many_links_loses_its_oldest() {
        let mut table = table();
        let mut ids = Vec::new();
        for n in 0..MAX_PER_PEER * 2 {
            let admission = table.admit(&peer("b@h", 1, 1, false)).unwrap();
            if n < MAX_PER_PEER {
                assert!(admission.displaced.is_empty());
            } else {
                assert_eq!(admission.displaced, [ids[n - MAX_PER_PEER]]);
                // What its connection does when it is closed.
                table.remove(admission.displaced[0]);
            }
            ids.push(admission.id);
        }
        assert_eq!(table.links_of(&key(1)).len(), MAX_PER_PEER);
    }

    /// A change of the table.
    #[derive(Clone, Debug)]
    enum Step {
        Admit {
            node: u8,
            key: u8,
            incarnation: u64,
            dialled: bool,
        },
        Drain(usize),
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..3u8, 0..3u8, 0..3u64, any::<bool>()).prop_map(
                |(node, key, incarnation, dialled)| Step::Admit { node, key, incarnation, dialled }
            ),
            1 => (0..20usize).prop_map(Step::Drain),
            2 => (0..20usize).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// The rule of the tie, on both ends: the same dials, each dialler's in
        /// its own order, but mixed differently by the network.
        #[test]
        fn both_ends_of_a_tie_keep_the_same_link(
            diallers in prop::collection::vec(any::<bool>(), 1..8),
            mix in prop::collection::vec(any::<bool>(), 8),
        ) {
            // The dials by number, in the order of their beginning.
            let by_a: Vec<usize> = (0..diallers.len()).filter(|n| diallers[*n]).collect();
            let by_b: Vec<usize> = (0..diallers.len()).filter(|n| !diallers[*n]).collect();
            let mut mixed = Vec::new();
            let (mut left_a, mut left_b) = (by_a.iter(), by_b.iter());
            for first in mix.iter().cycle().take(diallers.len()) {
                mixed.extend(if *first {
                    left_a.next().or_else(|| left_b.next())
                } else {
                    left_b.next().or_else(|| left_a.next())
                });
            }
            let in_order: Vec<usize> = (0..diallers.len()).collect();
            let kept = |own: u8, other: u8, node: &str, own_dials: bool, order: &[usize]| {
                let mut table = LinkTable::new(key(own));
                let mut dial_of = BTreeMap::new();
                for dial in order {
                    let dialled = diallers[*dial] == own_dials;
                    let admission = table.admit(&peer(node, other, 1, dialled)).unwrap();
                    dial_of.insert(admission.id, *dial);
                }
                dial_of[&table.preferred(&name(node)).unwrap()]
            };
            let at_a = kept(1, 2, "b@h", true, &in_order);
            let at_b = kept(2, 1, "a@h", false, &mixed);
            prop_assert_eq!(at_a, at_b);
            // The smaller key is a's.
            prop_assert_eq!(at_a, *by_a.last().or(by_b.last()).unwrap());
        }

        #[test]
        fn whatever_happens_the_rules_hold(steps in prop::collection::vec(step(), 0..60)) {
            let mut table = table();
            // Every link admitted: whether it lives, and its peer.
            let mut all: Vec<(LinkId, bool, Peer)> = Vec::new();
            for step in steps {
                match step {
                    Step::Admit { node, key: key_byte, incarnation, dialled } => {
                        let peer = peer(&format!("n{node}@h"), key_byte, incarnation, dialled);
                        let rivals: Vec<_> = all.iter().filter(|(_, alive, _)| *alive).collect();
                        match table.admit(&peer) {
                            Ok(admission) => {
                                prop_assert!(all.iter().all(|(id, ..)| *id != admission.id));
                                for (id, _, old) in &rivals {
                                    if old.key == peer.key {
                                        let older = old.incarnation < peer.incarnation;
                                        prop_assert_eq!(admission.displaced.contains(id), older);
                                    }
                                }
                                all.push((admission.id, true, peer));
                            }
                            Err(Refusal::Stale { known }) => prop_assert!(rivals.iter().any(
                                |(_, _, old)| old.key == peer.key && old.incarnation == known && known > incarnation
                            )),
                            Err(Refusal::NameHeld { by }) => prop_assert!(
                                by != peer.key && rivals.iter().any(|(_, _, old)| old.key == by && old.name == peer.name)
                            ),
                            Err(Refusal::KeyHeld { by }) => prop_assert!(
                                by != peer.name && rivals.iter().any(|(_, _, old)| old.name == by && old.key == peer.key)
                            ),
                        }
                    }
                    Step::Drain(n) => {
                        if let Some((id, ..)) = all.get(n) {
                            table.drain(*id);
                        }
                    }
                    Step::Remove(n) => {
                        if let Some((id, alive, _)) = all.get_mut(n) {
                            table.remove(*id);
                            *alive = false;
                        }
                    }
                }
                for n in 0..3 {
                    let links = table.links_of(&key(n));
                    let used = links.iter().filter(|id| table.entry(**id).is_some_and(|e| !e.draining));
                    prop_assert!(used.count() <= 1, "one link of a peer takes new streams");
                    let alive = all.iter().filter(|(_, alive, peer)| *alive && peer.key == key(n));
                    prop_assert_eq!(links.len(), alive.count());
                }
            }
        }
    }
}
