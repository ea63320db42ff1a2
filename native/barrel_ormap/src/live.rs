// SPDX-License-Identifier: Apache-2.0

//! The live entries of one log.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use crate::hlc::Hlc;
use crate::pair::Pair;

/// So many entries are kept in a plain vector, where an entry takes 32 bytes. A tree has
/// room for eleven at once and takes about 60 bytes for each.
const FEW: usize = 32;

/// An entry. Its dot is its place in [`Live`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hlc: Hlc,
    pub(crate) pair: Pair,
}

/// Entries by their dot. Most logs of a directory have one entry, those of a registry
/// up to thousands; each size has its shape.
#[derive(Clone, Debug, Default)]
pub(crate) enum Live {
    #[default]
    Empty,
    One(u64, Entry),
    Few(Vec<(u64, Entry)>),
    Many(BTreeMap<u64, Entry>),
}

impl Live {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(..) => 1,
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn entry(&self, seq: u64) -> Option<&Entry> {
        match self {
            Self::Empty => None,
            Self::One(dot, entry) => (*dot == seq).then_some(entry),
            Self::Few(few) => {
                let at = few.binary_search_by_key(&seq, |entry| entry.0).ok()?;
                Some(&few[at].1)
            }
            Self::Many(many) => many.get(&seq),
        }
    }

    /// The entries of the operations `(from, to]`, ascending.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let (one, few, many) = match self {
            Self::Empty => (None, None, None),
            Self::One(dot, entry) => (
                (from < *dot && *dot <= to).then_some((*dot, entry)),
                None,
                None,
            ),
            Self::Few(few) => {
                let start = few.partition_point(|entry| entry.0 <= from);
                let end = few.partition_point(|entry| entry.0 <= to).max(start);
                (
                    None,
                    Some(few[start..end].iter().map(|(dot, entry)| (*dot, entry))),
                    None,
                )
            }
            // A tree panics at a range that ends before it begins.
            Self::Many(many) => {
                let range = (Excluded(from), Included(to));
                let part = (from < to).then(|| many.range(range).map(|(dot, entry)| (*dot, entry)));
                (None, None, part)
            }
        };
        let (few, many) = (few.into_iter().flatten(), many.into_iter().flatten());
        one.into_iter().chain(few).chain(many)
    }

    /// All entries, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.range(0, u64::MAX)
    }

    /// Takes an entry in; what was at its place is given back.
    pub(crate) fn insert(&mut self, seq: u64, entry: Entry) -> Option<Entry> {
        match self {
            Self::Empty => *self = Self::One(seq, entry),
            Self::One(dot, old) if *dot == seq => return Some(std::mem::replace(old, entry)),
            Self::One(..) => {
                self.grow();
                return self.insert(seq, entry);
            }
            Self::Few(few) => match few.binary_search_by_key(&seq, |entry| entry.0) {
                Ok(at) => return Some(std::mem::replace(&mut few[at].1, entry)),
                Err(_) if few.len() == FEW => {
                    self.grow();
                    return self.insert(seq, entry);
                }
                Err(at) => few.insert(at, (seq, entry)),
            },
            Self::Many(many) => return many.insert(seq, entry),
        }
        None
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Entry> {
        let entry = match self {
            Self::Empty => None,
            Self::One(dot, _) if *dot != seq => None,
            Self::One(..) => match std::mem::take(self) {
                Self::One(_, entry) => Some(entry),
                _ => None,
            },
            Self::Few(few) => {
                let at = few.binary_search_by_key(&seq, |entry| entry.0).ok()?;
                Some(few.remove(at).1)
            }
            Self::Many(many) => many.remove(&seq),
        };
        if entry.is_some() {
            self.shrink();
        }
        entry
    }

    fn grow(&mut self) {
        *self = match std::mem::take(self) {
            Self::One(dot, entry) => Self::Few(vec![(dot, entry)]),
            Self::Few(few) => Self::Many(few.into_iter().collect()),
            other => other,
        };
    }

    /// Back to the smaller shape, at half its size, so that it does not swing.
    fn shrink(&mut self) {
        *self = match std::mem::take(self) {
            Self::Few(few) if few.len() < 2 => match few.into_iter().next() {
                Some((dot, entry)) => Self::One(dot, entry),
                None => Self::Empty,
            },
            Self::Many(many) if many.len() <= FEW / 2 => Self::Few(many.into_iter().collect()),
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u64) -> Entry {
        Entry {
            hlc: Hlc::from_u64(number),
            pair: Pair::new(b"key", b""),
        }
    }

    #[test]
    fn an_entry_takes_no_more_room_than_it_must() {
        if size_of::<usize>() == 8 {
            assert_eq!(size_of::<(u64, Entry)>(), 32);
            assert!(size_of::<Live>() <= 40, "one entry and which shape it is");
        }
    }

    proptest! {
        #[test]
        fn every_shape_is_a_map(ops in prop::collection::vec((any::<bool>(), 1u64..100), 1..300)) {
            let (mut live, mut model) = (Live::default(), BTreeMap::new());
            for (number, (add, seq)) in ops.into_iter().enumerate() {
                let entry = entry(number as u64);
                if add {
                    prop_assert_eq!(live.insert(seq, entry.clone()), model.insert(seq, entry));
                } else {
                    prop_assert_eq!(live.remove(seq), model.remove(&seq));
                }
                prop_assert_eq!(live.len(), model.len());
                prop_assert_eq!(live.entry(seq), model.get(&seq));
                prop_assert!(live.iter().eq(model.iter().map(|(dot, entry)| (*dot, entry))));
                let part = live.range(seq, seq + 20);
                prop_assert!(part.eq(model.range(seq + 1..=seq + 20).map(|(dot, entry)| (*dot, entry))));
                prop_assert_eq!(live.range(seq, seq - 1).count(), 0);
            }
        }
    }
}
