// SPDX-License-Identifier: Apache-2.0

//! The links this node has, the ones it is dialling, and who needs them.
//!
//! A link is dialled for whoever wants to send, and given back when nobody has used it
//! for a while: the reply to a shuffle, a probe, a comparison of stores are short
//! visits. Only a link between neighbours stays. The end that dialled gives it back, so
//! that the two ends do not close a link under each other's first word.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::queue::{Class, Full, SendQueue};
use crate::{Link, NodeId};

/// At most this many links are dialled at once; beyond it a dial fails at once, and the
/// protocol that wanted it takes its next candidate. Far above what one node's protocols
/// ask for together (a handful each).
pub(crate) const MAX_DIALS: usize = 64;

/// At most this many frames wait for one dial: a visit begins with one or two.
const MAX_WAITING: usize = 32;

/// And at most so many bytes, but always one frame: an answer to a shuffle with the
/// records of a whole address book. Whom we dial may be what a peer has made up.
pub(crate) const MAX_WAITING_BYTES: usize = 64 << 10;

/// A link that is full and takes nothing for so long is given up: what waits on it counts
/// against what we may send to others. As long as a dead link lives. A guess.
const STALLED: Duration = Duration::from_secs(10);

/// So much must wait for that: after a pause of this whole process, the links that have
/// nearly nothing to take are not blamed for it.
const MUCH: usize = 256 << 10;

/// After so many offences on one link it is closed. An honest peer commits none; a few
/// are forgiven, in case one of us has a bug.
const MAX_OFFENCES: u32 = 16;

/// One offence is forgotten in so long: a message that is out of date or was damaged by a
/// bug now and then must not add up, over weeks, to the end of a link that serves. Who
/// offends more often is stopped, if not at once. A guess.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Who has lost its link for what it did gets no other for so long, from either side:
/// long enough that its next offences cost nothing to speak of. A guess.
const SHUN_FOR: Duration = Duration::from_secs(60);

/// At most so many are remembered; beyond it the one whose time ends first is forgiven.
/// Each is a key that was let into the cluster.
const MAX_SHUNNED: usize = 256;

/// All links of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    up: BTreeMap<NodeId, Up>,
    peers: BTreeMap<Link, NodeId>,
    dials: BTreeMap<NodeId, Vec<(Class, Bytes)>>,
    /// Who gets no link, and until when.
    shunned: BTreeMap<NodeId, Duration>,
}

/// One link.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    pub(crate) link: Link,
    pub(crate) queue: SendQueue,
    /// The peer's first frame has come.
    pub(crate) greeted: bool,
    /// The peer's feature bits.
    pub(crate) features: u64,
    /// The overlay has the peer as a neighbour.
    pub(crate) neighbor: bool,
    /// The smoothed round trip, once the driver has told it.
    pub(crate) rtt: Option<Duration>,
    /// We dialled, so we give it back.
    ours: bool,
    /// The driver has been told that something waits.
    rung: bool,
    /// A payload for it was dropped.
    behind: bool,
    /// Since when it has taken nothing, although much waits.
    stall: Option<Stall>,
    /// Frames that it took.
    taken: u64,
    last_use: Duration,
    /// What the peer has done against the protocol.
    pub(crate) offences: Offences,
    /// It was told that the peer's clock is wrong.
    pub(crate) clock_told: bool,
    /// We have asked the peer for something that it is to answer in chunks.
    pub(crate) asked: bool,
    /// Claims of the peer beyond its share.
    pub(crate) claims: Allowance,
    /// Requests of the peer for what is not here, or for too much.
    pub(crate) grafts: Allowance,
    /// Members that we did not know, whom the peer has told us of.
    pub(crate) introduced: Allowance,
}

/// How a link stood.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Duration,
    /// [`Up::taken`] then.
    taken: u64,
}

/// So many in a time, and what comes in some of it at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowance {
    /// When all that was admitted is paid for.
    paid: Duration,
}

/// Offences on one link, of which one is forgotten in each [`FORGIVEN_AFTER`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Offences {
    /// When all are forgotten.
    until: Duration,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It waits on a link; the driver must be told.
    Ring(Link),
    /// It waits on a link that was rung before, or for a dial under way.
    Waits,
    /// Somebody has to dial.
    Dial,
    /// There was no room for it.
    Dropped(Option<Link>),
}

impl Links {
    /// Puts a frame on its way, or asks for a dial and keeps the frame for it.
    pub(crate) fn send(&mut self, now: Duration, to: NodeId, class: Class, frame: Bytes) -> Sent {
        if let Some(up) = self.up.get_mut(&to) {
            up.last_use = now;
            return match up.queue.push(class, frame) {
                Ok(()) if up.rung => Sent::Waits,
                Ok(()) => {
                    up.rung = true;
                    Sent::Ring(up.link)
                }
                Err(Full) => Sent::Dropped(Some(up.link)),
            };
        }
        if let Some(waiting) = self.dials.get_mut(&to) {
            let bytes: usize = waiting.iter().map(|(_, frame)| frame.len()).sum();
            let fits = waiting.is_empty() || bytes + frame.len() <= MAX_WAITING_BYTES;
            if waiting.len() >= MAX_WAITING || !fits {
                return Sent::Dropped(None);
            }
            waiting.push((class, frame));
            return Sent::Waits;
        }
        if self.dials.len() >= MAX_DIALS {
            return Sent::Dropped(None);
        }
        self.dials.insert(to, vec![(class, frame)]);
        Sent::Dial
    }

    /// A dial without a word to say: to see whether somebody is there.
    pub(crate) fn visit(&mut self, to: NodeId) -> bool {
        if self.dials.len() >= MAX_DIALS {
            return false;
        }
        self.dials.entry(to).or_default();
        true
    }

    /// A link is there; gives back what waited for it.
    pub(crate) fn on_up(
        &mut self,
        now: Duration,
        peer: NodeId,
        link: Link,
        ours: bool,
    ) -> Vec<(Class, Bytes)> {
        debug_assert!(
            !self.up.contains_key(&peer),
            "the older link goes down first"
        );
        self.peers.insert(link, peer);
        self.up.insert(
            peer,
            Up {
                link,
                queue: SendQueue::default(),
                greeted: false,
                features: 0,
                neighbor: false,
                rtt: None,
                ours,
                rung: false,
                behind: false,
                stall: None,
                taken: 0,
                last_use: now,
                offences: Offences::default(),
                clock_told: false,
                asked: false,
                claims: Allowance::default(),
                grafts: Allowance::default(),
                introduced: Allowance::default(),
            },
        );
        self.dials.remove(&peer).unwrap_or_default()
    }

    /// A link is gone; whose it was.
    pub(crate) fn on_down(&mut self, link: Link) -> Option<NodeId> {
        let peer = self.peers.remove(&link)?;
        self.up.remove(&peer);
        Some(peer)
    }

    /// A dial came to nothing; whether there was one.
    pub(crate) fn on_dial_failed(&mut self, peer: NodeId) -> bool {
        self.dials.remove(&peer).is_some()
    }

    /// This peer gets no link for a while.
    pub(crate) fn shun(&mut self, now: Duration, peer: NodeId) {
        self.shunned.retain(|_, until| *until > now);
        self.shunned.insert(peer, now + SHUN_FOR);
        if self.shunned.len() > MAX_SHUNNED {
            let first = self
                .shunned
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(peer, _)| *peer);
            first.and_then(|peer| self.shunned.remove(&peer));
        }
    }

    pub(crate) fn is_shunned(&self, now: Duration, peer: NodeId) -> bool {
        self.shunned.get(&peer).is_some_and(|until| *until > now)
    }

    pub(crate) fn peer(&self, link: Link) -> Option<NodeId> {
        self.peers.get(&link).copied()
    }

    pub(crate) fn up(&self, peer: NodeId) -> Option<&Up> {
        self.up.get(&peer)
    }

    pub(crate) fn up_mut(&mut self, peer: NodeId) -> Option<&mut Up> {
        self.up.get_mut(&peer)
    }

    pub(crate) fn is_up(&self, peer: NodeId) -> bool {
        self.up.contains_key(&peer)
    }

    pub(crate) fn is_dialled(&self, peer: NodeId) -> bool {
        self.dials.contains_key(&peer)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.up.keys().copied()
    }

    /// Dials under way.
    pub(crate) fn dialled(&self) -> impl Iterator<Item = NodeId> {
        self.dials.keys().copied()
    }

    /// Notes that a peer said something.
    pub(crate) fn used(&mut self, now: Duration, peer: NodeId) {
        if let Some(up) = self.up.get_mut(&peer) {
            up.last_use = now;
        }
    }

    /// The next frame of a link, of this class or a more urgent one.
    pub(crate) fn pop(&mut self, link: Link, at_most: Class) -> Option<Bytes> {
        let up = self.up.get_mut(self.peers.get(&link)?)?;
        let frame = up.queue.pop(at_most);
        up.taken += u64::from(frame.is_some());
        frame
    }

    /// Nothing waits for the link any more: the next frame rings again.
    pub(crate) fn drained(&mut self, link: Link) {
        if let Some(up) = self.peers.get(&link).and_then(|peer| self.up.get_mut(peer)) {
            up.rung = false;
        }
    }

    /// Something that is not in the queue waits for the link; whether to tell the driver.
    pub(crate) fn ring(&mut self, peer: NodeId) -> Option<Link> {
        let up = self.up.get_mut(&peer)?;
        (!std::mem::replace(&mut up.rung, true)).then_some(up.link)
    }

    /// A payload was dropped: the peer lacks something that it will not hear of.
    pub(crate) fn fall_behind(&mut self, link: Link) {
        if let Some(up) = self.peers.get(&link).and_then(|peer| self.up.get_mut(peer)) {
            up.behind = true;
        }
    }

    /// Links on which much waits, and that have taken nothing for too long.
    pub(crate) fn stalled(&mut self, now: Duration) -> Vec<Link> {
        let mut stalled = Vec::new();
        for up in self.up.values_mut() {
            let taken = up.taken;
            let stall = up.stall.get_or_insert(Stall { since: now, taken });
            if up.queue.len() < MUCH || stall.taken != taken {
                up.stall = None;
            } else if stall.since + STALLED <= now {
                stalled.push(up.link);
            }
        }
        stalled
    }

    /// Peers that lack something and take frames again; each is named once.
    pub(crate) fn caught_up(&mut self) -> Vec<NodeId> {
        let ready = self
            .up
            .iter_mut()
            .filter(|(_, up)| up.behind && up.queue.is_empty());
        ready
            .map(|(peer, up)| {
                up.behind = false;
                *peer
            })
            .collect()
    }

    /// The overlay has the peer as a neighbour: the link stays.
    pub(crate) fn claim(&mut self, peer: NodeId) {
        if let Some(up) = self.up.get_mut(&peer) {
            up.neighbor = true;
        }
    }

    /// It has not any more.
    pub(crate) fn release(&mut self, now: Duration, peer: NodeId) {
        if let Some(up) = self.up.get_mut(&peer) {
            up.neighbor = false;
            up.last_use = now;
        }
    }

    /// Links we dialled, that nobody has used for `linger` and no neighbour needs.
    pub(crate) fn unneeded(&self, now: Duration, linger: Duration) -> Vec<Link> {
        self.up
            .values()
            .filter(|up| up.is_visit() && up.last_use + linger <= now)
            .map(|up| up.link)
            .collect()
    }

    /// When [`Links::unneeded`] has something to say next.
    pub(crate) fn unneeded_at(&self, linger: Duration) -> Option<Duration> {
        self.up
            .values()
            .filter(|up| up.is_visit())
            .map(|up| up.last_use + linger)
            .min()
    }

    /// Bytes that wait for dials.
    pub(crate) fn waiting(&self) -> usize {
        self.dials
            .values()
            .flatten()
            .map(|(_, frame)| frame.len())
            .sum()
    }

    /// Bytes that wait on all links.
    pub(crate) fn queued(&self) -> usize {
        self.up.values().map(|up| up.queue.len()).sum()
    }
}

impl Up {
    fn is_visit(&self) -> bool {
        self.ours && !self.neighbor && self.queue.is_empty()
    }
}

impl Allowance {
    /// Whether one more is within the rate, where what comes in ten seconds may come at
    /// once.
    pub(crate) fn admit(&mut self, now: Duration, per_second: u32) -> bool {
        const AT_ONCE: Duration = Duration::from_secs(10);
        self.within(now, Duration::from_secs(1) / per_second.max(1), AT_ONCE)
    }

    /// The same for one in each so long.
    pub(crate) fn within(&mut self, now: Duration, each: Duration, at_once: Duration) -> bool {
        let within = self.paid <= now.saturating_add(at_once);
        if within {
            self.paid = self.paid.max(now).saturating_add(each);
        }
        within
    }
}

impl Offences {
    /// Notes one more; whether it was one too many.
    pub(crate) fn add(&mut self, now: Duration) -> bool {
        self.until = self.until.max(now).saturating_add(FORGIVEN_AFTER);
        self.until - now > FORGIVEN_AFTER * (MAX_OFFENCES - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offences_in_a_row_are_too_many_and_rare_ones_never() {
        let at = |n: u32, every: u64| Duration::from_secs(u64::from(n) * every);
        for every in [0, 1, 3] {
            let mut offences = Offences::default();
            let mut good = 0;
            while !offences.add(at(good, every)) {
                good += 1;
            }
            assert_eq!(good, MAX_OFFENCES - 1, "one in {every} s");
        }
        let mut offences = Offences::default();
        assert!(!(0..10_000).any(|n| offences.add(at(n, 60))));
        let later = at(10_000, 60) + FORGIVEN_AFTER * MAX_OFFENCES;
        assert_eq!((0..99).take_while(|_| !offences.add(later)).count(), 15);
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let mut allowance = Allowance::default();
        let mut admitted = |at: u64| {
            (0..1000)
                .filter(|_| allowance.admit(Duration::from_secs(at), 10))
                .count()
        };
        assert_eq!(admitted(100), 101);
        assert_eq!(admitted(101), 10);
        assert_eq!(admitted(200), 101);
    }

    #[test]
    fn so_many_are_shunned_and_not_for_ever() {
        let mut links = Links::default();
        let peer = |number: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&number.to_be_bytes());
            barrel_ormap::OriginKey(id)
        };
        let at = |ms: u16| Duration::from_millis(ms.into());
        (0..1000).for_each(|number| links.shun(at(number), peer(number)));
        assert_eq!(links.shunned.len(), MAX_SHUNNED);
        assert!(links.is_shunned(at(1000), peer(999)) && !links.is_shunned(at(1000), peer(0)));
        assert!(!links.is_shunned(at(1000) + SHUN_FOR, peer(999)));
    }

    #[test]
    fn what_waits_for_a_dial_is_bounded_in_bytes() {
        let mut links = Links::default();
        let to = barrel_ormap::OriginKey([1; 16]);
        let frame = Bytes::from(vec![7; MAX_WAITING_BYTES / 3]);
        let mut sent = || links.send(Duration::ZERO, to, Class::Control, frame.clone());
        assert_eq!(sent(), Sent::Dial);
        assert_eq!(
            (sent(), sent(), sent()),
            (Sent::Waits, Sent::Waits, Sent::Dropped(None))
        );
        assert!(links.waiting() <= MAX_WAITING_BYTES);
    }
}
