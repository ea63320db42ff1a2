// SPDX-License-Identifier: Apache-2.0

//! What can be chosen.

use std::time::Duration;

use crate::audit::AuditKey;

/// How a removal meets a value that was written at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// A removal is a write like any other: the greater stamp wins.
    #[default]
    LastWrite,
    /// A removal wins against the value that it saw, and what had lost against that value;
    /// a later value that it did not see stays. (The observed-remove set of Shapiro,
    /// Preguica, Baquero and Zawirski 2011, on top of a register.)
    ObservedRemove,
}

/// The settings of one map, the same on all nodes but for `prune_on_peer_down`, `persist`
/// and the budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How a removal meets a concurrent value.
    pub mode: Mode,
    /// How long a removal is remembered, from when it came to be known. An hour: longer
    /// than a restart or a failed switch. A guess.
    pub horizon: Duration,
    /// How long a writer has departed before its values are moved. A day: until then it
    /// is more likely to return than not. A guess.
    pub departed_after: Duration,
    /// Hides the values of writers that are not reachable, on this node.
    pub prune_on_peer_down: bool,
    /// Whether the records of [`LwwMap::poll_record`](super::LwwMap::poll_record) are wanted.
    pub persist: bool,
    /// Entries at most: values, removals and parked ones. A guess: 300 MB at 300 bytes.
    pub max_entries: usize,
    /// Bytes of keys and values at most. A guess.
    pub max_bytes: usize,
    /// Values from the future, kept at a time. A guess: a node whose clock is right sends
    /// none.
    pub max_parked: usize,
    /// The same for one log, so that one wrong clock does not use up all.
    pub max_parked_per_log: usize,
    /// Logs at most: a cluster of 16,384 members, most of which have one.
    pub max_logs: usize,
    /// Logs of one writer at most. It moves the values of its old logs to the new one
    /// from half of this on.
    pub max_logs_per_origin: usize,
    /// The key of the audit hash.
    pub audit_key: AuditKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            horizon: Duration::from_secs(60 * 60),
            departed_after: Duration::from_secs(24 * 60 * 60),
            prune_on_peer_down: false,
            persist: false,
            max_entries: 1_000_000,
            max_bytes: 256 * 1024 * 1024,
            max_parked: 1024,
            max_parked_per_log: 64,
            max_logs: 32_768,
            max_logs_per_origin: 16,
            audit_key: AuditKey::default(),
        }
    }
}
