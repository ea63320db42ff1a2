// SPDX-License-Identifier: Apache-2.0

//! The logs of all origins.

use std::sync::Arc;

use crate::key::OriginKey;
use crate::origin::Slot;

/// All logs, by origin. The 256 parts are those of the digest, and are shared between
/// copies until one is written to: in a simulation ten thousand nodes hold one directory
/// of ten thousand members. A part is a sorted vector, because it takes 40 bytes for a log
/// without entries, where a tree takes up to twice that; to insert into one that
/// somebody has filled with 16,384 chosen keys still takes only microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    buckets: Box<[Arc<Vec<Slot>>]>,
    len: usize,
}

impl Slots {
    pub(crate) fn new() -> Self {
        let empty = Arc::new(Vec::new());
        Self {
            buckets: vec![empty; 256].into(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn slot(&self, origin: OriginKey) -> Option<&Slot> {
        let bucket = self.bucket(origin.bucket());
        let at = position(bucket, origin).ok()?;
        Some(&bucket[at])
    }

    /// The slot, to be written to: copied first where others share it.
    pub(crate) fn slot_mut(&mut self, origin: OriginKey) -> Option<&mut Slot> {
        let bucket = &mut self.buckets[usize::from(origin.bucket())];
        let at = position(bucket, origin).ok()?;
        Some(&mut Arc::make_mut(bucket)[at])
    }

    /// Puts a slot in; what was there for that origin is given back.
    pub(crate) fn insert(&mut self, slot: Slot) -> Option<Slot> {
        let bucket = &mut self.buckets[usize::from(slot.origin.bucket())];
        match position(bucket, slot.origin) {
            Ok(at) => Some(std::mem::replace(&mut Arc::make_mut(bucket)[at], slot)),
            Err(at) => {
                let bucket = Arc::make_mut(bucket);
                // A little more, and not twice as much: parts are many and small.
                if bucket.len() == bucket.capacity() {
                    bucket.reserve_exact(1 + bucket.len() / 64);
                }
                bucket.insert(at, slot);
                self.len += 1;
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, origin: OriginKey) -> Option<Slot> {
        let bucket = &mut self.buckets[usize::from(origin.bucket())];
        let at = position(bucket, origin).ok()?;
        self.len -= 1;
        Some(Arc::make_mut(bucket).remove(at))
    }

    pub(crate) fn bucket(&self, bucket: u8) -> &[Slot] {
        &self.buckets[usize::from(bucket)]
    }

    /// All slots, by ascending origin.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }
}

fn position(bucket: &[Slot], origin: OriginKey) -> Result<usize, usize> {
    bucket.binary_search_by(|slot| slot.origin.cmp(&origin))
}
