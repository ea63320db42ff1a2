// SPDX-License-Identifier: Apache-2.0

//! What can be set, and why it is set so.

use std::time::Duration;

/// The settings of one node. They need not be the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// So many ids to one neighbour are sent without further delay. 32 of 34 bytes each
    /// fill one datagram of 1,200 bytes.
    pub ihave_batch: usize,
    /// How long an id waits for others. A guess: it is added to the time until a hole
    /// is noticed, so it is short beside [`t1_min`](Self::t1_min).
    pub ihave_delay: Duration,
    /// The optimisation of the paper: a neighbour that announced a message by at least
    /// so many rounds fewer than it then came with replaces the one that brought it.
    /// The authors recommend it for a single sender. It is off, because a
    /// tree for many senders has no best shape: each sender pulls it another way.
    pub optimize_at: Option<u16>,
    /// Not of the paper: a neighbour that announced a message so many round trips before
    /// it came replaces the one that brought it, if that is
    /// [`t1_min`](Self::t1_min) at least. Repairs make a tree longer, in time several
    /// times as long, and nothing else makes it short again. Measured with ten thousand
    /// nodes and many senders: eight round trips leave a healthy tree as it is, but for one link
    /// in ten messages; fewer than six would bend it.
    pub shorten_at: Option<u32>,
    /// The longest T1, how long an announced message is waited for before it is asked
    /// for. Also the first, until a few were seen to learn a better one, because too long costs
    /// time where something is lost, but too short costs all nodes the tree: over links
    /// of 10 to 100 ms ten thousand nodes need more than half a second.
    ///
    /// A little is added at random to each T1, up to a quarter. So not
    /// all nodes below a broken link ask at once, where one of them suffices.
    pub t1_max: Duration,
    /// The shortest T1. A guess: a process that is not scheduled for less is normal.
    pub t1_min: Duration,
    /// The shortest T2, how long an answer is waited for before the next
    /// neighbour is asked. A guess: see [`t1_min`](Self::t1_min). T2 is else
    /// one and a half round trips to that neighbour; the paper
    /// recommends one on average.
    pub t2_min: Duration,
    /// T2 while the round trip is not known: what QUIC assumes of it
    /// (RFC 9002, section 6.2.2).
    pub t2_unknown: Duration,
    /// Ids in one announcement, at most. A guess: some
    /// [`ihave_batch`](Self::ihave_batch) of others, should theirs be larger.
    pub ids_per_message: usize,
    /// Ids per second from one neighbour; those above are not looked at. A guess: a hundredth of a
    /// processor, and more messages than one cluster sends.
    pub ids_per_second: u32,
    /// Missing messages that one neighbour has announced; above this the newest
    /// are not noted. A guess: together less than a megabyte.
    pub outstanding: usize,
    /// Messages that are asked for at one neighbour at the same time. Others wait. A
    /// guess: what it can send in a round trip, and fewer than it may refuse.
    pub asked_at_once: usize,
    /// Messages per second that one neighbour gets by asking. Above this it gets
    /// none and asks another. A guess.
    pub bodies_per_second: u32,
    /// Their bytes per second. A guess: a gigabit line is not filled.
    pub body_bytes_per_second: u32,
    /// Messages per second that go on although they have been seen, because the tree brings
    /// them after something else did. What is replayed much later looks like that too. A guess:
    /// less than anybody may send as new.
    pub again_per_second: u32,
    /// Ids of messages that passed within ten seconds, at most. They tell a message that came
    /// by another way from one that comes twice, and T1 is learnt by them. A guess: more messages than
    /// a cluster sends in the time that one is under way.
    pub remembered: usize,
    /// Questions without an answer in a row before it is told. A guess.
    pub lagging_after: u32,
    /// The rule to break.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ihave_batch: 32,
            ihave_delay: Duration::from_millis(20),
            optimize_at: None,
            shorten_at: Some(8),
            t1_max: Duration::from_secs(1),
            t1_min: Duration::from_millis(50),
            t2_min: Duration::from_millis(20),
            t2_unknown: Duration::from_millis(333),
            ids_per_message: 1024,
            ids_per_second: 20_000,
            outstanding: 4096,
            asked_at_once: 64,
            bodies_per_second: 2000,
            body_bytes_per_second: 32 << 20,
            again_per_second: 100,
            remembered: 4096,
            lagging_after: 8,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

impl Config {
    /// Whether that rule is broken here. Never, but in tests.
    #[cfg(feature = "mutants")]
    pub(crate) fn breaks(&self, rule: Mutant) -> bool {
        self.mutant == Some(rule)
    }

    /// Whether that rule is broken here. Never, but in tests.
    #[cfg(not(feature = "mutants"))]
    pub(crate) fn breaks(&self, _: Mutant) -> bool {
        false
    }
}

/// A rule that is broken on purpose, so that the tests are seen to notice.
#[cfg_attr(not(feature = "mutants"), allow(unreachable_pub))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Who sends a duplicate is told, but stays eager here.
    KeepDuplicateSender,
    /// Who sends a duplicate becomes lazy here, but is not told.
    NoPrune,
    /// Only the first who announced is asked.
    AskOnce,
    /// What was lost once stays lost, however often it is announced.
    KeepLost,
    /// What is announced is asked for at once.
    ImmediateGraft,
    /// Strangers are listened to.
    HearStrangers,
    /// Every message makes links lazy, however many are on their way.
    AllShape,
}
