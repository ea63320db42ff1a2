//! The questions of the acceptance table, one file for each family.
//!
//! A scenario is a function from a [`Plan`] to findings. Runs with different seeds know nothing of each other
//! and go side by side.

mod agreed;
mod base;
mod broadcast;
mod churn;
mod cluster;
mod costs;
mod detection;
mod determinism;
mod failures;
mod limits;
mod members;
mod memory;
mod overlay;
mod partition;
mod registry;
mod services;
mod storm;
mod worlds;

use crate::adapter::SimNode;
use crate::overlay::Overlay;
use crate::report::Findings;
use crate::subject::Profile;

pub use worlds::Worlds;

/// What one run is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many nodes.
    pub nodes: u32,
    /// Of everything random.
    pub seed: u64,
    /// What the nodes are.
    pub kind: Kind,
}

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The node that ships, with its codec and its signed records.
    Whole,
    /// Its views and its tree alone: many times faster, so that ten thousand of them fit into minutes.
    Bare,
}

impl Kind {
    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Bare => "bare",
        }
    }
}

/// A family of questions.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The rows of the table that it answers.
    pub rows: &'static [&'static str],
    /// Nodes in the full table.
    pub nodes: u32,
    /// Nodes of the further seeds of the full table, where so many as the first has would take
    /// minutes; 0 for as many.
    pub further: u32,
    /// Nodes in the reduced one.
    pub reduced: u32,
    /// Whole nodes that the full table asks besides, for one seed; 0 where whole ones are asked anyway.
    pub besides: u32,
    whole: fn(Plan, &Worlds<SimNode>) -> Findings,
    /// `None`: only whole nodes can answer.
    bare: Option<fn(Plan, &Worlds<Overlay>) -> Findings>,
}

/// What runs share.
#[derive(Debug, Default)]
pub struct Shared {
    whole: Worlds<SimNode>,
    bare: Worlds<Overlay>,
}

impl Scenario {
    /// Asks.
    #[must_use]
    pub fn run(&self, plan: Plan, shared: &Shared) -> Findings {
        match (plan.kind, self.bare) {
            (Kind::Bare, Some(bare)) => bare(plan, &shared.bare),
            _ => (self.whole)(plan, &shared.whole),
        }
    }

    /// Whether it can be asked of bare nodes too.
    #[must_use]
    pub fn takes_bare(&self) -> bool {
        self.bare.is_some()
    }

    /// What the nodes are, unless told. Whole ones are slower, and nothing else.
    #[must_use]
    pub fn kind(&self, nodes: u32) -> Kind {
        match self.bare {
            Some(_) if nodes > MOST_WHOLE => Kind::Bare,
            _ => Kind::Whole,
        }
    }
}

const MOST_WHOLE: u32 = 300;

/// Whole nodes in the table, beside the many bare ones.
pub const FEW_WHOLE: u32 = 100;

/// All of them, the longest first, so that two threads end at about the same time.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "churn",
        rows: &["H13"],
        nodes: 10_000,
        further: 2000,
        reduced: 500,
        besides: 300,
        whole: churn::run::<SimNode>,
        bare: Some(churn::run::<Overlay>),
    },
    Scenario {
        name: "failures",
        rows: &["H7", "H8", "H9", "H10", "H11", "P5"],
        nodes: 10_000,
        further: 0,
        reduced: 1000,
        besides: 300,
        whole: failures::run::<SimNode>,
        bare: Some(failures::run::<Overlay>),
    },
    Scenario {
        name: "overlay",
        rows: &["H1", "H2", "H3", "H4", "H5", "H6"],
        nodes: 10_000,
        further: 0,
        reduced: 1000,
        besides: 10_000,
        whole: overlay::run::<SimNode>,
        bare: Some(overlay::run::<Overlay>),
    },
    Scenario {
        name: "broadcast",
        rows: &["P1", "P2", "P3", "P4"],
        nodes: 10_000,
        further: 0,
        reduced: 1000,
        besides: 1000,
        whole: broadcast::run::<SimNode>,
        bare: Some(broadcast::run::<Overlay>),
    },
    Scenario {
        name: "services",
        rows: &["C3"],
        nodes: 1000,
        further: 300,
        reduced: 100,
        besides: 0,
        whole: |plan, _| services::run(plan),
        bare: None,
    },
    Scenario {
        name: "detection",
        rows: &["M2"],
        nodes: 10_000,
        further: 1000,
        reduced: 300,
        besides: 0,
        whole: |plan, _| detection::run(plan),
        bare: None,
    },
    Scenario {
        name: "return",
        rows: &["M2"],
        nodes: 300,
        further: 0,
        reduced: 100,
        besides: 0,
        whole: |plan, _| detection::returns(plan),
        bare: None,
    },
    Scenario {
        name: "memory",
        rows: &["M1"],
        nodes: 10_000,
        further: 1000,
        reduced: 1000,
        besides: 0,
        whole: |plan, _| memory::run(plan),
        bare: None,
    },
    Scenario {
        name: "costs",
        rows: &["C2"],
        nodes: 100,
        further: 0,
        reduced: 100,
        besides: 0,
        whole: |plan, _| costs::run(plan),
        bare: None,
    },
    Scenario {
        name: "partition",
        rows: &["H12"],
        nodes: 1000,
        further: 0,
        reduced: 400,
        besides: 300,
        whole: partition::run::<SimNode>,
        bare: Some(partition::run::<Overlay>),
    },
    Scenario {
        name: "storm",
        rows: &["H14"],
        nodes: 1000,
        further: 0,
        reduced: 1000,
        besides: 1000,
        whole: |plan, _| storm::run::<SimNode>(plan),
        bare: Some(|plan, _| storm::run::<Overlay>(plan)),
    },
    Scenario {
        name: "burst",
        rows: &["P7"],
        nodes: 1000,
        further: 0,
        reduced: 300,
        besides: 300,
        whole: broadcast::burst::<SimNode>,
        bare: Some(broadcast::burst::<Overlay>),
    },
    Scenario {
        name: "determinism",
        rows: &["D1"],
        nodes: 1000,
        further: 0,
        reduced: 300,
        besides: 300,
        whole: |plan, _| determinism::run::<SimNode>(plan),
        bare: Some(|plan, _| determinism::run::<Overlay>(plan)),
    },
    Scenario {
        name: "members",
        rows: &["M2"],
        nodes: 1000,
        further: 300,
        reduced: 100,
        besides: 0,
        whole: |plan, _| members::run(plan),
        bare: None,
    },
    Scenario {
        name: "registry",
        rows: &["C3", "P6", "P8"],
        nodes: 100,
        further: 0,
        reduced: 60,
        besides: 0,
        whole: |plan, _| registry::run(plan),
        bare: None,
    },
];

/// The scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// The profiles whose failures are compared.
const PROFILES: [Profile; 3] = [Profile::Paper, Profile::Large, Profile::Shipped];
