// SPDX-License-Identifier: Apache-2.0

//! What the latest operations removed.

use std::collections::VecDeque;

use crate::delta::Removal;

/// The removals of one log's latest operations. From where on it is complete, the log of
/// the origin knows: an applied operation later than that, which is not named here, has
/// removed nothing. Who lacks more is told what is live instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removals(VecDeque<Removal>);

impl Removals {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a removal in. Above the limit the oldest operation is forgotten, and
    /// returned.
    pub(crate) fn push(&mut self, removal: Removal, limit: usize) -> Option<u64> {
        match self.0.back() {
            Some(last) if *last >= removal => {
                if let Err(at) = self.0.binary_search(&removal) {
                    self.0.insert(at, removal);
                }
            }
            _ => self.0.push_back(removal),
        }
        let oldest = (self.0.len() > limit).then(|| self.0[0].by);
        oldest.inspect(|&seq| self.forget(seq))
    }

    /// Forgets the operations up to this one.
    pub(crate) fn forget(&mut self, seq: u64) {
        let gone = self.0.partition_point(|removal| removal.by <= seq);
        self.0.drain(..gone);
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    /// The removals by operations after this one, ascending.
    pub(crate) fn iter_after(&self, seq: u64) -> impl Iterator<Item = Removal> {
        let start = self.0.partition_point(|removal| removal.by <= seq);
        self.0.range(start..).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal(by: u64) -> Removal {
        Removal { by, seq: 1 }
    }

    #[test]
    fn a_full_log_forgets_its_oldest_operation_as_a_whole() {
        let mut log = Removals::new();
        assert_eq!(log.push(Removal { by: 5, seq: 2 }, 3), None);
        assert_eq!(log.push(Removal { by: 5, seq: 3 }, 3), None);
        assert_eq!(log.push(removal(9), 3), None);
        assert_eq!(log.push(removal(7), 3), Some(5));
        assert_eq!(
            log.iter_after(0).collect::<Vec<_>>(),
            [removal(7), removal(9)]
        );
        assert_eq!(log.iter_after(7).collect::<Vec<_>>(), [removal(9)]);
    }

    #[test]
    fn the_order_of_arrival_leaves_no_trace() {
        let (mut up, mut down) = (Removals::new(), Removals::new());
        (2..40).for_each(|by| _ = up.push(removal(by), 8));
        (2..40).rev().for_each(|by| _ = down.push(removal(by), 8));
        assert_eq!(up, down);
    }
}
