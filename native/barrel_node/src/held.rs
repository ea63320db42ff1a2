// SPDX-License-Identifier: Apache-2.0

//! What a node holds because of others, and how much that can be.
//!
//! The one place where all budgets stand together. Each container keeps its own; a
//! hostile peer can fill those that are counted per link, and its share of the others:
//!
//! | container | per link | for all |
//! |---|---|---|
//! | frames that wait to be sent | 5.25 MiB | |
//! | wants that it may have open | 16,000 of about 150 B | |
//! | ranges in these wants | 32,000 of 16 B | |
//! | announced messages that are missing | 4,096 of about 200 B | |
//! | summaries of a map, while it is compared | 16,000 of 72 B for each map | |
//! | frames that wait for a dial | | 64 dials of 64 KiB |
//! | records of nodes in our views | | views, links and dials, and 130, of at most 1.5 KiB |
//! | broadcasts of applications | | 32,768 ids, 8 MiB of bodies |
//! | messages that passed lately | | 4,096 of about 100 B |
//! | peers that get no link | | 256 of about 50 B |
//! | claims about nodes without a record | 128 | 1,024 |
//! | members | | 16,384 |
//! | entries of the registry | | 16,384 logs, 2^20 entries, 512 MiB |
//! | entries of the directory | | 18,432 logs, 2^20 entries, 512 MiB |
//! | entries of each map | | 2^20 entries, 256 MiB |
//!
//! The last four are what the cluster holds together and every node has: who is a member
//! may write there, up to the budgets of one origin. A map counts against its own
//! settings, which are not the node's, and so it is not counted here.

use crate::book::SLACK;
use crate::config::Config;
use crate::links::{MAX_DIALS, MAX_WAITING_BYTES};
use crate::node::Node;
use crate::places::max_records;
use crate::queue::QUEUE_BYTES;
use crate::sync::{MAX_KEPT, MAX_SERVED, MAX_SERVED_RANGES};
use crate::wire::MAX_RECORDS;

/// Comparisons that this node began on its own, with whomever, before the first of them
/// runs out: one in a period, one for each hole that is mended.
const OWN_ROUNDS: usize = 16;

/// Sizes of all containers that grow by what others say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Links.
    pub links: usize,
    /// Bytes that wait to be sent.
    pub queued: usize,
    /// Dials under way.
    pub dials: usize,
    /// Bytes that wait for them.
    pub dial_bytes: usize,
    /// Comparisons of a store with somebody.
    pub rounds: usize,
    /// Summaries of maps that are being compared.
    pub summaries: usize,
    /// Logs of which others have asked for the rest.
    pub wants: usize,
    /// Ranges in what they ask.
    pub want_ranges: usize,
    /// Records of nodes in our views.
    pub records: usize,
    /// Messages that were announced and have not come.
    pub missing: usize,
    /// Messages that passed lately.
    pub passed: usize,
    /// Broadcasts of applications that are known.
    pub broadcasts: usize,
    /// Bytes of those that are kept.
    pub broadcast_bytes: usize,
    /// Neighbours.
    pub active: usize,
    /// The address book.
    pub passive: usize,
    /// Members.
    pub members: usize,
    /// Logs of the directory and of the registry.
    pub logs: usize,
    /// Their entries.
    pub entries: usize,
    /// Bytes of these.
    pub entry_bytes: usize,
}

impl Held {
    /// The first container that holds more than in `limit`.
    #[must_use]
    pub fn exceeds(&self, limit: &Self) -> Option<&'static str> {
        let pairs = [
            ("links", self.links, limit.links),
            ("queued", self.queued, limit.queued),
            ("dials", self.dials, limit.dials),
            ("dial_bytes", self.dial_bytes, limit.dial_bytes),
            ("rounds", self.rounds, limit.rounds),
            ("summaries", self.summaries, limit.summaries),
            ("wants", self.wants, limit.wants),
            ("want_ranges", self.want_ranges, limit.want_ranges),
            ("records", self.records, limit.records),
            ("missing", self.missing, limit.missing),
            ("passed", self.passed, limit.passed),
            ("broadcasts", self.broadcasts, limit.broadcasts),
            (
                "broadcast_bytes",
                self.broadcast_bytes,
                limit.broadcast_bytes,
            ),
            ("active", self.active, limit.active),
            ("passive", self.passive, limit.passive),
            ("members", self.members, limit.members),
            ("logs", self.logs, limit.logs),
            ("entries", self.entries, limit.entries),
            ("entry_bytes", self.entry_bytes, limit.entry_bytes),
        ];
        pairs
            .into_iter()
            .find(|(_, held, limit)| held > limit)
            .map(|(name, ..)| name)
    }
}

impl Node {
    /// What this node holds now.
    #[must_use]
    pub fn held(&self) -> Held {
        let logs = [self.stores.directory.as_ref(), Some(&self.stores.registry)];
        let logs: Vec<_> = logs.into_iter().flatten().map(|log| log.stats()).collect();
        let tree = self.tree.stats();
        Held {
            links: self.links.peers().count(),
            queued: self.links.queued(),
            dials: self.links.dialled().count(),
            dial_bytes: self.links.waiting(),
            rounds: self.rounds.len(),
            summaries: self.rounds.kept(),
            wants: self.rounds.served_wants(),
            want_ranges: self.rounds.served_ranges(),
            records: self.book.len(),
            missing: tree.pending,
            passed: tree.cached,
            broadcasts: self.stores.cache.len(),
            broadcast_bytes: self.stores.cache.bytes(),
            active: self.overlay.active().count(),
            passive: self.overlay.passive().count(),
            members: self.members.len(),
            logs: logs.iter().map(|stats| stats.origins).sum(),
            entries: logs.iter().map(|stats| stats.entries).sum(),
            entry_bytes: logs.iter().map(|stats| stats.bytes).sum(),
        }
    }

    /// What this node holds at most while it has so many links.
    #[must_use]
    pub fn limit(&self, links: usize) -> Held {
        let Config {
            overlay,
            tree,
            members,
            registry,
            cache,
            ..
        } = &self.config;
        let active = overlay
            .active_size
            .unwrap_or(barrel_hyparview::ACTIVE_SIZE)
            .max(overlay.small_cluster_size);
        let lost = overlay
            .lost_book
            .as_ref()
            .map_or(0, |book| book.size + book.seeds);
        let maps = self.stores.maps.len();
        let topics = self.stores.topics().len() + maps;
        Held {
            links,
            queued: links * QUEUE_BYTES,
            dials: MAX_DIALS,
            dial_bytes: MAX_DIALS * MAX_WAITING_BYTES,
            rounds: (links + OWN_ROUNDS) * topics,
            summaries: (links + OWN_ROUNDS) * maps * MAX_KEPT,
            wants: links * MAX_SERVED,
            want_ranges: links * MAX_SERVED_RANGES,
            records: active + overlay.passive_size + lost + links + MAX_DIALS + SLACK + MAX_RECORDS,
            missing: links * tree.outstanding,
            passed: tree.remembered,
            broadcasts: cache.ids,
            broadcast_bytes: cache.bytes,
            active,
            passive: overlay.passive_size,
            members: members.max_members,
            logs: registry.limits.max_origins + max_records(&self.config),
            entries: 2 * registry.limits.max_entries,
            entry_bytes: 2 * registry.limits.max_bytes,
        }
    }
}
