// SPDX-License-Identifier: Apache-2.0

//! What comes in is looked at here before it changes anything.

use std::time::Duration;

use crate::message::{MAX_PEERS, MAX_TTL, Message, Parting, Priority};
use crate::output::{DownReason, Link, Misbehaved, Offence};
use crate::{HyParView, Peer};

impl<P: Peer> HyParView<P> {
    /// A peer said something over that link.
    ///
    /// # Errors
    /// The peer broke the protocol; neither views nor books have changed.
    pub fn handle_message(
        &mut self,
        now: Duration,
        from: P,
        link: Link,
        msg: Message<P>,
    ) -> Result<(), Misbehaved<P>> {
        self.wake(now);
        if self.is_stale(from, link) {
            self.stats.stale += 1;
            return Ok(());
        }
        self.vet(now, from, &msg).map_err(|offence| Misbehaved {
            peer: from,
            offence,
        })?;
        if self.active.find(from).is_some_and(|n| n.link < link) {
            // the driver owes us the end of the older link
            self.drop_neighbor(now, from, DownReason::LinkClosed, None);
        }
        if self.left {
            self.answer_after_leave(from, &msg);
        } else {
            self.sampler.offer(from);
            self.on_message(now, from, link, msg);
        }
        self.after(now);
        Ok(())
    }

    fn is_stale(&self, from: P, link: Link) -> bool {
        #[cfg(feature = "mutants")]
        if self.breaks(crate::config::Mutant::OldLinks) {
            return false;
        }
        self.ended.contains(from, link) || self.active.find(from).is_some_and(|n| n.link > link)
    }

    fn vet(&mut self, now: Duration, from: P, msg: &Message<P>) -> Result<(), Offence> {
        if from == self.me {
            return Err(Offence::OwnId);
        }
        match msg {
            Message::NeighborReply { peers, .. }
            | Message::Shuffle { peers, .. }
            | Message::ShuffleReply { peers, .. }
                if peers.len() > MAX_PEERS =>
            {
                return Err(Offence::TooManyPeers);
            }
            Message::ForwardJoin { ttl, .. } | Message::Shuffle { ttl, .. } if *ttl > MAX_TTL => {
                return Err(Offence::LongWalk);
            }
            Message::SwitchAsk { old } if *old == from || *old == self.me => {
                return Err(Offence::Nonsense);
            }
            Message::SwitchReplace { initiator, old } if initiator == old => {
                return Err(Offence::Nonsense);
            }
            Message::SwitchLink { initiator } if *initiator == from => {
                return Err(Offence::Nonsense);
            }
            _ => {}
        }
        self.charge(now, from, msg)
    }

    /// Counts the message against what its sender may ask for.
    fn charge(&mut self, now: Duration, from: P, msg: &Message<P>) -> Result<(), Offence> {
        let Some(limit) = &self.config.rate_limit else {
            return Ok(());
        };
        let urgent = matches!(
            msg,
            Message::Join
                | Message::Neighbor {
                    priority: Priority::High,
                    ..
                }
        );
        if urgent && !self.urgent.try_take(now, from, limit.urgent) {
            return Err(Offence::UrgentFlood);
        }
        if !urgent && !self.ordinary.try_take(now, from, limit.ordinary) {
            return Err(Offence::Flood);
        }
        Ok(())
    }

    /// Whoever has us, or is about to, hears that we have gone.
    fn answer_after_leave(&mut self, from: P, msg: &Message<P>) {
        if !matches!(
            msg,
            Message::Disconnect { .. }
                | Message::NeighborReply {
                    accepted: false,
                    ..
                }
        ) {
            self.part(from, Parting::Leaving);
        }
    }

    fn on_message(&mut self, now: Duration, from: P, link: Link, msg: Message<P>) {
        match msg {
            Message::Join => self.on_join(now, from, link),
            Message::ForwardJoin { joiner, ttl } => self.on_forward_join(now, from, joiner, ttl),
            Message::Neighbor {
                priority,
                component,
            } => self.on_neighbor(now, from, link, priority, component),
            Message::NeighborReply {
                accepted: true,
                component,
                ..
            } => self.on_accepted(now, from, link, component),
            Message::NeighborReply { peers, .. } => self.on_refused(now, from, &peers),
            Message::Disconnect { parting } => self.on_disconnect(now, from, parting),
            Message::Shuffle {
                origin,
                ttl,
                peers,
                component,
            } => self.on_shuffle(now, from, origin, ttl, peers, component),
            Message::ShuffleReply { peers, component } => {
                self.on_shuffle_reply(now, from, &peers, component);
            }
            Message::Probe { .. } => self.on_probe(from),
            Message::ProbeReply { component } => self.on_probe_reply(now, from, component),
            Message::SwitchAsk { old } => self.on_switch_ask(now, from, link, old),
            Message::SwitchReplace { initiator, old } => {
                self.on_switch_replace(now, from, initiator, old);
            }
            Message::SwitchRefuse => self.on_switch_refuse(from),
            Message::SwitchLink { initiator } => self.on_switch_link(now, from, link, initiator),
        }
    }
}
