// SPDX-License-Identifier: Apache-2.0

//! How two replicas find out where they differ.
//!
//! Each log has a [`Summary`] and that a hash. The sum of all the hashes is the *root*;
//! sums by the first byte of the origin are the 256 *buckets*. Equal roots end a round
//! after 16 bytes. Otherwise the buckets, 2 KiB, tell which summaries are worth sending,
//! and the summaries tell which operations are [wanted](Want).

use std::fmt;

use crate::audit::AuditKey;
use crate::key::OriginKey;

/// What a replica has of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose log.
    pub origin: OriginKey,
    /// Of which life of it.
    pub inc: u64,
    /// All operations up to this one are applied.
    pub base: u64,
    /// The hash of the ranges applied beyond; zero if there are none.
    pub cloud: u64,
    /// The sum of the hashes of all live entries.
    pub audit: u128,
    /// It has heard of nothing beyond `base`, not even through a removal. Two settled
    /// copies with the same base have the same live entries, or one is damaged.
    pub settled: bool,
}

impl Summary {
    /// Its part in the root. A log without operations has none: who has never heard of
    /// it lacks nothing.
    pub fn hash(&self, key: &AuditKey) -> u128 {
        if self.base == 0 && self.cloud == 0 {
            return 0;
        }
        let halves = |n: u128| [n as u64, (n >> 64) as u64];
        let [o0, o1] = halves(u128::from_be_bytes(self.origin.0));
        let [a0, a1] = halves(self.audit);
        key.words([o0, o1, self.inc, self.base, self.cloud, a0, a1])
    }
}

/// How far somebody who catches up has heard what is live, where no log reaches back
/// far enough: all of `(0, upto]`, from replicas that knew all operations up to `as_of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sweep {
    /// The statement was heard up to this operation.
    pub upto: u64,
    /// All removals by operations up to this one are in it.
    pub as_of: u64,
}

/// What a replica asks of another: the rest of one log. It says all that the answer
/// depends on, so that who answers keeps nothing in mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Whose log.
    pub origin: OriginKey,
    /// Of which life of it.
    pub inc: u64,
    /// The asker has all operations up to this one.
    pub base: u64,
    /// And these ranges beyond, each from a first to a last operation.
    pub have: Vec<(u64, u64)>,
    /// How far it has heard what is live.
    pub sweep: Sweep,
    /// It has a damaged copy, and asks the origin itself for all live entries above this
    /// operation.
    pub repair: Option<u64>,
}

impl Want {
    /// All after an operation.
    pub fn after(origin: OriginKey, inc: u64, base: u64) -> Self {
        Self {
            origin,
            inc,
            base,
            have: Vec::new(),
            sweep: Sweep::default(),
            repair: None,
        }
    }
}

/// The sums over all summaries, kept up to date.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    root: u128,
    buckets: Box<[u64; 256]>,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            root: 0,
            buckets: Box::new([0; 256]),
        }
    }
}

impl Digest {
    /// A summary has come in, by its hash.
    pub fn add(&mut self, bucket: u8, hash: u128) {
        let sum = &mut self.buckets[usize::from(bucket)];
        *sum = sum.wrapping_add(hash as u64);
        self.root = self.root.wrapping_add(hash);
    }

    /// A summary has gone.
    pub fn take(&mut self, bucket: u8, hash: u128) {
        let sum = &mut self.buckets[usize::from(bucket)];
        *sum = sum.wrapping_sub(hash as u64);
        self.root = self.root.wrapping_sub(hash);
    }

    /// The sum of all.
    pub fn root(&self) -> u128 {
        self.root
    }

    /// The sums by the first byte of the origin, half as wide.
    pub fn buckets(&self) -> &[u64; 256] {
        &self.buckets
    }

    /// The buckets that are not the same as those of somebody else.
    pub fn different(&self, theirs: &[u64; 256]) -> impl Iterator<Item = u8> + use<> {
        let different =
            |&bucket: &u8| self.buckets[usize::from(bucket)] != theirs[usize::from(bucket)];
        (0..=u8::MAX)
            .filter(different)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:032x})", self.root)
    }
}
