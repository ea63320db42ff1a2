// SPDX-License-Identifier: Apache-2.0

//! Counts for metrics.

use std::time::Duration;

/// Counts since the start, but for the last ones, which say how it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Own messages.
    pub broadcasts: u64,
    /// Messages sent to a neighbour, whole.
    pub payload_sent: u64,
    /// Messages received, whole.
    pub payload_received: u64,
    /// Of those, known already.
    pub duplicates: u64,
    /// Of those, found invalid.
    pub rejected: u64,
    /// Announcements sent.
    pub ihave_sent: u64,
    /// Ids in them.
    pub ihave_ids_sent: u64,
    /// Ids announced by neighbours.
    pub ihave_ids_received: u64,
    /// Of those, not looked at because they were too many.
    pub ihave_ids_dropped: u64,
    /// Asked of a neighbour.
    pub graft_sent: u64,
    /// Not answered in time.
    pub graft_unanswered: u64,
    /// Asked by a neighbour.
    pub graft_received: u64,
    /// Asked too often to be answered.
    pub graft_refused: u64,
    /// Asked for something that is not kept here.
    pub graft_unknown: u64,
    /// Sent after a duplicate, or by the optimisation.
    pub prune_sent: u64,
    /// Received.
    pub prune_received: u64,
    /// Neighbours that became eager or lazy, while they were neighbours.
    pub tree_changes: u64,
    /// Announced, and given by nobody.
    pub lost: u64,
    /// Messages from others than neighbours, and messages too large.
    pub misbehaved: u64,
    /// Eager neighbours.
    pub eager: usize,
    /// Lazy neighbours.
    pub lazy: usize,
    /// Messages that were announced and are waited for.
    pub pending: usize,
    /// Ids kept of messages that passed.
    pub cached: usize,
    /// What T1 is now.
    pub t1: Duration,
}
