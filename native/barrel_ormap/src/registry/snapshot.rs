// SPDX-License-Identifier: Apache-2.0

//! What outlasts the process.

use super::{Config, Registry};
use crate::delta::Delta;
use crate::digest::Want;
use crate::key::OriginKey;

/// The contents of a registry, in the form in which they travel. Between two snapshots
/// it is enough to keep the deltas that were applied since, and to apply them again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All logs.
    pub deltas: Vec<Delta>,
    /// Who has departed, in which incarnation, and whether it said so itself.
    pub departed: Vec<(OriginKey, u64, bool)>,
}

impl Registry {
    /// The contents. What is hidden is in it; that it is hidden is not.
    pub fn snapshot(&self) -> Snapshot {
        let everything = |slot: &crate::origin::Slot| {
            let want = Want::after(slot.origin, slot.inc, 0);
            slot.answer(&want, usize::MAX)
        };
        Snapshot {
            deltas: self.slots.iter().flat_map(everything).collect(),
            departed: self.departed.iter().collect(),
        }
    }

    /// A registry with those contents. Those of `me` are left out: they were of an earlier
    /// life. So is what exceeds the budgets; it is counted, and comes back by comparison
    /// with others. The reader is told of all entries.
    pub fn restore(me: OriginKey, inc: u64, config: Config, snapshot: &Snapshot) -> Self {
        let mut registry = Self::new(me, inc, config);
        let limit = registry.config.limits.max_departed;
        for &(origin, inc, left) in &snapshot.departed {
            if origin != me {
                registry.departed.insert(origin, inc, left, limit);
            }
        }
        for delta in snapshot.deltas.iter().filter(|delta| delta.origin != me) {
            // What is refused is counted.
            let _ = registry.apply(me, delta);
        }
        registry
    }
}
