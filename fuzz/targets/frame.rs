//! Packets on a byte stream: however it is cut, the same packets come out.
#![no_main]

use std::collections::VecDeque;

use barrel_quic::frame::{HEADER, MAX_PACKET, Outbox, Reader, Scanner};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// The packets of a stream, and whether a header broke the rule.
#[derive(Debug, PartialEq)]
struct Judged {
    packets: Vec<Vec<u8>>,
    broken: bool,
}

fuzz_target!(|input: &[u8]| {
    // A few bytes say where to cut, the rest is the stream.
    let Some((count, rest)) = input.split_first() else {
        return;
    };
    let (cuts, stream) = rest.split_at(rest.len().min(usize::from(count % 16)));
    let whole = judge(stream, &[]);
    let cut = judge(stream, cuts);
    if whole.broken {
        // A broken header ends the stream: what stood before it in the same chunk is not delivered.
        assert!(cut.broken && cut.packets.len() >= whole.packets.len());
        assert_eq!(whole.packets, cut.packets[..whole.packets.len()]);
    } else {
        assert_eq!(whole, cut);
    }
    assert_written_back(&cut.packets, stream);
});

fn judge(stream: &[u8], cuts: &[u8]) -> Judged {
    let (mut scanner, mut reader) = (Scanner::default(), Reader::default());
    let mut packets = Vec::new();
    for chunk in chunks(stream, cuts) {
        let Ok(ended) = scanner.scan(chunk) else {
            return Judged {
                packets,
                broken: true,
            };
        };
        assert!(ended <= chunk.len(), "a packet ends with a byte of its own");
        reader.extend(&mut VecDeque::from([Bytes::copy_from_slice(chunk)]), ended);
        assert_eq!(reader.ready(), ended, "all were taken before");
        while let Some(len) = reader.next_len() {
            // What a peer claims is not allocated before it has come.
            assert!(len <= MAX_PACKET && len <= stream.len());
            let mut packet = vec![0; len];
            reader.copy_to(&mut packet);
            packets.push(packet);
        }
    }
    Judged {
        packets,
        broken: false,
    }
}

fn chunks<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for cut in cuts {
        let (chunk, rest) = stream.split_at(stream.len().min(usize::from(*cut)));
        chunks.push(chunk);
        stream = rest;
    }
    chunks.push(stream);
    chunks
}

fn assert_written_back(packets: &[Vec<u8>], stream: &[u8]) {
    let mut outbox = Outbox::default();
    for packet in packets {
        outbox.start(packet.len());
        // Copied or by reference, the bytes are the same.
        let (copied, referred) = packet.split_at(packet.len() / 2);
        outbox.copy(copied);
        outbox.refer(Bytes::copy_from_slice(referred));
    }
    let queued = outbox.queued();
    let written: Vec<u8> = std::iter::from_fn(|| outbox.pop()).flatten().collect();
    assert_eq!(written.len(), queued);
    assert_eq!(
        queued,
        packets
            .iter()
            .map(|packet| HEADER + packet.len())
            .sum::<usize>()
    );
    assert!(stream.starts_with(&written));
}
