// SPDX-License-Identifier: Apache-2.0

//! A few nodes with an instant network between them: frames arrive in order at once,
//! time moves only when a test says so.

#![allow(dead_code, unreachable_pub)]

pub mod siege;
pub mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use barrel_node::{
    CloseReason, Config, Contact, Event, Identity, Keys, Link, LinkDown, Node, NodeId, Now, Output,
    PublicKey, Signature, Standing, Table,
};
use bytes::Bytes;

/// Signs with the public key: good enough where nobody but the tests forges.
pub struct ToyKeys(pub PublicKey);

impl Keys for ToyKeys {
    fn sign(&self, bytes: &[u8]) -> Signature {
        toy_signature(&self.0, bytes)
    }

    fn verify(&self, key: &PublicKey, bytes: &[u8], signature: &Signature) -> bool {
        toy_signature(key, bytes) == *signature
    }

    fn id(&self, key: &PublicKey) -> NodeId {
        id_of(key)
    }

    fn standing(&self, name: &str, _key: &PublicKey) -> Standing {
        if name.starts_with("untrusted") {
            Standing::Refused
        } else if name.starts_with("known") {
            Standing::Placed
        } else {
            Standing::Unknown
        }
    }
}

pub fn toy_signature(key: &PublicKey, bytes: &[u8]) -> Signature {
    let mut out = [0; 64];
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.iter().chain(bytes) {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    for chunk in out.chunks_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        chunk.copy_from_slice(&state.to_be_bytes());
    }
    out
}

pub fn id_of(key: &PublicKey) -> NodeId {
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    barrel_ormap::OriginKey(id)
}

pub fn key_of(number: u8) -> PublicKey {
    let mut key = [number; 32];
    // spread over the buckets of a digest
    key[0] = number.wrapping_mul(37);
    key
}

/// The nodes, the links between them, and what they have told.
pub struct Net {
    pub nodes: BTreeMap<NodeId, Node>,
    pub events: BTreeMap<NodeId, Vec<Event>>,
    /// Which end of which link is whose: (node, its number of the link) -> the other end.
    ends: BTreeMap<(NodeId, Link), (NodeId, Link)>,
    pub cut: BTreeSet<NodeId>,
    next_link: u64,
    pub now: Now,
    ready: VecDeque<(NodeId, Link)>,
    /// Peers that are no nodes: tests speak for them. See [`Net::haunt`].
    pub ghosts: BTreeSet<NodeId>,
    /// Ghosts that read nothing.
    pub deaf: BTreeSet<NodeId>,
    /// Links that a node closed: who, to whom, why.
    pub closed: Vec<(NodeId, NodeId, CloseReason)>,
    /// What each node has asked to be made durable.
    pub disks: BTreeMap<NodeId, BTreeMap<(Table, Bytes), Bytes>>,
    /// All frames that went over links, to be looked at or told again.
    pub frames: Vec<(NodeId, NodeId, Bytes)>,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            events: BTreeMap::new(),
            ends: BTreeMap::new(),
            cut: BTreeSet::new(),
            next_link: 1,
            now: Now {
                mono: Duration::ZERO,
                wall_ms: 1_700_000_000_000,
            },
            ready: VecDeque::new(),
            ghosts: BTreeSet::new(),
            deaf: BTreeSet::new(),
            closed: Vec::new(),
            disks: BTreeMap::new(),
            frames: Vec::new(),
        }
    }
}

impl Net {
    pub fn start(&mut self, number: u8, config: Config) -> NodeId {
        self.start_as(number, &format!("n{number}@host"), 1, config)
    }

    pub fn start_as(&mut self, number: u8, name: &str, incarnation: u64, config: Config) -> NodeId {
        self.start_with(
            number,
            name,
            incarnation,
            config,
            Arc::new(ToyKeys(key_of(number))),
        )
    }

    pub fn start_with(
        &mut self,
        number: u8,
        name: &str,
        incarnation: u64,
        config: Config,
        keys: Arc<dyn Keys>,
    ) -> NodeId {
        let key = key_of(number);
        let identity = Identity {
            key,
            name: name.into(),
            addresses: vec![Bytes::from(format!("host:{number}"))],
            incarnation,
        };
        let seed = u64::from(number) * 1000 + incarnation;
        let node = Node::new(config, identity, keys, seed, self.now, None);
        let id = node.id();
        self.nodes.insert(id, node);
        self.events.entry(id).or_default();
        self.settle();
        id
    }

    /// A cluster of so many, all joined through the first.
    pub fn cluster(&mut self, count: u8, config: &Config) -> Vec<NodeId> {
        let ids: Vec<NodeId> = (1..=count)
            .map(|number| self.start(number, config.clone()))
            .collect();
        for id in &ids[1..] {
            self.join(*id, ids[0]);
        }
        ids
    }

    /// Joins by the address of the contact, as an operator would.
    pub fn join(&mut self, who: NodeId, contact: NodeId) {
        let now = self.now;
        self.act(who, |node| {
            node.join(now, Contact::Seed(Bytes::copy_from_slice(&contact.0)))
        });
    }

    /// Lets a node do something, and the network carry all that follows.
    pub fn act<T>(&mut self, who: NodeId, what: impl FnOnce(&mut Node) -> T) -> T {
        let result = what(self.nodes.get_mut(&who).expect("a node of this net"));
        self.settle();
        result
    }

    /// Moves time on, in steps of at most a tenth of a second.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            let due = self.nodes.values().filter_map(Node::poll_timeout).min();
            let step = due
                .unwrap_or(end)
                .max(self.now.mono + Duration::from_millis(1))
                .min(end);
            self.now.wall_ms += (step - self.now.mono).as_millis() as u64;
            self.now.mono = step;
            let now = self.now;
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                if self.nodes[&id]
                    .poll_timeout()
                    .is_some_and(|at| at <= now.mono)
                {
                    self.act(id, |node| node.handle_timeout(now));
                }
            }
        }
    }

    /// Ends a node without a word; its peers see their links fail.
    pub fn kill(&mut self, who: NodeId) {
        self.nodes.remove(&who);
        self.fail_links(|a, b| a == who || b == who);
    }

    /// Nobody of `some` reaches anybody else, or is reached.
    pub fn partition(&mut self, some: &[NodeId]) {
        self.cut = some.iter().copied().collect();
        let cut = self.cut.clone();
        self.fail_links(|a, b| cut.contains(&a) != cut.contains(&b));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    fn fail_links(&mut self, which: impl Fn(NodeId, NodeId) -> bool) {
        let gone: Vec<(NodeId, Link)> = self
            .ends
            .iter()
            .filter(|((node, _), (peer, _))| which(*node, *peer))
            .map(|(end, _)| *end)
            .collect();
        let now = self.now;
        for (node, link) in gone {
            self.ends.remove(&(node, link));
            if let Some(node) = self.nodes.get_mut(&node) {
                node.handle_link_down(now, link, LinkDown::Failed);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                while let Some(output) = self.nodes.get_mut(&id).and_then(Node::poll_output) {
                    quiet = false;
                    self.on_output(id, output);
                }
            }
            while let Some((from, link)) = self.ready.pop_front() {
                quiet = false;
                self.carry(from, link);
            }
            if quiet {
                return;
            }
        }
    }

    fn carry(&mut self, from: NodeId, link: Link) {
        let now = self.now;
        if self
            .ends
            .get(&(from, link))
            .is_some_and(|(to, _)| self.deaf.contains(to))
        {
            return;
        }
        while let Some(frame) = self
            .nodes
            .get_mut(&from)
            .and_then(|node| node.poll_send(link))
        {
            let Some((to, theirs)) = self.ends.get(&(from, link)).copied() else {
                continue;
            };
            self.frames.push((from, to, frame.clone()));
            if let Some(node) = self.nodes.get_mut(&to) {
                node.handle_message(now, theirs, frame);
            }
        }
    }

    fn on_output(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Dial { contact, record } => {
                self.dial(id, contact, record.map(|record| record.id()))
            }
            Output::Ready(link) => self.ready.push_back((id, link)),
            Output::Close { link, reason } => {
                self.carry(id, link);
                if let Some((peer, theirs)) = self.ends.remove(&(id, link)) {
                    self.closed.push((id, peer, reason));
                    self.ends.remove(&(peer, theirs));
                    let now = self.now;
                    if let Some(node) = self.nodes.get_mut(&peer) {
                        node.handle_link_down(now, theirs, LinkDown::Closed);
                    }
                }
            }
            Output::Persist { token, batch } => {
                let disk = self.disks.entry(id).or_default();
                for write in batch {
                    match write.value {
                        Some(value) => disk.insert((write.table, write.key), value),
                        None => disk.remove(&(write.table, write.key)),
                    };
                }
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.handle_persisted(token);
                }
            }
            Output::Event(event) => self.events.entry(id).or_default().push(event),
        }
    }

    fn dial(&mut self, from: NodeId, contact: Contact, by_record: Option<NodeId>) {
        let to = match &contact {
            Contact::Peer(peer) => {
                assert_eq!(
                    by_record,
                    Some(*peer),
                    "a dial comes with the record of its peer"
                );
                *peer
            }
            Contact::Seed(address) => {
                barrel_ormap::OriginKey(address[..].try_into().expect("16 bytes"))
            }
        };
        let now = self.now;
        let apart = self.cut.contains(&from) != self.cut.contains(&to);
        if apart || !self.is_there(to) || from == to {
            let node = self.nodes.get_mut(&from).expect("who dials");
            node.handle_dial_failed(now, contact);
            return;
        }
        let known = self
            .ends
            .iter()
            .find(|((a, _), (b, _))| *a == from && *b == to)
            .map(|((_, link), _)| *link);
        if let Some(link) = known {
            let node = self.nodes.get_mut(&from).expect("who dials");
            node.handle_link_up(now, to, link, Some(contact));
            return;
        }
        let (ours, theirs) = (Link(self.next_link), Link(self.next_link + 1));
        self.next_link += 2;
        self.ends.insert((from, ours), (to, theirs));
        self.ends.insert((to, theirs), (from, ours));
        if let Some(node) = self.nodes.get_mut(&to) {
            node.handle_link_up(now, from, theirs, None);
        }
        self.nodes
            .get_mut(&from)
            .expect("who dials")
            .handle_link_up(now, to, ours, Some(contact));
    }

    fn is_there(&self, who: NodeId) -> bool {
        self.nodes.contains_key(&who) || self.ghosts.contains(&who)
    }

    /// Adds a peer that has a key and can be dialled, and says only what the test says.
    pub fn haunt(&mut self, number: u8) -> NodeId {
        let id = id_of(&key_of(number));
        self.ghosts.insert(id);
        id
    }

    /// Opens a link from a ghost to a node, in the place of one that is there.
    pub fn link(&mut self, ghost: NodeId, node: NodeId) {
        self.ends.retain(|(from, _), (to, _)| {
            let ends = [*from, *to];
            !(ends.contains(&ghost) && ends.contains(&node))
        });
        let (ours, theirs) = (Link(self.next_link), Link(self.next_link + 1));
        self.next_link += 2;
        self.ends.insert((ghost, ours), (node, theirs));
        self.ends.insert((node, theirs), (ghost, ours));
        let now = self.now;
        self.act(node, |node| node.handle_link_up(now, ghost, theirs, None));
    }

    /// A ghost says something to a node; whether there still was a link.
    pub fn say(&mut self, ghost: NodeId, node: NodeId, frame: impl Into<Bytes>) -> bool {
        let (now, frame) = (self.now, frame.into());
        match self.link_between(node, ghost) {
            Some(link) => {
                self.act(node, |node| node.handle_message(now, link, frame));
                true
            }
            None => false,
        }
    }

    /// Links that a node has.
    pub fn links_of(&self, who: NodeId) -> usize {
        self.ends.keys().filter(|(node, _)| *node == who).count()
    }

    /// What one said to another.
    pub fn heard(&self, from: NodeId, to: NodeId) -> impl Iterator<Item = &Bytes> {
        self.frames
            .iter()
            .filter(move |(a, b, _)| (*a, *b) == (from, to))
            .map(|(.., frame)| frame)
    }

    /// How often a node has told something.
    pub fn count(&self, who: NodeId, what: impl Fn(&Event) -> bool) -> usize {
        self.events[&who].iter().filter(|event| what(event)).count()
    }

    /// The other end of some link of a node, for tests that speak for themselves.
    pub fn link_between(&self, a: NodeId, b: NodeId) -> Option<Link> {
        self.ends
            .iter()
            .find(|((x, _), (y, _))| *x == a && *y == b)
            .map(|((_, link), _)| *link)
    }
}
