//! The UDP socket under quinn: one per endpoint, for both IP versions.
//!
//! It is our own [`AsyncUdpSocket`] for five reasons.
//!
//! * **The segment clamp.** quinn fills up to ten datagrams into one
//!   segmentation-offload send. Ten datagrams of 8900 bytes exceed what one
//!   UDP send can carry (65507 bytes of payload); the kernel refuses the call
//!   and every datagram in it is lost. The socket therefore answers
//!   `max_transmit_segments` with what fits at the datagram size in use, and
//!   splits a transmit that is too large all the same.
//! * **Receive buffers.** quinn sizes them as largest datagram x segments x
//!   batch. The kernel never coalesces more than 64 KiB, so the socket claims
//!   only as many segments as 64 KiB hold at the largest datagram size: 2 MiB
//!   of buffer instead of 18 MiB.
//! * **Bursts.** It joins transmits of small datagrams (`burst`):
//!   a tenth to a sixth less processor time for bulk at 1452 bytes, where a call
//!   carries ten datagrams else.
//! * **Closed ports.** It collects what ICMP says of datagrams that were sent
//!   (`errqueue`), and keeps what is said of one peer from failing the
//!   send to another.
//! * It is the place for accounting.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::burst::{Burst, Joined};
use crate::errqueue::{self, Report};
use crate::quotes::Quotes;

/// Largest UDP payload of one send call: 65535 less the IPv4 and UDP headers.
pub(crate) const MAX_SEND: usize = 65_507;

/// Socket buffers asked for, bytes. The default of Linux (208 KiB) costs a
/// fifth of the bulk throughput on loopback.
const BUFFER: usize = 4 << 20;

/// Closed ports kept until somebody asks for them; those above are forgotten.
const MAX_REPORTS: usize = 64;

/// Calls in a row that fail before receiving is given up, or, when it is for what
/// ICMP said, before others have their turn.
const MAX_FAILURES: usize = 64;

/// Calls of one send that may fail for what ICMP said. Somebody who floods this
/// socket with forged messages makes the next call fail again and again.
const MAX_TRIES: usize = 4;

/// Reports taken at once.
const REPORTS: usize = 256;

/// See [`Writable`].
const FULL: Duration = Duration::from_millis(1);

/// A bound socket, not yet registered with a runtime.
pub struct Bound {
    socket: std::net::UdpSocket,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Bytes of the smaller socket buffer, when the system gave less than asked.
    pub small_buffer: Option<usize>,
}

/// Binds the first port of `ports` that is free. `ip` `None` is every address
/// of both IP versions, on one socket.
///
/// # Errors
/// The error of the last port tried, with the address in its text.
pub fn bind(ip: Option<IpAddr>, ports: &[u16]) -> Result<Bound, BindError> {
    let mut last = BindError {
        address: None,
        cause: io::Error::other("no port was given"),
        others: Vec::new(),
    };
    for (tried, &port) in ports.iter().enumerate() {
        match bind_one(ip, port) {
            Ok(bound) => return Ok(bound),
            Err(error) => {
                last = BindError {
                    others: ports[..tried].to_vec(),
                    ..error
                }
            }
        }
    }
    Err(last)
}

/// A socket that could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// What was tried last.
    pub address: Option<SocketAddr>,
    /// What the system said.
    pub cause: io::Error,
    /// The ports tried before it.
    pub others: Vec<u16>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "cannot bind UDP {address}: {}", self.cause)?,
            None => write!(f, "cannot bind: {}", self.cause)?,
        }
        match self.others.as_slice() {
            [] => Ok(()),
            [one] => write!(f, "; nor port {one}"),
            [first, .., last] => write!(f, "; nor the ports {first} to {last} before it"),
        }
    }
}

fn bind_one(ip: Option<IpAddr>, port: u16) -> Result<Bound, BindError> {
    let candidates: &[IpAddr] = match &ip {
        Some(ip) => std::slice::from_ref(ip),
        // A host without IPv6 refuses the first; the second is the same less IPv6.
        None => &[
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ],
    };
    let mut last = None;
    for candidate in candidates {
        let address = SocketAddr::new(*candidate, port);
        match open(address, ip.is_none()) {
            Ok(bound) => return Ok(bound),
            Err(cause) => {
                let taken = cause.kind() == io::ErrorKind::AddrInUse;
                last = Some(BindError {
                    address: Some(address),
                    cause,
                    others: Vec::new(),
                });
                if taken {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or(BindError {
        address: None,
        cause: io::Error::other("no address"),
        others: Vec::new(),
    }))
}

fn open(address: SocketAddr, dual: bool) -> io::Result<Bound> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let small_buffer = enlarge_buffers(&SockRef::from(&socket));
    let socket = std::net::UdpSocket::from(socket);
    let address = socket.local_addr()?;
    Ok(Bound {
        socket,
        address,
        small_buffer,
    })
}

/// Answers the size in use when it is smaller than asked for. Linux doubles
/// what is set, and clamps it silently to `net.core.rmem_max`.
fn enlarge_buffers(socket: &SockRef<'_>) -> Option<usize> {
    // A refusal leaves the old size, which the reading below shows.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    let got = socket
        .recv_buffer_size()
        .unwrap_or(0)
        .min(socket.send_buffer_size().unwrap_or(0));
    (got < BUFFER).then_some(got)
}

/// The registered socket.
pub struct EndpointSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    /// Largest datagram this endpoint sends or receives.
    max_datagram: usize,
    /// Size of the segments of the latest multi-datagram send.
    segment: AtomicUsize,
    counters: Counters,
    /// Guards the datagrams held back, and their order.
    burst: Mutex<Burst>,
    /// There are some.
    holding: Notify,
    /// The latest send found the socket full.
    full: AtomicBool,
    /// What reports are believed by; `None` when there are none.
    quotes: Option<Quotes>,
    /// Guards the closed ports that nobody asked for yet.
    reports: Mutex<VecDeque<SocketAddr>>,
    /// There are new ones.
    reported: Notify,
}

/// What went through the socket. Relaxed counters: each is exact, no two are
/// a consistent pair.
#[derive(Debug, Default)]
pub struct Counters {
    /// Send calls.
    pub sends: AtomicU64,
    /// Bytes sent.
    pub sent_bytes: AtomicU64,
    /// Bytes received.
    pub received_bytes: AtomicU64,
}

impl EndpointSocket {
    /// Registers the socket with the current tokio runtime. With `hints` it
    /// hears of closed ports, where the system can tell.
    ///
    /// # Errors
    /// What the system says when the socket options are refused.
    pub fn new(bound: Bound, max_datagram: u16, hints: bool) -> io::Result<Self> {
        if hints && let Err(cause) = errqueue::ask(&bound.socket, bound.address) {
            tracing::info!(%cause, "the system does not report closed ports");
        }
        Ok(Self {
            state: UdpSocketState::new((&bound.socket).into())?,
            io: tokio::net::UdpSocket::from_std(bound.socket)?,
            max_datagram: usize::from(max_datagram),
            segment: AtomicUsize::new(usize::from(max_datagram)),
            counters: Counters::default(),
            burst: Mutex::default(),
            holding: Notify::new(),
            full: AtomicBool::new(false),
            quotes: hints.then(Quotes::new),
            reports: Mutex::default(),
            reported: Notify::new(),
        })
    }

    /// Waits for the next peer whose port was said to be closed by somebody who
    /// saw what was sent there, oldest first. For one caller at a time.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn port_closed(&self) -> SocketAddr {
        loop {
            if let Some(address) = self.reports.lock().pop_front() {
                return address;
            }
            let heard = tokio::select! {
                () = self.reported.notified() => Ok(()),
                heard = self.io.async_io(Interest::ERROR, || self.take_report()) => heard,
            };
            if heard.is_err() {
                // The runtime ends.
                return std::future::pending().await;
            }
        }
    }

    /// Takes one report from the system.
    fn take_report(&self) -> io::Result<()> {
        if let Report::PortClosed(address, quote) = errqueue::next(&self.io)?
            && self.quotes.as_ref().is_some_and(|sent| sent.knows(&quote))
        {
            let mut reports = self.reports.lock();
            if reports.len() < MAX_REPORTS {
                reports.push_back(address);
            }
        }
        Ok(())
    }

    /// Takes all of them, so that no later call fails for one. Whether there were any.
    fn take_reports(&self) -> bool {
        let taken = (0..REPORTS)
            .take_while(|_| self.take_report().is_ok())
            .count();
        self.reported.notify_one();
        taken > 0
    }

    /// The traffic counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Segmentation offload in use: datagrams per send call.
    pub fn gso_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends a transmit of any size.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(segment) = transmit.segment_size else {
            return self.send_one(transmit);
        };
        self.segment.store(segment, Ordering::Relaxed);
        if transmit.contents.len() <= MAX_SEND {
            return self.send_one(transmit);
        }
        // The datagram size has just grown. When the socket fills up half way
        // quinn sends the whole again; the receiver drops the duplicates.
        for contents in transmit
            .contents
            .chunks(segments_that_fit(segment) * segment)
        {
            let segment_size = (contents.len() > segment).then_some(segment);
            self.send_one(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents,
                segment_size,
                src_ip: transmit.src_ip,
            })?;
        }
        Ok(())
    }

    /// Sends what is held back, if anything is.
    fn send_burst(&self, burst: &mut Burst) -> io::Result<()> {
        if let Some(transmit) = burst.transmit() {
            self.send(&transmit)?;
            burst.clear();
        }
        Ok(())
    }

    /// Sends what was held back and not joined by more. Never ends.
    pub(crate) async fn send_held(&self) {
        loop {
            self.holding.notified().await;
            // The connection that began the burst may go on with it first.
            tokio::task::yield_now().await;
            while self.send_burst(&mut self.burst.lock()).is_err() {
                if self.writable().await.is_err() {
                    return; // the runtime ends
                }
            }
        }
    }

    fn send_one(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(quotes) = &self.quotes {
            // First: the answer may be there within the call.
            quotes.sent(transmit.contents, transmit.segment_size);
        }
        let sent = self
            .io
            .try_io(Interest::WRITABLE, || self.send_again(transmit));
        let full = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.full.store(full, Ordering::Relaxed);
        sent?;
        self.counters.sends.fetch_add(1, Ordering::Relaxed);
        self.counters
            .sent_bytes
            .fetch_add(transmit.contents.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// A send may fail for what was reported of an earlier one, to anybody. An error
    /// of its own is logged, and QUIC repeats what was lost.
    fn send_again(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        for _ in 1..MAX_TRIES {
            match self.state.try_send((&self.io).into(), transmit) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    if !self.take_reports() {
                        break;
                    }
                }
                sent => return sent,
            }
        }
        self.state.send((&self.io).into(), transmit)
    }

    fn note_received(&self, meta: &[RecvMeta]) {
        let bytes: usize = meta.iter().map(|m| m.len).sum();
        self.counters
            .received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl fmt::Debug for EndpointSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSocket")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl EndpointSocket {
    async fn writable(&self) -> io::Result<()> {
        let ready = self.io.ready(Interest::WRITABLE).await?;
        if ready.is_write_closed() && self.full.load(Ordering::Relaxed) {
            sleep(FULL).await;
        }
        Ok(())
    }
}

/// How many segments of this size one send call can carry.
fn segments_that_fit(segment: usize) -> usize {
    (MAX_SEND / segment.max(1)).max(1)
}

impl AsyncUdpSocket for EndpointSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut burst = self.burst.lock();
        match burst.join(transmit) {
            Joined::Held => {
                self.holding.notify_one();
                Ok(())
            }
            Joined::Complete => {
                if self.send_burst(&mut burst).is_err() {
                    // It was taken all the same.
                    self.holding.notify_one();
                }
                Ok(())
            }
            Joined::Apart => {
                self.send_burst(&mut burst)?;
                drop(burst);
                self.send(transmit)
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut failures = 0;
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), bufs, meta)
            });
            match received {
                Ok(count) => {
                    self.note_received(&meta[..count]);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    failures += 1;
                    // Of a datagram that was sent: told, and over.
                    let told = self.take_reports();
                    if failures >= MAX_FAILURES && told {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    } else if failures >= MAX_FAILURES {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        let fit = segments_that_fit(self.segment.load(Ordering::Relaxed));
        self.state.max_gso_segments().min(fit)
    }

    fn max_receive_segments(&self) -> usize {
        self.state
            .gro_segments()
            .min(segments_that_fit(self.max_datagram) + 1)
    }
}

/// Waits until the socket takes a datagram again. Every connection has its own:
/// `poll_send_ready` of tokio would keep only the waker of the last one asking.
///
/// A socket that ever had an error is *closed for writing* to tokio, and writable
/// at any time. Then a full one is tried again after [`FULL`].
struct Writable {
    socket: Arc<EndpointSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(async move { socket.writable().await }));
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_datagram_leaves_room_for_few_segments() {
        assert_eq!(segments_that_fit(8900), 7);
        assert_eq!(segments_that_fit(1452), 45);
        assert_eq!(segments_that_fit(0), MAX_SEND);
        assert!(segments_that_fit(8900) * 8900 <= MAX_SEND);
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let first = bind(Some(Ipv4Addr::LOCALHOST.into()), &[0]).unwrap();
        let taken = first.address.port();
        let second = bind(Some(Ipv4Addr::LOCALHOST.into()), &[taken, 0]).unwrap();
        assert_ne!(second.address.port(), taken);
    }

    #[test]
    fn a_taken_port_alone_is_an_error_that_names_it() {
        let first = bind(Some(Ipv4Addr::LOCALHOST.into()), &[0]).unwrap();
        let Err(error) = bind(Some(Ipv4Addr::LOCALHOST.into()), &[first.address.port()]) else {
            panic!("bound twice");
        };
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first.address.to_string()));
        let second = bind(Some(Ipv4Addr::LOCALHOST.into()), &[0]).unwrap();
        let range = [first.address.port(), second.address.port()];
        let Err(error) = bind(Some(Ipv4Addr::LOCALHOST.into()), &range) else {
            panic!("bound twice");
        };
        assert!(
            error
                .to_string()
                .ends_with(&format!("nor port {}", range[0]))
        );
    }

    #[tokio::test]
    async fn datagrams_held_back_arrive_in_order_whatever_follows() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let bound = bind(Some(Ipv4Addr::LOCALHOST.into()), &[0]).unwrap();
        let socket = Arc::new(EndpointSocket::new(bound, 8900, true).unwrap());
        if socket.gso_segments() < 2 {
            return; // no offload here: quinn never joins datagrams
        }
        let holder = Arc::clone(&socket);
        let held = tokio::spawn(async move { holder.send_held().await });
        socket.io.writable().await.unwrap();
        let contents: Vec<u8> = (0..10 * 1200).map(|n| (n / 1200) as u8).collect();
        // Full ones alone; full ones and a short one; many full ones.
        for lengths in [&[12_000][..], &[12_000, 12_000, 3_700], &[12_000; 7]] {
            for len in lengths {
                let transmit = Transmit {
                    destination: receiver.local_addr().unwrap(),
                    ecn: None,
                    contents: &contents[..*len],
                    segment_size: Some(1200),
                    src_ip: None,
                };
                socket.try_send(&transmit).unwrap();
            }
            // Their turn to be sent.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let mut datagram = [0; 2000];
            for len in lengths {
                for (n, part) in contents[..*len].chunks(1200).enumerate() {
                    let got = receiver.recv(&mut datagram).unwrap();
                    assert_eq!((got, usize::from(datagram[0])), (part.len(), n));
                }
            }
        }
        held.abort();
    }

    #[tokio::test]
    async fn a_transmit_over_the_limit_of_one_send_is_split_and_nothing_is_lost() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let bound = bind(Some(Ipv4Addr::LOCALHOST.into()), &[0]).unwrap();
        let socket = EndpointSocket::new(bound, 8900, true).unwrap();
        if socket.gso_segments() < 2 {
            return; // no offload here: quinn never joins datagrams
        }
        let contents: Vec<u8> = (0..10 * 8900).map(|n| (n / 8900) as u8).collect();
        let transmit = Transmit {
            destination: receiver.local_addr().unwrap(),
            ecn: None,
            contents: &contents,
            segment_size: Some(8900),
            src_ip: None,
        };
        socket.io.writable().await.unwrap();
        socket.try_send(&transmit).unwrap();
        let mut datagram = [0; 65536];
        for n in 0..10u8 {
            let len = receiver.recv(&mut datagram).unwrap();
            assert_eq!((len, datagram[0]), (8900, n));
        }
        assert_eq!(socket.max_transmit_segments(), 7.min(socket.gso_segments()));
    }
}
