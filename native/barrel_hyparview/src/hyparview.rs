// SPDX-License-Identifier: Apache-2.0

//! One node: what it knows, and the verbs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Peer;
use crate::active::Active;
use crate::config::{ACTIVE_SIZE, Config, MAX_VIEW};
use crate::fingerprint::Fingerprint;
use crate::links::Ended;
use crate::lost::Lost;
use crate::message::{Component, MAX_PEERS, Message, Parting};
use crate::meter::{Meter, Meters};
use crate::output::{DownReason, Event, Link, LinkDown, Output};
use crate::passive::Passive;
use crate::request::{Purpose, Requests};
use crate::sampler::Sampler;
use crate::seekers::Seekers;
use crate::shuffle::Shuffled;
use crate::stats::Stats;
use crate::switch::Role;

/// Peers whose group is remembered. Groups matter for those who insist now.
const MAX_GROUPS: usize = 256;

/// The views of one node.
#[derive(Clone, Debug)]
pub struct HyParView<P> {
    pub(crate) me: P,
    pub(crate) config: Config,
    pub(crate) rng: ChaCha8Rng,
    /// Members of the cluster as the directory says, 0 while it says nothing.
    pub(crate) members: usize,
    pub(crate) left: bool,

    pub(crate) active: Active<P>,
    pub(crate) passive: Passive<P>,
    pub(crate) sampler: Sampler<P>,
    pub(crate) lost: Lost<P>,
    pub(crate) fingerprint: Fingerprint<P>,

    pub(crate) requests: Requests<P>,
    /// Candidates that refused in this pass of repair.
    pub(crate) refused: BTreeSet<P>,
    /// This pass has found no more candidates.
    pub(crate) exhausted: bool,
    pub(crate) under_filled_since: Option<Duration>,
    /// Whom we refused a place.
    pub(crate) seekers: Seekers<P>,
    pub(crate) ended: Ended<P>,

    /// The first verb sets it.
    pub(crate) shuffle_at: Option<Duration>,
    pub(crate) shuffled: Option<Shuffled<P>>,
    /// Lost peers that were asked, and until when they may answer.
    pub(crate) probing: BTreeMap<P, Duration>,
    /// Shuffle periods in which no other component is merged with.
    pub(crate) merge_pause: u32,
    pub(crate) role: Option<Role<P>>,

    pub(crate) groups: VecDeque<(P, u64)>,
    pub(crate) forced: Meters<Group<P>>,
    pub(crate) forced_total: Meter,
    pub(crate) hub: Meter,
    pub(crate) urgent: Meters<P>,
    pub(crate) ordinary: Meters<P>,
    /// What we passed on to each because others said so.
    pub(crate) relayed: Meters<P>,

    pub(crate) outputs: VecDeque<Output<P>>,
    pub(crate) stats: Stats,
}

/// Who shares what may be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group<P> {
    Named(u64),
    Alone(P),
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved<P> {
    /// Lost peers, and how long ago they were lost.
    pub lost: Vec<(P, Duration)>,
    /// Contacts we joined through, the latest at the end.
    pub seeds: Vec<P>,
}

impl<P: Peer> HyParView<P> {
    /// A node alone. It takes in whoever joins, and joins nobody by itself.
    ///
    /// Sizes above [`MAX_VIEW`] count as that, and an active view has room for one at least.
    #[must_use]
    pub fn new(me: P, config: Config, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (lost, seeds) = config
            .lost_book
            .as_ref()
            .map_or((0, 0), |book| (book.size, book.seeds));
        let passive = Passive::new(config.passive_size.min(MAX_VIEW), config.introducer_share);
        let sampler = Sampler::new(&mut rng, config.sampler.unwrap_or(0).min(MAX_VIEW));
        let seekers = config.seekers.unwrap_or(0);
        Self {
            me,
            config,
            rng,
            members: 0,
            left: false,
            active: Active::new(),
            passive,
            sampler,
            lost: Lost::new(lost.min(MAX_VIEW), seeds.min(MAX_VIEW)),
            fingerprint: Fingerprint::new(me),
            requests: Requests::new(),
            refused: BTreeSet::new(),
            exhausted: false,
            under_filled_since: None,
            seekers: Seekers::new(seekers.min(MAX_PEERS)),
            ended: Ended::new(),
            shuffle_at: None,
            shuffled: None,
            probing: BTreeMap::new(),
            merge_pause: 0,
            role: None,
            groups: VecDeque::new(),
            forced: Meters::new(),
            forced_total: Meter::default(),
            hub: Meter::default(),
            urgent: Meters::new(),
            ordinary: Meters::new(),
            relayed: Meters::new(),
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Puts back what [`Self::saved`] gave before a restart.
    pub fn restore(&mut self, now: Duration, saved: Saved<P>) {
        self.wake(now);
        for (peer, before) in saved.lost {
            if peer != self.me && !self.active.contains(peer) {
                self.lost.insert(now, peer, before);
            }
        }
        for seed in saved.seeds {
            if seed != self.me {
                self.lost.insert_seed(seed);
            }
        }
        self.after(now);
    }

    /// What should outlive a restart.
    #[must_use]
    pub fn saved(&self, now: Duration) -> Saved<P> {
        Saved {
            lost: self.lost.saved(now),
            seeds: self.lost.seeds().collect(),
        }
    }

    /// Joins through a node whose id is known. Also joins two clusters: the contact, if it
    /// takes us in, becomes a neighbour even if we are full.
    pub fn join(&mut self, now: Duration, contact: P) {
        self.wake(now);
        if contact == self.me {
            return;
        }
        self.left = false;
        self.lost.insert_seed(contact);
        if !self.active.contains(contact) && !self.request(now, contact, Purpose::Join) {
            self.event(Event::JoinFailed { contact });
        }
        self.after(now);
    }

    /// Says good-bye to the neighbours and forgets everybody but the contacts; nothing is
    /// repaired and nobody is taken in until the next [`Self::join`].
    pub fn leave(&mut self, now: Duration) {
        self.wake(now);
        self.left = true;
        self.role = None;
        let active: Vec<P> = self.active.peers().collect();
        for peer in active {
            self.drop_neighbor(now, peer, DownReason::Leaving, Some(Parting::Leaving));
        }
        let waiting = self.requests.iter().map(|request| request.peer);
        let waiting: Vec<P> = waiting.chain(self.probing.keys().copied()).collect();
        self.requests.clear();
        self.probing.clear();
        waiting.into_iter().for_each(|peer| self.release(peer));
        self.passive.clear();
        self.sampler.clear();
        self.refused.clear();
        self.seekers.clear();
        self.shuffled = None;
        self.under_filled_since = None;
        self.fingerprint.restart();
        self.after(now);
    }

    /// A link has ended. It need not have been of a neighbour.
    pub fn handle_link_down(&mut self, now: Duration, peer: P, link: Link, reason: LinkDown) {
        self.wake(now);
        self.ended.insert(peer, link);
        let waited = self.requests.contains(peer) || self.probing.contains_key(&peer);
        if self.active.find(peer).is_some_and(|n| n.link > link) {
            return;
        }
        let failed = reason == LinkDown::Failed;
        if self.active.contains(peer) {
            let reason = if failed {
                DownReason::LinkFailed
            } else {
                DownReason::LinkClosed
            };
            self.drop_neighbor(now, peer, reason, None);
        }
        self.initiator_lost(peer, link);
        if failed {
            self.probing.remove(&peer);
            self.request_failed(now, peer);
        } else {
            self.ask_again(peer);
        }
        if waited {
            self.release(peer);
        }
        self.fill(now);
        self.after(now);
    }

    /// What was to be sent to a peer without a link could not be delivered.
    pub fn handle_dial_failed(&mut self, now: Duration, peer: P) {
        self.wake(now);
        if self.active.contains(peer) {
            // It may have us, by a link of its own, and not know that this failed.
            let parting = Some(Parting::Unwanted);
            self.drop_neighbor(now, peer, DownReason::LinkFailed, parting);
        }
        self.probing.remove(&peer);
        self.passive.remove(peer);
        self.sampler.forget(&mut self.rng, peer);
        self.request_failed(now, peer);
        self.release(peer);
        self.fill(now);
        self.after(now);
    }

    /// How many members the cluster has, with us.
    pub fn handle_cluster_size(&mut self, now: Duration, members: usize) {
        self.wake(now);
        self.members = members;
        self.fill(now);
        self.after(now);
    }

    /// Peers of one group share what they may force, such as those behind one network
    /// prefix. A peer nobody told about is a group of its own.
    pub fn handle_group(&mut self, now: Duration, peer: P, group: u64) {
        self.wake(now);
        self.groups.retain(|(other, _)| *other != peer);
        if self.groups.len() >= MAX_GROUPS {
            self.groups.pop_front();
        }
        self.groups.push_back((peer, group));
    }

    /// The peer has left the cluster, or is not trusted: out of every view and book.
    pub fn handle_forget(&mut self, now: Duration, peer: P) {
        self.wake(now);
        self.forget(now, peer, DownReason::Forgotten, Some(Parting::Unwanted));
        self.lost.forget(peer);
        self.fill(now);
        self.after(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.wake(now);
        self.expire(now);
        if self.shuffle_at.is_some_and(|at| at <= now) {
            self.schedule_shuffle(now);
            if !self.left {
                self.tick(now);
            }
        }
        self.fill(now);
        self.after(now);
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let probing = self.probing.values().min().copied();
        let role = self.role.as_ref().map(Role::until);
        let shuffle = self.shuffle_at.unwrap_or(Duration::ZERO);
        [self.requests.next_timeout(), probing, role, Some(shuffle)]
            .into_iter()
            .flatten()
            .min()
    }

    /// What to do next; to be asked until `None` after each other call.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.outputs.pop_front()
    }

    /// Our own id.
    pub fn me(&self) -> P {
        self.me
    }

    /// What was chosen at birth.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The neighbours, the oldest first.
    pub fn active(&self) -> impl Iterator<Item = P> {
        self.active.peers()
    }

    /// The address book.
    pub fn passive(&self) -> impl Iterator<Item = P> {
        self.passive.peers()
    }

    /// Peers lost to failures, and not found again.
    pub fn lost(&self) -> impl Iterator<Item = P> {
        self.lost.peers()
    }

    /// Whether it is a neighbour.
    #[must_use]
    pub fn is_active(&self, peer: P) -> bool {
        self.active.contains(peer)
    }

    /// Whether a link to this peer is of use here.
    #[must_use]
    pub fn needs(&self, peer: P) -> bool {
        self.active.contains(peer)
            || self.requests.contains(peer)
            || self.probing.contains_key(&peer)
            || matches!(self.role, Some(Role::Candidate { initiator, .. }) if initiator == peer)
    }

    /// How many neighbours there should be, and at most are taken in.
    #[must_use]
    pub fn target(&self) -> usize {
        let small = self.members <= self.config.small_cluster_size;
        let target = match self.config.active_size {
            Some(size) => size,
            None if small => ACTIVE_SIZE.max(self.members.saturating_sub(1)),
            None => ACTIVE_SIZE,
        };
        target.clamp(1, MAX_VIEW)
    }

    /// The component we believe to be in; `None` without a lost book.
    #[must_use]
    pub fn component(&self) -> Option<Component<P>> {
        self.config
            .lost_book
            .as_ref()
            .map(|_| self.fingerprint.component())
    }

    /// Since when neighbours are missing, of those that there could be.
    #[must_use]
    pub fn under_filled_since(&self) -> Option<Duration> {
        self.under_filled_since
    }

    /// Counts since birth.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The first verb tells us what time it is: shuffles of nodes born together spread.
    pub(crate) fn wake(&mut self, now: Duration) {
        if self.shuffle_at.is_none() {
            let period = self.config.shuffle_period.as_micros();
            let period = u64::try_from(period).unwrap_or(u64::MAX);
            let phase = self.rng.random_range(0..=period);
            self.shuffle_at = Some(now.saturating_add(Duration::from_micros(phase)));
        }
    }

    /// One period after the last, unless that has passed as well.
    fn schedule_shuffle(&mut self, now: Duration) {
        let period = self.config.shuffle_period.max(Duration::from_millis(1));
        let next = self.shuffle_at.unwrap_or(now).saturating_add(period);
        self.shuffle_at = Some(if next > now {
            next
        } else {
            now.saturating_add(period)
        });
    }

    /// Once in each shuffle period.
    fn tick(&mut self, now: Duration) {
        if let Some(book) = &self.config.lost_book {
            self.fingerprint.tick(book.stale_after);
            self.lost.expire(now, book.keep);
        }
        self.merge_pause = self.merge_pause.saturating_sub(1);
        self.refused.clear();
        self.exhausted = false;
        self.shrink(now);
        self.shuffle();
        self.maybe_probe(now);
        self.maybe_switch(now);
    }

    /// What was asked and not answered.
    fn expire(&mut self, now: Duration) {
        while let Some(request) = self.requests.overdue(now) {
            self.request_failed(now, request.peer);
            self.release(request.peer);
        }
        self.expire_role(now);
        let late = |(peer, until): (&P, &Duration)| (*until <= now).then_some(*peer);
        let silent: Vec<P> = self.probing.iter().filter_map(late).collect();
        for peer in silent {
            self.probing.remove(&peer);
            self.release(peer);
        }
    }

    /// Out of both views and everything that is under way.
    pub(crate) fn forget(
        &mut self,
        now: Duration,
        peer: P,
        reason: DownReason,
        tell: Option<Parting>,
    ) {
        let asked = self.requests.contains(peer) || self.probing.contains_key(&peer);
        self.drop_neighbor(now, peer, reason, tell);
        self.abandon_request(peer);
        self.probing.remove(&peer);
        self.passive.remove(peer);
        self.sampler.forget(&mut self.rng, peer);
        self.lost.remove(peer);
        self.seekers.remove(peer);
        if asked {
            self.release(peer);
        }
    }

    pub(crate) fn send(&mut self, to: P, msg: Message<P>) {
        self.outputs.push_back(Output::Send { to, msg });
    }

    /// Sends what somebody else has caused, unless it is so much that the receiver could
    /// take us for the culprit: half of what it takes from one peer, the other half is for
    /// what we have to say ourselves. Then the walk ends.
    pub(crate) fn relay(&mut self, now: Duration, to: P, msg: Message<P>) {
        if let Some(limit) = &self.config.rate_limit {
            let (burst, period) = limit.ordinary;
            if !self.relayed.try_take(now, to, (burst / 2, period * 2)) {
                self.stats.walks_dropped += 1;
                return;
            }
        }
        self.send(to, msg);
    }

    pub(crate) fn event(&mut self, event: Event<P>) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Says that we need no link to this peer, if that is so.
    pub(crate) fn release(&mut self, peer: P) {
        if !self.needs(peer) {
            self.outputs.push_back(Output::Release { peer });
        }
    }

    /// The end of every verb.
    pub(crate) fn after(&mut self, now: Duration) {
        let possible = match self.members {
            0 => self.target(),
            members => self.target().min(members - 1),
        };
        self.under_filled_since = if self.left || self.active.len() >= possible {
            None
        } else {
            self.under_filled_since.or(Some(now))
        };
        debug_assert_eq!(self.check(), Ok(()));
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn breaks(&self, rule: crate::config::Mutant) -> bool {
        self.config.mutant == Some(rule)
    }
}
