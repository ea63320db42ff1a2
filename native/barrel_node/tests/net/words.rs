// SPDX-License-Identifier: Apache-2.0

//! Frames written by hand, from the drawings of the format and not with its code: what
//! no honest node says cannot be said with that.

use barrel_node::{NodeId, PublicKey};

use super::{id_of, toy_signature};

pub const DIRECTORY: u64 = 0;
pub const CLAIMS: u64 = 1;
pub const REGISTRY: u64 = 2;
pub const BROADCAST: u64 = 3;

/// Statuses of a claim.
pub const SUSPECT: u8 = 1;
pub const UNREACHABLE: u8 = 2;
pub const LEFT: u8 = 3;

/// Bytes being put together.
#[derive(Clone, Default)]
pub struct Words(pub Vec<u8>);

impl Words {
    pub fn kind(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    pub fn u16(self, n: u16) -> Self {
        self.raw(&n.to_be_bytes())
    }

    pub fn u64(self, n: u64) -> Self {
        self.raw(&n.to_be_bytes())
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn id(self, id: NodeId) -> Self {
        self.raw(&id.0)
    }

    pub fn n(mut self, mut n: u64) -> Self {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.u8(n as u8)
    }

    pub fn blob(self, bytes: &[u8]) -> Self {
        self.n(bytes.len() as u64).raw(bytes)
    }

    pub fn each<T>(self, items: &[T], item: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self.n(items.len() as u64), item)
    }

    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// A record, and what could be wrong with it.
#[derive(Clone)]
pub struct Record {
    pub key: PublicKey,
    pub signed_by: PublicKey,
    pub name: String,
    pub incarnation: u64,
    pub seq: u64,
}

impl Record {
    pub fn of(key: PublicKey, name: &str) -> Self {
        Self {
            key,
            signed_by: key,
            name: name.to_owned(),
            incarnation: 1,
            seq: 1,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let body = Words::default()
            .raw(&self.key)
            .n(self.incarnation)
            .n(self.seq)
            .n(3600);
        let body = body
            .u16(1)
            .u16(1)
            .blob(self.name.as_bytes())
            .n(1)
            .blob(b"10.9.8.7:6543")
            .done();
        let signed = [b"barrel_p2p node record 1\0", &body[..]].concat();
        [&body[..], &toy_signature(&self.signed_by, &signed)].concat()
    }

    pub fn id(&self) -> NodeId {
        id_of(&self.key)
    }
}

pub fn greeting(record: &[u8]) -> Vec<u8> {
    Words::kind(1)
        .raw(b"bp2p")
        .u16(1)
        .u16(1)
        .u64(0)
        .blob(record)
        .done()
}

pub fn join(records: &[Vec<u8>]) -> Vec<u8> {
    Words::kind(16)
        .each(records, |out, record| out.blob(record))
        .done()
}

pub fn neighbor_high() -> Vec<u8> {
    Words::kind(18).u8(1).u8(0).n(0).done()
}

pub fn shuffle(origin: NodeId, ttl: u8, peers: &[NodeId], records: &[Vec<u8>]) -> Vec<u8> {
    let out = Words::kind(21)
        .id(origin)
        .u8(ttl)
        .each(peers, |out, id| out.id(*id))
        .u8(0);
    out.each(records, |out, record| out.blob(record)).done()
}

/// The name of a broadcast.
#[derive(Clone, Copy)]
pub struct Name {
    pub topic: u64,
    pub origin: NodeId,
    pub incarnation: u64,
    pub seq: u64,
    pub span: u64,
}

impl Name {
    fn on(self, out: Words) -> Words {
        out.n(self.topic)
            .id(self.origin)
            .n(self.incarnation)
            .n(self.seq)
            .n(self.span)
    }
}

pub fn gossip(name: Name, body: &[u8]) -> Vec<u8> {
    name.on(Words::kind(32)).n(0).raw(body).done()
}

pub fn ihave(names: &[Name]) -> Vec<u8> {
    Words::kind(33)
        .each(names, |out, name| name.on(out).n(1))
        .done()
}

pub fn graft(name: Name) -> Vec<u8> {
    name.on(Words::kind(34).u8(1)).n(1).done()
}

/// From now on all, whole.
pub fn graft_link() -> Vec<u8> {
    Words::kind(34).u8(0).n(0).done()
}

/// About a member.
#[derive(Clone, Copy)]
pub struct Claim {
    pub member: NodeId,
    pub incarnation: u64,
    pub beat: u64,
    pub status: u8,
}

impl Claim {
    fn on(self, out: Words) -> Words {
        out.id(self.member)
            .n(self.incarnation)
            .n(self.beat)
            .u8(self.status)
    }

    /// As a broadcast.
    pub fn gossip(self) -> Vec<u8> {
        let seq = self.beat << 2 | u64::from(self.status);
        let (origin, incarnation) = (self.member, self.incarnation);
        let name = Name {
            topic: CLAIMS,
            origin,
            incarnation,
            seq,
            span: 0,
        };
        gossip(name, &self.on(Words::default()).done())
    }
}

pub fn claims(claims: &[Claim]) -> Vec<u8> {
    Words::kind(71)
        .n(CLAIMS)
        .u8(1)
        .each(claims, |out, claim| claim.on(out))
        .done()
}

/// A piece of a log with a list of removals.
#[derive(Clone)]
pub struct Delta {
    pub origin: NodeId,
    pub inc: u64,
    pub from: u64,
    pub to: u64,
    /// Operation, stamp, key, value.
    pub adds: Vec<(u64, u64, Vec<u8>, Vec<u8>)>,
    pub removes: Vec<(u64, u64)>,
    /// In place of removals: of the operations up to this one only those above are live.
    pub nothing_until: Option<u64>,
}

impl Delta {
    pub fn of(origin: NodeId, inc: u64, from: u64, to: u64) -> Self {
        Self {
            origin,
            inc,
            from,
            to,
            adds: Vec::new(),
            removes: Vec::new(),
            nothing_until: None,
        }
    }

    pub fn add(mut self, seq: u64, hlc: u64, key: &[u8], value: &[u8]) -> Self {
        self.adds.push((seq, hlc, key.to_vec(), value.to_vec()));
        self
    }

    pub fn body(&self) -> Vec<u8> {
        let out = Words::default()
            .id(self.origin)
            .n(self.inc)
            .n(self.from)
            .n(self.to - self.from)
            .n(self.to.max(self.nothing_until.unwrap_or(0)));
        let mut before = 0;
        let mut out = out.n(self.adds.len() as u64);
        for (seq, hlc, key, value) in &self.adds {
            out = out.n(seq - before).u64(*hlc).u8(0).blob(key).blob(value);
            before = *seq;
        }
        match self.nothing_until {
            None => out
                .u8(0)
                .each(&self.removes, |out, (by, seq)| out.n(*by).n(*seq)),
            Some(until) => out.u8(1).n(0).n(until).n(until).u8(0).n(0),
        }
        .done()
    }

    pub fn gossip(&self, topic: u64) -> Vec<u8> {
        let (origin, incarnation) = (self.origin, self.inc);
        let name = Name {
            topic,
            origin,
            incarnation,
            seq: self.to,
            span: self.to - self.from,
        };
        gossip(name, &self.body())
    }

    pub fn chunk(&self, topic: u64) -> Vec<u8> {
        Words::kind(69).n(topic).raw(&self.body()).done()
    }
}

/// A chunk with one entry that says to be by another writer.
pub fn ghostwritten(origin: NodeId, writer: NodeId, hlc: u64) -> Vec<u8> {
    let body = Words::default().id(origin).n(1).n(0).n(1).n(1).n(1);
    let body = body
        .n(1)
        .u64(hlc)
        .u8(1)
        .id(writer)
        .blob(b"k")
        .blob(b"v")
        .u8(0)
        .n(0)
        .done();
    gossip(
        Name {
            topic: REGISTRY,
            origin,
            incarnation: 1,
            seq: 1,
            span: 1,
        },
        &body,
    )
}

pub fn root(topic: u64) -> Vec<u8> {
    Words::kind(64).n(topic).raw(&[0xa5; 16]).done()
}

/// Summaries of these logs, all with that incarnation and so many operations.
pub fn summaries(topic: u64, logs: &[NodeId], inc: u64, base: u64, ask: &[u8]) -> Vec<u8> {
    let out = Words::kind(67).n(topic).u8(0).u8(1).blob(ask);
    out.each(logs, |out, log| {
        out.id(*log).n(inc).n(base).u64(7).raw(&[3; 16]).u8(1)
    })
    .done()
}

/// Wants of these logs from the beginning, each with so many ranges that are there.
pub fn wants(topic: u64, logs: &[NodeId], ranges: u64) -> Vec<u8> {
    let have: Vec<u64> = (0..ranges).map(|at| 2 + 2 * at).collect();
    let out = Words::kind(68).n(topic);
    out.each(logs, |out, log| {
        out.id(*log)
            .n(1)
            .n(0)
            .each(&have, |out, at| out.n(*at).n(*at))
            .n(0)
            .n(0)
            .u8(0)
    })
    .done()
}
