// SPDX-License-Identifier: Apache-2.0

//! The comparison of two replicas of a store.
//!
//! ```text
//! 64 root       topic varint, root u128
//! 65 equal      topic varint
//! 66 buckets    topic varint, 256 x u64
//! 67 summaries  topic varint, answer u8, last u8,
//!               buckets: count varint + u8 each, ascending,
//!               summaries: count varint, then each
//!                 origin 16 bytes, inc varint, base varint, cloud u64, audit u128, settled u8
//! 68 wants      topic varint, wants: count varint, then each
//!                 origin 16 bytes, inc varint, base varint,
//!                 ranges: count varint, then first varint + last varint each,
//!                 sweep upto varint + as_of varint, 0 or 1 + repair varint
//! 69 chunk      topic varint, delta or map delta
//! 70 done       topic varint
//! 71 claims     topic varint (of the claims), answer u8,
//!               claims: count varint, then as in wire/members.rs
//! ```

use barrel_ormap::delta::MAX_CHUNK;
use barrel_ormap::{Summary, Sweep, Want};

use super::id;
use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;
use super::{members, store};
use crate::sync::{MAX_CLAIMS, MAX_SUMMARIES, MAX_WANT_RANGES, MAX_WANTS, SyncMessage};
use crate::topic::Topic;

/// Kinds of this protocol.
pub(super) const KINDS: std::ops::RangeInclusive<u8> = 64..=71;

/// More ranges than a store keeps.
const MAX_RANGES: usize = 1024;

pub(super) fn write(out: &mut Writer, msg: &SyncMessage) {
    match msg {
        SyncMessage::Root { topic, root } => {
            out.u8(64).varint(topic.0).u128(*root);
        }
        SyncMessage::Equal { topic } => {
            out.u8(65).varint(topic.0);
        }
        SyncMessage::Buckets { topic, buckets } => {
            out.u8(66).varint(topic.0);
            for bucket in buckets.iter() {
                out.u64(*bucket);
            }
        }
        SyncMessage::Summaries {
            topic,
            answer,
            last,
            buckets,
            summaries,
        } => {
            debug_assert!(summaries.len() <= MAX_SUMMARIES);
            out.u8(67)
                .varint(topic.0)
                .bool(*answer)
                .bool(*last)
                .blob(buckets)
                .list(summaries, write_summary);
        }
        SyncMessage::Wants { topic, wants } => {
            debug_assert!(wants.len() <= MAX_WANTS);
            out.u8(68).varint(topic.0).list(wants, write_want);
        }
        SyncMessage::Chunk { topic, piece } => {
            out.u8(69).varint(topic.0);
            store::write_piece(out, piece);
        }
        SyncMessage::Done { topic } => {
            out.u8(70).varint(topic.0);
        }
        SyncMessage::Claims { answer, claims } => {
            debug_assert!(claims.len() <= MAX_CLAIMS);
            out.u8(71)
                .varint(msg.topic().0)
                .bool(*answer)
                .list(claims, members::write_claim);
        }
    }
}

pub(super) fn read(kind: u8, from: &mut Reader) -> Read<SyncMessage> {
    let topic = Topic(from.varint()?);
    Ok(match kind {
        64 => SyncMessage::Root {
            topic,
            root: from.u128()?,
        },
        65 => SyncMessage::Equal { topic },
        66 => {
            let mut buckets = Box::new([0; 256]);
            for bucket in buckets.iter_mut() {
                *bucket = from.u64()?;
            }
            SyncMessage::Buckets { topic, buckets }
        }
        67 => SyncMessage::Summaries {
            topic,
            answer: from.bool()?,
            last: from.bool()?,
            buckets: read_buckets(from)?,
            summaries: from.list(MAX_SUMMARIES, read_summary)?,
        },
        68 => SyncMessage::Wants {
            topic,
            wants: read_wants(from)?,
        },
        69 if from.left() <= MAX_CHUNK => SyncMessage::Chunk {
            topic,
            piece: store::read_piece(topic, from)?,
        },
        70 => SyncMessage::Done { topic },
        71 if topic == Topic::CLAIMS => SyncMessage::Claims {
            answer: from.bool()?,
            claims: from.list(MAX_CLAIMS, members::read_claim)?,
        },
        _ => return Err(Malformed),
    })
}

/// Each bucket once: an answer is not longer than all there is.
fn read_buckets(from: &mut Reader) -> Read<Vec<u8>> {
    let buckets = from.blob(256)?.to_vec();
    if buckets.is_sorted_by(|a, b| a < b) {
        Ok(buckets)
    } else {
        Err(Malformed)
    }
}

fn write_summary(out: &mut Writer, summary: &Summary) {
    out.raw(&summary.origin.0)
        .varint(summary.inc)
        .varint(summary.base);
    out.u64(summary.cloud)
        .u128(summary.audit)
        .bool(summary.settled);
}

fn read_summary(from: &mut Reader) -> Read<Summary> {
    Ok(Summary {
        origin: id(from)?,
        inc: from.varint()?,
        base: from.varint()?,
        cloud: from.u64()?,
        audit: from.u128()?,
        settled: from.bool()?,
    })
}

fn read_wants(from: &mut Reader) -> Read<Vec<Want>> {
    let wants = from.list(MAX_WANTS, read_want)?;
    let ranges: usize = wants.iter().map(|want| want.have.len()).sum();
    if ranges <= MAX_WANT_RANGES {
        Ok(wants)
    } else {
        Err(Malformed)
    }
}

fn write_want(out: &mut Writer, want: &Want) {
    debug_assert!(want.have.len() <= MAX_RANGES);
    out.raw(&want.origin.0).varint(want.inc).varint(want.base);
    out.list(&want.have, |out, (first, last)| {
        out.varint(*first).varint(*last);
    });
    out.varint(want.sweep.upto)
        .varint(want.sweep.as_of)
        .bool(want.repair.is_some());
    if let Some(above) = want.repair {
        out.varint(above);
    }
}

fn read_want(from: &mut Reader) -> Read<Want> {
    Ok(Want {
        origin: id(from)?,
        inc: from.varint()?,
        base: from.varint()?,
        have: from.list(MAX_RANGES, |from| {
            let (first, last) = (from.varint()?, from.varint()?);
            if first <= last {
                Ok((first, last))
            } else {
                Err(Malformed)
            }
        })?,
        sweep: Sweep {
            upto: from.varint()?,
            as_of: from.varint()?,
        },
        repair: if from.bool()? {
            Some(from.varint()?)
        } else {
            None
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::super::samples::*;
    use super::super::{Frame, MAX_FRAME, decode, encode};
    use super::*;
    use crate::sync::MAX_WANT_RANGES;

    fn summary() -> impl Strategy<Value = Summary> {
        (
            node(),
            number(),
            number(),
            any::<u64>(),
            any::<u128>(),
            any::<bool>(),
        )
            .prop_map(|(origin, inc, base, cloud, audit, settled)| Summary {
                origin,
                inc,
                base,
                cloud,
                audit,
                settled,
            })
    }

    fn want() -> impl Strategy<Value = Want> {
        let range = (number(), number()).prop_map(|(one, other)| (one.min(other), one.max(other)));
        let sweep = (number(), number()).prop_map(|(upto, as_of)| Sweep { upto, as_of });
        (
            node(),
            number(),
            number(),
            vec(range, 0..9),
            sweep,
            option::of(number()),
        )
            .prop_map(|(origin, inc, base, have, sweep, repair)| Want {
                origin,
                inc,
                base,
                have,
                sweep,
                repair,
            })
    }

    fn summaries() -> impl Strategy<Value = SyncMessage> {
        let buckets = btree_set(any::<u8>(), 0..256).prop_map(Vec::from_iter);
        (
            topic(),
            any::<bool>(),
            any::<bool>(),
            buckets,
            vec(summary(), 0..9),
        )
            .prop_map(
                |(topic, answer, last, buckets, summaries)| SyncMessage::Summaries {
                    topic,
                    answer,
                    last,
                    buckets,
                    summaries,
                },
            )
    }

    fn message() -> impl Strategy<Value = SyncMessage> {
        let buckets = vec(any::<u64>(), 256).prop_map(|buckets| {
            let buckets: [u64; 256] = buckets.try_into().expect("256 of them");
            Box::new(buckets)
        });
        prop_oneof![
            (topic(), any::<u128>()).prop_map(|(topic, root)| SyncMessage::Root { topic, root }),
            topic().prop_map(|topic| SyncMessage::Equal { topic }),
            (topic(), buckets).prop_map(|(topic, buckets)| SyncMessage::Buckets { topic, buckets }),
            summaries(),
            (topic(), vec(want(), 0..9))
                .prop_map(|(topic, wants)| SyncMessage::Wants { topic, wants }),
            topic().prop_map(|topic| SyncMessage::Done { topic }),
        ]
    }

    fn wants(count: usize, ranges: usize) -> Frame {
        let origin = barrel_ormap::OriginKey([0xff; 16]);
        let n = u64::MAX;
        let sweep = Sweep { upto: n, as_of: n };
        let want = Want {
            origin,
            inc: n,
            base: n,
            have: vec![(n, n); ranges],
            sweep,
            repair: Some(n),
        };
        Frame::Sync(SyncMessage::Wants {
            topic: Topic(n),
            wants: vec![want; count],
        })
    }

    #[test]
    fn the_largest_messages_fit_into_a_frame() {
        let origin = barrel_ormap::OriginKey([0xff; 16]);
        let n = u64::MAX;
        let summary = Summary {
            origin,
            inc: n,
            base: n,
            cloud: n,
            audit: u128::MAX,
            settled: true,
        };
        let summaries = Frame::Sync(SyncMessage::Summaries {
            topic: Topic(n),
            answer: true,
            last: true,
            buckets: (0..=u8::MAX).collect(),
            summaries: vec![summary; MAX_SUMMARIES],
        });
        let buckets = Frame::Sync(SyncMessage::Buckets {
            topic: Topic(n),
            buckets: Box::new([n; 256]),
        });
        for largest in [
            summaries,
            buckets,
            wants(MAX_WANTS, MAX_WANT_RANGES / MAX_WANTS),
        ] {
            assert!(encode(&largest).len() <= MAX_FRAME / 8);
            frame_comes_back(&largest);
        }
    }

    #[test]
    fn wants_with_more_ranges_than_an_honest_one_has_are_refused() {
        assert!(decode(encode(&wants(1, MAX_RANGES))).is_ok());
        let over = wants(3, MAX_RANGES);
        assert_eq!(decode(encode(&over)), Err(Malformed));
    }

    #[test]
    fn a_bucket_is_asked_for_once() {
        let ask = |buckets: &[u8]| {
            let buckets = buckets.to_vec();
            let summaries = Vec::new();
            let topic = Topic::REGISTRY;
            let msg = SyncMessage::Summaries {
                topic,
                answer: false,
                last: true,
                buckets,
                summaries,
            };
            decode(encode(&Frame::Sync(msg))).is_ok()
        };
        assert!(ask(&[]) && ask(&[0, 7, 255]));
        assert!(!ask(&[7, 7]) && !ask(&[8, 7]));
    }

    #[test]
    fn claims_are_of_their_own_topic() {
        assert_eq!(decode(vec![71, 2, 0, 0].into()), Err(Malformed));
        assert!(decode(vec![71, 1, 0, 0].into()).is_ok());
    }

    proptest! {
        #[test]
        fn each_message_comes_back(msg in message()) {
            frame_comes_back(&Frame::Sync(msg));
        }

        #[test]
        fn any_bytes_are_a_message_or_none(bytes in noise(KINDS)) {
            is_written_as_it_came(&bytes);
        }
    }
}
