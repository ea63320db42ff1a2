//! A moment of virtual time.

use std::fmt;
use std::time::Duration;

/// Nanoseconds since the world began. 64 bits last 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

const NANOS_PER_MS: u64 = 1_000_000;

impl Time {
    /// The beginning.
    pub const ZERO: Self = Self(0);

    /// So many milliseconds after the beginning.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * NANOS_PER_MS)
    }

    /// So many seconds after the beginning.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs * 1000)
    }

    /// This much later; the end of time is not passed.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// What lies between an earlier moment and this one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since the beginning.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / NANOS_PER_MS
    }
}

/// What the simulator counts in. Longer than 584 years is as long.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1000;
        write!(f, "{}.{:06} s", micros / 1_000_000, micros % 1_000_000)
    }
}
