//! A machine to test the kernel with: it dials whom it is told to and floods numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::hash::LogHash;
use super::machine::{Link, LinkDown, Machine, NodeNo, Now, Output};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Up(NodeNo, bool),
    Down(NodeNo, LinkDown),
    DialFailed(NodeNo),
    Heard(u64),
    Repeated(u64),
    Saved(u64),
    Ticked,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Toy {
    pub(crate) links: BTreeMap<NodeNo, Link>,
    heard: BTreeSet<u64>,
    outputs: VecDeque<Output<Toy>>,
    outbox: BTreeMap<Link, VecDeque<u64>>,
    tick: Option<(Duration, Duration)>,
    pub(crate) wall_ms: u64,
}

impl Toy {
    pub(crate) fn dial(&mut self, node: NodeNo) {
        self.outputs.push_back(Output::Dial(node));
    }

    pub(crate) fn close(&mut self, peer: NodeNo) {
        if let Some(link) = self.links.remove(&peer) {
            self.outputs.push_back(Output::Close(link));
        }
    }

    pub(crate) fn say(&mut self, number: u64) {
        self.heard.insert(number);
        for link in self.links.values() {
            self.outbox.entry(*link).or_default().push_back(number);
            self.outputs.push_back(Output::Ready(*link));
        }
    }

    pub(crate) fn save(&mut self, token: u64) {
        self.outputs.push_back(Output::Persist {
            batch: token,
            token,
        });
    }

    pub(crate) fn tick_every(&mut self, now: Now, span: Duration) {
        self.tick = Some((now.mono + span, span));
    }

    fn tell(&mut self, seen: Seen) {
        self.outputs.push_back(Output::Event(seen));
    }

    fn peer(&self, link: Link) -> Option<NodeNo> {
        self.links
            .iter()
            .find(|(_, one)| **one == link)
            .map(|(peer, _)| *peer)
    }
}

impl Machine for Toy {
    type Contact = NodeNo;
    type Message = u64;
    type Event = Seen;
    type Batch = u64;

    fn place(&self, contact: &NodeNo) -> Option<NodeNo> {
        Some(*contact)
    }

    fn handle_link_up(&mut self, _now: Now, peer: NodeNo, link: Link, dialled: Option<NodeNo>) {
        assert!(
            dialled.is_none_or(|contact| contact == peer),
            "the contact of another dial"
        );
        let before = self.links.insert(peer, link);
        assert!(
            before.is_none_or(|before| before == link),
            "the older link did not go first"
        );
        self.tell(Seen::Up(peer, dialled.is_some()));
    }

    fn handle_link_down(&mut self, _now: Now, link: Link, reason: LinkDown) {
        let peer = self.peer(link).expect("a link that is known");
        self.links.remove(&peer);
        self.outbox.remove(&link);
        self.tell(Seen::Down(peer, reason));
    }

    fn handle_dial_failed(&mut self, _now: Now, contact: NodeNo) {
        self.tell(Seen::DialFailed(contact));
    }

    fn handle_message(&mut self, now: Now, link: Link, number: u64) {
        self.wall_ms = now.wall_ms;
        assert!(
            self.peer(link).is_some(),
            "a message over a link that is not known"
        );
        if self.heard.contains(&number) {
            self.tell(Seen::Repeated(number));
        } else {
            self.tell(Seen::Heard(number));
            self.say(number);
        }
    }

    fn poll_send(&mut self, link: Link) -> Option<u64> {
        self.outbox.get_mut(&link)?.pop_front()
    }

    fn handle_persisted(&mut self, _now: Now, token: u64) {
        self.tell(Seen::Saved(token));
    }

    fn handle_timeout(&mut self, now: Now) {
        if let Some((at, span)) = self.tick.as_mut().filter(|(at, _)| *at <= now.mono) {
            *at += *span;
            self.tell(Seen::Ticked);
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.tick.map(|(at, _)| at)
    }

    fn poll_output(&mut self) -> Option<Output<Self>> {
        self.outputs.pop_front()
    }

    fn kind(number: &u64) -> usize {
        (number & 7) as usize
    }

    fn length(_: &u64) -> usize {
        8
    }

    fn fold(number: &u64, hash: &mut LogHash) {
        hash.number(*number);
    }

    fn digest(event: &Seen) -> u64 {
        match event {
            Seen::Heard(number) => *number,
            _ => 0,
        }
    }
}
