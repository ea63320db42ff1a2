// SPDX-License-Identifier: Apache-2.0

//! What waits to be sent on one link.
//!
//! Three classes, the first always before the second, the second before the third.
//! Nothing grows: what does not fit is dropped where the protocols can do without it
//! (a repair is asked for again, a payload is fetched by the next comparison), and
//! said where they cannot.

use std::collections::VecDeque;

use bytes::Bytes;

/// How urgent a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Views, the tree, liveness: small, and nothing works without it.
    Control,
    /// Anti-entropy: asked for, and asked for again when it does not come.
    Repair,
    /// Broadcast bodies: what is lost here is found by anti-entropy.
    Payload,
}

/// The most bytes that wait in each class of one link: a peer that takes nothing costs
/// at most their sum. Control is small and a peer that leaves 256 KiB of it unread is
/// dead; a repair answer is at most 256 KiB and two may cross; payload holds four of
/// the largest broadcasts (1 MiB each). Guesses, all of them.
const LIMITS: [usize; 3] = [256 << 10, 1 << 20, 4 << 20];

/// What a link that nobody reads holds at most.
pub(crate) const QUEUE_BYTES: usize = LIMITS[0] + LIMITS[1] + LIMITS[2];

/// A frame costs this much besides its bytes, so that a million empty ones are not free.
const FRAME_OVERHEAD: usize = 48;

/// The queue of one link.
#[derive(Clone, Debug, Default)]
pub(crate) struct SendQueue {
    waiting: [VecDeque<Bytes>; 3],
    bytes: [usize; 3],
}

/// There is no room for a frame of this class.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl SendQueue {
    /// Adds a frame at the end of its class.
    pub(crate) fn push(&mut self, class: Class, frame: Bytes) -> Result<(), Full> {
        let at = class as usize;
        let cost = frame.len() + FRAME_OVERHEAD;
        if self.bytes[at] + cost > LIMITS[at] {
            return Err(Full);
        }
        self.bytes[at] += cost;
        self.waiting[at].push_back(frame);
        Ok(())
    }

    /// The next frame to send, of this class or a more urgent one.
    pub(crate) fn pop(&mut self, at_most: Class) -> Option<Bytes> {
        let urgent = &self.waiting[..=at_most as usize];
        let at = urgent.iter().position(|frames| !frames.is_empty())?;
        let frame = self.waiting[at].pop_front()?;
        self.bytes[at] -= frame.len() + FRAME_OVERHEAD;
        Some(frame)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Bytes that wait, of all classes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_goes_before_repair_and_repair_before_payload() {
        let mut queue = SendQueue::default();
        for (class, text) in [
            (Class::Payload, "p1"),
            (Class::Repair, "r1"),
            (Class::Control, "c1"),
            (Class::Payload, "p2"),
            (Class::Control, "c2"),
        ] {
            queue
                .push(class, Bytes::from_static(text.as_bytes()))
                .unwrap();
        }
        let sent: Vec<Bytes> = std::iter::from_fn(|| queue.pop(Class::Payload)).collect();
        assert_eq!(sent, ["c1", "c2", "r1", "p1", "p2"]);
        assert!(queue.is_empty());
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_is_less_urgent_can_be_left_waiting() {
        let mut queue = SendQueue::default();
        queue
            .push(Class::Payload, Bytes::from_static(b"p"))
            .unwrap();
        assert_eq!(queue.pop(Class::Repair), None);
        assert_eq!(queue.pop(Class::Payload).unwrap(), "p");
    }

    #[test]
    fn a_full_class_refuses_and_leaves_the_others_alone() {
        let mut queue = SendQueue::default();
        let half = Bytes::from(vec![0; LIMITS[2] / 2]);
        queue.push(Class::Payload, half.clone()).unwrap();
        assert_eq!(queue.push(Class::Payload, half.clone()), Err(Full));
        queue
            .push(Class::Control, Bytes::from_static(b"still"))
            .unwrap();
        assert_eq!(queue.pop(Class::Payload).unwrap(), "still");
        assert_eq!(queue.pop(Class::Payload).unwrap(), half);
        queue.push(Class::Payload, half).unwrap();
    }

    #[test]
    fn empty_frames_are_not_free() {
        let mut queue = SendQueue::default();
        let taken = (0..1_000_000)
            .take_while(|_| queue.push(Class::Control, Bytes::new()).is_ok())
            .count();
        assert_eq!(taken, LIMITS[0] / FRAME_OVERHEAD);
    }
}
