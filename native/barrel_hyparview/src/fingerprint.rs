// SPDX-License-Identifier: Apache-2.0

//! Which component of the overlay we are in.
//!
//! The smallest id of a component names it. Everybody repeats the smallest id heard, on
//! messages that travel anyway. Its owner raises a number once in each shuffle period; when
//! the number stands still for a while the owner is gone, or on the other side of a
//! partition, and everybody begins again with the own id. Who is gone is remembered
//! with its last number, so that echoes do not bring it back.

use std::collections::VecDeque;

use crate::message::Component;

/// Numbers that differ by no more are news on their way: it crosses 10,000 nodes in
/// two or three periods.
const SLACK: u64 = 4;

/// Owners remembered as gone. When more go at once, old echoes may delay a new name by
/// one staleness.
const MAX_RETIRED: usize = 8;

/// Larger numbers are lies: they leave the owner nothing to count to. At one in each second
/// this one is reached after millions of years.
const MAX_EPOCH: u64 = 1 << 48;

#[derive(Clone, Debug)]
pub(crate) struct Fingerprint<P> {
    me: P,
    own_epoch: u64,
    component: Component<P>,
    /// Periods without a new number.
    silence: u32,
    retired: VecDeque<Component<P>>,
}

impl<P: Copy + Ord> Fingerprint<P> {
    pub(crate) fn new(me: P) -> Self {
        Self {
            me,
            own_epoch: 0,
            component: Component { min: me, epoch: 0 },
            silence: 0,
            retired: VecDeque::new(),
        }
    }

    pub(crate) fn component(&self) -> Component<P> {
        self.component
    }

    /// A shuffle period is over.
    pub(crate) fn tick(&mut self, stale_after: u32) {
        self.silence = self.silence.saturating_add(1);
        if self.component.min != self.me && self.silence > stale_after {
            if self.retired.len() >= MAX_RETIRED {
                self.retired.pop_front();
            }
            self.retired.push_back(self.component);
            self.restart();
        }
        if self.component.min == self.me {
            self.own_epoch += 1;
            self.restart();
        }
    }

    /// Begins again with the own id.
    pub(crate) fn restart(&mut self) {
        self.component = Component {
            min: self.me,
            epoch: self.own_epoch,
        };
        self.silence = 0;
    }

    /// A neighbour believes this.
    pub(crate) fn hear(&mut self, heard: Component<P>) {
        if heard.epoch > MAX_EPOCH {
            return;
        }
        if heard.min == self.me {
            // from before a restart of ours
            self.own_epoch = self.own_epoch.max(heard.epoch);
            return;
        }
        let gone = self
            .retired
            .iter()
            .any(|gone| gone.min == heard.min && gone.epoch >= heard.epoch);
        let known = self.component;
        let newer = heard.min == known.min && heard.epoch > known.epoch;
        if !gone && (heard.min < known.min || newer) {
            self.component = heard;
            self.silence = 0;
        }
    }

    /// Whether somebody who believes this is elsewhere. The same name does not suffice: the
    /// half of a partition that lost the owner still has the name, and an old number.
    pub(crate) fn differs(&self, other: Component<P>) -> bool {
        let mine = self.component;
        other.min != mine.min || other.epoch.abs_diff(mine.epoch) > SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(min: u32, epoch: u64) -> Component<u32> {
        Component { min, epoch }
    }

    #[test]
    fn the_smallest_id_names_the_component() {
        let mut five = Fingerprint::new(5);
        five.hear(at(7, 90));
        assert_eq!(five.component(), at(5, 0));
        five.hear(at(3, 1));
        five.hear(at(4, 9));
        assert_eq!(five.component(), at(3, 1));
    }

    #[test]
    fn a_name_whose_owner_died_is_dropped_and_its_echo_ignored() {
        let mut five = Fingerprint::new(5);
        five.hear(at(3, 20));
        (0..9).for_each(|_| five.tick(8));
        assert_eq!(five.component().min, 5);
        five.hear(at(3, 20));
        assert_eq!(five.component().min, 5);
        five.hear(at(3, 21));
        assert_eq!(five.component(), at(3, 21));
    }

    #[test]
    fn an_owner_goes_on_from_what_others_remember() {
        let mut three = Fingerprint::new(3);
        three.hear(at(3, 20));
        three.tick(8);
        assert_eq!(three.component(), at(3, 21));
    }

    #[test]
    fn an_old_number_is_another_component_and_a_late_one_is_not() {
        let mut five = Fingerprint::new(5);
        five.hear(at(3, 20));
        assert!(five.differs(at(3, 10)));
        assert!(five.differs(at(4, 20)));
        assert!(!five.differs(at(3, 22)));
    }

    #[test]
    fn a_number_that_cannot_be_is_not_believed() {
        let mut five = Fingerprint::new(5);
        five.hear(at(3, u64::MAX));
        five.hear(at(5, u64::MAX));
        five.tick(8);
        assert_eq!(five.component(), at(5, 1));
    }
}
