//! The world: nodes, time and what comes next.

use super::config::Config;
use super::conn::{ConnRef, Conns, DIALLER};
use super::dice::Dice;
use super::fault::Rule;
use super::hash::LogHash;
use super::linklog::{Life, LinkLog};
use super::machine::{Link, LinkDown, Machine, NodeNo, Now, Output};
use super::queue::Queue;
use super::slot::Slot;
use super::time::Time;
use super::walls::Walls;

/// So often a timer may fire at one moment. A node has a handful of things to do.
const MAX_FIRES: u32 = 1000;

/// What a node said, and when.
#[derive(Clone, Debug)]
pub struct Happened<E> {
    /// When.
    pub at: Time,
    /// Which node.
    pub node: NodeNo,
    /// What.
    pub event: E,
}

/// What is due.
#[derive(Clone, Debug)]
pub(crate) enum Event<M: Machine> {
    Timer(Life),
    Dial(Life, M::Contact),
    DialFailed(Life, M::Contact),
    /// A dial reaches its target.
    Accept(ConnRef),
    /// The answer reaches the one who dialled.
    Establish(ConnRef),
    /// A dial to a peer with a link: it is named again.
    Again(ConnRef, Life, M::Contact),
    /// For this end.
    Arrive(ConnRef, usize, M::Message),
    /// This end loses the link.
    Down(ConnRef, usize, LinkDown),
    /// Nothing that this end sends has arrived since then.
    Stalled(ConnRef, usize, Time),
    Persisted(Life, u64, M::Batch),
    Thaw(Life),
}

/// Nodes, links, faults and virtual time. A clone goes its own way from here on.
#[derive(Clone, Debug)]
pub struct World<M: Machine> {
    pub(crate) now: Time,
    pub(crate) config: Config,
    pub(crate) dice: Dice,
    pub(crate) queue: Queue<Event<M>>,
    pub(crate) nodes: Vec<Slot<M>>,
    pub(crate) conns: Conns<M>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) walls: Walls,
    pub(crate) log: Option<LinkLog>,
    pub(crate) hash: LogHash,
    pub(crate) happened: Vec<Happened<M::Event>>,
    pub(crate) steps: u64,
}

impl<M: Machine> World<M> {
    /// An empty world.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            now: Time::ZERO,
            dice: Dice::new(config.seed),
            config,
            queue: Queue::new(),
            nodes: Vec::new(),
            conns: Conns::new(),
            rules: Vec::new(),
            walls: Walls::default(),
            log: None,
            hash: LogHash::default(),
            happened: Vec::new(),
            steps: 0,
        }
    }

    /// A place for one more node, which is down. Its number.
    pub fn add(&mut self) -> NodeNo {
        let node = self.nodes.len() as NodeNo;
        self.nodes.push(Slot::new(node));
        node
    }

    /// Starts a node that is down.
    ///
    /// # Panics
    /// When it is not down: a mistake of the scenario.
    pub fn start(&mut self, node: NodeNo, make: impl FnOnce(Now) -> M) {
        let config_wall = self.config.wall_ms;
        let slot = &mut self.nodes[node as usize];
        assert!(slot.machine.is_none(), "node {node} runs already");
        slot.who.life += 1;
        slot.born = self.now;
        slot.timer = None;
        slot.machine = Some(make(slot.now(self.now, config_wall)));
        self.hash.number(u64::from(node) << 8 | 1);
        self.settle(node);
    }

    /// Asks something of a running node, as its owner would. `None` when it is down.
    pub fn act<T>(&mut self, node: NodeNo, ask: impl FnOnce(&mut M, Now) -> T) -> Option<T> {
        let now = self.clock(node);
        let answer = ask(self.nodes[node as usize].machine.as_mut()?, now);
        self.settle(node);
        Some(answer)
    }

    /// What happens next happens. `false` when nothing is due.
    pub fn step(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        self.steps += 1;
        self.dispatch(event);
        true
    }

    /// Lets everything happen that is due until then.
    pub fn run_until(&mut self, until: Time) {
        while self.queue.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    fn dispatch(&mut self, event: Event<M>) {
        match event {
            Event::Timer(who) => self.on_timer(who),
            Event::Accept(which) => self.on_accept(which),
            Event::Thaw(who) => self.on_thaw(who),
            Event::Stalled(which, end, since) => self.on_stalled(which, end, since),
            event => self.dispatch_to_node(event),
        }
    }

    /// Events that a frozen node meets when it thaws.
    fn dispatch_to_node(&mut self, event: Event<M>) {
        let who = match &event {
            Event::Dial(who, _) | Event::DialFailed(who, _) | Event::Again(_, who, _) => Some(*who),
            Event::Persisted(who, _, _) => Some(*who),
            Event::Establish(which) => self.end(*which, DIALLER),
            Event::Arrive(which, end, _) | Event::Down(which, end, _) => self.end(*which, *end),
            Event::Timer(_) | Event::Accept(_) | Event::Thaw(_) | Event::Stalled(..) => None,
        };
        let Some(who) = who.filter(|who| self.lives(*who)) else {
            return;
        };
        if self.walls.is_frozen(who.node) {
            self.nodes[who.node as usize].deferred.push(event);
            return;
        }
        match event {
            Event::Dial(who, contact) => self.dial(who, contact),
            Event::DialFailed(who, contact) => self.on_dial_failed(who, contact),
            Event::Again(which, who, contact) => self.on_again(which, who, contact),
            Event::Persisted(who, token, batch) => self.on_persisted(who, token, batch),
            Event::Establish(which) => self.on_establish(which),
            Event::Arrive(which, end, message) => self.on_arrive(which, end, message),
            Event::Down(which, end, reason) => self.on_down(which, end, reason),
            Event::Timer(_) | Event::Accept(_) | Event::Thaw(_) | Event::Stalled(..) => {}
        }
    }

    fn end(&self, which: ConnRef, end: usize) -> Option<Life> {
        self.conns.find(which).map(|conn| conn.ends[end].who)
    }

    pub(crate) fn lives(&self, who: Life) -> bool {
        let slot = &self.nodes[who.node as usize];
        slot.who == who && slot.machine.is_some()
    }

    fn on_timer(&mut self, who: Life) {
        let slot = &mut self.nodes[who.node as usize];
        if slot.who != who || slot.timer != Some(self.now) {
            return;
        }
        if self.walls.is_frozen(who.node) {
            slot.deferred.push(Event::Timer(who));
            return;
        }
        slot.timer = None;
        let due = |span| slot.born.after(span) <= self.now;
        if slot
            .machine
            .as_ref()
            .and_then(M::poll_timeout)
            .is_some_and(due)
        {
            self.guard_timer(who.node);
            self.tell(who.node, 2, 0, |machine, now| machine.handle_timeout(now));
        } else {
            self.set_timer(who.node);
        }
    }

    /// A timer that is due again and again at one moment stops the world.
    fn guard_timer(&mut self, node: NodeNo) {
        let slot = &mut self.nodes[node as usize];
        slot.fired = match slot.fired {
            (at, count) if at == self.now => (at, count + 1),
            _ => (self.now, 1),
        };
        assert!(
            slot.fired.1 < MAX_FIRES,
            "node {node} has always something to do at {}: {:?}",
            self.now,
            slot.machine
        );
    }

    fn on_persisted(&mut self, who: Life, token: u64, batch: M::Batch) {
        self.nodes[who.node as usize].disk.push(batch);
        self.tell(who.node, 3, token, |machine, now| {
            machine.handle_persisted(now, token)
        });
    }

    /// The one way in which something reaches a machine: it is hashed, told and followed up.
    pub(crate) fn tell(
        &mut self,
        node: NodeNo,
        kind: u8,
        what: u64,
        say: impl FnOnce(&mut M, Now),
    ) {
        let now = self.clock(node);
        let Some(machine) = self.nodes[node as usize].machine.as_mut() else {
            return;
        };
        self.hash.number(self.now.0);
        self.hash.number(u64::from(node) << 8 | u64::from(kind));
        self.hash.number(what);
        say(machine, now);
        self.settle(node);
    }

    /// Does what a node wants, until it wants nothing more.
    fn settle(&mut self, node: NodeNo) {
        let who = self.nodes[node as usize].who;
        while let Some(output) = self.poll(node) {
            match output {
                Output::Dial(contact) => self.dial(who, contact),
                Output::Ready(link) => self.drain(node, link),
                Output::Close(link) => self.close(node, link),
                Output::Persist { batch, token } => {
                    let at = self.now.after(self.config.disk);
                    self.queue.push(at, Event::Persisted(who, token, batch));
                }
                Output::Event(event) => {
                    self.hash.number(M::digest(&event));
                    self.happened.push(Happened {
                        at: self.now,
                        node,
                        event,
                    });
                }
            }
        }
        self.set_timer(node);
    }

    fn poll(&mut self, node: NodeNo) -> Option<Output<M>> {
        self.nodes[node as usize].machine.as_mut()?.poll_output()
    }

    fn drain(&mut self, node: NodeNo, link: Link) {
        while let Some(message) = self.nodes[node as usize]
            .machine
            .as_mut()
            .and_then(|machine| machine.poll_send(link))
        {
            self.transmit(node, ConnRef::of(link), message);
        }
    }

    /// Only a timer earlier than the one there is needs an event; a later one is found out when that comes.
    fn set_timer(&mut self, node: NodeNo) {
        let slot = &mut self.nodes[node as usize];
        let Some(span) = slot.machine.as_ref().and_then(M::poll_timeout) else {
            return;
        };
        let at = slot.born.after(span).max(self.now);
        if at < Time(u64::MAX) && slot.timer.is_none_or(|there| at < there) {
            slot.timer = Some(at);
            self.queue.push(at, Event::Timer(slot.who));
        }
    }
}
