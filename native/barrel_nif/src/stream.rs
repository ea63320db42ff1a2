//! One distribution channel: the functions `dist_*`.

use std::sync::Arc;
use std::time::Duration;

use barrel_quic::channel::{Bell, Channel, Limits, Sent};
use barrel_quic::frame::{COPY_BELOW, Outbox};
use barrel_quic::name::NodeName;
use barrel_quic::seam::{OpenRequest, Peer, StreamEnd};
use parking_lot::Mutex;
use rustler::{
    Atom, Binary, Encoder, Env, Error, ListIterator, LocalPid, Monitor, NewBinary, NifResult,
    Resource, ResourceArc, Term,
};

use crate::endpoint::{DIST_TAG, NodeHandle};
use crate::raw;
use crate::signal::{self, atoms, build};

/// Packets handed up by one call: keeps it well under a millisecond.
const PACKETS_PER_CALL: usize = 1024;

/// Handle of a dist stream.
pub(crate) struct StreamHandle {
    channel: Arc<Channel<DistBell>>,
}

/// Tells the owner processes of one stream.
pub(crate) struct DistBell {
    /// Guards who is told, and the handle that the messages carry.
    owners: Mutex<Owners>,
}

struct Owners {
    input: LocalPid,
    output: LocalPid,
    /// The handle keeps itself alive while the stream is open; owners that die
    /// close it, so it does not stay for ever.
    handle: Option<ResourceArc<StreamHandle>>,
    peer: Option<Peer>,
}

impl Bell for DistBell {
    fn readable(&self) {
        self.tell(|owners| owners.input, atoms::readable());
    }

    fn writable(&self) {
        self.tell(|owners| owners.output, atoms::writable());
    }

    fn closed(&self, end: &StreamEnd) {
        self.tell_last(build(|env| closed(env, end)));
    }
}

fn closed<'a>(env: Env<'a>, end: &StreamEnd) -> Term<'a> {
    (atoms::closed(), signal::stream_end(env, end)).encode(env)
}

impl DistBell {
    fn tell(&self, who: impl Fn(&Owners) -> LocalPid, what: impl Encoder) {
        let (to, handle) = {
            let owners = self.owners.lock();
            (who(&owners), owners.handle.clone())
        };
        if let Some(handle) = handle {
            signal::send(&to, handle, what);
        }
    }

    /// Tells the output owner, and lets the handle go: nothing comes after.
    fn tell_last(&self, what: impl Encoder) {
        let (to, handle) = {
            let mut owners = self.owners.lock();
            (owners.output, owners.handle.take())
        };
        if let Some(handle) = handle {
            signal::send(&to, handle, what);
        }
    }
}

#[rustler::resource_impl]
impl Resource for StreamHandle {
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        let owned = {
            let owners = self.channel.bell().owners.lock();
            owners.input == pid || owners.output == pid
        };
        if owned {
            self.channel.close();
        }
    }
}

impl StreamHandle {
    /// A stream without its QUIC stream yet, owned both ways by `owner`.
    /// `None` when that process is dead.
    pub(crate) fn create(
        env: Option<Env<'_>>,
        owner: LocalPid,
        limits: Limits,
    ) -> Option<(ResourceArc<Self>, Arc<Channel<DistBell>>)> {
        let owners = Owners {
            input: owner,
            output: owner,
            handle: None,
            peer: None,
        };
        let channel = Arc::new(Channel::new(
            DistBell {
                owners: Mutex::new(owners),
            },
            limits,
        ));
        let handle = ResourceArc::new(Self {
            channel: Arc::clone(&channel),
        });
        handle.monitor(env, &owner)?;
        channel.bell().owners.lock().handle = Some(handle.clone());
        Some((handle, channel))
    }

    /// The peer is known.
    pub(crate) fn meet(channel: &Channel<DistBell>, peer: &Peer) {
        channel.bell().owners.lock().peer = Some(peer.clone());
    }
}

#[rustler::nif]
fn dist_open<'a>(
    env: Env<'a>,
    node: ResourceArc<NodeHandle>,
    name: Binary<'a>,
    opts: Term<'a>,
) -> NifResult<Term<'a>> {
    let name = NodeName::parse(name.as_slice()).map_err(|_| Error::BadArg)?;
    let addresses: Vec<Term<'a>> = opts.map_get(atoms::addresses())?.decode()?;
    let addresses = addresses
        .into_iter()
        .map(|address| {
            let (ip, port): (Term<'a>, u16) = address.decode()?;
            Ok((signal::parse_ip(ip)?, port).into())
        })
        .collect::<NifResult<Vec<_>>>()?;
    let secret: Binary<'a> = opts.map_get(atoms::secret())?.decode()?;
    let timeout: u64 = opts.map_get(atoms::timeout_ms())?.decode()?;
    let Some(endpoint) = node.endpoint() else {
        return Ok((atoms::error(), atoms::closed()).encode(env));
    };
    let Some((handle, channel)) = StreamHandle::create(Some(env), env.pid(), node.limits()) else {
        return Ok((atoms::error(), atoms::closed()).encode(env));
    };
    let request = OpenRequest {
        name,
        addresses,
        secret: secret.as_slice().to_vec(),
        tag: DIST_TAG,
        timeout: Duration::from_millis(timeout),
        events: Arc::clone(&channel) as _,
    };
    let failing = Arc::clone(&channel);
    endpoint.open(
        request,
        move |stream, peer| {
            StreamHandle::meet(&channel, peer);
            channel.attach(stream);
            let up = build(|env| (atoms::up(), signal::peer(env, peer)).encode(env));
            channel.bell().tell(|owners| owners.output, up);
        },
        move |error| {
            let failed =
                build(|env| (atoms::failed(), signal::open_error(env, &error)).encode(env));
            failing.bell().tell_last(failed);
        },
    );
    Ok(handle.encode(env))
}

#[rustler::nif]
fn dist_owner<'a>(
    env: Env<'a>,
    stream: ResourceArc<StreamHandle>,
    direction: Atom,
    pid: LocalPid,
) -> NifResult<Term<'a>> {
    let (input, output) = if direction == atoms::both() {
        (true, true)
    } else {
        (direction == atoms::input(), direction == atoms::output())
    };
    if !input && !output {
        return Err(Error::BadArg);
    }
    {
        let mut owners = stream.channel.bell().owners.lock();
        if owners.handle.is_none() {
            return Ok((atoms::error(), atoms::closed()).encode(env));
        }
        if input {
            owners.input = pid;
        }
        if output {
            owners.output = pid;
        }
    }
    if stream.monitor(Some(env), &pid).is_none() {
        // Dead already: the same as dying now.
        stream.channel.close();
    }
    Ok(atoms::ok().encode(env))
}

#[rustler::nif]
fn dist_peer<'a>(env: Env<'a>, stream: ResourceArc<StreamHandle>) -> Term<'a> {
    match &stream.channel.bell().owners.lock().peer {
        Some(peer) => signal::peer(env, peer),
        None => (atoms::error(), atoms::closed()).encode(env),
    }
}

#[rustler::nif]
fn dist_send<'a>(
    env: Env<'a>,
    stream: ResourceArc<StreamHandle>,
    packets: ListIterator<'a>,
) -> NifResult<Term<'a>> {
    // Decoded before anything is queued: a bad argument leaves no half packet.
    let mut decoded: Vec<(usize, Term<'a>)> = Vec::new();
    for packet in packets {
        let (size, parts): (usize, Term<'a>) = packet.decode()?;
        let mut total = 0;
        for part in parts.decode::<ListIterator<'a>>()? {
            total += Binary::from_term(part)?.len();
        }
        if total != size || size > u32::MAX as usize {
            return Err(Error::BadArg);
        }
        decoded.push((size, parts));
    }
    let sent = stream.channel.send(|outbox| {
        let count = decoded.len() as u64;
        for (size, parts) in decoded {
            outbox.start(size);
            for part in parts.decode::<ListIterator<'a>>().into_iter().flatten() {
                put(outbox, part);
            }
        }
        count
    });
    Ok(match sent {
        Sent::Ok => atoms::ok().encode(env),
        Sent::Busy => atoms::busy().encode(env),
        Sent::Closed => (atoms::error(), atoms::closed()).encode(env),
    })
}

fn put(outbox: &mut Outbox, part: Term<'_>) {
    let Ok(binary) = Binary::from_term(part) else {
        return; // checked by the caller
    };
    if binary.len() < COPY_BELOW {
        outbox.copy(binary.as_slice());
    } else {
        outbox.refer(raw::pin(part, &binary));
    }
}

#[rustler::nif]
fn dist_recv<'a>(env: Env<'a>, stream: ResourceArc<StreamHandle>, max: usize) -> Term<'a> {
    let mut packets: Vec<Term<'a>> = Vec::new();
    let received = stream.channel.recv(max, PACKETS_PER_CALL, |len, reader| {
        // A binary of exactly its size: part of a larger one would keep that
        // alive for as long as a mailbox holds the message.
        let mut binary = NewBinary::new(env, len);
        reader.copy_to(binary.as_mut_slice());
        packets.push(Binary::from(binary).to_term(env));
    });
    match received {
        Ok(()) => packets.encode(env),
        Err(end) => (atoms::error(), signal::stream_end(env, &end)).encode(env),
    }
}

#[rustler::nif]
fn dist_tick(stream: ResourceArc<StreamHandle>) -> Atom {
    stream.channel.tick();
    atoms::ok()
}

#[rustler::nif]
fn dist_stat<'a>(env: Env<'a>, stream: ResourceArc<StreamHandle>) -> Term<'a> {
    let stat = stream.channel.stat();
    (atoms::ok(), stat.received, stat.sent, stat.queued).encode(env)
}

#[rustler::nif]
fn dist_close(stream: ResourceArc<StreamHandle>) -> Atom {
    stream.channel.close();
    atoms::ok()
}
