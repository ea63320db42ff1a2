//! How links carry and end.

use super::conn::{ACCEPTOR, ConnRef, DIALLER, Phase};
use super::fault::{Act, Verdict, judge};
use super::machine::{Link, LinkDown, Machine, NodeNo};
use super::time::{Time, nanos};
use super::world::{Event, World};

impl<M: Machine> World<M> {
    pub(crate) fn transmit(&mut self, node: NodeNo, which: ConnRef, message: M::Message) {
        let Some(conn) = self.conns.find_mut(which) else {
            return;
        };
        let end = conn.end_of(node);
        if conn.ends[end].phase != Phase::Up {
            return;
        }
        let (kind, length) = (M::kind(&message), M::length(&message));
        let counts = &mut self.nodes[node as usize].counts;
        counts.sent[kind] += 1;
        counts.bytes[kind] += length as u64;
        if conn.ends[1 - end].phase == Phase::Down {
            return;
        }
        if conn.ends[end].blocked.is_some() {
            conn.ends[end].held.push_back(message);
            return;
        }
        let to = conn.ends[1 - end].who.node;
        match judge(&self.rules, &mut self.dice, node, to, kind) {
            Verdict::Pass => self.send(which, end, message),
            Verdict::Hit(Act::Drop) => {}
            Verdict::Hit(Act::Reset) => self.reset(which),
            Verdict::Hit(Act::Duplicate) => {
                self.send(which, end, message.clone());
                self.send(which, end, message);
            }
            Verdict::Hit(Act::Late(by)) => {
                let at = self.arrival(which, end).after(by);
                self.send_at(at, which, end, message);
            }
            Verdict::Hit(Act::Deliver(after)) => {
                let at = self.arrival(which, end).after(after);
                self.queue.push(at, Event::Arrive(which, 1 - end, message));
            }
        }
    }

    /// In order behind what was sent before.
    pub(crate) fn send(&mut self, which: ConnRef, end: usize, message: M::Message) {
        let at = self.arrival(which, end);
        self.send_at(at, which, end, message);
    }

    fn send_at(&mut self, at: Time, which: ConnRef, end: usize, message: M::Message) {
        if let Some(conn) = self.conns.find_mut(which) {
            conn.ends[end].not_before = at;
        }
        self.queue.push(at, Event::Arrive(which, 1 - end, message));
    }

    fn arrival(&mut self, which: ConnRef, end: usize) -> Time {
        let jitter = match nanos(self.config.jitter) {
            0 => 0,
            most => self.dice.below(most + 1),
        };
        let conn = self.conns.find(which);
        conn.map_or(self.now, |conn| {
            conn.ends[end]
                .not_before
                .max(Time(self.now.0 + conn.latency + jitter))
        })
    }

    pub(crate) fn on_arrive(&mut self, which: ConnRef, end: usize, message: M::Message) {
        let Some(conn) = self
            .conns
            .find(which)
            .filter(|conn| conn.ends[end].phase == Phase::Up)
        else {
            return;
        };
        let node = conn.ends[end].who.node;
        M::fold(&message, &mut self.hash);
        self.tell(node, 6, which.link().0, |machine, now| {
            machine.handle_message(now, which.link(), message);
        });
    }

    pub(crate) fn close(&mut self, node: NodeNo, link: Link) {
        let which = ConnRef::of(link);
        let Some(conn) = self.conns.find(which) else {
            return;
        };
        let end = conn.end_of(node);
        if conn.ends[end].phase != Phase::Up {
            return;
        }
        self.abandon(which, end);
    }

    /// An end goes in good order: the other hears of it behind what was sent, or by silence.
    pub(crate) fn abandon(&mut self, which: ConnRef, end: usize) {
        let Some(conn) = self.conns.find(which) else {
            return;
        };
        let is_heard = conn.ends[end].blocked.is_none();
        if conn.ends[1 - end].phase != Phase::Down {
            if conn.ends[1 - end].phase == Phase::Opening && end == DIALLER {
                // nobody has heard of this dial
                if let Some(conn) = self.conns.find_mut(which) {
                    conn.ends[ACCEPTOR].phase = Phase::Down;
                }
            } else if is_heard {
                let at = self.arrival(which, end);
                self.queue
                    .push(at, Event::Down(which, 1 - end, LinkDown::Closed));
            } else {
                let at = self.now.after(self.config.idle_timeout);
                self.queue
                    .push(at, Event::Down(which, 1 - end, LinkDown::Failed));
            }
        }
        self.drop_end(which, end);
    }

    /// An end forgets its link; nobody is told.
    pub(crate) fn drop_end(&mut self, which: ConnRef, end: usize) {
        let Some(conn) = self.conns.find_mut(which) else {
            return;
        };
        conn.ends[end].phase = Phase::Down;
        conn.ends[end].held.clear();
        let (node, peer) = (conn.ends[end].who.node, conn.ends[1 - end].who.node);
        let links = &mut self.nodes[node as usize].links;
        if links.get(&peer) == Some(&which) {
            links.remove(&peer);
        }
        self.relog(which);
        self.conns.sweep(which);
    }

    /// A node loses a link that it knows, and is told.
    pub(crate) fn lose(&mut self, which: ConnRef, node: NodeNo, reason: LinkDown) {
        if let Some(end) = self.conns.find(which).map(|conn| conn.end_of(node)) {
            self.on_down(which, end, reason);
        }
    }

    pub(crate) fn on_down(&mut self, which: ConnRef, end: usize, reason: LinkDown) {
        let Some(conn) = self
            .conns
            .find(which)
            .filter(|conn| conn.ends[end].phase != Phase::Down)
        else {
            return;
        };
        let who = conn.ends[end].who;
        if conn.ends[end].phase == Phase::Opening {
            let contact = conn.contact.clone();
            self.abandon(which, end);
            self.on_dial_failed(who, contact);
            return;
        }
        if conn.ends[1 - end].phase != Phase::Down {
            // it went silently: the other one finds out by itself
            let at = self.now.after(self.config.idle_timeout);
            self.queue
                .push(at, Event::Down(which, 1 - end, LinkDown::Failed));
        }
        self.drop_end(which, end);
        self.tell(
            who.node,
            7 + reason as u8,
            which.link().0,
            |machine, now| {
                machine.handle_link_down(now, which.link(), reason);
            },
        );
    }

    /// Both ends lose the link, the message that was to be sent, and all that is on its way.
    pub(crate) fn reset(&mut self, which: ConnRef) {
        for end in [DIALLER, ACCEPTOR] {
            self.queue
                .push(self.now, Event::Down(which, end, LinkDown::Failed));
        }
    }
}
