// SPDX-License-Identifier: Apache-2.0

//! A few honest nodes, and one peer among them that says what it likes.

use std::collections::BTreeSet;
use std::time::Duration;

use barrel_node::{CloseReason, Config, Event, Misdeed, NodeId};
use bytes::Bytes;

use super::words::{self, DIRECTORY, Delta, Record};
use super::{Net, key_of};

/// The number of the hostile peer.
const GHOST: u8 = 200;

/// Honest nodes, and a member and neighbour of the first of them that is not.
pub struct Siege {
    pub net: Net,
    pub honest: Vec<NodeId>,
    pub ghost: NodeId,
}

impl Siege {
    /// So many honest nodes, each with a service.
    pub fn of(count: u8) -> Self {
        Self::with(count, &Config::default())
    }

    pub fn with(count: u8, config: &Config) -> Self {
        let mut net = Net::default();
        let honest = net.cluster(count, config);
        Self::around(net, honest)
    }

    /// The same with nodes that are there.
    pub fn around(mut net: Net, honest: Vec<NodeId>) -> Self {
        net.run(Duration::from_secs(5));
        let ghost = net.haunt(GHOST);
        let mut siege = Self { net, honest, ghost };
        for id in siege.honest.clone() {
            siege.register(id, &format!("before {id:?}"));
        }
        siege.enter();
        let record = siege.record();
        let delta = Delta::of(siege.ghost, 1, 0, 1).add(
            1,
            siege.stamp(),
            record.name.as_bytes(),
            &record.bytes(),
        );
        siege.say(delta.gossip(DIRECTORY));
        siege.net.run(Duration::from_secs(1));
        assert!(
            siege.accusations().is_empty(),
            "a member like any other so far"
        );
        for id in &siege.honest {
            assert!(siege.net.nodes[id].members().is_up(siege.ghost));
        }
        siege
    }

    pub fn record(&self) -> Record {
        Record::of(key_of(GHOST), "ghost@host")
    }

    /// A stamp of now.
    pub fn stamp(&self) -> u64 {
        self.net.now.wall_ms << 16
    }

    /// Becomes a neighbour of the first, over a new link.
    pub fn enter(&mut self) {
        let first = self.honest[0];
        self.net.link(self.ghost, first);
        self.say(words::greeting(&self.record().bytes()));
        self.say(words::join(&[]));
    }

    /// Says something to the first; whether there still was a link.
    pub fn say(&mut self, frame: impl Into<Bytes>) -> bool {
        self.net.say(self.ghost, self.honest[0], frame)
    }

    /// Says it until the link is closed, at most so often; how often.
    pub fn insist(&mut self, times: usize, frame: impl Fn(usize) -> Vec<u8>) -> usize {
        (0..times).take_while(|at| self.say(frame(*at))).count()
    }

    pub fn is_neighbor(&self) -> bool {
        self.net.nodes[&self.honest[0]]
            .overlay()
            .is_active(self.ghost)
    }

    /// Whom the nodes have named, and why.
    pub fn accusations(&self) -> BTreeSet<(NodeId, Misdeed)> {
        let all = self.net.events.values().flatten();
        all.filter_map(|event| match event {
            Event::Misbehaved { peer, what } => Some((*peer, *what)),
            _ => None,
        })
        .collect()
    }

    /// What the hostile peer was named for; nobody else was.
    pub fn named(&self) -> Vec<Misdeed> {
        let all = self.accusations();
        assert!(all.iter().all(|(peer, _)| *peer == self.ghost), "{all:?}");
        all.into_iter().map(|(_, what)| what).collect()
    }

    /// Why the first has closed its links to the hostile peer.
    pub fn closed(&self) -> Vec<CloseReason> {
        let first = self.honest[0];
        let of =
            |(who, peer, _): &&(NodeId, NodeId, CloseReason)| (*who, *peer) == (first, self.ghost);
        self.net
            .closed
            .iter()
            .filter(of)
            .map(|(.., reason)| *reason)
            .collect()
    }

    pub fn register(&mut self, who: NodeId, key: &str) {
        let now = self.net.now;
        self.net.act(who, |node| {
            node.register(now, key.as_bytes(), b"pid")
                .expect("room for a service");
            node.commit(now);
        });
    }

    /// Who sees a service of that key, or a prefix of it.
    fn sees(&self, who: NodeId, owner: NodeId, key: &str) -> bool {
        let entries = self.net.nodes[&who].registry().entries(owner);
        entries
            .filter(|(pair, _)| pair.key() == key.as_bytes())
            .count()
            == 1
    }

    /// All honest nodes keep their limits.
    pub fn keeps_limits(&self) {
        for (id, node) in &self.net.nodes {
            let (held, limit) = (node.held(), node.limit(self.net.links_of(*id)));
            assert_eq!(held.exceeds(&limit), None, "{id:?} {held:?}");
        }
    }

    /// The honest ones, and nobody else, agree on everything, hear each other, and none of
    /// them was blamed or given up.
    pub fn ends_well(&mut self) {
        self.keeps_limits();
        self.net.run(Duration::from_secs(60));
        let (first, last) = (self.honest[0], self.honest[self.honest.len() - 1]);
        self.register(last, "after");
        let now = self.net.now;
        self.net.act(first, |node| {
            node.broadcast(now, Bytes::from_static(b"after"))
                .expect("room")
        });
        self.net.run(Duration::from_secs(20));
        self.named();
        self.keeps_limits();
        let said =
            |event: &Event| matches!(event, Event::Broadcast { body, .. } if body == "after");
        for id in &self.honest {
            assert!(
                self.sees(*id, last, "after"),
                "{id:?} sees what was registered after"
            );
            assert_eq!(
                self.net.count(*id, said),
                usize::from(*id != first),
                "{id:?} hears a broadcast"
            );
            for other in &self.honest {
                assert!(
                    self.sees(*id, *other, &format!("before {other:?}")),
                    "{id:?} {other:?}"
                );
                assert!(
                    self.net.nodes[id].members().is_up(*other),
                    "{id:?} believes {other:?} to live"
                );
            }
            let overlay = self.net.nodes[id].overlay();
            assert!(
                self.honest.iter().any(|other| overlay.is_active(*other)),
                "{id:?} is alone"
            );
        }
    }
}
