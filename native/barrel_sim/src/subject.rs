//! What can be measured: a machine with views and a tree.

use crate::kernel::{Machine, NodeNo, Now};

/// How the nodes of a world are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// The paper's numbers and nothing beside the paper.
    Paper,
    /// All additions and an address book of 128.
    Large,
    /// What we ship.
    Shipped,
}

impl Profile {
    /// As it is written in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "A",
            Self::Large => "B",
            Self::Shipped => "shipped",
        }
    }
}

/// A broadcast came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which one.
    pub number: u64,
}

/// What the tree did since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Broadcasts passed on, whole.
    pub payload: u64,
    /// Ids announced.
    pub announced: u64,
    /// Broadcasts asked for.
    pub grafts: u64,
    /// Neighbours that were told to announce only.
    pub prunes: u64,
    /// Broadcasts that nobody gave.
    pub lost: u64,
}

impl std::ops::AddAssign for TreeCounts {
    fn add_assign(&mut self, other: Self) {
        self.payload += other.payload;
        self.announced += other.announced;
        self.grafts += other.grafts;
        self.prunes += other.prunes;
        self.lost += other.lost;
    }
}

impl std::ops::Sub for TreeCounts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            payload: self.payload - other.payload,
            announced: self.announced - other.announced,
            grafts: self.grafts - other.grafts,
            prunes: self.prunes - other.prunes,
            lost: self.lost - other.lost,
        }
    }
}

/// A machine that a scenario can ask for more than the kernel does.
pub trait Subject: Machine + Send + Sync {
    /// A node that knows nobody.
    fn born(node: NodeNo, profile: Profile, seed: u64, now: Now) -> Self;
    /// Joins through that node.
    fn join(&mut self, now: Now, contact: NodeNo);
    /// Its neighbours.
    fn neighbours(&self) -> Vec<NodeNo>;
    /// Its address book.
    fn passive(&self) -> Vec<NodeNo>;
    /// Says something to all.
    fn say(&mut self, now: Now, number: u64);
    /// What an event says of a broadcast.
    fn heard(event: &Self::Event) -> Option<Heard>;
    /// What its tree did.
    fn tree(&self) -> TreeCounts;
    /// Neighbours that it gave up for others.
    fn evictions(&self) -> u64;
}
