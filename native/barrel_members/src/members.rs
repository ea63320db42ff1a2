// SPDX-License-Identifier: Apache-2.0

//! The state machine: its parts, its clock and its readers. What it does with records,
//! claims and links stands in the modules of these names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::card::{Card, Claim, Status};
use crate::config::Config;
use crate::departed::Departed;
use crate::directory::{Directory, Entry};
use crate::early::Early;
use crate::exceptions::Exceptions;
use crate::message::{Event, Output, Stats};
use crate::own::Own;
use crate::partition::Partition;
use crate::probes::Probes;
use crate::senders::Senders;

/// A timeout that is handled later than this means that the process slept, or was
/// starved. 500 ms: half of what detection may take beyond its timeouts.
const LATE: Duration = Duration::from_millis(500);

/// After it slept, a node judges nobody for this long: the answers may lie unread.
const GRACE: Duration = Duration::from_secs(1);

/// The directory of one node. See the crate for the rules.
///
/// The verbs that begin with `handle_` change it; then `poll_output` is to be called
/// until there is nothing, and `poll_timeout` says when to call `handle_timeout`.
#[derive(Clone, Debug)]
pub struct Members<P> {
    pub(crate) me: P,
    pub(crate) config: Config,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) own: Own,
    pub(crate) directory: Directory<P>,
    pub(crate) exceptions: Exceptions<P>,
    pub(crate) departed: Departed<P>,
    pub(crate) early: Early<P>,
    pub(crate) senders: Senders<P>,
    /// The peers with a working link. The driver bounds them.
    pub(crate) linked: BTreeSet<P>,
    pub(crate) probes: Probes<P>,
    pub(crate) partition: Partition,
    /// The longest time that a refutation took, fading.
    pub(crate) refuted: Duration,
    /// Whose record was refused because of its name, so that it is told once.
    pub(crate) clashes: BTreeMap<P, u64>,
    /// No suspicion ends before, and no record.
    pub(crate) verdict_at: Option<Duration>,
    pub(crate) sweep_at: Option<Duration>,
    grace_until: Duration,
    /// The first verb has been called, and the deadlines are set.
    begun: bool,
    /// Drained by the driver after each verb. One verb adds at most a few entries per
    /// member.
    outbox: VecDeque<Output<P>>,
    pub(crate) stats: Stats,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: crate::mutant::Mutant,
}

impl<P: Copy + Ord + Debug + Hash> Members<P> {
    /// A node that knows nobody. `seed` feeds its only source of chance.
    pub fn new(
        me: P,
        name: impl Into<Arc<str>>,
        incarnation: u64,
        config: Config,
        seed: u64,
    ) -> Self {
        Self::with_directory(me, name, incarnation, config, seed, Directory::new())
    }

    /// A node that knows what another one knows, and shares the memory with it. For
    /// simulations: the clocks of both must be one, and nothing is said of the members
    /// that are in it.
    pub fn with_directory(
        me: P,
        name: impl Into<Arc<str>>,
        incarnation: u64,
        config: Config,
        seed: u64,
        directory: Directory<P>,
    ) -> Self {
        let mut members = Self {
            me,
            rng: ChaCha8Rng::seed_from_u64(seed),
            own: Own::new(incarnation),
            directory,
            exceptions: Exceptions::new(),
            departed: Departed::new(),
            early: Early::new(),
            senders: Senders::new(),
            linked: BTreeSet::new(),
            probes: Probes::default(),
            partition: Partition::default(),
            refuted: Duration::ZERO,
            clashes: BTreeMap::new(),
            verdict_at: None,
            sweep_at: None,
            grace_until: Duration::ZERO,
            begun: false,
            outbox: VecDeque::new(),
            stats: Stats::default(),
            #[cfg(feature = "mutants")]
            mutant: crate::mutant::Mutant::None,
            config,
        };
        members.enter(name.into());
        members
    }

    /// Takes its own place in the directory, if it does not have it yet.
    fn enter(&mut self, name: Arc<str>) {
        let incarnation = self.own.incarnation;
        let known = self.directory.get(self.me).map(|entry| &entry.card);
        if known.is_some_and(|card| card.incarnation == incarnation && card.name == name) {
            return;
        }
        if let Some(other) = self.directory.holder(&name) {
            self.directory.remove(other);
        }
        self.own_card(name, incarnation);
    }

    pub(crate) fn own_card(&mut self, name: Arc<str>, incarnation: u64) {
        let card = Card {
            name,
            incarnation,
            seq: 0,
            ttl: self.config.record_ttl,
            pinned: true,
        };
        self.directory.insert(Entry {
            member: self.me,
            card: Arc::new(card),
            expires: u32::MAX,
        });
    }

    /// Says goodbye to everybody. The machine goes on to learn, but probes, suspects and
    /// refutes no longer.
    pub fn leave(&mut self, now: Duration) {
        self.begin(now);
        if self.own.left {
            return;
        }
        self.own.left = true;
        let goodbye = Claim {
            member: self.me,
            incarnation: self.own.incarnation,
            beat: self.own.beat,
            status: Status::Left,
        };
        self.exceptions.clear(self.me);
        let until = now + self.config.goodbye_listed;
        self.departed.insert(goodbye, Some(until));
        self.probes.clear();
        self.push(Output::Broadcast(goodbye));
        self.checked();
    }

    /// Comes back after [`leave`](Self::leave), in a new incarnation.
    pub fn rejoin(&mut self, now: Duration) {
        self.begin(now);
        // After the last number there is, only another key helps.
        if self.own.left && self.own.incarnation < u64::MAX {
            self.own.left = false;
            self.bump(now, self.own.incarnation);
            self.probes.start(now, &self.config, &mut self.rng);
        }
        self.checked();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.begin(now);
        let due = self.poll_timeout();
        if due.is_some_and(|due| now > due + LATE) {
            self.stats.late += 1;
            self.grace_until = now + GRACE;
            // Records were renewed while we slept; the exchange will tell.
            let later = now + self.config.early_life;
            self.sweep_at = self.sweep_at.map(|at| at.max(later));
        }
        self.own_timeout(now);
        self.departed.handle_timeout(now);
        self.early.handle_timeout(now);
        if now >= self.grace_until {
            self.end_suspicions(now);
            self.end_probes(now);
        }
        self.sweep(now);
        self.probe(now);
        self.checked();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if !self.begun {
            return Some(Duration::ZERO);
        }
        let judged = [self.verdict_at, self.probes.judge_at()];
        let judged = judged.map(|at| at.map(|at| at.max(self.grace_until)));
        let plain = [
            self.sweep_at,
            self.departed.poll_timeout(),
            self.early.poll_timeout(),
            self.own.poll_timeout(),
            self.probes.probe_at().filter(|_| !self.own.left),
        ];
        judged.into_iter().chain(plain).flatten().min()
    }

    /// What to do next; to be called until there is nothing.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.outbox.pop_front()
    }

    /// Sets the first deadlines: only now is it known what time it is.
    pub(crate) fn begin(&mut self, now: Duration) {
        if self.begun {
            return;
        }
        self.begun = true;
        self.renew_later(now);
        self.probes.start(now, &self.config, &mut self.rng);
        let first = self.directory.iter().map(|entry| entry.expires).min();
        self.sweep_at = first
            .filter(|&at| at < u32::MAX)
            .map(|at| Duration::from_secs(at.into()));
    }

    pub(crate) fn push(&mut self, output: Output<P>) {
        self.outbox.push_back(output);
    }

    pub(crate) fn tell(&mut self, event: Event<P>) {
        self.outbox.push_back(Output::Event(event));
    }

    /// The duration, a tenth shorter or longer, so that nodes do not keep step.
    pub(crate) fn jitter(&mut self, duration: Duration) -> Duration {
        duration * self.rng.random_range(900..=1_100) / 1_000
    }

    /// Breaks a rule on purpose.
    #[cfg(feature = "mutants")]
    pub fn break_rule(&mut self, mutant: crate::mutant::Mutant) {
        self.mutant = mutant;
    }
}
