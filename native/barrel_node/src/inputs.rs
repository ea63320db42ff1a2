// SPDX-License-Identifier: Apache-2.0

//! What the driver brings.

use std::time::Duration;

use barrel_hyparview::LinkDown;
use bytes::Bytes;

use crate::event::{CloseReason, Contact, Event, Misdeed, Output};
use crate::links::Sent;
use crate::node::Node;
use crate::queue::Class;
use crate::wire::{self, Frame, Greeting};
use crate::{Link, NodeId, Now};

impl Node {
    /// An authenticated link to `peer` is there; `dialled` says which [`Output::Dial`] it
    /// answers, if any. An older link to the same peer is taken for gone.
    pub fn handle_link_up(&mut self, now: Now, peer: NodeId, link: Link, dialled: Option<Contact>) {
        if peer == self.id() {
            self.close(now, link, CloseReason::Unneeded);
            return;
        }
        if self.links.is_shunned(now.mono, peer) {
            self.outputs.push_back(Output::Close {
                link,
                reason: CloseReason::Misbehaved,
            });
            if let Some(contact) = dialled {
                self.handle_dial_failed(now, contact);
            }
            return;
        }
        if self.links.up(peer).is_none_or(|up| up.link != link) {
            if let Some(older) = self.links.up(peer).map(|up| up.link) {
                self.on_link_gone(now, older, LinkDown::Local);
            }
            let waiting = self.links.on_up(now.mono, peer, link, dialled.is_some());
            self.greet(now, peer);
            for (class, frame) in waiting {
                self.send_bytes(now, peer, class, frame);
            }
            self.members.handle_link_up(now.mono, peer);
        }
        if let Some(Contact::Seed(seed)) = dialled {
            self.contacts.on_up(now.mono, &seed);
            self.overlay.join(now.mono, peer);
        }
        self.pump(now);
    }

    /// A link is gone. One that this node closed need not be reported.
    pub fn handle_link_down(&mut self, now: Now, link: Link, reason: LinkDown) {
        self.on_link_gone(now, link, reason);
        self.pump(now);
    }

    /// An [`Output::Dial`] came to nothing.
    pub fn handle_dial_failed(&mut self, now: Now, contact: Contact) {
        match contact {
            Contact::Peer(peer) => {
                // a link may have come from the other side meanwhile; then nothing waits
                if self.links.on_dial_failed(peer) {
                    self.on_unreachable(now, peer);
                }
            }
            Contact::Seed(seed) => {
                self.contacts.on_failed(now.mono, &seed);
                self.tell(Event::JoinFailed(Contact::Seed(seed)));
            }
        }
        self.pump(now);
    }

    /// A frame came over a link. Whatever it holds, this ends well: who breaks the
    /// protocol is named in an [`Event::Misbehaved`], and loses the link in the end.
    pub fn handle_message(&mut self, now: Now, link: Link, bytes: Bytes) {
        let Some(peer) = self.links.peer(link) else {
            return; // of a link that is gone
        };
        self.links.used(now.mono, peer);
        match wire::decode(bytes) {
            Ok(frame) => self.on_frame(now, peer, link, frame),
            Err(_) => self.accuse(now, peer, Misdeed::Malformed),
        }
        self.pump(now);
    }

    /// The next frame for a link, after [`Output::Ready`] until there is none. Control
    /// goes before repair, repair before payload.
    #[must_use]
    pub fn poll_send(&mut self, link: Link) -> Option<Bytes> {
        let peer = self.links.peer(link)?;
        if let Some(frame) = self.links.pop(link, Class::Repair) {
            return Some(frame);
        }
        if let Some(frame) = self.next_chunk(peer) {
            return Some(frame);
        }
        let frame = self.links.pop(link, Class::Payload);
        if frame.is_none() {
            self.links.drained(link);
        }
        frame
    }

    /// All that [`Output::Persist`] asked for with this token, and before, is durable.
    pub fn handle_persisted(&mut self, token: u64) {
        self.tell(Event::Durable(token));
    }

    /// The smoothed round trip to a peer, from the transport: when its link is up, and as it
    /// changes. Without it the tree's timers stay at their longest.
    pub fn handle_rtt(&mut self, peer: NodeId, rtt: Duration) {
        if let Some(up) = self.links.up_mut(peer) {
            up.rtt = Some(rtt);
        }
        self.tree.handle_rtt(peer, rtt);
    }

    /// The peer is not trusted any more: out of every view and book. Closing its links is
    /// the driver's.
    pub fn handle_forget(&mut self, now: Now, peer: NodeId) {
        self.overlay.handle_forget(now.mono, peer);
        self.members.handle_record_gone(now.mono, peer);
        self.book.remove(peer);
        self.pump(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now.mono);
        self.commit(now);
        if is_due(self.overlay.poll_timeout()) {
            self.overlay.handle_timeout(now.mono);
            self.pump(now);
        }
        if is_due(self.tree.poll_timeout()) {
            self.tree
                .handle_timeout(now.mono, &self.stores.library(&self.members));
            self.pump(now);
        }
        if is_due(self.members.poll_timeout()) {
            self.members.handle_timeout(now.mono);
        }
        self.settle_leads();
        self.open_late_maps(now);
        self.stores.handle_timeout(now, &mut self.clock);
        self.compare_when_due(now);
        for link in self.links.stalled(now.mono) {
            self.close(now, link, CloseReason::TooSlow);
        }
        for link in self.links.unneeded(now.mono, self.config.linger) {
            self.close(now, link, CloseReason::Unneeded);
        }
        if self.is_alone() {
            for seed in self.contacts.due(now.mono) {
                self.outputs.push_back(Output::Dial {
                    contact: Contact::Seed(seed),
                    record: None,
                });
            }
        }
        self.pump(now);
    }

    /// When [`Node::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let seeds = if self.is_alone() {
            self.contacts.due_at()
        } else {
            None
        };
        [
            self.overlay.poll_timeout(),
            self.tree.poll_timeout(),
            self.members.poll_timeout(),
            self.stores.poll_timeout(),
            self.links.unneeded_at(self.config.linger),
            Some(self.compare_at),
            self.mend_at,
            seeds,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What the driver is to do next; to be asked until `None` after each other verb.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Sends a frame; dials when there is no link.
    pub(crate) fn send(&mut self, now: Now, to: NodeId, class: Class, frame: &Frame) {
        self.send_bytes(now, to, class, wire::encode(frame));
    }

    fn send_bytes(&mut self, now: Now, to: NodeId, class: Class, frame: Bytes) {
        match self.links.send(now.mono, to, class, frame) {
            Sent::Waits => {}
            Sent::Ring(link) => self.outputs.push_back(Output::Ready(link)),
            Sent::Dial => self.dial(now, to),
            Sent::Dropped(Some(link)) if class == Class::Control => {
                self.close(now, link, CloseReason::TooSlow)
            }
            Sent::Dropped(Some(link)) => self.links.fall_behind(link),
            Sent::Dropped(None) => self.on_unreachable(now, to),
        }
    }

    /// Asks for a link to a peer whose address we know.
    pub(crate) fn dial(&mut self, now: Now, peer: NodeId) {
        let shunned = self.links.is_shunned(now.mono, peer);
        let record = self.find_record(peer);
        if shunned || (record.is_none() && self.config.carry_records) {
            self.links.on_dial_failed(peer);
            self.on_unreachable(now, peer);
        } else {
            self.outputs.push_back(Output::Dial {
                contact: Contact::Peer(peer),
                record,
            });
        }
    }

    fn greet(&mut self, now: Now, peer: NodeId) {
        let greeting = Greeting {
            versions: wire::VERSIONS,
            features: wire::FEATURES,
            record: self.record.bytes().clone(),
        };
        self.send(now, peer, Class::Control, &Frame::Greeting(greeting));
    }

    fn on_unreachable(&mut self, now: Now, peer: NodeId) {
        self.overlay.handle_dial_failed(now.mono, peer);
        self.members.handle_dial_failed(now.mono, peer);
    }

    fn on_link_gone(&mut self, now: Now, link: Link, reason: LinkDown) {
        if let Some(peer) = self.links.on_down(link) {
            self.rounds.drop_peer(peer);
            self.overlay.handle_link_down(now.mono, peer, link, reason);
            self.members
                .handle_link_lost(now.mono, peer, reason == LinkDown::Failed);
        }
    }

    pub(crate) fn close(&mut self, now: Now, link: Link, reason: CloseReason) {
        self.on_link_gone(now, link, LinkDown::Local);
        self.outputs.push_back(Output::Close { link, reason });
    }

    /// Notes an offence, names the culprit, and ends the link of one that goes on; it gets
    /// no other for a while.
    pub(crate) fn accuse(&mut self, now: Now, peer: NodeId, what: Misdeed) {
        self.tell(Event::Misbehaved { peer, what });
        let Some(up) = self.links.up_mut(peer) else {
            return;
        };
        if up.offences.add(now.mono) {
            let link = up.link;
            self.expel(now, peer, link);
        }
    }

    /// Ends the link of a peer for what it did.
    pub(crate) fn expel(&mut self, now: Now, peer: NodeId, link: Link) {
        self.links.shun(now.mono, peer);
        self.close(now, link, CloseReason::Misbehaved);
    }

    fn is_alone(&self) -> bool {
        self.overlay.active().next().is_none()
    }
}
