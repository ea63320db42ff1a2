// SPDX-License-Identifier: Apache-2.0

//! Signatures, asked for from outside.

use crate::NodeId;

/// An Ed25519 public key.
pub type PublicKey = [u8; 32];

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The cryptography this crate does not do itself. The network's side holds the
/// private key; the simulator counts the calls and checks each record once.
pub trait Keys: Send + Sync {
    /// Signs with the key of this node.
    fn sign(&self, bytes: &[u8]) -> Signature;

    /// Whether `signature` over `bytes` is by `key`.
    fn verify(&self, key: &PublicKey, bytes: &[u8], signature: &Signature) -> bool;

    /// The short name of a key: the first 16 bytes of its SHA-256.
    fn id(&self, key: &PublicKey) -> NodeId;

    /// Whether the operator placed this key for this name, or knows another key
    /// for it.
    fn standing(&self, name: &str, key: &PublicKey) -> Standing;
}

/// What the operator has said about a name and a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The key was placed for this name.
    Placed,
    /// Nothing is known: first come, first served.
    Unknown,
    /// Another key was placed for this name, or only placed keys are trusted.
    Refused,
}
