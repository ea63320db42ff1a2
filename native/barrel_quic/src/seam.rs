//! The seam between the transport and everything above it. No QUIC type crosses it.
//!
//! ```text
//!            above (barrel_nif, later the gossip driver)
//!   ─────────────────────────────────────────────────────────────
//!   down     Endpoint:  start  open(peer, tag)  links  shutdown
//!            Stream:    poke  resume  finish  reset
//!   up       Upper:     secret  incoming  up  down  failed
//!            StreamEvents: want  data  flush  write  closed
//!   ─────────────────────────────────────────────────────────────
//!            below (endpoint, link, stream: quinn)
//! ```
//!
//! Data is pulled in both directions. Downwards the layer above *pokes* a
//! stream; the transport asks it to fill an [`Offer`] when there is room.
//! Upwards the transport asks how much is *wanted* before it reads, so unread
//! bytes stay in the flow-control window and the peer stops. Nobody else
//! invents back-pressure.
//!
//! Per link the order of events is `up`, then anything, then `down` exactly
//! once; per stream `closed` comes exactly once and last.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::identity::PublicKey;
use crate::name::{NodeName, PeerName};
use crate::stream::Stream;

/// Names one link for as long as the process lives: a slot that is used again
/// has another generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId {
    /// Slot in the link table.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// Who is at the other end, as proven by the hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Node name of a member, host part of a client.
    pub name: PeerName,
    /// The Ed25519 key that signed this session.
    pub key: PublicKey,
    /// Grows with every start of the peer.
    pub incarnation: u64,
    /// Where the peer's datagrams came from when the link went up.
    pub address: SocketAddr,
    /// This side dialled.
    pub dialled: bool,
    /// Feature bits both sides have.
    pub features: u64,
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// The peer shut down and said so.
    PeerShutdown,
    /// The peer closed the link with this code.
    PeerClosed(Code),
    /// Nothing was heard from the peer for the idle timeout.
    Timeout,
    /// The peer has no memory of the link: it was started anew.
    Reset,
    /// This side closed it with this code.
    Local(Code),
    /// QUIC or the operating system gave up.
    Transport(String),
    /// A task that served the link panicked; the message is in the log.
    Panicked,
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerShutdown => f.write_str("the peer shut down"),
            Self::PeerClosed(code) => write!(f, "closed by the peer: {code}"),
            Self::Timeout => f.write_str("nothing heard for the idle timeout"),
            Self::Reset => f.write_str("the peer was restarted"),
            Self::Local(code) => write!(f, "closed here: {code}"),
            Self::Transport(cause) => write!(f, "transport error: {cause}"),
            Self::Panicked => f.write_str("a task of the link panicked"),
        }
    }
}

/// Application error codes of CONNECTION_CLOSE.
///
/// Before the peer has proven the cluster secret only [`Code::Shutdown`],
/// [`Code::Refused`] and [`Code::Version`] are sent, so that a scanner learns
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The node or its endpoint stops.
    Shutdown,
    /// Both sides agreed that nothing needs this link any more.
    Drained,
    /// A newer incarnation of the peer, or this node's own end, took its place.
    Superseded,
    /// The hello was not acceptable; no reason is given to strangers.
    Refused,
    /// The hello has a version this side does not speak.
    Version,
    /// The name is pinned to another key.
    ChangedKey,
    /// Strict trust, and this key was not placed.
    UnknownKey,
    /// The key is in use under another name, or the name by another key.
    Conflict,
    /// A newer incarnation of this peer is known.
    Stale,
    /// The dialled name is not the name of this node.
    WrongName,
    /// The trust store is full or cannot be written.
    TrustStore,
    /// A task panicked.
    Internal,
    /// The peer broke the protocol above QUIC.
    Protocol,
    /// The port of the peer was said to be closed, and nobody answered there.
    Unanswered,
    /// A code this version does not know.
    Other(u64),
}

const CODES: &[(u64, Code, &str)] = &[
    (0, Code::Shutdown, "shutdown"),
    (1, Code::Drained, "drained"),
    (2, Code::Superseded, "superseded"),
    (3, Code::Refused, "refused"),
    (4, Code::Version, "version"),
    (5, Code::ChangedKey, "changed_key"),
    (6, Code::UnknownKey, "unknown_key"),
    (7, Code::Conflict, "conflict"),
    (8, Code::Stale, "stale"),
    (9, Code::WrongName, "wrong_name"),
    (10, Code::TrustStore, "trust_store"),
    (11, Code::Internal, "internal"),
    (12, Code::Protocol, "protocol"),
    (13, Code::Unanswered, "unanswered"),
];

impl Code {
    /// The number on the wire.
    pub fn to_wire(self) -> u64 {
        match self {
            Self::Other(n) => n,
            known => CODES
                .iter()
                .find(|row| row.1 == known)
                .map_or(0, |row| row.0),
        }
    }

    /// The meaning of a number from the wire.
    pub fn from_wire(n: u64) -> Self {
        CODES
            .iter()
            .find(|row| row.0 == n)
            .map_or(Self::Other(n), |row| row.1)
    }

    /// A short name, an atom in Erlang.
    pub fn as_str(self) -> &'static str {
        CODES
            .iter()
            .find(|row| row.1 == self)
            .map_or("unknown", |row| row.2)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(n) => write!(f, "code {n}"),
            known => f.write_str(known.as_str()),
        }
    }
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer finished its side; everything it sent was delivered.
    Finished,
    /// The peer reset the stream.
    Reset(u64),
    /// This side closed the stream.
    Local,
    /// The link below ended.
    Link(LinkEnd),
    /// The peer broke the framing of the stream; the text says how.
    Protocol(&'static str),
    /// A task that served the stream panicked.
    Panicked,
}

/// Why a stream could not be opened. The state of this side did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// No address to dial.
    NoAddress,
    /// The secret given is empty.
    NoSecret,
    /// No answer from any address in time.
    Unreachable(Vec<SocketAddr>),
    /// The host answers that nobody listens on that port.
    ClosedPort(SocketAddr),
    /// The peer answered and then closed: with the code it gave.
    RefusedByPeer(Code),
    /// This side refused the peer: with the code that was sent.
    RefusedHere(Code),
    /// The link ended before the peer accepted the stream.
    Link(LinkEnd),
    /// The peer has nobody for this tag.
    NoAcceptor,
    /// The time allowed for the whole is over.
    Timeout,
    /// The peer does not speak our protocol, or TLS failed.
    Handshake(String),
    /// This endpoint is closing.
    Closed,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address is known"),
            Self::NoSecret => f.write_str("no cookie and no cluster_secret"),
            Self::Unreachable(tried) => write!(f, "no answer from {tried:?}"),
            Self::ClosedPort(address) => write!(f, "nobody listens at {address}"),
            Self::RefusedByPeer(code) => write!(f, "the peer refused: {code}"),
            Self::RefusedHere(code) => write!(f, "the peer was refused here: {code}"),
            Self::Link(end) => write!(f, "the link ended: {end}"),
            Self::NoAcceptor => f.write_str("the peer accepts no such stream now"),
            Self::Timeout => f.write_str("timeout"),
            Self::Handshake(cause) => write!(f, "handshake failed: {cause}"),
            Self::Closed => f.write_str("the endpoint is closed"),
        }
    }
}

/// A request to open a tagged stream to a member.
pub struct OpenRequest {
    /// The member to reach; a peer that proves another name is refused.
    pub name: NodeName,
    /// Where to look for it when no link exists, tried side by side.
    pub addresses: Vec<SocketAddr>,
    /// The cluster secret this node shares with that member.
    pub secret: Vec<u8>,
    /// What the stream is for: 1 to 255 bytes.
    pub tag: &'static [u8],
    /// Bound on the whole.
    pub timeout: Duration,
    /// The layer above, which will serve the stream.
    pub events: Arc<dyn StreamEvents>,
}

/// Room that the transport offers to a stream that was poked.
#[derive(Debug)]
pub struct Offer {
    room: usize,
    chunks: Vec<Bytes>,
}

impl Offer {
    /// An offer of `room` bytes; the last chunk may exceed it.
    pub fn new(room: usize) -> Self {
        Self {
            room,
            chunks: Vec::new(),
        }
    }

    /// Bytes that may still be put.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Adds the next bytes of the stream.
    pub fn put(&mut self, chunk: Bytes) {
        self.room = self.room.saturating_sub(chunk.len());
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// What was put, in order.
    pub fn chunks_mut(&mut self) -> &mut [Bytes] {
        &mut self.chunks
    }

    /// Nothing was put.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// What the layer above does for one stream. Called on the I/O thread: no call
/// may block or take longer than some microseconds.
pub trait StreamEvents: Send + Sync + 'static {
    /// How many bytes may be delivered now; 0 stops reading until
    /// [`Stream::resume`]. Some chunks more may still come.
    fn want(&self) -> usize;
    /// The next bytes, in order.
    fn data(&self, bytes: Bytes);
    /// The end of a burst of [`data`](Self::data): time to tell somebody.
    fn flush(&self);
    /// Fill the offer with the next bytes to send; leave it empty for none.
    /// What an earlier offer took has been accepted by the transport.
    fn write(&self, offer: &mut Offer);
    /// The stream has ended. Exactly once, and last.
    fn closed(&self, end: StreamEnd);
}

/// One question for the cluster secret; answered by dropping or sending.
pub struct SecretRequest {
    /// Who claims to be there. The signature of the claim was already checked.
    pub name: PeerName,
    /// Takes the secret.
    pub answer: SecretAnswer,
}

/// Takes the answer to a [`SecretRequest`], once.
pub type SecretAnswer = tokio::sync::oneshot::Sender<Vec<u8>>;

/// What the layer above does for the endpoint as a whole. Called on the I/O
/// thread under the rules of [`StreamEvents`].
pub trait Upper: Send + Sync + 'static {
    /// A peer's hello needs the secret shared with that name.
    fn secret(&self, request: SecretRequest);
    /// A peer opens a stream; `None` refuses it.
    fn incoming(&self, peer: &Peer, tag: &[u8], stream: Stream) -> Option<Arc<dyn StreamEvents>>;
    /// A link to this peer is up.
    fn up(&self, link: LinkId, peer: &Peer);
    /// The link has ended. Exactly once per `up`.
    fn down(&self, link: LinkId, peer: &Peer, end: &LinkEnd);
    /// The endpoint itself failed; nothing more will come.
    fn failed(&self, reason: &str);
}

/// Figures of one link, from the transport's own accounting.
#[derive(Clone, Debug)]
pub struct LinkStats {
    /// The peer.
    pub peer: Peer,
    /// Where the peer is now (a path may migrate).
    pub remote: SocketAddr,
    /// Streams open now, either side's.
    pub streams: usize,
    /// No new streams: the link is being given up.
    pub draining: bool,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Datagram size in use, bytes.
    pub mtu: u16,
    /// Congestion window, bytes.
    pub cwnd: u64,
    /// UDP bytes sent.
    pub sent_bytes: u64,
    /// UDP bytes received.
    pub received_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Times that the peer was asked because its port was said to be closed.
    pub doubts: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for (n, code, _) in CODES {
            assert_eq!(code.to_wire(), *n);
            assert_eq!(Code::from_wire(*n), *code);
        }
        assert_eq!(Code::from_wire(77), Code::Other(77));
        assert_eq!(Code::Other(77).to_wire(), 77);
    }

    #[test]
    fn an_offer_counts_its_room_and_skips_empty_chunks() {
        let mut offer = Offer::new(3);
        offer.put(Bytes::new());
        assert!(offer.is_empty());
        offer.put(Bytes::from_static(b"abcd"));
        assert_eq!(offer.room(), 0);
        assert_eq!(offer.chunks_mut().len(), 1);
    }
}
