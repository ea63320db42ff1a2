//! What a world is like.

use std::time::Duration;

use super::latency::Latency;

/// How the death of a process is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Its links are reset, and dials are refused, one latency later: the host lives and answers.
    Reset,
    /// Nothing answers any more: links end with the idle timeout, dials with theirs.
    Silence,
}

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of everything random in the world; the machines have seeds of their own.
    pub seed: u64,
    /// The way between two nodes.
    pub latency: Latency,
    /// Every message is late by up to this on top. Order is kept.
    pub jitter: Duration,
    /// A link whose other end is silent for so long has failed. 5 s: a guess for a local network with
    /// keep-alives, far below the 30 s that QUIC implementations use by default.
    pub idle_timeout: Duration,
    /// Each end says something at least so often, and the silence of a dead one counts from its last word: up to
    /// so much earlier than its death. Zero, as if that word came in the moment of death, unless a scenario
    /// looks at deaths.
    pub keep_alive: Duration,
    /// A dial that nobody answered for so long has failed. 5 s, as the idle timeout.
    pub dial_timeout: Duration,
    /// How deaths are noticed.
    pub detection: Detection,
    /// How long a write to the disk takes. 1 ms: a guess, a flash disk with its cache.
    pub disk: Duration,
    /// What the wall clocks show when the world begins.
    pub wall_ms: u64,
}

impl Config {
    /// Links of 10 ms and nothing unusual.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            latency: Latency::Fixed(Duration::from_millis(10)),
            jitter: Duration::ZERO,
            idle_timeout: Duration::from_secs(5),
            keep_alive: Duration::ZERO,
            dial_timeout: Duration::from_secs(5),
            detection: Detection::Silence,
            disk: Duration::from_millis(1),
            // a round number in 2025
            wall_ms: 1_750_000_000_000,
        }
    }
}
