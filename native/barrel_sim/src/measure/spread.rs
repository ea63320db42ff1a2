//! How numbers are spread.

/// The usual figures of some numbers. Averages are for printing only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
    /// Half are at most this.
    pub median: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The average.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

impl Spread {
    /// Of these numbers; all zero when there are none.
    #[must_use]
    pub fn of(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        let (Some(&least), Some(&most)) = (all.first(), all.last()) else {
            return Self::default();
        };
        let count = all.len() as f64;
        let mean = all.iter().sum::<u64>() as f64 / count;
        let square = |value: &u64| (*value as f64 - mean).powi(2);
        Self {
            count: all.len(),
            least,
            most,
            median: all[(all.len() - 1) / 2],
            p99: all[(all.len() - 1) * 99 / 100],
            mean,
            deviation: (all.iter().map(square).sum::<f64>() / count).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_one_to_a_hundred() {
        let spread = Spread::of((1..=100).rev().collect());
        assert_eq!(
            (spread.least, spread.most, spread.median, spread.p99),
            (1, 100, 50, 99)
        );
        assert!((spread.mean - 50.5).abs() < 1e-9);
        assert!((spread.deviation - 28.866).abs() < 1e-3);
    }

    #[test]
    fn nothing_has_no_figures() {
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
