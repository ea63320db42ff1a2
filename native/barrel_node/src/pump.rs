// SPDX-License-Identifier: Apache-2.0

//! The one place where what one protocol says reaches another.
//!
//! ```text
//!            up, down                 deliver                 changed
//! overlay ─────────────> tree ───────────────────> stores ──────────────> application
//!    ^                     ^                          │ record
//!    │ cluster size        │ claims                   v
//!    └─────────────────────┴────────────────────── members ─────────────> application
//!                                                     │ hide, show, depart
//!                                                     └─────> stores
//! ```
//!
//! Each verb of the node ends here, and here it ends: a loop over all outputs until no
//! part has any. The tree goes first, because it waits for a verdict on what it
//! delivered before it may be asked anything else.

use barrel_hyparview::{Event as OverlayEvent, Output as OverlayOutput};
use barrel_members::{Claim, DownReason, Event as MembersEvent, Output as MembersOutput, Status};
use barrel_plumtree::{Event as TreeEvent, Message as TreeMessage, Output as TreeOutput};

use crate::event::{Event, Misdeed, Table, Write};
use bytes::Bytes;
use rand::seq::IteratorRandom;

use crate::node::Node;
use crate::queue::Class;
use crate::stores::{Change, Piece};
use crate::topic::{MessageId, Topic};
use crate::wire::{self, Frame};
use crate::{NodeId, Now};

/// How far above ours an incarnation is believed that nobody has signed: 70 years of
/// milliseconds, as far as a clock that stood at 1970 can be off. So nobody can use up
/// the numbers there are.
const MAX_JUMP: u64 = 1 << 41;

impl Node {
    pub(crate) fn pump(&mut self, now: Now) {
        loop {
            if let Some(output) = self.tree.poll_output() {
                self.on_tree(now, output);
            } else if let Some(output) = self.overlay.poll_output() {
                self.on_overlay(now, output);
            } else if let Some(output) = self.members.poll_output() {
                self.on_members(now, output);
            } else if let Some(change) = self.stores.poll_change() {
                self.on_change(now, change);
            } else {
                break;
            }
        }
        self.keep();
    }

    fn on_overlay(&mut self, now: Now, output: OverlayOutput<NodeId>) {
        match output {
            OverlayOutput::Send { to, msg } => {
                let records = self.attach(now, &msg);
                self.send(now, to, Class::Control, &Frame::Overlay { msg, records });
            }
            OverlayOutput::Release { peer } => self.links.release(now.mono, peer),
            OverlayOutput::Up { peer, .. } => {
                self.links.claim(peer);
                self.tree.handle_neighbor_up(now.mono, peer);
                if let Some(rtt) = self.links.up(peer).and_then(|up| up.rtt) {
                    self.tree.handle_rtt(peer, rtt);
                }
                self.tell(Event::PeerUp(peer));
                if !std::mem::replace(&mut self.joined, true) {
                    self.tell(Event::Joined);
                }
                self.compare_with_neighbor(now, peer);
            }
            OverlayOutput::Down { peer, reason } => {
                self.links.release(now.mono, peer);
                self.tree.handle_neighbor_down(now.mono, peer);
                self.tell(Event::PeerDown { peer, reason });
            }
            OverlayOutput::Event(event) => {
                if matches!(event, OverlayEvent::UnderFilled { active: 0, .. }) {
                    self.join_anybody(now);
                }
                self.tell(Event::Overlay(event));
            }
        }
    }

    /// The address book is used up; the directory knows more.
    fn join_anybody(&mut self, now: Now) {
        let others = self
            .members
            .iter()
            .map(|(id, _)| id)
            .filter(|id| self.members.is_up(*id));
        let me = self.record.id();
        if let Some(contact) = others.filter(|id| *id != me).choose(&mut self.rng) {
            self.overlay.join(now.mono, contact);
        }
    }

    fn on_tree(&mut self, now: Now, output: TreeOutput<NodeId, MessageId>) {
        match output {
            TreeOutput::Send { to, msg } => {
                let class = match &msg {
                    // a good-bye must not come after the end of the neighbourhood
                    TreeMessage::Gossip { id, .. } if id.topic != Topic::CLAIMS => Class::Payload,
                    _ => Class::Control,
                };
                self.send(now, to, class, &Frame::Tree(msg));
            }
            TreeOutput::Deliver { from, id, body, .. } => {
                let verdict = self.deliver(now, from, id, body);
                self.tree.handle_verdict(now.mono, from, id, verdict);
            }
            TreeOutput::Event(TreeEvent::Lost { id, .. }) => {
                self.tell(Event::Lost(id));
                self.mend_soon(now);
            }
            TreeOutput::Event(TreeEvent::Flooding { peer }) => {
                self.accuse(now, peer, Misdeed::Tree)
            }
            TreeOutput::Event(_) => {}
        }
    }

    fn on_members(&mut self, now: Now, output: MembersOutput<NodeId>) {
        match output {
            MembersOutput::Broadcast(claim) => {
                self.tree
                    .broadcast(now.mono, claim_id(&claim), wire::encode_claim(&claim));
            }
            MembersOutput::Send { to, msg } => {
                self.send(now, to, Class::Control, &Frame::Members(msg))
            }
            MembersOutput::Probe(peer) => self.probe(now, peer),
            MembersOutput::Hide(member) => self.stores.hide(now, member),
            MembersOutput::Forget(member) => self.stores.forget(member),
            MembersOutput::Show(member) => self.stores.show(member),
            MembersOutput::Depart {
                member,
                incarnation,
            } => {
                let left = self
                    .members
                    .state(member)
                    .is_some_and(|claim| claim.status == Status::Left);
                self.stores.depart(now, member, incarnation, left);
            }
            MembersOutput::Refresh => self.renew_record(now),
            MembersOutput::Bump { incarnation } => {
                self.identity.incarnation = incarnation;
                self.stores.restart(incarnation);
                self.unsaved.push(Write {
                    table: Table::Node,
                    key: Bytes::from_static(b"incarnation"),
                    value: Some(Bytes::copy_from_slice(&incarnation.to_be_bytes())),
                });
                self.renew_record(now);
                self.tell(Event::Clash { incarnation });
            }
            MembersOutput::Event(event) => self.on_members_event(now, event),
        }
    }

    fn on_members_event(&mut self, now: Now, event: MembersEvent<NodeId>) {
        match event {
            MembersEvent::NodeUp { member, .. } => {
                self.overlay
                    .handle_cluster_size(now.mono, self.members.up());
                let name = self.name_of(member);
                self.tell(Event::NodeUp { node: member, name });
            }
            MembersEvent::NodeDown { member, reason, .. } => {
                self.overlay
                    .handle_cluster_size(now.mono, self.members.up());
                let name = self.name_of(member);
                let left = reason == DownReason::Left;
                if left {
                    self.overlay.handle_forget(now.mono, member);
                }
                self.tell(Event::NodeDown {
                    node: member,
                    name,
                    left,
                });
            }
            MembersEvent::Partitioned { .. } => self.tell(Event::Partitioned(true)),
            MembersEvent::Healed => self.tell(Event::Partitioned(false)),
            MembersEvent::NameClash {
                name,
                kept,
                refused,
            } => {
                self.tell(Event::NameClash {
                    name,
                    keeps: kept,
                    refused,
                });
            }
            MembersEvent::IdentityClash { .. } => {}
            // who goes too far is named where its claims are refused
            MembersEvent::Misbehaves { .. } => {}
        }
    }

    fn on_change(&mut self, now: Now, change: Change) {
        match change {
            Change::Record(pair) => self.on_record(now, pair.value()),
            Change::ServiceUp { origin, pair } => self.tell(Event::ServiceUp { origin, pair }),
            Change::ServiceDown { origin, pair } => self.tell(Event::ServiceDown { origin, pair }),
            Change::ServicesReset => self.tell(Event::ServicesReset),
            Change::MapPut { map, pair } => self.tell(Event::MapPut { map, pair }),
            Change::MapRemoved { map, key } => self.tell(Event::MapRemoved { map, key }),
            Change::Clash(theirs) => {
                // Nobody has signed that. So it lifts us by no more than a claim can.
                if theirs.saturating_sub(self.members.incarnation()) <= MAX_JUMP {
                    self.members.handle_clash(now.mono, theirs);
                }
            }
        }
    }

    fn probe(&mut self, now: Now, peer: NodeId) {
        if self.links.is_up(peer) {
            self.members.handle_link_up(now.mono, peer);
        } else if self.links.is_dialled(peer) {
            // its outcome answers this too
        } else if self.links.visit(peer) {
            self.dial(now, peer);
        } else {
            self.members.handle_dial_failed(now.mono, peer);
        }
    }
}

/// The name of a claim's broadcast: the claim itself.
pub(crate) fn claim_id(claim: &Claim<NodeId>) -> MessageId {
    MessageId {
        topic: Topic::CLAIMS,
        origin: claim.member,
        incarnation: claim.incarnation,
        seq: u64::from(claim.beat) << 2 | status_number(claim.status),
        span: 0,
    }
}

/// The name of a piece's broadcast; nothing for one that claims no operations, or more
/// than a name can say.
pub(crate) fn piece_id(topic: Topic, piece: &Piece) -> Option<MessageId> {
    let delta = piece.delta();
    let span = u16::try_from(delta.to - delta.from)
        .ok()
        .filter(|span| *span > 0)?;
    Some(MessageId {
        topic,
        origin: delta.origin,
        incarnation: delta.inc,
        seq: delta.to,
        span,
    })
}

fn status_number(status: Status) -> u64 {
    match status {
        Status::Alive => 0,
        Status::Suspect => 1,
        Status::Unreachable => 2,
        Status::Left => 3,
    }
}

/// The claim that a broadcast's name says.
pub(crate) fn claim_of(id: &MessageId) -> Option<Claim<NodeId>> {
    let status = match id.seq & 3 {
        0 => Status::Alive,
        1 => Status::Suspect,
        2 => Status::Unreachable,
        _ => Status::Left,
    };
    let beat = u32::try_from(id.seq >> 2).ok()?;
    Some(Claim {
        member: id.origin,
        incarnation: id.incarnation,
        beat,
        status,
    })
}
