// SPDX-License-Identifier: Apache-2.0

//! What a peer says.

use barrel_hyparview::{Message as Overlay, Parting};
use bytes::Bytes;

use crate::event::{CloseReason, Event, Misdeed};
use crate::group::group_of;
use crate::node::Node;
use crate::queue::Class;
use crate::record::{BadRecord, Record};
use crate::topic::MessageId;
use crate::wire::{self, Frame, Greeting};
use crate::{Link, NodeId, Now};

/// Requests per second of one peer for what is not here, or beyond what it may get. As
/// many as an honest one can ask at all: 64 at a time, every 20 ms, and some more.
const MAX_UNANSWERED: u32 = 4000;

impl Node {
    pub(crate) fn on_frame(&mut self, now: Now, peer: NodeId, link: Link, frame: Frame) {
        let greeted = self.links.up(peer).is_some_and(|up| up.greeted);
        match frame {
            Frame::Greeting(greeting) if !greeted => self.on_greeting(now, peer, link, &greeting),
            _ if !greeted => self.accuse(now, peer, Misdeed::Ungreeted),
            Frame::Greeting(_) => self.accuse(now, peer, Misdeed::Ungreeted),
            Frame::Overlay { msg, records } => {
                self.on_overlay_message(now, peer, link, msg, records)
            }
            Frame::Tree(msg) => {
                // an old neighbour's word that crossed our good-bye, or a stranger's
                if !self.overlay.is_active(peer) {
                    let parting = Overlay::Disconnect {
                        parting: Parting::Unwanted,
                    };
                    self.send(
                        now,
                        peer,
                        Class::Control,
                        &Frame::Overlay {
                            msg: parting,
                            records: Vec::new(),
                        },
                    );
                    return;
                }
                self.on_tree_message(now, peer, msg);
            }
            Frame::Members(msg) => {
                if self.members.handle_message(now.mono, peer, msg).is_err() {
                    self.accuse(now, peer, Misdeed::Claims);
                }
            }
            Frame::Sync(msg) => self.on_sync(now, peer, msg),
            Frame::Optional => {}
        }
    }

    fn on_tree_message(
        &mut self,
        now: Now,
        peer: NodeId,
        msg: barrel_plumtree::Message<MessageId>,
    ) {
        let unanswered = |tree: &barrel_plumtree::Plumtree<_, _>| {
            let stats = tree.stats();
            stats.graft_refused + stats.graft_unknown
        };
        let before = unanswered(&self.tree);
        let library = self.stores.library(&self.members);
        let heard = self.tree.handle_message(now.mono, peer, msg, &library);
        // to ask for what is not here happens, but not often
        let asks_too_much = unanswered(&self.tree) > before
            && self
                .links
                .up_mut(peer)
                .is_some_and(|up| !up.grafts.admit(now.mono, MAX_UNANSWERED));
        if heard.is_err() || asks_too_much {
            self.accuse(now, peer, Misdeed::Tree);
        }
    }

    fn on_greeting(&mut self, now: Now, peer: NodeId, link: Link, greeting: &Greeting) {
        let (ours, theirs) = (wire::VERSIONS, greeting.versions);
        if theirs.1 < ours.0 || ours.1 < theirs.0 {
            self.tell(Event::Incompatible { peer, theirs, ours });
            self.close(now, link, CloseReason::Version);
            return;
        }
        match Record::verify(greeting.record.clone(), &*self.keys) {
            Ok(record) if record.id() == peer => self.file(now, record),
            Err(BadRecord::Untrusted) => {
                // our operator's decision, and no fault of the peer
                self.close(now, link, CloseReason::Unneeded);
                return;
            }
            _ => {
                self.accuse(now, peer, Misdeed::Forged);
                self.expel(now, peer, link);
                return;
            }
        }
        if let Some(up) = self.links.up_mut(peer) {
            up.greeted = true;
            up.features = greeting.features & wire::FEATURES;
        }
    }

    fn on_overlay_message(
        &mut self,
        now: Now,
        peer: NodeId,
        link: Link,
        mut msg: Overlay<NodeId>,
        records: Vec<Bytes>,
    ) {
        let mut forged = false;
        for bytes in records {
            match self.read_record(bytes) {
                Ok(Some(record)) => self.file(now, record),
                Ok(None) | Err(BadRecord::Untrusted) => {}
                Err(BadRecord::Malformed | BadRecord::Forged) => {
                    forged = true;
                    break;
                }
            }
        }
        self.leave_out_strangers(&mut msg);
        if forged {
            self.accuse(now, peer, Misdeed::Forged);
        } else if self
            .overlay
            .handle_message(now.mono, peer, link, msg)
            .is_err()
        {
            self.accuse(now, peer, Misdeed::Overlay);
        }
        self.thin_book();
    }

    fn file(&mut self, now: Now, record: Record) {
        if let Some(group) = group_of(&record.claims().addresses) {
            self.overlay.handle_group(now.mono, record.id(), group);
        }
        self.book.file(record);
    }

    /// A record that came with a message; nothing, when it is known. Known bytes need no
    /// second look at their signature.
    fn read_record(&self, bytes: Bytes) -> Result<Option<Record>, BadRecord> {
        let id = self
            .keys
            .id(&wire::record_key(&bytes).ok_or(BadRecord::Malformed)?);
        let known = id == self.id()
            || self
                .book
                .find(id)
                .is_some_and(|known| known.bytes() == &bytes)
            || self.stores.has_record(id, &bytes);
        if known {
            Ok(None)
        } else {
            Record::verify(bytes, &*self.keys).map(Some)
        }
    }

    /// Takes out of a list of ids those that nobody could dial.
    fn leave_out_strangers(&self, msg: &mut Overlay<NodeId>) {
        if !self.config.carry_records {
            return;
        }
        match msg {
            Overlay::Shuffle { peers, .. }
            | Overlay::ShuffleReply { peers, .. }
            | Overlay::NeighborReply { peers, .. } => peers.retain(|id| self.knows(*id)),
            _ => {}
        }
    }

    fn knows(&self, id: NodeId) -> bool {
        id == self.id() || self.book.find(id).is_some() || self.stores.knows(id)
    }

    /// The records of the nodes that a message names, as far as we have them, and as far as
    /// the receiver may lack them: what has been in the directory for a while, has been
    /// broadcast, and compared.
    pub(crate) fn attach(&self, now: Now, msg: &Overlay<NodeId>) -> Vec<Bytes> {
        if !self.config.carry_records {
            return Vec::new();
        }
        let mut named: Vec<NodeId> = match msg {
            Overlay::ForwardJoin { joiner, .. } => vec![*joiner],
            Overlay::Shuffle { origin, peers, .. } => std::iter::once(*origin)
                .chain(peers.iter().copied())
                .collect(),
            Overlay::ShuffleReply { peers, .. } | Overlay::NeighborReply { peers, .. } => {
                peers.clone()
            }
            Overlay::SwitchAsk { old } => vec![*old],
            Overlay::SwitchReplace { initiator, old } => vec![*initiator, *old],
            Overlay::SwitchLink { initiator } => vec![*initiator],
            Overlay::Join
            | Overlay::Neighbor { .. }
            | Overlay::Disconnect { .. }
            | Overlay::Probe { .. }
            | Overlay::ProbeReply { .. }
            | Overlay::SwitchRefuse => Vec::new(),
        };
        named.sort_unstable();
        named.dedup();
        let unheard =
            |id: &NodeId| !self.stores.knows(*id) || self.newcomers.contains(now.mono, *id);
        named
            .into_iter()
            .filter(unheard)
            .filter_map(|id| self.record_bytes(id))
            .collect()
    }

    fn record_bytes(&self, id: NodeId) -> Option<Bytes> {
        if id == self.id() {
            return Some(self.record.bytes().clone());
        }
        self.book
            .find(id)
            .map(|record| record.bytes().clone())
            .or_else(|| self.stores.record_bytes(id))
    }

    /// Forgets records that nobody here needs any more.
    fn thin_book(&mut self) {
        if !self.book.is_thick() {
            return;
        }
        let overlay = &self.overlay;
        let in_use = overlay
            .active()
            .chain(overlay.passive())
            .chain(overlay.lost())
            .chain(self.links.peers())
            .chain(self.links.dialled())
            .collect();
        self.book.clear_out(&in_use);
    }
}
