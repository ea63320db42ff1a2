// SPDX-License-Identifier: Apache-2.0

//! Which probes are under way, for this node and for others.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::config::Config;
use crate::round::Round;

/// The most probes under way. A round starts one in `probe_period`; more come when
/// dials of the overlay fail, and those beyond are left to the round.
const PROBES: usize = 32;

/// The most members that this node dials because others asked it to, and the most
/// who wait for one answer.
const FAVOURS: usize = 16;

/// See [`FAVOURS`].
const WAITING: usize = 4;

/// What a driver has at the most to tell how a dial ended. Then the probe is forgotten:
/// it proved nothing.
const DIAL: Duration = Duration::from_secs(60);

/// One probe.
#[derive(Clone, Debug)]
enum Stage<P> {
    /// The driver dials.
    Dialling,
    /// The driver dials again, because a link has failed.
    Redialling,
    /// Two others were asked; those that have not said no.
    Asking(Vec<P>),
}

#[derive(Clone, Debug)]
struct Probe<P> {
    stage: Stage<P>,
    since: Duration,
    until: Duration,
}

#[derive(Clone, Debug)]
struct Favour<P> {
    waiting: Vec<P>,
    until: Duration,
}

/// All that concerns probing.
#[derive(Clone, Debug)]
pub(crate) struct Probes<P> {
    table: BTreeMap<P, Probe<P>>,
    favours: BTreeMap<P, Favour<P>>,
    pub(crate) round: Round,
    /// Slots of the round so far.
    pub(crate) slots: u64,
    /// So many of the next slots come sooner.
    pub(crate) hurried: u32,
    probe_at: Option<Duration>,
    judge_at: Option<Duration>,
}

impl<P> Default for Probes<P> {
    fn default() -> Self {
        Self {
            table: BTreeMap::new(),
            favours: BTreeMap::new(),
            round: Round::default(),
            slots: 0,
            hurried: 0,
            probe_at: None,
            judge_at: None,
        }
    }
}

impl<P: Copy + Ord + Debug> Probes<P> {
    /// The first slot comes anywhere in the period, so that nodes do not keep step.
    pub(crate) fn start(&mut self, now: Duration, config: &Config, rng: &mut impl Rng) {
        let part = rng.random_range(0..1_000u32);
        self.probe_at = Some(now + config.probe_period * part / 1_000);
    }

    pub(crate) fn probe_at(&self) -> Option<Duration> {
        self.probe_at
    }

    pub(crate) fn probe_by(&mut self, at: Duration) {
        self.probe_at = Some(at);
    }

    /// When the next probe or favour is to be looked at.
    pub(crate) fn judge_at(&self) -> Option<Duration> {
        self.judge_at
    }

    fn judge_by(&mut self, at: Duration) {
        self.judge_at = Some(self.judge_at.map_or(at, |judge| judge.min(at)));
    }

    /// The driver is about to dial this member. False if there is no room or a probe
    /// already.
    pub(crate) fn dial(&mut self, now: Duration, member: P) -> bool {
        if self.table.contains_key(&member) || self.table.len() >= PROBES {
            return false;
        }
        let until = now + DIAL;
        let stage = Stage::Dialling;
        let since = now;
        self.table.insert(
            member,
            Probe {
                stage,
                since,
                until,
            },
        );
        self.judge_by(until);
        true
    }

    /// The driver is about to dial this member again, whose link has failed. False if
    /// there is no room.
    pub(crate) fn redial(&mut self, now: Duration, member: P, until: Duration) -> bool {
        if self.table.len() >= PROBES && !self.table.contains_key(&member) {
            return false;
        }
        let stage = Stage::Redialling;
        let since = now;
        self.table.insert(
            member,
            Probe {
                stage,
                since,
                until,
            },
        );
        self.judge_by(until);
        true
    }

    /// A dial of this member has failed. Whether it was such a second one; it is over.
    pub(crate) fn redialled(&mut self, member: P) -> bool {
        let probe = self.table.get(&member);
        let redialled = probe.is_some_and(|probe| matches!(probe.stage, Stage::Redialling));
        if redialled {
            self.table.remove(&member);
        }
        redialled
    }

    /// A dial of this member has failed. When it began, if others are to be asked
    /// now.
    pub(crate) fn failed(&self, now: Duration, member: P) -> Option<Duration> {
        match self.table.get(&member) {
            Some(probe) => matches!(probe.stage, Stage::Dialling).then_some(probe.since),
            None => (self.table.len() < PROBES).then_some(now),
        }
    }

    /// These are asked now; what they say counts until then.
    pub(crate) fn ask(&mut self, member: P, whom: Vec<P>, since: Duration, until: Duration) {
        let stage = Stage::Asking(whom);
        self.table.insert(
            member,
            Probe {
                stage,
                since,
                until,
            },
        );
        self.judge_by(until);
    }

    /// An answer. From a peer that was not asked, or not this time, it counts nothing:
    /// it may be late.
    pub(crate) fn answered(&mut self, member: P, by: P, reachable: bool) {
        let Some(Probe {
            stage: Stage::Asking(whom),
            ..
        }) = self.table.get_mut(&member)
        else {
            return;
        };
        let Some(at) = whom.iter().position(|&peer| peer == by) else {
            return;
        };
        if reachable {
            self.table.remove(&member);
        } else {
            whom.swap_remove(at);
        }
    }

    /// Nothing more is to be found out about this member.
    pub(crate) fn remove(&mut self, member: P) {
        self.table.remove(&member);
    }

    /// Somebody asks about a member. Whether to dial it, if there is room for it.
    pub(crate) fn favour(&mut self, now: Duration, from: P, member: P) -> Option<bool> {
        if let Some(favour) = self.favours.get_mut(&member) {
            if !favour.waiting.contains(&from) {
                if favour.waiting.len() >= WAITING {
                    return None;
                }
                favour.waiting.push(from);
            }
            return Some(false);
        }
        if self.favours.len() >= FAVOURS {
            return None;
        }
        let (waiting, until) = (vec![from], now + DIAL);
        self.favours.insert(member, Favour { waiting, until });
        self.judge_by(until);
        Some(true)
    }

    /// Who waits to hear of this member.
    pub(crate) fn favoured(&mut self, member: P) -> Vec<P> {
        let favour = self.favours.remove(&member);
        favour.map(|favour| favour.waiting).unwrap_or_default()
    }

    /// The members of whom nobody said in time that they can be reached.
    pub(crate) fn judge(&mut self, now: Duration) -> Vec<P> {
        if self.judge_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.favours.retain(|_, favour| favour.until > now);
        let mut lost = Vec::new();
        self.table.retain(|&member, probe| {
            let over = probe.until <= now;
            if over && !matches!(probe.stage, Stage::Dialling) {
                lost.push(member);
            }
            !over
        });
        let probes = self.table.values().map(|probe| probe.until);
        let favours = self.favours.values().map(|favour| favour.until);
        self.judge_at = probes.chain(favours).min();
        lost
    }

    /// Ends everything, for this node leaves.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn check(&self) {
        assert!(self.table.len() <= PROBES && self.favours.len() <= FAVOURS);
        let waiting = self.favours.values().map(|favour| favour.waiting.len());
        assert!(waiting.max().is_none_or(|most| most <= WAITING));
        let probes = self.table.values().map(|probe| probe.until);
        let favours = self.favours.values().map(|favour| favour.until);
        let first = probes.chain(favours).min();
        assert!(first.is_none() || self.judge_at.is_some() && self.judge_at <= first);
    }
}
