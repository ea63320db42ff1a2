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
//!          0 or 1 + birth: origin 16 bytes, inc varint, seq varint, moves varint,
//!          key length varint + bytes, value to the end
//!   log    base varint, collected varint, cloud ranges, dead ranges:
//!          count varint, then first varint + last varint each
//!   floor  inc varint
//!   map    epoch varint, hlc u64
//! ```

use barrel_ormap::map::{Birth, LogName, Record, RecordId};
use barrel_ormap::delta::MAX_CHUNK;
use barrel_ormap::{Coverage, Hlc, Pair, RangeSet};
use bytes::Bytes;

use super::id;
use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;

const VERSION: u8 = 1;

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
        Record::Entry { pair, hlc, writer, birth, parked } => {
            out.u64(hlc.to_u64()).bool(*parked).bool(writer.is_some());
            if let Some(writer) = writer {
                out.raw(&writer.0);
            }
            write_birth(&mut out, birth.as_ref());
            out.blob(pair.key()).raw(pair.value());
        }
        Record::Log { applied, dead, collected } => {
            out.varint(applied.base).varint(*collected);
            write_ranges(&mut out, &applied.cloud);
            write_ranges(&mut out, dead);
        }
        Record::Floor(inc) => {
            out.varint(*inc);
        }
        Record::Map { epoch, collected } => {
            out.varint(*epoch).u64(collected.to_u64());
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
    Ok(LogName { origin: id(from)?, inc: from.u64()? })
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
            Record::Log { applied: Coverage { base, cloud }, dead: read_ranges(&mut from)?, collected }
        }
        RecordId::Floor(_) => Record::Floor(from.varint()?),
        RecordId::Map => Record::Map { epoch: from.varint()?, collected: Hlc::from_u64(from.u64()?) },
    };
    from.end()?;
    Ok(record)
}

fn read_entry(from: &mut Reader) -> Read<Record> {
    let hlc = Hlc::from_u64(from.u64()?);
    let parked = from.bool()?;
    let writer = if from.bool()? { Some(id(from)?) } else { None };
    let birth = read_birth(from)?;
    let key = from.blob(MAX_CHUNK)?;
    let value = from.rest();
    Ok(Record::Entry { pair: Pair::new(&key, &value), hlc, writer, birth, parked })
}

fn write_birth(out: &mut Writer, birth: Option<&Birth>) {
    out.bool(birth.is_some());
    if let Some(birth) = birth {
        write_some_birth(out, birth);
    }
}

pub(super) fn write_some_birth(out: &mut Writer, Birth { log, seq, moves }: &Birth) {
    out.raw(&log.origin.0).varint(log.inc).varint(*seq).varint(u64::from(*moves));
}

fn read_birth(from: &mut Reader) -> Read<Option<Birth>> {
    if from.bool()? { read_some_birth(from).map(Some) } else { Ok(None) }
}

pub(super) fn read_some_birth(from: &mut Reader) -> Read<Birth> {
    let log = LogName { origin: id(from)?, inc: from.varint()? };
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
        if first > last {
            return Err(Malformed);
        }
        ranges.insert(first, last);
    }
    Ok(ranges)
}
