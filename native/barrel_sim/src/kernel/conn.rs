//! The links of a world.

use std::collections::VecDeque;

use super::linklog::Life;
use super::machine::{Link, Machine};
use super::time::Time;

/// Links at one time, at most: the bits of a link number that name its place.
const PLACE_BITS: u32 = 24;

/// Which link. A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnRef {
    place: u32,
    serial: u64,
}

impl ConnRef {
    /// The number that machines know. It rises with the serial number.
    pub(crate) fn link(self) -> Link {
        Link(self.serial << PLACE_BITS | u64::from(self.place))
    }

    pub(crate) fn of(link: Link) -> Self {
        Self {
            place: (link.0 & ((1 << PLACE_BITS) - 1)) as u32,
            serial: link.0 >> PLACE_BITS,
        }
    }
}

/// What an end knows of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The dial is under way.
    Opening,
    Up,
    Down,
}

/// One end and the direction in which it sends.
#[derive(Clone, Debug)]
pub(crate) struct End<M: Machine> {
    pub(crate) who: Life,
    pub(crate) phase: Phase,
    /// Nothing that it sends may arrive before: what it sent earlier arrives then.
    pub(crate) not_before: Time,
    /// Since when nothing that it sends arrives.
    pub(crate) blocked: Option<Time>,
    /// What it sent since.
    pub(crate) held: VecDeque<M::Message>,
}

impl<M: Machine> End<M> {
    fn new(who: Life) -> Self {
        Self {
            who,
            phase: Phase::Opening,
            not_before: Time::ZERO,
            blocked: None,
            held: VecDeque::new(),
        }
    }
}

/// The end that dialled.
pub(crate) const DIALLER: usize = 0;
/// The other end.
pub(crate) const ACCEPTOR: usize = 1;

#[derive(Clone, Debug)]
pub(crate) struct Conn<M: Machine> {
    pub(crate) contact: M::Contact,
    pub(crate) started: Time,
    /// One way, in nanoseconds.
    pub(crate) latency: u64,
    pub(crate) ends: [End<M>; 2],
}

impl<M: Machine> Conn<M> {
    pub(crate) fn new(
        contact: M::Contact,
        started: Time,
        latency: u64,
        dialler: Life,
        acceptor: Life,
    ) -> Self {
        Self {
            contact,
            started,
            latency,
            ends: [End::new(dialler), End::new(acceptor)],
        }
    }

    /// Which end this node is at.
    pub(crate) fn end_of(&self, node: u32) -> usize {
        usize::from(self.ends[DIALLER].who.node != node)
    }
}

/// A slab of links.
#[derive(Clone, Debug)]
pub(crate) struct Conns<M: Machine> {
    places: Vec<Option<(u64, Conn<M>)>>,
    free: Vec<u32>,
    serial: u64,
}

impl<M: Machine> Conns<M> {
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            serial: 0,
        }
    }

    pub(crate) fn insert(&mut self, conn: Conn<M>) -> ConnRef {
        self.serial += 1;
        let serial = self.serial;
        let place = self.free.pop().unwrap_or_else(|| {
            assert!(
                self.places.len() < 1 << PLACE_BITS,
                "too many links at one time"
            );
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        self.places[place as usize] = Some((serial, conn));
        ConnRef { place, serial }
    }

    pub(crate) fn find(&self, which: ConnRef) -> Option<&Conn<M>> {
        match self.places.get(which.place as usize) {
            Some(Some((serial, conn))) if *serial == which.serial => Some(conn),
            _ => None,
        }
    }

    pub(crate) fn find_mut(&mut self, which: ConnRef) -> Option<&mut Conn<M>> {
        match self.places.get_mut(which.place as usize) {
            Some(Some((serial, conn))) if *serial == which.serial => Some(conn),
            _ => None,
        }
    }

    /// Forgets a link that neither end knows any more.
    pub(crate) fn sweep(&mut self, which: ConnRef) {
        let is_over = |conn: &Conn<M>| conn.ends.iter().all(|end| end.phase == Phase::Down);
        if self.find(which).is_some_and(is_over) {
            self.places[which.place as usize] = None;
            self.free.push(which.place);
        }
    }

    /// All of them, in order of their places.
    pub(crate) fn refs(&self) -> Vec<ConnRef> {
        let places = self.places.iter().zip(0..);
        places
            .filter_map(|(held, place)| {
                held.as_ref().map(|(serial, _)| ConnRef {
                    place,
                    serial: *serial,
                })
            })
            .collect()
    }
}
