// SPDX-License-Identifier: Apache-2.0

//! The bytes of the gossip, and nowhere else.
//!
//! A link carries frames; the driver keeps them apart and in order. A frame is one byte
//! of kind, then what the kind says, to its end. Numbers are big endian, varints have
//! seven bits in a byte, least significant first, in their only shortest form.
//!
//! ```text
//! kind 1        greeting, the first frame on a link, from both ends
//! kind 16..=28  overlay        wire/overlay.rs
//! kind 32..=35  tree           wire/tree.rs
//! kind 48..=50  members        wire/members.rs
//! kind 64..=71  comparison of stores, wire/sync.rs
//! kind 128..    optional: who does not know one, ignores it
//!
//! 1 greeting    "bp2p", oldest version u16, newest version u16, features u64,
//!               length varint + record, and what newer versions add
//! ```
//!
//! Both ends speak the newest version both know. A feature bit that we do not know is
//! ignored; an unknown kind below 128 is an error, because whoever sends it counts
//! on our understanding it.
//!
//! Decoding is total: any bytes give a frame or [`Malformed`], in memory bounded by the
//! bytes. Encoding asserts the sizes that decoding checks.

use bytes::Bytes;

mod kept;
mod members;
mod overlay;
mod reader;
mod record;
#[cfg(test)]
mod samples;
mod store;
mod sync;
mod tree;
mod writer;

use crate::NodeId;
use crate::keys::{PublicKey, Signature};
use crate::record::Claims;
use crate::sync::SyncMessage;
use crate::topic::MessageId;
use reader::{Malformed, Read, Reader};
use writer::Writer;

pub(crate) use kept::{decode_kept, encode_kept};
pub(crate) use members::{decode_claim, encode_claim};
pub(crate) use overlay::MAX_RECORDS;
pub(crate) use store::{decode_piece, encode_piece};

/// Oldest and newest version of this format that this code speaks.
pub const VERSIONS: (u16, u16) = (1, 1);

/// Features this code knows; none yet.
pub const FEATURES: u64 = 0;

/// The largest body of a broadcast.
pub const MAX_BODY: usize = 1 << 20;

/// The largest frame: the largest body and its message id.
pub const MAX_FRAME: usize = MAX_BODY + 128;

/// The largest record: all fields of [`crate::record::Claims`] at their limits.
pub(crate) const MAX_RECORD: usize = 32 + 3 * 10 + 4 + 2 + 255 + 1 + 4 * 262 + 64;

/// What makes a link of something else fail at its first frame.
const MAGIC: [u8; 4] = *b"bp2p";

/// The first frame on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) versions: (u16, u16),
    pub(crate) features: u64,
    pub(crate) record: Bytes,
}

/// What a link carries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    Greeting(Greeting),
    Overlay {
        msg: barrel_hyparview::Message<NodeId>,
        records: Vec<Bytes>,
    },
    Tree(barrel_plumtree::Message<MessageId>),
    Members(barrel_members::Message<NodeId>),
    Sync(SyncMessage),
    /// A kind that newer versions know and do not insist on.
    Optional,
}

/// The bytes of a frame.
pub(crate) fn encode(frame: &Frame) -> Bytes {
    let mut out = Writer::default();
    match frame {
        Frame::Greeting(greeting) => {
            debug_assert!(greeting.record.len() <= MAX_RECORD);
            out.u8(1)
                .raw(&MAGIC)
                .u16(greeting.versions.0)
                .u16(greeting.versions.1);
            out.u64(greeting.features).blob(&greeting.record);
        }
        Frame::Overlay { msg, records } => overlay::write(&mut out, msg, records),
        Frame::Tree(msg) => tree::write(&mut out, msg),
        Frame::Members(msg) => members::write(&mut out, msg),
        Frame::Sync(msg) => sync::write(&mut out, msg),
        Frame::Optional => {
            out.u8(128);
        }
    }
    let bytes = out.finish();
    debug_assert!(bytes.len() <= MAX_FRAME);
    bytes
}

/// The frame of some bytes.
pub(crate) fn decode(bytes: Bytes) -> Read<Frame> {
    if bytes.len() > MAX_FRAME {
        return Err(Malformed);
    }
    let mut from = Reader::new(bytes);
    let kind = from.u8()?;
    let frame = match kind {
        1 => Frame::Greeting(read_greeting(&mut from)?),
        kind if overlay::KINDS.contains(&kind) => {
            let (msg, records) = overlay::read(kind, &mut from)?;
            Frame::Overlay { msg, records }
        }
        kind if tree::KINDS.contains(&kind) => Frame::Tree(tree::read(kind, &mut from)?),
        kind if members::KINDS.contains(&kind) => Frame::Members(members::read(kind, &mut from)?),
        kind if sync::KINDS.contains(&kind) => Frame::Sync(sync::read(kind, &mut from)?),
        128.. => return Ok(Frame::Optional),
        _ => return Err(Malformed),
    };
    from.end()?;
    Ok(frame)
}

fn read_greeting(from: &mut Reader) -> Read<Greeting> {
    if from.array()? != MAGIC {
        return Err(Malformed);
    }
    let versions = (from.u16()?, from.u16()?);
    let features = from.u64()?;
    let record = from.blob(MAX_RECORD)?;
    // a newer version may add to it
    from.rest();
    if versions.0 > versions.1 {
        return Err(Malformed);
    }
    Ok(Greeting {
        versions,
        features,
        record,
    })
}

/// The signed part of a record, without its label.
pub(crate) fn encode_claims(claims: &Claims) -> Vec<u8> {
    record::write(claims)
}

/// What of a record is signed.
pub(crate) fn signed_bytes(body: &[u8]) -> Vec<u8> {
    record::signed_bytes(body)
}

/// Whose record it is, if it is one.
pub(crate) fn record_key(bytes: &Bytes) -> Option<PublicKey> {
    bytes.first_chunk().copied()
}

/// What a record says, not yet believed.
pub(crate) fn decode_record(bytes: &Bytes) -> Option<(Claims, Signature)> {
    if bytes.len() > MAX_RECORD {
        return None;
    }
    record::read(bytes).ok()
}

fn id(from: &mut Reader) -> Read<NodeId> {
    Ok(barrel_ormap::OriginKey(from.array()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::samples::*;
    use super::*;

    fn greeting() -> impl Strategy<Value = Greeting> {
        (any::<(u16, u16)>(), any::<u64>(), body()).prop_map(|((one, other), features, record)| {
            Greeting {
                versions: (one.min(other), one.max(other)),
                features,
                record,
            }
        })
    }

    #[test]
    fn nothing_and_unknown_kinds_are_no_frames() {
        assert_eq!(decode(Bytes::new()), Err(Malformed));
        for kind in [0, 2, 15, 29, 31, 36, 47, 51, 63, 72, 127] {
            assert_eq!(
                decode(Bytes::from(vec![kind; 64])),
                Err(Malformed),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_newer_versions_add_is_let_pass() {
        for kind in 128..=u8::MAX {
            assert_eq!(
                decode(Bytes::from(vec![kind, 1, 2, 3])),
                Ok(Frame::Optional)
            );
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused() {
        let largest = vec![128; MAX_FRAME];
        assert_eq!(decode(Bytes::from(largest.clone())), Ok(Frame::Optional));
        assert_eq!(
            decode(Bytes::from([&largest[..], &[0]].concat())),
            Err(Malformed)
        );
    }

    #[test]
    fn something_else_that_speaks_is_noticed_at_its_first_frame() {
        let record = Bytes::from_static(b"record");
        let frame = Frame::Greeting(Greeting {
            versions: VERSIONS,
            features: 0,
            record,
        });
        let mut bytes = encode(&frame).to_vec();
        bytes[1] ^= 1;
        assert_eq!(decode(bytes.into()), Err(Malformed));
    }

    #[test]
    fn versions_that_end_before_they_begin_are_none() {
        let record = Bytes::from_static(b"record");
        let frame = Frame::Greeting(Greeting {
            versions: (3, 2),
            features: 0,
            record,
        });
        assert_eq!(decode(encode(&frame)), Err(Malformed));
    }

    proptest! {
        #[test]
        fn a_greeting_comes_back_with_whatever_follows_it(greeting in greeting(), more in body()) {
            let frame = Frame::Greeting(greeting);
            let bytes = encode(&frame);
            for until in 0..bytes.len() {
                prop_assert_eq!(decode(bytes.slice(..until)), Err(Malformed));
            }
            let longer = Bytes::from([bytes, more].concat());
            prop_assert_eq!(decode(longer), Ok(frame));
        }

        #[test]
        fn any_bytes_are_a_frame_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            is_written_as_it_came(&bytes);
        }
    }
}
