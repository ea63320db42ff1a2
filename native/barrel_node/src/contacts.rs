// SPDX-License-Identifier: Apache-2.0

//! Addresses that an operator gave, asked again for as long as the node is alone.

use std::time::Duration;

use bytes::Bytes;

/// The longest time between two attempts: a cluster that comes up is found within it.
const LONGEST: Duration = Duration::from_secs(60);

/// The most addresses. More than anybody writes down.
const MAX_CONTACTS: usize = 64;

/// The addresses and when each is dialled next.
#[derive(Clone, Debug)]
pub(crate) struct Contacts {
    first_wait: Duration,
    known: Vec<Seed>,
}

#[derive(Clone, Debug)]
struct Seed {
    address: Bytes,
    dialling: bool,
    wait: Duration,
    again_at: Duration,
}

impl Contacts {
    pub(crate) fn new(first_wait: Duration) -> Self {
        Self {
            first_wait,
            known: Vec::new(),
        }
    }

    /// Notes an address; whether to dial it now.
    pub(crate) fn add(&mut self, now: Duration, address: Bytes) -> bool {
        if let Some(seed) = self.known.iter_mut().find(|seed| seed.address == address) {
            return !std::mem::replace(&mut seed.dialling, true);
        }
        if self.known.len() >= MAX_CONTACTS {
            self.known.remove(0);
        }
        self.known.push(Seed {
            address,
            dialling: true,
            wait: self.first_wait,
            again_at: now,
        });
        true
    }

    /// Somebody answered there, and is asked to take us in. That takes a round trip and
    /// more, in which we are still alone and do not ask again.
    pub(crate) fn on_up(&mut self, now: Duration, address: &Bytes) {
        let first_wait = self.first_wait;
        if let Some(seed) = self.find(address) {
            seed.dialling = false;
            seed.wait = first_wait;
            seed.again_at = now + first_wait;
        }
    }

    /// Nobody did.
    pub(crate) fn on_failed(&mut self, now: Duration, address: &Bytes) {
        if let Some(seed) = self.find(address) {
            seed.dialling = false;
            seed.again_at = now + seed.wait;
            seed.wait = (seed.wait * 2).min(LONGEST);
        }
    }

    /// The addresses to dial now, for a node that is alone.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Bytes> {
        let due = self
            .known
            .iter_mut()
            .filter(|seed| !seed.dialling && seed.again_at <= now);
        due.map(|seed| {
            seed.dialling = true;
            seed.address.clone()
        })
        .collect()
    }

    /// When [`Contacts::due`] has something to say next.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        self.known
            .iter()
            .filter(|seed| !seed.dialling)
            .map(|seed| seed.again_at)
            .min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    fn find(&mut self, address: &Bytes) -> Option<&mut Seed> {
        self.known.iter_mut().find(|seed| seed.address == *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_seed_that_answered_has_time_to_take_us_in() {
        let mut contacts = Contacts::new(WAIT);
        let seed = Bytes::from_static(b"host:1");
        assert!(contacts.add(at(1), seed.clone()));
        contacts.on_up(at(2), &seed);
        assert_eq!(contacts.due_at(), Some(at(7)));
        assert!(contacts.due(at(6)).is_empty());
        assert_eq!(contacts.due(at(7)), [seed]);
        assert!(contacts.due(at(8)).is_empty(), "it is being dialled");
    }

    #[test]
    fn a_seed_that_does_not_answer_is_asked_less_and_less_often() {
        let mut contacts = Contacts::new(WAIT);
        let seed = Bytes::from_static(b"host:1");
        assert!(contacts.add(at(0), seed.clone()));
        let mut now = at(0);
        for wait in [5, 10, 20, 40, 60, 60] {
            contacts.on_failed(now, &seed);
            assert_eq!(contacts.due_at(), Some(now + at(wait)));
            now += at(wait);
            assert_eq!(contacts.due(now).len(), 1);
        }
    }
}
