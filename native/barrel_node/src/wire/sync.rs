// SPDX-License-Identifier: Apache-2.0

//! The comparison of two replicas of a store.
//!
//! ```text
//! 64 root       topic varint, root u128
//! 65 equal      topic varint
//! 66 buckets    topic varint, 256 x u64
//! 67 summaries  topic varint, answer u8, last u8, buckets: count varint + u8 each,
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

use barrel_ormap::{Summary, Sweep, Want};

use super::id;
use super::reader::{Malformed, Read, Reader};
use super::{members, store};
use super::writer::Writer;
use crate::sync::{MAX_CLAIMS, MAX_SUMMARIES, MAX_WANTS, SyncMessage};
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
        SyncMessage::Summaries { topic, answer, last, buckets, summaries } => {
            debug_assert!(summaries.len() <= MAX_SUMMARIES);
            out.u8(67).varint(topic.0).bool(*answer).bool(*last).blob(buckets).list(summaries, write_summary);
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
            out.u8(71).varint(msg.topic().0).bool(*answer).list(claims, members::write_claim);
        }
    }
}

pub(super) fn read(kind: u8, from: &mut Reader) -> Read<SyncMessage> {
    let topic = Topic(from.varint()?);
    Ok(match kind {
        64 => SyncMessage::Root { topic, root: from.u128()? },
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
            buckets: from.blob(256)?.to_vec(),
            summaries: from.list(MAX_SUMMARIES, read_summary)?,
        },
        68 => SyncMessage::Wants { topic, wants: from.list(MAX_WANTS, read_want)? },
        69 => SyncMessage::Chunk { topic, piece: store::read_piece(topic, from)? },
        70 => SyncMessage::Done { topic },
        71 if topic == Topic::CLAIMS => {
            SyncMessage::Claims { answer: from.bool()?, claims: from.list(MAX_CLAIMS, members::read_claim)? }
        }
        _ => return Err(Malformed),
    })
}

fn write_summary(out: &mut Writer, summary: &Summary) {
    out.raw(&summary.origin.0).varint(summary.inc).varint(summary.base);
    out.u64(summary.cloud).u128(summary.audit).bool(summary.settled);
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

fn write_want(out: &mut Writer, want: &Want) {
    debug_assert!(want.have.len() <= MAX_RANGES);
    out.raw(&want.origin.0).varint(want.inc).varint(want.base);
    out.list(&want.have, |out, (first, last)| {
        out.varint(*first).varint(*last);
    });
    out.varint(want.sweep.upto).varint(want.sweep.as_of).bool(want.repair.is_some());
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
            if first <= last { Ok((first, last)) } else { Err(Malformed) }
        })?,
        sweep: Sweep { upto: from.varint()?, as_of: from.varint()? },
        repair: if from.bool()? { Some(from.varint()?) } else { None },
    })
}
