// SPDX-License-Identifier: Apache-2.0

//! Is it they who died, or are we cut off?

use std::time::Duration;

/// Losses with no longer pause between them are one blow. Twice the default probe
/// period, because those whom no neighbour misses are found by probing.
const PAUSE: Duration = Duration::from_secs(20);

/// Counts the losses of one blow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    last: Option<Duration>,
    lost: usize,
    of: usize,
    is: bool,
}

impl Partition {
    pub(crate) fn is(&self) -> bool {
        self.is
    }

    /// One member is unreachable, `up` are left. The losses of the blow and the
    /// number before it, when they have just become a majority.
    pub(crate) fn lost(&mut self, now: Duration, up: usize) -> Option<(usize, usize)> {
        let goes_on = self.last.is_some_and(|last| now < last + PAUSE);
        if !goes_on {
            self.lost = 0;
            self.of = up + 1;
        }
        self.last = Some(now);
        self.lost += 1;
        // Who came back meanwhile is not lost.
        let lost = self.lost.min(self.of.saturating_sub(up));
        let majority = 2 * lost > self.of;
        let begins = majority && !self.is;
        self.is |= majority;
        begins.then_some((lost, self.of))
    }

    /// So many of so many are up. True when that is a majority again.
    pub(crate) fn ends(&mut self, up: usize, members: usize) -> bool {
        let ends = self.is && 2 * up > members;
        if ends {
            *self = Self::default();
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_majority_lost_in_one_go_is_a_partition_and_is_told_once() {
        let mut partition = Partition::default();
        assert_eq!(partition.lost(at(1), 4), None);
        assert_eq!(partition.lost(at(2), 3), None);
        assert_eq!(partition.lost(at(3), 2), Some((3, 5)));
        assert_eq!(partition.lost(at(4), 1), None);
        assert!(!partition.ends(2, 5));
        assert!(partition.ends(3, 5));
        assert!(!partition.is());
    }

    #[test]
    fn members_that_go_one_after_the_other_are_none() {
        let mut partition = Partition::default();
        for gone in 1..9 {
            assert_eq!(partition.lost(at(60 * gone), 10 - gone as usize), None);
        }
    }

    #[test]
    fn one_of_two_is_not_a_majority() {
        assert_eq!(Partition::default().lost(at(1), 1), None);
    }
}
