//! How long a message is on its way.

use std::time::Duration;

use super::dice::mix;
use super::machine::NodeNo;
use super::time::nanos;

/// The one-way time between two nodes: the same both ways and at all times.
#[derive(Clone, Debug)]
pub enum Latency {
    /// Alike everywhere.
    Fixed(Duration),
    /// Drawn for each pair of nodes, and then kept.
    Random {
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
        /// Which draw.
        seed: u64,
    },
    /// Node `n` lives in region `n % regions`; the matrix has a row for each region. The upper half
    /// of it counts.
    Regions(Vec<Vec<Duration>>),
}

impl Latency {
    /// Links of a wide area: 10 to 100 ms.
    #[must_use]
    pub fn wide(seed: u64) -> Self {
        Self::Random {
            least: Duration::from_millis(10),
            most: Duration::from_millis(100),
            seed,
        }
    }

    /// Nanoseconds from one to the other.
    #[must_use]
    pub fn between(&self, a: NodeNo, b: NodeNo) -> u64 {
        let (low, high) = (a.min(b), a.max(b));
        match self {
            Self::Fixed(span) => nanos(*span),
            Self::Random { least, most, seed } => {
                let least = nanos(*least);
                let width = nanos(*most).saturating_sub(least).saturating_add(1);
                let draw = mix((u64::from(low) << 32) ^ u64::from(high) ^ mix(*seed));
                least + ((u128::from(draw) * u128::from(width)) >> 64) as u64
            }
            Self::Regions(matrix) => {
                let region = |node: NodeNo| node as usize % matrix.len().max(1);
                let (from, to) = (region(low), region(high));
                let cell = matrix
                    .get(from.min(to))
                    .and_then(|row| row.get(from.max(to)));
                cell.map_or(0, |span| nanos(*span))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_as_far_apart_both_ways() {
        let latency = Latency::wide(1);
        for a in 0..50 {
            for b in 0..50 {
                assert_eq!(latency.between(a, b), latency.between(b, a));
            }
        }
    }

    #[test]
    fn random_latencies_fill_their_range() {
        let latency = Latency::wide(2);
        let all: Vec<u64> = (1..10_000).map(|b| latency.between(0, b)).collect();
        let (least, most) = (all.iter().min(), all.iter().max());
        assert!(least.is_some_and(|ns| (10_000_000..10_100_000).contains(ns)));
        assert!(most.is_some_and(|ns| (99_900_000..=100_000_000).contains(ns)));
    }

    #[test]
    fn regions_are_near_inside_and_far_between() {
        let ms = Duration::from_millis;
        let latency = Latency::Regions(vec![vec![ms(1), ms(50)], vec![ms(50), ms(2)]]);
        assert_eq!(latency.between(0, 2), 1_000_000);
        assert_eq!(latency.between(1, 3), 2_000_000);
        assert_eq!(latency.between(3, 4), 50_000_000);
    }
}
