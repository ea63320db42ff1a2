//! Packets on a byte stream.
//!
//! ```text
//! +------------------+----------------------+
//! | length: u32, BE  | packet: length bytes |    length 0 is a tick
//! +------------------+----------------------+
//! ```
//!
//! Two halves, each a plain data structure: [`Outbox`] gathers packets for the
//! transport and joins small ones; [`Scanner`] and [`Reader`] find whole
//! packets in the chunks that the transport brings, without copying them.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of the length field.
pub const HEADER: usize = 4;

/// Largest packet taken from a peer. With DFLAG_FRAGMENTS, which the carrier
/// requires, ERTS cuts messages into packets of 64 KiB; only a control message
/// with an uncommonly large trace token comes near this.
pub const MAX_PACKET: usize = 64 << 20;

/// Parts up to this size are copied next to their neighbours; larger ones are
/// kept by reference. Copying 4 KiB costs about as much as one allocation.
pub const COPY_BELOW: usize = 4 << 10;

/// Small packets are joined into chunks of about this size.
const CHUNK: usize = 16 << 10;

/// The first chunk of a queue is smaller: an idle channel keeps what is left of it.
const FIRST_CHUNK: usize = 2 << 10;

/// Packets on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Bytes>,
    /// The chunk that small parts are copied to; the last of the queue.
    tail: BytesMut,
    /// Bytes in `chunks` and `tail`.
    queued: usize,
}

impl Outbox {
    /// Bytes queued, headers included.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Starts a packet of `len` bytes; its parts must follow.
    pub fn start(&mut self, len: usize) {
        self.make_room(HEADER);
        self.tail.put_u32(len as u32);
        self.queued += HEADER;
    }

    /// Copies a part of the current packet.
    pub fn copy(&mut self, part: &[u8]) {
        self.make_room(part.len());
        self.tail.put_slice(part);
        self.queued += part.len();
    }

    /// Adds a part of the current packet by reference.
    pub fn refer(&mut self, part: Bytes) {
        self.cut_tail();
        self.queued += part.len();
        self.chunks.push_back(part);
    }

    /// Takes the next chunk.
    pub fn pop(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.cut_tail();
        }
        let chunk = self.chunks.pop_front()?;
        self.queued -= chunk.len();
        Some(chunk)
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn make_room(&mut self, len: usize) {
        if self.tail.len() + len > CHUNK {
            self.cut_tail();
        }
        if self.tail.capacity() - self.tail.len() < len {
            let chunk = if self.queued < FIRST_CHUNK {
                FIRST_CHUNK
            } else {
                CHUNK
            };
            self.tail.reserve(len.max(chunk));
        }
    }

    fn cut_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}

/// Why a stream of packets is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketTooLarge;

/// Counts the packets that end in a sequence of chunks. Looks at headers only.
#[derive(Debug, Default)]
pub struct Scanner {
    header: [u8; HEADER],
    /// Header bytes seen; all of them while in a packet.
    have: usize,
    /// Bytes of the current packet still to come.
    missing: usize,
}

impl Scanner {
    /// Scans the next chunk; answers how many packets ended in it.
    ///
    /// # Errors
    /// A header announced more than [`MAX_PACKET`]. The scanner is of no more use.
    pub fn scan(&mut self, mut chunk: &[u8]) -> Result<usize, PacketTooLarge> {
        let mut ended = 0;
        while !chunk.is_empty() {
            if self.have < HEADER {
                let take = chunk.len().min(HEADER - self.have);
                self.header[self.have..self.have + take].copy_from_slice(&chunk[..take]);
                self.have += take;
                chunk = &chunk[take..];
                if self.have < HEADER {
                    break;
                }
                self.missing = u32::from_be_bytes(self.header) as usize;
                if self.missing > MAX_PACKET {
                    return Err(PacketTooLarge);
                }
            }
            let take = chunk.len().min(self.missing);
            self.missing -= take;
            chunk = &chunk[take..];
            if self.missing == 0 {
                self.have = 0;
                ended += 1;
            }
        }
        Ok(ended)
    }
}

/// Takes whole packets out of chunks that a [`Scanner`] has judged.
#[derive(Debug, Default)]
pub struct Reader {
    chunks: VecDeque<Bytes>,
    /// Whole packets not yet taken.
    ready: usize,
}

impl Reader {
    /// Whole packets that can be taken.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Adds chunks in which `ended` more packets end.
    pub fn extend(&mut self, chunks: &mut VecDeque<Bytes>, ended: usize) {
        self.chunks.append(chunks);
        self.ready += ended;
    }

    /// The length of the next packet. It must be taken with
    /// [`copy_to`](Self::copy_to) before the next is asked for.
    pub fn next_len(&mut self) -> Option<usize> {
        if self.ready == 0 {
            return None;
        }
        self.ready -= 1;
        let mut header = [0; HEADER];
        self.copy_to(&mut header);
        Some(u32::from_be_bytes(header) as usize)
    }

    /// Copies the next `target.len()` bytes.
    pub fn copy_to(&mut self, mut target: &mut [u8]) {
        while !target.is_empty() {
            let Some(chunk) = self.chunks.front_mut() else {
                debug_assert!(false, "the scanner counted a packet that is not there");
                return;
            };
            let take = chunk.len().min(target.len());
            chunk.copy_to_slice(&mut target[..take]);
            target = &mut target[take..];
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(outbox: &mut Outbox) -> Vec<Bytes> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    fn packets(reader: &mut Reader) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while let Some(len) = reader.next_len() {
            let mut packet = vec![0; len];
            reader.copy_to(&mut packet);
            packets.push(packet);
        }
        packets
    }

    #[test]
    fn small_packets_share_a_chunk_and_large_parts_are_not_copied() {
        let mut outbox = Outbox::default();
        outbox.start(3);
        outbox.copy(b"abc");
        let large = Bytes::from(vec![7; COPY_BELOW]);
        let address = large.as_ptr();
        outbox.start(large.len());
        outbox.refer(large);
        outbox.start(0);
        assert_eq!(outbox.queued(), 3 + COPY_BELOW + 3 * HEADER);
        let chunks = drain(&mut outbox);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), address);
        assert_eq!(outbox.queued(), 0);
    }

    #[test]
    fn a_packet_over_the_limit_is_refused_at_its_header() {
        let mut scanner = Scanner::default();
        let header = ((MAX_PACKET + 1) as u32).to_be_bytes();
        assert_eq!(scanner.scan(&header[..2]), Ok(0));
        assert_eq!(scanner.scan(&header[2..]), Err(PacketTooLarge));
    }

    #[test]
    fn a_tick_is_a_packet() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.scan(&[0, 0, 0, 0, 0]), Ok(1));
    }

    proptest! {
        #[test]
        fn packets_survive_any_cut_of_the_stream(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6000), 0..20),
            cuts in prop::collection::vec(1usize..4000, 1..50),
        ) {
            let mut outbox = Outbox::default();
            for packet in &sent {
                outbox.start(packet.len());
                for part in packet.chunks(4500) {
                    if part.len() > COPY_BELOW {
                        outbox.refer(Bytes::copy_from_slice(part));
                    } else {
                        outbox.copy(part);
                    }
                }
            }
            let mut stream = BytesMut::new();
            for chunk in drain(&mut outbox) {
                stream.extend_from_slice(&chunk);
            }
            let mut stream = stream.freeze();
            let (mut scanner, mut reader) = (Scanner::default(), Reader::default());
            let mut received = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !stream.is_empty() {
                let chunk = stream.split_to(stream.len().min(*cuts.next().unwrap()));
                let ended = scanner.scan(&chunk).unwrap();
                reader.extend(&mut VecDeque::from([chunk]), ended);
                received.append(&mut packets(&mut reader));
            }
            prop_assert_eq!(received, sent);
            prop_assert!(reader.chunks.is_empty());
        }

        #[test]
        fn garbage_never_panics(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..50)) {
            let (mut scanner, mut reader) = (Scanner::default(), Reader::default());
            for chunk in chunks {
                let Ok(ended) = scanner.scan(&chunk) else { break };
                reader.extend(&mut VecDeque::from([Bytes::from(chunk)]), ended);
                packets(&mut reader);
            }
        }
    }
}
