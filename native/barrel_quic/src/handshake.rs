//! The exchange of hellos over a fresh QUIC connection.
//!
//! ```text
//! dialler                         acceptor
//!    │── stream 0: length, hello ──►│  grammar, key, signature, secret, trust,
//!    │                              │  place in the link table: in this order
//!    │◄── length, hello ────────────│  and only then an answer
//!    │  the same checks             │
//! ```
//!
//! The stream stays open as the control stream of the link. Until both hellos
//! are accepted nothing else of the connection is looked at.

use std::fmt;

use quinn::{Connection, SendStream};

use crate::hello::{
    Context, EXPORTER_SIZE, Hello, MAX_HELLO, Proven, Reject, Role, Secret, SignedHello, Verified,
};
use crate::identity::PublicKey;
use crate::link::end_of;
use crate::links::Refusal;
use crate::name::{NodeName, PeerName};
use crate::seam::{Code, LinkEnd, StreamEnd};
use crate::stream::Source;
use crate::tls;
use crate::trust::Distrust;

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The hello is not acceptable. Name and key are as claimed.
    Rejected(Reject, Option<(PeerName, PublicKey)>),
    /// The key is not trusted under that name.
    Distrusted(Box<Distrust>, PeerName, PublicKey),
    /// A live link forbids this one.
    Table(Refusal, PeerName, PublicKey),
    /// This node has no secret for that name, or could not be asked.
    NoSecret(PeerName),
    /// The peer closed the connection, or it broke.
    Ended(LinkEnd),
    /// The peer ended the stream or sent too much.
    Grammar(&'static str),
}

impl Failure {
    /// What the peer is told.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Rejected(Reject::Version { .. }, _) => Code::Version,
            // The one rejection of a peer that has proven the secret.
            Self::Rejected(Reject::NotDialled, _) => Code::WrongName,
            Self::Rejected(..) | Self::NoSecret(_) | Self::Grammar(_) => Code::Refused,
            Self::Distrusted(distrust, ..) => match **distrust {
                Distrust::Changed { .. } => Code::ChangedKey,
                Distrust::Unknown => Code::UnknownKey,
                Distrust::PinnedElsewhere(_) => Code::Conflict,
                Distrust::TooManyPins { .. } | Distrust::Storage(_) => Code::TrustStore,
            },
            Self::Table(Refusal::Stale { .. }, ..) => Code::Stale,
            Self::Table(..) => Code::Conflict,
            Self::Ended(_) => Code::Protocol,
        }
    }
}

impl fmt::Display for Failure {
    /// The cause, then the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(reject, ..) => write!(f, "{reject}"),
            Self::Distrusted(distrust, ..) => write!(f, "{distrust}"),
            Self::Table(Refusal::Stale { known }, ..) => write!(
                f,
                "a newer incarnation ({known}) of this node is connected; stop the older process, or restore its \
                 node.incarnation file"
            ),
            Self::Table(Refusal::NameHeld { by }, ..) => write!(
                f,
                "its name is held by a live node with key {}; rename one of the two nodes",
                by.fingerprint()
            ),
            Self::Table(Refusal::KeyHeld { by }, ..) => {
                write!(
                    f,
                    "its key is in use by the live node {by}; give each node a key directory of its own"
                )
            }
            Self::NoSecret(_) => f.write_str(
                "this node has no secret for that name; set a cookie, or cluster_secret",
            ),
            Self::Ended(LinkEnd::PeerClosed(code)) => write!(f, "{code}; {}", told(*code)),
            Self::Ended(end) => write!(f, "{end}; see the log of the peer"),
            Self::Grammar(what) => write!(f, "{what}; check what listens on that port"),
        }
    }
}

/// What a refused node can do, by the code that the peer gave.
fn told(code: Code) -> &'static str {
    match code {
        Code::Refused => {
            "give both nodes the same cookie (or cluster_secret), and check that the address is that of the dialled \
             node; the log of the peer names the cause"
        }
        Code::Version => "one of the two runs another barrel_p2p: update it",
        Code::ChangedKey => {
            "the peer has another key pinned for this node: delete it there, or restore the old key here"
        }
        Code::UnknownKey => "the peer is strict: place the public key of this node there",
        Code::Conflict => "another live node uses this name or this key: give each its own",
        Code::Stale => "the peer knows a newer process of this node: is it started twice?",
        Code::WrongName => "this is not the node that the peer dialled: check its discovery entry",
        Code::TrustStore => "the peer cannot write its trust store, or it is full",
        _ => "see the log of the peer",
    }
}

/// What a handshake needs to know of this side.
pub(crate) struct Own<'a> {
    pub(crate) identity: &'a crate::identity::Identity,
    pub(crate) name: &'a PeerName,
    pub(crate) incarnation: u64,
    pub(crate) features: u64,
}

impl Own<'_> {
    /// This side's hello for a connection.
    pub(crate) fn seal(
        &self,
        role: Role,
        exporter: [u8; EXPORTER_SIZE],
        expected: Option<&NodeName>,
        secret: &Secret,
    ) -> Vec<u8> {
        let hello = Hello {
            features: self.features,
            role,
            exporter,
            incarnation: self.incarnation,
            name: self.name.clone(),
            expected: expected.cloned(),
        };
        hello.seal(self.identity, secret)
    }

    /// Decodes and verifies the peer's hello, up to its signature.
    pub(crate) fn verify(
        &self,
        bytes: &[u8],
        expected_role: Role,
        exporter: &[u8; EXPORTER_SIZE],
    ) -> Result<Verified, Failure> {
        let claim = SignedHello::decode(bytes).map_err(|reject| Failure::Rejected(reject, None))?;
        let (name, key) = claim.unproven();
        let claimed = (name.clone(), *key);
        let own_key = self.identity.public();
        let context = Context {
            expected_role,
            exporter,
            own_key: &own_key,
            own_name: self.name,
        };
        claim
            .verify(&context)
            .map_err(|reject| Failure::Rejected(reject, Some(claimed)))
    }
}

/// Checks that the sender of a verified hello holds the secret.
pub(crate) fn prove(verified: Verified, secret: &Secret) -> Result<Proven, Failure> {
    let claimed = (verified.name().clone(), *verified.key());
    verified
        .prove(secret)
        .map_err(|reject| Failure::Rejected(reject, Some(claimed)))
}

/// The keying material that binds a hello to this very connection.
pub(crate) fn exporter(conn: &Connection) -> Result<[u8; EXPORTER_SIZE], Failure> {
    tls::exporter(conn).map_err(|_| Failure::Grammar("TLS gave no keying material"))
}

/// Writes one hello.
pub(crate) async fn write_hello(send: &mut SendStream, hello: &[u8]) -> Result<(), Failure> {
    let mut message = Vec::with_capacity(2 + hello.len());
    message.extend_from_slice(&(hello.len() as u16).to_be_bytes());
    message.extend_from_slice(hello);
    send.write_all(&message).await.map_err(|error| match error {
        quinn::WriteError::ConnectionLost(error) => Failure::Ended(end_of(&error)),
        _ => Failure::Grammar("the peer stopped the hello stream"),
    })
}

/// Reads one hello.
pub(crate) async fn read_hello(recv: &mut impl Source) -> Result<Vec<u8>, Failure> {
    let mut len = [0; 2];
    read(recv, &mut len).await?;
    let len = usize::from(u16::from_be_bytes(len));
    if len > MAX_HELLO {
        return Err(Failure::Grammar("the hello is too long"));
    }
    let mut hello = vec![0; len];
    read(recv, &mut hello).await?;
    Ok(hello)
}

async fn read(recv: &mut impl Source, target: &mut [u8]) -> Result<(), Failure> {
    recv.fill(target).await.map_err(|end| match end {
        StreamEnd::Link(end) => Failure::Ended(end),
        _ => Failure::Grammar("the peer ended the hello stream"),
    })
}
