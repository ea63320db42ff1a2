// SPDX-License-Identifier: Apache-2.0

//! Plumtree's messages.
//!
//! ```text
//! id        topic varint, origin 16 bytes, incarnation varint, seq varint (at most 2^62),
//!           span varint (at most seq)
//!
//! 32 gossip id, round varint, body to the end
//! 33 ihave  count varint (at most 1024), then id + round varint each
//! 34 graft  0 or 1 + id, round varint
//! 35 prune
//! ```

use barrel_ormap::delta::MAX_SEQ;
use barrel_plumtree::Message;

use super::id;
use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;
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
        32 => Message::Gossip {
            id: read_message_id(from)?,
            round: read_u16(from)?,
            body: from.rest(),
        },
        33 => Message::IHave {
            ids: from.list(MAX_IDS, |from| {
                Ok((read_message_id(from)?, read_u16(from)?))
            })?,
        },
        34 => Message::Graft {
            id: if from.bool()? {
                Some(read_message_id(from)?)
            } else {
                None
            },
            round: read_u16(from)?,
        },
        35 => Message::Prune,
        _ => return Err(Malformed),
    })
}

fn write_message_id(out: &mut Writer, id: &MessageId) {
    out.varint(id.topic.0)
        .raw(&id.origin.0)
        .varint(id.incarnation)
        .varint(id.seq)
        .varint(u64::from(id.span));
}

fn read_message_id(from: &mut Reader) -> Read<MessageId> {
    let id = MessageId {
        topic: Topic(from.varint()?),
        origin: id(from)?,
        incarnation: from.varint()?,
        seq: from.varint()?,
        span: read_u16(from)?,
    };
    // so that nobody has to fear an overflow when counting from one end to the other
    let possible = id.seq <= MAX_SEQ && u64::from(id.span) <= id.seq;
    if possible { Ok(id) } else { Err(Malformed) }
}

fn read_u16(from: &mut Reader) -> Read<u16> {
    u16::try_from(from.varint()?).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::samples::*;
    use super::super::{Frame, MAX_BODY, MAX_FRAME, decode, encode};
    use super::*;

    fn message_id() -> impl Strategy<Value = MessageId> {
        (topic(), node(), number(), number(), any::<u16>()).prop_map(
            |(topic, origin, incarnation, seq, span)| {
                let seq = seq.min(MAX_SEQ);
                let span = span.min(u16::try_from(seq).unwrap_or(u16::MAX));
                MessageId {
                    topic,
                    origin,
                    incarnation,
                    seq,
                    span,
                }
            },
        )
    }

    fn message() -> impl Strategy<Value = Message<MessageId>> {
        prop_oneof![
            vec((message_id(), any::<u16>()), 0..40).prop_map(|ids| Message::IHave { ids }),
            (option::of(message_id()), any::<u16>())
                .prop_map(|(id, round)| Message::Graft { id, round }),
            Just(Message::Prune),
        ]
    }

    fn longest_id() -> MessageId {
        MessageId {
            topic: Topic(u64::MAX),
            origin: barrel_ormap::OriginKey([0xff; 16]),
            incarnation: u64::MAX,
            seq: MAX_SEQ,
            span: u16::MAX,
        }
    }

    #[test]
    fn the_largest_messages_fit_into_a_frame() {
        let (id, round) = (longest_id(), u16::MAX);
        let body = Bytes::from(vec![7; MAX_BODY]);
        let gossip = Frame::Tree(Message::Gossip { id, round, body });
        assert!(encode(&gossip).len() <= MAX_FRAME);
        assert_eq!(decode(encode(&gossip)), Ok(gossip));
        let ihave = Frame::Tree(Message::IHave {
            ids: vec![(id, round); MAX_IDS],
        });
        assert!(encode(&ihave).len() <= MAX_FRAME / 16);
        frame_comes_back(&ihave);
    }

    #[test]
    fn a_name_of_operations_that_nobody_can_have_is_refused() {
        let good = MessageId {
            seq: 5,
            span: 5,
            ..longest_id()
        };
        for (bad, seq, span) in [
            (false, 5, 5),
            (true, 4, 5),
            (true, u64::MAX, 0),
            (true, MAX_SEQ + 1, 1),
        ] {
            let id = Some(MessageId { seq, span, ..good });
            let bytes = encode(&Frame::Tree(Message::Graft { id, round: 0 }));
            assert_eq!(decode(bytes).is_err(), bad, "{seq} {span}");
        }
    }

    proptest! {
        #[test]
        fn each_message_comes_back(msg in message()) {
            frame_comes_back(&Frame::Tree(msg));
        }

        #[test]
        fn a_gossip_comes_back_with_its_body(id in message_id(), round: u16, body in body()) {
            let frame = Frame::Tree(Message::Gossip { id, round, body: body.clone() });
            let bytes = encode(&frame);
            let head = bytes.len() - body.len();
            for until in 0..head {
                prop_assert!(decode(bytes.slice(..until)).is_err());
            }
            prop_assert_eq!(decode(bytes), Ok(frame));
        }

        #[test]
        fn any_bytes_are_a_message_or_none(bytes in noise(KINDS)) {
            is_written_as_it_came(&bytes);
        }
    }
}
