//! Joins transmits, so that one system call carries more datagrams.
//!
//! quinn hands ten datagrams at most to a call, the kernel takes 64 at the same
//! price. Below 3275 bytes a datagram, so two transmits fit into one call, a full
//! transmit is held back until others have joined it. One that is not full says
//! that quinn has no more for now: it takes all before it along at once. So bulk
//! is joined, and whatever is small waits for nothing.

use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

use crate::socket::MAX_SEND;

/// Datagrams of a full transmit: `MAX_TRANSMIT_SEGMENTS` of quinn.
const FULL: usize = 10;

/// Datagrams that one call carries: `UDP_MAX_SEGMENTS` of Linux.
const MAX_SEGMENTS: usize = 64;

/// The transmits held back. Empty most of the time.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    contents: Vec<u8>,
    shape: Option<Shape>,
}

/// What transmits must have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    segment: usize,
}

impl Shape {
    fn of(transmit: &Transmit<'_>) -> Self {
        Self {
            destination: transmit.destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
            segment: transmit.segment_size.unwrap_or(transmit.contents.len()),
        }
    }

    /// Bytes of a full transmit.
    fn full(&self) -> usize {
        FULL * self.segment
    }

    /// Bytes of the longest burst.
    fn longest(&self) -> usize {
        (MAX_SEGMENTS * self.segment).min(MAX_SEND)
    }
}

/// What became of a transmit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// It waits for more.
    Held,
    /// It is the last of its burst, which is to be sent now.
    Complete,
    /// It joins nothing: what is held is to be sent first.
    Apart,
}

impl Burst {
    /// Takes a transmit in, if it can wait or fits what is waiting.
    pub(crate) fn join(&mut self, transmit: &Transmit<'_>) -> Joined {
        let shape = Shape::of(transmit);
        let len = transmit.contents.len();
        let after = self.contents.len() + len;
        let joins = match self.shape {
            Some(held) => {
                // Only the last datagram of a call may be shorter.
                let whole = self.contents.len().is_multiple_of(held.segment);
                let fits = Shape {
                    segment: held.segment,
                    ..shape
                } == held
                    && (shape.segment == held.segment || len < held.segment);
                whole && fits && after <= held.longest()
            }
            None => len == shape.full() && 2 * shape.full() <= shape.longest(),
        };
        if !joins {
            return Joined::Apart;
        }
        let shape = *self.shape.get_or_insert(shape);
        self.contents.extend_from_slice(transmit.contents);
        if len == shape.full() && after + shape.full() <= shape.longest() {
            Joined::Held
        } else {
            Joined::Complete
        }
    }

    /// What is held, as one transmit.
    pub(crate) fn transmit(&self) -> Option<Transmit<'_>> {
        let shape = self.shape?;
        Some(Transmit {
            destination: shape.destination,
            ecn: shape.ecn,
            contents: &self.contents,
            segment_size: Some(shape.segment),
            src_ip: shape.src_ip,
        })
    }

    /// It was sent.
    pub(crate) fn clear(&mut self) {
        self.contents.clear();
        self.shape = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

    fn transmit(contents: &[u8], segment: usize) -> Transmit<'_> {
        Transmit {
            destination: TO.into(),
            ecn: None,
            contents,
            segment_size: (contents.len() > segment).then_some(segment),
            src_ip: None,
        }
    }

    fn held(burst: &Burst) -> usize {
        burst
            .transmit()
            .map_or(0, |transmit| transmit.contents.len())
    }

    #[test]
    fn full_transmits_wait_until_no_other_fits() {
        let (mut burst, full) = (Burst::default(), vec![0; 14_520]);
        for n in 1..=3 {
            assert_eq!(burst.join(&transmit(&full, 1452)), Joined::Held);
            assert_eq!(held(&burst), n * full.len());
        }
        assert_eq!(burst.join(&transmit(&full, 1452)), Joined::Complete);
        assert_eq!(burst.join(&transmit(&full, 1452)), Joined::Apart);
        burst.clear();
        assert!(burst.transmit().is_none());
    }

    #[test]
    fn a_short_transmit_takes_the_others_along() {
        for len in [100, 1452, 5000] {
            let (mut burst, full) = (Burst::default(), vec![0; 14_520]);
            assert_eq!(burst.join(&transmit(&full, 1452)), Joined::Held);
            let last = vec![0; len];
            assert_eq!(burst.join(&transmit(&last, 1452)), Joined::Complete);
            let whole = burst.transmit().unwrap();
            assert_eq!(whole.contents.len(), full.len() + len);
            assert_eq!(whole.segment_size, Some(1452));
        }
    }

    #[test]
    fn a_short_datagram_is_the_last_one() {
        let (mut burst, full) = (Burst::default(), vec![0; 14_520]);
        burst.join(&transmit(&full, 1452));
        burst.join(&transmit(&full[..100], 1452));
        assert_eq!(burst.join(&transmit(&full[..1452], 1452)), Joined::Apart);
    }

    #[test]
    fn what_differs_stays_apart() {
        let (mut burst, full) = (Burst::default(), vec![0; 14_520]);
        burst.join(&transmit(&full, 1452));
        let same = transmit(&full, 1452);
        let others = [
            Transmit {
                destination: ([127, 0, 0, 2], 9).into(),
                ..transmit(&full, 1452)
            },
            Transmit {
                ecn: Some(EcnCodepoint::Ect0),
                ..transmit(&full, 1452)
            },
            Transmit {
                src_ip: Some([127, 0, 0, 3].into()),
                ..transmit(&full, 1452)
            },
            transmit(&full[..12_000], 1200),
            transmit(&full[..2000], 2000),
        ];
        for other in others {
            assert_eq!(burst.join(&other), Joined::Apart);
        }
        assert_eq!(burst.join(&same), Joined::Held);
    }

    #[test]
    fn nothing_small_and_nothing_large_is_held() {
        let bytes = vec![0; 89_000];
        for (len, segment) in [(40, 1452), (1452, 1452), (9 * 1452, 1452), (62_300, 8900)] {
            let mut burst = Burst::default();
            let transmit = transmit(&bytes[..len], segment);
            assert_eq!(burst.join(&transmit), Joined::Apart);
            assert!(burst.transmit().is_none());
        }
    }

    #[test]
    fn a_burst_has_no_more_datagrams_than_the_kernel_takes() {
        let (mut burst, full) = (Burst::default(), vec![0; 5000]);
        let mut joined = 1;
        while burst.join(&transmit(&full, 500)) == Joined::Held {
            joined += 1;
        }
        assert_eq!(joined * FULL, 60);
    }
}
