// SPDX-License-Identifier: Apache-2.0

//! What a broadcast or a chunk changes here.

use barrel_members::{Card, Claim, Heard, MAX_BEAT};
use barrel_ormap::delta::{Add, Delta, MAX_CHUNK};
use barrel_plumtree::Verdict;
use bytes::Bytes;

use crate::event::{Event, Misdeed};
use crate::keys::Standing;
use crate::node::Node;
use crate::pump::claim_id;
use crate::record::{BadRecord, Record};
use crate::stores::{Piece, Refused};
use crate::topic::{MessageId, Topic};
use crate::wire;
use crate::{NodeId, Now};

/// A peer may tell so many times the share of one, before it is blamed: it passes on what
/// its own neighbours tell it. More neighbours than that are not usual. A guess.
const PASSED_ON: u32 = 8;

impl Node {
    /// Takes in what the tree brought, and says whether to spread it.
    pub(crate) fn deliver(
        &mut self,
        now: Now,
        from: NodeId,
        id: MessageId,
        body: Bytes,
    ) -> Verdict {
        match id.topic {
            Topic::CLAIMS if self.config.directory => self.deliver_claim(now, from, &id, body),
            Topic::BROADCAST => {
                if !self.stores.cache.insert(now.mono, id, body.clone()) {
                    return Verdict::Duplicate;
                }
                self.tell(Event::Broadcast { id, body });
                Verdict::New
            }
            topic if self.stores.is_kept(topic) => self.deliver_piece(now, from, &id, body),
            topic if topic.is_map() => self.relay_piece(now, from, id, body),
            // of a newer version: passed on, not looked into
            _ if body.len() > MAX_CHUNK => Verdict::Rejected,
            _ if self.stores.cache.insert(now.mono, id, body) => Verdict::New,
            _ => Verdict::Duplicate,
        }
    }

    /// A piece of a map that is not kept here is passed on. Its form is looked at all the
    /// same: who keeps the map would blame us for what we have passed on.
    fn relay_piece(&mut self, now: Now, from: NodeId, id: MessageId, body: Bytes) -> Verdict {
        if read_piece(&id, body.clone()).is_none() {
            self.accuse(now, from, Misdeed::Malformed);
            return Verdict::Rejected;
        }
        match self.stores.cache.insert(now.mono, id, body) {
            true => Verdict::New,
            false => Verdict::Duplicate,
        }
    }

    fn deliver_claim(&mut self, now: Now, from: NodeId, id: &MessageId, body: Bytes) -> Verdict {
        let named = |claim: &Claim<NodeId>| claim_id(claim) == *id && claim.beat <= MAX_BEAT;
        let Some(claim) = wire::decode_claim(body).ok().filter(named) else {
            self.accuse(now, from, Misdeed::Malformed);
            return Verdict::Rejected;
        };
        match self.members.handle_claim(now.mono, from, claim) {
            Heard::New => Verdict::New,
            Heard::Known => Verdict::Duplicate,
            Heard::Unwanted => Verdict::Unwanted,
            Heard::Refused => {
                self.on_refused_claim(now, from);
                Verdict::Rejected
            }
        }
    }

    /// A peer has told more claims than its share. One that only passes on what others
    /// told it may do so: each of its neighbours can fill that share. It does not tell
    /// more than all of them could.
    pub(crate) fn on_refused_claim(&mut self, now: Now, from: NodeId) {
        let rate = self
            .config
            .members
            .claims_per_second
            .saturating_mul(PASSED_ON);
        if self
            .links
            .up_mut(from)
            .is_some_and(|up| !up.claims.admit(now.mono, rate))
        {
            self.accuse(now, from, Misdeed::Claims);
        }
    }

    fn deliver_piece(&mut self, now: Now, from: NodeId, id: &MessageId, body: Bytes) -> Verdict {
        let Some(piece) = read_piece(id, body) else {
            self.accuse(now, from, Misdeed::Malformed);
            return Verdict::Rejected;
        };
        match self.take(now, from, id.topic, piece) {
            Ok(true) => {
                if self.stores.has_hole(id.topic, id.origin) {
                    self.mend_later(now);
                }
                Verdict::New
            }
            Ok(false) => Verdict::Duplicate,
            Err(Refused::NotNow) => {
                // what announces its life, or fills the gap before it, may come next
                self.mend_later(now);
                Verdict::Unwanted
            }
            Err(Refused::Forged) => {
                self.accuse(now, from, Misdeed::Forged);
                Verdict::Rejected
            }
            Err(Refused::Store) => {
                self.accuse(now, from, Misdeed::Store);
                Verdict::Rejected
            }
        }
    }

    /// Applies a piece of a log; whether it said anything new. A directory's records are
    /// verified before anything is stored or spread, and the other logs are believed to be
    /// of lives that a record speaks of.
    pub(crate) fn take(
        &mut self,
        now: Now,
        from: NodeId,
        topic: Topic,
        piece: Piece,
    ) -> Result<bool, Refused> {
        let delta = piece.delta();
        if topic == Topic::DIRECTORY {
            self.vouch(delta)?;
            if !self.has_place(now, from, delta) {
                return Err(Refused::NotNow);
            }
            if delta.origin == self.id() && delta.inc > self.members.incarnation() {
                // signed with our own key
                self.members.handle_clash(now.mono, delta.inc);
            }
        } else if !self.stores.believes(topic, delta.origin, delta.inc) {
            return Err(Refused::NotNow);
        }
        let first_hand = from == delta.origin;
        let ahead = |add: &Add| !self.clock.accepts(now.wall_ms, add.hlc);
        if first_hand && delta.adds.iter().any(ahead) {
            self.tell_wrong_clock(from);
        }
        self.stores.apply(now, &mut self.clock, from, topic, piece)
    }

    /// Whose clock is wrong is named once for each link, and not held against it.
    fn tell_wrong_clock(&mut self, peer: NodeId) {
        let told = self
            .links
            .up_mut(peer)
            .map(|up| std::mem::replace(&mut up.clock_told, true));
        if told == Some(false) {
            self.tell(Event::Misbehaved {
                peer,
                what: Misdeed::Clock,
            });
        }
    }

    /// Whether a delta of the directory says no more than the records in it, which are
    /// signed by the node whose log it is, for the life it is of.
    ///
    /// A log of the directory has one entry, the newest record, and it was written by the
    /// last operation. So a delta that claims operations brings the record of the last of
    /// them, and a number in the record says how many there can be. What brings no record
    /// proves nothing: it may be true, as an answer that came too late, and is let lie.
    fn vouch(&self, delta: &Delta) -> Result<(), Refused> {
        for add in &delta.adds {
            self.vouch_for(delta, add)?;
        }
        let proven = delta.adds.last().map_or(0, |add| add.seq);
        if proven == 0 || delta.from < delta.to && delta.to != proven {
            return Err(Refused::NotNow);
        }
        Ok(())
    }

    fn vouch_for(&self, delta: &Delta, add: &Add) -> Result<(), Refused> {
        let bytes = Bytes::copy_from_slice(add.pair.value());
        let (claims, _) = wire::decode_record(&bytes).ok_or(Refused::Forged)?;
        let fits = self.keys.id(&claims.key) == delta.origin
            && claims.incarnation == delta.inc
            && claims.name.as_bytes() == add.pair.key()
            && add.seq <= claims.seq.saturating_add(1);
        if !fits {
            return Err(Refused::Forged);
        }
        if self.stores.has_record(delta.origin, &bytes) {
            return Ok(());
        }
        match Record::verify(bytes, &*self.keys) {
            Ok(_) => Ok(()),
            // by our operator: others need not know that
            Err(BadRecord::Untrusted) => Err(Refused::NotNow),
            Err(BadRecord::Forged | BadRecord::Malformed) => Err(Refused::Forged),
        }
    }

    /// The directory has a record it did not have.
    pub(crate) fn on_record(&mut self, now: Now, bytes: &[u8]) {
        let Some((claims, _)) = wire::decode_record(&Bytes::copy_from_slice(bytes)) else {
            return;
        };
        let card = Card {
            name: claims.name.clone(),
            incarnation: claims.incarnation,
            seq: claims.seq,
            ttl: claims.ttl,
            pinned: self.keys.standing(&claims.name, &claims.key) == Standing::Placed,
        };
        let (id, incarnation) = (self.keys.id(&claims.key), card.incarnation);
        // a refusal is told by the members' own events, where somebody has to know
        if self.members.handle_record(now.mono, id, card).is_ok() {
            self.newcomers.add(now.mono, id);
            self.stores.begin(id, incarnation);
        }
        self.overlay
            .handle_cluster_size(now.mono, self.members.up());
    }

    pub(crate) fn name_of(&self, member: NodeId) -> std::sync::Arc<str> {
        self.members
            .card(member)
            .map(|card| card.name.clone())
            .unwrap_or_default()
    }
}

/// The piece that a broadcast of this name brings.
fn read_piece(id: &MessageId, body: Bytes) -> Option<Piece> {
    let piece = wire::decode_piece(id.topic, body).ok()?;
    let delta = piece.delta();
    let named = delta.origin == id.origin
        && delta.inc == id.incarnation
        && delta.to == id.seq
        && delta.to - delta.from == u64::from(id.span);
    named.then_some(piece)
}
