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
        50 => Message::ProbeAnswer { member: id(from)?, reachable: from.bool()? },
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
    out.raw(&claim.member.0).varint(claim.incarnation).varint(u64::from(claim.beat));
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
