//! The hub: what all tasks of one endpoint share. It dials, admits and opens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{ClientConfig, Connection, ConnectionError, RecvStream, SendStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use crate::congestion;
use crate::gate::{Gate, Pressure};
use crate::handshake::{self, Failure, Own};
use crate::hello::{Proven, Role, Secret};
use crate::identity::{Identity, PublicKey};
use crate::link::{Link, end_of};
use crate::links::LinkTable;
use crate::name::{NodeName, PeerName};
use crate::probe;
use crate::repeats::Repeats;
use crate::seam::{
    Code, LinkEnd, LinkId, LinkStats, OpenError, OpenRequest, Peer, SecretRequest, Upper,
};
use crate::stream::Stream;
use crate::tls;
use crate::trust::TrustStore;
use crate::watch::{guarded, watched};

/// Feature bits this version has: none yet.
const FEATURES: u64 = 0;

/// Delay before the next address of a peer is tried beside the ones under way
/// (the Connection Attempt Delay of RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Least time for the goodbyes to leave.
const GOODBYE: Duration = Duration::from_millis(10);

/// How long an open may go unanswered on a link that exists before its peer's
/// port is probed: longer than most round trips, so that few opens probe.
const UNANSWERED: Duration = Duration::from_millis(100);

/// How long a displaced link may take to tell its streams.
const DISPLACE: Duration = Duration::from_secs(1);

pub(crate) struct Hub {
    pub(crate) identity: Arc<Identity>,
    pub(crate) name: PeerName,
    pub(crate) incarnation: u64,
    pub(crate) trust: Arc<TrustStore>,
    pub(crate) handshake_timeout: Duration,
    receive_window: u32,
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) upper: Arc<dyn Upper>,
    /// Guards the configuration of new dials, replaced when the certificate is.
    pub(crate) client: Mutex<ClientConfig>,
    /// Guards the links and the dials under way.
    table: Mutex<Table>,
    /// Guards the memory of what was reported lately.
    reports: Mutex<Repeats>,
    started: Instant,
    closing: AtomicBool,
}

struct Table {
    links: LinkTable,
    live: BTreeMap<LinkId, Arc<Link>>,
    /// The members that are being dialled.
    dials: BTreeMap<NodeName, Dial>,
}

/// A dial under way.
struct Dial {
    addresses: Vec<SocketAddr>,
    waiting: Vec<Waiting>,
}

/// Somebody who waits for a dial.
type Waiting = oneshot::Sender<Result<Arc<Link>, OpenError>>;

/// What the dialler of one link needs.
#[derive(Clone)]
struct Target {
    name: NodeName,
    secret: Secret,
}

impl Hub {
    pub(crate) fn new(
        config: &crate::endpoint::Config,
        quinn: quinn::Endpoint,
        client: ClientConfig,
        upper: Arc<dyn Upper>,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity: Arc::clone(&config.identity),
            name: config.name.clone(),
            incarnation: config.incarnation,
            trust: Arc::clone(&config.trust),
            handshake_timeout: config.handshake_timeout,
            receive_window: config.receive_window,
            quinn,
            upper,
            client: Mutex::new(client),
            table: Mutex::new(Table {
                links: LinkTable::new(config.identity.public()),
                live: BTreeMap::new(),
                dials: BTreeMap::new(),
            }),
            reports: Mutex::new(Repeats::new(Duration::from_secs(60), 256)),
            started: Instant::now(),
            closing: AtomicBool::new(false),
        })
    }

    /// Time since this endpoint started.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn stats(&self) -> Vec<LinkStats> {
        let links: Vec<Arc<Link>> = self.table.lock().live.values().cloned().collect();
        links.iter().map(|link| link.stats()).collect()
    }

    // Opening

    /// Opens a stream over the link to that member, dialling it when there is
    /// none. `started` is told the stream before any of its events.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the stream; a dial under way goes on for
    /// others who wait for it, and its link drains if nobody does.
    pub(crate) async fn open(
        self: &Arc<Self>,
        request: &OpenRequest,
        started: impl Fn(Stream, &Peer),
    ) -> Result<(), OpenError> {
        match timeout(request.timeout, self.open_in_time(request, started)).await {
            Ok(result) => result,
            Err(_) => Err(OpenError::Timeout),
        }
    }

    async fn open_in_time(
        self: &Arc<Self>,
        request: &OpenRequest,
        started: impl Fn(Stream, &Peer),
    ) -> Result<(), OpenError> {
        loop {
            let Some((link, known)) = self.link_to(request).await? else {
                continue;
            };
            let opening = link.open(request.tag, Arc::clone(&request.events), |stream| {
                started(stream, &link.peer)
            });
            let opened = tokio::select! {
                opened = opening => opened,
                () = port_closed(&link), if known => Err(OpenError::Link(LinkEnd::Timeout)),
            };
            match opened {
                // The link was known before and has died: the peer may have
                // been restarted. Or another took its place, or it was given
                // up as idle just now. Only another link can tell.
                Err(OpenError::Link(end)) if known || was_given_up(&end) => {
                    self.table.lock().links.drain(link.id);
                }
                result => return result,
            }
        }
    }

    /// The link to use, and whether it existed before. `None`: ask again.
    async fn link_to(
        self: &Arc<Self>,
        request: &OpenRequest,
    ) -> Result<Option<(Arc<Link>, bool)>, OpenError> {
        let (waiting, untried) = {
            let mut table = self.table.lock();
            if self.closing.load(Ordering::Acquire) {
                return Err(OpenError::Closed);
            }
            if let Some(link) = table.preferred(&request.name) {
                return Ok(Some((link, true)));
            }
            if request.addresses.is_empty() && !table.dials.contains_key(&request.name) {
                return Err(OpenError::NoAddress);
            }
            let (tell, waiting) = oneshot::channel();
            let mut untried = false;
            if let Some(dial) = table.dials.get_mut(&request.name) {
                let mut wanted = request.addresses.iter();
                untried = wanted.any(|one| !dial.addresses.contains(one));
                dial.waiting.push(tell);
            } else {
                let secret = Secret::new(request.secret.clone()).ok_or(OpenError::NoSecret)?;
                let target = Target {
                    name: request.name.clone(),
                    secret,
                };
                let dial = Dial {
                    addresses: request.addresses.clone(),
                    waiting: vec![tell],
                };
                table.dials.insert(request.name.clone(), dial);
                tokio::spawn(Arc::clone(self).dial(target, request.addresses.clone()));
            }
            (waiting, untried)
        };
        match waiting.await {
            Ok(Ok(link)) => Ok(Some((link, false))),
            // Somebody else's dial, to where the peer was before: the addresses
            // of this request are still to be tried.
            Ok(Err(OpenError::Unreachable(_) | OpenError::ClosedPort(_))) if untried => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(OpenError::Closed),
        }
    }

    // Dialling

    /// Dials a member and tells everybody who waits for it.
    async fn dial(self: Arc<Self>, target: Target, addresses: Vec<SocketAddr>) {
        let dialling = timeout(self.handshake_timeout, self.race(&target, &addresses));
        let result = match watched("dial", dialling).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(OpenError::Unreachable(addresses)),
            Err(_) => Err(OpenError::Link(LinkEnd::Panicked)),
        };
        let (dial, link) = {
            let mut table = self.table.lock();
            (
                table.dials.remove(&target.name),
                table.preferred(&target.name),
            )
        };
        // A link that the peer dialled meanwhile serves as well.
        let result = link.map_or(result, Ok);
        for tell in dial.into_iter().flat_map(|dial| dial.waiting) {
            // Whoever gave up waiting does not want to know.
            let _ = tell.send(result.clone());
        }
    }

    /// Tries the addresses side by side, each a little later than the one before.
    ///
    /// Only the connecting is a race. Hellos are exchanged with one at a time, or
    /// a peer with two addresses would get two links of this one dial.
    async fn race(
        self: &Arc<Self>,
        target: &Target,
        addresses: &[SocketAddr],
    ) -> Result<Arc<Link>, OpenError> {
        let mut attempts = JoinSet::new();
        let mut left = addresses.iter();
        let mut worst = OpenError::Unreachable(addresses.to_vec());
        loop {
            if let Some(address) = left.next() {
                let connecting = Arc::clone(self).connect(*address);
                attempts.spawn(watched("connect", connecting));
            }
            let ended = tokio::select! {
                Some(ended) = attempts.join_next() => ended,
                () = sleep(NEXT_ADDRESS), if left.len() > 0 => continue,
                else => return Err(worst),
            };
            let met = match ended {
                Ok(Ok(Ok(conn))) => self.meet(&conn, target).await,
                Ok(Ok(Err(error))) => Err(error),
                Ok(Err(_)) | Err(_) => Err(OpenError::Link(LinkEnd::Panicked)),
            };
            match met {
                Ok(link) => return Ok(link),
                // An answer says more than silence.
                Err(OpenError::Unreachable(_)) => {}
                Err(error) => worst = error,
            }
        }
    }

    /// Connects, up to the end of the TLS handshake.
    async fn connect(self: Arc<Self>, address: SocketAddr) -> Result<Connection, OpenError> {
        let config = self.client.lock().clone();
        let connecting = self
            .quinn
            .connect_with(config, address, tls::SERVER_NAME)
            .map_err(|error| OpenError::Handshake(error.to_string()))?;
        let connected = tokio::select! {
            connected = connecting => connected,
            () = probe::refused(address) => return Err(OpenError::ClosedPort(address)),
        };
        connected.map_err(|error| match error {
            ConnectionError::TimedOut => OpenError::Unreachable(vec![address]),
            ConnectionError::ApplicationClosed(_) => match end_of(&error) {
                LinkEnd::PeerClosed(code) => OpenError::RefusedByPeer(code),
                _ => OpenError::Unreachable(vec![address]),
            },
            other => OpenError::Handshake(other.to_string()),
        })
    }

    /// Makes a link of a fresh connection, or closes it.
    async fn meet(
        self: &Arc<Self>,
        conn: &Connection,
        target: &Target,
    ) -> Result<Arc<Link>, OpenError> {
        self.greet(conn, target).await.map_err(|failure| {
            self.refuse(conn, &failure, Some(&target.name));
            match failure {
                Failure::Ended(LinkEnd::PeerClosed(code)) => OpenError::RefusedByPeer(code),
                Failure::Ended(end) => OpenError::Link(end),
                _ => OpenError::RefusedHere(failure.code()),
            }
        })
    }

    /// The dialler's part of the exchange of hellos.
    async fn greet(
        self: &Arc<Self>,
        conn: &Connection,
        target: &Target,
    ) -> Result<Arc<Link>, Failure> {
        let exporter = handshake::exporter(conn)?;
        let (mut send, mut recv) = conn
            .open_bi()
            .await
            .map_err(|error| Failure::Ended(end_of(&error)))?;
        let own = self.own();
        let hello = own.seal(Role::Dialler, exporter, Some(&target.name), &target.secret);
        handshake::write_hello(&mut send, &hello).await?;
        let answer = handshake::read_hello(&mut recv).await?;
        let verified = own.verify(&answer, Role::Acceptor, &exporter)?;
        let hello = handshake::prove(verified, &target.secret)?;
        hello.check_dialled(&target.name).map_err(|reject| {
            Failure::Rejected(reject, Some((hello.name().clone(), *hello.key())))
        })?;
        let admitted = self.admit(conn, hello, true).await?;
        Ok(self.begin(admitted, (send, recv)))
    }

    // Accepting

    /// Serves an incoming connection up to a link.
    pub(crate) async fn welcome(self: Arc<Self>, connecting: quinn::Connecting) {
        let Ok(Ok(conn)) = timeout(self.handshake_timeout, connecting).await else {
            return; // A scanner, or a peer that gave up: nothing to tell anybody.
        };
        match timeout(self.handshake_timeout, self.receive(&conn)).await {
            Ok(Ok(())) => {}
            Ok(Err(Failure::Ended(end))) => {
                // It gave up before it was judged; it dialled another address
                // too, or it was no peer at all.
                let address = unmapped(conn.remote_address());
                tracing::debug!(%address, reason = %end, "a handshake was given up by the peer");
            }
            Ok(Err(failure)) => self.refuse(&conn, &failure, None),
            Err(_) => self.refuse(&conn, &Failure::Grammar("no hello in time"), None),
        }
    }

    /// The acceptor's part of the exchange of hellos.
    async fn receive(self: &Arc<Self>, conn: &Connection) -> Result<(), Failure> {
        let exporter = handshake::exporter(conn)?;
        let (mut send, mut recv) = conn
            .accept_bi()
            .await
            .map_err(|error| Failure::Ended(end_of(&error)))?;
        let bytes = handshake::read_hello(&mut recv).await?;
        let own = self.own();
        let verified = own.verify(&bytes, Role::Dialler, &exporter)?;
        let secret = self.ask_secret(verified.name()).await?;
        let hello = handshake::prove(verified, &secret)?;
        let admitted = self.admit(conn, hello, false).await?;
        let answer = own.seal(Role::Acceptor, exporter, None, &secret);
        handshake::write_hello(&mut send, &answer).await?;
        self.begin(admitted, (send, recv));
        Ok(())
    }

    async fn ask_secret(&self, name: &PeerName) -> Result<Secret, Failure> {
        let (answer, waiting) = oneshot::channel();
        self.upper.secret(SecretRequest {
            name: name.clone(),
            answer,
        });
        let secret = waiting.await.ok().and_then(Secret::new);
        secret.ok_or_else(|| Failure::NoSecret(name.clone()))
    }

    // Links

    /// Judges a proven peer and gives its link a place.
    ///
    /// # Cancel safety
    /// Dropping the future, or its result, frees the place. Links that were
    /// displaced stay so.
    async fn admit(
        self: &Arc<Self>,
        conn: &Connection,
        hello: Proven,
        dialled: bool,
    ) -> Result<Admitted, Failure> {
        let peer = Peer {
            name: hello.name().clone(),
            key: *hello.key(),
            incarnation: hello.incarnation(),
            address: unmapped(conn.remote_address()),
            dialled,
            features: hello.features() & FEATURES,
        };
        self.ask_trust(&peer).await?;
        let (admitted, displaced) = {
            let mut table = self.table.lock();
            table.refresh(&peer.key);
            let admission = table
                .links
                .admit(&peer)
                .map_err(|refusal| Failure::Table(refusal, peer.name.clone(), peer.key))?;
            let link = Link::new(admission.id, peer, conn.clone());
            table.live.insert(admission.id, Arc::clone(&link));
            let admitted = Admitted {
                hub: Arc::clone(self),
                link: Some(link),
            };
            let displaced: Vec<Arc<Link>> = admission
                .displaced
                .iter()
                .filter_map(|id| table.live.get(id).cloned())
                .collect();
            if let Some(loser) = admission.loser.and_then(|id| table.live.get(&id)) {
                loser.drain();
            }
            (admitted, displaced)
        };
        for old in displaced {
            old.close(Code::Superseded);
            // The streams of the dead incarnation end before any of the new one begins.
            let _ = timeout(DISPLACE, old.wait_gone()).await;
        }
        Ok(admitted)
    }

    /// The trust store is files: asked on a thread that may wait for a disk.
    async fn ask_trust(&self, peer: &Peer) -> Result<(), Failure> {
        let (trust, name, key) = (Arc::clone(&self.trust), peer.name.clone(), peer.key);
        let judge = move || guarded("trust", || trust.admit(&name, &key));
        match tokio::task::spawn_blocking(judge).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(distrust))) => Err(Failure::Distrusted(
                Box::new(distrust),
                peer.name.clone(),
                peer.key,
            )),
            Ok(Err(_)) | Err(_) => Err(Failure::Grammar("the trust store panicked")),
        }
    }

    /// The link is up: tells everybody, and serves it until it ends.
    fn begin(
        self: &Arc<Self>,
        mut admitted: Admitted,
        control: (SendStream, RecvStream),
    ) -> Arc<Link> {
        let link = admitted.link.take().expect("taken once, here");
        let waiting = match &link.peer.name {
            PeerName::Member(name) => {
                let mut table = self.table.lock();
                table
                    .dials
                    .get_mut(name)
                    .map(|dial| std::mem::take(&mut dial.waiting))
                    .unwrap_or_default()
            }
            PeerName::Client(_) => Vec::new(),
        };
        tracing::info!(
            peer = %link.peer.name,
            fingerprint = %link.peer.key.fingerprint(),
            address = %link.peer.address,
            dialled = link.peer.dialled,
            "link up"
        );
        // A panic above is logged; the link itself is sound.
        let _ = guarded("link up", || self.upper.up(link.id, &link.peer));
        link.begin(self.receive_window);
        for tell in waiting {
            // Whoever gave up waiting does not want to know.
            let _ = tell.send(Ok(Arc::clone(&link)));
        }
        let served = Served {
            hub: Arc::clone(self),
            link: Arc::clone(&link),
            end: LinkEnd::Local(Code::Shutdown),
        };
        tokio::spawn(async move {
            let end = served.link.serve(&served.hub.upper, control).await;
            served.tell(end);
        });
        link
    }

    /// The port of whoever is at that address was said to be closed.
    pub(crate) fn port_closed(&self, address: SocketAddr) {
        let address = unmapped(address);
        let links: Vec<Arc<Link>> = {
            let table = self.table.lock();
            let all = table.live.values();
            all.filter(|link| unmapped(link.remote()) == address)
                .cloned()
                .collect()
        };
        for link in links.into_iter().filter(|link| link.refused()) {
            // A panic is logged; the link is as it was.
            tokio::spawn(watched("doubt", async move { link.settle_doubt().await }));
        }
    }

    /// Takes a link out of the table; new streams will not use it.
    fn forget(&self, link: &Link) {
        let mut table = self.table.lock();
        table.links.remove(link.id);
        table.live.remove(&link.id);
    }

    fn own(&self) -> Own<'_> {
        Own {
            identity: &self.identity,
            name: &self.name,
            incarnation: self.incarnation,
            features: FEATURES,
        }
    }

    /// Closes a connection whose peer was not accepted, and says so in the log.
    fn refuse(&self, conn: &Connection, failure: &Failure, dialled: Option<&NodeName>) {
        let code = failure.code();
        let address = unmapped(conn.remote_address());
        congestion::close(conn, crate::link::wire(code), code.as_str().as_bytes());
        let (name, key) = match failure {
            Failure::Rejected(_, claimed) => claimed.clone().unzip(),
            Failure::Distrusted(_, name, key) | Failure::Table(_, name, key) => {
                (Some(name.clone()), Some(*key))
            }
            Failure::NoSecret(name) => (Some(name.clone()), None),
            Failure::Ended(_) | Failure::Grammar(_) => (None, None),
        };
        let name = name
            .map(|name| name.to_string())
            .or_else(|| dialled.map(ToString::to_string))
            .unwrap_or_else(|| "unknown".into());
        let fingerprint = key.map_or_else(|| "unknown".into(), |key| key.fingerprint());
        // The address of a stranger changes at will; it must not make a new report.
        let what = format!("{code} {name} {fingerprint}");
        let Some(suppressed) = self.reports.lock().admit(self.now(), &what) else {
            return;
        };
        // Whoever refused says why by its code.
        let (code, message) = match failure {
            Failure::Ended(LinkEnd::PeerClosed(theirs)) => (*theirs, "a peer refused this node"),
            _ => (code, "a peer was refused"),
        };
        tracing::warn!(
            peer = %name,
            fingerprint = %fingerprint,
            address = %address,
            code = code.as_str(),
            cause = %failure,
            suppressed,
            "{message}"
        );
    }

    /// Says that strangers press at the gate, and who most.
    pub(crate) fn pressed(&self, pressure: Pressure, gate: &Gate) {
        let key = format!("{pressure:?}");
        let Some(suppressed) = self.reports.lock().admit(self.now(), &key) else {
            return;
        };
        let (address, handshakes) = match gate.busiest() {
            Some((address, count)) => (address.to_string(), count),
            None => ("unknown".into(), 0),
        };
        tracing::warn!(
            address,
            handshakes,
            cause = %pressure,
            suppressed,
            "many handshakes at once"
        );
    }

    // The end

    /// Ends everything in good order: streams send what was taken, links say
    /// goodbye. Bounded by `grace`, of which a third is kept for the goodbye.
    pub(crate) async fn shut_down(&self, grace: Duration) {
        let now = tokio::time::Instant::now();
        let links: Vec<Arc<Link>> = {
            let table = self.table.lock();
            self.closing.store(true, Ordering::Release);
            table.live.values().cloned().collect()
        };
        self.quinn.set_server_config(None);
        for link in &links {
            link.finish_streams();
        }
        for link in &links {
            // Whoever does not take its data in time loses it.
            let _ = timeout_at(now + grace * 2 / 3, link.wait_streamless()).await;
        }
        for link in &links {
            link.close(Code::Shutdown);
        }
        // Handshakes under way, and whatever else is left.
        self.quinn
            .close(crate::link::wire(Code::Shutdown), b"shutdown");
        // By then a goodbye that was lost has been repeated. Without any time
        // it would not even be sent.
        let end = (now + grace).max(tokio::time::Instant::now() + GOODBYE);
        let _ = timeout_at(end, self.quinn.wait_idle()).await;
    }

    /// The endpoint is being shut down.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl Table {
    fn preferred(&mut self, name: &NodeName) -> Option<Arc<Link>> {
        let key = self.links.holder(name)?;
        self.refresh(&key);
        self.live.get(&self.links.preferred(name)?).cloned()
    }

    /// Learns which links to a peer are drained: a link may decide this itself,
    /// and so may the peer. Whoever judges must not be behind the facts, or
    /// the two ends would judge by different ones.
    fn refresh(&mut self, key: &PublicKey) {
        for id in self.links.links_of(key).to_vec() {
            if self.live.get(&id).is_some_and(|link| link.is_draining()) {
                self.links.drain(id);
            }
        }
    }
}

/// A link that has its place in the table and is not served yet. If it does not
/// come to that, because its handshake fails or is given up, the place is free
/// again.
struct Admitted {
    hub: Arc<Hub>,
    link: Option<Arc<Link>>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.hub.forget(&link);
            link.end();
        }
    }
}

/// A link that is served. Tells its end, also when its task is dropped with the
/// runtime.
struct Served {
    hub: Arc<Hub>,
    link: Arc<Link>,
    end: LinkEnd,
}

impl Served {
    fn tell(mut self, end: LinkEnd) {
        self.end = end;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let Self { hub, link, end } = self;
        hub.forget(link);
        link.end();
        tracing::info!(peer = %link.peer.name, reason = %end, "link down");
        // A panic in `down` is logged; there is nothing left to close.
        let _ = guarded("link down", || hub.upper.down(link.id, &link.peer, end));
    }
}

/// The link ended because another took its place, or nothing needed it: no
/// reason not to ask for a stream once more.
fn was_given_up(end: &LinkEnd) -> bool {
    matches!(
        end,
        LinkEnd::Local(Code::Drained | Code::Superseded)
            | LinkEnd::PeerClosed(Code::Drained | Code::Superseded)
    )
}

/// Ends when a link that does not answer leads to a closed port: its peer died
/// and, if it was started again, listens elsewhere.
///
/// A forged refusal costs one dial. It leaves the link alone, except that no new
/// streams are opened on it.
async fn port_closed(link: &Link) {
    sleep(UNANSWERED).await;
    probe::refused(unmapped(link.remote())).await;
}

/// An IPv4 address that a dual-stack socket shows as IPv6.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
