//! One figure, and what it has to be.

use std::fmt;

use super::chart::Chart;

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// No more.
    AtMost(f64),
    /// No less.
    AtLeast(f64),
    /// It is shown, and nothing is asked of it.
    Shown,
}

impl Limit {
    /// Whether a figure is good.
    #[must_use]
    pub fn allows(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Shown => true,
        }
    }

    /// The worse of two figures. A figure that is no number is the worst.
    #[must_use]
    pub fn worse(self, one: f64, other: f64) -> f64 {
        match self {
            _ if one.is_nan() || other.is_nan() => f64::NAN,
            Self::AtMost(_) | Self::Shown => one.max(other),
            Self::AtLeast(_) => one.min(other),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
            Self::Shown => f.write_str("-"),
        }
    }
}

/// One figure of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The row of the acceptance table.
    pub row: &'static str,
    /// What was measured.
    pub what: String,
    /// How much it was.
    pub value: f64,
    /// What it has to be.
    pub limit: Limit,
}

/// All that one run found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The figures.
    pub figures: Vec<Finding>,
    /// The curves.
    pub charts: Vec<Chart>,
    /// The hash of the histories of all worlds of the run.
    pub hash: u128,
    /// Things that happened in them.
    pub steps: u64,
}

impl Findings {
    /// One more figure.
    pub fn note(&mut self, row: &'static str, what: impl Into<String>, value: f64, limit: Limit) {
        self.figures.push(Finding {
            row,
            what: what.into(),
            value,
            limit,
        });
    }

    /// Something that has to be so.
    pub fn must(&mut self, row: &'static str, what: impl Into<String>, is_so: bool) {
        self.note(row, what, f64::from(u8::from(is_so)), Limit::AtLeast(1.0));
    }

    /// The history of one world, which is over.
    pub fn seal(&mut self, hash: u128, steps: u64) {
        self.hash = self.hash.rotate_left(1) ^ hash;
        self.steps += steps;
    }

    /// What another part of the same run found.
    pub fn append(&mut self, mut other: Self) {
        self.figures.append(&mut other.figures);
        self.charts.append(&mut other.charts);
        self.seal(other.hash, other.steps);
    }
}

/// The same figure of all seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The row of the acceptance table.
    pub row: &'static str,
    /// What was measured.
    pub what: String,
    /// What it has to be.
    pub limit: Limit,
    /// Seed and figure.
    pub values: Vec<(u64, f64)>,
}

impl Row {
    /// The rows of several runs, in the order in which they appear first.
    #[must_use]
    pub fn merge(runs: &[(u64, Findings)]) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for (seed, findings) in runs {
            for one in &findings.figures {
                let is_same = |row: &&mut Self| row.row == one.row && row.what == one.what;
                match rows.iter_mut().find(is_same) {
                    Some(row) => row.values.push((*seed, one.value)),
                    None => rows.push(Self {
                        row: one.row,
                        what: one.what.clone(),
                        limit: one.limit,
                        values: vec![(*seed, one.value)],
                    }),
                }
            }
        }
        rows
    }

    /// The worst figure.
    #[must_use]
    pub fn worst(&self) -> f64 {
        let values = self.values.iter().map(|(_, value)| *value);
        values
            .reduce(|one, other| self.limit.worse(one, other))
            .unwrap_or(f64::NAN)
    }

    /// Whether all figures are good.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.values
            .iter()
            .all(|(_, value)| self.limit.allows(*value))
    }

    /// The seeds whose figure is not good.
    #[must_use]
    pub fn failed_seeds(&self) -> Vec<u64> {
        let failed = self
            .values
            .iter()
            .filter(|(_, value)| !self.limit.allows(*value));
        failed.map(|(seed, _)| *seed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[f64], limit: Limit) -> Row {
        let runs: Vec<(u64, Findings)> = (1..)
            .zip(values)
            .map(|(seed, value)| {
                let mut findings = Findings::default();
                findings.note("H1", "degree", *value, limit);
                (seed, findings)
            })
            .collect();
        Row::merge(&runs).remove(0)
    }

    #[test]
    fn one_bad_seed_spoils_a_row() {
        let row = found(&[5.0, 4.0, 5.5], Limit::AtLeast(4.5));
        assert_eq!((row.worst(), row.passes()), (4.0, false));
        assert_eq!(row.failed_seeds(), [2]);
    }

    #[test]
    fn a_figure_that_is_no_number_passes_nothing() {
        assert!(!found(&[f64::NAN], Limit::AtMost(1.0)).passes());
        assert!(!found(&[f64::NAN], Limit::AtLeast(1.0)).passes());
        assert!(found(&[1.0, f64::NAN], Limit::AtMost(1.0)).worst().is_nan());
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert!(found(&[1.0], Limit::AtMost(1.0)).passes());
        assert!(found(&[1.0], Limit::AtLeast(1.0)).passes());
        assert!(!found(&[1.1], Limit::AtMost(1.0)).passes());
    }
}
