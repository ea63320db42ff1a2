// SPDX-License-Identifier: Apache-2.0

//! A node under fire.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;

use super::MAP;
use crate::event::{Contact, Output};
use crate::keys::{Keys, PublicKey, Signature, Standing};
use crate::node::{Identity, Node};
use crate::record::{Claims, Record};
use crate::topic::Topic;
use crate::wire::{self, Frame, Greeting};
use crate::{Config, Link, LinkDown, NodeId, Now};

/// What one frame may make a node send, at most: the whole of a queue, and then a part
/// of it again where what is answered is made while it is sent.
const MOST_FRAMES: usize = 100_000;

/// The map that is made of records that were kept.
const RESTORED: Topic = Topic(Topic::RESERVED + 1);

/// Who there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Me = 1,
    A,
    B,
    Stranger,
}

/// A node with two neighbours, services, and a map, which is told anything by either.
///
/// A signature is right when it is all zeroes: what is under it is what is searched, not
/// the mathematics above it.
#[derive(Clone)]
pub struct Fire {
    node: Node,
    now: Now,
    links: [Link; 2],
    next: u64,
}

/// No link. It comes again when time passes.
const NONE: Link = Link(0);

/// The node as it is before the first word, made once.
static BEFORE: LazyLock<Fire> = LazyLock::new(Fire::prepare);

impl Fire {
    /// A node to tell things to.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        BEFORE.clone()
    }

    /// Words for [`Fire::feed`]: each frame said by one of the two.
    pub fn words(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut input = Vec::new();
        for (at, frame) in frames.iter().enumerate() {
            let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
            input.push((at % 2) as u8);
            input.extend_from_slice(&len.to_be_bytes());
            input.extend_from_slice(&frame[..usize::from(len)]);
        }
        input
    }

    /// Tells the node all that the input says: what somebody said (0 or 1 of four), that
    /// time passed (2), that a link was lost and came again (3); each with a length.
    ///
    /// # Panics
    /// When the node holds more than it may, or a part of it is not sound any more.
    pub fn feed(&mut self, mut input: &[u8]) {
        while let Some(([op, high, low], rest)) = input.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let (frame, rest) = rest.split_at(len.min(rest.len()));
            input = if op & 3 < 2 {
                rest
            } else {
                input.get(3..).unwrap_or_default()
            };
            match op & 3 {
                side @ 0..2 => {
                    let link = self.links[usize::from(side)];
                    self.node
                        .handle_message(self.now, link, Bytes::copy_from_slice(frame));
                }
                2 => {
                    self.pass(Duration::from_millis(len as u64));
                    for side in (0..2)
                        .filter(|side| self.links[*side] == NONE)
                        .collect::<Vec<_>>()
                    {
                        self.connect(side);
                        self.settle();
                    }
                }
                _ => {
                    let side = len % 2;
                    let reason = if len & 2 == 0 {
                        LinkDown::Failed
                    } else {
                        LinkDown::Closed
                    };
                    self.node
                        .handle_link_down(self.now, self.links[side], reason);
                    self.connect(side);
                }
            }
            self.settle();
        }
        self.check();
    }

    /// Opens another map of records that were kept, or not, if they belong together in
    /// no way.
    ///
    /// # Panics
    /// When a part of the node is not sound any more.
    pub fn restore(&mut self, kept: Vec<(Vec<u8>, Vec<u8>)>) {
        let kept = kept
            .into_iter()
            .map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
        let config = barrel_ormap::map::Config {
            persist: true,
            ..Default::default()
        };
        if self.node.open_map(self.now, RESTORED, config, kept).is_ok() {
            self.settle();
            self.pass(Duration::from_secs(5));
            self.settle();
        }
        self.check();
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    fn prepare() -> Self {
        let now = Now {
            mono: Duration::ZERO,
            wall_ms: 1_700_000_000_000,
        };
        let identity = Identity {
            key: Peer::Me.key(),
            name: Peer::Me.name().into(),
            addresses: vec![Bytes::from_static(b"host:1")],
            incarnation: 1,
        };
        let node = Node::new(
            Config::default(),
            identity,
            Arc::new(ZeroKeys),
            1,
            now,
            None,
        );
        let mut fire = Self {
            node,
            now,
            links: [NONE; 2],
            next: 1,
        };
        fire.connect(0);
        fire.connect(1);
        for side in 0..2 {
            let join = Frame::Overlay {
                msg: barrel_hyparview::Message::Join,
                records: Vec::new(),
            };
            fire.node
                .handle_message(now, fire.links[side], wire::encode(&join));
        }
        for service in 0..8 {
            let written =
                fire.node
                    .register(now, format!("service {service}").as_bytes(), &[7; 100]);
            debug_assert!(written.is_ok());
        }
        let _ = fire.node.unregister(now, b"service 3");
        let opened = fire
            .node
            .open_map(now, MAP, barrel_ormap::map::Config::default(), []);
        debug_assert!(opened.is_ok());
        fire.settle();
        fire.pass(Duration::from_secs(3));
        let put = fire.node.map_put(fire.now, MAP, b"key", b"other value");
        debug_assert!(put.is_ok());
        fire.settle();
        fire
    }

    fn connect(&mut self, side: usize) {
        let peer = [Peer::A, Peer::B][side];
        self.links[side] = Link(self.next);
        self.next += 1;
        self.node
            .handle_link_up(self.now, peer.id(), self.links[side], None);
        let record = record_of(peer).bytes().clone();
        let greeting = Frame::Greeting(Greeting {
            versions: wire::VERSIONS,
            features: 0,
            record,
        });
        self.node
            .handle_message(self.now, self.links[side], wire::encode(&greeting));
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall_ms += u64::try_from(time.as_millis()).unwrap_or(0);
        self.node.handle_timeout(self.now);
    }

    /// Does what the node asks for; nobody but the two is there.
    fn settle(&mut self) {
        let mut sent = 0;
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Dial {
                    contact: Contact::Peer(peer),
                    ..
                } => {
                    match [Peer::A, Peer::B]
                        .iter()
                        .position(|known| known.id() == peer)
                    {
                        Some(side) => self.connect(side),
                        None => self.node.handle_dial_failed(self.now, Contact::Peer(peer)),
                    }
                }
                Output::Dial { contact, .. } => self.node.handle_dial_failed(self.now, contact),
                Output::Ready(link) => {
                    while let Some(frame) = self.node.poll_send(link) {
                        assert!(frame.len() <= wire::MAX_FRAME);
                        sent += 1;
                        assert!(sent <= MOST_FRAMES, "a node that does not stop talking");
                    }
                }
                Output::Close { link, .. } => {
                    if let Some(side) = self.links.iter().position(|known| *known == link) {
                        self.links[side] = NONE;
                    }
                }
                Output::Persist { token, .. } => self.node.handle_persisted(token),
                Output::Event(_) => {}
            }
        }
    }

    fn check(&self) {
        let (held, limit) = (self.node.held(), self.node.limit(2));
        assert_eq!(held.exceeds(&limit), None, "{held:?}");
        assert_eq!(self.node.overlay.check(), Ok(()));
        assert_eq!(self.node.tree.check(), Ok(()));
        self.node.members.check();
        self.node.stores.registry.check();
        if let Some(directory) = &self.node.stores.directory {
            directory.check();
        }
        for map in self.node.stores.maps.values() {
            map.check();
        }
        assert_eq!(self.node.stores.cache.check(), Ok(()));
    }
}

impl Peer {
    fn key(self) -> PublicKey {
        let mut key = [self as u8; 32];
        // in different buckets
        key[0] = (self as u8).wrapping_mul(37);
        key
    }

    pub(super) fn id(self) -> NodeId {
        ZeroKeys.id(&self.key())
    }

    fn name(self) -> &'static str {
        ["me@host", "a@host", "b@host", "stranger@host"][self as usize - 1]
    }
}

pub(super) fn record_of(peer: Peer) -> Record {
    let claims = Claims {
        key: peer.key(),
        name: peer.name().into(),
        addresses: vec![Bytes::from_static(b"10.1.2.3:4369")],
        incarnation: 1,
        seq: 1,
        ttl: Duration::from_secs(3600),
        versions: wire::VERSIONS,
    };
    Record::sign(claims, &ZeroKeys)
}

/// Signs with zeroes.
struct ZeroKeys;

impl Keys for ZeroKeys {
    fn sign(&self, _bytes: &[u8]) -> Signature {
        [0; 64]
    }

    fn verify(&self, _key: &PublicKey, _bytes: &[u8], signature: &Signature) -> bool {
        *signature == [0; 64]
    }

    fn id(&self, key: &PublicKey) -> NodeId {
        let mut id = [0; 16];
        id.copy_from_slice(&key[..16]);
        barrel_ormap::OriginKey(id)
    }

    fn standing(&self, name: &str, _key: &PublicKey) -> Standing {
        match name.as_bytes().first() {
            Some(b'?') => Standing::Refused,
            Some(b'!') => Standing::Placed,
            _ => Standing::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_node_has_two_neighbours_and_something_to_lose() {
        let fire = Fire::new();
        assert_eq!(fire.node.overlay().active().count(), 2);
        assert_eq!(fire.node.registry().entries(Peer::Me.id()).count(), 8);
        assert!(
            fire.node
                .map(MAP)
                .is_some_and(|map| map.get(b"key").is_some())
        );
    }

    #[test]
    fn the_samples_are_understood_by_their_decoders() {
        let samples = samples();
        for frame in &samples.frames {
            assert_eq!(super::super::frame(frame).as_ref(), Some(frame));
        }
        let all = |decode: fn(&[u8]) -> Option<Vec<u8>>, samples: &[Vec<u8>]| {
            samples
                .iter()
                .all(|sample| decode(sample).as_ref() == Some(sample))
        };
        assert!(all(super::super::record, &samples.records));
        assert!(all(super::super::log_piece, &samples.log_pieces));
        assert!(all(super::super::map_piece, &samples.map_pieces));
        assert!(all(super::super::claim, &samples.claims));
        for (key, value) in samples.kept {
            assert_eq!(super::super::kept(&key, &value), Some((key, value)));
        }
    }

    #[test]
    fn everything_there_is_to_say_is_survived_alone_and_together() {
        let frames = samples().frames;
        for frame in &frames {
            Fire::new().feed(&Fire::words(std::slice::from_ref(frame)));
        }
        let mut together = Fire::words(&frames);
        together.extend([2, 0x20, 0]);
        together.extend(Fire::words(&frames));
        Fire::new().feed(&together);
    }
}
