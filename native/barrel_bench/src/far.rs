//! The listener: what it does with each stream that a peer opens, by its tag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use barrel_quic::seam::{LinkEnd, LinkId, Peer, SecretRequest, StreamEvents, Upper};
use barrel_quic::stream::Stream;
use bytes::Bytes;

use crate::flow::{Echo, Sink};
use crate::node::SECRET;
use crate::usage;

/// What arrives is counted.
pub(crate) const BULK: &[u8] = b"bare:bulk";
/// What arrives is sent back.
pub(crate) const ECHO: &[u8] = b"bare:echo";
/// Whatever arrives is answered with a [`Look`].
pub(crate) const LOOK: &[u8] = b"bare:look";

/// The layer above of the listener.
pub(crate) struct Far {
    began: Instant,
    received: Arc<AtomicU64>,
}

impl Far {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            received: Arc::default(),
        })
    }
}

impl Upper for Far {
    fn secret(&self, request: SecretRequest) {
        // Nobody waits for it when the handshake has ended.
        let _ = request.answer.send(SECRET.to_vec());
    }

    fn incoming(&self, _peer: &Peer, tag: &[u8], stream: Stream) -> Option<Arc<dyn StreamEvents>> {
        let received = Arc::clone(&self.received);
        let began = self.began;
        match tag {
            BULK => Some(Arc::new(Sink(received))),
            ECHO => Some(Arc::new(Echo::new(stream, |bytes| bytes))),
            LOOK => Some(Arc::new(Echo::new(stream, move |_| {
                Look::now(began, &received).encode()
            }))),
            _ => None,
        }
    }

    fn up(&self, _link: LinkId, _peer: &Peer) {}

    fn down(&self, _link: LinkId, _peer: &Peer, _end: &LinkEnd) {}

    fn failed(&self, _reason: &str) {}
}

/// What the listener knows at one moment, by its own clock.
///
/// ```text
/// | clock: u64 ns | received: u64 bytes | cpu: u64 us | memory: u64 KiB |   little endian
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Look {
    pub(crate) clock: Duration,
    pub(crate) received: u64,
    pub(crate) cpu_micros: u64,
    pub(crate) private_kib: u64,
}

/// Bytes of a [`Look`].
pub(crate) const LOOK_SIZE: usize = 32;

impl Look {
    fn now(began: Instant, received: &AtomicU64) -> Self {
        Self {
            cpu_micros: usage::cpu_micros(),
            private_kib: usage::private_kib(),
            // These two last and together: they make the rate.
            clock: began.elapsed(),
            received: received.load(Ordering::Relaxed),
        }
    }

    fn encode(self) -> Bytes {
        let clock = self.clock.as_nanos() as u64;
        let words = [clock, self.received, self.cpu_micros, self.private_kib];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let words: &[u8; LOOK_SIZE] = bytes.try_into().ok()?;
        let word = |n: usize| u64::from_le_bytes(std::array::from_fn(|i| words[n * 8 + i]));
        Some(Self {
            clock: Duration::from_nanos(word(0)),
            received: word(1),
            cpu_micros: word(2),
            private_kib: word(3),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_survives_the_wire() {
        let look = Look {
            clock: Duration::from_nanos(1_234_567_890),
            received: u64::MAX,
            cpu_micros: 3,
            private_kib: 4,
        };
        let bytes = look.encode();
        assert_eq!(bytes.len(), LOOK_SIZE);
        assert_eq!(Look::decode(&bytes), Some(look));
        assert_eq!(Look::decode(&bytes[1..]), None);
    }
}
