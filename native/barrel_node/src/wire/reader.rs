// SPDX-License-Identifier: Apache-2.0

//! Bytes that somebody sent, taken apart piece by piece; never a panic, never more
//! memory than the bytes are worth.

use bytes::Bytes;

/// The bytes are not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) type Read<T> = Result<T, Malformed>;

/// A cursor over a frame. What it gives out shares the frame's memory.
#[derive(Debug)]
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Read<Bytes> {
        if len > self.rest.len() {
            return Err(Malformed);
        }
        Ok(self.rest.split_to(len))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.rest.get(..N).ok_or(Malformed)?);
        self.rest = self.rest.slice(N..);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Read<u128> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// Seven bits in a byte, least significant first; one encoding for each number.
    pub(crate) fn varint(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return if shortest { Ok(value) } else { Err(Malformed) };
            }
        }
        Err(Malformed)
    }

    /// A length that was written before what it counts.
    pub(crate) fn len(&mut self, at_most: usize) -> Read<usize> {
        let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if len > at_most {
            Err(Malformed)
        } else {
            Ok(len)
        }
    }

    /// Bytes behind their length.
    pub(crate) fn blob(&mut self, at_most: usize) -> Read<Bytes> {
        let len = self.len(at_most)?;
        self.bytes(len)
    }

    /// Text behind its length.
    pub(crate) fn text(&mut self, at_most: usize) -> Read<String> {
        let bytes = self.blob(at_most)?;
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| Malformed)
    }

    /// Items behind their count. An item has at least one byte, so a count that the
    /// rest cannot hold is refused; and no more memory is set aside than the rest has.
    pub(crate) fn list<T>(
        &mut self,
        at_most: usize,
        item: impl Fn(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        let count = self.len(at_most.min(self.rest.len()))?;
        let mut items = Vec::with_capacity(count.min(self.rest.len() / size_of::<T>().max(1)));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// How much is left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Read<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::writer::Writer;
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn a_number_has_one_encoding() {
        assert_eq!(reader(&[0x80, 0x00]).varint(), Err(Malformed));
        assert_eq!(reader(&[0x00]).varint(), Ok(0));
        assert_eq!(reader(&[0xff; 10]).varint(), Err(Malformed));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_memory_is_taken() {
        let mut claim = Writer::default();
        claim.varint(1 << 40);
        assert_eq!(
            reader(&claim.finish()).list(usize::MAX, Reader::u8),
            Err(Malformed)
        );
    }

    proptest! {
        #[test]
        fn every_number_comes_back(n: u64) {
            let mut out = Writer::default();
            out.varint(n);
            let mut read = Reader::new(out.finish());
            prop_assert_eq!(read.varint(), Ok(n));
            prop_assert_eq!(read.end(), Ok(()));
        }
    }
}
