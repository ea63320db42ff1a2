//! What can go wrong: crashes, freezes, partitions, clocks.

use std::time::Duration;

use super::config::Detection;
use super::conn::{ACCEPTOR, Conn, ConnRef, Phase};
use super::fault::Rule;
use super::linklog::{Life, LinkLog};
use super::machine::{LinkDown, Machine, NodeNo};
use super::time::{Time, nanos};
use super::world::{Event, World};

impl<M: Machine> World<M> {
    /// A node dies without a word. What it had on the disk stays.
    pub fn crash(&mut self, node: NodeNo) {
        let slot = &mut self.nodes[node as usize];
        if slot.machine.take().is_none() {
            return;
        }
        slot.deferred.clear();
        slot.timer = None;
        let links: Vec<ConnRef> = slot.links.values().copied().collect();
        for which in links {
            self.orphan(which, node);
        }
        if self.walls.is_frozen(node) {
            self.walls.thaw(node);
            self.review_walls();
        }
    }

    /// The other end of a link finds out that this one is dead.
    fn orphan(&mut self, which: ConnRef, node: NodeNo) {
        let silence = self.end_of_silence();
        let Some(conn) = self.conns.find(which) else {
            return;
        };
        let end = conn.end_of(node);
        let is_silent =
            self.config.detection == Detection::Silence || conn.ends[end].blocked.is_some();
        let at = if is_silent {
            silence
        } else {
            conn.ends[end]
                .not_before
                .max(Time(self.now.0 + conn.latency))
        };
        match conn.ends[1 - end].phase {
            Phase::Up => self
                .queue
                .push(at, Event::Down(which, 1 - end, LinkDown::Failed)),
            Phase::Opening if end == ACCEPTOR => {
                self.queue
                    .push(at, Event::Down(which, 1 - end, LinkDown::Failed));
            }
            Phase::Opening => {
                // the dial of a dead node arrives nowhere
                if let Some(conn) = self.conns.find_mut(which) {
                    conn.ends[1 - end].phase = Phase::Down;
                }
            }
            Phase::Down => {}
        }
        self.drop_end(which, end);
    }

    /// When a link fails whose other end has gone silent now.
    fn end_of_silence(&mut self) -> Time {
        let before = match nanos(self.config.keep_alive) {
            0 => 0,
            most => self.dice.below(most + 1),
        };
        let left = self
            .config
            .idle_timeout
            .saturating_sub(Duration::from_nanos(before));
        self.now.after(left)
    }

    /// Empties the disk of a node.
    pub fn wipe(&mut self, node: NodeNo) {
        self.nodes[node as usize].disk.clear();
    }

    /// A node does nothing and hears nothing for a while; then it meets at once what had waited for it. Its links end
    /// when that takes longer than the idle timeout.
    pub fn freeze(&mut self, node: NodeNo, span: Duration) {
        let who = self.nodes[node as usize].who;
        if self.lives(who) && !self.walls.is_frozen(node) {
            self.walls.freeze(node);
            self.review_walls();
            self.queue.push(self.now.after(span), Event::Thaw(who));
        }
    }

    pub(crate) fn on_thaw(&mut self, who: Life) {
        if !self.lives(who) || !self.walls.is_frozen(who.node) {
            return;
        }
        self.walls.thaw(who.node);
        self.review_walls();
        let slot = &mut self.nodes[who.node as usize];
        let deferred = std::mem::take(&mut slot.deferred);
        slot.timer = None;
        for event in deferred {
            if !matches!(event, Event::Timer(_)) {
                self.queue.push(self.now, event);
            }
        }
        self.set_timer_again(who.node);
    }

    fn set_timer_again(&mut self, node: NodeNo) {
        // nothing is asked of it, but its timer is looked at
        let _ = self.act(node, |_, _| ());
    }

    /// Puts nodes into a group. All others are in group 0.
    pub fn assign(&mut self, nodes: &[NodeNo], group: u8) {
        self.walls.assign(nodes, group);
        self.review_walls();
    }

    /// From now on nothing passes from one group to another. The other way is another cut.
    pub fn cut(&mut self, from: u8, to: u8) {
        self.walls.cut(from, to);
        self.review_walls();
    }

    /// Nothing passes between these groups and the rest, either way.
    pub fn partition(&mut self, groups: &[Vec<NodeNo>]) {
        for (nodes, group) in groups.iter().zip(1..) {
            self.walls.assign(nodes, group);
        }
        let count = groups.len() as u8;
        for from in 0..=count {
            for to in (0..=count).filter(|&to| to != from) {
                self.walls.cut(from, to);
            }
        }
        self.review_walls();
    }

    /// Everybody can reach everybody again.
    pub fn heal(&mut self) {
        self.walls.open_all();
        self.review_walls();
    }

    /// The faults of single messages from now on.
    pub fn set_rules(&mut self, rules: Vec<Rule>) {
        self.rules = rules;
    }

    /// So many of a million links fail at once, with all that is on its way.
    pub fn reset_links(&mut self, ppm: u32) {
        for which in self.conns.refs() {
            if self.dice.happens(ppm) {
                self.reset(which);
            }
        }
    }

    /// Moves the nodes to other places: links that are there take the new latencies and their ends measure the new
    /// round trip; what is on its way is not changed.
    pub fn set_latency(&mut self, latency: super::latency::Latency) {
        self.config.latency = latency;
        for which in self.conns.refs() {
            let Some(conn) = self.conns.find_mut(which) else {
                continue;
            };
            let ends = conn.ends.each_ref().map(|end| (end.who, end.phase));
            conn.latency = self.config.latency.between(ends[0].0.node, ends[1].0.node);
            let round_trip = Duration::from_nanos(2 * conn.latency);
            for (at, (who, phase)) in ends.into_iter().enumerate() {
                if phase == Phase::Up && self.lives(who) {
                    let machine = self.nodes[who.node as usize].machine.as_mut();
                    let peer = ends[1 - at].0.node;
                    machine
                        .into_iter()
                        .for_each(|machine| machine.handle_rtt(peer, round_trip));
                }
            }
        }
    }

    /// Moves the wall clock of a node, forth or back.
    pub fn step_clock(&mut self, node: NodeNo, by_ms: i64) {
        self.nodes[node as usize].skew_ms += by_ms;
    }

    /// Begins the link log with the links that are there.
    pub fn begin_link_log(&mut self) {
        self.log = Some(LinkLog::default());
        for which in self.conns.refs() {
            self.relog(which);
        }
    }

    /// The link log, if it was begun.
    #[must_use]
    pub fn link_log(&self) -> Option<&LinkLog> {
        self.log.as_ref()
    }

    pub(crate) fn relog(&mut self, which: ConnRef) {
        let (Some(log), Some(conn)) = (self.log.as_mut(), self.conns.find(which)) else {
            return;
        };
        let is_up = conn.ends.iter().all(|end| end.phase == Phase::Up);
        for (end, other) in [(0, 1), (1, 0)] {
            let usable = is_up && conn.ends[end].blocked.is_none();
            log.note(
                self.now,
                conn.ends[end].who,
                conn.ends[other].who,
                conn.latency,
                usable,
            );
        }
    }

    /// Walls have moved: some links stop carrying, others go on.
    fn review_walls(&mut self) {
        for which in self.conns.refs() {
            for end in [0, 1] {
                self.review(which, end);
            }
        }
    }

    fn review(&mut self, which: ConnRef, end: usize) {
        let Some(conn) = self.conns.find_mut(which) else {
            return;
        };
        let is_blocked = self
            .walls
            .block(conn.ends[end].who.node, conn.ends[1 - end].who.node);
        if is_blocked == conn.ends[end].blocked.is_some() {
            return;
        }
        if is_blocked {
            conn.ends[end].blocked = Some(self.now);
            let at = self.now.after(self.config.idle_timeout);
            self.queue.push(at, Event::Stalled(which, end, self.now));
        } else {
            conn.ends[end].blocked = None;
            for message in std::mem::take(&mut conn.ends[end].held) {
                self.send(which, end, message);
            }
        }
        self.relog(which);
    }

    /// Nothing came from this end for the idle timeout: the other end gives up.
    pub(crate) fn on_stalled(&mut self, which: ConnRef, end: usize, since: Time) {
        let is_so = |conn: &Conn<M>| {
            conn.ends[end].blocked == Some(since) && conn.ends[1 - end].phase == Phase::Up
        };
        if self.conns.find(which).is_some_and(is_so) {
            self.queue
                .push(self.now, Event::Down(which, 1 - end, LinkDown::Failed));
        }
    }
}
