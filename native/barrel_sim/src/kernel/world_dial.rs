//! How links open.
//!
//! ```text
//! dialler    Dial ------------.                 .---> link up ---- sends ...
//!                              \ RTT           / RTT/2
//! acceptor                      '-> link up --'----- sends ...
//! ```
//!
//! So a dial takes one and a half round trips, as a QUIC handshake with a hello inside does. When both dial at
//! once, the dial of the node with the smaller number stays and answers both. When one side has lost
//! a link of which the other still thinks it is up, the new one takes its place.

use std::time::Duration;

use super::config::Detection;
use super::conn::{ACCEPTOR, Conn, ConnRef, DIALLER, Phase};
use super::linklog::Life;
use super::machine::{LinkDown, Machine, NodeNo};
use super::time::Time;
use super::world::{Event, World};

/// What the driver of a node needs to find out that the link is there. A guess; it keeps a node that always dials
/// from stopping the clock.
const TURN: Duration = Duration::from_millis(1);

/// A handshake that met silence is sent again after so long. QUIC begins with one second and doubles it; half of that.
const AGAIN: Duration = Duration::from_millis(500);

impl<M: Machine> World<M> {
    pub(crate) fn dial(&mut self, who: Life, contact: M::Contact) {
        let node = who.node;
        self.nodes[node as usize].counts.dials += 1;
        let place = self
            .machine(node)
            .and_then(|machine| machine.place(&contact));
        let Some(target) =
            place.filter(|&there| there != node && (there as usize) < self.nodes.len())
        else {
            let at = self.now.after(self.config.dial_timeout);
            self.queue.push(at, Event::DialFailed(who, contact));
            return;
        };
        let latency = self.config.latency.between(node, target);
        if let Some(&which) = self.nodes[node as usize].links.get(&target) {
            self.dial_again(which, who, contact, latency);
            return;
        }
        let acceptor = self.nodes[target as usize].who;
        let which = self
            .conns
            .insert(Conn::new(contact, self.now, latency, who, acceptor));
        self.nodes[node as usize].links.insert(target, which);
        self.queue
            .push(Time(self.now.0 + 2 * latency), Event::Accept(which));
    }

    /// There is a link to that peer, or a dial under way.
    fn dial_again(&mut self, which: ConnRef, who: Life, contact: M::Contact, latency: u64) {
        self.nodes[who.node as usize].counts.dials -= 1;
        let Some(conn) = self.conns.find(which) else {
            return;
        };
        match conn.ends[conn.end_of(who.node)].phase {
            Phase::Up => {
                let at = self.now.after(TURN);
                self.queue.push(at, Event::Again(which, who, contact));
            }
            Phase::Opening if conn.contact == contact => {}
            Phase::Opening | Phase::Down => {
                self.queue
                    .push(Time(self.now.0 + latency.max(1)), Event::Dial(who, contact));
            }
        }
    }

    pub(crate) fn on_again(&mut self, which: ConnRef, who: Life, contact: M::Contact) {
        let conn = self.conns.find(which);
        let up = conn
            .map(|conn| (conn, conn.end_of(who.node)))
            .filter(|(conn, end)| conn.ends[*end].phase == Phase::Up);
        match up.map(|(conn, end)| conn.ends[1 - end].who.node) {
            Some(peer) => self.tell_up(which, who.node, peer, Some(contact)),
            None => self.dial(who, contact),
        }
    }

    pub(crate) fn on_dial_failed(&mut self, who: Life, contact: M::Contact) {
        self.nodes[who.node as usize].counts.failed_dials += 1;
        self.tell(who.node, 4, 0, |machine, now| {
            machine.handle_dial_failed(now, contact)
        });
    }

    pub(crate) fn on_accept(&mut self, which: ConnRef) {
        let Some(conn) = self.conns.find(which) else {
            return;
        };
        let (started, latency) = (conn.started, conn.latency);
        let (dialler, acceptor) = (conn.ends[DIALLER].who, conn.ends[ACCEPTOR].who);
        let current = self.nodes[acceptor.node as usize].who;
        if self.is_blocked(dialler.node, acceptor.node) {
            self.handshake_again(which, Event::Accept(which));
        } else if !self.lives(current) {
            let refused = match self.config.detection {
                Detection::Reset => Time(self.now.0 + latency),
                Detection::Silence => started.after(self.config.dial_timeout),
            };
            self.queue.push(
                refused.max(self.now),
                Event::Down(which, DIALLER, LinkDown::Failed),
            );
        } else {
            // whoever runs there now: it may have started anew since
            if let Some(conn) = self.conns.find_mut(which) {
                conn.ends[ACCEPTOR].who = current;
            }
            self.accept(which, dialler.node, current.node);
        }
    }

    fn accept(&mut self, which: ConnRef, dialler: NodeNo, acceptor: NodeNo) {
        let mut dialled = None;
        if let Some(&other) = self.nodes[acceptor as usize].links.get(&dialler) {
            let own = self.conns.find(other);
            let is_opening = own.is_some_and(|conn| {
                conn.ends[DIALLER].who.node == acceptor
                    && conn.ends[DIALLER].phase == Phase::Opening
            });
            if is_opening && acceptor < dialler {
                // the own dial stays; should it fail, so does this one
                self.fail_at_timeout(which);
                return;
            }
            if is_opening {
                dialled = own.map(|conn| conn.contact.clone());
                self.abandon(other, DIALLER);
            } else {
                self.lose(other, acceptor, LinkDown::Closed);
            }
        }
        if !self.lives(self.nodes[acceptor as usize].who) {
            return;
        }
        let Some(conn) = self.conns.find_mut(which) else {
            return;
        };
        let answer_at = Time(self.now.0 + conn.latency);
        conn.ends[ACCEPTOR].phase = Phase::Up;
        conn.ends[ACCEPTOR].not_before = answer_at;
        self.nodes[acceptor as usize].links.insert(dialler, which);
        self.queue.push(answer_at, Event::Establish(which));
        self.tell_up(which, acceptor, dialler, dialled);
    }

    pub(crate) fn on_establish(&mut self, which: ConnRef) {
        let Some(conn) = self
            .conns
            .find(which)
            .filter(|conn| conn.ends[DIALLER].phase == Phase::Opening)
        else {
            return;
        };
        let (dialler, acceptor) = (conn.ends[DIALLER].who.node, conn.ends[ACCEPTOR].who.node);
        let contact = conn.contact.clone();
        if self.is_blocked(dialler, acceptor) {
            self.handshake_again(which, Event::Establish(which));
            return;
        }
        let other = self.nodes[dialler as usize].links.get(&acceptor).copied();
        if let Some(other) = other.filter(|&other| other != which) {
            self.lose(other, dialler, LinkDown::Closed);
        }
        if let Some(conn) = self.conns.find_mut(which) {
            conn.ends[DIALLER].phase = Phase::Up;
        }
        self.nodes[dialler as usize].links.insert(acceptor, which);
        self.relog(which);
        self.tell_up(which, dialler, acceptor, Some(contact));
    }

    fn tell_up(&mut self, which: ConnRef, node: NodeNo, peer: NodeNo, dialled: Option<M::Contact>) {
        let one_way = self.conns.find(which).map_or(0, |conn| conn.latency);
        self.tell(node, 5, u64::from(peer), |machine, now| {
            machine.handle_link_up(now, peer, which.link(), dialled);
            machine.handle_rtt(peer, Duration::from_nanos(2 * one_way));
        });
    }

    fn handshake_again(&mut self, which: ConnRef, event: Event<M>) {
        let at = self.now.after(AGAIN);
        let started = self.conns.find(which).map_or(self.now, |conn| conn.started);
        if at <= started.after(self.config.dial_timeout) {
            self.queue.push(at, event);
        } else {
            self.fail_at_timeout(which);
        }
    }

    fn fail_at_timeout(&mut self, which: ConnRef) {
        let started = self.conns.find(which).map_or(self.now, |conn| conn.started);
        let at = started.after(self.config.dial_timeout).max(self.now);
        self.queue
            .push(at, Event::Down(which, DIALLER, LinkDown::Failed));
    }

    fn is_blocked(&self, a: NodeNo, b: NodeNo) -> bool {
        self.walls.block(a, b) || self.walls.block(b, a)
    }
}
