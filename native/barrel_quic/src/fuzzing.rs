//! The decoders that are not public, over bytes in place of a stream; and the
//! proof of a hello that no honest node would send.
//!
//! For the targets in `fuzz/` and for tests, and never in a shipped library.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::handshake;
use crate::hello::{self, EXPORTER_SIZE, PROOF_SIZE, Role, Secret};
use crate::seam::StreamEnd;
use crate::stream::{self, Source};

/// A stream that brings these bytes and then ends.
struct Bytes<'a> {
    left: &'a [u8],
    /// The most that a decoder wanted at once.
    widest: usize,
}

impl Source for Bytes<'_> {
    async fn fill(&mut self, target: &mut [u8]) -> Result<(), StreamEnd> {
        self.widest = self.widest.max(target.len());
        let (head, tail) = self
            .left
            .split_at_checked(target.len())
            .ok_or(StreamEnd::Finished)?;
        target.copy_from_slice(head);
        self.left = tail;
        Ok(())
    }
}

/// What a decoder made of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The message, unless it broke a rule or did not end.
    pub message: Option<Vec<u8>>,
    /// Bytes of the stream that it left to others.
    pub left: usize,
    /// Most memory that it asked for at once.
    pub widest: usize,
}

/// The tag of a stream.
pub fn preamble(stream: &[u8]) -> Decoded {
    let mut bytes = Bytes::new(stream);
    let tag = at_once(stream::read_tag(&mut bytes));
    bytes.decoded(tag.ok())
}

/// The bytes of a hello, before anybody looks into them.
pub fn hello(stream: &[u8]) -> Decoded {
    let mut bytes = Bytes::new(stream);
    let hello = at_once(handshake::read_hello(&mut bytes));
    bytes.decoded(hello.ok())
}

/// The proof of a hello of which `signed` is everything before it.
pub fn proof(
    secret: &Secret,
    role: Role,
    exporter: &[u8; EXPORTER_SIZE],
    signed: &[u8],
) -> [u8; PROOF_SIZE] {
    hello::proof(secret, role, exporter, signed)
}

impl<'a> Bytes<'a> {
    fn new(left: &'a [u8]) -> Self {
        Self { left, widest: 0 }
    }

    fn decoded(self, message: Option<Vec<u8>>) -> Decoded {
        Decoded {
            message,
            left: self.left.len(),
            widest: self.widest,
        }
    }
}

/// The result of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("bytes in memory are there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::MAX_HELLO;

    #[test]
    fn a_preamble_is_a_length_and_a_tag() {
        let decoded = preamble(b"\x04testdata");
        assert_eq!(decoded.message.as_deref(), Some(b"test".as_slice()));
        assert_eq!(decoded.left, 4);
        for broken in [b"".as_slice(), b"\0", b"\x05test"] {
            assert_eq!(preamble(broken).message, None);
        }
        let longest = [&[255], [7; 255].as_slice()].concat();
        assert_eq!(preamble(&longest).message, Some(vec![7; 255]));
    }

    #[test]
    fn a_hello_over_the_limit_is_refused_at_its_length() {
        let over = [
            ((MAX_HELLO + 1) as u16).to_be_bytes().as_slice(),
            &[0; 1000],
        ]
        .concat();
        let decoded = hello(&over);
        assert_eq!((decoded.message, decoded.left), (None, 1000));
        assert_eq!(decoded.widest, 2);
    }
}
