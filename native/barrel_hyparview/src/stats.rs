// SPDX-License-Identifier: Apache-2.0

//! Counts.

/// Counts since birth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages of links that had ended.
    pub stale: u64,
    /// Requests sent that were to become a neighbour: a dial each, unless there was a link.
    pub requests: u64,
    /// Requests that failed: no link, or no answer.
    pub failed_requests: u64,
    /// Requests that were refused.
    pub refused_requests: u64,
    /// Neighbours dropped to make room.
    pub evictions: u64,
    /// Links kept because too many were taken by force lately.
    pub cap_hits: u64,
    /// Newcomers sent on because of too many address books with us in them.
    pub declined_joins: u64,
    /// Walks of newcomers handled, each step one.
    pub walk_steps: u64,
    /// Walks that were not passed on, because somebody began too many.
    pub walks_dropped: u64,
    /// Shuffles begun.
    pub shuffles: u64,
    /// Shuffles answered.
    pub shuffles_answered: u64,
    /// Lost peers and contacts asked whether they are there.
    pub probes: u64,
    /// Links asked for because a lost peer is in another component.
    pub merges: u64,
    /// Exchanges of links begun.
    pub switches: u64,
    /// Exchanges of links begun here and completed.
    pub switched: u64,
}
