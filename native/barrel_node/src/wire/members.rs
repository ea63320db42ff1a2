// SPDX-License-Identifier: Apache-2.0

//! Liveness.
//!
//! ```text
//! claim  member 16 bytes, incarnation varint, beat varint,
//!        status u8: 0 alive, 1 suspect, 2 unreachable, 3 left
//!
//! 48 pass on        claim
//! 49 probe request  member 16 bytes
//! 50 probe answer   member 16 bytes, reachable u8
//! ```

use barrel_members::{Claim, Message, Status};
use bytes::Bytes;

use super::id;
use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;
use crate::NodeId;

/// Kinds of this protocol.
pub(super) const KINDS: std::ops::RangeInclusive<u8> = 48..=50;

pub(super) fn write(out: &mut Writer, msg: &Message<NodeId>) {
    match msg {
        Message::PassOn(claim) => {
            out.u8(48);
            write_claim(out, claim);
        }
        Message::ProbeRequest { member } => {
            out.u8(49).raw(&member.0);
        }
        Message::ProbeAnswer { member, reachable } => {
            out.u8(50).raw(&member.0).bool(*reachable);
        }
    }
}

pub(super) fn read(kind: u8, from: &mut Reader) -> Read<Message<NodeId>> {
    Ok(match kind {
        48 => Message::PassOn(read_claim(from)?),
        49 => Message::ProbeRequest { member: id(from)? },
        50 => Message::ProbeAnswer {
            member: id(from)?,
            reachable: from.bool()?,
        },
        _ => return Err(Malformed),
    })
}

/// The body of a claim's broadcast.
pub(crate) fn encode_claim(claim: &Claim<NodeId>) -> Bytes {
    let mut out = Writer::default();
    write_claim(&mut out, claim);
    out.finish()
}

/// The claim of some bytes.
pub(crate) fn decode_claim(bytes: Bytes) -> Read<Claim<NodeId>> {
    let mut from = Reader::new(bytes);
    let claim = read_claim(&mut from)?;
    from.end()?;
    Ok(claim)
}

pub(super) fn write_claim(out: &mut Writer, claim: &Claim<NodeId>) {
    out.raw(&claim.member.0)
        .varint(claim.incarnation)
        .varint(u64::from(claim.beat));
    out.u8(match claim.status {
        Status::Alive => 0,
        Status::Suspect => 1,
        Status::Unreachable => 2,
        Status::Left => 3,
    });
}

pub(super) fn read_claim(from: &mut Reader) -> Read<Claim<NodeId>> {
    Ok(Claim {
        member: id(from)?,
        incarnation: from.varint()?,
        beat: u32::try_from(from.varint()?).map_err(|_| Malformed)?,
        status: match from.u8()? {
            0 => Status::Alive,
            1 => Status::Suspect,
            2 => Status::Unreachable,
            3 => Status::Left,
            _ => return Err(Malformed),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::samples::*;
    use super::super::{Frame, MAX_FRAME, encode};
    use super::*;
    use crate::sync::{MAX_CLAIMS, SyncMessage};

    fn claim() -> impl Strategy<Value = Claim<NodeId>> {
        let status = select(vec![
            Status::Alive,
            Status::Suspect,
            Status::Unreachable,
            Status::Left,
        ]);
        (node(), number(), any::<u32>(), status).prop_map(|(member, incarnation, beat, status)| {
            Claim {
                member,
                incarnation,
                beat,
                status,
            }
        })
    }

    fn message() -> impl Strategy<Value = Message<NodeId>> {
        prop_oneof![
            claim().prop_map(Message::PassOn),
            node().prop_map(|member| Message::ProbeRequest { member }),
            (node(), any::<bool>())
                .prop_map(|(member, reachable)| Message::ProbeAnswer { member, reachable }),
        ]
    }

    #[test]
    fn a_beat_beyond_its_number_is_refused() {
        let mut out = Writer::default();
        out.raw(&[7; 16]).varint(1).varint(1 << 32).u8(0);
        assert_eq!(decode_claim(out.finish()), Err(Malformed));
    }

    #[test]
    fn a_claim_takes_no_more_than_a_broadcast_allows() {
        let member = barrel_ormap::OriginKey([0xff; 16]);
        let claim = Claim {
            member,
            incarnation: u64::MAX,
            beat: u32::MAX,
            status: Status::Left,
        };
        assert_eq!(encode_claim(&claim).len(), 16 + 10 + 5 + 1);
        let claims = vec![claim; MAX_CLAIMS];
        let frame = Frame::Sync(SyncMessage::Claims {
            answer: true,
            claims,
        });
        assert!(encode(&frame).len() <= MAX_FRAME / 16);
        frame_comes_back(&frame);
    }

    proptest! {
        #[test]
        fn a_claim_comes_back(claim in claim()) {
            comes_back_whole(&claim, &encode_claim(&claim), decode_claim);
        }

        #[test]
        fn each_message_comes_back(msg in message()) {
            frame_comes_back(&Frame::Members(msg));
        }

        #[test]
        fn claims_come_back(claims in proptest::collection::vec(claim(), 0..20), answer: bool) {
            frame_comes_back(&Frame::Sync(SyncMessage::Claims { answer, claims }));
        }

        #[test]
        fn any_bytes_are_a_message_or_none(bytes in noise(KINDS)) {
            is_written_as_it_came(&bytes);
        }
    }
}
