//! Peers whose port is said to be closed: the dead ones are noticed, the living
//! ones are left alone.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barrel_quic::seam::{Code, LinkEnd, StreamEnd};
use common::{Node, Plan, Tube, settled};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What a host says of a peer's process that is gone: only the end of the socket,
/// no goodbye.
fn kill(node: Node) {
    drop(node.endpoint);
}

/// A node that keeps its links alive at a pace for tests, and gives none up for
/// silence.
fn attentive(name: &str) -> Node {
    Plan {
        keep_alive: Duration::from_millis(100),
        ..Plan::member(name)
    }
    .start()
}

fn unanswered(tube: &Tube) {
    let end = LinkEnd::Local(Code::Unanswered);
    assert_eq!(tube.ended(), StreamEnd::Link(end));
}

#[test]
fn a_peer_that_dies_silently_is_noticed_by_its_closed_port() {
    let (a, b) = (attentive("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, _far) = a.pair(&b);
    kill(b);
    // The idle timeout is 30 s.
    unanswered(&near);
    assert_eq!(a.down(), LinkEnd::Local(Code::Unanswered));
    assert!(a.endpoint.links().is_empty());
}

#[test]
fn a_peer_that_dies_under_full_load_is_noticed_too() {
    let (a, b) = (attentive("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let echo = far.echo();
    let block = common::noise(1, 100_000);
    let queued = (0..100).take_while(|_| near.offer(&block) == barrel_quic::channel::Sent::Ok);
    assert!(queued.count() > 0);
    kill(b);
    unanswered(&near);
    assert!(echo.join().is_ok());
}

#[test]
fn a_peer_over_ipv6_and_one_over_a_dual_stack_socket_are_noticed() {
    let both = Plan {
        ip: None,
        keep_alive: Duration::from_millis(100),
        ..Plan::member("a@127.0.0.1")
    };
    let a = both.start();
    let v4 = Node::start("b@127.0.0.1");
    let (near, _far) = a.pair(&v4);
    kill(v4);
    unanswered(&near);
    let plan = Plan {
        ip: Some(std::net::Ipv6Addr::LOCALHOST.into()),
        ..Plan::member("c@127.0.0.1")
    };
    let Ok(v6) = plan.try_start() else {
        return; // no IPv6 on this host
    };
    let (near, _far) = a.pair(&v6);
    kill(v6);
    unanswered(&near);
}

#[test]
fn what_is_said_of_a_dead_peer_costs_the_living_nothing() {
    let a = attentive("a@127.0.0.1");
    let (dying, living) = (Node::start("b@127.0.0.1"), Node::start("c@127.0.0.1"));
    let (to_dying, _gone) = a.pair(&dying);
    let (to_living, far) = a.pair(&living);
    let echo = far.echo();
    kill(dying);
    // Every datagram for the dead peer leaves an error behind for the next call.
    let block = common::noise(2, 1000);
    while to_dying.is_open() {
        to_dying.offer(&block);
        to_living.send(&block);
        assert_eq!(to_living.recv().unwrap(), block);
    }
    unanswered(&to_dying);
    let lost: Vec<u64> = a.endpoint.links().iter().map(|l| l.lost_packets).collect();
    assert_eq!(lost, [0]);
    to_living.close();
    assert!(echo.join().is_ok());
}

/// Sends *port unreachable* as the host of `peer` would about a datagram from
/// `victim`. Needs the right to open raw sockets; `None` without it.
struct Forger(Socket);

impl Forger {
    fn new() -> Option<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).ok()?;
        Some(Self(socket))
    }

    fn refuse(&self, victim: SocketAddr, peer: SocketAddr, quote: &[u8]) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (victim, peer) else {
            panic!("IPv4 only");
        };
        let mut ip = [0; 20];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(28 + quote.len() as u16).to_be_bytes());
        ip[8] = 64;
        ip[9] = 17;
        ip[12..16].copy_from_slice(&from.ip().octets());
        ip[16..20].copy_from_slice(&to.ip().octets());
        let mut udp = [0; 8];
        udp[0..2].copy_from_slice(&from.port().to_be_bytes());
        udp[2..4].copy_from_slice(&to.port().to_be_bytes());
        udp[4..6].copy_from_slice(&(8 + quote.len() as u16).to_be_bytes());
        let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0], &ip[..], &udp[..], quote].concat();
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let target = SockAddr::from(SocketAddr::V4(from));
        self.0.send_to(&message, &target).unwrap();
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Keeps all processors busy until dropped.
struct Overload(Arc<AtomicBool>);

impl Overload {
    fn new(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
        }
        Self(stop)
    }
}

impl Drop for Overload {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody on the path: passes datagrams on, loses 3 of 100, and sees them all.
struct Eavesdropper {
    address: SocketAddr,
    /// The latest datagram of whoever dialled.
    latest: Arc<Mutex<Vec<u8>>>,
}

impl Eavesdropper {
    fn before(peer: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let latest = Arc::new(Mutex::new(Vec::new()));
        let path = Self {
            address: socket.local_addr().unwrap(),
            latest: Arc::clone(&latest),
        };
        std::thread::spawn(move || {
            let (mut buffer, mut dialler) = ([0; 65_536], peer);
            for chance in common::noise(u64::from(peer.port()), 1 << 20)
                .iter()
                .cycle()
            {
                // An answer to itself that a port is closed fails the next call.
                let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let datagram = &buffer[..len];
                let to = if from == peer { dialler } else { peer };
                if from != peer {
                    dialler = from;
                    *latest.lock() = datagram.to_vec();
                }
                if *chance >= 8 {
                    let _ = socket.send_to(datagram, to);
                }
            }
        });
        path
    }
}

fn doubts(node: &Node) -> Vec<u64> {
    let links = node.endpoint.links();
    links.iter().map(|link| link.doubts).collect()
}

#[test]
fn refusals_by_somebody_who_sees_no_packet_are_not_even_heard() {
    let Some(forger) = Forger::new() else {
        return; // not allowed to open raw sockets
    };
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let echo = far.echo();
    // It can name everything that is in the clear, and send faster than anybody reads.
    for quote in [&[][..], &[0x40; 24], &[0; 500]] {
        for n in 0..10_000 {
            forger.refuse(a.address(), b.address(), quote);
            if n % 100 == 0 {
                near.send(b"still there?");
                assert_eq!(near.recv().unwrap(), b"still there?");
            }
        }
    }
    assert_eq!(doubts(&a), [0]);
    near.close();
    assert!(echo.join().is_ok());
}

/// Under twice as much work as the machine can do, and with loss, each of five
/// peers is said to be gone over and over, by somebody who quotes its packets.
#[test]
fn refusals_by_somebody_on_the_path_end_no_link_of_a_living_peer() {
    let Some(forger) = Forger::new() else {
        return; // not allowed to open raw sockets
    };
    let full = std::env::var("BARREL_P2P_PROVE").is_ok_and(|set| set == "full");
    let rounds = if full { 200 } else { 10 };
    let a = Node::start("a@127.0.0.1");
    let peers: Vec<Node> = (0..5)
        .map(|n| Node::start(&format!("b{n}@127.0.0.1")))
        .collect();
    let mut paths = Vec::new();
    let mut tubes = Vec::new();
    for peer in &peers {
        let path = Eavesdropper::before(peer.address());
        let (request, tube) = a.request(&peer.name(), &[path.address]);
        a.opening(request, tube.share()).wait().unwrap();
        tubes.push((tube, peer.accepted()));
        paths.push(path);
    }
    let _overload = Overload::new(4);
    for round in 1..=rounds {
        settled("each peer was asked", || {
            for path in &paths {
                let latest = path.latest.lock();
                forger.refuse(a.address(), path.address, &latest[..latest.len().min(100)]);
            }
            // Time for those that are in doubt.
            std::thread::park_timeout(Duration::from_millis(10));
            let now = doubts(&a);
            assert_eq!(now.len(), peers.len(), "round {round}");
            now.iter().all(|&doubts| doubts >= round).then_some(())
        });
    }
    assert!(
        tubes
            .iter()
            .all(|(near, far)| near.is_open() && far.is_open())
    );
}
