//! Worlds at rest, made once.
//!
//! Several families of questions begin with the same nodes after the same fifty cycles, and at 10,000 nodes those
//! cycles are most of the work. A clone goes its own way, so one world serves them all, whoever asks first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Plan;
use super::base::{self, CYCLE, SETTLE};
use crate::kernel::World;
use crate::measure::Graph;
use crate::subject::{Profile, Subject};

/// Which world: its nodes, its seed, and how the nodes are set.
type Name = (u32, u64, Profile);

/// The worlds that were made so far.
#[derive(Debug)]
pub struct Worlds<S: Subject> {
    /// Guards who makes which; nothing is made under it.
    made: Mutex<BTreeMap<Name, Arc<OnceLock<Settled<S>>>>>,
}

/// A world after fifty cycles, and how it stood before them.
#[derive(Debug)]
pub(super) struct Settled<S: Subject> {
    /// To be cloned.
    pub(super) world: World<S>,
    /// When the last node had joined.
    pub(super) joins: Joins,
}

/// What there was right after the joins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joins {
    /// Nodes in the largest component, in percent.
    pub(super) giant_percent: f64,
    /// Neighbours given up for a newcomer, for each join.
    pub(super) evictions: f64,
    /// Address books with the one node that is in most of them.
    pub(super) most_books: f64,
}

impl<S: Subject> Default for Worlds<S> {
    fn default() -> Self {
        Self {
            made: Mutex::new(BTreeMap::new()),
        }
    }
}

impl<S: Subject> Worlds<S> {
    /// The world that this plan begins with. Who asks while another thread makes it waits for that.
    pub(super) fn settled(&self, plan: Plan, profile: Profile) -> World<S> {
        self.with(plan, profile, |settled| settled.world.clone())
    }

    /// The same, to look at without a copy.
    pub(super) fn with<T>(
        &self,
        plan: Plan,
        profile: Profile,
        look: impl FnOnce(&Settled<S>) -> T,
    ) -> T {
        let name = (plan.nodes, plan.seed, profile);
        let place = self
            .made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default()
            .clone();
        look(place.get_or_init(|| settle(plan, profile)))
    }
}

fn settle<S: Subject>(plan: Plan, profile: Profile) -> Settled<S> {
    let mut world = base::joined::<S>(plan.nodes, plan.seed, profile);
    let joins = Joins::of(&world);
    base::run(&mut world, CYCLE * SETTLE);
    Settled { world, joins }
}

impl Joins {
    fn of<S: Subject>(world: &World<S>) -> Self {
        let graph = Graph::of(world);
        let evictions: u64 = world
            .running()
            .iter()
            .filter_map(|node| world.machine(*node))
            .map(S::evictions)
            .sum();
        Self {
            giant_percent: graph.giant_percent(),
            evictions: evictions as f64 / graph.len() as f64,
            most_books: Graph::passive_in_degrees(world).most as f64,
        }
    }
}
