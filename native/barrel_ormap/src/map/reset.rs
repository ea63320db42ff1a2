// SPDX-License-Identifier: Apache-2.0

//! Catching up with somebody who has forgotten removals that we never saw.
//!
//! Such a peer cannot tell what those removals removed. But it can tell, log by log, what
//! is still live, and whatever it has applied and does not hold is dead. Only when it
//! has said so of every log of which we hold anything, do we take the operations whose
//! removals it has forgotten for applied; until then [`Refused::NeedsReset`] is the
//! answer, and [`LwwMap::wants`] asks for the statements.
//!
//! The statements are those of one peer while it collects nothing more, which its
//! [epoch](super::Collected::epoch) tells. An entry that meanwhile comes from somebody else
//! has to be confirmed as well. And who has caught up in part only, tells others so: it
//! has the operations, but not yet all that they removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::delta::LiveSet;
use crate::hlc::Hlc;
use crate::key::OriginKey;
use crate::ranges::RangeSet;

use super::apply::{Applied, Refused};
use super::delta::MapDelta;
use super::entry::{Entry, FIRST, LogName};
use super::log::MAX_RANGES;
use super::record::RecordId;
use super::{LwwMap, PER_TURN};

/// Resets under way at most; the oldest makes room. A replica catches up with few peers
/// at a time.
const MAX_RESETS: usize = 8;

/// Peers of which we have forgotten something on their word, at most. As with resets, a
/// replica catches up with few peers at a time.
const MAX_UNSURE: usize = 64;

#[derive(Clone, Debug)]
struct Reset {
    peer: OriginKey,
    /// Of the peer; 0 until it has said one.
    epoch: u64,
    /// Logs that the peer has not confirmed, each with how far it has.
    left: BTreeMap<LogName, u64>,
}

/// The resets under way and those that are finished and still count.
#[derive(Clone, Debug, Default)]
pub(super) struct Resets(Vec<Reset>);

impl Resets {
    /// What is still to be confirmed by the peer.
    pub(super) fn left(&self, peer: OriginKey) -> impl Iterator<Item = (LogName, u64)> + '_ {
        let reset = self.0.iter().find(|reset| reset.peer == peer);
        let left = reset.map(|reset| reset.left.iter());
        left.into_iter()
            .flatten()
            .map(|(log, above)| (*log, *above))
    }

    /// Whether anything here may be dead without our knowing.
    pub(super) fn in_doubt(&self) -> bool {
        self.0.iter().any(|reset| !reset.left.is_empty())
    }

    /// Something was applied that came from that peer.
    pub(super) fn came_from(&mut self, peer: OriginKey, log: LogName) {
        for reset in self.0.iter_mut().filter(|reset| reset.peer != peer) {
            reset.left.insert(log, 0);
        }
    }

    /// The peer speaks of this epoch; what it said in another does not count any more.
    pub(super) fn in_epoch(&mut self, peer: OriginKey, epoch: u64) {
        if let Some(reset) = self.of(peer).filter(|reset| reset.epoch == 0) {
            reset.epoch = epoch;
        }
        self.0
            .retain(|reset| reset.peer != peer || reset.epoch == epoch);
    }

    fn of(&mut self, peer: OriginKey) -> Option<&mut Reset> {
        self.0.iter_mut().find(|reset| reset.peer == peer)
    }
}

impl LwwMap {
    /// Whether the operations may be taken for applied, as far as collected removals go.
    pub(super) fn demand_reset(
        &mut self,
        from: OriginKey,
        name: LogName,
        delta: &MapDelta,
    ) -> Result<(), Refused> {
        #[cfg(feature = "mutants")]
        if self.is(super::Mutant::NoReset) {
            return Ok(());
        }
        let forgotten = delta.delta.to.min(delta.collected.upto);
        let first = delta.delta.from;
        let known = match self.logs.get(&name) {
            Some(log) => log.applied.contains_all(first, forgotten),
            None => false,
        };
        if forgotten <= first || known {
            return Ok(());
        }
        if delta.collected.epoch == 0 {
            return Err(Refused::NeedsReset);
        }
        if self.resets.of(from).is_none() {
            self.begin_reset(from, delta.collected.epoch);
        }
        match self.resets.of(from) {
            Some(reset) if reset.left.is_empty() => Ok(()),
            _ => Err(Refused::NeedsReset),
        }
    }

    fn begin_reset(&mut self, peer: OriginKey, epoch: u64) {
        let logs = self.logs.values().filter(|log| log.has_values());
        let mut left: BTreeMap<_, _> = logs.map(|log| (*log.name, 0)).collect();
        // The peer may know the value under its first dot only.
        left.extend(self.moved.keys().map(|(birth, ..)| (*birth, 0)));
        if !left.is_empty() {
            self.stats.resets += 1;
        }
        if self.resets.0.len() >= MAX_RESETS {
            self.resets.0.remove(0);
        }
        self.resets.0.push(Reset { peer, epoch, left });
    }

    /// The peer has said what is live in a log: the rest of what it has applied is dead.
    pub(super) fn on_statement(
        &mut self,
        from: OriginKey,
        name: LogName,
        statement: &MapDelta,
        set: &LiveSet,
    ) -> Applied {
        let dead = self.dead_by(name, statement, set);
        for entry in &dead {
            if entry.is_removal() {
                self.forget(entry);
                self.be_unsure(from);
            } else {
                self.drop_live(entry);
            }
        }
        self.stats.dropped += dead.len() as u64;
        if !dead.is_empty() {
            self.raise_epoch();
        }
        self.bury(name, statement, set);
        self.confirm(from, name, set);
        Applied {
            new: !dead.is_empty(),
            latest: Hlc::ZERO,
        }
    }

    /// The entries that the statement declares dead: those of the log, and those that were
    /// born in it and have moved.
    fn dead_by(&self, name: LogName, statement: &MapDelta, set: &LiveSet) -> Vec<Arc<Entry>> {
        let dead = |seq: u64| statement.declares_dead(set, seq);
        let log = self.logs.get(&name).map(|log| &log.live);
        let span = set.above + 1..set.until.max(set.above) + 1;
        let live = log.into_iter().flat_map(|live| live.range(span.clone()));
        // A value that has moved is judged by the log of its birth.
        let here = live.filter(|(seq, entry)| entry.moved_from().is_none() && dead(**seq));
        let here = here.map(|(_, entry)| entry);
        let moved = self.moved.range((name, 0, FIRST, 0)..);
        let moved = moved.take_while(|((log, ..), _)| *log == name);
        let moved = moved
            .filter(|((_, seq, ..), _)| dead(*seq))
            .map(|(_, entry)| entry);
        let all = here.chain(moved).filter(|entry| !self.is_overtaken(entry));
        all.cloned().collect()
    }

    /// Whether the entry is only shown until the time of a parked one comes. Elsewhere
    /// that time may have come.
    fn is_overtaken(&self, entry: &Entry) -> bool {
        let mut parked = self.parked.values();
        parked.any(|other| other.key() == entry.key() && other.beats(entry))
    }

    /// Keeps in mind which operations are dead that we have not applied, so that a late
    /// piece of the log does not bring them back.
    fn bury(&mut self, name: LogName, statement: &MapDelta, set: &LiveSet) {
        let Some(log) = self.logs.get_mut(&name) else {
            return;
        };
        let mut spared = RangeSet::new();
        statement
            .unknown
            .iter()
            .for_each(|(first, last)| spared.insert(*first, *last));
        for (first, last) in log.applied.missing(set.above, set.until) {
            for (mut first, last) in spared.missing(first, last) {
                let from = set.live.partition_point(|seq| *seq < first);
                let live = set.live[from..].iter().take_while(|seq| **seq <= last);
                for &end in live.chain([&(last + 1)]) {
                    // What does not fit is found by the audit.
                    if first < end && log.dead.len_with(first, end - 1) <= MAX_RANGES {
                        log.dead.insert(first, end - 1);
                    }
                    first = end + 1;
                }
            }
        }
    }

    fn confirm(&mut self, from: OriginKey, name: LogName, set: &LiveSet) {
        let Some(reset) = self.resets.of(from) else {
            return;
        };
        let Some(above) = reset.left.get_mut(&name) else {
            return;
        };
        if *above < set.above {
            return;
        }
        if set.until < set.complete {
            *above = set.until;
        } else {
            reset.left.remove(&name);
        }
    }

    /// The log can no longer tell what this operation removed.
    pub(super) fn raise_collected(&mut self, name: LogName, seq: u64) {
        if let Some(log) = self.logs.get_mut(&name) {
            log.collected = log.collected.max(seq);
            self.note(RecordId::Log(name));
        }
    }

    /// This replica has forgotten something: whoever relies on what it said, asks again.
    /// The wall clock makes it differ from that of a replica that was set back.
    pub(super) fn raise_epoch(&mut self) {
        self.epoch = self.now.wall_ms.max(self.epoch.saturating_add(1));
        self.note(RecordId::Map);
    }

    /// Something was forgotten on the word of a peer. Until we have applied all that the
    /// peer has, we do not know what it is dead of, and nobody may take our word for it.
    pub(super) fn be_unsure(&mut self, peer: OriginKey) {
        if self.unsure.len() >= MAX_UNSURE {
            self.unsure.pop_first();
        }
        self.unsure.insert(peer, self.now.mono);
    }

    /// We have applied all that the peer has. If it has confirmed all that we hold, we
    /// know what it knows.
    pub(super) fn has_caught_up(&mut self, peer: OriginKey) {
        if !self.unsure.contains_key(&peer) {
            return;
        }
        match self.resets.of(peer) {
            Some(reset) if reset.left.is_empty() => {
                self.unsure.remove(&peer);
            }
            Some(_) => {}
            None => self.begin_reset(peer, 0),
        }
    }

    /// Peers that we did not catch up with are not waited for longer than the horizon.
    pub(super) fn be_sure_again(&mut self) {
        let (now, horizon) = (self.now.mono, self.config.horizon);
        self.unsure
            .retain(|_, since| since.saturating_add(horizon) > now);
    }

    pub(super) fn told_epoch(&self) -> u64 {
        if self.unsure.is_empty() {
            self.epoch
        } else {
            0
        }
    }

    /// What is still to be confirmed by the peer, as far as one answer reaches.
    pub(super) fn unconfirmed(&self, peer: OriginKey) -> Vec<(LogName, u64)> {
        self.resets.left(peer).take(PER_TURN).collect()
    }
}
