// SPDX-License-Identifier: Apache-2.0

//! Every member with its card, found by key and by name.
//!
//! A member costs 32 bytes here and 16 in the order of the names, for keys of 16
//! bytes, besides the card. What deviates from "alive, beat 0" stands elsewhere.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::card::Card;
use crate::sorted::Sorted;

/// A member whose record is known.
#[derive(Clone, Debug)]
pub(crate) struct Entry<P> {
    pub(crate) member: P,
    pub(crate) card: Arc<Card>,
    /// When the record ends, in whole seconds of the clock of this node.
    pub(crate) expires: u32,
}

/// All cards that a node knows. A clone shares everything with the original.
#[derive(Clone, Debug)]
pub struct Directory<P> {
    entries: Sorted<Entry<P>>,
    /// The same members in the order of their names.
    names: Sorted<P>,
    /// Members whose key the operator has not placed.
    unknown: usize,
}

/// Whole seconds, rounded up: a record never ends too soon.
pub(crate) fn seconds(at: Duration) -> u32 {
    let rounded = at
        .as_secs()
        .saturating_add(u64::from(at.subsec_nanos() > 0));
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

impl<P: Copy + Ord + Debug> Directory<P> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Sorted::new(),
            names: Sorted::new(),
            unknown: 0,
        }
    }

    /// Members whose key the operator has not placed.
    pub(crate) fn unknown(&self) -> usize {
        self.unknown
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, member: P) -> Option<&Entry<P>> {
        self.entries.get(|entry| entry.member.cmp(&member))
    }

    pub(crate) fn contains(&self, member: P) -> bool {
        self.get(member).is_some()
    }

    /// Who has this name.
    pub(crate) fn holder(&self, name: &str) -> Option<P> {
        self.names.get(|&other| self.compare(other, name)).copied()
    }

    pub(crate) fn nth(&self, at: usize) -> Option<&Entry<P>> {
        self.entries.nth(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry<P>> {
        self.entries.iter()
    }

    /// Takes a card in the place of the one that is known. Its name is free or the
    /// member's own.
    pub(crate) fn insert(&mut self, entry: Entry<P>) {
        let (member, name) = (entry.member, entry.card.name.clone());
        let renamed = self
            .get(member)
            .is_none_or(|known| known.card.name != entry.card.name);
        if renamed {
            self.remove(member);
        }
        self.unknown += usize::from(!entry.card.pinned);
        let old = self
            .entries
            .insert(|other| other.member.cmp(&member), entry);
        self.unknown -= usize::from(old.is_some_and(|old| !old.card.pinned));
        if renamed {
            let entries = &self.entries;
            let order = |&other: &P| compare(entries, other, &name);
            self.names.insert(order, member);
        }
    }

    pub(crate) fn remove(&mut self, member: P) -> Option<Arc<Card>> {
        let name = self.get(member)?.card.name.clone();
        let entries = &self.entries;
        self.names.remove(|&other| compare(entries, other, &name));
        let entry = self.entries.remove(|entry| entry.member.cmp(&member))?;
        self.unknown -= usize::from(!entry.card.pinned);
        Some(entry.card)
    }

    fn compare(&self, other: P, name: &str) -> Ordering {
        compare(&self.entries, other, name)
    }

    pub(crate) fn check(&self) {
        self.entries.check(|a, b| a.member < b.member);
        assert_eq!(self.names.len(), self.entries.len(), "everybody has a name");
        let unknown = self.iter().filter(|entry| !entry.card.pinned).count();
        assert_eq!(self.unknown, unknown, "they are counted");
        self.names.check(|&a, &b| match (self.get(a), self.get(b)) {
            (Some(a), Some(b)) => a.card.name < b.card.name,
            _ => false,
        });
    }
}

/// Where the name of a member stands compared with another. Who is in the order of
/// the names is an entry, too.
fn compare<P: Copy + Ord>(entries: &Sorted<Entry<P>>, other: P, name: &str) -> Ordering {
    let entry = entries.get(|entry| entry.member.cmp(&other));
    entry.map_or(Ordering::Less, |entry| (*entry.card.name).cmp(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(member: u8, name: &str) -> Entry<u8> {
        let card = Card {
            name: name.into(),
            incarnation: 1,
            seq: 1,
            ttl: Duration::ZERO,
            pinned: false,
        };
        Entry {
            member,
            card: Arc::new(card),
            expires: 0,
        }
    }

    #[test]
    fn a_member_is_found_by_its_latest_name_only() {
        let mut directory = Directory::new();
        directory.insert(entry(1, "b"));
        directory.insert(entry(2, "a"));
        directory.insert(entry(1, "c"));
        directory.check();
        assert_eq!(directory.holder("c"), Some(1));
        assert_eq!(directory.holder("b"), None);
        assert_eq!(directory.holder("a"), Some(2));
        directory.remove(1);
        directory.check();
        assert_eq!(directory.holder("c"), None);
        assert_eq!(directory.len(), 1);
    }

    #[test]
    fn an_entry_of_a_sixteen_byte_key_takes_32_bytes() {
        assert!(size_of::<Entry<[u8; 16]>>() <= 32);
    }

    #[test]
    fn seconds_are_rounded_up_and_never_wrap() {
        assert_eq!(seconds(Duration::from_millis(1_001)), 2);
        assert_eq!(seconds(Duration::from_secs(2)), 2);
        assert_eq!(seconds(Duration::MAX), u32::MAX);
    }
}
