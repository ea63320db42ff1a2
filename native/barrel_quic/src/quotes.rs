//! What was sent lately, to tell an ICMP report about it from one made up.
//!
//! An ICMP error quotes the datagram that it is about: at least the UDP header
//! (RFC 792), on Linux all that fits into 576 bytes (RFC 1812 section 4.3.2.3). The
//! ports can be guessed, the encrypted bytes behind them cannot: whoever quotes
//! them has seen the datagram.

use parking_lot::Mutex;

/// Bytes compared: of a QUIC packet the connection id and several of cipher text.
pub(crate) const QUOTE: usize = 24;

/// Datagrams remembered: those of some milliseconds at full speed. What comes back
/// later goes unrecognised, and another will come back.
const REMEMBERED: usize = 1024;

/// The beginnings of the latest datagrams.
pub(crate) struct Quotes {
    /// Guards a ring: the next one replaces the oldest.
    ring: Mutex<(Vec<[u8; QUOTE]>, usize)>,
}

impl Quotes {
    pub(crate) fn new() -> Self {
        Self {
            ring: Mutex::new((Vec::with_capacity(REMEMBERED), 0)),
        }
    }

    /// Remembers datagrams sent with one call, each of `segment` bytes but the last.
    pub(crate) fn sent(&self, contents: &[u8], segment: Option<usize>) {
        let mut guard = self.ring.lock();
        let (ring, next) = &mut *guard;
        for datagram in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
            // QUIC sends nothing shorter that has an answer.
            let Some(quote) = datagram.first_chunk() else {
                continue;
            };
            if ring.len() < REMEMBERED {
                ring.push(*quote);
            } else {
                ring[*next] = *quote;
            }
            *next = (*next + 1) % REMEMBERED;
        }
    }

    /// Whether a datagram that begins so was sent lately.
    pub(crate) fn knows(&self, quote: &[u8; QUOTE]) -> bool {
        self.ring.lock().0.contains(quote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(n: usize) -> Vec<u8> {
        let mut bytes = vec![7; 100];
        bytes[10..18].copy_from_slice(&n.to_be_bytes());
        bytes
    }

    fn knows(quotes: &Quotes, n: usize) -> bool {
        quotes.knows(datagram(n).first_chunk().unwrap())
    }

    #[test]
    fn each_datagram_of_a_send_is_known() {
        let quotes = Quotes::new();
        let mut contents: Vec<u8> = (0..10).flat_map(datagram).collect();
        contents.truncate(950);
        quotes.sent(&contents, Some(100));
        quotes.sent(&datagram(10), None);
        assert!((0..=10).all(|n| knows(&quotes, n)));
        assert!(!knows(&quotes, 11));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let quotes = Quotes::new();
        for n in 0..REMEMBERED + 3 {
            quotes.sent(&datagram(n), None);
        }
        assert!((0..3).all(|n| !knows(&quotes, n)));
        assert!((3..REMEMBERED + 3).all(|n| knows(&quotes, n)));
    }

    #[test]
    fn what_is_too_short_is_not_known() {
        let quotes = Quotes::new();
        quotes.sent(&[0; QUOTE - 1], None);
        quotes.sent(&[], None);
        assert!(!quotes.knows(&[0; QUOTE]));
    }
}
