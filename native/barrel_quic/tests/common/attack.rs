//! What an attacker has: many addresses, a place in the middle, and hellos that
//! no honest node would write.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use barrel_quic::identity::Identity;
use barrel_quic::{certs, tls};
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};
use ring::hmac;

use super::{DEADLINE, Node, Raw, SECRET, Watched};

/// A hello written by hand, after docs/wire.md and not by the code that reads it.
/// Whatever the fields hold is signed and proven.
#[derive(Clone)]
pub(crate) struct Forged {
    pub(crate) label: [u8; 16],
    pub(crate) version: u8,
    pub(crate) features: u64,
    pub(crate) role: u8,
    pub(crate) exporter: [u8; 32],
    pub(crate) incarnation: u64,
    pub(crate) client: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) expected: Vec<u8>,
}

impl Forged {
    /// As a dialler of that name would say to that node on this connection.
    pub(crate) fn dialler(conn: &quinn::Connection, name: &str, to: &Node) -> Self {
        Self::dialling(conn, name, to.name().as_str())
    }

    /// The same, to a node of another process.
    pub(crate) fn dialling(conn: &quinn::Connection, name: &str, expected: &str) -> Self {
        Self {
            label: *b"barrel_p2p hello",
            version: 1,
            features: 0,
            role: 1,
            exporter: tls::exporter(conn).unwrap(),
            incarnation: 1,
            client: 0,
            name: name.into(),
            expected: expected.into(),
        }
    }

    /// As the node that was dialled would answer.
    pub(crate) fn acceptor(conn: &quinn::Connection, name: &str) -> Self {
        Self {
            label: *b"barrel_p2p hello",
            version: 1,
            features: 0,
            role: 2,
            exporter: tls::exporter(conn).unwrap(),
            incarnation: 1,
            client: 0,
            name: name.into(),
            expected: Vec::new(),
        }
    }

    pub(crate) fn sealed(&self, identity: &Identity, secret: &[u8]) -> Vec<u8> {
        let mut bytes = self.label.to_vec();
        bytes.push(self.version);
        bytes.extend_from_slice(&self.features.to_be_bytes());
        bytes.push(self.role);
        bytes.extend_from_slice(&self.exporter);
        bytes.extend_from_slice(&identity.public().0);
        bytes.extend_from_slice(&self.incarnation.to_be_bytes());
        bytes.push(self.client);
        for name in [&self.name, &self.expected] {
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name);
        }
        bytes.extend_from_slice(&identity.sign(&bytes));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let proven = [
            b"barrel_p2p proof".as_slice(),
            &[self.role],
            &self.exporter,
            &bytes,
        ]
        .concat();
        bytes.extend_from_slice(hmac::sign(&key, &proven).as_ref());
        bytes
    }

    pub(crate) fn proven(&self, identity: &Identity) -> Vec<u8> {
        self.sealed(identity, SECRET)
    }
}

/// A hello as it stands in a stream.
pub(crate) fn framed(hello: &[u8]) -> Vec<u8> {
    [&(hello.len() as u16).to_be_bytes(), hello].concat()
}

/// The code with which the peer closed a connection.
pub(crate) fn close_code(error: &quinn::ConnectionError) -> Option<u64> {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

/// Reads one hello from a stream.
pub(crate) async fn read_framed(recv: &mut quinn::RecvStream) -> Option<Vec<u8>> {
    let mut len = [0; 2];
    recv.read_exact(&mut len).await.ok()?;
    let mut hello = vec![0; usize::from(u16::from_be_bytes(len))];
    recv.read_exact(&mut hello).await.ok()?;
    Some(hello)
}

impl Raw {
    /// Sends these bytes as a hello. The answer, or the code of the refusal.
    pub(crate) fn say(&self, conn: &quinn::Connection, hello: &[u8]) -> Result<Vec<u8>, u64> {
        self.runtime.block_on(async {
            let (mut send, mut recv) = conn.open_bi().await.unwrap();
            send.write_all(&framed(hello)).await.unwrap();
            match read_framed(&mut recv).await {
                Some(answer) => Ok(answer),
                None => {
                    let end = conn.closed().await;
                    Err(close_code(&end).unwrap_or_else(|| panic!("no code: {end}")))
                }
            }
        })
    }

    /// A client that dials from as many addresses as it likes: to dial
    /// [`from`]`(n)` is to dial `victim` from the n-th of them. A deaf one hears
    /// nothing of what it is answered.
    pub(crate) fn crowd(victim: SocketAddr, deaf: bool) -> Self {
        let mut raw = Self::new();
        let _inside = raw.runtime.enter();
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let socket = Arc::new(Crowd {
            socket: quinn::TokioRuntime.wrap_udp_socket(socket).unwrap(),
            victim,
            deaf: AtomicBool::new(deaf),
        });
        let mut endpoint = quinn::Endpoint::new_with_abstract_socket(
            quinn::EndpointConfig::default(),
            None,
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .unwrap();
        let material = certs::ephemeral(SystemTime::now()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(
            tls::client_crypto(&material).unwrap(),
        ));
        drop(_inside);
        raw.endpoint = endpoint;
        raw
    }
}

/// The n-th address of a crowd.
pub(crate) fn from(n: usize) -> SocketAddr {
    let [_, high, mid, low] = (n as u32 + 1).to_be_bytes();
    (Ipv4Addr::new(127, 64 + high, mid, low), 9).into()
}

/// A socket that sends from the loopback address that it is told to send to.
struct Crowd {
    socket: Arc<dyn AsyncUdpSocket>,
    victim: SocketAddr,
    deaf: AtomicBool,
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crowd")
    }
}

impl AsyncUdpSocket for Crowd {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(&Transmit {
            destination: self.victim,
            ecn: transmit.ecn,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: Some(transmit.destination.ip()),
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let polled = self.socket.poll_recv(cx, bufs, meta);
            let Poll::Ready(Ok(count)) = polled else {
                return polled;
            };
            if self.deaf.load(Ordering::Relaxed) {
                continue;
            }
            for meta in &mut meta[..count] {
                let to = meta
                    .dst_ip
                    .take()
                    .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                meta.addr = SocketAddr::new(to, 9);
            }
            return polled;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A wire that is tapped: passes datagrams on between a dialler and a node, and
/// keeps those of the dialler.
pub(crate) struct Tap {
    /// To be dialled in place of the node.
    pub(crate) address: SocketAddr,
    /// Where the node sees the dialler.
    back: UdpSocket,
    node: SocketAddr,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
}

impl Tap {
    pub(crate) fn before(node: &Node) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tap = Self {
            address: front.local_addr().unwrap(),
            back: back.try_clone().unwrap(),
            node: node.address(),
            recorded: Arc::default(),
            stop: Arc::default(),
        };
        // So that the threads see the end of the tap.
        for socket in [&front, &back] {
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
        }
        let dialler = Arc::new(OnceLock::new());
        let (recorded, stop, node) = (Arc::clone(&tap.recorded), Arc::clone(&tap.stop), tap.node);
        let (forth_in, forth_out) = (front.try_clone().unwrap(), back.try_clone().unwrap());
        let from = Arc::clone(&dialler);
        std::thread::spawn(move || {
            pass(&stop, &forth_in, |datagram, source| {
                from.get_or_init(|| source);
                recorded.lock().push(datagram.to_vec());
                let _ = forth_out.send_to(datagram, node);
            });
        });
        let stop = Arc::clone(&tap.stop);
        std::thread::spawn(move || {
            pass(&stop, &back, |datagram, _| {
                if let Some(dialler) = dialler.get() {
                    let _ = front.send_to(datagram, *dialler);
                }
            });
        });
        tap
    }

    /// What the dialler sent so far.
    pub(crate) fn recorded(&self) -> Vec<Vec<u8>> {
        self.recorded.lock().clone()
    }

    /// Sends it all again, as if from the dialler.
    pub(crate) fn repeat(&self, datagrams: &[Vec<u8>]) {
        repeat(&self.back, self.node, datagrams);
    }

    /// Sends it all again, from an address that the node has not seen.
    pub(crate) fn repeat_from_elsewhere(&self, datagrams: &[Vec<u8>]) {
        repeat(
            &UdpSocket::bind("127.0.0.9:0").unwrap(),
            self.node,
            datagrams,
        );
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn pass(stop: &AtomicBool, socket: &UdpSocket, mut each: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, source)) = socket.recv_from(&mut buffer) {
            each(&buffer[..len], source);
        }
    }
}

fn repeat(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) {
    for datagram in datagrams {
        socket.send_to(datagram, to).unwrap();
    }
}

/// Every warning of this process, one line each.
pub(crate) struct Warnings(Arc<Watched<Vec<String>>>);

impl Warnings {
    /// Begins to listen; those of other tests are heard too.
    pub(crate) fn listen() -> Self {
        static HEARD: OnceLock<Arc<Watched<Vec<String>>>> = OnceLock::new();
        let heard = HEARD.get_or_init(|| {
            let heard = Arc::new(Watched::new(Vec::new()));
            let listener = Listener(Arc::clone(&heard));
            tracing::subscriber::set_global_default(listener).expect("the only one");
            heard
        });
        Self(Arc::clone(heard))
    }

    /// Waits for a line that holds all of these.
    #[track_caller]
    pub(crate) fn wait(&self, parts: &[&str]) -> String {
        self.0.until(&format!("a warning with {parts:?}"), |lines| {
            let holds = |line: &&String| parts.iter().all(|part| line.contains(part));
            lines.iter().find(holds).cloned()
        })
    }

    /// The lines that hold this.
    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        let with = |lines: &Vec<String>| {
            let holds = |line: &&String| line.contains(part);
            lines.iter().filter(holds).cloned().collect()
        };
        self.0.look(with)
    }
}

struct Listener(Arc<Watched<Vec<String>>>);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN && metadata.target().starts_with("barrel_quic")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.update(|lines| lines.push(line.0));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Runs a future of an attacker, with the deadline of all waits.
pub(crate) fn in_time<T>(raw: &Raw, future: impl Future<Output = T>) -> T {
    raw.runtime
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .expect("it ended in time")
}
