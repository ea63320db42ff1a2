// SPDX-License-Identifier: Apache-2.0

//! What do we all agree on: replicated state as pure data.
//!
//! Every node of a cluster holds a copy of two kinds of tables: the *registry*, in which
//! each node writes only what is its own (which service runs here), and *maps*, in which
//! everybody writes everything. No node is in charge, messages are lost, doubled and out
//! of order, nodes come and go; and still all copies shall become the same, soon, and
//! with little traffic. Nothing here sends or waits: bytes, timers and links are the
//! caller's, and so everything can be tested by exhausting random schedules.
//!
//! # Logs of origins
//!
//! Each writer, the *origin*, numbers its operations: 1, 2, 3. An operation adds an
//! entry, or removes one, or replaces one. The number is the *dot* of the entry that it
//! adds. A replica remembers which operations it has applied, almost always "all up to
//! 4711", and the entries that are still live. That is enough (this is the idea of the
//! optimized OR-set of Bieniusa et al. 2012, of delta-state CRDTs, Almeida et al. 2018,
//! and of server-wide clocks, Goncalves et al. 2015):
//!
//! - an entry that I have and you lack, while your copy has applied its dot, was removed:
//!   *no tombstones*. Removals take a number too, so that a lost one leaves a gap;
//! - to compare two copies of a log is to compare two numbers, and what one lacks is
//!   exactly known;
//! - what has been seen, and need not be broadcast again, is told by the same number.
//!
//! # Safety rules
//!
//! Each of them was broken by some system before, and can be broken here on purpose, with
//! the feature `mutants`, to see the tests fail.
//!
//! 1. **A delta stands by itself.** Who claims the operations from 5 to 9 carries every
//!    live entry *and every removal* of them. A delta that is cut in two claims less.
//! 2. **Removals come before coverage.** An entry that is removed before it was seen is
//!    *dead*; its operation is not thereby applied, for it may itself have removed others.
//! 3. **A statement of what is live speaks of the holes too.** What it does not name, and
//!    has not arrived yet, is dead as well, or it would come to life when it arrives.
//! 4. **A new life begins with nothing.** A node that starts has a higher *incarnation*.
//!    Deltas of a lower one are void, those of a higher one end the log before. A node that
//!    hears of its own incarnation what it has not said, takes a higher one.
//! 5. **Only deltas extend what is applied**, never a digest that somebody sends.
//! 6. **Who is unreachable is hidden, not deleted.** That is a local filter; when he is
//!    back nothing has to be sent.
//!
//! Rules 4 and 6 are those of the registry, where an entry lives with its writer. In a map
//! a value belongs to the map; see [`map`].
//!
//! # How a copy becomes complete
//!
//! A write makes a [`Delta`], which is broadcast. What is lost on the way is found by
//! comparison, now and then, with one peer at a time: equal [roots](Registry::root) end it
//! after 16 bytes; if not, 256 [buckets](Registry::buckets) tell which
//! [summaries](Registry::summaries) to compare, from these follow
//! [wants](Registry::wants), and the [answers](Registry::answer) come in chunks of at most
//! 64 KiB. Whoever answers keeps nothing in mind; whoever asks, asks again from where it is
//! now. Each log also has an [audit hash](audit) over its live entries. Copies that claim
//! the same and differ in it are damaged; they are counted, and made good by the origin.
//!
//! ```
//! use barrel_ormap::{Change, Config, Hlc, OriginKey, Registry};
//!
//! let (a, b) = (OriginKey::from(1), OriginKey::from(2));
//! let mut alice = Registry::new(a, 1, Config::default());
//! let mut bob = Registry::new(b, 1, Config::default());
//! alice.insert(b"printer", b"pid", Hlc::ZERO)?;
//!
//! // By broadcast ...
//! let delta = alice.poll_delta().expect("one write");
//! assert!(bob.apply(a, &delta)?.new);
//! assert!(matches!(bob.poll_change(), Some(Change::Added { .. })));
//!
//! // ... or, where that was lost, by comparison.
//! alice.remove(b"printer");
//! let lost = alice.poll_delta();
//! for bucket in bob.digest().different(&alice.buckets()) {
//!     for want in bob.wants(a, &alice.summaries(bucket)) {
//!         for delta in alice.answer(&want, 64 * 1024) {
//!             bob.apply(a, &delta)?;
//!         }
//!     }
//! }
//! assert!(matches!(bob.poll_change(), Some(Change::Removed { .. })));
//! assert_eq!(alice.root(), bob.root());
//! # Ok::<(), barrel_ormap::Refused>(())
//! ```

#![forbid(unsafe_code)]

pub mod audit;
mod chunk;
pub mod delta;
pub mod digest;
pub mod hlc;
pub mod key;
mod live;
mod log;
pub mod map;
mod origin;
pub mod pair;
pub mod ranges;
pub mod registry;
mod slots;

pub use audit::AuditKey;
pub use delta::{Add, Delta, LiveSet, Malformed, Removal, Removes};
pub use digest::{Digest, Summary, Sweep, Want};
pub use hlc::{Clock, Hlc, Now};
pub use key::OriginKey;
pub use map::{LwwMap, MapDelta};
pub use pair::Pair;
pub use ranges::{Coverage, RangeSet, TooManyRanges};
pub use registry::{Applied, Budget, Change, Config, Limits, Refused, Registry, Snapshot, Stats};
