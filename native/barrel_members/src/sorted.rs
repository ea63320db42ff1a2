// SPDX-License-Identifier: Apache-2.0

//! A sorted table in pieces that its copies share.
//!
//! A copy costs one pointer per piece. Whoever changes an element copies its piece
//! only, if somebody else has it too. So ten thousand simulated nodes that agree have
//! one directory between them, and a node that runs alone never copies.

use std::cmp::Ordering;
use std::sync::Arc;

/// The most elements of a piece: two kilobytes of the usual 32 bytes. A larger piece
/// costs more to copy, a smaller one more to find.
const PIECE: usize = 64;

/// By so much a piece grows.
const STEP: usize = 8;

/// The order is the caller's: each verb takes a function that says where an element
/// stands compared with the one that is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Sorted<T> {
    /// None of them is empty.
    pieces: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T: Clone> Sorted<T> {
    pub(crate) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, order: impl Fn(&T) -> Ordering) -> Option<&T> {
        let (piece, at) = self.find(order).ok()?;
        Some(&self.pieces[piece][at])
    }

    /// Puts an element in its place. The one that was there comes back.
    pub(crate) fn insert(&mut self, order: impl Fn(&T) -> Ordering, value: T) -> Option<T> {
        match self.find(order) {
            Ok((piece, at)) => {
                let old = &mut Arc::make_mut(&mut self.pieces[piece])[at];
                Some(std::mem::replace(old, value))
            }
            Err((piece, at)) => {
                self.add(piece, at, value);
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, order: impl Fn(&T) -> Ordering) -> Option<T> {
        let (piece, at) = self.find(order).ok()?;
        let elements = Arc::make_mut(&mut self.pieces[piece]);
        let old = elements.remove(at);
        self.len -= 1;
        if elements.is_empty() {
            self.pieces.remove(piece);
        } else {
            self.merge(piece);
        }
        Some(old)
    }

    /// The element at that place in the whole order.
    pub(crate) fn nth(&self, mut at: usize) -> Option<&T> {
        for piece in &self.pieces {
            if at < piece.len() {
                return Some(&piece[at]);
            }
            at -= piece.len();
        }
        None
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// Where the element is, or where it would go: a piece and a place in it.
    fn find(&self, order: impl Fn(&T) -> Ordering) -> Result<(usize, usize), (usize, usize)> {
        let after = self
            .pieces
            .partition_point(|piece| order(&piece[0]) != Ordering::Greater);
        let piece = after.saturating_sub(1);
        match self.pieces.get(piece) {
            None => Err((0, 0)),
            Some(elements) => match elements.binary_search_by(order) {
                Ok(at) => Ok((piece, at)),
                Err(at) => Err((piece, at)),
            },
        }
    }

    fn add(&mut self, piece: usize, at: usize, value: T) {
        self.len += 1;
        let Some(shared) = self.pieces.get_mut(piece) else {
            self.pieces.push(Arc::new(vec![value]));
            return;
        };
        let elements = Arc::make_mut(shared);
        // In small steps, because a directory grows seldom and lies in memory for long.
        if elements.len() == elements.capacity() {
            elements.reserve_exact(STEP);
        }
        elements.insert(at, value);
        if elements.len() > PIECE {
            let upper = elements.split_off(elements.len() / 2);
            elements.shrink_to_fit();
            self.pieces.insert(piece + 1, Arc::new(upper));
        }
    }

    /// Joins a piece that has become small with the next one, if both fit in one.
    fn merge(&mut self, piece: usize) {
        let Some(next) = self.pieces.get(piece + 1) else {
            return;
        };
        if self.pieces[piece].len() + next.len() <= PIECE / 2 {
            let next = self.pieces.remove(piece + 1);
            let elements = Arc::make_mut(&mut self.pieces[piece]);
            elements.reserve_exact(next.len());
            elements.extend(next.iter().cloned());
        }
    }

    /// Whether every piece keeps to its bounds and the order holds.
    pub(crate) fn check(&self, before: impl Fn(&T, &T) -> bool) {
        let total: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        assert_eq!(total, self.len, "the length is that of all pieces");
        assert!(
            self.pieces
                .iter()
                .all(|piece| (1..=PIECE).contains(&piece.len())),
            "no piece is empty or too long"
        );
        let rising = self.iter().zip(self.iter().skip(1));
        assert!(rising.into_iter().all(|(a, b)| before(a, b)), "the order");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0u16..400), 0..1_500)) {
            let (mut table, mut model) = (Sorted::new(), BTreeSet::new());
            for (insert, value) in steps {
                if insert {
                    let known = table.insert(|old: &u16| old.cmp(&value), value).is_some();
                    prop_assert_eq!(known, !model.insert(value));
                } else {
                    let known = table.remove(|old| old.cmp(&value)).is_some();
                    prop_assert_eq!(known, model.remove(&value));
                }
            }
            table.check(|a, b| a < b);
            prop_assert!(table.iter().eq(model.iter()));
            for (at, value) in model.iter().enumerate() {
                prop_assert_eq!(table.nth(at), Some(value));
                prop_assert_eq!(table.get(|old| old.cmp(value)), Some(value));
            }
            prop_assert_eq!(table.nth(model.len()), None);
        }
    }

    #[test]
    fn a_copy_shares_every_piece_until_one_changes() {
        let mut table = Sorted::new();
        for value in 0..1_000 {
            table.insert(|old: &i32| old.cmp(&value), value);
        }
        let mut copy = table.clone();
        copy.insert(|old| old.cmp(&500), 500);
        let apart = table.pieces.iter().zip(&copy.pieces);
        assert_eq!(apart.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
    }
}
