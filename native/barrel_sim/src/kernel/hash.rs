//! A running hash over everything that happens.

use std::fmt;

/// Two lanes of 64 bits. It is no defence against anybody: it tells two runs apart that differ
/// somewhere, and is cheap enough to be always on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHash {
    left: u64,
    right: u64,
}

/// Odd numbers with about as many ones as zeros: the fractions of the golden ratio and of the square root of two.
const LEFT: u64 = 0x9e37_79b9_7f4a_7c15;
const RIGHT: u64 = 0x6a09_e667_f3bc_c909;

impl Default for LogHash {
    fn default() -> Self {
        Self {
            left: LEFT,
            right: RIGHT,
        }
    }
}

impl LogHash {
    /// One more number. The order counts.
    pub fn number(&mut self, value: u64) {
        self.left = (self.left ^ value).wrapping_mul(LEFT).rotate_left(29);
        self.right = (self.right.rotate_left(37) ^ value).wrapping_mul(RIGHT);
        self.right ^= self.right >> 31;
    }

    /// Bytes and how many they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.number(u64::from_le_bytes(last));
        }
    }

    /// Both lanes.
    #[must_use]
    pub fn value(&self) -> u128 {
        (u128::from(self.left) << 64) | u128::from(self.right)
    }
}

impl fmt::Display for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> u128 {
        let mut hash = LogHash::default();
        parts.iter().for_each(|part| hash.bytes(part));
        hash.value()
    }

    #[test]
    fn order_length_and_content_count() {
        let all = [
            of(&[]),
            of(&[b""]),
            of(&[b"a"]),
            of(&[b"a\0"]),
            of(&[b"ab"]),
            of(&[b"a", b"b"]),
            of(&[b"b", b"a"]),
            of(&[b"12345678"]),
            of(&[b"123456789"]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "number {index} is not new");
        }
    }

    #[test]
    fn the_value_is_the_same_everywhere() {
        // computed once; another platform must come to the same
        let mut hash = LogHash::default();
        hash.bytes(b"the same on every platform");
        assert_eq!(hash.to_string(), "2b2185886d647ef74efc2149e2e48d95");
    }
}
