// SPDX-License-Identifier: Apache-2.0

//! The node: its parts, and what applications ask of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use barrel_hyparview::HyParView;
use barrel_members::Members;
use barrel_ormap::hlc::Clock;
use barrel_plumtree::Plumtree;
use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::book::{Book, Newcomers};
use crate::config::Config;
use crate::contacts::Contacts;
use crate::event::{Contact, Event, Output, Write};
use crate::keys::{Keys, PublicKey};
use crate::links::Links;
use crate::record::{Claims, Record};
use crate::saved::Saved;
use crate::stores::Stores;
use crate::sync::Rounds;
use crate::topic::{MessageId, Topic};
use crate::wire;
use crate::{NodeId, Now};

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its public key; [`Keys`] signs with the private one.
    pub key: PublicKey,
    /// Its name, `name@host`.
    pub name: Arc<str>,
    /// Where it can be dialled, most useful first.
    pub addresses: Vec<Bytes>,
    /// Higher than at any start before: the larger of the saved one plus 1 and the wall
    /// clock's milliseconds.
    pub incarnation: u64,
}

/// A gossip node without a socket; see the crate's documentation for its contract.
#[derive(Clone)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) identity: Identity,
    pub(crate) record: Record,
    pub(crate) overlay: HyParView<NodeId>,
    pub(crate) tree: Plumtree<NodeId, MessageId>,
    pub(crate) members: Members<NodeId>,
    pub(crate) stores: Stores,
    pub(crate) clock: Clock,
    pub(crate) links: Links,
    pub(crate) book: Book,
    pub(crate) newcomers: Newcomers,
    pub(crate) contacts: Contacts,
    pub(crate) rounds: Rounds,
    pub(crate) rng: ChaCha8Rng,
    /// When stores are compared with somebody next.
    pub(crate) compare_at: Duration,
    /// When a hole that nobody has announced is looked after.
    pub(crate) mend_at: Option<Duration>,
    /// How often that was done since there were no holes.
    pub(crate) mends: u32,
    /// Own broadcasts so far.
    pub(crate) said: u64,
    /// Told that we are in.
    pub(crate) joined: bool,
    /// Has agreed with somebody once since it joined.
    pub(crate) settled: bool,
    /// Writes that wait for the next batch.
    pub(crate) unsaved: Vec<Write>,
    /// Batches handed out to be made durable.
    pub(crate) written: u64,
    pub(crate) outputs: VecDeque<Output>,
}

/// Why a broadcast was not taken. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// More than [`wire::MAX_BODY`] bytes.
    TooLarge,
    /// Too much waits on the links already; try again.
    Busy,
}

impl Node {
    /// A node alone. `seed` feeds all its dice; `saved` is what an earlier life left.
    ///
    /// # Panics
    /// When the name or the addresses break the limits of a record ([`crate::MAX_NAME`]):
    /// they are the caller's own.
    #[must_use]
    pub fn new(
        config: Config,
        identity: Identity,
        keys: Arc<dyn Keys>,
        seed: u64,
        now: Now,
        saved: Option<Saved>,
    ) -> Self {
        let record = sign(&identity, 0, &config, &*keys);
        let me = record.id();
        let saved = saved.unwrap_or_default();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut dice = || rand::Rng::next_u64(&mut rng);
        let mut overlay = HyParView::new(me, config.overlay.clone(), dice());
        overlay.restore(now.mono, saved.peers.clone());
        let tree = Plumtree::new(config.tree.clone(), dice());
        let members = Members::new(
            me,
            identity.name.clone(),
            identity.incarnation,
            config.members.clone(),
            dice(),
        );
        let mut clock = Clock::new(config.max_drift_ms, saved.clock_floor_ms);
        let stamp = clock.now(now.wall_ms);
        let mut book = Book::default();
        saved
            .records
            .iter()
            .cloned()
            .for_each(|record| book.file(record));
        let mut node = Self {
            stores: Stores::new(me, identity.incarnation, &config),
            compare_at: now.mono,
            contacts: Contacts::new(config.contact_retry),
            newcomers: Newcomers::default(),
            mend_at: None,
            mends: 0,
            links: Links::default(),
            rounds: Rounds::default(),
            said: 0,
            joined: false,
            settled: false,
            unsaved: Vec::new(),
            written: 0,
            outputs: VecDeque::new(),
            config,
            keys,
            identity,
            record,
            overlay,
            tree,
            members,
            clock,
            book,
            rng,
        };
        node.compare_at = node.next_comparison(now.mono);
        node.stores.publish(&node.record, stamp);
        node.commit(now);
        node
    }

    /// Joins the cluster that this contact is in. The outcome is an event; a seed that
    /// does not answer is asked again for as long as the node is alone.
    pub fn join(&mut self, now: Now, contact: Contact) {
        if self.members.has_left() {
            self.members.rejoin(now.mono);
        }
        match contact {
            Contact::Peer(peer) => self.overlay.join(now.mono, peer),
            Contact::Seed(seed) => {
                if self.contacts.add(now.mono, seed.clone()) {
                    self.outputs.push_back(Output::Dial {
                        contact: Contact::Seed(seed),
                        record: None,
                    });
                }
            }
        }
        self.pump(now);
    }

    /// Says good-bye: to the members, so that what this node registered is dropped
    /// everywhere at once, and to the neighbours. Nothing is joined again but by
    /// [`Node::join`].
    pub fn leave(&mut self, now: Now) {
        self.contacts.clear();
        self.members.leave(now.mono);
        // the good-bye goes out over the links that the next line gives up
        self.pump(now);
        self.overlay.leave(now.mono);
        self.joined = false;
        self.settled = false;
        self.pump(now);
        self.outputs.push_back(Output::Event(Event::Left));
    }

    /// Sends a message to everybody who is a member now. Delivered at most once to each;
    /// not to who joins later.
    ///
    /// # Errors
    /// Nothing was sent then.
    pub fn broadcast(&mut self, now: Now, body: Bytes) -> Result<MessageId, NotSent> {
        if body.len() > wire::MAX_BODY {
            return Err(NotSent::TooLarge);
        }
        if self.links.queued() > self.config.busy_above {
            return Err(NotSent::Busy);
        }
        self.said += 1;
        let id = MessageId {
            topic: Topic::BROADCAST,
            origin: self.id(),
            incarnation: self.members.incarnation(),
            seq: self.said,
            span: 1,
        };
        self.stores.cache.insert(now.mono, id, body.clone());
        self.tree.broadcast(now.mono, id, body);
        self.pump(now);
        Ok(id)
    }

    /// Knows all members that `other` knows, in the same memory. For simulations that
    /// begin with nodes that agree; the clocks of both must be one, and this node must be
    /// among the members.
    pub fn agree_with(&mut self, other: &Self) {
        let (me, incarnation) = (self.id(), self.members.incarnation());
        if let Some(directory) = &other.stores.directory {
            self.stores.directory = Some(directory.seen_by(me, incarnation));
        }
        self.members = Members::with_directory(
            me,
            self.identity.name.clone(),
            incarnation,
            self.config.members.clone(),
            rand::Rng::next_u64(&mut self.rng),
            other.members.directory(),
        );
        self.settled = true;
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.record.id()
    }

    /// Its record, as it is told to others.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The membership of the overlay, for status and metrics.
    #[must_use]
    pub fn overlay(&self) -> &HyParView<NodeId> {
        &self.overlay
    }

    /// The broadcast tree, for status and metrics.
    #[must_use]
    pub fn tree(&self) -> &Plumtree<NodeId, MessageId> {
        &self.tree
    }

    /// The members and how they fare.
    #[must_use]
    pub fn members(&self) -> &Members<NodeId> {
        &self.members
    }

    /// The clock that stamps what this node writes.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What should outlive a restart, besides the maps.
    #[must_use]
    pub fn saved(&self, now: Now) -> Saved {
        let peers = self.overlay.saved(now.mono);
        let wanted: BTreeSet<NodeId> = peers
            .lost
            .iter()
            .map(|(peer, _)| *peer)
            .chain(peers.seeds.iter().copied())
            .collect();
        Saved {
            incarnation: self.members.incarnation(),
            clock_floor_ms: self.clock.latest().wall_time(),
            records: wanted
                .iter()
                .filter_map(|id| self.find_record(*id))
                .collect(),
            peers,
        }
    }

    /// The newest record of a node that we have.
    pub(crate) fn find_record(&self, id: NodeId) -> Option<Record> {
        if id == self.id() {
            return Some(self.record.clone());
        }
        self.book
            .find(id)
            .cloned()
            .or_else(|| self.stores.find_record(id, &*self.keys))
    }

    /// Signs the own record anew, as something in it has changed or its time runs out.
    pub(crate) fn renew_record(&mut self, now: Now) {
        let seq = self.record.claims().seq + 1;
        self.identity.incarnation = self.members.incarnation();
        self.record = sign(&self.identity, seq, &self.config, &*self.keys);
        let stamp = self.clock.now(now.wall_ms);
        self.stores.publish(&self.record, stamp);
        self.commit(now);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

fn sign(identity: &Identity, seq: u64, config: &Config, keys: &dyn Keys) -> Record {
    let claims = Claims {
        key: identity.key,
        name: identity.name.clone(),
        addresses: identity.addresses.clone(),
        incarnation: identity.incarnation,
        seq,
        ttl: config.members.record_ttl,
        versions: wire::VERSIONS,
    };
    Record::sign(claims, keys)
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("record", &self.record)
            .field("active", &self.overlay.active().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
