// SPDX-License-Identifier: Apache-2.0

//! What a broadcast or a chunk changes here.

use barrel_members::{Card, Heard};
use barrel_ormap::delta::{Delta, MAX_CHUNK};
use barrel_plumtree::Verdict;
use bytes::Bytes;

use crate::event::{Event, Misdeed};
use crate::keys::Standing;
use crate::node::Node;
use crate::pump::claim_id;
use crate::record::Record;
use crate::stores::{Piece, Refused};
use crate::topic::{MessageId, Topic};
use crate::wire;
use crate::{NodeId, Now};

impl Node {
    /// Takes in what the tree brought, and says whether to spread it.
    pub(crate) fn deliver(&mut self, now: Now, from: NodeId, id: MessageId, body: Bytes) -> Verdict {
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
            // of a store that is not kept here: passed on, not looked into
            _ if body.len() > MAX_CHUNK => Verdict::Rejected,
            _ if self.stores.cache.insert(now.mono, id, body) => Verdict::New,
            _ => Verdict::Duplicate,
        }
    }

    fn deliver_claim(&mut self, now: Now, from: NodeId, id: &MessageId, body: Bytes) -> Verdict {
        let Some(claim) = wire::decode_claim(body).ok().filter(|claim| claim_id(claim) == *id) else {
            self.accuse(now, from, Misdeed::Malformed);
            return Verdict::Rejected;
        };
        match self.members.handle_claim(now.mono, from, claim) {
            Heard::New => Verdict::New,
            Heard::Known => Verdict::Duplicate,
            Heard::Unwanted => Verdict::Unwanted,
            Heard::Refused => Verdict::Rejected,
        }
    }

    fn deliver_piece(&mut self, now: Now, from: NodeId, id: &MessageId, body: Bytes) -> Verdict {
        let named = |piece: &Piece| {
            let delta = piece.delta();
            delta.origin == id.origin
                && delta.inc == id.incarnation
                && delta.to == id.seq
                && delta.to - delta.from == u64::from(id.span)
        };
        let Some(piece) = wire::decode_piece(id.topic, body).ok().filter(named) else {
            self.accuse(now, from, Misdeed::Malformed);
            return Verdict::Rejected;
        };
        match self.take(now, from, id.topic, piece) {
            Ok(true) => {
                if self.stores.has_holes() {
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
    pub(crate) fn take(&mut self, now: Now, from: NodeId, topic: Topic, piece: Piece) -> Result<bool, Refused> {
        let delta = piece.delta();
        if topic == Topic::DIRECTORY {
            if !self.are_genuine(delta) {
                return Err(Refused::Forged);
            }
        } else if !self.stores.believes(topic, delta.origin, delta.inc) {
            return Err(Refused::NotNow);
        }
        self.stores.apply(now, &mut self.clock, from, topic, piece)
    }

    /// Whether all records of a delta are signed by the node whose log it is, for the
    /// life it is of.
    fn are_genuine(&self, delta: &Delta) -> bool {
        delta.adds.iter().all(|add| {
            let bytes = add.pair.value();
            let known = self.stores.has_record(delta.origin, bytes);
            let genuine = |record: Record| {
                let claims = record.claims();
                record.id() == delta.origin
                    && claims.incarnation == delta.inc
                    && claims.name.as_bytes() == add.pair.key()
            };
            known || Record::verify(Bytes::copy_from_slice(bytes), &*self.keys).is_ok_and(genuine)
        })
    }

    /// The directory has a record it did not have.
    pub(crate) fn on_record(&mut self, now: Now, bytes: &[u8]) {
        let Some((claims, _)) = wire::decode_record(&Bytes::copy_from_slice(bytes)) else { return };
        let card = Card {
            name: claims.name.clone(),
            incarnation: claims.incarnation,
            seq: claims.seq,
            ttl: claims.ttl,
            pinned: self.keys.standing(&claims.name, &claims.key) == Standing::Placed,
        };
        // a refusal is told by the members' own events, where somebody has to know
        let _ = self.members.handle_record(now.mono, self.keys.id(&claims.key), card);
        self.overlay.handle_cluster_size(now.mono, self.members.up());
    }

    pub(crate) fn name_of(&self, member: NodeId) -> std::sync::Arc<str> {
        self.members.card(member).map(|card| card.name.clone()).unwrap_or_default()
    }
}
