//! The real node as a machine.
//!
//! Keys are numbers here, and so are addresses: what [`SimKeys`] signs only they can verify, in a few
//! nanoseconds and with a count of how often. Everything else is the code that ships.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use barrel_node::{
    self as node, Contact, Identity, Keys, Node, NodeId, PublicKey, Signature, Standing,
};
use bytes::Bytes;

use crate::kernel::{KINDS, Link, LinkDown, LogHash, Machine, NodeNo, Now, Output, mix, unmix};
use crate::subject::{Heard, Profile, Subject, TreeCounts};

/// A node of the world with all that ships.
#[derive(Clone, Debug)]
pub struct SimNode {
    node: Node,
}

/// What a restart needs to know.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Which node.
    pub node: NodeNo,
    /// Its settings.
    pub config: node::Config,
    /// Of its dice.
    pub seed: u64,
    /// Larger at each start.
    pub incarnation: u64,
    /// What it kept.
    pub saved: Option<node::Saved>,
}

impl SimNode {
    /// Starts a node.
    #[must_use]
    pub fn start(birth: Birth, now: Now) -> Self {
        let keys = Arc::new(SimKeys::new(birth.node));
        Self::start_with(birth, keys, now)
    }

    /// Starts a node with the keys of somebody who signs for all.
    #[must_use]
    pub fn start_with(birth: Birth, keys: Arc<dyn Keys>, now: Now) -> Self {
        let identity = Identity {
            key: key(birth.node),
            name: format!("n{}@sim", birth.node).into(),
            addresses: vec![address(birth.node)],
            incarnation: birth.incarnation,
        };
        let seed = mix(birth.seed) ^ mix(u64::from(birth.node) + birth.incarnation);
        Self {
            node: Node::new(birth.config, identity, keys, seed, theirs(now), birth.saved),
        }
    }

    /// The node, to ask it.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node, to tell it something.
    pub fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}

/// The clocks as the node has them.
#[must_use]
pub fn theirs(now: Now) -> node::Now {
    node::Now {
        mono: now.mono,
        wall_ms: now.wall_ms,
    }
}

/// Where a node listens.
fn address(node: NodeNo) -> Bytes {
    format!("sim:{node}").into()
}

pub(crate) fn key(node: NodeNo) -> PublicKey {
    let mut key = [0; 32];
    let mut part = u64::from(node) + 1;
    for eight in key.as_chunks_mut::<8>().0 {
        part = mix(part);
        *eight = part.to_le_bytes();
    }
    key
}

/// The id of a node.
#[must_use]
pub fn id(node: NodeNo) -> NodeId {
    short(&key(node))
}

/// Which node has this id, if it is one that the simulator made.
#[must_use]
pub fn number(id: NodeId) -> Option<NodeNo> {
    let first = u64::from_le_bytes(*id.0.first_chunk()?);
    let node = NodeNo::try_from(unmix(first).checked_sub(1)?).ok()?;
    (self::id(node) == id).then_some(node)
}

fn first(id: &NodeId) -> &[u8; 8] {
    id.0.first_chunk().unwrap_or(&[0; 8])
}

pub(crate) fn short(key: &PublicKey) -> NodeId {
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    // an alias has no constructor of its own
    NodeId { 0: id }
}

/// Keys that sign by a hash over key and text.
#[derive(Debug)]
pub struct SimKeys {
    own: PublicKey,
    verified: AtomicU64,
}

impl SimKeys {
    fn new(node: NodeNo) -> Self {
        Self {
            own: key(node),
            verified: AtomicU64::new(0),
        }
    }

    /// Signatures that were looked at.
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }
}

pub(crate) fn signature(key: &PublicKey, bytes: &[u8]) -> Signature {
    let mut hash = LogHash::default();
    hash.bytes(key);
    hash.bytes(bytes);
    let mut signature = [0; 64];
    for part in signature.as_chunks_mut::<16>().0 {
        hash.number(1);
        *part = hash.value().to_le_bytes();
    }
    signature
}

impl Keys for SimKeys {
    fn sign(&self, bytes: &[u8]) -> Signature {
        signature(&self.own, bytes)
    }

    fn verify(&self, key: &PublicKey, bytes: &[u8], given: &Signature) -> bool {
        self.verified.fetch_add(1, Ordering::Relaxed);
        signature(key, bytes) == *given
    }

    fn id(&self, key: &PublicKey) -> NodeId {
        short(key)
    }

    fn standing(&self, _name: &str, _key: &PublicKey) -> Standing {
        Standing::Unknown
    }
}

impl Machine for SimNode {
    type Contact = Contact;
    type Message = Bytes;
    type Event = node::Event;
    type Batch = Vec<node::Write>;

    fn place(&self, contact: &Contact) -> Option<NodeNo> {
        match contact {
            Contact::Peer(peer) => number(*peer),
            Contact::Seed(text) => std::str::from_utf8(text)
                .ok()?
                .strip_prefix("sim:")?
                .parse()
                .ok(),
        }
    }

    fn handle_link_up(&mut self, now: Now, peer: NodeNo, link: Link, dialled: Option<Contact>) {
        self.node
            .handle_link_up(theirs(now), id(peer), node::Link(link.0), dialled);
    }

    fn handle_rtt(&mut self, peer: NodeNo, rtt: Duration) {
        self.node.handle_rtt(id(peer), rtt);
    }

    fn handle_link_down(&mut self, now: Now, link: Link, reason: LinkDown) {
        let reason = match reason {
            LinkDown::Failed => node::LinkDown::Failed,
            LinkDown::Closed => node::LinkDown::Closed,
        };
        self.node
            .handle_link_down(theirs(now), node::Link(link.0), reason);
    }

    fn handle_dial_failed(&mut self, now: Now, contact: Contact) {
        self.node.handle_dial_failed(theirs(now), contact);
    }

    fn handle_message(&mut self, now: Now, link: Link, message: Bytes) {
        self.node
            .handle_message(theirs(now), node::Link(link.0), message);
    }

    fn poll_send(&mut self, link: Link) -> Option<Bytes> {
        self.node.poll_send(node::Link(link.0))
    }

    fn handle_persisted(&mut self, _now: Now, token: u64) {
        self.node.handle_persisted(token);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.node.handle_timeout(theirs(now));
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.node.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<Output<Self>> {
        Some(match self.node.poll_output()? {
            node::Output::Dial { contact, .. } => Output::Dial(contact),
            node::Output::Ready(link) => Output::Ready(Link(link.0)),
            node::Output::Close { link, .. } => Output::Close(Link(link.0)),
            node::Output::Persist { token, batch } => Output::Persist { batch, token },
            node::Output::Event(event) => Output::Event(event),
        })
    }

    /// The first byte of a frame says what it is.
    fn kind(message: &Bytes) -> usize {
        message
            .first()
            .map_or(0, |first| usize::from(*first) % KINDS)
    }

    fn length(message: &Bytes) -> usize {
        message.len()
    }

    fn fold(message: &Bytes, hash: &mut LogHash) {
        hash.bytes(message);
    }

    fn digest(event: &node::Event) -> u64 {
        match event {
            node::Event::Broadcast { id, .. } => mix(id.seq),
            // the most frequent of all, by far
            node::Event::ServiceUp { origin, pair } => {
                let mut hash = LogHash::default();
                [&origin.0, pair.key(), pair.value()]
                    .iter()
                    .for_each(|part| hash.bytes(part));
                hash.value() as u64
            }
            node::Event::PeerUp(peer) => mix(u64::from_le_bytes(*first(peer)) ^ 1),
            node::Event::PeerDown { peer, .. } => mix(u64::from_le_bytes(*first(peer)) ^ 2),
            node::Event::NodeUp { node, .. } => mix(u64::from_le_bytes(*first(node)) ^ 3),
            node::Event::NodeDown { node, .. } => mix(u64::from_le_bytes(*first(node)) ^ 4),
            other => {
                let mut hash = LogHash::default();
                hash.bytes(format!("{other:?}").as_bytes());
                hash.value() as u64
            }
        }
    }
}

/// What the profile means for a whole node.
#[must_use]
pub fn config(profile: Profile) -> node::Config {
    node::Config {
        overlay: match profile {
            Profile::Paper => barrel_hyparview::Config::paper(),
            Profile::Large => barrel_hyparview::Config {
                passive_size: 128,
                ..barrel_hyparview::Config::default()
            },
            Profile::Shipped => barrel_hyparview::Config::default(),
        },
        ..node::Config::default()
    }
}

impl Subject for SimNode {
    /// Without a directory: ten thousand of them know a hundred million records.
    fn born(node: NodeNo, profile: Profile, seed: u64, now: Now) -> Self {
        let birth = Birth {
            node,
            config: node::Config {
                directory: false,
                carry_records: false,
                ..config(profile)
            },
            seed,
            incarnation: now.wall_ms,
            saved: None,
        };
        Self::start(birth, now)
    }

    fn join(&mut self, now: Now, contact: NodeNo) {
        self.node.join(theirs(now), Contact::Seed(address(contact)));
    }

    fn neighbours(&self) -> Vec<NodeNo> {
        self.node.overlay().active().filter_map(number).collect()
    }

    fn passive(&self) -> Vec<NodeNo> {
        self.node.overlay().passive().filter_map(number).collect()
    }

    fn say(&mut self, now: Now, number: u64) {
        let sent = self
            .node
            .broadcast(theirs(now), Bytes::copy_from_slice(&number.to_le_bytes()));
        debug_assert!(sent.is_ok(), "one small broadcast was not taken: {sent:?}");
    }

    fn heard(event: &node::Event) -> Option<Heard> {
        match event {
            node::Event::Broadcast { body, .. } => Some(Heard {
                number: u64::from_le_bytes(*body.first_chunk()?),
            }),
            _ => None,
        }
    }

    fn tree(&self) -> TreeCounts {
        let stats = self.node.tree().stats();
        TreeCounts {
            payload: stats.payload_sent,
            announced: stats.ihave_ids_sent,
            grafts: stats.graft_sent,
            prunes: stats.prune_sent,
            lost: stats.lost,
        }
    }

    fn evictions(&self) -> u64 {
        self.node.overlay().stats().evictions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_node_and_a_forged_one_nobody() {
        for node in (0..1000).chain([NodeNo::MAX]) {
            assert_eq!(number(id(node)), Some(node));
        }
        let mut forged = id(7);
        forged.0[15] ^= 1;
        assert_eq!(number(forged), None);
    }

    #[test]
    fn a_signature_is_good_for_its_key_and_text_only() {
        let keys = SimKeys::new(3);
        let good = keys.sign(b"text");
        assert!(keys.verify(&key(3), b"text", &good));
        assert!(!keys.verify(&key(4), b"text", &good));
        assert!(!keys.verify(&key(3), b"test", &good));
        assert_eq!(keys.verified(), 3);
    }
}
