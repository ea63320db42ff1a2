//! An endpoint as a node has it, with identity, certificate and pins in memory.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use barrel_quic::certs;
use barrel_quic::endpoint::{Config, Endpoint};
use barrel_quic::identity::Identity;
use barrel_quic::name::{NodeName, PeerName};
use barrel_quic::seam::{LinkStats, OpenRequest, StreamEvents, Upper};
use barrel_quic::stream::Stream;
use barrel_quic::trust::{Mode, TrustStore};

use crate::Failure;
use crate::args::Options;

/// The secret that all processes of a run share.
pub(crate) const SECRET: &[u8] = b"barrel_bare measures barrel_quic";

/// The windows and times of a node's default configuration.
const SEND_WINDOW: u64 = 1 << 20;
const RECEIVE_WINDOW: u32 = 2 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A running endpoint.
pub(crate) struct Node {
    endpoint: Endpoint,
}

/// A layer above that is told its stream when there is one.
pub(crate) trait Above: StreamEvents {
    /// The stream is open; nothing was delivered yet.
    fn attach(&self, stream: Stream);
}

impl Node {
    /// Starts an endpoint at an address; port 0 is any.
    ///
    /// # Errors
    /// Nothing is left running.
    pub(crate) fn start(
        at: &SocketAddr,
        name: &str,
        options: &Options,
        upper: Arc<dyn Upper>,
    ) -> Result<Self, Failure> {
        let identity = Identity::generate().map_err(|error| format!("{error:?}"))?;
        let trust =
            TrustStore::shared(None, Mode::Tofu, 1000).map_err(|fault| format!("{fault:?}"))?;
        let config = Config {
            name: PeerName::Member(node_name(name, at)?),
            identity: Arc::new(identity),
            incarnation: 1,
            tls: certs::ephemeral(SystemTime::now()).map_err(|error| error.to_string())?,
            cert_dir: None,
            trust,
            ip: Some(at.ip()),
            ports: vec![at.port()],
            listen: true,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            keep_alive: KEEP_ALIVE,
            idle_timeout: IDLE_TIMEOUT,
            icmp_hints: true,
            send_window: SEND_WINDOW,
            receive_window: RECEIVE_WINDOW,
            max_datagram: options.max_datagram,
            congestion: options.congestion,
            threads: 1,
        };
        let endpoint = Endpoint::start(config, upper).map_err(|error| error.to_string())?;
        Ok(Self { endpoint })
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    /// Opens a stream to the listener at an address, and waits until it is there.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn open<A: Above>(
        &self,
        to: SocketAddr,
        tag: &'static [u8],
        above: &Arc<A>,
    ) -> Result<(), Failure> {
        let (opened, answer) = mpsc::channel();
        let failed = opened.clone();
        let attached = Arc::clone(above);
        let request = OpenRequest {
            name: node_name("bare", &to)?,
            addresses: vec![to],
            secret: SECRET.to_vec(),
            tag,
            timeout: HANDSHAKE_TIMEOUT,
            events: Arc::clone(above) as _,
        };
        self.endpoint.open(
            request,
            move |stream, _peer| {
                attached.attach(stream);
                // The receiver waits for one of these.
                let _ = opened.send(Ok(()));
            },
            move |error| {
                let _ = failed.send(Err(error));
            },
        );
        answer
            .recv()?
            .map_err(|error| format!("no stream to {to}: {error}").into())
    }

    /// Figures of the one link.
    pub(crate) fn link(&self) -> Option<LinkStats> {
        self.endpoint.links().into_iter().next()
    }

    /// Says goodbye to the peers.
    pub(crate) fn close(&self) {
        self.endpoint.shut_down(Duration::from_millis(200));
    }
}

fn node_name(name: &str, at: &SocketAddr) -> Result<NodeName, Failure> {
    NodeName::parse(format!("{name}@{}", at.ip()))
        .map_err(|error| format!("no name for {at}: {error:?}").into())
}
