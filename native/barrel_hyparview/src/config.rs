// SPDX-License-Identifier: Apache-2.0

//! What can be chosen, and where each default comes from.

use std::time::Duration;

/// Size of the active view where none is configured and the cluster is not small: the
/// paper's, a fanout of four and one.
pub const ACTIVE_SIZE: usize = 5;

/// No view is larger, so that nothing an operator writes costs more than a few kilobytes.
pub const MAX_VIEW: usize = 1024;

/// Sizes, times, and the additions to the paper; [`Config::default`] is what we ship.
///
/// An addition is off when it is `None`. [`Config::paper`] has all of them off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most neighbours, never exceeded. `None`: [`ACTIVE_SIZE`], but everybody in a cluster
    /// of at most [`small_cluster_size`](Self::small_cluster_size) nodes.
    pub active_size: Option<usize>,
    /// Up to so many members everybody is everybody's neighbour, if `active_size` says
    /// nothing. Eight: 28 links, fewer than the address books would cost. A guess.
    pub small_cluster_size: usize,
    /// Most entries of the address book. The paper's 30.
    pub passive_size: usize,
    /// Steps of the walk that looks for a place for a newcomer. The paper's 6.
    pub arwl: u8,
    /// Steps that are left when such a walk leaves the newcomer in an address book.
    /// The paper's 3.
    pub prwl: u8,
    /// Neighbours in a shuffle. The paper's 3.
    pub shuffle_active: usize,
    /// Entries of the address book in a shuffle. The paper's 4; with oneself that makes 8.
    pub shuffle_passive: usize,
    /// Steps of the walk of a shuffle. 6, as long as the walk of a newcomer.
    pub shuffle_ttl: u8,
    /// Time between two shuffles; the paper counts in such cycles and names no time. Ten
    /// seconds, eight small messages of each node: a guess.
    pub shuffle_period: Duration,
    /// A request without an answer for so long has failed. Three seconds: a handshake on
    /// a slow path whose first packet was lost. A guess.
    pub neighbor_timeout: Duration,
    /// Candidates that are asked at one time, and never more than there are free places.
    /// Four: a node that lost all asks nearly its whole view at once. A guess.
    pub dials_at_once: usize,
    /// Remembers whom we lost to failures, asks after them, and so finds the other half of
    /// a partition.
    pub lost_book: Option<LostBook>,
    /// Exchanges links at random, so that halves that have met become one.
    pub switch: Option<Switch>,
    /// Largest part of the address book, in percent, that comes from one peer. 25: four
    /// liars together are needed to fill a book. A guess.
    pub introducer_share: Option<u8>,
    /// Entries of the reserve that nobody can bias by repeating names (the sampler of
    /// Brahms, 2009). 16: half a book. A guess.
    pub sampler: Option<usize>,
    /// Remembers so many of those whom we refused a place, and names them to whom we refuse
    /// next: both have room for each other. 8: a shuffle's worth. A guess.
    pub seekers: Option<usize>,
    /// Bounds how many links others can make us drop.
    pub eviction_cap: Option<EvictionCap>,
    /// Keeps a contact that everybody joins through out of everybody's address book.
    pub anti_hub: Option<AntiHub>,
    /// Bounds what one peer may ask for.
    pub rate_limit: Option<RateLimit>,
    /// The rule that this node breaks.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

impl Config {
    /// The protocol of the paper and nothing else: 5 neighbours, 30 addresses.
    #[must_use]
    pub fn paper() -> Self {
        Self {
            active_size: Some(ACTIVE_SIZE),
            small_cluster_size: 8,
            passive_size: 30,
            arwl: 6,
            prwl: 3,
            shuffle_active: 3,
            shuffle_passive: 4,
            shuffle_ttl: 6,
            shuffle_period: Duration::from_secs(10),
            neighbor_timeout: Duration::from_secs(3),
            dials_at_once: 4,
            lost_book: None,
            switch: None,
            introducer_share: None,
            sampler: None,
            seekers: None,
            eviction_cap: None,
            anti_hub: None,
            rate_limit: None,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            active_size: None,
            lost_book: Some(LostBook::default()),
            switch: Some(Switch::default()),
            introducer_share: Some(25),
            sampler: Some(16),
            seekers: Some(8),
            eviction_cap: Some(EvictionCap::default()),
            anti_hub: Some(AntiHub::default()),
            rate_limit: Some(RateLimit::default()),
            ..Self::paper()
        }
    }
}

/// The book of lost peers, and how often one of them is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBook {
    /// Most lost peers; the one lost longest ago makes room. 32: six neighbourhoods.
    /// A guess.
    pub size: usize,
    /// Most contacts remembered as seeds. 8: more than operators name. A guess.
    pub seeds: usize,
    /// A lost peer is forgotten after so long. A day, as long as state of absent members
    /// is kept elsewhere.
    pub keep: Duration,
    /// Probes of the whole cluster in one shuffle period, however large it is. 50: in a
    /// simulation of 1,000 nodes 5 % of them per period found the other half within one.
    pub probes_per_period: u32,
    /// Shuffle periods without a new epoch after which the smallest id of the component
    /// counts as gone. 8: news crosses 10,000 nodes in two or three. A guess.
    pub stale_after: u32,
}

impl Default for LostBook {
    fn default() -> Self {
        Self {
            size: 32,
            seeds: 8,
            keep: Duration::from_secs(24 * 3600),
            probes_per_period: 50,
            stale_after: 8,
        }
    }
}

/// The exchange of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Probability of one exchange per shuffle period, in percent. 5: in a simulation of
    /// 1,000 nodes two halves were mixed after a hundred periods.
    pub percent: u8,
    /// An exchange that takes longer is abandoned. Four requests, one after the other.
    pub timeout: Duration,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            percent: 5,
            timeout: Duration::from_secs(6),
        }
    }
}

/// The bound on links dropped because somebody insisted. Both numbers grow back by
/// one in each `refill`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionCap {
    /// For one group of peers (see [`crate::HyParView::handle_group`]). A guess.
    pub per_group: u32,
    /// For all together. Two views: a guess.
    pub total: u32,
    /// Time in which one more is allowed. Half a second: a view is turned over by force in
    /// no less than one and a half. A guess.
    pub refill: Duration,
    /// So many of the oldest links are never dropped by force: whoever held on before an
    /// attack began stays. Two of five, a guess.
    pub keep_oldest: usize,
}

impl Default for EvictionCap {
    fn default() -> Self {
        Self {
            per_group: 4,
            total: 10,
            refill: Duration::from_millis(500),
            keep_oldest: 2,
        }
    }
}

/// When a contact sends newcomers on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AntiHub {
    /// Newcomers that may take a neighbour's place here, one after the other. Each of those
    /// neighbours then has this node in its address book. One view.
    pub joins: u32,
    /// Time in which one more is allowed. A shuffle period: as fast as address books
    /// forget. A guess.
    pub refill: Duration,
}

impl Default for AntiHub {
    fn default() -> Self {
        Self {
            joins: 5,
            refill: Duration::from_secs(10),
        }
    }
}

/// What one peer may ask for: so many at once, and one more in each period. All guesses,
/// well above what a correct node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// JOIN, and NEIGHBOR of high priority.
    pub urgent: (u32, Duration),
    /// Everything else.
    pub ordinary: (u32, Duration),
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            urgent: (6, Duration::from_secs(5)),
            ordinary: (1024, Duration::from_millis(20)),
        }
    }
}

/// A rule to break on purpose; the tests must notice each of them.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Drops a neighbour without telling it.
    SilentEviction,
    /// Says nothing to somebody who accepts what is no longer asked.
    LateAcceptIgnored,
    /// Acts on messages of a link that has gone.
    OldLinks,
    /// Stays on good terms with somebody who says no.
    RefusalIgnored,
}
