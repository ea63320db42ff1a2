// SPDX-License-Identifier: Apache-2.0

//! A few nodes, and links that behave as badly as links may.
//!
//! Messages of one link and direction keep their order; everything else may happen in any.
//! A link that fails says so to its ends at different times. A link that is closed loses what
//! the closing end has not read. Two ends may dial each other at once; the newer link then
//! replaces the older one. What a link still carried may come late, after its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use barrel_hyparview::{Config, HyParView, Link, LinkDown, Message, Output};
use proptest::prelude::*;

/// Deliveries after which a schedule must be quiet.
const PATIENCE: usize = 20_000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Join(u8, u8),
    Leave(u8),
    Forget(u8, u8),
    Restart(u8),
    Size(u8),
    Fail(u8),
    Refuse(u8),
    Close(u8),
    Late(u8),
    Wait(u16),
    Deliver(u8),
    Flush,
}

impl Step {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            6 => any::<(u8, u8)>().prop_map(|(a, b)| Self::Join(a, b)),
            1 => any::<u8>().prop_map(Self::Leave),
            1 => any::<(u8, u8)>().prop_map(|(a, b)| Self::Forget(a, b)),
            1 => any::<u8>().prop_map(Self::Restart),
            1 => any::<u8>().prop_map(Self::Size),
            2 => any::<u8>().prop_map(Self::Fail),
            1 => any::<u8>().prop_map(Self::Refuse),
            4 => any::<u8>().prop_map(Self::Close),
            2 => any::<u8>().prop_map(Self::Late),
            4 => (0..12_000_u16).prop_map(Self::Wait),
            40 => any::<u8>().prop_map(Self::Deliver),
            1 => Just(Self::Flush),
        ]
    }
}

#[derive(Clone, Debug)]
enum Item {
    Msg(Message<u8>),
    Closed,
    Failed,
}

/// One side of a wire: who it is, under which number it knows the wire, and what comes.
#[derive(Clone, Debug)]
struct End {
    node: u8,
    number: Option<Link>,
    open: bool,
    incoming: VecDeque<Item>,
}

/// A link, or the dial for one; the first end dialled.
#[derive(Clone, Debug)]
struct Wire {
    ends: [End; 2],
    up: bool,
}

pub(crate) struct World {
    now: Duration,
    nodes: Vec<HyParView<u8>>,
    config: Config,
    wires: Vec<Wire>,
    numbers: u64,
    lives: u64,
    announced: Vec<BTreeMap<u8, Link>>,
    needed: Vec<BTreeSet<u8>>,
    late: Vec<(u8, u8, Link, Message<u8>)>,
}

impl World {
    pub(crate) fn new(size: usize, config: &Config) -> Self {
        let node = |id: u8| HyParView::new(id, config.clone(), id.into());
        Self {
            now: Duration::ZERO,
            nodes: (0..size as u8).map(node).collect(),
            config: config.clone(),
            wires: Vec::new(),
            numbers: 0,
            lives: size as u64,
            announced: vec![BTreeMap::new(); size],
            needed: vec![BTreeSet::new(); size],
            late: Vec::new(),
        }
    }

    /// The steps; then all is delivered and must be well; then so again after a while without
    /// faults.
    pub(crate) fn run(mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.step(*step)?;
        }
        self.flush()?;
        self.check()?;
        for _ in 0..8 {
            self.wait(Duration::from_secs(2))?;
            self.flush()?;
        }
        self.check()
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        let size = self.nodes.len() as u8;
        let now = self.now;
        match step {
            Step::Join(a, b) => self.call(a % size, |node| node.join(now, b % size)),
            Step::Leave(a) => self.call(a % size, |node| node.leave(now)),
            Step::Forget(a, b) => self.call(a % size, |node| node.handle_forget(now, b % size)),
            Step::Size(a) => {
                let members = usize::from(a) % 12;
                self.call(a % size, |node| node.handle_cluster_size(now, members))
            }
            Step::Restart(a) => self.restart(a % size),
            Step::Fail(at) => {
                let up = |wire: &Wire| wire.up;
                self.nth(at, up).map_or(Ok(()), |wire| self.fail(wire))
            }
            Step::Refuse(at) => {
                let dialling = |wire: &Wire| !wire.up;
                let wire = self.nth(at, dialling);
                wire.map_or(Ok(()), |wire| self.connect(wire, false))
            }
            Step::Close(at) => self.close_unneeded(at),
            Step::Late(at) => self.deliver_late(at),
            Step::Wait(ms) => self.wait(Duration::from_millis(ms.into())),
            Step::Deliver(at) => self.deliver(at).map(|_| ()),
            Step::Flush => self.flush(),
        }
    }

    fn nth(&self, at: u8, fits: impl Fn(&Wire) -> bool) -> Option<usize> {
        let fitting = self.wires.iter().enumerate();
        let fitting: Vec<usize> = fitting.filter(|(_, w)| fits(w)).map(|(i, _)| i).collect();
        (!fitting.is_empty()).then(|| fitting[usize::from(at) % fitting.len()])
    }

    fn call(&mut self, id: u8, verb: impl FnOnce(&mut HyParView<u8>)) -> Result<(), String> {
        let node = usize::from(id);
        verb(&mut self.nodes[node]);
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                Output::Send { to, msg } => self.send(id, to, msg)?,
                Output::Release { peer } => {
                    self.needed[node].remove(&peer);
                }
                Output::Up { peer, link } => {
                    if self.announced[node].insert(peer, link).is_some() {
                        return Err(format!("{id} announced {peer} twice"));
                    }
                }
                Output::Down { peer, .. } => {
                    if self.announced[node].remove(&peer).is_none() {
                        return Err(format!("{id} dropped {peer}, who was not announced"));
                    }
                }
                Output::Event(_) => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, from: u8, to: u8, msg: Message<u8>) -> Result<(), String> {
        if from == to || usize::from(to) >= self.nodes.len() {
            return Err(format!("{from} sends {msg:?} to {to}"));
        }
        self.needed[usize::from(from)].insert(to);
        let (wire, end) = self.open(from, to).unwrap_or_else(|| {
            let end = |node| End {
                node,
                number: None,
                open: true,
                incoming: VecDeque::new(),
            };
            let ends = [end(from), end(to)];
            self.wires.push(Wire { ends, up: false });
            (self.wires.len() - 1, 0)
        });
        let incoming = &mut self.wires[wire].ends[1 - end].incoming;
        incoming.push_back(Item::Msg(msg));
        Ok(())
    }

    /// The wire that `from` uses to reach `to`, and its end: one that is up, or its own dial.
    fn open(&self, from: u8, to: u8) -> Option<(usize, usize)> {
        let up = self.ends_between(from, to).find(|(wire, end)| {
            let wire = &self.wires[*wire];
            wire.up && wire.ends[*end].open
        });
        up.or_else(|| {
            self.ends_between(from, to)
                .find(|(wire, end)| !self.wires[*wire].up && *end == 0)
        })
    }

    fn ends_between(&self, from: u8, to: u8) -> impl Iterator<Item = (usize, usize)> {
        self.wires.iter().enumerate().flat_map(move |(at, wire)| {
            let ends = [(0, 1), (1, 0)].into_iter();
            ends.filter(move |(end, other)| {
                wire.ends[*end].node == from && wire.ends[*other].node == to
            })
            .map(move |(end, _)| (at, end))
        })
    }

    /// A dial succeeds or fails. At either end the new link ends the older one first.
    fn connect(&mut self, wire: usize, succeeds: bool) -> Result<(), String> {
        let (dialler, other) = (self.wires[wire].ends[0].node, self.wires[wire].ends[1].node);
        let now = self.now;
        if !succeeds {
            self.wires.remove(wire);
            if self.open(dialler, other).is_none() {
                self.needed[usize::from(dialler)].remove(&other);
            }
            return self.call(dialler, |node| node.handle_dial_failed(now, other));
        }
        let mut older = Vec::new();
        for (from, to) in [(dialler, other), (other, dialler)] {
            older.extend(self.ends_between(from, to).filter(|(wire, end)| {
                let wire = &self.wires[*wire];
                wire.up && wire.ends[*end].open
            }));
        }
        self.wires[wire].up = true;
        for end in 0..2 {
            self.numbers += 1;
            self.wires[wire].ends[end].number = Some(Link(self.numbers));
        }
        for (older, end) in older {
            self.close(older, end)?;
        }
        Ok(())
    }

    /// One end closes: what it has sent arrives, what it has not read does not.
    fn close(&mut self, wire: usize, end: usize) -> Result<(), String> {
        let peer = self.wires[wire].ends[1 - end].node;
        let other = &mut self.wires[wire].ends[1 - end];
        other.incoming.push_back(Item::Closed);
        self.ended(wire, end, peer, LinkDown::Local)
    }

    fn ended(&mut self, wire: usize, end: usize, peer: u8, reason: LinkDown) -> Result<(), String> {
        let now = self.now;
        let end = &mut self.wires[wire].ends[end];
        let (id, number) = (end.node, end.number.unwrap_or(Link(0)));
        end.open = false;
        for item in end.incoming.drain(..) {
            if let Item::Msg(msg) = item {
                self.late.push((id, peer, number, msg));
            }
        }
        if self.open(id, peer).is_none() {
            self.needed[usize::from(id)].remove(&peer);
        }
        self.call(id, |node| node.handle_link_down(now, peer, number, reason))
    }

    fn fail(&mut self, wire: usize) -> Result<(), String> {
        let wire = &mut self.wires[wire];
        let nodes = [wire.ends[0].node, wire.ends[1].node];
        for (end, peer) in wire.ends.iter_mut().zip([nodes[1], nodes[0]]) {
            for item in end.incoming.drain(..) {
                if let (Item::Msg(msg), Some(number)) = (item, end.number) {
                    self.late.push((end.node, peer, number, msg));
                }
            }
            end.incoming.push_back(Item::Failed);
        }
        Ok(())
    }

    fn close_unneeded(&mut self, at: u8) -> Result<(), String> {
        let mut idle = Vec::new();
        for (wire, ends) in self.wires.iter().enumerate().filter(|(_, wire)| wire.up) {
            for end in 0..2 {
                let (mine, other) = (&ends.ends[end], &ends.ends[1 - end]);
                let needed = self.needed[usize::from(mine.node)].contains(&other.node);
                if mine.open && !needed {
                    idle.push((wire, end));
                }
            }
        }
        if idle.is_empty() {
            return Ok(());
        }
        let (wire, end) = idle[usize::from(at) % idle.len()];
        self.close(wire, end)
    }

    /// One item, or one dial. `false`: nothing is under way.
    fn deliver(&mut self, at: u8) -> Result<bool, String> {
        self.wires
            .retain(|wire| wire.ends.iter().any(|end| end.open));
        let ends = 2 * self.wires.len();
        let ready = (0..ends)
            .map(|next| (usize::from(at) + next) % ends)
            .map(|next| (next / 2, next % 2))
            .find(|(wire, end)| {
                let wire = &self.wires[*wire];
                let end = &wire.ends[*end];
                !wire.up || end.open && !end.incoming.is_empty()
            });
        match ready {
            None => return Ok(false),
            Some((wire, _)) if !self.wires[wire].up => self.connect(wire, true)?,
            Some((wire, end)) => self.receive(wire, end)?,
        }
        Ok(true)
    }

    fn receive(&mut self, wire: usize, end: usize) -> Result<(), String> {
        let from = self.wires[wire].ends[1 - end].node;
        let to = &mut self.wires[wire].ends[end];
        let (id, number, now) = (to.node, to.number.unwrap_or(Link(0)), self.now);
        match to.incoming.pop_front() {
            Some(Item::Msg(msg)) => {
                let mut said = Ok(());
                self.call(id, |node| {
                    said = node.handle_message(now, from, number, msg)
                })?;
                said.map_err(|said| said.to_string())
            }
            Some(Item::Closed) => self.ended(wire, end, from, LinkDown::Closed),
            Some(Item::Failed) => self.ended(wire, end, from, LinkDown::Failed),
            None => Ok(()),
        }
    }

    fn deliver_late(&mut self, at: u8) -> Result<(), String> {
        if self.late.is_empty() {
            return Ok(());
        }
        let at = usize::from(at) % self.late.len();
        let (id, from, number, msg) = self.late.swap_remove(at);
        let now = self.now;
        let ended = !self.announced[usize::from(id)].contains_key(&from)
            || self.open(id, from).is_some_and(|(wire, end)| {
                self.wires[wire].ends[end]
                    .number
                    .is_some_and(|current| current > number)
            });
        if !ended {
            return Ok(());
        }
        self.call(id, |node| {
            // the contents are what an honest node said
            assert_eq!(node.handle_message(now, from, number, msg), Ok(()));
        })
    }

    /// The process dies and comes back with nothing. Its links fail.
    fn restart(&mut self, id: u8) -> Result<(), String> {
        let at = usize::from(id);
        self.lives += 1;
        self.nodes[at] = HyParView::new(id, self.config.clone(), self.lives);
        self.announced[at].clear();
        self.needed[at].clear();
        self.late.retain(|(to, ..)| *to != id);
        self.wires.retain(|wire| wire.up || wire.ends[0].node != id);
        for wire in 0..self.wires.len() {
            if !self.wires[wire].up {
                continue;
            }
            let Some(end) = (0..2).find(|end| self.wires[wire].ends[*end].node == id) else {
                continue;
            };
            self.wires[wire].ends[end].open = false;
            self.wires[wire].ends[end].incoming.clear();
            let other = &mut self.wires[wire].ends[1 - end];
            other.incoming.push_back(Item::Failed);
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        self.now += time;
        let now = self.now;
        for id in 0..self.nodes.len() as u8 {
            let due = self.nodes[usize::from(id)].poll_timeout();
            if due.is_some_and(|due| due <= now) {
                self.call(id, |node| node.handle_timeout(now))?;
                let due = self.nodes[usize::from(id)].poll_timeout();
                if due.is_none_or(|due| due <= now) {
                    return Err(format!("{id} is still due at {now:?}"));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        for turn in 0..PATIENCE {
            if !self.deliver((turn % 251) as u8)? {
                return Ok(());
            }
        }
        Err("it never becomes quiet".into())
    }

    /// What must hold while nothing is under way.
    fn check(&self) -> Result<(), String> {
        for node in &self.nodes {
            let id = node.me();
            node.check()?;
            for peer in node.active() {
                if !self.nodes[usize::from(peer)].is_active(id) {
                    return Err(format!("{id} has {peer}, who does not have it"));
                }
            }
            let announced = self.announced[usize::from(id)].keys().copied();
            if node.active().collect::<BTreeSet<_>>() != announced.collect() {
                return Err(format!("the neighbours of {id} are not those it announced"));
            }
            for peer in &self.needed[usize::from(id)] {
                if !node.needs(*peer) {
                    return Err(format!("{id} keeps the link to {peer} for nothing"));
                }
            }
        }
        Ok(())
    }
}
