//! Endpoints on loopback, and what they hear.
//!
//! Nothing here sleeps: everything is awaited as an event, with a deadline that
//! is far beyond what any machine needs.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod attack;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use barrel_quic::certs;
use barrel_quic::channel::{Bell, Channel, Limits, Sent};
use barrel_quic::endpoint::{Config, Congestion, Endpoint, StartError};
use barrel_quic::hello::{Hello, Role, Secret};
use barrel_quic::identity::{Identity, PublicKey};
use barrel_quic::name::{HostName, NodeName, PeerName};
use barrel_quic::seam::{
    LinkEnd, LinkId, OpenError, OpenRequest, Peer, SecretRequest, StreamEnd, StreamEvents, Upper,
};
use barrel_quic::stream::Stream;
use barrel_quic::tls;
use barrel_quic::trust::{Mode, TrustStore};
use parking_lot::{Condvar, Mutex};

/// Longest wait for an event that must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The secret of the cluster.
pub(crate) const SECRET: &[u8] = b"the secret of this cluster";

/// The tag that every node accepts.
pub(crate) const TAG: &[u8] = b"test";

/// The tag that no node accepts.
pub(crate) const NOBODY: &[u8] = b"nobody";

/// A value that can be waited for.
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock());
        self.changed.notify_all();
        result
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.lock())
    }

    /// Waits until `reached` finds something.
    #[track_caller]
    pub(crate) fn until<R>(&self, what: &str, mut reached: impl FnMut(&mut T) -> Option<R>) -> R {
        let deadline = Instant::now() + DEADLINE;
        let mut value = self.value.lock();
        loop {
            if let Some(found) = reached(&mut value) {
                return found;
            }
            let late = self.changed.wait_until(&mut value, deadline).timed_out();
            assert!(!late, "never happened: {what}");
        }
    }
}

/// One end of a channel of packets, with waiting.
pub(crate) struct Tube {
    channel: Arc<Channel<TubeBell>>,
}

#[derive(Clone)]
pub(crate) struct TubeBell(Arc<Watched<Rung>>);

#[derive(Default)]
pub(crate) struct Rung {
    readable: bool,
    writable: bool,
    closed: Option<StreamEnd>,
    /// How often `closed` was told.
    ends: usize,
}

impl Bell for TubeBell {
    fn readable(&self) {
        self.0.update(|rung| rung.readable = true);
    }

    fn writable(&self) {
        self.0.update(|rung| rung.writable = true);
    }

    fn closed(&self, end: &StreamEnd) {
        self.0.update(|rung| {
            rung.closed = Some(end.clone());
            rung.ends += 1;
        });
    }
}

impl Tube {
    fn new(limits: Limits) -> Self {
        let bell = TubeBell(Arc::new(Watched::new(Rung::default())));
        Self {
            channel: Arc::new(Channel::new(bell, limits)),
        }
    }

    pub(crate) fn share(&self) -> Self {
        Self {
            channel: Arc::clone(&self.channel),
        }
    }

    pub(crate) fn channel(&self) -> &Channel<TubeBell> {
        &self.channel
    }

    /// Queues a packet without waiting.
    pub(crate) fn offer(&self, packet: &[u8]) -> Sent {
        self.channel.send(|outbox| {
            outbox.start(packet.len());
            outbox.copy(packet);
            1
        })
    }

    /// Queues a packet; after `busy` waits until there is room again.
    #[track_caller]
    pub(crate) fn send(&self, packet: &[u8]) {
        match self.offer(packet) {
            Sent::Ok => {}
            Sent::Busy => self.wait_writable(),
            Sent::Closed => panic!("sent on a closed stream"),
        }
    }

    #[track_caller]
    pub(crate) fn wait_writable(&self) {
        self.channel.bell().0.until("writable", |rung| {
            assert_eq!(rung.closed, None, "closed instead of writable");
            std::mem::take(&mut rung.writable).then_some(())
        });
    }

    /// Whether the writable bell has rung and was not waited for.
    pub(crate) fn is_writable(&self) -> bool {
        self.channel.bell().0.look(|rung| rung.writable)
    }

    /// The next packet, or the end.
    #[track_caller]
    pub(crate) fn recv(&self) -> Result<Vec<u8>, StreamEnd> {
        loop {
            let mut packet = None;
            self.channel.recv(1, 1, |len, reader| {
                let mut bytes = vec![0; len];
                reader.copy_to(&mut bytes);
                packet = Some(bytes);
            })?;
            if let Some(packet) = packet {
                return Ok(packet);
            }
            self.channel.bell().0.until("readable", |rung| {
                std::mem::take(&mut rung.readable).then_some(())
            });
        }
    }

    /// Waits until the end of the stream was told.
    #[track_caller]
    pub(crate) fn ended(&self) -> StreamEnd {
        let (end, ends) = self.channel.bell().0.until("the end of a stream", |rung| {
            Some((rung.closed.clone()?, rung.ends))
        });
        assert_eq!(ends, 1, "the end was told once");
        end
    }

    pub(crate) fn is_open(&self) -> bool {
        self.channel.bell().0.look(|rung| rung.closed.is_none())
    }

    pub(crate) fn close(&self) {
        self.channel.close();
    }

    /// Sends everything back until the stream ends, on a thread of its own.
    pub(crate) fn echo(self) -> std::thread::JoinHandle<StreamEnd> {
        std::thread::spawn(move || {
            loop {
                match self.recv() {
                    Ok(packet) => self.send(&packet),
                    Err(end) => return end,
                }
            }
        })
    }
}

/// One thing that an endpoint was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Up(LinkId, Peer),
    Down(LinkId, Peer, LinkEnd),
    Failed(String),
}

/// The layer above of one node.
pub(crate) struct Recorder {
    pub(crate) events: Watched<Vec<Event>>,
    incoming: Watched<Vec<(Peer, Tube)>>,
    pub(crate) questions: Watched<Vec<PeerName>>,
    secret: Vec<u8>,
    limits: Limits,
}

impl Upper for Recorder {
    fn secret(&self, request: SecretRequest) {
        self.questions.update(|asked| asked.push(request.name));
        let _ = request.answer.send(self.secret.clone());
    }

    fn incoming(&self, peer: &Peer, tag: &[u8], stream: Stream) -> Option<Arc<dyn StreamEvents>> {
        if tag == NOBODY {
            return None;
        }
        let tube = Tube::new(self.limits);
        tube.channel.attach(stream);
        let events = Arc::clone(&tube.channel);
        self.incoming
            .update(|waiting| waiting.push((peer.clone(), tube)));
        Some(events)
    }

    fn up(&self, link: LinkId, peer: &Peer) {
        self.events
            .update(|events| events.push(Event::Up(link, peer.clone())));
    }

    fn down(&self, link: LinkId, peer: &Peer, end: &LinkEnd) {
        self.events
            .update(|events| events.push(Event::Down(link, peer.clone(), end.clone())));
    }

    fn failed(&self, reason: &str) {
        self.events
            .update(|events| events.push(Event::Failed(reason.into())));
    }
}

/// How a node is to be started.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) name: PeerName,
    pub(crate) identity: Arc<Identity>,
    pub(crate) incarnation: u64,
    pub(crate) secret: Vec<u8>,
    pub(crate) trust: Arc<TrustStore>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) handshake_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) icmp_hints: bool,
    pub(crate) receive_window: u32,
    pub(crate) limits: Limits,
    pub(crate) threads: usize,
}

impl Plan {
    /// A member of that name, on IPv4 loopback and any port.
    pub(crate) fn member(name: &str) -> Self {
        Self {
            name: PeerName::Member(node(name)),
            identity: Arc::new(Identity::generate().unwrap()),
            incarnation: 1,
            secret: SECRET.to_vec(),
            trust: trust(Mode::Tofu),
            ip: Some(Ipv4Addr::LOCALHOST.into()),
            port: 0,
            handshake_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(1),
            // Longer than any pause of a busy machine.
            idle_timeout: Duration::from_secs(30),
            icmp_hints: true,
            receive_window: 4 << 20,
            limits: Limits::new(1 << 20, 4 << 20),
            threads: 1,
        }
    }

    pub(crate) fn client(host: &str) -> Self {
        Self {
            name: PeerName::Client(HostName::parse(host).unwrap()),
            ..Self::member("unused@127.0.0.1")
        }
    }

    pub(crate) fn try_start(&self) -> Result<Node, StartError> {
        let recorder = Arc::new(Recorder {
            events: Watched::new(Vec::new()),
            incoming: Watched::new(Vec::new()),
            questions: Watched::new(Vec::new()),
            secret: self.secret.clone(),
            limits: self.limits,
        });
        let config = Config {
            name: self.name.clone(),
            identity: Arc::clone(&self.identity),
            incarnation: self.incarnation,
            tls: certs::ephemeral(SystemTime::now()).unwrap(),
            cert_dir: None,
            trust: Arc::clone(&self.trust),
            ip: self.ip,
            ports: vec![self.port],
            listen: self.name.member().is_some(),
            handshake_timeout: self.handshake_timeout,
            keep_alive: self.keep_alive,
            idle_timeout: self.idle_timeout,
            icmp_hints: self.icmp_hints,
            send_window: 4 << 20,
            receive_window: self.receive_window,
            max_datagram: 8900,
            congestion: Congestion::Patient,
            threads: self.threads,
        };
        let endpoint = Endpoint::start(config, Arc::clone(&recorder) as _)?;
        Ok(Node {
            endpoint,
            recorder,
            plan: self.clone(),
        })
    }

    pub(crate) fn start(&self) -> Node {
        self.try_start()
            .unwrap_or_else(|error| panic!("not started: {error}"))
    }
}

pub(crate) fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

pub(crate) fn trust(mode: Mode) -> Arc<TrustStore> {
    TrustStore::shared(None, mode, 100).unwrap()
}

/// A running node.
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) plan: Plan,
}

/// An open under way.
pub(crate) struct Opening {
    tube: Tube,
    answer: Arc<Watched<Option<Result<Peer, OpenError>>>>,
}

impl Opening {
    #[track_caller]
    pub(crate) fn wait(self) -> Result<(Tube, Peer), OpenError> {
        let peer = self
            .answer
            .until("the answer to an open", |answer| answer.clone())?;
        Ok((self.tube, peer))
    }
}

impl Node {
    /// A member with that name, in its default plan.
    pub(crate) fn start(name: &str) -> Self {
        Plan::member(name).start()
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.plan.identity.public()
    }

    /// Where others reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        let mut address = self.endpoint.address();
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    }

    pub(crate) fn opening(&self, request: OpenRequest, tube: Tube) -> Opening {
        let answer = Arc::new(Watched::new(None));
        let (started, failed, attached) = (Arc::clone(&answer), Arc::clone(&answer), tube.share());
        self.endpoint.open(
            request,
            move |stream, peer| {
                attached.channel.attach(stream);
                started.update(|answer| *answer = Some(Ok(peer.clone())));
            },
            move |error| failed.update(|answer| *answer = Some(Err(error))),
        );
        Opening { tube, answer }
    }

    pub(crate) fn request(&self, to: &NodeName, addresses: &[SocketAddr]) -> (OpenRequest, Tube) {
        let tube = Tube::new(self.plan.limits);
        let request = OpenRequest {
            name: to.clone(),
            addresses: addresses.to_vec(),
            secret: self.plan.secret.clone(),
            tag: TAG,
            timeout: Duration::from_secs(40),
            events: Arc::clone(&tube.channel) as _,
        };
        (request, tube)
    }

    /// Begins to open a stream to another node of this process.
    pub(crate) fn begin(&self, to: &Node) -> Opening {
        let (request, tube) = self.request(&to.name(), &[to.address()]);
        self.opening(request, tube)
    }

    /// Opens a stream to another node of this process.
    #[track_caller]
    pub(crate) fn open(&self, to: &Node) -> Result<Tube, OpenError> {
        self.begin(to).wait().map(|(tube, _)| tube)
    }

    /// Both ends of a new stream to another node.
    #[track_caller]
    pub(crate) fn pair(&self, to: &Node) -> (Tube, Tube) {
        let near = self.open(to).unwrap();
        (near, to.accepted())
    }

    /// The oldest stream that a peer opened and nobody took yet.
    #[track_caller]
    pub(crate) fn accepted(&self) -> Tube {
        self.recorder
            .incoming
            .until("an incoming stream", |waiting| {
                (!waiting.is_empty()).then(|| waiting.remove(0).1)
            })
    }

    pub(crate) fn name(&self) -> NodeName {
        self.plan.name.member().cloned().expect("a member")
    }

    /// Waits for an event.
    #[track_caller]
    pub(crate) fn heard<R>(&self, what: &str, wanted: impl Fn(&Event) -> Option<R>) -> R {
        self.recorder
            .events
            .until(what, |events| events.iter().find_map(&wanted))
    }

    /// Waits until a link went up, and answers its peer.
    #[track_caller]
    pub(crate) fn up(&self) -> (LinkId, Peer) {
        self.heard("a link goes up", |event| match event {
            Event::Up(id, peer) => Some((*id, peer.clone())),
            _ => None,
        })
    }

    /// Waits until a link went down, and answers why.
    #[track_caller]
    pub(crate) fn down(&self) -> LinkEnd {
        self.heard("a link goes down", |event| match event {
            Event::Down(.., end) => Some(end.clone()),
            _ => None,
        })
    }

    /// Waits until so many links are left.
    #[track_caller]
    pub(crate) fn wait_links(&self, count: usize) {
        self.recorder
            .events
            .until(&format!("{count} links are left"), |_| {
                (self.endpoint.links().len() == count).then_some(())
            });
    }

    /// Every event so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.recorder.events.look(Clone::clone)
    }

    /// Checks that each link that went up went down once, after that.
    #[track_caller]
    pub(crate) fn check_lives(&self) {
        let mut alive = std::collections::BTreeSet::new();
        for event in self.events() {
            match event {
                Event::Up(id, _) => assert!(alive.insert(id), "{id:?} went up twice"),
                Event::Down(id, ..) => assert!(alive.remove(&id), "{id:?} went down, not being up"),
                Event::Failed(reason) => panic!("failed: {reason}"),
            }
        }
        let links = self.endpoint.links().len();
        assert_eq!(
            alive.len(),
            links,
            "links up and not down, against links known"
        );
    }
}

/// A QUIC client that is no node: it does what no endpoint would do.
pub(crate) struct Raw {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) endpoint: quinn::Endpoint,
}

impl Raw {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            let material = certs::ephemeral(SystemTime::now()).unwrap();
            let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            endpoint.set_default_client_config(quinn::ClientConfig::new(
                tls::client_crypto(&material).unwrap(),
            ));
            endpoint
        };
        Self { runtime, endpoint }
    }

    /// A connection without a hello.
    pub(crate) fn connect(
        &self,
        to: SocketAddr,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        self.runtime.block_on(async {
            let connecting = self.endpoint.connect(to, tls::SERVER_NAME).unwrap();
            connecting.await
        })
    }

    /// A connection whose hello was accepted, with its control stream.
    pub(crate) fn link(
        &self,
        to: &Node,
        name: &str,
        identity: &Identity,
    ) -> (quinn::Connection, quinn::SendStream, quinn::RecvStream) {
        let conn = self.connect(to.address()).unwrap();
        let hello = Hello {
            features: 0,
            role: Role::Dialler,
            exporter: tls::exporter(&conn).unwrap(),
            incarnation: 1,
            name: PeerName::Member(node(name)),
            expected: Some(to.name()),
        };
        let hello = hello.seal(identity, &Secret::new(SECRET).unwrap());
        self.runtime.block_on(async {
            let (mut send, mut recv) = conn.open_bi().await.unwrap();
            send.write_all(&(hello.len() as u16).to_be_bytes())
                .await
                .unwrap();
            send.write_all(&hello).await.unwrap();
            let mut len = [0; 2];
            recv.read_exact(&mut len).await.unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
            recv.read_exact(&mut answer).await.unwrap();
            (conn, send, recv)
        })
    }

    /// An endpoint that accepts as a node would, one connection.
    pub(crate) fn listen(&self) -> quinn::Endpoint {
        let _inside = self.runtime.enter();
        let material = certs::ephemeral(SystemTime::now()).unwrap();
        let crypto = tls::server_crypto(&material).unwrap();
        quinn::Endpoint::server(
            quinn::ServerConfig::with_crypto(crypto),
            (Ipv4Addr::LOCALHOST, 0).into(),
        )
        .unwrap()
    }

    /// Accepts the next connection and answers its hello.
    pub(crate) fn accept(
        &self,
        listener: &quinn::Endpoint,
        name: &str,
        identity: &Identity,
    ) -> (quinn::Connection, quinn::SendStream, quinn::RecvStream) {
        self.runtime.block_on(async {
            let conn = listener.accept().await.unwrap().await.unwrap();
            let (mut send, mut recv) = conn.accept_bi().await.unwrap();
            let mut len = [0; 2];
            recv.read_exact(&mut len).await.unwrap();
            let mut hello = vec![0; usize::from(u16::from_be_bytes(len))];
            recv.read_exact(&mut hello).await.unwrap();
            let answer = Hello {
                features: 0,
                role: Role::Acceptor,
                exporter: tls::exporter(&conn).unwrap(),
                incarnation: 1,
                name: PeerName::Member(node(name)),
                expected: None,
            };
            let answer = answer.seal(identity, &Secret::new(SECRET).unwrap());
            send.write_all(&(answer.len() as u16).to_be_bytes())
                .await
                .unwrap();
            send.write_all(&answer).await.unwrap();
            (conn, send, recv)
        })
    }

    /// A stream with its preamble sent and accepted.
    pub(crate) fn stream(
        &self,
        conn: &quinn::Connection,
    ) -> (quinn::SendStream, quinn::RecvStream) {
        self.runtime.block_on(async {
            let (mut send, mut recv) = conn.open_bi().await.unwrap();
            send.write_all(&[TAG.len() as u8]).await.unwrap();
            send.write_all(TAG).await.unwrap();
            let mut answer = [9];
            recv.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [0], "accepted");
            (send, recv)
        })
    }
}

/// Waits for a state that nobody announces, such as a figure of a link: looks
/// again and again, at most every millisecond.
#[track_caller]
pub(crate) fn settled<R>(what: &str, mut look: impl FnMut() -> Option<R>) -> R {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never so: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Bytes that look random, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

/// A checksum that feels every byte and its place.
pub(crate) fn checksum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
