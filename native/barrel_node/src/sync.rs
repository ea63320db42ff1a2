// SPDX-License-Identifier: Apache-2.0

//! Anti-entropy: two replicas find out where they differ, and each takes what it lacks.
//!
//! ```text
//! asker                                   other
//!   | root -------------------------------> |
//!   | <------------------------------ equal |   most rounds end here, after 34 bytes
//!   |                                       |
//!   | <---------------------------- buckets |   2 KiB
//!   | summaries of the differing buckets -> |
//!   | <------------- summaries, as answer   |   now both know what they lack
//!   | wants ------------------------------> |
//!   | <-------------------------- chunks ...|   made one by one as the link takes them
//!   | <------------------------------- done |
//!   | root ...                              |   again, as long as it brought something
//! ```
//!
//! Of a map, the asker keeps what it was told until it has all of it. If it then wants
//! nothing, the two have applied the same, and if they do not hold the same, the asker
//! takes what it has lost.
//!
//! The other side asks for what *it* lacks by its own wants, in the middle of this; so
//! one round trip serves both. What is asked says all that the answer depends on, and
//! each chunk stands for itself: a link that breaks costs the rest of the answer and
//! nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use barrel_members::Claim;
use barrel_ormap::delta::MAX_SEQ;
use barrel_ormap::{Summary, Want};

use crate::NodeId;
use crate::stores::Piece;
use crate::topic::Topic;

/// Summaries in one message: 48 to 64 bytes each, so that a message is at most 64 KiB.
pub(crate) const MAX_SUMMARIES: usize = 1000;

/// Wants in one message. Each is small, but may carry a thousand ranges; see
/// [`MAX_WANT_RANGES`].
pub(crate) const MAX_WANTS: usize = 1000;

/// Claims in one message: about 30 bytes each.
pub(crate) const MAX_CLAIMS: usize = 1000;

/// Ranges of all wants of one message together: 20 bytes each, 40 KiB.
pub(crate) const MAX_WANT_RANGES: usize = 2000;

/// Wants that one peer may have open here. Ten messages' worth: all logs of a large
/// cluster. What is more is not served; the peer asks again.
pub(crate) const MAX_SERVED: usize = 16 * MAX_WANTS;

/// Ranges that these wants may have together, for the same reason.
pub(crate) const MAX_SERVED_RANGES: usize = 16 * MAX_WANT_RANGES;

/// Summaries that are kept of one round of a map, to look at its end whether two replicas
/// that have applied the same hold the same. All logs of a large cluster; where there are
/// more, the round does without that look.
pub(crate) const MAX_KEPT: usize = 16 * MAX_SUMMARIES;

/// A round that takes longer than this without a word from the other side is over: it
/// was dropped somewhere. Longer than any round trip; a guess.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the two sides say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SyncMessage {
    Root {
        topic: Topic,
        root: u128,
    },
    Equal {
        topic: Topic,
    },
    Buckets {
        topic: Topic,
        buckets: Box<[u64; 256]>,
    },
    Summaries {
        topic: Topic,
        answer: bool,
        last: bool,
        buckets: Vec<u8>,
        summaries: Vec<Summary>,
    },
    Wants {
        topic: Topic,
        wants: Vec<Want>,
    },
    Chunk {
        topic: Topic,
        piece: Piece,
    },
    Done {
        topic: Topic,
    },
    /// Of [`Topic::CLAIMS`]: all that is not plain alive, at once.
    Claims {
        answer: bool,
        claims: Vec<Claim<NodeId>>,
    },
}

impl SyncMessage {
    pub(crate) fn topic(&self) -> Topic {
        match self {
            Self::Root { topic, .. }
            | Self::Equal { topic }
            | Self::Buckets { topic, .. }
            | Self::Summaries { topic, .. }
            | Self::Wants { topic, .. }
            | Self::Chunk { topic, .. }
            | Self::Done { topic } => *topic,
            Self::Claims { .. } => Topic::CLAIMS,
        }
    }
}

/// Who is asked what, and who is answered what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    asked: BTreeMap<(NodeId, Topic), Round>,
    served: BTreeMap<NodeId, BTreeMap<Question, Want>>,
}

/// What a want is about: a life of a node in a store, and whether it asks for operations
/// or for what is live.
type Question = (Topic, NodeId, u64, bool);

/// What a peer has told of a map in this round.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) buckets: Box<[u64; 256]>,
    /// Of all buckets that differ.
    pub(crate) summaries: Vec<Summary>,
}

/// One comparison under way, seen from either side.
#[derive(Clone, Debug)]
struct Round {
    /// Wants are out.
    wanting: bool,
    /// A chunk has changed something here.
    fruitful: bool,
    until: Duration,
    told: Option<Told>,
}

impl Rounds {
    /// Whether a comparison with this peer may begin; notes that it does.
    pub(crate) fn begin(&mut self, now: Duration, peer: NodeId, topic: Topic) -> bool {
        let running = self
            .asked
            .get(&(peer, topic))
            .is_some_and(|round| round.until > now);
        if running {
            return false;
        }
        let round = Round {
            wanting: false,
            fruitful: false,
            until: now + PATIENCE,
            told: None,
        };
        self.asked.insert((peer, topic), round);
        true
    }

    /// A word of a round that we began; whether there is one.
    pub(crate) fn goes_on(&mut self, now: Duration, peer: NodeId, topic: Topic) -> bool {
        match self.asked.get_mut(&(peer, topic)) {
            Some(round) => {
                round.until = now + PATIENCE;
                true
            }
            None => false,
        }
    }

    /// The peer has told its buckets; the summaries will be kept until they are complete.
    pub(crate) fn keep_buckets(&mut self, peer: NodeId, topic: Topic, buckets: Box<[u64; 256]>) {
        if let Some(round) = self.asked.get_mut(&(peer, topic)) {
            let summaries = Vec::new();
            round.told = Some(Told { buckets, summaries });
        }
    }

    /// The peer has told some of its summaries.
    pub(crate) fn keep_summaries(&mut self, peer: NodeId, topic: Topic, more: &[Summary]) {
        if let Some(round) = self.asked.get_mut(&(peer, topic))
            && let Some(told) = &mut round.told
        {
            if told.summaries.len() + more.len() > MAX_KEPT {
                round.told = None;
            } else {
                told.summaries.extend_from_slice(more);
            }
        }
    }

    /// All that the peer has told of a map in this round.
    pub(crate) fn told(&mut self, peer: NodeId, topic: Topic) -> Option<Told> {
        self.asked.get_mut(&(peer, topic))?.told.take()
    }

    /// Wants go out to this peer.
    pub(crate) fn wants(&mut self, now: Duration, peer: NodeId, topic: Topic) {
        let round = self.asked.entry((peer, topic)).or_insert(Round {
            wanting: false,
            fruitful: false,
            until: now,
            told: None,
        });
        round.wanting = true;
        round.until = now + PATIENCE;
    }

    /// Whether chunks are expected from this peer.
    pub(crate) fn is_wanting(&self, peer: NodeId, topic: Topic) -> bool {
        self.asked
            .get(&(peer, topic))
            .is_some_and(|round| round.wanting)
    }

    /// A chunk that was asked for has come.
    pub(crate) fn on_chunk(&mut self, now: Duration, peer: NodeId, topic: Topic, news: bool) {
        if let Some(round) = self.asked.get_mut(&(peer, topic)) {
            round.fruitful |= news;
            round.until = now + PATIENCE;
        }
    }

    /// A round is over; whether to begin another, because this one brought something.
    pub(crate) fn end(&mut self, peer: NodeId, topic: Topic) -> bool {
        self.asked
            .remove(&(peer, topic))
            .is_some_and(|round| round.fruitful)
    }

    /// Forgets a peer whose link is gone.
    pub(crate) fn drop_peer(&mut self, peer: NodeId) {
        self.asked.retain(|(asked, _), _| *asked != peer);
        self.served.remove(&peer);
    }

    /// Forgets a store that is gone.
    pub(crate) fn drop_topic(&mut self, topic: Topic) {
        self.asked.retain(|(_, about), _| *about != topic);
        for queue in self.served.values_mut() {
            queue.retain(|(about, ..), _| *about != topic);
        }
    }

    /// Forgets rounds in which nothing has been said for too long.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.asked.retain(|_, round| round.until > now);
    }

    /// A peer asks; what it asked before about the same logs is answered by the newer.
    pub(crate) fn serve(&mut self, peer: NodeId, topic: Topic, wants: Vec<Want>) {
        let open = self.served.entry(peer).or_default();
        let mut ranges = ranges_of(open);
        for want in wants {
            let of_operations = want.base < MAX_SEQ;
            let key = (topic, want.origin, want.inc, of_operations);
            let (known, replaced) = open.get(&key).map_or((0, 0), |old| (1, old.have.len()));
            let after = ranges - replaced + want.have.len();
            if open.len() - known < MAX_SERVED && after <= MAX_SERVED_RANGES {
                ranges = after;
                open.insert(key, want);
            }
        }
        if open.is_empty() {
            self.served.remove(&peer);
        }
    }

    /// What is to be answered next on the link to this peer.
    pub(crate) fn served(&mut self, peer: NodeId) -> Option<(Topic, &mut Want)> {
        let ((topic, ..), want) = self.served.get_mut(&peer)?.iter_mut().next()?;
        Some((*topic, want))
    }

    /// The first of what was to be answered is; its topic, when it was the last of it.
    pub(crate) fn served_one(&mut self, peer: NodeId) -> Option<Topic> {
        let open = self.served.get_mut(&peer)?;
        let ((topic, ..), _) = open.pop_first()?;
        let next = open.first_key_value().map(|((topic, ..), _)| *topic);
        if open.is_empty() {
            self.served.remove(&peer);
        }
        (next != Some(topic)).then_some(topic)
    }

    /// Logs that others ask for.
    pub(crate) fn served_wants(&self) -> usize {
        self.served.values().map(BTreeMap::len).sum()
    }

    /// Ranges in what they ask.
    pub(crate) fn served_ranges(&self) -> usize {
        self.served.values().map(ranges_of).sum()
    }

    /// Summaries that are kept to the end of their round.
    pub(crate) fn kept(&self) -> usize {
        let told = self.asked.values().filter_map(|round| round.told.as_ref());
        told.map(|told| told.summaries.len()).sum()
    }

    /// Rounds under way.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }
}

fn ranges_of(open: &BTreeMap<Question, Want>) -> usize {
    open.values().map(|want| want.have.len()).sum()
}

/// Wants in messages of a bounded size.
pub(crate) fn portions(wants: Vec<Want>) -> Vec<Vec<Want>> {
    let mut portions: Vec<Vec<Want>> = Vec::new();
    let mut ranges = 0;
    for want in wants {
        let full = portions.last().is_none_or(|last| last.len() >= MAX_WANTS)
            || ranges + want.have.len() > MAX_WANT_RANGES;
        if full {
            portions.push(Vec::new());
            ranges = 0;
        }
        ranges += want.have.len();
        if let Some(last) = portions.last_mut() {
            last.push(want);
        }
    }
    portions
}
