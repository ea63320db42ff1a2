//! The endpoint: the functions `node_*`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use barrel_quic::certs::{self, TlsMaterial};
use barrel_quic::channel::Limits;
use barrel_quic::endpoint::{Config, Congestion, Endpoint, StartError};
use barrel_quic::identity::Identity;
use barrel_quic::keydir;
use barrel_quic::name::{HostName, NodeName, PeerName};
use barrel_quic::seam::{LinkEnd, LinkId, Peer, SecretAnswer, SecretRequest, StreamEvents, Upper};
use barrel_quic::stream::Stream;
use parking_lot::Mutex;
use rustler::{
    Atom, Binary, Decoder, Encoder, Env, Error, LocalPid, Monitor, NifResult, Resource,
    ResourceArc, Term,
};

use crate::signal::{self, atoms, build, failure, text};
use crate::stream::StreamHandle;
use crate::trust::TrustHandle;

/// Tag of the stream of a distribution channel.
pub(crate) const DIST_TAG: &[u8] = b"barrel_p2p:dist";

/// Incoming dist streams that wait for an acceptor while the node boots.
const MAX_WAITING: usize = 64;

/// Handshakes that wait for their secret: bounded by the gate of the endpoint.
type Questions = BTreeMap<u64, SecretAnswer>;

/// Handle of an endpoint.
pub(crate) struct NodeHandle {
    shared: Arc<Shared>,
}

/// What the handle, its endpoint and the I/O thread share.
struct Shared {
    owner: LocalPid,
    secrets: LocalPid,
    limits: Limits,
    /// Guards the endpoint: `None` before it started and after it closed.
    endpoint: Mutex<Option<Arc<Endpoint>>>,
    /// Guards the handle that messages carry; taken when the endpoint closes.
    handle: Mutex<Option<ResourceArc<NodeHandle>>>,
    /// Guards the questions that Erlang has not answered yet.
    questions: Mutex<(u64, Questions)>,
    /// Guards who hears of incoming dist streams, and those that wait for one.
    acceptor: Mutex<Acceptor>,
}

#[derive(Default)]
struct Acceptor {
    pid: Option<LocalPid>,
    waiting: VecDeque<(ResourceArc<StreamHandle>, Peer)>,
}

/// Guards the endpoints of this process, to say goodbye when it halts.
static OPEN: Mutex<Vec<Weak<Endpoint>>> = Mutex::new(Vec::new());

/// Says goodbye on every link of the process. Runs while the emulator halts.
pub(crate) fn goodbye() {
    let open = std::mem::take(&mut *OPEN.lock());
    for endpoint in open.iter().filter_map(Weak::upgrade) {
        endpoint.shut_down(Duration::from_millis(150));
    }
}

#[rustler::resource_impl]
impl Resource for NodeHandle {
    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if pid == self.shared.owner {
            // Not here: a callback of the emulator must not wait.
            let shared = Arc::clone(&self.shared);
            std::thread::spawn(move || shared.close(Duration::from_millis(200)));
        } else {
            let mut acceptor = self.shared.acceptor.lock();
            if acceptor.pid == Some(pid) {
                acceptor.pid = None;
            }
        }
    }
}

impl NodeHandle {
    /// The endpoint, while it is open.
    pub(crate) fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.shared.endpoint.lock().clone()
    }

    /// Queue sizes of the channels of this endpoint.
    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits
    }
}

impl Shared {
    fn close(&self, grace: Duration) {
        let endpoint = self.endpoint.lock().take();
        if let Some(endpoint) = endpoint {
            endpoint.shut_down(grace);
        }
        self.handle.lock().take();
        self.acceptor.lock().waiting.clear();
        self.questions.lock().1.clear();
    }

    fn tell(&self, to: &LocalPid, signal: impl Encoder) {
        let handle = self.handle.lock().clone();
        if let Some(handle) = handle {
            signal::send(to, handle, signal);
        }
    }
}

impl Upper for Shared {
    fn secret(&self, request: SecretRequest) {
        let id = {
            let (next, questions) = &mut *self.questions.lock();
            *next += 1;
            // Answers that nobody waits for any more.
            questions.retain(|_, answer| !answer.is_closed());
            questions.insert(*next, request.answer);
            *next
        };
        let name = request.name.to_string();
        self.tell(
            &self.secrets,
            build(|env| (atoms::secret(), id, text(env, &name)).encode(env)),
        );
    }

    fn incoming(&self, peer: &Peer, tag: &[u8], stream: Stream) -> Option<Arc<dyn StreamEvents>> {
        if tag != DIST_TAG {
            return None;
        }
        let mut acceptor = self.acceptor.lock();
        let owner = acceptor.pid.unwrap_or(self.owner);
        if acceptor.pid.is_none() && acceptor.waiting.len() >= MAX_WAITING {
            return None;
        }
        let (handle, channel) = StreamHandle::create(None, owner, self.limits)?;
        StreamHandle::meet(&channel, peer);
        channel.attach(stream);
        match acceptor.pid {
            Some(pid) => {
                drop(acceptor);
                self.tell(&pid, build(|env| incoming(env, &handle, peer)));
            }
            None => acceptor.waiting.push_back((handle, peer.clone())),
        }
        Some(channel)
    }

    fn up(&self, _link: LinkId, _peer: &Peer) {}

    fn down(&self, _link: LinkId, _peer: &Peer, _end: &LinkEnd) {}

    fn failed(&self, reason: &str) {
        self.tell(
            &self.owner,
            build(|env| (atoms::down(), text(env, reason)).encode(env)),
        );
        self.endpoint.lock().take();
        self.handle.lock().take();
    }
}

fn incoming<'a>(env: Env<'a>, handle: &ResourceArc<StreamHandle>, peer: &Peer) -> Term<'a> {
    (atoms::incoming(), handle.clone(), signal::peer(env, peer)).encode(env)
}

/// The options of `node_open/1`.
struct Options {
    name: PeerName,
    key_dir: Option<PathBuf>,
    cert_dir: Option<PathBuf>,
    owner: LocalPid,
    secrets: LocalPid,
    limits: Limits,
    config: Partial,
}

/// The numbers among them.
struct Partial {
    trust: Arc<barrel_quic::trust::TrustStore>,
    ip: Option<std::net::IpAddr>,
    ports: Vec<u16>,
    handshake_timeout: Duration,
    keep_alive: Duration,
    idle_timeout: Duration,
    icmp_hints: bool,
    send_window: u64,
    receive_window: u32,
    max_datagram: u16,
    congestion: Congestion,
    threads: usize,
}

impl Options {
    fn decode(opts: Term<'_>) -> NifResult<Self> {
        let receive_window: u32 = field(opts, atoms::receive_window())?;
        let pull_budget: usize = field(opts, atoms::pull_budget())?;
        let client: bool = field(opts, atoms::client())?;
        let name: Binary<'_> = field(opts, atoms::name())?;
        let name = if client {
            PeerName::Client(HostName::parse(name.as_slice()).map_err(|_| Error::BadArg)?)
        } else {
            PeerName::Member(NodeName::parse(name.as_slice()).map_err(|_| Error::BadArg)?)
        };
        let trust: ResourceArc<TrustHandle> = field(opts, atoms::trust())?;
        Ok(Self {
            name,
            key_dir: directory(opts.map_get(atoms::key_dir())?)?,
            cert_dir: directory(opts.map_get(atoms::cert_dir())?)?,
            owner: field(opts, atoms::owner())?,
            secrets: field(opts, atoms::secrets())?,
            limits: Limits::new(pull_budget, receive_window as usize),
            config: Partial {
                trust: Arc::clone(trust.store()),
                ip: bind_ip(opts.map_get(atoms::ip())?)?,
                ports: field(opts, atoms::ports())?,
                handshake_timeout: millis(opts, atoms::handshake_timeout_ms())?,
                keep_alive: millis(opts, atoms::keep_alive_ms())?,
                idle_timeout: millis(opts, atoms::idle_timeout_ms())?,
                icmp_hints: field(opts, atoms::icmp_hints())?,
                send_window: field(opts, atoms::send_window())?,
                receive_window,
                max_datagram: field(opts, atoms::max_datagram())?,
                congestion: congestion(field(opts, atoms::congestion())?)?,
                threads: field(opts, atoms::threads())?,
            },
        })
    }
}

fn field<'a, T: Decoder<'a>>(opts: Term<'a>, key: Atom) -> NifResult<T> {
    opts.map_get(key)?.decode()
}

fn millis(opts: Term<'_>, key: Atom) -> NifResult<Duration> {
    Ok(Duration::from_millis(field(opts, key)?))
}

fn congestion(name: Atom) -> NifResult<Congestion> {
    if name == atoms::patient() {
        Ok(Congestion::Patient)
    } else if name == atoms::cubic() {
        Ok(Congestion::Cubic)
    } else if name == atoms::bbr() {
        Ok(Congestion::Bbr)
    } else {
        Err(Error::BadArg)
    }
}

fn bind_ip(term: Term<'_>) -> NifResult<Option<std::net::IpAddr>> {
    if term.decode::<Atom>().is_ok_and(|atom| atom == atoms::any()) {
        return Ok(None);
    }
    signal::parse_ip(term).map(Some)
}

/// A directory as a UTF-8 binary, or `undefined`.
pub(crate) fn directory(term: Term<'_>) -> NifResult<Option<PathBuf>> {
    if term
        .decode::<Atom>()
        .is_ok_and(|atom| atom == atoms::undefined())
    {
        return Ok(None);
    }
    path(term).map(Some)
}

/// A path as a UTF-8 binary.
pub(crate) fn path(term: Term<'_>) -> NifResult<PathBuf> {
    let binary: Binary<'_> = term.decode()?;
    let text = std::str::from_utf8(binary.as_slice()).map_err(|_| Error::BadArg)?;
    if text.is_empty() || text.contains('\0') {
        return Err(Error::BadArg);
    }
    Ok(PathBuf::from(text))
}

#[rustler::nif(schedule = "DirtyIo")]
fn node_open<'a>(env: Env<'a>, opts: Term<'a>) -> NifResult<Term<'a>> {
    let options = Options::decode(opts)?;
    let (identity, incarnation) = match identity(options.key_dir.as_deref()) {
        Ok(found) => found,
        Err(error) => return Ok(failure(env, error.code(), &error.to_string())),
    };
    let material = match material(options.cert_dir.as_deref()) {
        Ok(material) => material,
        Err(error) => return Ok(failure(env, error.code(), &error.to_string())),
    };
    if let Some(warning) = &material.warning {
        tracing::warn!(cause = %warning, "the certificate needs attention");
    }
    let key = identity.public();
    let shared = Arc::new(Shared {
        owner: options.owner,
        secrets: options.secrets,
        limits: options.limits,
        endpoint: Mutex::new(None),
        handle: Mutex::new(None),
        questions: Mutex::default(),
        acceptor: Mutex::default(),
    });
    let handle = ResourceArc::new(NodeHandle {
        shared: Arc::clone(&shared),
    });
    *shared.handle.lock() = Some(handle.clone());
    let listen = matches!(options.name, PeerName::Member(_));
    let config = Config {
        name: options.name,
        identity: Arc::new(identity),
        incarnation,
        tls: material,
        cert_dir: options.cert_dir,
        trust: options.config.trust,
        ip: options.config.ip,
        ports: options.config.ports,
        listen,
        handshake_timeout: options.config.handshake_timeout,
        keep_alive: options.config.keep_alive,
        idle_timeout: options.config.idle_timeout,
        icmp_hints: options.config.icmp_hints,
        send_window: options.config.send_window,
        receive_window: options.config.receive_window,
        max_datagram: options.config.max_datagram,
        congestion: options.config.congestion,
        threads: options.config.threads,
    };
    let endpoint = match Endpoint::start(config, Arc::clone(&shared) as _) {
        Ok(endpoint) => Arc::new(endpoint),
        Err(error) => {
            shared.handle.lock().take();
            let kind = match error {
                StartError::Bind(_) => "bind",
                StartError::System(_) => "system",
                StartError::Tls(_) => "tls",
            };
            return Ok(failure(env, kind, &error.to_string()));
        }
    };
    let port = endpoint.address().port();
    if let Some(bytes) = endpoint.small_buffer() {
        tracing::info!(
            bytes = bytes as u64,
            remedy = "raise net.core.rmem_max and net.core.wmem_max to 4194304",
            "the system gives small socket buffers; bulk transfers are slower"
        );
    }
    {
        let mut open = OPEN.lock();
        open.retain(|endpoint| endpoint.strong_count() > 0);
        open.push(Arc::downgrade(&endpoint));
    }
    *shared.endpoint.lock() = Some(endpoint);
    if handle.monitor(Some(env), &shared.owner).is_none() {
        shared.close(Duration::ZERO);
        return Ok((atoms::error(), atoms::closed()).encode(env));
    }
    let info = signal::map(
        env,
        &[
            (atoms::port(), port.encode(env)),
            (atoms::key(), signal::binary(env, &key.0)),
            (atoms::incarnation(), incarnation.encode(env)),
        ],
    );
    Ok((atoms::ok(), handle, info).encode(env))
}

fn identity(dir: Option<&std::path::Path>) -> Result<(Identity, u64), keydir::KeyDirError> {
    let wall_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let identity = match dir {
        Some(dir) => keydir::load_or_generate(dir)?,
        None => Identity::generate().map_err(|_| keydir::KeyDirError::Random)?,
    };
    Ok((identity, keydir::next_incarnation(dir, wall_ms)?))
}

fn material(dir: Option<&std::path::Path>) -> Result<TlsMaterial, certs::CertError> {
    match dir {
        Some(dir) => certs::load_or_generate(dir, SystemTime::now()),
        None => certs::ephemeral(SystemTime::now()),
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn node_close(node: ResourceArc<NodeHandle>, ms: u64) -> Atom {
    node.shared.close(Duration::from_millis(ms));
    atoms::ok()
}

#[rustler::nif]
fn node_acceptor<'a>(env: Env<'a>, node: ResourceArc<NodeHandle>, pid: LocalPid) -> Term<'a> {
    if node.endpoint().is_none() || node.monitor(Some(env), &pid).is_none() {
        return (atoms::error(), atoms::closed()).encode(env);
    }
    let waiting = {
        let mut acceptor = node.shared.acceptor.lock();
        acceptor.pid = Some(pid);
        std::mem::take(&mut acceptor.waiting)
    };
    for (stream, peer) in waiting {
        let signal = incoming(env, &stream, &peer);
        let message = (atoms::barrel_p2p(), node.clone(), signal).encode(env);
        // A dead acceptor is replaced; its streams end with their setup time.
        let _ = env.send(&pid, message);
    }
    atoms::ok().encode(env)
}

#[rustler::nif]
fn node_secret(node: ResourceArc<NodeHandle>, id: u64, secret: Binary<'_>) -> Atom {
    let answer = node.shared.questions.lock().1.remove(&id);
    if let Some(answer) = answer {
        // The handshake may have ended meanwhile.
        let _ = answer.send(secret.as_slice().to_vec());
    }
    atoms::ok()
}

#[rustler::nif]
fn node_info<'a>(env: Env<'a>, node: ResourceArc<NodeHandle>) -> Term<'a> {
    let Some(endpoint) = node.endpoint() else {
        return (atoms::error(), atoms::closed()).encode(env);
    };
    let small_buffer = match endpoint.small_buffer() {
        Some(bytes) => bytes.encode(env),
        None => atoms::undefined().encode(env),
    };
    signal::map(
        env,
        &[
            (
                atoms::address(),
                signal::socket_address(env, endpoint.address()),
            ),
            (atoms::links(), endpoint.links().len().encode(env)),
            (atoms::small_buffer(), small_buffer),
        ],
    )
}

#[rustler::nif]
fn node_links<'a>(env: Env<'a>, node: ResourceArc<NodeHandle>) -> Vec<Term<'a>> {
    let Some(endpoint) = node.endpoint() else {
        return Vec::new();
    };
    let put = |map: Term<'a>, key: Atom, value: Term<'a>| map.map_put(key, value).unwrap_or(map);
    let links = endpoint.links().into_iter().map(|link| {
        [
            (atoms::address(), signal::socket_address(env, link.remote)),
            (atoms::streams(), link.streams.encode(env)),
            (atoms::draining(), link.draining.encode(env)),
            (atoms::rtt_us(), (link.rtt.as_micros() as u64).encode(env)),
            (atoms::mtu(), link.mtu.encode(env)),
            (atoms::cwnd(), link.cwnd.encode(env)),
            (atoms::sent_bytes(), link.sent_bytes.encode(env)),
            (atoms::received_bytes(), link.received_bytes.encode(env)),
            (atoms::sent_packets(), link.sent_packets.encode(env)),
            (atoms::lost_packets(), link.lost_packets.encode(env)),
            (atoms::doubts(), link.doubts.encode(env)),
        ]
        .into_iter()
        .fold(signal::peer(env, &link.peer), |map, (key, value)| {
            put(map, key, value)
        })
    });
    links.collect()
}
