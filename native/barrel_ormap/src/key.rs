// SPDX-License-Identifier: Apache-2.0

//! Who writes: the key of a node.

use std::fmt;

/// A node, as every store names it: the first 16 bytes of the SHA-256 of its public
/// key. A second key with the same 16 bytes costs about 2^128 trials.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OriginKey(pub [u8; 16]);

impl OriginKey {
    /// The part of the digest this key belongs to.
    pub fn bucket(&self) -> u8 {
        self.0[0]
    }
}

impl fmt::Debug for OriginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl From<u128> for OriginKey {
    fn from(number: u128) -> Self {
        Self(number.to_be_bytes())
    }
}
