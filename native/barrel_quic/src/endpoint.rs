//! The endpoint of one node: its socket, its I/O thread, its life.
//!
//! One thread named `barrel io` runs everything of this crate that touches the
//! network, on a tokio runtime of its own. Others talk to it through
//! [`Endpoint`], whose calls hand a task to that runtime and return.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use quinn::{
    AsyncTimer, AsyncUdpSocket, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime,
    TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::certs::{self, TlsMaterial};
use crate::congestion;
pub use crate::congestion::Congestion;
use crate::gate::{Gate, Pressure, Verdict};
use crate::hub::Hub;
use crate::identity::Identity;
use crate::name::PeerName;
use crate::seam::{LinkEnd, LinkStats, OpenError, OpenRequest, Peer, Upper};
use crate::socket::{self, EndpointSocket};
use crate::stream::Stream;
use crate::tls;
use crate::trust::TrustStore;
use crate::watch::{guarded, watched};

/// Bytes that a peer may send on all streams before it is admitted: a hello with
/// room to spare. The windows of the configuration hold from then on.
const STRANGER_WINDOW: u32 = 16 << 10;

/// Streams that a peer may open before it is admitted: the one of its hello, and
/// one that a dialler opens while the answer is on its way.
const STRANGER_STREAMS: u32 = 2;

/// The version of QUIC that nodes speak.
const QUIC_VERSION: u32 = 1;

/// How often the age of the certificate is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(12 * 3600);

/// First guess of a round trip; three of them pass before the first packet is
/// repeated. RFC 9002 says 333 ms, for the whole Internet with its slow edges.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Pause between looks at closed ports: a flood of forged reports keeps nobody busy.
const HINTS: Duration = Duration::from_millis(5);

/// How long the end waits for other threads of the runtime to let go.
const SETTLE: Duration = Duration::from_millis(50);

/// Everything an endpoint needs to start.
pub struct Config {
    /// Node name of a member, host part of a client.
    pub name: PeerName,
    /// The key of this node.
    pub identity: Arc<Identity>,
    /// Grows with every start.
    pub incarnation: u64,
    /// Certificate and key for TLS.
    pub tls: TlsMaterial,
    /// Where the certificate came from, to renew it; `None` if it is in memory.
    pub cert_dir: Option<PathBuf>,
    /// Who is trusted.
    pub trust: Arc<TrustStore>,
    /// Address to bind; `None` is every address of both IP versions.
    pub ip: Option<IpAddr>,
    /// Ports to try, in order; 0 is any free port.
    pub ports: Vec<u16>,
    /// Accept connections.
    pub listen: bool,
    /// Bound on each of TLS and hello.
    pub handshake_timeout: Duration,
    /// Interval of keep-alive packets on a silent link.
    pub keep_alive: Duration,
    /// Silence after which a link is dead.
    pub idle_timeout: Duration,
    /// Ask a peer at once when ICMP says that its port is closed.
    pub icmp_hints: bool,
    /// Bytes sent and not acknowledged, per link.
    pub send_window: u64,
    /// Bytes received and not taken, per stream; four times as much per link.
    pub receive_window: u32,
    /// Largest datagram tried, bytes of UDP payload.
    pub max_datagram: u16,
    /// How the sending rate of a link is found.
    pub congestion: Congestion,
    /// I/O threads.
    pub threads: usize,
}

/// Why an endpoint did not start. Nothing is left running.
#[derive(Debug)]
pub enum StartError {
    /// No port of the list could be bound.
    Bind(socket::BindError),
    /// The operating system refused a thread, a runtime or a socket option.
    System(std::io::Error),
    /// The certificate cannot be used.
    Tls(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => write!(f, "{error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
            Self::Tls(cause) => write!(f, "TLS: {cause}"),
        }
    }
}

/// A running endpoint. Dropping it closes it without goodbye; see
/// [`shut_down`](Self::shut_down).
pub struct Endpoint {
    /// Guards what the socket hangs on: taken when the endpoint closes, so that
    /// its port is free then, whoever still holds this value.
    hub: Mutex<Option<Arc<Hub>>>,
    runtime: Handle,
    address: SocketAddr,
    small_buffer: Option<usize>,
    /// Guards the hold on the I/O thread.
    running: Mutex<Option<Running>>,
}

/// The hold on the I/O thread.
struct Running {
    /// Dropped to end the thread.
    stop: mpsc::Sender<()>,
    /// Closed when the thread has let go of everything.
    ended: std_mpsc::Receiver<()>,
}

type Started = (Arc<Hub>, Handle, SocketAddr, Option<usize>);

impl Endpoint {
    /// Binds the socket and starts the I/O thread.
    ///
    /// # Errors
    /// Nothing is left running.
    pub fn start(config: Config, upper: Arc<dyn Upper>) -> Result<Self, StartError> {
        #[cfg(feature = "faults")]
        crate::faults::arm_from_environment();
        let (tell, started) = std_mpsc::sync_channel(1);
        let (stop, stopping) = mpsc::channel(1);
        let (ending, ended) = std_mpsc::sync_channel(0);
        std::thread::Builder::new()
            .name("barrel io".into())
            .spawn(move || {
                io_thread(config, upper, tell, stopping);
                drop(ending);
            })
            .map_err(StartError::System)?;
        let (hub, runtime, address, small_buffer) = started
            .recv()
            .map_err(|_| StartError::System(std::io::Error::other("the I/O thread died")))??;
        Ok(Self {
            hub: Mutex::new(Some(hub)),
            runtime,
            address,
            small_buffer,
            running: Mutex::new(Some(Running { stop, ended })),
        })
    }

    /// Where the socket is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of the socket buffers, when the system gave less than asked for.
    pub fn small_buffer(&self) -> Option<usize> {
        self.small_buffer
    }

    /// Opens a tagged stream. `started` gets the stream before its first event,
    /// or `failed` the error; both are called on a thread of this endpoint.
    pub fn open(
        &self,
        request: OpenRequest,
        started: impl Fn(Stream, &Peer) + Send + Sync + 'static,
        failed: impl FnOnce(OpenError) + Send + 'static,
    ) {
        let hub = self.hub.lock().clone();
        let mut failing = Failing {
            failed: Some(failed),
            on_io_thread: false,
        };
        self.runtime.spawn(async move {
            failing.run();
            let Some(hub) = hub else {
                return failing.fail(OpenError::Closed);
            };
            match watched("open", hub.open(&request, started)).await {
                Ok(Ok(())) => failing.disarm(),
                Ok(Err(error)) => failing.fail(error),
                Err(_) => failing.fail(OpenError::Link(LinkEnd::Panicked)),
            }
        });
    }

    /// Figures of every link.
    pub fn links(&self) -> Vec<LinkStats> {
        let hub = self.hub.lock().clone();
        hub.map(|hub| hub.stats()).unwrap_or_default()
    }

    /// Streams send what was taken, links say goodbye, the socket closes and
    /// the I/O thread ends. Waits for this, at most about `grace`. Only the
    /// first call does anything.
    pub fn shut_down(&self, grace: Duration) {
        let (Some(Running { stop, ended }), Some(hub)) =
            (self.running.lock().take(), self.hub.lock().take())
        else {
            return;
        };
        self.runtime.spawn(async move {
            // A panic is logged; the thread must end all the same.
            let _ = watched("shutdown", hub.shut_down(grace)).await;
            drop((hub, stop));
        });
        // Closed, not sent to. The bound holds even if the I/O thread is stuck.
        let _ = ended.recv_timeout(grace + SETTLE * 2);
    }
}

/// Tells that an open failed, also when its task is dropped with the runtime.
struct Failing<F: FnOnce(OpenError) + Send + 'static> {
    failed: Option<F>,
    /// The task has run. Else a runtime that is gone refused it, on the thread
    /// of the caller, who must not be called back from within its own call.
    on_io_thread: bool,
}

impl<F: FnOnce(OpenError) + Send + 'static> Failing<F> {
    fn run(&mut self) {
        self.on_io_thread = true;
    }

    fn disarm(&mut self) {
        self.failed = None;
    }

    fn fail(&mut self, error: OpenError) {
        if let Some(failed) = self.failed.take() {
            // A panic in it is logged; there is nobody else to tell.
            let _ = guarded("open", || failed(error));
        }
    }
}

impl<F: FnOnce(OpenError) + Send + 'static> Drop for Failing<F> {
    fn drop(&mut self) {
        if self.on_io_thread {
            return self.fail(OpenError::Closed);
        }
        let Some(failed) = self.failed.take() else {
            return;
        };
        let tell = move || {
            let _ = guarded("open", || failed(OpenError::Closed));
        };
        if std::thread::Builder::new().spawn(tell).is_err() {
            tracing::error!("no thread to tell that the endpoint is closed");
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn io_thread(
    config: Config,
    upper: Arc<dyn Upper>,
    tell: std_mpsc::SyncSender<Result<Started, StartError>>,
    mut stop: mpsc::Receiver<()>,
) {
    let runtime = match build_runtime(config.threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = tell.send(Err(StartError::System(error)));
            return;
        }
    };
    runtime.block_on(async {
        match begin(&config, Arc::clone(&upper)) {
            Ok((started, serve)) => {
                if tell.send(Ok(started)).is_err() {
                    return;
                }
                tokio::select! {
                    reason = serve => {
                        // A panic in it is logged; the end is the same.
                        let _ = guarded("endpoint", || upper.failed(&reason));
                    }
                    _ = stop.recv() => {}
                }
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        }
    });
    // Tasks of the pool may be in a file operation; they end by themselves.
    runtime.shutdown_timeout(SETTLE);
}

fn build_runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads > 1 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder
        .enable_io()
        .enable_time()
        .thread_name("barrel io")
        .max_blocking_threads(4)
        .build()
}

/// Starts everything; answers what the caller needs and the task that ends
/// only when the endpoint fails.
fn begin(
    config: &Config,
    upper: Arc<dyn Upper>,
) -> Result<(Started, impl Future<Output = String> + use<>), StartError> {
    let bound = socket::bind(config.ip, &config.ports).map_err(StartError::Bind)?;
    let (address, small_buffer) = (bound.address, bound.small_buffer);
    let socket = EndpointSocket::new(bound, config.max_datagram, config.icmp_hints)
        .map_err(StartError::System)?;
    let socket = Arc::new(socket);
    let transport = Arc::new(transport(config));
    let tls_error = |error: tls::TlsSetupError| StartError::Tls(error.to_string());
    let server = if config.listen {
        Some(server_config(&config.tls, &transport).map_err(tls_error)?)
    } else {
        None
    };
    let client = client_config(&config.tls, &transport).map_err(tls_error)?;
    let quinn = quinn::Endpoint::new_with_abstract_socket(
        endpoint_config(config),
        server,
        Arc::clone(&socket) as _,
        Arc::new(WatchedRuntime),
    )
    .map_err(StartError::System)?;
    let hub = Hub::new(config, quinn, client, upper);
    if let Some(dir) = &config.cert_dir {
        let renewal = Renewal {
            hub: Arc::downgrade(&hub),
            dir: dir.clone(),
            listen: config.listen,
            transport,
        };
        // A panic is logged; the certificate in use stays.
        tokio::spawn(watched("renewal", renewal.run(config.tls.not_after)));
    }
    let holder = Arc::clone(&socket);
    // A panic is logged; what is held back goes with the next transmit then.
    tokio::spawn(watched("send", async move { holder.send_held().await }));
    if config.icmp_hints {
        // A panic is logged; a dead peer is noticed by the idle timeout then.
        tokio::spawn(watched("hints", hear(socket, Arc::downgrade(&hub))));
    }
    let serve = {
        let hub = Arc::clone(&hub);
        async move {
            match watched("accept", accept(hub)).await {
                Ok(()) => "the UDP socket failed".to_owned(),
                Err(_) => "the accept task panicked".to_owned(),
            }
        }
    };
    Ok(((hub, Handle::current(), address, small_buffer), serve))
}

fn endpoint_config(config: &Config) -> EndpointConfig {
    // Both keys survive a restart: packets for a connection of the process
    // before get a stateless reset that its peer believes (RFC 9000 section
    // 10.3), so the peer learns of the restart from its own next packet.
    let reset = hmac::Key::new(
        hmac::HMAC_SHA256,
        &config.identity.derive(b"stateless reset"),
    );
    let ids = config.identity.derive(b"connection ids");
    let id_key = u64::from_le_bytes(std::array::from_fn(|n| ids[n]));
    let mut endpoint = EndpointConfig::new(Arc::new(reset));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    // RFC 9000 alone: quinn would also offer the drafts before it.
    endpoint.supported_versions(vec![QUIC_VERSION]);
    // Refuses only sizes under 1200, which the configuration excludes.
    let _ = endpoint.max_udp_payload_size(config.max_datagram.max(1472));
    endpoint
}

/// QUIC starts the idle timeout anew with the first packet that it sends into
/// the silence, which is a keep-alive. So that the silence as a whole is no longer
/// than configured, the keep-alive interval is taken off, as far as half is left.
fn quic_idle_timeout(config: &Config) -> Duration {
    let rest = config.idle_timeout.saturating_sub(config.keep_alive);
    rest.max(config.idle_timeout / 2)
}

fn transport(config: &Config) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(config.max_datagram);
    transport
        .max_idle_timeout(Some(
            IdleTimeout::try_from(quic_idle_timeout(config)).unwrap_or(VarInt::MAX.into()),
        ))
        .keep_alive_interval(Some(config.keep_alive))
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(congestion::Factory::new(config.congestion)))
        .mtu_discovery_config(Some(mtu))
        .send_window(config.send_window)
        .stream_receive_window(VarInt::from_u32(config.receive_window))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

fn server_config(
    material: &TlsMaterial,
    transport: &Arc<TransportConfig>,
) -> Result<quinn::ServerConfig, tls::TlsSetupError> {
    let mut server = quinn::ServerConfig::with_crypto(tls::server_crypto(material)?);
    server
        .transport_config(Arc::clone(transport))
        .max_incoming(crate::gate::MAX_HANDSHAKES)
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(4 << 20);
    Ok(server)
}

fn client_config(
    material: &TlsMaterial,
    transport: &Arc<TransportConfig>,
) -> Result<quinn::ClientConfig, tls::TlsSetupError> {
    let mut client = quinn::ClientConfig::new(tls::client_crypto(material)?);
    client.transport_config(Arc::clone(transport));
    Ok(client)
}

/// Accepts connections until the socket fails.
async fn accept(hub: Arc<Hub>) {
    let mut gate = Gate::default();
    let (tell, mut over) = mpsc::unbounded_channel();
    loop {
        let incoming = tokio::select! {
            Some(ticket) = over.recv() => {
                gate.ended(ticket);
                continue;
            }
            incoming = hub.quinn.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            if hub.is_closing() {
                // Closed on purpose. The goodbyes are still to be sent, so this
                // is not yet the end of the I/O thread.
                std::future::pending::<()>().await;
            }
            return;
        };
        match gate.judge(hub.now(), incoming.remote_address_validated()) {
            Verdict::Admit => {}
            Verdict::Retry => {
                hub.pressed(Pressure::Retry, &gate);
                // Fails for a validated address only, which is not sent here.
                let _ = incoming.retry();
                continue;
            }
            Verdict::Ignore => {
                hub.pressed(Pressure::Ignore, &gate);
                incoming.ignore();
                continue;
            }
        }
        let Ok(connecting) = incoming.accept() else {
            continue; // a first packet that was no QUIC after all
        };
        let ticket = gate.ticket();
        let (welcoming, tell) = (
            Arc::clone(&hub),
            Ticket {
                ticket,
                over: tell.clone(),
            },
        );
        let from = connecting.remote_address().ip().to_canonical();
        let task = tokio::spawn(async move {
            let _ticket = tell;
            // A panic is logged, and the connection closes with the future.
            let _ = watched("handshake", welcoming.welcome(connecting)).await;
        });
        if gate.began(ticket, task.abort_handle(), from) {
            hub.pressed(Pressure::GiveUp, &gate);
        }
    }
}

/// Tells the hub of closed ports as long as there is one.
async fn hear(socket: Arc<EndpointSocket>, hub: Weak<Hub>) {
    loop {
        let address = socket.port_closed().await;
        let Some(hub) = hub.upgrade() else {
            return;
        };
        hub.port_closed(address);
        tokio::time::sleep(HINTS).await;
    }
}

/// Gives its place at the gate back, also when the task is aborted. The queue
/// behind it is bounded by the number of handshakes.
struct Ticket {
    ticket: u64,
    over: mpsc::UnboundedSender<u64>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Nobody counts any more when the endpoint is gone.
        let _ = self.over.send(self.ticket);
    }
}

/// Replaces the certificate before it expires, for all later connections.
struct Renewal {
    hub: Weak<Hub>,
    dir: PathBuf,
    listen: bool,
    transport: Arc<TransportConfig>,
}

impl Renewal {
    async fn run(self, mut not_after: SystemTime) {
        loop {
            tokio::time::sleep(CERTIFICATE_CHECK).await;
            let dir = self.dir.clone();
            let loaded = tokio::task::spawn_blocking(move || {
                certs::load_or_generate(&dir, SystemTime::now())
            })
            .await;
            let Some(hub) = self.hub.upgrade() else {
                return;
            };
            match loaded {
                Ok(Ok(material)) if material.not_after != not_after => {
                    not_after = material.not_after;
                    self.install(&hub, &material);
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(cause = %error, "the certificate was not renewed"),
                Err(_) => tracing::error!("the renewal of the certificate panicked"),
            }
        }
    }

    fn install(&self, hub: &Hub, material: &TlsMaterial) {
        let configs = (
            server_config(material, &self.transport),
            client_config(material, &self.transport),
        );
        match configs {
            (Ok(server), Ok(client)) => {
                if self.listen && !hub.is_closing() {
                    hub.quinn.set_server_config(Some(server));
                }
                *hub.client.lock() = client;
                tracing::info!("the certificate was renewed");
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(cause = %error, "the renewed certificate cannot be used");
            }
        }
    }
}

/// tokio under quinn, with quinn's own tasks watched: a panic in one of them
/// poisons its connection, which then ends for everybody who uses it.
#[derive(Debug)]
struct WatchedRuntime;

impl Runtime for WatchedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        quinn::TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(watched("quinn", future));
    }

    fn wrap_udp_socket(
        &self,
        socket: std::net::UdpSocket,
    ) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        quinn::TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        quinn::TokioRuntime.now()
    }
}
