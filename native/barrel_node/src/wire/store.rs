// SPDX-License-Identifier: Apache-2.0

//! A delta: the body of a store's broadcast, and what a comparison sends.
//!
//! ```text
//! delta     origin 16 bytes, inc varint, from varint, to - from varint, as_of varint,
//!           adds: count varint, then each
//!             seq after the one before (the first: itself) varint, hlc u64,
//!             0 or 1 + writer 16 bytes, key length varint + bytes, value length varint + bytes
//!           then 0 and a list of removals: count varint, then each
//!             by varint, seq varint
//!           or 1 and a live set:
//!             above varint, until - above varint, complete varint, whole u8,
//!             dots: count varint, then each after the one before (the first: above) varint
//! map delta  delta, births: count varint, then each seq varint and the birth as in
//!            wire/kept.rs; unknown: count varint, then first varint +
//!            last varint each; collected upto varint + epoch varint
//! ```

use barrel_ormap::delta::MAX_CHUNK;
use barrel_ormap::map::Collected;
use barrel_ormap::{Add, Delta, Hlc, LiveSet, MapDelta, Pair, Removal, Removes};
use bytes::Bytes;

use super::id;
use super::kept::{read_birth, write_birth};
use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;
use crate::stores::Piece;
use crate::topic::Topic;

/// More than a piece can hold of anything.
const MAX_ITEMS: usize = MAX_CHUNK;

/// The bytes of a piece of a log.
pub(crate) fn encode_piece(piece: &Piece) -> Bytes {
    let mut out = Writer::default();
    write_piece(&mut out, piece);
    let bytes = out.finish();
    debug_assert!(bytes.len() <= MAX_CHUNK, "{} bytes", bytes.len());
    bytes
}

/// The piece of some bytes, for a store of this topic; it keeps to the rules of
/// [`Delta::validate`].
pub(crate) fn decode_piece(topic: Topic, bytes: Bytes) -> Read<Piece> {
    if bytes.len() > MAX_CHUNK {
        return Err(Malformed);
    }
    let mut from = Reader::new(bytes);
    let piece = read_piece(topic, &mut from)?;
    from.end()?;
    Ok(piece)
}

pub(super) fn write_piece(out: &mut Writer, piece: &Piece) {
    match piece {
        Piece::Log(delta) => write(out, delta),
        Piece::Map(MapDelta {
            delta,
            births,
            unknown,
            collected,
        }) => {
            write(out, delta);
            out.list(births, |out, (seq, birth)| {
                out.varint(*seq);
                write_birth(out, birth);
            });
            out.list(unknown, |out, (first, last)| {
                out.varint(*first).varint(*last);
            });
            out.varint(collected.upto).varint(collected.epoch);
        }
    }
}

pub(super) fn read_piece(topic: Topic, from: &mut Reader) -> Read<Piece> {
    let delta = read(from)?;
    if !topic.is_map() {
        return Ok(Piece::Log(delta));
    }
    let births = from.list(MAX_ITEMS, |from| Ok((from.varint()?, read_birth(from)?)))?;
    let unknown = from.list(MAX_ITEMS, |from| Ok((from.varint()?, from.varint()?)))?;
    let collected = Collected {
        upto: from.varint()?,
        epoch: from.varint()?,
    };
    let delta = MapDelta {
        delta,
        births,
        unknown,
        collected,
    };
    delta.validate().map_err(|_| Malformed)?;
    Ok(Piece::Map(delta))
}

fn write(out: &mut Writer, delta: &Delta) {
    out.raw(&delta.origin.0)
        .varint(delta.inc)
        .varint(delta.from)
        .varint(delta.to - delta.from)
        .varint(delta.as_of);
    out.varint(delta.adds.len() as u64);
    let mut before = 0;
    for add in &delta.adds {
        out.varint(add.seq - before).u64(add.hlc.to_u64());
        before = add.seq;
        out.bool(add.writer.is_some());
        if let Some(writer) = add.writer {
            out.raw(&writer.0);
        }
        out.blob(add.pair.key()).blob(add.pair.value());
    }
    match &delta.removes {
        Removes::List(removals) => {
            out.u8(0).list(removals, |out, removal| {
                out.varint(removal.by).varint(removal.seq);
            });
        }
        Removes::LiveSet(set) => write_live_set(out.u8(1), set),
    }
}

fn write_live_set(out: &mut Writer, set: &LiveSet) {
    out.varint(set.above)
        .varint(set.until - set.above)
        .varint(set.complete)
        .bool(set.whole);
    out.varint(set.live.len() as u64);
    let mut before = set.above;
    for dot in &set.live {
        out.varint(dot - before);
        before = *dot;
    }
}

fn read(from: &mut Reader) -> Read<Delta> {
    let origin = id(from)?;
    let inc = from.varint()?;
    let first = from.varint()?;
    let to = after(first, from)?;
    let as_of = from.varint()?;
    let mut before = 0;
    let count = from.len(MAX_ITEMS)?;
    let mut adds = Vec::new();
    for _ in 0..count {
        before = after(before, from)?;
        adds.push(read_add(before, from)?);
    }
    let removes = match from.u8()? {
        0 => Removes::List(from.list(MAX_ITEMS, |from| {
            Ok(Removal {
                by: from.varint()?,
                seq: from.varint()?,
            })
        })?),
        1 => Removes::LiveSet(read_live_set(from)?),
        _ => return Err(Malformed),
    };
    let delta = Delta {
        origin,
        inc,
        from: first,
        to,
        as_of,
        adds,
        removes,
    };
    delta.validate().map_err(|_| Malformed)?;
    Ok(delta)
}

fn read_add(seq: u64, from: &mut Reader) -> Read<Add> {
    let hlc = Hlc::from_u64(from.u64()?);
    let writer = if from.bool()? { Some(id(from)?) } else { None };
    let key = from.blob(MAX_CHUNK)?;
    let value = from.blob(MAX_CHUNK)?;
    Ok(Add {
        seq,
        hlc,
        writer,
        pair: Pair::new(&key, &value),
    })
}

fn read_live_set(from: &mut Reader) -> Read<LiveSet> {
    let above = from.varint()?;
    let until = after(above, from)?;
    let complete = from.varint()?;
    let whole = from.bool()?;
    let count = from.len(MAX_ITEMS)?;
    let mut live = Vec::new();
    let mut before = above;
    for _ in 0..count {
        before = after(before, from)?;
        live.push(before);
    }
    Ok(LiveSet {
        above,
        until,
        complete,
        live,
        whole,
    })
}

/// A number that was written as its distance from another.
fn after(before: u64, from: &mut Reader) -> Read<u64> {
    before.checked_add(from.varint()?).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use barrel_ormap::delta::MAX_PAIR;
    use barrel_ormap::map::{Birth, LogName};
    use proptest::prelude::*;

    use super::super::samples::*;
    use super::super::{Frame, MAX_FRAME, encode};
    use super::*;
    use crate::sync::SyncMessage;

    const MAP: Topic = Topic(Topic::RESERVED);

    /// As written, whatever the rules say of it.
    fn raw(delta: &Delta) -> Bytes {
        let mut out = Writer::default();
        write(&mut out, delta);
        out.finish()
    }

    fn plain() -> Delta {
        let origin = barrel_ormap::OriginKey([1; 16]);
        let pair = Pair::new(b"key", b"value");
        let add = Add {
            seq: 2,
            hlc: Hlc::from_u64(9),
            writer: None,
            pair,
        };
        let removes = Removes::List(vec![Removal { by: 3, seq: 1 }]);
        Delta {
            origin,
            inc: 1,
            from: 0,
            to: 3,
            as_of: 3,
            adds: vec![add],
            removes,
        }
    }

    #[test]
    fn a_piece_that_breaks_the_rules_of_its_store_is_refused() {
        assert_eq!(
            decode_piece(Topic::REGISTRY, raw(&plain())),
            Ok(Piece::Log(plain()))
        );
        let no_end = Delta {
            to: (1 << 62) + 1,
            as_of: (1 << 62) + 1,
            ..plain()
        };
        let outside = Delta { from: 2, ..plain() };
        let unheard = Delta {
            as_of: 2,
            ..plain()
        };
        for bad in [no_end, outside, unheard] {
            assert_eq!(
                decode_piece(Topic::REGISTRY, raw(&bad)),
                Err(Malformed),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn numbers_do_not_run_over() {
        let mut out = Writer::default();
        out.raw(&[1; 16]).varint(1).varint(u64::MAX).varint(1);
        assert_eq!(decode_piece(Topic::REGISTRY, out.finish()), Err(Malformed));
    }

    #[test]
    fn a_piece_over_the_limit_is_refused() {
        let long = vec![0; MAX_CHUNK + 1];
        assert_eq!(
            decode_piece(Topic::REGISTRY, Bytes::from(long.clone())),
            Err(Malformed)
        );
        let chunk = [&[69, 2], &long[..]].concat();
        assert_eq!(super::super::decode(chunk.into()), Err(Malformed));
    }

    /// One entry of so many bytes, which took the place of another.
    fn large(bytes: usize) -> Delta {
        let (key, value) = (vec![1; bytes / 2], vec![2; bytes - bytes / 2]);
        let seq = barrel_ormap::delta::MAX_SEQ;
        let add = Add {
            seq,
            hlc: Hlc::from_u64(u64::MAX),
            writer: Some(barrel_ormap::OriginKey([7; 16])),
            pair: Pair::new(&key, &value),
        };
        Delta {
            inc: u64::MAX,
            from: seq - 1,
            to: seq,
            as_of: seq,
            adds: vec![add],
            ..plain()
        }
    }

    #[test]
    fn the_largest_entry_fits_into_a_frame_and_a_larger_one_is_refused() {
        let seq = barrel_ormap::delta::MAX_SEQ;
        let log = |bytes| {
            let removes = Removes::List(vec![Removal {
                by: seq,
                seq: seq - 1,
            }]);
            Piece::Log(Delta {
                removes,
                ..large(bytes)
            })
        };
        let map = |bytes| {
            let (origin, inc) = (barrel_ormap::OriginKey([8; 16]), u64::MAX);
            let log = LogName { origin, inc };
            let moves = u32::MAX;
            let delta = Delta {
                removes: Removes::List(Vec::new()),
                ..large(bytes)
            };
            Piece::Map(MapDelta {
                delta,
                births: vec![(seq, Birth { log, seq, moves }); 8],
                unknown: Vec::new(),
                collected: Collected {
                    upto: seq,
                    epoch: u64::MAX,
                },
            })
        };
        for (topic, piece, larger) in [
            (Topic::REGISTRY, log(MAX_PAIR), log(MAX_PAIR + 1)),
            (MAP, map(MAX_PAIR), map(MAX_PAIR + 1)),
        ] {
            let bytes = encode_piece(&piece);
            assert_eq!(decode_piece(topic, bytes), Ok(piece.clone()));
            frame_comes_back(&Frame::Sync(SyncMessage::Chunk { topic, piece }));
            assert_eq!(decode_piece(topic, encode_piece(&larger)), Err(Malformed));
        }
    }

    #[test]
    fn a_piece_of_a_log_is_none_of_a_map() {
        let bytes = encode_piece(&Piece::Log(plain()));
        assert_eq!(decode_piece(MAP, bytes), Err(Malformed));
    }

    proptest! {
        #[test]
        fn a_piece_of_a_log_comes_back(delta in delta()) {
            let piece = Piece::Log(delta);
            let bytes = encode_piece(&piece);
            prop_assert!(bytes.len() <= piece.delta().encoded_len());
            comes_back_whole(&piece, &bytes, |bytes| decode_piece(Topic::REGISTRY, bytes));
        }

        #[test]
        fn a_piece_of_a_map_comes_back(delta in map_delta()) {
            prop_assert_eq!(delta.validate(), Ok(()));
            let limit = delta.encoded_len();
            let piece = Piece::Map(delta);
            let bytes = encode_piece(&piece);
            prop_assert!(bytes.len() <= limit);
            comes_back_whole(&piece, &bytes, |bytes| decode_piece(MAP, bytes));
        }

        #[test]
        fn a_chunk_comes_back(log in delta(), map in map_delta()) {
            let pieces = [(Topic::DIRECTORY, Piece::Log(log)), (MAP, Piece::Map(map))];
            for (topic, piece) in pieces {
                let frame = Frame::Sync(SyncMessage::Chunk { topic, piece });
                prop_assert!(encode(&frame).len() <= MAX_FRAME / 8);
                frame_comes_back(&frame);
            }
        }

        #[test]
        fn any_bytes_are_a_piece_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for topic in [Topic::REGISTRY, MAP] {
                if let Ok(piece) = decode_piece(topic, Bytes::copy_from_slice(&bytes)) {
                    prop_assert_eq!(&encode_piece(&piece)[..], &bytes[..]);
                }
            }
        }
    }
}
