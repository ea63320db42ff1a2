// SPDX-License-Identifier: Apache-2.0

//! The map that everybody writes.
//!
//! # Who wins
//!
//! Each key has one value. Every write gets a *stamp*, the time of a hybrid logical clock
//! and the writer, and the greatest stamp wins, on every replica and in whatever order
//! the writes arrive. A removal is a write without a value. This is the last-writer-wins
//! register of the literature on replicated data types, one per key; [`Mode`] says how a
//! removal meets a value that was written at the same time.
//!
//! # How it spreads
//!
//! Each life of a writer has a log, and each write is one operation of it, numbered from
//! 1: the *dot* of the value. A replica keeps which operations of each log it has applied
//! and, of those, only the entries that are still live. What was replaced by a greater
//! stamp is dropped without a trace; so a chunk of a log holds what is live in it, and
//! applying it in any order, twice or in pieces gives the same map.
//!
//! # Whose value is it
//!
//! The map's, not the writer's. A writer that restarts opens a new log beside the old one,
//! which keeps its values until they are replaced. A writer that is unreachable or leaves
//! takes nothing with it. When it has been away for long, one of the living writes its
//! values again, under their old stamps, into its own log ([`LwwMap::depart`]).
//!
//! # What is forgotten
//!
//! A removal must be remembered, or the value that it removed comes back from a replica
//! that has not heard of it. It is remembered for [`Config::horizon`], even if its key
//! has a later value by then, and until the value that it removed has been applied here.
//! Then it is collected, and the log remembers the last operation of which it can no
//! longer tell what it removed.
//!
//! A replica that was away for longer, and lacks that operation, must not take the rest
//! of the log as if nothing had happened. It is *reset*: for each log of which it holds
//! values, it asks what is still live, drops the rest, and only then goes on. What it has
//! written itself meanwhile, nobody has applied, so it stays.
//!
//! What the horizon costs: a value that was written concurrently with a removal, under a
//! lower stamp, and that arrives where the removal was collected, is shown, unless
//! somebody still remembers the removal; he says it again. The same may happen to a
//! value that was first replaced and then removed, and that a replica which was away for
//! longer than the horizon brings to one that has heard of the removal alone.
//!
//! # A clock that is wrong
//!
//! A value from too far in the future is applied like any other but *parked*: it is kept
//! beside the value it will replace and counts when our clock has reached it.

mod answer;
mod apply;
mod check;
mod config;
mod delta;
mod entry;
mod log;
mod moving;
mod place;
mod record;
mod reset;
mod room;
mod sync;
mod time;
mod view;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::delta::{Add, MAX_BATCH, MAX_CHUNK, MAX_PAIR};
use crate::digest::Digest;
use crate::hlc::{Clock, Hlc, Now};
use crate::key::OriginKey;
use crate::pair::Pair;

use entry::Entry;
use log::Log;
use reset::Resets;

pub use apply::{Applied, Refused};
pub use config::{Config, Mode};
pub use delta::{Collected, MapDelta};
pub use entry::{Birth, LogName};
pub use record::{Corrupt, Record, RecordId};
pub use view::{Change, Validator};

/// Removals collected and values moved in one turn, at most, so that a turn is short.
const PER_TURN: usize = 1_000;

/// Why a value was not written. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// A value has at least one byte.
    Empty,
    /// Key and value have more than [`MAX_PAIR`] bytes together.
    TooLarge,
    /// The map has as many entries, or bytes, as it may have.
    Full,
}

/// What breaks the map on purpose.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Takes what comes after collected removals without a reset.
    NoReset,
    /// Drops the values of a writer that has restarted.
    NoSealedLog,
    /// Takes an operation for applied although its entry did not come along.
    ClaimTooMuch,
}

/// Counters and sizes, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Live entries: values, removals and parked ones.
    pub entries: usize,
    /// Removals among them.
    pub removals: usize,
    /// Those of them that wait for the value that they removed.
    pub waiting: usize,
    /// Entries whose time has not come.
    pub parked: usize,
    /// Bytes of keys and values of all of them.
    pub bytes: usize,
    /// Logs known.
    pub logs: usize,
    /// Ranges applied beyond the base, of all logs.
    pub holes: usize,
    /// Logs of which a replica that has applied the same held something else.
    pub audit_mismatches: u64,
    /// Values taken from such a replica.
    pub repaired: u64,
    /// Resets begun.
    pub resets: u64,
    /// Entries dropped because another replica knew that they are dead.
    pub dropped: u64,
    /// Values that were moved to the own log.
    pub moved: u64,
    /// Values from too far in the future.
    pub ahead: u64,
}

/// A live entry, in the order of keys.
#[derive(Clone, Debug)]
struct ByKey(Arc<Entry>);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

/// One replica.
#[derive(Clone, Debug)]
pub struct LwwMap {
    config: Config,
    me: LogName,
    /// The last own operation, and the last one given to [`LwwMap::commit`].
    seq: u64,
    published: u64,
    logs: BTreeMap<LogName, Log>,
    /// Logs up to this life that are not in `logs` are finished.
    floors: BTreeMap<OriginKey, u64>,
    /// The winner of each key, removals too, parked ones not.
    current: BTreeSet<ByKey>,
    /// Live entries whose time has not come, the earliest first.
    parked: BTreeMap<(Hlc, LogName, u64), Arc<Entry>>,
    /// Live removals, the oldest first.
    removals: BTreeSet<(Duration, LogName, u64)>,
    /// Those that are old, but what they removed has not come here.
    waiting: BTreeSet<(Duration, LogName, u64)>,
    /// When those are looked at again.
    look_at: Duration,
    /// Removals whose key has something later, the oldest first, and how many.
    replaced: BTreeMap<Box<[u8]>, Vec<Arc<Entry>>>,
    kept: usize,
    /// Live entries that have moved, by birth and dot.
    moved: BTreeMap<(LogName, u64, LogName, u64), Arc<Entry>>,
    entries: usize,
    bytes: usize,
    /// See [`Collected`].
    epoch: u64,
    resets: Resets,
    /// Peers on whose word something was forgotten, and when.
    unsure: BTreeMap<OriginKey, Duration>,
    /// How far a log was compared that differs from a peer's. As many as there are logs.
    repaired: BTreeMap<LogName, u64>,
    view: view::View,
    departed: BTreeMap<OriginKey, Duration>,
    /// Others have closed the log that this replica writes.
    disowned: bool,
    /// The latest own life that others know otherwise than we do, until it is asked for.
    clash: Option<u64>,
    /// What was restored although there may be less.
    restored: room::Restored,
    /// Whether this node is the one that moves the values of the departed.
    lead: bool,
    digest: Digest,
    /// Logs that have changed since the digest was brought up to date.
    touched: BTreeSet<LogName>,
    unsaved: BTreeSet<RecordId>,
    now: Now,
    drift_ms: u64,
    stats: Stats,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl LwwMap {
    /// An empty replica of a node in that life of it. No two lives may have one number,
    /// see [`Refused::Clash`].
    pub fn new(me: OriginKey, inc: u64, config: Config) -> Self {
        Self {
            config,
            me: LogName { origin: me, inc },
            seq: 0,
            published: 0,
            logs: BTreeMap::new(),
            floors: BTreeMap::new(),
            current: BTreeSet::new(),
            parked: BTreeMap::new(),
            removals: BTreeSet::new(),
            waiting: BTreeSet::new(),
            look_at: Duration::ZERO,
            replaced: BTreeMap::new(),
            kept: 0,
            moved: BTreeMap::new(),
            entries: 0,
            bytes: 0,
            epoch: 0,
            resets: Resets::default(),
            unsure: BTreeMap::new(),
            repaired: BTreeMap::new(),
            view: view::View::default(),
            departed: BTreeMap::new(),
            disowned: false,
            clash: None,
            restored: room::Restored::default(),
            lead: false,
            digest: Digest::default(),
            touched: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            now: Now::default(),
            drift_ms: 0,
            stats: Stats::default(),
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// Breaks the map.
    #[cfg(feature = "mutants")]
    pub fn break_it(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
    }

    /// Asks this of values that others wrote: those it refuses are kept and passed on, but
    /// not shown here.
    pub fn set_validator(&mut self, validator: impl Into<Option<Validator>>) {
        self.view.validator = validator.into();
    }

    /// Writes a value. It wins against everything that is shown now. The operation waits
    /// for [`LwwMap::commit`].
    ///
    /// # Errors
    /// Says why not. Nothing has changed.
    pub fn put(
        &mut self,
        now: Now,
        clock: &mut Clock,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), PutError> {
        if value.is_empty() {
            return Err(PutError::Empty);
        }
        if key.len() + value.len() > MAX_PAIR {
            return Err(PutError::TooLarge);
        }
        if !self.has_room([(key, key.len() + value.len(), true)].into_iter())
            || !self.has_room_for_log(self.me)
        {
            return Err(PutError::Full);
        }
        self.see(now, clock);
        let before = self.current.get(key).map_or(Hlc::ZERO, |old| old.0.hlc);
        let hlc = clock.above(now.wall_ms, before);
        self.write(Pair::new(key, value), hlc, None, Vec::new());
        self.finish();
        Ok(())
    }

    /// Removes a key, and says whether it had a value.
    pub fn remove(&mut self, now: Now, clock: &mut Clock, key: &[u8]) -> bool {
        let Some(old) = self.current.get(key).map(|old| Arc::clone(&old.0)) else {
            return false;
        };
        // A removal needs no room but its log's.
        if old.is_removal() || !self.has_room_for_log(self.me) {
            return false;
        }
        self.see(now, clock);
        let above = clock.above(now.wall_ms, old.hlc);
        let (hlc, writer) = match self.config.mode {
            Mode::LastWrite => (above, None),
            Mode::ObservedRemove => (old.hlc, Some(old.writer())),
        };
        let birth = Birth {
            moves: 0,
            ..old.birth()
        };
        self.write(Pair::new(key, &[]), hlc, writer, vec![birth]);
        self.finish();
        true
    }

    /// The own operations since the last call, for the broadcast: at most [`MAX_BATCH`] of
    /// them. To be called until it gives nothing.
    #[must_use]
    pub fn commit(&mut self) -> Option<MapDelta> {
        if self.published == self.seq {
            return None;
        }
        let until = self.seq.min(self.published + MAX_BATCH);
        let delta = self.chunk(self.me, self.published, until, MAX_CHUNK)?;
        self.published = delta.delta.to;
        Some(delta)
    }

    /// The value that this replica shows.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let entry = &self.current.get(key)?.0;
        self.shows(entry).then(|| entry.pair.value())
    }

    /// All that this replica shows, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Pair> {
        let shown = self.current.iter().filter(|entry| self.shows(&entry.0));
        shown.map(|entry| &entry.0.pair)
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.entries,
            removals: self.removals.len() + self.waiting.len(),
            waiting: self.waiting.len(),
            parked: self.parked.len(),
            bytes: self.bytes,
            logs: self.logs.len(),
            holes: self.logs.values().map(|log| log.applied.cloud.len()).sum(),
            ..self.stats
        }
    }

    /// The log that this replica writes.
    pub fn me(&self) -> LogName {
        self.me
    }

    /// Time has passed: shows what was parked, collects old removals, moves the values of
    /// the departed.
    pub fn handle_timeout(&mut self, now: Now, clock: &mut Clock) {
        self.see(now, clock);
        self.be_sure_again();
        self.unpark(clock);
        self.collect();
        self.move_values();
        self.finish();
    }

    /// When [`LwwMap::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let collect = self.removals.first();
        let collect = collect.map(|(since, ..)| since.saturating_add(self.config.horizon));
        let unpark = self.parked.first_key_value().map(|((hlc, ..), _)| {
            let wall_ms = hlc.wall_time().saturating_add(1);
            let wait = wall_ms.saturating_sub(self.now.wall_ms.saturating_add(self.drift_ms));
            self.now.mono.saturating_add(Duration::from_millis(wait))
        });
        let sure = self.unsure.values().min();
        let sure = sure.map(|since| since.saturating_add(self.config.horizon));
        let look = (!self.waiting.is_empty()).then_some(self.look_at);
        [collect, look, sure, unpark, self.move_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Another value for the key, by an own operation.
    fn write(&mut self, pair: Pair, hlc: Hlc, writer: Option<OriginKey>, births: Vec<Birth>) {
        let won = self.append(|log, seq, now| {
            let add = Add {
                seq,
                hlc,
                writer,
                pair,
            };
            Entry::new(log, add, births, now)
        });
        debug_assert!(won, "an own write was lost");
    }

    /// The next own operation, and whether it won. The caller has asked for room.
    fn append(&mut self, entry: impl FnOnce(&Arc<LogName>, u64, Duration) -> Entry) -> bool {
        let now = self.now.mono;
        let seq = self.seq + 1;
        let log = self.open(self.me);
        let entry = entry(&log.name, seq, now);
        log.cover(seq - 1, seq);
        self.seq = seq;
        self.note(RecordId::Log(self.me));
        self.touched.insert(self.me);
        self.settle(entry)
    }

    /// What came along with a call.
    fn see(&mut self, now: Now, clock: &Clock) {
        self.now = now;
        self.drift_ms = clock.max_drift_ms();
    }

    /// The end of every verb that changes something.
    fn finish(&mut self) {
        self.refresh_digest();
        if cfg!(debug_assertions) && self.entries <= check::OFTEN {
            self.check();
        }
    }

    #[cfg(feature = "mutants")]
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
