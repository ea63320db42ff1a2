// SPDX-License-Identifier: Apache-2.0

//! The other side of the reader.

use bytes::Bytes;

/// A frame being written.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, n: u8) -> &mut Self {
        self.raw(&[n])
    }

    pub(crate) fn u16(&mut self, n: u16) -> &mut Self {
        self.raw(&n.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, n: u64) -> &mut Self {
        self.raw(&n.to_be_bytes())
    }

    pub(crate) fn u128(&mut self, n: u128) -> &mut Self {
        self.raw(&n.to_be_bytes())
    }

    pub(crate) fn bool(&mut self, b: bool) -> &mut Self {
        self.u8(u8::from(b))
    }

    pub(crate) fn varint(&mut self, mut n: u64) -> &mut Self {
        while n >= 0x80 {
            self.out.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.u8(n as u8)
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64).raw(bytes)
    }

    pub(crate) fn list<T>(&mut self, items: &[T], item: impl Fn(&mut Self, &T)) -> &mut Self {
        self.varint(items.len() as u64);
        for each in items {
            item(self, each);
        }
        self
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.into()
    }
}
