//! Signatures of all nodes of a world.
//!
//! A thousand nodes see each record a thousand times. Whether its signature is good depends on the record alone,
//! so it is verified once, and the others are told what was found. How often they asked is counted: a real node
//! pays for each of these.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use barrel_node::{Keys, NodeId, PublicKey, Signature, Standing};

use crate::adapter::{key, short, signature};
use crate::kernel::{LogHash, NodeNo};

/// What was asked of the notary of a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Records that were signed.
    pub signed: u64,
    /// Signatures that nodes wanted verified.
    pub asked: u64,
    /// Those that were: each once.
    pub verified: u64,
    /// Those that were forged.
    pub forged: u64,
}

/// Knows which signatures are good.
#[derive(Debug, Default)]
pub struct Notary {
    // guards the book and its counts; a node asks in the middle of its own work, and nothing waits under it
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    good: BTreeSet<u128>,
    checks: Checks,
}

impl Notary {
    /// What was asked so far.
    pub fn checks(&self) -> Checks {
        self.with(|book| book.checks)
    }

    /// The keys of one node.
    #[must_use]
    pub fn keys(self: &Arc<Self>, node: NodeNo) -> Arc<dyn Keys> {
        Arc::new(Member {
            own: key(node),
            notary: self.clone(),
        })
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Book) -> T) -> T {
        ask(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One node at the notary's.
struct Member {
    own: PublicKey,
    notary: Arc<Notary>,
}

impl Keys for Member {
    fn sign(&self, bytes: &[u8]) -> Signature {
        self.notary.with(|book| book.checks.signed += 1);
        signature(&self.own, bytes)
    }

    fn verify(&self, key: &PublicKey, bytes: &[u8], given: &Signature) -> bool {
        let mut hash = LogHash::default();
        [&key[..], bytes, &given[..]]
            .iter()
            .for_each(|part| hash.bytes(part));
        self.notary.with(|book| {
            book.checks.asked += 1;
            if book.good.contains(&hash.value()) {
                return true;
            }
            book.checks.verified += 1;
            let is_good = signature(key, bytes) == *given;
            if is_good {
                book.good.insert(hash.value());
            } else {
                book.checks.forged += 1;
            }
            is_good
        })
    }

    fn id(&self, key: &PublicKey) -> NodeId {
        short(key)
    }

    fn standing(&self, _name: &str, _key: &PublicKey) -> Standing {
        Standing::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_verified_once_however_often_it_is_shown() {
        let notary = Arc::new(Notary::default());
        let (one, other) = (notary.keys(1), notary.keys(2));
        let good = one.sign(b"text");
        for _ in 0..5 {
            assert!(other.verify(&key(1), b"text", &good));
        }
        let checks = notary.checks();
        assert_eq!((checks.signed, checks.asked, checks.verified), (1, 5, 1));
    }

    #[test]
    fn what_is_forged_stays_forged() {
        let notary = Arc::new(Notary::default());
        let (one, other) = (notary.keys(1), notary.keys(2));
        let good = one.sign(b"text");
        assert!(!other.verify(&key(1), b"test", &good));
        assert!(!other.verify(&key(3), b"text", &good));
        assert!(!other.verify(&key(3), b"text", &good));
        assert_eq!(notary.checks().forged, 3);
    }
}
