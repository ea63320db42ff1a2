// SPDX-License-Identifier: Apache-2.0

//! What must hold between two verbs.

use crate::config::{ACTIVE_SIZE, MAX_VIEW};
use crate::request::{MAX_REQUESTS, Purpose};
use crate::switch::Role;
use crate::{HyParView, Peer};

impl<P: Peer> HyParView<P> {
    /// The invariants; debug builds test them after each verb.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        self.check_views()?;
        self.check_requests()?;
        self.passive.check()?;
        self.lost.check()?;
        self.seekers.check()?;
        self.forced.check()?;
        self.urgent.check()?;
        self.relayed.check()?;
        self.ordinary.check()
    }

    fn check_views(&self) -> Result<(), &'static str> {
        let most = match self.config.active_size {
            Some(size) => size.clamp(1, MAX_VIEW),
            // it shrinks one by one
            None => ACTIVE_SIZE.max(self.config.small_cluster_size.saturating_sub(1)),
        };
        if self.active.len() > most {
            return Err("there are more neighbours than allowed");
        }
        if self.active.contains(self.me) || self.passive.contains(self.me) {
            return Err("a node knows itself");
        }
        if self.active.peers().any(|peer| self.passive.contains(peer)) {
            return Err("a neighbour is in the address book");
        }
        if self.active.peers().any(|peer| self.lost.contains(peer)) {
            return Err("a neighbour is lost");
        }
        if self.left && (!self.active.is_empty() || self.passive.len() > 0) {
            return Err("a node that has left knows somebody");
        }
        Ok(())
    }

    fn check_requests(&self) -> Result<(), &'static str> {
        if self.requests.iter().count() > MAX_REQUESTS {
            return Err("there are more requests than allowed");
        }
        let asked = |peer: P| self.requests.contains(peer);
        if self.active.peers().any(asked) {
            return Err("a neighbour is asked to be one");
        }
        if self
            .active
            .peers()
            .any(|peer| self.probing.contains_key(&peer))
        {
            return Err("a neighbour is probed");
        }
        let asked_for = |peer: P, purpose: Purpose| {
            self.requests
                .find(peer)
                .is_some_and(|request| request.purpose == purpose)
        };
        match self.role {
            Some(Role::Asked { candidate, .. }) if !asked_for(candidate, Purpose::Ask) => {
                Err("an exchange waits for nobody")
            }
            Some(Role::Replacing { old, .. }) if !asked_for(old, Purpose::Link) => {
                Err("a replacement waits for nobody")
            }
            Some(Role::Candidate { other, .. }) if !self.active.contains(other) => {
                Err("a candidate waits for a stranger")
            }
            _ => Ok(()),
        }
    }
}
