// SPDX-License-Identifier: Apache-2.0

//! The records of a persistent map, as they stand on the disk. The first byte of each
//! value is the version of this layout.
//!
//! ```text
//! keys
//!   0 entry  origin 16 bytes, inc u64, seq u64
//!   1 log    origin 16 bytes, inc u64
//!   2 floor  origin 16 bytes
//!   3 map
//! values, behind the version 1
//!   entry  hlc u64, parked u8, 0 or 1 + writer 16 bytes,
//!          births: count varint, then origin 16 bytes, inc varint, seq varint,
//!          moves varint each,
//!          key length varint + bytes, value to the end
//!   log    base varint, collected varint, cloud ranges, dead ranges:
//!          count varint, then first varint + last varint each
//!   floor  inc varint
//!   map    epoch varint
//! ```

use barrel_ormap::delta::MAX_CHUNK;
use barrel_ormap::map::{Birth, LogName, Record, RecordId};
use barrel_ormap::{Coverage, Hlc, Pair, RangeSet};
use bytes::Bytes;

use super::id;
use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;

const VERSION: u8 = 1;

/// More births than an entry has.
const MAX_BIRTHS: usize = 64;

/// More ranges than a log keeps.
const MAX_RANGES: usize = 1 << 16;

/// The key of a record, and its value if there still is one.
pub(crate) fn encode_kept(id: &RecordId, record: Option<&Record>) -> (Bytes, Option<Bytes>) {
    let mut key = Writer::default();
    match id {
        RecordId::Entry(log, seq) => key.u8(0).raw(&log.origin.0).u64(log.inc).u64(*seq),
        RecordId::Log(log) => key.u8(1).raw(&log.origin.0).u64(log.inc),
        RecordId::Floor(origin) => key.u8(2).raw(&origin.0),
        RecordId::Map => key.u8(3),
    };
    (key.finish(), record.map(encode_record))
}

/// A record from its key and value; nothing, if nobody has written them.
pub(crate) fn decode_kept(key: Bytes, value: Bytes) -> Option<(RecordId, Record)> {
    let id = read_key(Reader::new(key)).ok()?;
    let record = read_value(&id, Reader::new(value)).ok()?;
    Some((id, record))
}

fn encode_record(record: &Record) -> Bytes {
    let mut out = Writer::default();
    out.u8(VERSION);
    match record {
        Record::Entry {
            pair,
            hlc,
            writer,
            births,
            parked,
        } => {
            out.u64(hlc.to_u64()).bool(*parked).bool(writer.is_some());
            if let Some(writer) = writer {
                out.raw(&writer.0);
            }
            out.list(births, write_birth);
            out.blob(pair.key()).raw(pair.value());
        }
        Record::Log {
            applied,
            dead,
            collected,
        } => {
            out.varint(applied.base).varint(*collected);
            write_ranges(&mut out, &applied.cloud);
            write_ranges(&mut out, dead);
        }
        Record::Floor(inc) => {
            out.varint(*inc);
        }
        Record::Map { epoch } => {
            out.varint(*epoch);
        }
    }
    out.finish()
}

fn read_key(mut from: Reader) -> Read<RecordId> {
    let id = match from.u8()? {
        0 => RecordId::Entry(read_log(&mut from)?, from.u64()?),
        1 => RecordId::Log(read_log(&mut from)?),
        2 => RecordId::Floor(id(&mut from)?),
        3 => RecordId::Map,
        _ => return Err(Malformed),
    };
    from.end()?;
    Ok(id)
}

fn read_log(from: &mut Reader) -> Read<LogName> {
    Ok(LogName {
        origin: id(from)?,
        inc: from.u64()?,
    })
}

fn read_value(of: &RecordId, mut from: Reader) -> Read<Record> {
    if from.u8()? != VERSION {
        return Err(Malformed);
    }
    let record = match of {
        RecordId::Entry(..) => read_entry(&mut from)?,
        RecordId::Log(_) => {
            let (base, collected) = (from.varint()?, from.varint()?);
            let cloud = read_ranges(&mut from)?;
            Record::Log {
                applied: Coverage { base, cloud },
                dead: read_ranges(&mut from)?,
                collected,
            }
        }
        RecordId::Floor(_) => Record::Floor(from.varint()?),
        RecordId::Map => Record::Map {
            epoch: from.varint()?,
        },
    };
    from.end()?;
    Ok(record)
}

fn read_entry(from: &mut Reader) -> Read<Record> {
    let hlc = Hlc::from_u64(from.u64()?);
    let parked = from.bool()?;
    let writer = if from.bool()? { Some(id(from)?) } else { None };
    let births = from.list(MAX_BIRTHS, read_birth)?;
    let key = from.blob(MAX_CHUNK)?;
    let value = from.rest();
    Ok(Record::Entry {
        pair: Pair::new(&key, &value),
        hlc,
        writer,
        births,
        parked,
    })
}

pub(super) fn write_birth(out: &mut Writer, Birth { log, seq, moves }: &Birth) {
    out.raw(&log.origin.0)
        .varint(log.inc)
        .varint(*seq)
        .varint(u64::from(*moves));
}

pub(super) fn read_birth(from: &mut Reader) -> Read<Birth> {
    let log = LogName {
        origin: id(from)?,
        inc: from.varint()?,
    };
    let seq = from.varint()?;
    let moves = u32::try_from(from.varint()?).map_err(|_| Malformed)?;
    Ok(Birth { log, seq, moves })
}

fn write_ranges(out: &mut Writer, ranges: &RangeSet) {
    out.varint(ranges.len() as u64);
    for (first, last) in ranges.iter() {
        out.varint(first).varint(last);
    }
}

fn read_ranges(from: &mut Reader) -> Read<RangeSet> {
    let mut ranges = RangeSet::new();
    for _ in 0..from.len(MAX_RANGES)? {
        let (first, last) = (from.varint()?, from.varint()?);
        let apart = ranges
            .last()
            .is_none_or(|before| first.saturating_sub(1) > before);
        if first > last || !apart {
            return Err(Malformed);
        }
        ranges.insert(first, last);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::samples::*;
    use super::*;

    fn log() -> impl Strategy<Value = LogName> {
        (node(), any::<u64>()).prop_map(|(origin, inc)| LogName { origin, inc })
    }

    fn ranges() -> impl Strategy<Value = RangeSet> {
        vec((number(), number()), 0..9).prop_map(|pairs| {
            let mut ranges = RangeSet::new();
            pairs
                .iter()
                .for_each(|(one, other)| ranges.insert(*one.min(other), *one.max(other)));
            ranges
        })
    }

    fn entry() -> impl Strategy<Value = (RecordId, Record)> {
        let content = (
            pair(),
            any::<u64>(),
            option::of(node()),
            vec(birth(), 0..4),
            any::<bool>(),
        );
        (log(), any::<u64>(), content).prop_map(
            |(log, seq, (pair, hlc, writer, births, parked))| {
                let hlc = Hlc::from_u64(hlc);
                (
                    RecordId::Entry(log, seq),
                    Record::Entry {
                        pair,
                        hlc,
                        writer,
                        births,
                        parked,
                    },
                )
            },
        )
    }

    fn record() -> impl Strategy<Value = (RecordId, Record)> {
        prop_oneof![
            entry(),
            (log(), number(), number(), ranges(), ranges()).prop_map(
                |(log, base, collected, cloud, dead)| {
                    let applied = Coverage { base, cloud };
                    (
                        RecordId::Log(log),
                        Record::Log {
                            applied,
                            dead,
                            collected,
                        },
                    )
                }
            ),
            (node(), number())
                .prop_map(|(origin, inc)| (RecordId::Floor(origin), Record::Floor(inc))),
            number().prop_map(|epoch| (RecordId::Map, Record::Map { epoch })),
        ]
    }

    #[test]
    fn a_deleted_record_has_a_key_and_no_value() {
        let (key, value) = encode_kept(&RecordId::Map, None);
        assert_eq!((&key[..], value), (&[3][..], None));
    }

    #[test]
    fn another_version_of_the_layout_is_not_read() {
        let read = |version| decode_kept(Bytes::from_static(&[3]), vec![version, 0].into());
        assert!(read(VERSION).is_some());
        assert!(read(VERSION + 1).is_none());
    }

    #[test]
    fn a_range_set_is_written_in_one_way() {
        let log = |ranges: &[u8]| {
            let key = [&[1][..], &[7; 24]].concat();
            let value = [&[VERSION, 0, 0], ranges, &[0]].concat();
            decode_kept(key.into(), value.into())
        };
        assert!(log(&[2, 1, 2, 4, 4]).is_some());
        for bad in [
            &[2, 4, 4, 1, 2][..],
            &[2, 1, 2, 3, 4],
            &[2, 1, 4, 2, 3],
            &[1, 2, 1],
        ] {
            assert!(log(bad).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back((id, record) in record()) {
            let (key, value) = encode_kept(&id, Some(&record));
            let value = value.expect("there is a record");
            prop_assert_eq!(decode_kept(key.clone(), value.clone()), Some((id, record.clone())));
            for until in 0..key.len() {
                prop_assert_eq!(decode_kept(key.slice(..until), value.clone()), None);
            }
            // the value of an entry goes to the end
            let open = if let Record::Entry { pair, .. } = &record { pair.value().len() } else { 0 };
            for until in 0..value.len() - open {
                prop_assert_eq!(decode_kept(key.clone(), value.slice(..until)), None);
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_none(
            kind in 0..5u8,
            name in vec(any::<u8>(), 0..40),
            value in vec(any::<u8>(), 0..200),
        ) {
            let key = Bytes::from([&[kind][..], &name].concat());
            let value = Bytes::from([&[VERSION][..], &value].concat());
            if let Some((id, record)) = decode_kept(key.clone(), value.clone()) {
                prop_assert_eq!(encode_kept(&id, Some(&record)), (key, Some(value)));
            }
        }
    }
}
