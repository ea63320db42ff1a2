// SPDX-License-Identifier: Apache-2.0

//! What can be set.

use std::time::Duration;

use barrel_plumtree::CacheConfig;

/// The settings of a node: those of its parts, and what joins them.
#[derive(Clone, Debug)]
pub struct Config {
    /// The overlay.
    pub overlay: barrel_hyparview::Config,
    /// The broadcast tree.
    pub tree: barrel_plumtree::Config,
    /// The members.
    pub members: barrel_members::Config,
    /// The registry and, with the same budgets, the directory.
    pub registry: barrel_ormap::Config,
    /// Broadcasts that no store remembers.
    pub cache: CacheConfig,
    /// Keep the records of all members. Without it there is no liveness either: what
    /// simulations of the overlay alone need.
    pub directory: bool,
    /// The overlay's messages carry the signed records of the nodes they name, where the
    /// receiver may not have them; a node without a record is not dialled. Off, the driver
    /// has to know the way to any id: in simulations of the overlay alone, where half of
    /// the time would go into records.
    pub carry_records: bool,
    /// Each node compares its stores with somebody so often, give or take a quarter. The
    /// middle of the 10 to 30 s that others use; it bounds how long a lost broadcast
    /// stays unnoticed.
    pub compare_period: Duration,
    /// A visit's link is kept for so long after the last word, in case there is another.
    /// A guess: a few round trips.
    pub linger: Duration,
    /// The first wait before a contact that did not answer is dialled again.
    pub contact_retry: Duration,
    /// How far ahead a remote stamp may be, in milliseconds.
    pub max_drift_ms: u64,
    /// Broadcasts are refused while more than this waits on the links together, in
    /// bytes: two of the largest to each of four neighbours.
    pub busy_above: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            overlay: barrel_hyparview::Config::default(),
            tree: barrel_plumtree::Config::default(),
            members: barrel_members::Config {
                // what the driver's transport takes for the end of a link
                link_timeout: Duration::from_secs(5),
                ..barrel_members::Config::default()
            },
            registry: barrel_ormap::Config::default(),
            cache: CacheConfig::default(),
            directory: true,
            carry_records: true,
            compare_period: Duration::from_secs(15),
            linger: Duration::from_secs(2),
            contact_retry: Duration::from_secs(5),
            max_drift_ms: 500,
            busy_above: 8 << 20,
        }
    }
}
