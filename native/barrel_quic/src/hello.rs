//! The authenticated hello: who is at the other end of this connection.
//!
//! After the TLS 1.3 handshake both sides send one hello on the first stream.
//! The dialler speaks first; the acceptor answers only when it believes what
//! it heard. A hello carries two proofs about *this* connection, named by its
//! TLS exporter (RFC 8446 section 7.5), a value that only the two ends of one
//! TLS session can compute:
//!
//! - a signature: the sender holds the secret half of the key it shows;
//! - a MAC under the cluster secret: the sender belongs to the cluster.
//!
//! Both cover the role, so that a hello cannot be sent back to its maker, and
//! the exporter, so that it cannot be replayed or relayed. The dialler signs
//! the name it dialled, so that an acceptor cannot pass it on to another node.
//!
//! What is checked comes in a fixed order, and the types allow no other:
//!
//! ```text
//! SignedHello::decode(bytes)  grammar             -> Claim
//! Claim::verify(context)      key and signature   -> Verified
//! Verified::prove(secret)     cluster secret      -> Proven
//! ```
//!
//! The secret may depend on the name, so [`Verified`] shows it. What follows,
//! trust, is the business of the module `trust`.
//!
//! No socket and no clock here; building and checking are pure functions.

use std::fmt;

use ring::hmac;
use zeroize::Zeroizing;

use crate::identity::{self, BadKey, BadSignature, Identity, KEY_SIZE, PublicKey, SIGNATURE_SIZE};
use crate::name::{MAX_NAME, NameError, NodeName, PeerName};

/// First bytes of every hello: keeps its signatures apart from any other use
/// of the key.
const LABEL: &[u8; 16] = b"barrel_p2p hello";

/// First bytes under the MAC.
const PROOF_LABEL: &[u8; 16] = b"barrel_p2p proof";

/// The version that this code speaks.
pub const VERSION: u8 = 1;

/// Length of the TLS exporter in a hello.
pub const EXPORTER_SIZE: usize = 32;

/// Length of the proof in a hello.
pub const PROOF_SIZE: usize = 32;

/// Longest hello in bytes. A reader takes no more than this before it decodes.
pub const MAX_HELLO: usize = FIXED_SIZE + MAX_NAME + MAX_NAME + SIGNATURE_SIZE + PROOF_SIZE;

/// Everything before the signature except the two names.
const FIXED_SIZE: usize = LABEL.len() + 1 + 8 + 1 + EXPORTER_SIZE + KEY_SIZE + 8 + 1 + 1 + 1;

/// Which end of the connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that opened the connection.
    Dialler,
    /// The end that was dialled.
    Acceptor,
}

/// The cluster secret for one peer: never empty, wiped when dropped, never
/// printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// What this node says of itself on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What this node can do; the two ends use what both can.
    pub features: u64,
    /// Our end of the connection.
    pub role: Role,
    /// The TLS exporter of the connection.
    pub exporter: [u8; EXPORTER_SIZE],
    /// Which life of this node this is.
    pub incarnation: u64,
    /// Our name.
    pub name: PeerName,
    /// The node that was dialled; `None` for an acceptor, or when only an
    /// address is known.
    pub expected: Option<NodeName>,
}

/// What the receiver of a hello knows itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The role of the sender: the other one than ours.
    pub expected_role: Role,
    /// The TLS exporter of the connection.
    pub exporter: &'a [u8; EXPORTER_SIZE],
    /// Our key.
    pub own_key: &'a PublicKey,
    /// Our name.
    pub own_name: &'a PeerName,
}

/// The decoder of hellos.
#[derive(Clone, Copy, Debug)]
pub struct SignedHello;

/// A well-formed hello of which nothing is proven.
#[derive(Clone, Debug)]
pub struct Claim {
    hello: Hello,
    key: PublicKey,
    /// Everything before the proof.
    signed: Vec<u8>,
    signature: [u8; SIGNATURE_SIZE],
    proof: [u8; PROOF_SIZE],
}

/// A hello whose sender holds its key, and means this connection and us.
#[derive(Clone, Debug)]
pub struct Verified(Claim);

/// A hello whose sender also holds the cluster secret. Made by
/// [`Verified::prove`] alone.
#[derive(Clone, Debug)]
pub struct Proven(Claim);

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// It does not begin as a hello does.
    NotAHello,
    /// It is of a version that this node does not speak.
    Version {
        /// The version it is of.
        theirs: u8,
    },
    /// It ends before it is complete.
    Truncated,
    /// Something follows its end.
    Trailing,
    /// A field holds a value that it cannot have; its name is given.
    Field(&'static str),
    /// The sender's name breaks a rule.
    Name(NameError),
    /// The expected name breaks a rule.
    Expected(NameError),
    /// The sender speaks for the wrong end of the connection.
    Role,
    /// It was made for another connection.
    Exporter,
    /// The sender shows our own key.
    OwnKey,
    /// The sender's key is none.
    BadKey(BadKey),
    /// The signature was not made by the sender's key.
    Signature,
    /// The sender claims our own name.
    OwnName,
    /// The sender dialled another node than this one.
    NotMe,
    /// The sender does not hold our cluster secret.
    Secret,
    /// The node that answered is not the one that was dialled.
    NotDialled,
}

impl Secret {
    /// A secret, unless it is empty: that would prove nothing.
    pub fn new(secret: impl Into<Vec<u8>>) -> Option<Self> {
        let secret = Zeroizing::new(secret.into());
        if secret.is_empty() {
            None
        } else {
            Some(Self(secret))
        }
    }

    fn mac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

// The layout of version 1. Integers are big-endian, no field is optional.
//
//  offset  bytes  field
//       0     16  label "barrel_p2p hello"
//      16      1  version, 1
//      17      8  features
//      25      1  role: 1 dialler, 2 acceptor
//      26     32  TLS exporter
//      58     32  own public key
//      90      8  incarnation
//      98      1  client: 0 or 1
//      99      1  N, length of the own name
//     100      N  own name: node name, of a client its host
//       .      1  E, length of the expected name, 0 = none
//       .      E  expected name
//       .     64  Ed25519 signature by the own key over all of the above
//       .     32  proof: HMAC-SHA-256(secret, "barrel_p2p proof" ++ role
//                 ++ exporter ++ all of the above)
//
// Label and version come first in every version that there will be.

impl Hello {
    /// The bytes to send: signed by `identity`, proven with `secret`.
    pub fn seal(&self, identity: &Identity, secret: &Secret) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_HELLO);
        bytes.extend_from_slice(LABEL);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.features.to_be_bytes());
        bytes.push(self.role.to_byte());
        bytes.extend_from_slice(&self.exporter);
        bytes.extend_from_slice(&identity.public().0);
        bytes.extend_from_slice(&self.incarnation.to_be_bytes());
        bytes.push(u8::from(self.name.is_client()));
        push_name(&mut bytes, self.name.as_str());
        push_name(
            &mut bytes,
            self.expected.as_ref().map_or("", NodeName::as_str),
        );
        let signature = identity.sign(&bytes);
        bytes.extend_from_slice(&signature);
        bytes.extend_from_slice(&proof(secret, self.role, &self.exporter, &bytes));
        debug_assert!(bytes.len() <= MAX_HELLO);
        bytes
    }
}

impl SignedHello {
    /// The grammar: takes any bytes and never panics.
    pub fn decode(bytes: &[u8]) -> Result<Claim, Reject> {
        let mut reader = Reader(bytes);
        if reader.array()? != *LABEL {
            return Err(Reject::NotAHello);
        }
        let theirs = reader.byte()?;
        if theirs != VERSION {
            return Err(Reject::Version { theirs });
        }
        let features = u64::from_be_bytes(reader.array()?);
        let role = Role::from_byte(reader.byte()?).ok_or(Reject::Field("role"))?;
        let exporter = reader.array()?;
        let key = PublicKey(reader.array()?);
        let incarnation = u64::from_be_bytes(reader.array()?);
        let client = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Reject::Field("client")),
        };
        let name = PeerName::parse(client, reader.name()?).map_err(Reject::Name)?;
        let expected = match reader.name()? {
            [] => None,
            _ if role == Role::Acceptor => return Err(Reject::Field("expected")),
            expected => Some(NodeName::parse(expected).map_err(Reject::Expected)?),
        };
        let signature = reader.array()?;
        let signed = bytes[..bytes.len() - reader.0.len()].to_vec();
        let proof = reader.array()?;
        if !reader.0.is_empty() {
            return Err(Reject::Trailing);
        }
        let hello = Hello {
            features,
            role,
            exporter,
            incarnation,
            name,
            expected,
        };
        Ok(Claim {
            hello,
            key,
            signed,
            signature,
            proof,
        })
    }
}

impl Claim {
    /// Key and signature: the sender is the other end of this very connection
    /// and holds its key, and means us if it means anybody.
    pub fn verify(self, context: &Context<'_>) -> Result<Verified, Reject> {
        let Hello {
            role,
            exporter,
            name,
            expected,
            ..
        } = &self.hello;
        if *role != context.expected_role {
            return Err(Reject::Role);
        }
        if exporter != context.exporter {
            return Err(Reject::Exporter);
        }
        if self.key == *context.own_key {
            return Err(Reject::OwnKey);
        }
        let unsigned = &self.signed[..self.signed.len() - SIGNATURE_SIZE];
        identity::verify(&self.key, unsigned, &self.signature).map_err(|bad| match bad {
            BadSignature::Key(bad) => Reject::BadKey(bad),
            BadSignature::Wrong => Reject::Signature,
        })?;
        if name.member().is_some() && name == context.own_name {
            return Err(Reject::OwnName);
        }
        if expected.is_some() && expected.as_ref() != context.own_name.member() {
            return Err(Reject::NotMe);
        }
        Ok(Verified(self))
    }

    /// Name and key for a log; anybody can claim them.
    pub fn unproven(&self) -> (&PeerName, &PublicKey) {
        (&self.hello.name, &self.key)
    }
}

impl Verified {
    /// The secret, compared in constant time.
    pub fn prove(self, secret: &Secret) -> Result<Proven, Reject> {
        let Claim {
            hello,
            signed,
            proof,
            ..
        } = &self.0;
        let input = proof_input(hello.role, &hello.exporter, signed).concat();
        match hmac::verify(&secret.mac_key(), &input, proof) {
            Ok(()) => Ok(Proven(self.0)),
            Err(_) => Err(Reject::Secret),
        }
    }

    /// For a dialler: the answer comes from the node that was dialled.
    pub fn check_dialled(&self, dialled: &NodeName) -> Result<(), Reject> {
        check_dialled(&self.0, dialled)
    }

    /// The sender's name: its key signed it, the cluster has not yet vouched.
    pub fn name(&self) -> &PeerName {
        &self.0.hello.name
    }

    /// The sender's key.
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }
}

impl Proven {
    /// For a dialler: the answer comes from the node that was dialled.
    pub fn check_dialled(&self, dialled: &NodeName) -> Result<(), Reject> {
        check_dialled(&self.0, dialled)
    }

    /// The sender's name.
    pub fn name(&self) -> &PeerName {
        &self.0.hello.name
    }

    /// The sender's key.
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// What the sender can do.
    pub fn features(&self) -> u64 {
        self.0.hello.features
    }

    /// Which life of the sender this is.
    pub fn incarnation(&self) -> u64 {
        self.0.hello.incarnation
    }

    /// Everything the sender said.
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }
}

impl Role {
    /// The role of the other end.
    pub fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Dialler => 1,
            Self::Acceptor => 2,
        }
    }

    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Dialler => &[1],
            Self::Acceptor => &[2],
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Dialler),
            2 => Some(Self::Acceptor),
            _ => None,
        }
    }
}

fn check_dialled(claim: &Claim, dialled: &NodeName) -> Result<(), Reject> {
    if claim.hello.name.member() == Some(dialled) {
        Ok(())
    } else {
        Err(Reject::NotDialled)
    }
}

/// The MAC that says: whoever signed this holds the secret.
pub(crate) fn proof(
    secret: &Secret,
    role: Role,
    exporter: &[u8; EXPORTER_SIZE],
    signed: &[u8],
) -> [u8; PROOF_SIZE] {
    let mut mac = hmac::Context::with_key(&secret.mac_key());
    for part in proof_input(role, exporter, signed) {
        mac.update(part);
    }
    let mut proof = [0; PROOF_SIZE];
    proof.copy_from_slice(mac.sign().as_ref());
    proof
}

fn proof_input<'a>(
    role: Role,
    exporter: &'a [u8; EXPORTER_SIZE],
    signed: &'a [u8],
) -> [&'a [u8]; 4] {
    [PROOF_LABEL, role.bytes(), exporter, signed]
}

fn push_name(bytes: &mut Vec<u8>, name: &str) {
    let length = u8::try_from(name.len()).expect("a checked name has at most 255 bytes");
    bytes.push(length);
    bytes.extend_from_slice(name.as_bytes());
}

/// What is left of the bytes; every read checks the length.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Reject::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, Reject> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn name(&mut self) -> Result<&'a [u8], Reject> {
        let length = usize::from(self.byte()?);
        let (name, tail) = self.0.split_at_checked(length).ok_or(Reject::Truncated)?;
        self.0 = tail;
        Ok(name)
    }
}

impl Reject {
    /// A short name for the BEAM.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAHello => "not_a_hello",
            Self::Version { .. } => "version",
            Self::Truncated => "truncated_hello",
            Self::Trailing => "trailing_bytes",
            Self::Field(_) => "bad_field",
            Self::Name(_) => "bad_name",
            Self::Expected(_) => "bad_expected_name",
            Self::Role => "wrong_role",
            Self::Exporter => "wrong_connection",
            Self::OwnKey => "own_key",
            Self::BadKey(_) => "bad_key",
            Self::Signature => "bad_signature",
            Self::OwnName => "own_name",
            Self::NotMe => "not_me",
            Self::Secret => "wrong_secret",
            Self::NotDialled => "wrong_name",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAHello => f.write_str("the peer speaks another protocol; check the address and port"),
            Self::Version { theirs } => write!(
                f,
                "the peer speaks version {theirs} of the hello and this node version {VERSION}; run versions of \
                 barrel_p2p that can talk to each other"
            ),
            Self::Truncated => f.write_str("the hello ends too early; check what listens on that port"),
            Self::Trailing => f.write_str("bytes follow the hello; check what listens on that port"),
            Self::Field(field) => write!(f, "the field {field} of the hello is invalid; check the peer's version"),
            Self::Name(error) => write!(f, "the peer's name is refused: {error}; rename the peer"),
            Self::Expected(error) => write!(f, "the name that the peer dialled is refused: {error}; dial another one"),
            Self::Role => f.write_str("the peer speaks for our end of the connection; somebody may reflect messages"),
            Self::Exporter => {
                f.write_str("the hello belongs to another connection; somebody may replay or relay messages")
            }
            Self::OwnKey => f.write_str(
                "the peer shows our own key: the node dialled itself, or a key directory was copied; give each node a \
                 key directory of its own",
            ),
            Self::BadKey(bad) => write!(f, "{bad}; make a new identity for the peer"),
            Self::Signature => f.write_str("the signature is not by the key shown; the peer does not hold that key"),
            Self::OwnName => f.write_str("the peer claims our own node name; rename one of the two nodes"),
            Self::NotMe => f.write_str(
                "the peer dialled another node at our address; check where its discovery says that node listens",
            ),
            Self::Secret => f.write_str(
                "the peer does not hold our cluster secret; set the same cookie or cluster_secret on both nodes",
            ),
            Self::NotDialled => f.write_str(
                "another node answered than the one that was dialled; check where discovery says that node listens",
            ),
        }
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::weak_keys;
    use crate::name::HostName;
    use proptest::prelude::*;

    const EXPORTER: [u8; 32] = [0x5a; 32];

    fn identity(n: u8) -> Identity {
        Identity::from_seed(&[n; 32])
    }

    fn secret() -> Secret {
        Secret::new(*b"cluster secret").unwrap()
    }

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    /// Node a dials node b.
    fn dialling() -> Hello {
        Hello {
            features: 0x0102_0304_0506_0708,
            role: Role::Dialler,
            exporter: EXPORTER,
            incarnation: 42,
            name: node("a@h").into(),
            expected: Some(node("b@h")),
        }
    }

    fn sealed(hello: &Hello) -> Vec<u8> {
        hello.seal(&identity(1), &secret())
    }

    /// As node b, key 2, hears it on the connection `exporter`.
    fn heard(bytes: &[u8], exporter: &[u8; 32]) -> Result<Proven, Reject> {
        let (own_key, own_name) = (identity(2).public(), node("b@h").into());
        let context = Context {
            expected_role: Role::Dialler,
            exporter,
            own_key: &own_key,
            own_name: &own_name,
        };
        SignedHello::decode(bytes)?
            .verify(&context)?
            .prove(&secret())
    }

    #[test]
    fn a_hello_arrives_as_it_was_sealed() {
        let proven = heard(&sealed(&dialling()), &EXPORTER).unwrap();
        assert_eq!(*proven.hello(), dialling());
        assert_eq!(*proven.key(), identity(1).public());
        assert_eq!(
            (proven.incarnation(), proven.features()),
            (42, 0x0102_0304_0506_0708)
        );
        assert_eq!(*proven.name(), PeerName::from(node("a@h")));
    }

    #[test]
    fn the_layout_is_the_one_drawn() {
        let bytes = sealed(&dialling());
        assert_eq!(&bytes[..17], b"barrel_p2p hello\x01");
        assert_eq!(bytes[17..25], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((bytes[25], &bytes[26..58]), (1, EXPORTER.as_slice()));
        assert_eq!(bytes[58..90], identity(1).public().0);
        assert_eq!(
            (
                u64::from_be_bytes(bytes[90..98].try_into().unwrap()),
                bytes[98]
            ),
            (42, 0)
        );
        assert_eq!(&bytes[99..107], b"\x03a@h\x03b@h");
        assert_eq!(bytes.len(), 107 + 64 + 32);
    }

    #[test]
    fn the_longest_hello_has_the_length_promised() {
        let longest = node(&format!("a@{}", "h".repeat(253)));
        let hello = Hello {
            name: longest.clone().into(),
            expected: Some(longest),
            ..dialling()
        };
        let bytes = sealed(&hello);
        assert_eq!(bytes.len(), MAX_HELLO);
        assert_eq!(SignedHello::decode(&bytes).unwrap().hello, hello);
    }

    #[test]
    fn an_acceptor_answers_and_the_dialler_checks_the_name() {
        let answer = Hello {
            role: Role::Acceptor,
            name: node("b@h").into(),
            expected: None,
            ..dialling()
        };
        let bytes = answer.seal(&identity(2), &secret());
        let (own_key, own_name) = (identity(1).public(), node("a@h").into());
        let context = Context {
            expected_role: Role::Acceptor,
            exporter: &EXPORTER,
            own_key: &own_key,
            own_name: &own_name,
        };
        let verified = SignedHello::decode(&bytes)
            .unwrap()
            .verify(&context)
            .unwrap();
        assert_eq!(verified.check_dialled(&node("b@h")), Ok(()));
        assert_eq!(
            verified.check_dialled(&node("c@h")),
            Err(Reject::NotDialled)
        );
        assert_eq!(verified.name(), &PeerName::from(node("b@h")));
        let proven = verified.prove(&secret()).unwrap();
        assert_eq!(proven.check_dialled(&node("b@h")), Ok(()));
        assert_eq!(proven.check_dialled(&node("c@h")), Err(Reject::NotDialled));
    }

    #[test]
    fn a_client_claims_its_host_and_is_never_the_node_dialled() {
        let hello = Hello {
            name: HostName::parse("h").unwrap().into(),
            ..dialling()
        };
        let proven = heard(&sealed(&hello), &EXPORTER).unwrap();
        assert!(proven.name().is_client());
        assert_eq!(proven.check_dialled(&node("b@h")), Err(Reject::NotDialled));
    }

    #[test]
    fn a_dialler_that_knows_no_name_is_heard() {
        let hello = Hello {
            expected: None,
            ..dialling()
        };
        assert!(heard(&sealed(&hello), &EXPORTER).is_ok());
    }

    #[test]
    fn a_hello_replayed_or_relayed_to_another_connection_is_refused() {
        assert_eq!(
            heard(&sealed(&dialling()), &[0; 32]).err(),
            Some(Reject::Exporter)
        );
    }

    #[test]
    fn a_relay_that_writes_in_its_own_connection_breaks_the_signature() {
        let mut bytes = sealed(&dialling());
        bytes[26..58].copy_from_slice(&[0; 32]);
        assert_eq!(heard(&bytes, &[0; 32]).err(), Some(Reject::Signature));
    }

    #[test]
    fn a_hello_for_another_node_is_refused() {
        let hello = Hello {
            expected: Some(node("c@h")),
            ..dialling()
        };
        assert_eq!(heard(&sealed(&hello), &EXPORTER).err(), Some(Reject::NotMe));
    }

    #[test]
    fn a_node_that_is_only_a_client_is_no_node_that_was_dialled() {
        let (own_key, own_name) = (identity(2).public(), HostName::parse("h").unwrap().into());
        let context = Context {
            expected_role: Role::Dialler,
            exporter: &EXPORTER,
            own_key: &own_key,
            own_name: &own_name,
        };
        let claim = SignedHello::decode(&sealed(&dialling())).unwrap();
        assert_eq!(claim.verify(&context).err(), Some(Reject::NotMe));
    }

    #[test]
    fn a_reflected_hello_is_refused_by_its_role() {
        let bytes = dialling().seal(&identity(1), &secret());
        let (own_key, own_name) = (identity(1).public(), node("a@h").into());
        let context = Context {
            expected_role: Role::Acceptor,
            exporter: &EXPORTER,
            own_key: &own_key,
            own_name: &own_name,
        };
        assert_eq!(
            SignedHello::decode(&bytes).unwrap().verify(&context).err(),
            Some(Reject::Role)
        );
    }

    #[test]
    fn our_own_key_is_refused_in_either_role() {
        let bytes = dialling().seal(&identity(2), &secret());
        assert_eq!(heard(&bytes, &EXPORTER).err(), Some(Reject::OwnKey));
    }

    #[test]
    fn our_own_name_with_another_key_is_refused() {
        let hello = Hello {
            name: node("b@h").into(),
            ..dialling()
        };
        assert_eq!(
            heard(&sealed(&hello), &EXPORTER).err(),
            Some(Reject::OwnName)
        );
    }

    #[test]
    fn another_secret_is_refused() {
        let bytes = dialling().seal(&identity(1), &Secret::new(*b"another").unwrap());
        assert_eq!(heard(&bytes, &EXPORTER).err(), Some(Reject::Secret));
    }

    #[test]
    fn an_empty_secret_is_none_and_no_secret_is_printed() {
        assert!(Secret::new(Vec::new()).is_none());
        assert_eq!(format!("{:?}", secret()), "Secret(..)");
    }

    #[test]
    fn the_proof_does_not_count_under_another_signature() {
        // A member signs again with another key and keeps the proof.
        let ours = sealed(&dialling());
        let mut theirs = dialling().seal(&identity(3), &Secret::new(*b"guess").unwrap());
        let proof = theirs.len() - PROOF_SIZE;
        theirs[proof..].copy_from_slice(&ours[proof..]);
        assert_eq!(heard(&theirs, &EXPORTER).err(), Some(Reject::Secret));
    }

    #[test]
    fn weak_keys_are_refused_before_their_signature() {
        for weak in weak_keys() {
            let mut bytes = sealed(&dialling());
            bytes[58..90].copy_from_slice(&weak.0);
            // R = identity, S = 0: passes a check that is not strict.
            let signature = bytes.len() - PROOF_SIZE - SIGNATURE_SIZE;
            bytes[signature..signature + SIGNATURE_SIZE].fill(0);
            bytes[signature] = 1;
            assert_eq!(
                heard(&bytes, &EXPORTER).err(),
                Some(Reject::BadKey(BadKey::Weak)),
                "{weak:?}"
            );
        }
    }

    #[test]
    fn an_altered_byte_anywhere_is_refused() {
        let bytes = sealed(&dialling());
        for i in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[i] ^= 1 << (i % 8);
            let reject = heard(&altered, &EXPORTER).err();
            assert!(reject.is_some(), "byte {i}");
            if i >= bytes.len() - PROOF_SIZE {
                assert_eq!(reject, Some(Reject::Secret), "byte {i}");
            }
        }
    }

    #[test]
    fn a_shorter_or_longer_hello_is_refused() {
        let mut bytes = sealed(&dialling());
        for end in 0..bytes.len() {
            assert_eq!(
                SignedHello::decode(&bytes[..end]).err(),
                Some(Reject::Truncated),
                "{end}"
            );
        }
        bytes.push(0);
        assert_eq!(SignedHello::decode(&bytes).err(), Some(Reject::Trailing));
    }

    #[test]
    fn another_protocol_and_another_version_are_told_apart() {
        let mut bytes = sealed(&dialling());
        bytes[16] = 9;
        // Nothing after the version is looked at: its layout may be another.
        assert_eq!(
            SignedHello::decode(&bytes[..17]).err(),
            Some(Reject::Version { theirs: 9 })
        );
        bytes[0] = b'x';
        assert_eq!(SignedHello::decode(&bytes).err(), Some(Reject::NotAHello));
    }

    #[test]
    fn each_field_refuses_what_it_cannot_hold() {
        let bytes = sealed(&dialling());
        let with = |at: usize, byte: u8| {
            let mut altered = bytes.clone();
            altered[at] = byte;
            SignedHello::decode(&altered).err()
        };
        assert_eq!(with(25, 0), Some(Reject::Field("role")));
        assert_eq!(with(25, 3), Some(Reject::Field("role")));
        assert_eq!(with(25, 2), Some(Reject::Field("expected")));
        assert_eq!(with(98, 2), Some(Reject::Field("client")));
        assert_eq!(with(98, 1), Some(Reject::Name(NameError::BadHost)));
        assert_eq!(with(100, b'/'), Some(Reject::Name(NameError::BadHead)));
        assert_eq!(with(104, b'/'), Some(Reject::Expected(NameError::BadHead)));
        assert_eq!(with(99, 255), Some(Reject::Truncated));
        let nameless = [&bytes[..99], &[0], &bytes[103..]].concat();
        assert_eq!(
            SignedHello::decode(&nameless).err(),
            Some(Reject::Name(NameError::Empty))
        );
    }

    /// Each fault hides the ones after it.
    #[test]
    fn the_checks_come_in_their_order() {
        let stranger = Secret::new(*b"stranger").unwrap();
        let wrong = Hello {
            role: Role::Acceptor,
            exporter: [1; 32],
            name: node("b@h").into(),
            ..dialling()
        };
        let steps = [
            (
                Hello {
                    expected: None,
                    ..wrong.clone()
                },
                2,
                Reject::Role,
            ),
            (
                Hello {
                    role: Role::Dialler,
                    ..wrong.clone()
                },
                2,
                Reject::Exporter,
            ),
            (
                Hello {
                    role: Role::Dialler,
                    exporter: EXPORTER,
                    ..wrong.clone()
                },
                2,
                Reject::OwnKey,
            ),
            (
                Hello {
                    role: Role::Dialler,
                    exporter: EXPORTER,
                    expected: Some(node("c@h")),
                    ..wrong
                },
                1,
                Reject::OwnName,
            ),
            (
                Hello {
                    expected: Some(node("c@h")),
                    ..dialling()
                },
                1,
                Reject::NotMe,
            ),
            (dialling(), 1, Reject::Secret),
        ];
        for (hello, key, reject) in steps {
            let mut bytes = hello.seal(&identity(key), &stranger);
            assert_eq!(heard(&bytes, &EXPORTER).err(), Some(reject));
            if matches!(reject, Reject::OwnName | Reject::NotMe | Reject::Secret) {
                let signature = bytes.len() - PROOF_SIZE - SIGNATURE_SIZE;
                bytes[signature] ^= 1;
                assert_eq!(heard(&bytes, &EXPORTER).err(), Some(Reject::Signature));
            }
            // Grammar before all of them.
            bytes.push(0);
            assert_eq!(heard(&bytes, &EXPORTER).err(), Some(Reject::Trailing));
        }
    }

    #[test]
    fn a_claim_shows_its_name_for_the_log() {
        let claim = SignedHello::decode(&sealed(&dialling())).unwrap();
        assert_eq!(
            claim.unproven(),
            (&node("a@h").into(), &identity(1).public())
        );
    }

    #[test]
    fn each_refusal_names_a_remedy() {
        for reject in [
            Reject::OwnKey,
            Reject::Secret,
            Reject::OwnName,
            Reject::NotDialled,
            Reject::NotMe,
        ] {
            let text = reject.to_string();
            assert!(
                text.contains("; ") && !reject.code().contains(' '),
                "{text}"
            );
        }
        assert!(
            Reject::Version { theirs: 7 }
                .to_string()
                .contains("version 7")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..MAX_HELLO + 20)) {
            prop_assert!(SignedHello::decode(&bytes).is_err());
        }

        #[test]
        fn any_body_after_a_right_start_is_judged_without_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..MAX_HELLO), role in 1u8..3, client in 0u8..2,
        ) {
            let mut bytes = [LABEL.as_slice(), &[VERSION], &tail].concat();
            if bytes.len() > 98 {
                (bytes[25], bytes[98]) = (role, client);
            }
            prop_assert!(heard(&bytes, &EXPORTER).is_err());
        }

        #[test]
        fn any_splice_of_a_hello_is_judged_without_panic(
            at in 0usize..203, drop in 0usize..40, insert in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = sealed(&dialling());
            let end = (at + drop).min(bytes.len());
            let spliced = [&bytes[..at], &insert, &bytes[end..]].concat();
            prop_assert_eq!(heard(&spliced, &EXPORTER).is_ok(), spliced == bytes);
        }

        #[test]
        fn every_hello_is_read_back(
            features: u64, incarnation: u64, exporter: [u8; 32], acceptor: bool,
            name in "[a-z]{1,20}@[a-z.]{0,20}[a-z]", expected in proptest::option::of("[a-z]{1,20}@[a-z]{1,20}"),
        ) {
            let role = if acceptor { Role::Acceptor } else { Role::Dialler };
            let expected = expected.filter(|_| !acceptor).map(|name| node(&name));
            let hello = Hello { features, role, exporter, incarnation, name: node(&name).into(), expected };
            prop_assert_eq!(SignedHello::decode(&sealed(&hello)).unwrap().hello, hello);
        }
    }
}
