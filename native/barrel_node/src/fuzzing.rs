// SPDX-License-Identifier: Apache-2.0

//! The decoders, and a node that is told whatever somebody likes.
//!
//! For the targets in `fuzz/` and for tests, and never in a shipped library. Each decoder
//! gives back what it understood, written again: what differs from what came was
//! understood in a way in which nobody writes it.

mod fire;
mod samples;

use bytes::Bytes;

use crate::topic::Topic;
use crate::wire::{self, Frame};

pub use fire::Fire;
pub use samples::{Samples, samples};

/// The map that [`map_piece`] is of, and that [`Fire`] keeps.
pub const MAP: Topic = Topic(Topic::RESERVED);

/// A frame. Of a greeting, what newer versions add to it is not kept; of a frame that
/// only newer versions know, nothing is.
pub fn frame(bytes: &[u8]) -> Option<Vec<u8>> {
    match wire::decode(Bytes::copy_from_slice(bytes)).ok()? {
        Frame::Optional => Some(bytes.to_vec()),
        frame => Some(wire::encode(&frame).to_vec()),
    }
}

/// A signed record, the signature not looked at.
pub fn record(bytes: &[u8]) -> Option<Vec<u8>> {
    let (claims, signature) = wire::decode_record(&Bytes::copy_from_slice(bytes))?;
    Some([&wire::encode_claims(&claims)[..], &signature].concat())
}

/// A piece of a log of the registry or the directory.
pub fn log_piece(bytes: &[u8]) -> Option<Vec<u8>> {
    piece(Topic::REGISTRY, bytes)
}

/// A piece of a log of a map.
pub fn map_piece(bytes: &[u8]) -> Option<Vec<u8>> {
    piece(MAP, bytes)
}

fn piece(topic: Topic, bytes: &[u8]) -> Option<Vec<u8>> {
    let piece = wire::decode_piece(topic, Bytes::copy_from_slice(bytes)).ok()?;
    Some(wire::encode_piece(&piece).to_vec())
}

/// A claim about a member.
pub fn claim(bytes: &[u8]) -> Option<Vec<u8>> {
    let claim = wire::decode_claim(Bytes::copy_from_slice(bytes)).ok()?;
    Some(wire::encode_claim(&claim).to_vec())
}

/// A record of a persistent map: its key and its value.
pub fn kept(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (id, record) =
        wire::decode_kept(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))?;
    let (key, value) = wire::encode_kept(&id, Some(&record));
    Some((key.to_vec(), value?.to_vec()))
}
