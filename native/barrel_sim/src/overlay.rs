//! Views and tree alone, without stores and bytes.
//!
//! The rows about views and broadcasts ask nothing of directory and stores, which would
//! cost memory and time in proportion to the square of the nodes. This machine feeds the outputs of
//! one protocol to the other and to the links, and does nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use barrel_hyparview::{self as views, HyParView};
use barrel_plumtree::{self as tree, CacheConfig, IdCache, Plumtree, Verdict};
use bytes::Bytes;

use crate::kernel::{Link, LinkDown, LogHash, Machine, NodeNo, Now, Output, mix, unmix};
use crate::overlay_fold::{fold_tree, fold_views};
use crate::subject::{Heard, Profile, Subject, TreeCounts};

/// The id of a node. Ids must not be in the order in which the nodes joined.
type Id = u64;

/// Messages for a peer that is still dialled, at most. A node asks a peer a handful of things.
const MAX_WAITING: usize = 64;

/// What goes over a link.
#[derive(Clone, Debug)]
pub enum Talk {
    /// About neighbours.
    Views(views::Message<Id>),
    /// About broadcasts.
    Tree(tree::Message<u64>),
}

/// A node with views and a tree.
#[derive(Clone, Debug)]
pub struct Overlay {
    views: HyParView<Id>,
    tree: Plumtree<Id, u64>,
    seen: IdCache<u64>,
    links: BTreeMap<Id, Link>,
    peers: BTreeMap<Link, Id>,
    trips: BTreeMap<Id, Duration>,
    waiting: BTreeMap<Id, VecDeque<Talk>>,
    /// Peers whose link is not needed once what waits is sent.
    released: BTreeSet<Id>,
    ready: BTreeMap<Link, VecDeque<Talk>>,
    outputs: VecDeque<Output<Self>>,
}

fn id(node: NodeNo) -> Id {
    mix(u64::from(node) + 1)
}

fn node(id: Id) -> Option<NodeNo> {
    NodeNo::try_from(unmix(id).wrapping_sub(1)).ok()
}

fn settings(profile: Profile) -> views::Config {
    match profile {
        Profile::Paper => views::Config::paper(),
        Profile::Large => views::Config {
            passive_size: 128,
            ..views::Config::default()
        },
        Profile::Shipped => views::Config::default(),
    }
}

impl Overlay {
    /// The views, for measures.
    #[must_use]
    pub fn views(&self) -> &HyParView<Id> {
        &self.views
    }

    /// Where one protocol's output feeds the other and the links.
    fn pump(&mut self, now: Duration) {
        loop {
            if let Some(output) = self.views.poll_output() {
                self.do_views(now, output);
            } else if let Some(output) = self.tree.poll_output() {
                self.do_tree(now, output);
            } else {
                return;
            }
        }
    }

    fn do_views(&mut self, now: Duration, output: views::Output<Id>) {
        match output {
            views::Output::Send { to, msg } => self.send(to, Talk::Views(msg)),
            views::Output::Release { peer } => self.release(peer),
            views::Output::Up { peer, .. } => {
                self.tree.handle_neighbor_up(now, peer);
                if let Some(rtt) = self.trips.get(&peer) {
                    self.tree.handle_rtt(peer, *rtt);
                }
            }
            views::Output::Down { peer, .. } => self.tree.handle_neighbor_down(now, peer),
            views::Output::Event(_) => {}
        }
    }

    fn do_tree(&mut self, now: Duration, output: tree::Output<Id, u64>) {
        match output {
            tree::Output::Send { to, msg } => {
                if let Some(link) = self.links.get(&to).copied() {
                    self.queue(link, Talk::Tree(msg));
                }
            }
            tree::Output::Deliver { from, id, body, .. } => {
                let verdict = match self.seen.insert(now, id, body) {
                    true => Verdict::New,
                    false => Verdict::Duplicate,
                };
                self.tree.handle_verdict(now, from, id, verdict);
                self.outputs.push_back(Output::Event(Heard { number: id }));
            }
            tree::Output::Event(_) => {}
        }
    }

    fn send(&mut self, to: Id, talk: Talk) {
        if let Some(link) = self.links.get(&to).copied() {
            self.released.remove(&to);
            self.queue(link, talk);
            return;
        }
        if !self.waiting.contains_key(&to) {
            self.outputs.push_back(Output::Dial(to));
        }
        self.released.remove(&to);
        let waiting = self.waiting.entry(to).or_default();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(talk);
        }
    }

    fn queue(&mut self, link: Link, talk: Talk) {
        self.ready.entry(link).or_default().push_back(talk);
        self.outputs.push_back(Output::Ready(link));
    }

    fn release(&mut self, peer: Id) {
        if self.waiting.contains_key(&peer) {
            self.released.insert(peer);
        } else if let Some(link) = self.links.remove(&peer) {
            self.peers.remove(&link);
            self.outputs.push_back(Output::Close(link));
        }
    }
}

impl Machine for Overlay {
    type Contact = Id;
    type Message = Talk;
    type Event = Heard;
    type Batch = ();

    fn place(&self, contact: &Id) -> Option<NodeNo> {
        node(*contact)
    }

    fn handle_rtt(&mut self, peer: NodeNo, rtt: Duration) {
        self.trips.insert(id(peer), rtt);
        self.tree.handle_rtt(id(peer), rtt);
    }

    fn handle_link_up(&mut self, now: Now, peer: NodeNo, link: Link, _dialled: Option<Id>) {
        let peer = id(peer);
        self.links.insert(peer, link);
        self.peers.insert(link, peer);
        for talk in self.waiting.remove(&peer).into_iter().flatten() {
            self.queue(link, talk);
        }
        if self.released.remove(&peer) {
            self.release(peer);
        }
        self.pump(now.mono);
    }

    fn handle_link_down(&mut self, now: Now, link: Link, reason: LinkDown) {
        self.ready.remove(&link);
        let Some(peer) = self.peers.remove(&link) else {
            return;
        };
        self.trips.remove(&peer);
        self.links.remove(&peer);
        let reason = match reason {
            LinkDown::Failed => views::LinkDown::Failed,
            LinkDown::Closed => views::LinkDown::Closed,
        };
        self.views
            .handle_link_down(now.mono, peer, views::Link(link.0), reason);
        self.pump(now.mono);
    }

    fn handle_dial_failed(&mut self, now: Now, contact: Id) {
        self.waiting.remove(&contact);
        self.released.remove(&contact);
        self.views.handle_dial_failed(now.mono, contact);
        self.pump(now.mono);
    }

    fn handle_message(&mut self, now: Now, link: Link, message: Talk) {
        let Some(from) = self.peers.get(&link).copied() else {
            return;
        };
        match message {
            Talk::Views(msg) => {
                let heard = self
                    .views
                    .handle_message(now.mono, from, views::Link(link.0), msg);
                debug_assert!(heard.is_ok(), "an honest node misbehaved: {heard:?}");
            }
            // a message that crossed the end of the neighbourhood is no offence
            Talk::Tree(msg) => drop(self.tree.handle_message(now.mono, from, msg, &self.seen)),
        }
        self.pump(now.mono);
    }

    fn poll_send(&mut self, link: Link) -> Option<Talk> {
        let queue = self.ready.get_mut(&link)?;
        let talk = queue.pop_front();
        if talk.is_none() {
            self.ready.remove(&link);
        }
        talk
    }

    fn handle_persisted(&mut self, _now: Now, _token: u64) {}

    fn handle_timeout(&mut self, now: Now) {
        if self.views.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.views.handle_timeout(now.mono);
        }
        if self.tree.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.tree.handle_timeout(now.mono, &self.seen);
        }
        self.pump(now.mono);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        [self.views.poll_timeout(), self.tree.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll_output(&mut self) -> Option<Output<Self>> {
        self.outputs.pop_front()
    }

    fn kind(message: &Talk) -> usize {
        match message {
            Talk::Views(msg) => match msg {
                views::Message::Join => 0,
                views::Message::ForwardJoin { .. } => 1,
                views::Message::Neighbor { .. } => 2,
                views::Message::NeighborReply { .. } => 3,
                views::Message::Disconnect { .. } => 4,
                views::Message::Shuffle { .. } => 5,
                views::Message::ShuffleReply { .. } => 6,
                views::Message::Probe { .. } | views::Message::ProbeReply { .. } => 7,
                _ => 8,
            },
            Talk::Tree(msg) => match msg {
                tree::Message::Gossip { .. } => 9,
                tree::Message::IHave { .. } => 10,
                tree::Message::Graft { .. } => 11,
                tree::Message::Prune => 12,
            },
        }
    }

    /// As an estimate: 16 bytes for each id and a few for the rest.
    fn length(message: &Talk) -> usize {
        match message {
            Talk::Views(
                views::Message::Shuffle { peers, .. } | views::Message::ShuffleReply { peers, .. },
            ) => 40 + 16 * peers.len(),
            Talk::Views(_) => 40,
            Talk::Tree(tree::Message::Gossip { body, .. }) => 40 + body.len(),
            Talk::Tree(tree::Message::IHave { ids }) => 8 + 34 * ids.len(),
            Talk::Tree(_) => 40,
        }
    }

    fn fold(message: &Talk, hash: &mut LogHash) {
        match message {
            Talk::Views(msg) => fold_views(msg, hash),
            Talk::Tree(msg) => fold_tree(msg, hash),
        }
    }

    fn digest(event: &Heard) -> u64 {
        mix(event.number)
    }
}

impl Subject for Overlay {
    fn born(node: NodeNo, profile: Profile, seed: u64, _now: Now) -> Self {
        let seed = mix(seed) ^ mix(u64::from(node));
        Self {
            views: HyParView::new(id(node), settings(profile), mix(seed)),
            tree: Plumtree::new(tree::Config::default(), mix(!seed)),
            seen: IdCache::new(CacheConfig::default()),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            trips: BTreeMap::new(),
            waiting: BTreeMap::new(),
            released: BTreeSet::new(),
            ready: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    fn join(&mut self, now: Now, contact: NodeNo) {
        self.views.join(now.mono, id(contact));
        self.pump(now.mono);
    }

    fn neighbours(&self) -> Vec<NodeNo> {
        self.views.active().filter_map(node).collect()
    }

    fn passive(&self) -> Vec<NodeNo> {
        self.views.passive().filter_map(node).collect()
    }

    fn say(&mut self, now: Now, number: u64) {
        let body = Bytes::from_static(&[7; 64]);
        self.seen.insert(now.mono, number, body.clone());
        self.tree.broadcast(now.mono, number, body);
        self.pump(now.mono);
    }

    fn heard(event: &Heard) -> Option<Heard> {
        Some(*event)
    }

    fn tree(&self) -> TreeCounts {
        let stats = self.tree.stats();
        TreeCounts {
            payload: stats.payload_sent,
            announced: stats.ihave_ids_sent,
            grafts: stats.graft_sent,
            prunes: stats.prune_sent,
            lost: stats.lost,
        }
    }

    fn evictions(&self) -> u64 {
        self.views.stats().evictions
    }
}
