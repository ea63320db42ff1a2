// SPDX-License-Identifier: Apache-2.0

//! One of each: what a search for bad input begins with.

use barrel_hyparview::{Component, Message as Overlay, Parting, Priority};
use barrel_members::{Claim, Message as Liveness, Status};
use barrel_ormap::map::{Birth, Collected, LogName, Record as Kept, RecordId};
use barrel_ormap::{
    Add, Coverage, Delta, Hlc, LiveSet, MapDelta, Pair, RangeSet, Removal, Removes, Summary, Sweep,
    Want,
};
use barrel_plumtree::Message as Tree;
use bytes::Bytes;

use super::MAP;
use super::fire::{Peer, record_of};
use crate::NodeId;
use crate::pump::{claim_id, piece_id};
use crate::stores::Piece;
use crate::sync::SyncMessage;
use crate::topic::{MessageId, Topic};
use crate::wire::{self, Frame, Greeting};

/// Well-formed input of every decoder.
pub struct Samples {
    /// One of each kind.
    pub frames: Vec<Vec<u8>>,
    /// Signed records.
    pub records: Vec<Vec<u8>>,
    /// Pieces of a log.
    pub log_pieces: Vec<Vec<u8>>,
    /// Pieces of a map's log.
    pub map_pieces: Vec<Vec<u8>>,
    /// Claims.
    pub claims: Vec<Vec<u8>>,
    /// Keys and values of the records of a persistent map.
    pub kept: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Samples that mean something to a [`Fire`](super::Fire): they speak of its peers.
pub fn samples() -> Samples {
    Samples {
        frames: frames()
            .iter()
            .map(|frame| wire::encode(frame).to_vec())
            .collect(),
        records: [Peer::A, Peer::B, Peer::Stranger]
            .map(|peer| record_of(peer).bytes().to_vec())
            .into(),
        log_pieces: pieces(Topic::REGISTRY)
            .iter()
            .map(|piece| wire::encode_piece(piece).to_vec())
            .collect(),
        map_pieces: pieces(MAP)
            .iter()
            .map(|piece| wire::encode_piece(piece).to_vec())
            .collect(),
        claims: claims()
            .iter()
            .map(|claim| wire::encode_claim(claim).to_vec())
            .collect(),
        kept: kept(),
    }
}

fn frames() -> Vec<Frame> {
    let greeting = Greeting {
        versions: (1, 2),
        features: 3,
        record: record_of(Peer::A).bytes().clone(),
    };
    let mut frames = vec![Frame::Greeting(greeting), Frame::Optional];
    frames.extend(overlay().into_iter().map(|msg| {
        let records = vec![record_of(Peer::Stranger).bytes().clone()];
        Frame::Overlay { msg, records }
    }));
    frames.extend(tree().into_iter().map(Frame::Tree));
    frames.extend([
        Frame::Members(Liveness::PassOn(claims()[0])),
        Frame::Members(Liveness::ProbeRequest {
            member: Peer::B.id(),
        }),
        Frame::Members(Liveness::ProbeAnswer {
            member: Peer::B.id(),
            reachable: true,
        }),
    ]);
    for topic in [Topic::DIRECTORY, Topic::REGISTRY, MAP] {
        frames.extend(sync(topic).into_iter().map(Frame::Sync));
    }
    frames.push(Frame::Sync(SyncMessage::Claims {
        answer: false,
        claims: claims(),
    }));
    frames
}

fn overlay() -> Vec<Overlay<NodeId>> {
    let (a, b, me, stranger) = (
        Peer::A.id(),
        Peer::B.id(),
        Peer::Me.id(),
        Peer::Stranger.id(),
    );
    let component = Some(Component { min: me, epoch: 7 });
    let peers = vec![b, stranger];
    vec![
        Overlay::Join,
        Overlay::ForwardJoin {
            joiner: stranger,
            ttl: 3,
        },
        Overlay::Neighbor {
            priority: Priority::High,
            component,
        },
        Overlay::NeighborReply {
            accepted: true,
            peers: Vec::new(),
            component,
        },
        Overlay::NeighborReply {
            accepted: false,
            peers: peers.clone(),
            component: None,
        },
        Overlay::Disconnect {
            parting: Parting::Evicted,
        },
        Overlay::Shuffle {
            origin: a,
            ttl: 1,
            peers: peers.clone(),
            component,
        },
        Overlay::ShuffleReply { peers, component },
        Overlay::Probe { component },
        Overlay::ProbeReply { component },
        Overlay::SwitchAsk { old: b },
        Overlay::SwitchReplace {
            initiator: stranger,
            old: b,
        },
        Overlay::SwitchRefuse,
        Overlay::SwitchLink { initiator: b },
    ]
}

fn tree() -> Vec<Tree<MessageId>> {
    let said = MessageId {
        topic: Topic::BROADCAST,
        origin: Peer::A.id(),
        incarnation: 1,
        seq: 1,
        span: 1,
    };
    let mut messages = vec![
        Tree::Gossip {
            id: said,
            round: 0,
            body: Bytes::from_static(b"said"),
        },
        Tree::Graft { id: None, round: 2 },
        Tree::Prune,
    ];
    let mut ids = vec![(said, 1)];
    for topic in [Topic::DIRECTORY, Topic::REGISTRY, MAP] {
        for piece in pieces(topic) {
            let Some(id) = piece_id(topic, &piece) else {
                continue;
            };
            ids.push((id, 3));
            messages.push(Tree::Graft {
                id: Some(id),
                round: 2,
            });
            messages.push(Tree::Gossip {
                id,
                round: 0,
                body: wire::encode_piece(&piece),
            });
        }
    }
    for claim in claims() {
        ids.push((claim_id(&claim), 0));
        messages.push(Tree::Gossip {
            id: claim_id(&claim),
            round: 0,
            body: wire::encode_claim(&claim),
        });
    }
    messages.push(Tree::IHave { ids });
    messages
}

fn claims() -> Vec<Claim<NodeId>> {
    let claim = |peer: Peer, status| Claim {
        member: peer.id(),
        incarnation: 1,
        beat: 0,
        status,
    };
    vec![
        claim(Peer::B, Status::Suspect),
        claim(Peer::Me, Status::Unreachable),
        Claim {
            beat: 1,
            ..claim(Peer::B, Status::Alive)
        },
        Claim {
            incarnation: 2,
            ..claim(Peer::A, Status::Left)
        },
    ]
}

fn sync(topic: Topic) -> Vec<SyncMessage> {
    let summary = Summary {
        origin: Peer::B.id(),
        inc: 1,
        base: 9,
        cloud: 1,
        audit: 2,
        settled: true,
    };
    let want = Want {
        origin: Peer::Me.id(),
        inc: 1,
        base: 0,
        have: vec![(2, 3), (9, 12)],
        sweep: Sweep { upto: 3, as_of: 5 },
        repair: Some(0),
    };
    let mut messages = vec![
        SyncMessage::Root { topic, root: 7 },
        SyncMessage::Equal { topic },
        SyncMessage::Buckets {
            topic,
            buckets: Box::new([7; 256]),
        },
        SyncMessage::Summaries {
            topic,
            answer: false,
            last: true,
            buckets: vec![0, Peer::Me.id().bucket(), 255],
            summaries: vec![
                summary,
                Summary {
                    origin: Peer::Me.id(),
                    inc: 9,
                    ..summary
                },
            ],
        },
        SyncMessage::Wants {
            topic,
            wants: vec![
                Want {
                    repair: None,
                    ..want.clone()
                },
                want,
            ],
        },
        SyncMessage::Done { topic },
    ];
    messages.extend(
        pieces(topic)
            .into_iter()
            .map(|piece| SyncMessage::Chunk { topic, piece }),
    );
    messages
}

/// A claim with an entry and a removal, and a statement about what is live.
fn pieces(topic: Topic) -> Vec<Piece> {
    let origin = Peer::B.id();
    let record = record_of(Peer::B);
    let (key, value): (&[u8], &[u8]) = match topic {
        Topic::DIRECTORY => (record.claims().name.as_bytes(), record.bytes()),
        _ => (b"key", b"value"),
    };
    let add = Add {
        seq: 2,
        hlc: Hlc::from_u64(1 << 56),
        writer: None,
        pair: Pair::new(key, value),
    };
    let list = if topic.is_map() {
        Vec::new()
    } else {
        vec![Removal { by: 2, seq: 1 }]
    };
    let set = LiveSet {
        above: 0,
        until: 4,
        complete: 4,
        live: vec![2, 4],
        whole: false,
    };
    let claimed = Delta {
        origin,
        inc: 1,
        from: 0,
        to: 2,
        as_of: 2,
        adds: vec![add],
        removes: Removes::List(list),
    };
    let removes = Removes::LiveSet(set);
    let stated = Delta {
        from: 0,
        to: 0,
        as_of: 4,
        adds: Vec::new(),
        removes,
        ..claimed.clone()
    };
    if !topic.is_map() {
        return vec![Piece::Log(claimed), Piece::Log(stated)];
    }
    let birth = Birth {
        log: LogName {
            origin: Peer::A.id(),
            inc: 1,
        },
        seq: 1,
        moves: 1,
    };
    let of_map = |delta, births, unknown| {
        Piece::Map(MapDelta {
            delta,
            births,
            unknown,
            collected: Collected { upto: 0, epoch: 1 },
        })
    };
    vec![
        of_map(claimed, vec![(2, birth)], Vec::new()),
        of_map(stated, Vec::new(), vec![(3, 3)]),
    ]
}

fn kept() -> Vec<(Vec<u8>, Vec<u8>)> {
    let log = LogName {
        origin: Peer::A.id(),
        inc: 1,
    };
    let mut cloud = RangeSet::new();
    cloud.insert(5, 6);
    let applied = Coverage {
        base: 3,
        cloud: cloud.clone(),
    };
    let births = vec![Birth {
        log,
        seq: 1,
        moves: 1,
    }];
    let (hlc, writer) = (Hlc::from_u64(1 << 56), Some(Peer::B.id()));
    let pair = Pair::new(b"key", b"value");
    let records = [
        (
            RecordId::Log(log),
            Kept::Log {
                applied,
                dead: cloud,
                collected: 1,
            },
        ),
        (
            RecordId::Entry(log, 2),
            Kept::Entry {
                pair,
                hlc,
                writer,
                births,
                parked: false,
            },
        ),
        (RecordId::Floor(Peer::B.id()), Kept::Floor(3)),
        (RecordId::Map, Kept::Map { epoch: 2 }),
    ];
    let written = records
        .iter()
        .map(|(id, record)| wire::encode_kept(id, Some(record)));
    written
        .map(|(key, value)| (key.to_vec(), value.unwrap_or_default().to_vec()))
        .collect()
}
