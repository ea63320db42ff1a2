// SPDX-License-Identifier: Apache-2.0

//! Messages by chance for the tests of the codecs, and the laws that each codec keeps.

use std::fmt::Debug;

use barrel_ormap::map::{Birth, Collected, LogName};
use barrel_ormap::{Add, Delta, Hlc, LiveSet, MapDelta, Pair, Removal, Removes};
use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Frame, MAX_FRAME, decode, encode};
use crate::NodeId;
use crate::topic::Topic;

/// What is written comes back, and no part of it is taken for a whole.
pub(super) fn comes_back_whole<T: Debug + PartialEq, E: Debug>(
    sent: &T,
    bytes: &Bytes,
    decode: impl Fn(Bytes) -> Result<T, E>,
) {
    assert_eq!(&decode(bytes.clone()).expect("what was encoded"), sent);
    // all prefixes of a short one, and of a long one those near its ends and some between
    let step = 1 + bytes.len() / 512;
    let ends = (0..bytes.len().min(64)).chain(bytes.len().saturating_sub(64)..bytes.len());
    for until in ends.chain((0..bytes.len()).step_by(step)) {
        assert!(
            decode(bytes.slice(..until)).is_err(),
            "{until} of {} bytes",
            bytes.len()
        );
    }
    let more = Bytes::from([bytes, &[0][..]].concat());
    assert!(decode(more).is_err(), "a byte too many");
}

/// The same for a frame, which also keeps to the size of a frame.
pub(super) fn frame_comes_back(frame: &Frame) {
    let bytes = encode(frame);
    assert!(bytes.len() <= MAX_FRAME);
    comes_back_whole(frame, &bytes, decode);
}

/// Whatever is understood is understood in one way: it is written as it came.
pub(super) fn is_written_as_it_came(bytes: &[u8]) {
    match decode(Bytes::copy_from_slice(bytes)) {
        Err(_) => {}
        // What newer versions add to these is not kept.
        Ok(Frame::Greeting(_) | Frame::Optional) => {}
        Ok(frame) => assert_eq!(encode(&frame), bytes, "two ways to write {frame:?}"),
    }
}

/// A frame of these kinds with any content, or with a right content somewhat changed.
pub(super) fn noise(kinds: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = Vec<u8>> {
    (
        kinds,
        vec(select(vec![0, 1, 2, 16, 0x7f, 0x80, 0xff]), 0..200),
    )
        .prop_map(|(kind, mut bytes)| {
            bytes.insert(0, kind);
            bytes
        })
}

pub(super) fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 16]>().prop_map(barrel_ormap::OriginKey)
}

/// Small ones, any, and those at the edges of their encodings.
pub(super) fn number() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        0x7f,
        0x80,
        0x3fff,
        0x4000,
        1 << 32,
        1 << 62,
        u64::MAX - 1,
        u64::MAX,
    ];
    prop_oneof![0..100u64, any::<u64>(), select(edges.to_vec())]
}

pub(super) fn topic() -> impl Strategy<Value = Topic> {
    number().prop_map(Topic)
}

pub(super) fn body() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

pub(super) fn pair() -> impl Strategy<Value = Pair> {
    (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..80))
        .prop_map(|(key, value)| Pair::new(&key, &value))
}

pub(super) fn birth() -> impl Strategy<Value = Birth> {
    (node(), number(), number(), any::<u32>()).prop_map(|(origin, inc, seq, moves)| {
        let log = LogName { origin, inc };
        Birth { log, seq, moves }
    })
}

fn add(seq: u64) -> impl Strategy<Value = Add> {
    (any::<u64>(), option::of(node()), pair()).prop_map(move |(hlc, writer, pair)| Add {
        seq,
        hlc: Hlc::from_u64(hlc),
        writer,
        pair,
    })
}

fn adds(seqs: Vec<u64>) -> impl Strategy<Value = Vec<Add>> {
    seqs.into_iter().map(add).collect::<Vec<_>>()
}

/// Operations after `from`: all of a claim that may hold `some` of them as entries.
fn interval(some: usize) -> impl Strategy<Value = (u64, Vec<u64>, u64)> {
    let from = prop_oneof![0..100u64, 0..(1u64 << 61)];
    (from, btree_set(1..200u64, 0..some), 0..1000u64).prop_map(|(from, steps, later)| {
        let seqs: Vec<u64> = steps.into_iter().map(|step| from + step).collect();
        (from, seqs, from + 200 + later)
    })
}

fn claim_delta() -> impl Strategy<Value = Delta> {
    (node(), number(), interval(8)).prop_flat_map(|(origin, inc, (from, seqs, as_of))| {
        let to = from + 200;
        let removes = btree_set((from + 1..=to, 1..=from + 200), 0..6).prop_map({
            let added = seqs.clone();
            move |pairs| {
                let sound = |&(by, seq): &(u64, u64)| seq < by && !added.contains(&seq);
                let list = pairs
                    .into_iter()
                    .filter(sound)
                    .map(|(by, seq)| Removal { by, seq });
                Removes::List(list.collect())
            }
        });
        (adds(seqs), removes).prop_map(move |(adds, removes)| Delta {
            origin,
            inc,
            from,
            to,
            as_of,
            adds,
            removes,
        })
    })
}

fn statement_delta() -> impl Strategy<Value = Delta> {
    (node(), number(), interval(8), any::<bool>()).prop_flat_map(
        |(origin, inc, (above, seqs, as_of), whole)| {
            let until = above + 200;
            let (live, added) = if whole {
                (Vec::new(), seqs)
            } else {
                (seqs, Vec::new())
            };
            adds(added).prop_map(move |adds| {
                let set = LiveSet {
                    above,
                    until,
                    complete: as_of,
                    live: live.clone(),
                    whole,
                };
                let removes = Removes::LiveSet(set);
                Delta {
                    origin,
                    inc,
                    from: above,
                    to: above,
                    as_of,
                    adds,
                    removes,
                }
            })
        },
    )
}

/// A piece of a log, as some honest node could make it.
pub(super) fn delta() -> impl Strategy<Value = Delta> {
    prop_oneof![claim_delta(), statement_delta()]
}

/// A piece of a map's log.
pub(super) fn map_delta() -> impl Strategy<Value = MapDelta> {
    let ranges = btree_set(number(), 0..8).prop_map(|ends| {
        let ends: Vec<u64> = ends.into_iter().collect();
        ends.chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect::<Vec<_>>()
    });
    let births = vec(option::of(birth()), 8);
    (delta(), births, ranges, number(), number()).prop_map(
        |(mut delta, births, unknown, upto, epoch)| {
            if let Removes::List(list) = &mut delta.removes {
                list.clear();
            }
            let born = delta
                .adds
                .iter()
                .zip(births)
                .filter_map(|(add, birth)| Some((add.seq, birth?)));
            let births = born.collect();
            MapDelta {
                births,
                unknown,
                collected: Collected { upto, epoch },
                delta,
            }
        },
    )
}
