// SPDX-License-Identifier: Apache-2.0

//! Who a node says it is, signed by its key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::NodeId;
use crate::keys::{Keys, PublicKey, Standing};
use crate::wire;

/// The longest node name, as OTP's distribution has it.
pub const MAX_NAME: usize = 255;

/// The most addresses of one node, and the longest of them (`host:port` with a DNS name
/// of 253 bytes, rounded up): a record fits in a datagram's worth of bytes on purpose.
pub const MAX_ADDRESSES: usize = 4;
/// See [`MAX_ADDRESSES`].
pub const MAX_ADDRESS: usize = 260;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The Ed25519 key whose holder says all this.
    pub key: PublicKey,
    /// The node's name, `name@host`.
    pub name: Arc<str>,
    /// Where it can be dialled, most useful first; text that the driver understands.
    pub addresses: Vec<Bytes>,
    /// Rises with every start of the node.
    pub incarnation: u64,
    /// Rises with every record of one incarnation.
    pub seq: u64,
    /// How long the record is good, counted from the moment a node first sees it.
    pub ttl: Duration,
    /// Oldest and newest version of the wire format that the node speaks.
    pub versions: (u16, u16),
}

/// A signed record: the bytes as they were signed, and what they say.
///
/// There is no way to one but [`Record::sign`] and [`Record::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    id: NodeId,
    bytes: Bytes,
    claims: Arc<Claims>,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// The bytes are none.
    Malformed,
    /// The signature is not by the key in it.
    Forged,
    /// The operator placed another key for this name, or trusts placed keys only.
    Untrusted,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the record cannot be read",
            Self::Forged => "the record's signature is not by its key",
            Self::Untrusted => "the record's key is not trusted for its name",
        })
    }
}

impl std::error::Error for BadRecord {}

impl Record {
    /// A record of this node.
    #[must_use]
    pub fn sign(claims: Claims, keys: &dyn Keys) -> Self {
        let mut bytes = wire::encode_claims(&claims);
        let signature = keys.sign(&wire::signed_bytes(&bytes));
        bytes.extend_from_slice(&signature);
        Self {
            id: keys.id(&claims.key),
            bytes: bytes.into(),
            claims: Arc::new(claims),
        }
    }

    /// A record that somebody sent.
    ///
    /// # Errors
    /// [`BadRecord`], and nothing is known about the node then.
    pub fn verify(bytes: Bytes, keys: &dyn Keys) -> Result<Self, BadRecord> {
        let (claims, signature) = wire::decode_record(&bytes).ok_or(BadRecord::Malformed)?;
        let signed = wire::signed_bytes(&bytes[..bytes.len() - signature.len()]);
        if !keys.verify(&claims.key, &signed, &signature) {
            return Err(BadRecord::Forged);
        }
        if keys.standing(&claims.name, &claims.key) == Standing::Refused {
            return Err(BadRecord::Untrusted);
        }
        Ok(Self {
            id: keys.id(&claims.key),
            claims: Arc::new(claims),
            bytes,
        })
    }

    /// Whose record it is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// As it is sent, the signature at its end.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether it says more than `other` of the same node.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.claims.incarnation, self.claims.seq) > (other.claims.incarnation, other.claims.seq)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Record({:?} {} {}/{})",
            self.id, self.claims.name, self.claims.incarnation, self.claims.seq
        )
    }
}
