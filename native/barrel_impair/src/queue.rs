//! One direction of the path, without clock, socket or thread.
//!
//! A packet that arrives passes these stages in turn:
//!
//! ```text
//! blackout -> mtu -> loss -> duplication -> line (rate, queue) -> delay, jitter, hold
//! ```
//!
//! Time is a [`Duration`] since the start and never goes back. What is decided
//! for a packet is decided when it arrives: a changed setting counts for
//! packets that arrive after it.
//!
//! Every arrival draws the same count of random numbers, whatever is set. So
//! which packets are lost depends on the seed, the loss and the count of
//! packets before, and stays when, say, jitter is switched on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::settings::Settings;

/// Bytes on the way in one direction, at most: a second at 1 Gbit/s. It keeps
/// a sender that knows no limit from taking all memory.
pub const MAX_HELD: usize = 128 << 20;

/// What happened to a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way, once or twice.
    Taken,
    /// Lost at random.
    Lost,
    /// The line had no room.
    Dropped,
    /// Larger than the path carries.
    TooLarge,
    /// Nothing passes.
    Blackout,
}

/// Counts of packets, but for the last four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Arrived.
    pub received: u64,
    /// Left, duplicates among them.
    pub delivered: u64,
    /// Lost at random.
    pub lost: u64,
    /// Sent a second time.
    pub duplicated: u64,
    /// Held back. How many others overtook it depends on the traffic.
    pub reordered: u64,
    /// Found the line full.
    pub dropped: u64,
    /// Were too large.
    pub too_large: u64,
    /// Came in a blackout.
    pub blackout: u64,
    /// On their way now.
    pub held: u64,
    /// Bytes that left.
    pub bytes: u64,
    /// Bytes of the largest packet that arrived.
    pub largest: u64,
    /// Microseconds by which the latest of all left too late: the driver had no processor.
    pub late_max_us: u64,
    /// The mean of that over all that left.
    pub late_mean_us: u64,
}

/// One direction.
pub struct Queue<P> {
    settings: Settings,
    rng: ChaCha8Rng,
    /// The state of losses in bursts: whether the one before was lost.
    in_burst: bool,
    line: Line,
    /// A packet in order leaves no earlier than this.
    latest: Duration,
    /// By due time, then by arrival.
    waiting: BTreeMap<(Duration, u64), (usize, P)>,
    arrivals: u64,
    held_bytes: usize,
    /// Of all packets together.
    late: Duration,
    stats: Stats,
}

/// The random numbers of one arrival, each uniform in [0, 1).
struct Draws {
    loss: f64,
    duplicate: f64,
    reorder: [f64; 2],
    jitter: [f64; 2],
}

impl<P: Clone> Queue<P> {
    /// An empty one that lets everything pass. Directions with one seed and
    /// different numbers decide independently.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self {
            settings: Settings::default(),
            rng,
            in_burst: false,
            line: Line::default(),
            latest: Duration::ZERO,
            waiting: BTreeMap::new(),
            arrivals: 0,
            held_bytes: 0,
            late: Duration::ZERO,
            stats: Stats::default(),
        }
    }

    /// What is set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// To change what is set.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        Stats {
            held: self.waiting.len() as u64,
            late_mean_us: self.late.as_micros() as u64 / self.stats.delivered.max(1),
            ..self.stats
        }
    }

    /// A packet arrives. `size` is that of the IP packet.
    pub fn handle_packet(&mut self, now: Duration, size: usize, packet: P) -> Fate {
        let draws = self.draw();
        self.stats.received += 1;
        self.stats.largest = self.stats.largest.max(size as u64);
        let lost = self.is_lost(draws.loss);
        if self.settings.blackout {
            self.stats.blackout += 1;
            return Fate::Blackout;
        }
        if self.settings.mtu.is_some_and(|mtu| size > mtu) {
            self.stats.too_large += 1;
            return Fate::TooLarge;
        }
        if lost {
            self.stats.lost += 1;
            return Fate::Lost;
        }
        if draws.duplicate < self.settings.duplicate {
            self.stats.duplicated += 1;
            let first = self.enter(now, size, packet.clone(), draws.reorder[0], draws.jitter[0]);
            let _ = self.enter(now, size, packet, draws.reorder[1], draws.jitter[1]);
            return first;
        }
        self.enter(now, size, packet, draws.reorder[0], draws.jitter[0])
    }

    /// When the next packet leaves.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next packet that is due. Ask until there is none.
    #[must_use]
    pub fn poll_output(&mut self, now: Duration) -> Option<P> {
        let entry = self.waiting.first_entry().filter(|e| e.key().0 <= now)?;
        let late = now.saturating_sub(entry.key().0);
        let (size, packet) = entry.remove();
        self.held_bytes -= size;
        self.late += late;
        self.stats.late_max_us = self.stats.late_max_us.max(late.as_micros() as u64);
        self.stats.delivered += 1;
        self.stats.bytes += size as u64;
        Some(packet)
    }

    fn draw(&mut self) -> Draws {
        let mut next = || (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Draws {
            loss: next(),
            duplicate: next(),
            reorder: [next(), next()],
            jitter: [next(), next()],
        }
    }

    /// Independent, or the two states of Gilbert: everything is lost in the
    /// one, nothing in the other. A burst ends with probability 1 / `burst`, so
    /// that is its mean length; it begins as often as gives `loss` overall.
    fn is_lost(&mut self, draw: f64) -> bool {
        let loss = self.settings.loss;
        self.in_burst = match self.settings.burst {
            None => draw < loss,
            Some(_) if loss == 0.0 => false,
            Some(burst) if self.in_burst => draw >= 1.0 / burst,
            Some(burst) => draw < loss / (1.0 - loss) / burst,
        };
        self.in_burst
    }

    fn enter(&mut self, now: Duration, size: usize, packet: P, reorder: f64, jitter: f64) -> Fate {
        if self.held_bytes + size > MAX_HELD {
            self.stats.dropped += 1;
            return Fate::Dropped;
        }
        let Some(sent) = self
            .line
            .send(now, size, self.settings.rate, self.settings.queue)
        else {
            self.stats.dropped += 1;
            return Fate::Dropped;
        };
        let due = sent + self.settings.delay + self.settings.jitter.mul_f64(jitter);
        let due = if reorder < self.settings.reorder {
            self.stats.reordered += 1;
            due + self.settings.hold
        } else {
            self.latest = self.latest.max(due);
            self.latest
        };
        self.waiting.insert((due, self.arrivals), (size, packet));
        self.arrivals += 1;
        self.held_bytes += size;
        Fate::Taken
    }
}

/// What has a rate: packets pass one after the other.
#[derive(Default)]
struct Line {
    /// Until when it is busy.
    free_at: Duration,
    /// When each packet that waits, or is being sent, has passed, and its size.
    passing: VecDeque<(Duration, usize)>,
    waiting: usize,
}

impl Line {
    /// When the packet has passed; `None` when it found no room. A packet on
    /// an idle line always has room.
    fn send(
        &mut self,
        now: Duration,
        size: usize,
        rate: Option<u64>,
        room: usize,
    ) -> Option<Duration> {
        while let Some(&(end, size)) = self.passing.front()
            && end <= now
        {
            self.passing.pop_front();
            self.waiting -= size;
        }
        let Some(rate) = rate else {
            return Some(now);
        };
        if !self.passing.is_empty() && self.waiting + size > room {
            return None;
        }
        let nanos = size as u64 * 8 * 1_000_000_000 / rate;
        let end = self.free_at.max(now) + Duration::from_nanos(nanos);
        self.free_at = end;
        self.waiting += size;
        self.passing.push_back((end, size));
        Some(end)
    }
}
