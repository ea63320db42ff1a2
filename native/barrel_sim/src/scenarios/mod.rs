//! The questions of the acceptance table, one file for each family.
//!
//! A scenario is a function from a [`Plan`] to findings. Runs with different seeds know nothing of each other
//! and go side by side.

mod base;
mod broadcast;
mod churn;
mod determinism;
mod failures;
mod limits;
mod overlay;
mod partition;
mod storm;

use crate::report::Findings;
use crate::subject::Profile;

/// What one run is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many nodes.
    pub nodes: u32,
    /// Of everything random.
    pub seed: u64,
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
    /// Nodes in the reduced one.
    pub reduced: u32,
    /// Asks.
    pub run: fn(Plan) -> Findings,
}

/// All of them, the longest first, so that two threads end at about the same time.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "churn",
        rows: &["H13"],
        nodes: 10_000,
        reduced: 500,
        run: churn::run,
    },
    Scenario {
        name: "failures",
        rows: &["H7", "H8", "H9", "H10", "H11", "P5"],
        nodes: 10_000,
        reduced: 1000,
        run: failures::run,
    },
    Scenario {
        name: "overlay",
        rows: &["H1", "H2", "H3", "H4", "H5", "H6"],
        nodes: 10_000,
        reduced: 1000,
        run: overlay::run,
    },
    Scenario {
        name: "broadcast",
        rows: &["P1", "P2", "P3", "P4"],
        nodes: 10_000,
        reduced: 1000,
        run: broadcast::run,
    },
    Scenario {
        name: "partition",
        rows: &["H12"],
        nodes: 1000,
        reduced: 200,
        run: partition::run,
    },
    Scenario {
        name: "storm",
        rows: &["H14"],
        nodes: 1000,
        reduced: 1000,
        run: storm::run,
    },
    Scenario {
        name: "burst",
        rows: &["P7"],
        nodes: 1000,
        reduced: 300,
        run: broadcast::burst,
    },
    Scenario {
        name: "determinism",
        rows: &["D1"],
        nodes: 1000,
        reduced: 300,
        run: determinism::run,
    },
];

/// The scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// The profiles whose failures are compared.
const PROFILES: [Profile; 3] = [Profile::Paper, Profile::Large, Profile::Shipped];
