// SPDX-License-Identifier: Apache-2.0

//! The messages that were announced and have not come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Hole<P> {
    /// When it was announced first.
    pub(crate) since: Duration,
    /// Who announced it and was not asked yet, with the round; the first first.
    pub(crate) announcers: VecDeque<(P, u16)>,
    /// Who was asked last, and may still answer.
    pub(crate) asked: Option<P>,
    /// How many were asked in vain.
    pub(crate) failed: u32,
    /// When something must be done.
    due: Duration,
}

impl<P> Hole<P> {
    /// How much later than its first announcement the message comes, if it comes by itself.
    pub(crate) fn late(&self, now: Duration) -> Option<Duration> {
        let undisturbed = self.asked.is_none() && self.failed == 0;
        undisturbed.then(|| now.saturating_sub(self.since))
    }
}

/// What one neighbour has to do with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    announced: usize,
    asked: usize,
}

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is noted, or was.
    Yes,
    /// The neighbour has announced too many.
    TooMany,
}

#[derive(Clone, Debug)]
pub(crate) struct Missing<P, I> {
    holes: BTreeMap<I, Hole<P>>,
    /// All of them, by time.
    due: BTreeSet<(Duration, I)>,
    /// Those of which it is not zero.
    shares: BTreeMap<P, Share>,
}

impl<P: Copy + Ord, I: Clone + Ord> Missing<P, I> {
    pub(crate) fn new() -> Self {
        Self {
            holes: BTreeMap::new(),
            due: BTreeSet::new(),
            shares: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.holes.len()
    }

    pub(crate) fn hole(&self, id: &I) -> Option<&Hole<P>> {
        self.holes.get(id)
    }

    /// When the next is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next that is due by now.
    pub(crate) fn first_due(&self, now: Duration) -> Option<I> {
        let (due, id) = self.due.first()?;
        (*due <= now).then(|| id.clone())
    }

    /// A neighbour announces one. `limit` bounds what it may have announced. A new hole is due
    /// at `due`.
    pub(crate) fn announce(
        &mut self,
        now: Duration,
        (peer, round): (P, u16),
        id: I,
        due: Duration,
        limit: usize,
    ) -> Noted {
        if let Some(hole) = self.holes.get(&id)
            && (hole.asked == Some(peer) || hole.announcers.iter().any(|(p, _)| *p == peer))
        {
            return Noted::Yes;
        }
        let share = self.shares.get(&peer).copied().unwrap_or_default();
        if share.announced + share.asked >= limit {
            return Noted::TooMany;
        }
        self.shares.entry(peer).or_default().announced += 1;
        let due_set = &mut self.due;
        let hole = self.holes.entry(id).or_insert_with_key(|id| {
            due_set.insert((due, id.clone()));
            Hole {
                since: now,
                announcers: VecDeque::new(),
                asked: None,
                failed: 0,
                due,
            }
        });
        hole.announcers.push_back((peer, round));
        Noted::Yes
    }

    /// How many are asked of a neighbour now.
    pub(crate) fn asked_of(&self, peer: P) -> usize {
        self.shares.get(&peer).map_or(0, |share| share.asked)
    }

    /// The first who announced it is being asked, until then.
    pub(crate) fn ask(&mut self, id: &I, until: Duration) -> Option<(P, u16)> {
        self.give_up(id);
        let (peer, round) = self.holes.get_mut(id)?.announcers.pop_front()?;
        let share = self.shares.entry(peer).or_default();
        share.announced -= 1;
        share.asked += 1;
        if let Some(hole) = self.holes.get_mut(id) {
            hole.asked = Some(peer);
        }
        self.postpone(id, until);
        Some((peer, round))
    }

    /// Who was asked does not answer.
    pub(crate) fn give_up(&mut self, id: &I) -> Option<P> {
        let hole = self.holes.get_mut(id)?;
        let peer = hole.asked.take()?;
        hole.failed += 1;
        self.shed(peer, |share| share.asked -= 1);
        Some(peer)
    }

    /// It is due later.
    pub(crate) fn postpone(&mut self, id: &I, until: Duration) {
        if let Some(hole) = self.holes.get_mut(id) {
            self.due.remove(&(hole.due, id.clone()));
            hole.due = until;
            self.due.insert((until, id.clone()));
        }
    }

    /// It is missing no more.
    pub(crate) fn fill(&mut self, id: &I) -> Option<Hole<P>> {
        let hole = self.holes.remove(id)?;
        self.due.remove(&(hole.due, id.clone()));
        for &(peer, _) in &hole.announcers {
            self.shed(peer, |share| share.announced -= 1);
        }
        if let Some(peer) = hole.asked {
            self.shed(peer, |share| share.asked -= 1);
        }
        Some(hole)
    }

    /// A neighbour went away: what it announced is not asked of it, and what was asked
    /// of it is due now.
    pub(crate) fn forget_peer(&mut self, now: Duration, peer: P) {
        if self.shares.remove(&peer).is_none() {
            return;
        }
        for (id, hole) in &mut self.holes {
            hole.announcers.retain(|(p, _)| *p != peer);
            if hole.asked == Some(peer) {
                hole.asked = None;
                hole.failed += 1;
                self.due.remove(&(hole.due, id.clone()));
                hole.due = now;
                self.due.insert((now, id.clone()));
            }
        }
    }

    fn shed(&mut self, peer: P, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.shares.get_mut(&peer) {
            change(share);
            if *share == Share::default() {
                self.shares.remove(&peer);
            }
        }
    }

    /// What is wrong, if anything: the index by time and the counts per neighbour must be those of
    /// the holes, and nobody has more than `limit`.
    pub(crate) fn check(&self, limit: usize) -> Result<(), String> {
        let mut shares = BTreeMap::<P, Share>::new();
        for (id, hole) in &self.holes {
            if !self.due.contains(&(hole.due, id.clone())) {
                return Err("a hole is not in the index by time".into());
            }
            for (peer, _) in &hole.announcers {
                shares.entry(*peer).or_default().announced += 1;
            }
            if let Some(peer) = hole.asked {
                shares.entry(peer).or_default().asked += 1;
            }
        }
        if self.due.len() != self.holes.len() {
            return Err("the index by time has entries without a hole".into());
        }
        if shares != self.shares {
            return Err("the counts per neighbour are wrong".into());
        }
        if self.shares.values().any(|s| s.announced + s.asked > limit) {
            return Err("a neighbour has announced too many".into());
        }
        Ok(())
    }

    /// The neighbours that have to do with any.
    pub(crate) fn peers(&self) -> impl Iterator<Item = P> {
        self.shares.keys().copied()
    }

    /// All ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &I> {
        self.holes.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn announced(by: &[char]) -> Missing<char, u8> {
        let mut missing = Missing::new();
        for (n, &peer) in by.iter().enumerate() {
            let noted = missing.announce(ms(n as u64), (peer, n as u16), 7, ms(100), 10);
            assert_eq!(noted, Noted::Yes);
            assert_eq!(missing.check(10), Ok(()));
        }
        missing
    }

    #[test]
    fn announcers_are_asked_in_turn_and_each_once() {
        let mut missing = announced(&['a', 'b', 'a']);
        assert_eq!(missing.first_due(ms(99)), None);
        assert_eq!(missing.first_due(ms(100)), Some(7));
        assert_eq!(missing.ask(&7, ms(200)), Some(('a', 0)));
        assert_eq!(missing.first_due(ms(199)), None);
        assert_eq!(missing.ask(&7, ms(300)), Some(('b', 1)));
        assert_eq!((missing.asked_of('a'), missing.asked_of('b')), (0, 1));
        assert_eq!(missing.ask(&7, ms(400)), None);
        assert_eq!(missing.fill(&7).map(|hole| hole.failed), Some(2));
        assert_eq!(missing.check(10), Ok(()));
    }

    #[test]
    fn one_neighbour_announces_no_more_than_it_may() {
        let mut missing = announced(&['a', 'b']);
        for id in 8..20 {
            let noted = missing.announce(ms(0), ('a', 0), id, ms(1), 5);
            assert_eq!(noted == Noted::Yes, id < 12);
        }
        assert_eq!(missing.len(), 5);
        assert_eq!(missing.check(5), Ok(()));
    }

    #[test]
    fn what_was_asked_of_a_neighbour_that_goes_is_due_at_once() {
        let mut missing = announced(&['a', 'b']);
        missing.ask(&7, ms(1000));
        missing.forget_peer(ms(150), 'a');
        assert_eq!(missing.first_due(ms(150)), Some(7));
        assert_eq!(missing.ask(&7, ms(300)), Some(('b', 1)));
        missing.forget_peer(ms(160), 'b');
        assert_eq!(missing.check(10), Ok(()));
        assert_eq!(missing.peers().count(), 0);
        assert!(missing.hole(&7).is_some());
    }
}
