//! What will happen, in a stable order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::time::Time;

/// A queue of things that are due: earliest first, and among those of one moment in the order in
/// which they were put in.
///
/// The heap orders small keys only; the things themselves wait in a slab, so that
/// sifting moves 24 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T> {
    due: BinaryHeap<Reverse<(Time, u64, u32)>>,
    things: Vec<Option<T>>,
    free: Vec<u32>,
    serial: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            due: BinaryHeap::new(),
            things: Vec::new(),
            free: Vec::new(),
            serial: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Time, thing: T) {
        let place = match self.free.pop() {
            Some(place) => {
                self.things[place as usize] = Some(thing);
                place
            }
            None => {
                self.things.push(Some(thing));
                (self.things.len() - 1) as u32
            }
        };
        self.due.push(Reverse((at, self.serial, place)));
        self.serial += 1;
    }

    /// When the next thing is due.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, T)> {
        let Reverse((at, _, place)) = self.due.pop()?;
        self.free.push(place);
        self.things[place as usize].take().map(|thing| (at, thing))
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_of_one_moment_keep_their_order() {
        let mut queue = Queue::new();
        for thing in 0..100u64 {
            queue.push(Time(thing % 3), thing);
        }
        let mut order = Vec::new();
        while let Some((at, thing)) = queue.pop() {
            order.push((at.0, thing));
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(order, sorted);
        assert_eq!(order.len(), 100);
    }

    #[test]
    fn places_are_used_again() {
        let mut queue = Queue::new();
        for round in 0..1000 {
            queue.push(Time(round), round);
            assert_eq!(queue.pop(), Some((Time(round), round)));
        }
        assert_eq!(queue.things.len(), 1);
        assert_eq!(queue.len(), 0);
    }
}
