// SPDX-License-Identifier: Apache-2.0

//! HyParView's messages.
//!
//! ```text
//! ids       count varint (at most 64), then 16 bytes each
//! component 0, or 1 + min 16 bytes + epoch varint
//! records   count varint (at most 66), then length varint + bytes each: the signed
//!           records of nodes named before, as far as the sender has them
//!
//! 16 join          records
//! 17 forward join  joiner 16 bytes, ttl u8, records
//! 18 neighbor      high u8, component, records
//! 19 reply         accepted u8, ids, component, records
//! 20 disconnect    parting u8, records
//! 21 shuffle       origin 16 bytes, ttl u8, ids, component, records
//! 22 shuffle reply ids, component, records
//! 23 probe         component, records
//! 24 probe reply   component, records
//! 25 switch ask      old 16 bytes, records
//! 26 switch replace  initiator 16 bytes, old 16 bytes, records
//! 27 switch refuse   records
//! 28 switch link     initiator 16 bytes, records
//! ```

use barrel_hyparview::{Component, MAX_PEERS, Message, Parting, Priority};
use bytes::Bytes;

use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;
use super::{MAX_RECORD, id};
use crate::NodeId;

/// Kinds of this protocol.
pub(super) const KINDS: std::ops::RangeInclusive<u8> = 16..=28;

/// Every node a message can name: a list, and two beside it.
pub(crate) const MAX_RECORDS: usize = MAX_PEERS + 2;

pub(super) fn write(out: &mut Writer, msg: &Message<NodeId>, records: &[Bytes]) {
    match msg {
        Message::Join => {
            out.u8(16);
        }
        Message::ForwardJoin { joiner, ttl } => {
            out.u8(17).raw(&joiner.0).u8(*ttl);
        }
        Message::Neighbor {
            priority,
            component,
        } => {
            out.u8(18).bool(*priority == Priority::High);
            write_component(out, component.as_ref());
        }
        Message::NeighborReply {
            accepted,
            peers,
            component,
        } => {
            out.u8(19).bool(*accepted);
            write_ids(out, peers);
            write_component(out, component.as_ref());
        }
        Message::Disconnect { parting } => {
            out.u8(20).u8(match parting {
                Parting::Evicted => 0,
                Parting::Unwanted => 1,
                Parting::Switched => 2,
                Parting::Leaving => 3,
            });
        }
        Message::Shuffle {
            origin,
            ttl,
            peers,
            component,
        } => {
            out.u8(21).raw(&origin.0).u8(*ttl);
            write_ids(out, peers);
            write_component(out, component.as_ref());
        }
        Message::ShuffleReply { peers, component } => {
            out.u8(22);
            write_ids(out, peers);
            write_component(out, component.as_ref());
        }
        Message::Probe { component } => {
            out.u8(23);
            write_component(out, component.as_ref());
        }
        Message::ProbeReply { component } => {
            out.u8(24);
            write_component(out, component.as_ref());
        }
        Message::SwitchAsk { old } => {
            out.u8(25).raw(&old.0);
        }
        Message::SwitchReplace { initiator, old } => {
            out.u8(26).raw(&initiator.0).raw(&old.0);
        }
        Message::SwitchRefuse => {
            out.u8(27);
        }
        Message::SwitchLink { initiator } => {
            out.u8(28).raw(&initiator.0);
        }
    }
    debug_assert!(records.len() <= MAX_RECORDS);
    out.list(records, |out, record| {
        out.blob(record);
    });
}

pub(super) fn read(kind: u8, from: &mut Reader) -> Read<(Message<NodeId>, Vec<Bytes>)> {
    let msg = match kind {
        16 => Message::Join,
        17 => Message::ForwardJoin {
            joiner: id(from)?,
            ttl: from.u8()?,
        },
        18 => Message::Neighbor {
            priority: if from.bool()? {
                Priority::High
            } else {
                Priority::Low
            },
            component: read_component(from)?,
        },
        19 => Message::NeighborReply {
            accepted: from.bool()?,
            peers: read_ids(from)?,
            component: read_component(from)?,
        },
        20 => Message::Disconnect {
            parting: match from.u8()? {
                0 => Parting::Evicted,
                1 => Parting::Unwanted,
                2 => Parting::Switched,
                3 => Parting::Leaving,
                _ => return Err(Malformed),
            },
        },
        21 => Message::Shuffle {
            origin: id(from)?,
            ttl: from.u8()?,
            peers: read_ids(from)?,
            component: read_component(from)?,
        },
        22 => Message::ShuffleReply {
            peers: read_ids(from)?,
            component: read_component(from)?,
        },
        23 => Message::Probe {
            component: read_component(from)?,
        },
        24 => Message::ProbeReply {
            component: read_component(from)?,
        },
        25 => Message::SwitchAsk { old: id(from)? },
        26 => Message::SwitchReplace {
            initiator: id(from)?,
            old: id(from)?,
        },
        27 => Message::SwitchRefuse,
        28 => Message::SwitchLink {
            initiator: id(from)?,
        },
        _ => return Err(Malformed),
    };
    let records = from.list(MAX_RECORDS, |from| from.blob(MAX_RECORD))?;
    Ok((msg, records))
}

fn write_ids(out: &mut Writer, ids: &[NodeId]) {
    debug_assert!(ids.len() <= MAX_PEERS);
    out.list(ids, |out, id| {
        out.raw(&id.0);
    });
}

fn read_ids(from: &mut Reader) -> Read<Vec<NodeId>> {
    from.list(MAX_PEERS, id)
}

fn write_component(out: &mut Writer, component: Option<&Component<NodeId>>) {
    out.bool(component.is_some());
    if let Some(Component { min, epoch }) = component {
        out.raw(&min.0).varint(*epoch);
    }
}

fn read_component(from: &mut Reader) -> Read<Option<Component<NodeId>>> {
    if !from.bool()? {
        return Ok(None);
    }
    Ok(Some(Component {
        min: id(from)?,
        epoch: from.varint()?,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::samples::*;
    use super::super::{Frame, MAX_FRAME, encode};
    use super::*;

    fn component() -> impl Strategy<Value = Option<Component<NodeId>>> {
        option::of((node(), number()).prop_map(|(min, epoch)| Component { min, epoch }))
    }

    fn ids() -> impl Strategy<Value = Vec<NodeId>> {
        vec(node(), 0..=MAX_PEERS)
    }

    fn talk() -> impl Strategy<Value = Message<NodeId>> {
        let priority = select(vec![Priority::Low, Priority::High]);
        let partings = [
            Parting::Evicted,
            Parting::Unwanted,
            Parting::Switched,
            Parting::Leaving,
        ];
        prop_oneof![
            Just(Message::Join),
            (node(), any::<u8>()).prop_map(|(joiner, ttl)| Message::ForwardJoin { joiner, ttl }),
            (priority, component()).prop_map(|(priority, component)| Message::Neighbor {
                priority,
                component
            }),
            (any::<bool>(), ids(), component()).prop_map(|(accepted, peers, component)| {
                Message::NeighborReply {
                    accepted,
                    peers,
                    component,
                }
            }),
            select(partings.to_vec()).prop_map(|parting| Message::Disconnect { parting }),
            (node(), any::<u8>(), ids(), component()).prop_map(
                |(origin, ttl, peers, component)| {
                    Message::Shuffle {
                        origin,
                        ttl,
                        peers,
                        component,
                    }
                }
            ),
            (ids(), component())
                .prop_map(|(peers, component)| Message::ShuffleReply { peers, component }),
        ]
    }

    fn probes_and_switches() -> impl Strategy<Value = Message<NodeId>> {
        prop_oneof![
            component().prop_map(|component| Message::Probe { component }),
            component().prop_map(|component| Message::ProbeReply { component }),
            node().prop_map(|old| Message::SwitchAsk { old }),
            (node(), node()).prop_map(|(initiator, old)| Message::SwitchReplace { initiator, old }),
            Just(Message::SwitchRefuse),
            node().prop_map(|initiator| Message::SwitchLink { initiator }),
        ]
    }

    fn records() -> impl Strategy<Value = Vec<Bytes>> {
        vec(body(), 0..8)
    }

    fn shuffle(peers: usize, records: usize) -> Frame {
        let origin = barrel_ormap::OriginKey([0xff; 16]);
        let component = Some(Component {
            min: origin,
            epoch: u64::MAX,
        });
        let msg = Message::Shuffle {
            origin,
            ttl: 16,
            peers: vec![origin; peers],
            component,
        };
        Frame::Overlay {
            msg,
            records: vec![Bytes::from(vec![7; MAX_RECORD]); records],
        }
    }

    #[test]
    fn the_largest_message_fits_into_a_frame() {
        let largest = shuffle(MAX_PEERS, MAX_RECORDS);
        assert!(encode(&largest).len() <= MAX_FRAME / 8);
        frame_comes_back(&largest);
    }

    #[test]
    fn more_records_than_names_are_refused() {
        let mut out = Writer::default();
        out.u8(16)
            .varint(MAX_RECORDS as u64 + 1)
            .raw(&[0; MAX_RECORDS + 1]);
        assert_eq!(super::super::decode(out.finish()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn each_message_comes_back(
            msg in prop_oneof![talk(), probes_and_switches()],
            records in records(),
        ) {
            frame_comes_back(&Frame::Overlay { msg, records });
        }

        #[test]
        fn any_bytes_are_a_message_or_none(bytes in noise(KINDS)) {
            is_written_as_it_came(&bytes);
        }
    }
}
