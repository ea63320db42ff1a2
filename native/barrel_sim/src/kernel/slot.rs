//! What the world keeps for each node.

use std::collections::BTreeMap;

use super::conn::ConnRef;
use super::linklog::Life;
use super::machine::{KINDS, Machine, NodeNo, Now};
use super::time::Time;
use super::world::Event;

/// What a node did, over all its lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that it sent, by kind.
    pub sent: [u32; KINDS],
    /// Their bytes.
    pub bytes: [u64; KINDS],
    /// Dials.
    pub dials: u32,
    /// Dials that failed.
    pub failed_dials: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot<M: Machine> {
    pub(crate) machine: Option<M>,
    pub(crate) who: Life,
    pub(crate) born: Time,
    /// Added to the wall clock.
    pub(crate) skew_ms: i64,
    /// The one timer event that counts.
    pub(crate) timer: Option<Time>,
    /// When it last fired, and how often at that moment.
    pub(crate) fired: (Time, u32),
    /// The link to each peer: dialled and not yet there, or up.
    pub(crate) links: BTreeMap<NodeNo, ConnRef>,
    /// What happened to it while it was frozen.
    pub(crate) deferred: Vec<Event<M>>,
    pub(crate) disk: Vec<M::Batch>,
    pub(crate) counts: Counts,
}

impl<M: Machine> Slot<M> {
    pub(crate) fn new(node: NodeNo) -> Self {
        Self {
            machine: None,
            who: Life { node, life: 0 },
            born: Time::ZERO,
            skew_ms: 0,
            timer: None,
            fired: (Time::ZERO, 0),
            links: BTreeMap::new(),
            deferred: Vec::new(),
            disk: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn now(&self, now: Time, wall_ms: u64) -> Now {
        Now {
            mono: now.since(self.born),
            wall_ms: (wall_ms + now.as_millis()).saturating_add_signed(self.skew_ms),
        }
    }
}
