// SPDX-License-Identifier: Apache-2.0

//! A key with its value.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

/// Bytes of the length of the key, in front of it.
const HEAD: usize = 4;

/// A key with its value: one piece of memory, copied once when it is made and shared
/// from then on. It keeps nothing else alive, in particular not the message it came
/// in. An empty value is a value too; the map takes it for a removed key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair(Arc<[u8]>);

impl Pair {
    /// Both are copied. Together they have at most [`MAX_PAIR`](crate::delta::MAX_PAIR) bytes;
    /// of a longer key this takes no more than 4 GiB.
    pub fn new(key: &[u8], value: &[u8]) -> Self {
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let key = &key[..key.len().min(length as usize)];
        let mut bytes = SmallVec::<[u8; 512]>::with_capacity(HEAD + key.len() + value.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Self(Arc::from(bytes.as_slice()))
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0[HEAD..self.split()]
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.0[self.split()..]
    }

    /// Bytes of key and value together.
    pub fn bytes(&self) -> usize {
        self.0.len() - HEAD
    }

    fn split(&self) -> usize {
        let head = [self.0[0], self.0[1], self.0[2], self.0[3]];
        HEAD + u32::from_le_bytes(head) as usize
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = (self.key().escape_ascii(), self.value().escape_ascii());
        write!(f, "{key} = {value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_gives_back_both_parts() {
        for (key, value) in [("name", "pid"), ("", "pid"), ("name", ""), ("", "")] {
            let pair = Pair::new(key.as_bytes(), value.as_bytes());
            assert_eq!(pair.key(), key.as_bytes());
            assert_eq!(pair.value(), value.as_bytes());
            assert_eq!(pair.bytes(), key.len() + value.len());
        }
    }
}
