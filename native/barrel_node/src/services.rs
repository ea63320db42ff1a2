// SPDX-License-Identifier: Apache-2.0

//! What applications write.

use barrel_ormap::{Refused, Registry};

use crate::Now;
use crate::maps::RESERVED;
use crate::node::Node;
use crate::pump::piece_id;
use crate::stores::WriteError;
use crate::wire;

impl Node {
    /// Registers a service of this node, or changes its value. The change shows as an
    /// event at once and goes out with the next [`Node::commit`].
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn register(&mut self, now: Now, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let stamp = self.clock.now(now.wall_ms);
        if key.first() == Some(&RESERVED) {
            return Err(WriteError::Reserved);
        }
        self.stores
            .registry
            .insert(key, value, stamp)
            .map_err(|refused| match refused {
                Refused::TooLong => WriteError::TooLarge,
                _ => WriteError::Full,
            })?;
        self.pump(now);
        Ok(())
    }

    /// Takes a service of this node back; whether it was registered.
    pub fn unregister(&mut self, now: Now, key: &[u8]) -> bool {
        let was = key.first() != Some(&RESERVED) && self.stores.registry.remove(key);
        self.pump(now);
        was
    }

    /// Sends out what was written since the last time. Many writes in one turn of the
    /// driver make few messages; [`Node::poll_timeout`] says at once when there is
    /// something to commit, and [`Node::handle_timeout`] does it too.
    pub fn commit(&mut self, now: Now) {
        while let Some((topic, piece)) = self.stores.poll_delta() {
            if let Some(id) = piece_id(topic, &piece) {
                self.tree
                    .broadcast(now.mono, id, wire::encode_piece(&piece));
            }
        }
        self.pump(now);
    }

    /// The registry, with what is hidden and what is not a service's.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.stores.registry
    }

    /// The directory, unless it is switched off.
    #[must_use]
    pub fn directory(&self) -> Option<&Registry> {
        self.stores.directory.as_ref()
    }
}
