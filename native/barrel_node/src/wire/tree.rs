// SPDX-License-Identifier: Apache-2.0

//! Plumtree's messages.
//!
//! ```text
//! id        topic varint, origin 16 bytes, incarnation varint, seq varint, span varint
//!
//! 32 gossip id, round varint, body to the end
//! 33 ihave  count varint (at most 1024), then id + round varint each
//! 34 graft  0 or 1 + id, round varint
//! 35 prune
//! ```

use barrel_plumtree::Message;

use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;
use super::id;
use crate::topic::{MessageId, Topic};

/// Kinds of this protocol.
pub(super) const KINDS: std::ops::RangeInclusive<u8> = 32..=35;

/// Most ids in one announcement; the tree's own limit is not above it.
const MAX_IDS: usize = 1024;

pub(super) fn write(out: &mut Writer, msg: &Message<MessageId>) {
    match msg {
        Message::Gossip { id, round, body } => {
            out.u8(32);
            write_message_id(out, id);
            out.varint(u64::from(*round)).raw(body);
        }
        Message::IHave { ids } => {
            debug_assert!(ids.len() <= MAX_IDS);
            out.u8(33).list(ids, |out, (id, round)| {
                write_message_id(out, id);
                out.varint(u64::from(*round));
            });
        }
        Message::Graft { id, round } => {
            out.u8(34).bool(id.is_some());
            if let Some(id) = id {
                write_message_id(out, id);
            }
            out.varint(u64::from(*round));
        }
        Message::Prune => {
            out.u8(35);
        }
    }
}

pub(super) fn read(kind: u8, from: &mut Reader) -> Read<Message<MessageId>> {
    Ok(match kind {
        32 => Message::Gossip { id: read_message_id(from)?, round: read_u16(from)?, body: from.rest() },
        33 => Message::IHave { ids: from.list(MAX_IDS, |from| Ok((read_message_id(from)?, read_u16(from)?)))? },
        34 => Message::Graft {
            id: if from.bool()? { Some(read_message_id(from)?) } else { None },
            round: read_u16(from)?,
        },
        35 => Message::Prune,
        _ => return Err(Malformed),
    })
}

fn write_message_id(out: &mut Writer, id: &MessageId) {
    out.varint(id.topic.0).raw(&id.origin.0).varint(id.incarnation).varint(id.seq).varint(u64::from(id.span));
}

fn read_message_id(from: &mut Reader) -> Read<MessageId> {
    Ok(MessageId {
        topic: Topic(from.varint()?),
        origin: id(from)?,
        incarnation: from.varint()?,
        seq: from.varint()?,
        span: read_u16(from)?,
    })
}

fn read_u16(from: &mut Reader) -> Read<u16> {
    u16::try_from(from.varint()?).map_err(|_| Malformed)
}
