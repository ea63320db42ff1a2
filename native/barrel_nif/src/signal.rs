//! Messages to Erlang: `{barrel_p2p, Handle, Signal}`.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use barrel_quic::name::PeerName;
use barrel_quic::seam::{Code, LinkEnd, OpenError, Peer, StreamEnd};
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Binary, Encoder, Env, Error, LocalPid, NewBinary, NifResult, OwnedEnv, Term};

pub(crate) mod atoms {
    rustler::atoms! {
        ok, error, undefined, any, barrel_p2p, log,
        // signals
        ready, readable, writable, closed, failed, down, up, incoming, secret,
        // answers
        busy, not_found, no_secret, stale, duplicate_name, no_address, no_acceptor, timeout, connect, auth,
        refused, link, handshake, unreachable_ = "unreachable", endpoint,
        // ends
        finished, reset, local, protocol, panicked, peer_shutdown, idle_timeout, peer_restarted, transport,
        // map keys
        name, client, key, incarnation, address, dialled, port, kind, native, version, rustc, features,
        streams, draining, rtt_us, mtu, cwnd, sent_bytes, received_bytes, sent_packets, lost_packets, doubts,
        key_dir, cert_dir, trust, ip, ports, listen, owner, secrets, handshake_timeout_ms, keep_alive_ms,
        idle_timeout_ms, icmp_hints, threads, send_window, receive_window, pull_budget, max_datagram,
        congestion, patient, cubic, bbr,
        addresses, timeout_ms, small_buffer, links, fingerprint, added_at,
        input, output, both, tofu, strict, off, new, replace,
        // log levels
        warning, notice, info, debug, none, already_loaded, econnrefused,
    }
}

thread_local! {
    /// One message environment per I/O thread; cleared after each message.
    static ENVELOPE: RefCell<OwnedEnv> = RefCell::new(OwnedEnv::new());
}

/// Sends `{barrel_p2p, Handle, Signal}` from a thread of ours. A receiver that
/// is gone hears nothing: its monitor does what must be done.
pub(crate) fn send(to: &LocalPid, handle: impl Encoder, signal: impl Encoder) {
    ENVELOPE.with_borrow_mut(|envelope| {
        let _ = envelope.send_and_clear(to, |env| {
            make_tuple(
                env,
                &[
                    atoms::barrel_p2p().to_term(env),
                    handle.encode(env),
                    signal.encode(env),
                ],
            )
        });
    });
}

/// A signal that is built in the environment of its message.
pub(crate) struct Build<F>(F);

/// Makes a signal of a function that builds its term.
pub(crate) fn build<F>(function: F) -> Build<F>
where
    F: for<'a> Fn(Env<'a>) -> Term<'a>,
{
    Build(function)
}

impl<F> Encoder for Build<F>
where
    F: for<'a> Fn(Env<'a>) -> Term<'a>,
{
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (self.0)(env)
    }
}

/// Bytes as an Erlang binary.
pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    Binary::from(binary).to_term(env)
}

/// Text as an Erlang binary.
pub(crate) fn text<'a>(env: Env<'a>, text: &str) -> Term<'a> {
    binary(env, text.as_bytes())
}

/// `{error, {Kind, Text}}` for a failure whose text an operator will read.
pub(crate) fn failure<'a>(env: Env<'a>, kind: &str, cause: &str) -> Term<'a> {
    let kind = atom(env, kind);
    (atoms::error(), (kind, text(env, cause))).encode(env)
}

/// An atom of our own vocabulary. Never called with text from the network.
pub(crate) fn atom(env: Env<'_>, name: &str) -> Atom {
    Atom::from_str(env, name).unwrap_or_else(|_| atoms::error())
}

/// An IP address as `inet:ip_address()`.
pub(crate) fn ip<'a>(env: Env<'a>, ip: IpAddr) -> Term<'a> {
    let parts: Vec<Term<'a>> = match ip {
        IpAddr::V4(v4) => v4.octets().iter().map(|part| part.encode(env)).collect(),
        IpAddr::V6(v6) => v6.segments().iter().map(|part| part.encode(env)).collect(),
    };
    make_tuple(env, &parts)
}

/// A socket address as `{inet:ip_address(), Port}`. An IPv4 address that a socket
/// for both versions shows as IPv6 is an IPv4 address here.
pub(crate) fn socket_address<'a>(env: Env<'a>, address: SocketAddr) -> Term<'a> {
    (ip(env, address.ip().to_canonical()), address.port()).encode(env)
}

/// `inet:ip_address()` as an IP address.
pub(crate) fn parse_ip(term: Term<'_>) -> NifResult<IpAddr> {
    let parts = rustler::types::tuple::get_tuple(term)?;
    let part = |n: usize| parts[n].decode::<u16>();
    match parts.len() {
        4 => {
            let mut octets = [0; 4];
            for (n, octet) in octets.iter_mut().enumerate() {
                *octet = u8::try_from(part(n)?).map_err(|_| Error::BadArg)?;
            }
            Ok(octets.into())
        }
        8 => {
            let mut segments = [0; 8];
            for (n, segment) in segments.iter_mut().enumerate() {
                *segment = part(n)?;
            }
            Ok(segments.into())
        }
        _ => Err(Error::BadArg),
    }
}

/// A peer as the type `peer()` of the contract.
pub(crate) fn peer<'a>(env: Env<'a>, peer: &Peer) -> Term<'a> {
    let name = match &peer.name {
        PeerName::Member(name) => name.as_str(),
        PeerName::Client(host) => host.as_str(),
    };
    let client = matches!(peer.name, PeerName::Client(_));
    map(
        env,
        &[
            (atoms::name(), text(env, name)),
            (atoms::client(), client.encode(env)),
            (atoms::key(), binary(env, &peer.key.0)),
            (atoms::incarnation(), peer.incarnation.encode(env)),
            (atoms::address(), socket_address(env, peer.address)),
            (atoms::dialled(), peer.dialled.encode(env)),
        ],
    )
}

/// A map with atom keys.
pub(crate) fn map<'a>(env: Env<'a>, pairs: &[(Atom, Term<'a>)]) -> Term<'a> {
    pairs.iter().fold(Term::map_new(env), |map, (key, value)| {
        // Fails for a term that is no map only.
        map.map_put(*key, *value).unwrap_or(map)
    })
}

/// Why a link ended, as a term.
pub(crate) fn link_end<'a>(env: Env<'a>, end: &LinkEnd) -> Term<'a> {
    match end {
        LinkEnd::PeerShutdown => atoms::peer_shutdown().encode(env),
        LinkEnd::PeerClosed(code) => (atoms::refused(), self::code(env, *code)).encode(env),
        LinkEnd::Timeout => atoms::idle_timeout().encode(env),
        LinkEnd::Reset => atoms::peer_restarted().encode(env),
        LinkEnd::Local(code) => (atoms::local(), self::code(env, *code)).encode(env),
        LinkEnd::Transport(cause) => (atoms::transport(), text(env, cause)).encode(env),
        LinkEnd::Panicked => atoms::panicked().encode(env),
    }
}

/// Why a stream ended, as a term.
pub(crate) fn stream_end<'a>(env: Env<'a>, end: &StreamEnd) -> Term<'a> {
    match end {
        StreamEnd::Finished => atoms::finished().encode(env),
        StreamEnd::Reset(code) => (atoms::reset(), code).encode(env),
        StreamEnd::Local => atoms::local().encode(env),
        StreamEnd::Link(end) => (atoms::link(), link_end(env, end)).encode(env),
        StreamEnd::Protocol(how) => (atoms::protocol(), text(env, how)).encode(env),
        StreamEnd::Panicked => atoms::panicked().encode(env),
    }
}

/// Why a stream was not opened, as a term.
pub(crate) fn open_error<'a>(env: Env<'a>, error: &OpenError) -> Term<'a> {
    match error {
        OpenError::NoAddress => atoms::no_address().encode(env),
        OpenError::NoSecret => (atoms::auth(), atoms::no_secret()).encode(env),
        OpenError::Unreachable(tried) => {
            let tried: Vec<Term<'a>> = tried.iter().map(|one| socket_address(env, *one)).collect();
            (atoms::connect(), (atoms::unreachable_(), tried)).encode(env)
        }
        OpenError::ClosedPort(address) => (
            atoms::connect(),
            (atoms::econnrefused(), socket_address(env, *address)),
        )
            .encode(env),
        OpenError::RefusedByPeer(code) => {
            (atoms::auth(), (atoms::refused(), self::code(env, *code))).encode(env)
        }
        OpenError::RefusedHere(code) => (atoms::auth(), self::code(env, *code)).encode(env),
        OpenError::Link(end) => (atoms::connect(), link_end(env, end)).encode(env),
        OpenError::NoAcceptor => atoms::no_acceptor().encode(env),
        OpenError::Timeout => atoms::timeout().encode(env),
        OpenError::Handshake(cause) => {
            (atoms::connect(), (atoms::handshake(), text(env, cause))).encode(env)
        }
        OpenError::Closed => atoms::closed().encode(env),
    }
}

fn code(env: Env<'_>, code: Code) -> Atom {
    atom(env, code.as_str())
}

/// Whether this thread is none of the emulator's.
pub(crate) fn on_own_thread() -> bool {
    crate::raw::thread_type() == 0
}
