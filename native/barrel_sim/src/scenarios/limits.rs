//! Targets that depend on the size.

/// Below so many nodes the targets are those for 1,000.
const LARGE: u32 = 5000;

/// What the overlay of a size has to reach.
pub(super) struct Limits {
    /// Nodes with a full view, in percent.
    pub(super) full: f64,
    /// The average shortest path.
    pub(super) path: f64,
    /// The longest shortest path.
    pub(super) hops: f64,
    /// The clustering coefficient.
    pub(super) clustering: f64,
    /// The longest way of a broadcast from the one who always sends.
    pub(super) one_sender_hops: f64,
    /// The same when everybody sends.
    pub(super) many_senders_hops: f64,
    /// Milliseconds to the last node over wide links, from one sender and from many.
    pub(super) last_ms: (f64, f64),
}

impl Limits {
    pub(super) fn of(nodes: u32) -> Self {
        if nodes >= LARGE {
            Self {
                full: 99.5,
                path: 6.45,
                hops: 10.0,
                clustering: 0.001,
                one_sender_hops: 10.0,
                many_senders_hops: 16.0,
                last_ms: (500.0, 750.0),
            }
        } else {
            // paths shrink with the logarithm, and clustering grows as the nodes become fewer:
            // a random graph of degree five has 4 / nodes
            Self {
                // where all others are full nobody has a place for the last one
                full: (100.0 - 100.0 / f64::from(nodes)).min(99.5),
                // seen: 0.725 for each natural logarithm
                path: 6.45 - 0.72 * (10_000.0 / f64::from(nodes)).ln(),
                hops: 8.0,
                clustering: 10.0 / f64::from(nodes),
                one_sender_hops: 8.0,
                many_senders_hops: 13.0,
                last_ms: (500.0, 750.0),
            }
        }
    }
}
