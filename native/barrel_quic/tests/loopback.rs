//! Endpoints that talk over loopback: opening, data, ends.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use barrel_quic::channel::{Limits, Sent};
use barrel_quic::seam::{LinkEnd, OpenError, StreamEnd};
use common::{NOBODY, Node, Plan, checksum, node, noise};

#[test]
fn a_stream_carries_packets_both_ways() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    near.send(b"there");
    assert_eq!(far.recv().unwrap(), b"there");
    far.send(b"and back");
    assert_eq!(near.recv().unwrap(), b"and back");
    near.channel().tick();
    assert_eq!(far.recv().unwrap(), b"");
    let ((_, to), (_, from)) = (a.up(), b.up());
    assert_eq!(
        (to.name.member(), to.key, to.dialled),
        (Some(&b.name()), b.key(), true)
    );
    assert_eq!(
        (from.name.member(), from.key, from.dialled),
        (Some(&a.name()), a.key(), false)
    );
    assert_eq!(to.address, b.address());
    assert_eq!(from.address, a.address());
}

#[test]
fn a_second_stream_uses_the_link_that_is_there_in_either_direction() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (_one, _) = a.pair(&b);
    let (_two, _) = a.pair(&b);
    let (_three, _) = b.pair(&a);
    assert_eq!((a.endpoint.links().len(), b.endpoint.links().len()), (1, 1));
    assert_eq!(a.endpoint.links()[0].streams, 3);
    assert_eq!(b.endpoint.links()[0].peer.name.member(), Some(&a.name()));
}

#[test]
fn a_tag_that_nobody_accepts_is_refused_and_the_link_stays() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (mut request, tube) = a.request(&b.name(), &[b.address()]);
    request.tag = NOBODY;
    assert_eq!(
        a.opening(request, tube).wait().err(),
        Some(OpenError::NoAcceptor)
    );
    let (near, far) = a.pair(&b);
    near.send(b"still here");
    assert_eq!(far.recv().unwrap(), b"still here");
    assert_eq!(a.endpoint.links().len(), 1);
}

#[test]
fn without_an_address_or_a_secret_nothing_is_dialled() {
    let a = Node::start("a@127.0.0.1");
    let (request, tube) = a.request(&node("b@127.0.0.1"), &[]);
    assert_eq!(
        a.opening(request, tube).wait().err(),
        Some(OpenError::NoAddress)
    );
    let (mut request, tube) = a.request(&node("b@127.0.0.1"), &[a.address()]);
    request.secret.clear();
    assert_eq!(
        a.opening(request, tube).wait().err(),
        Some(OpenError::NoSecret)
    );
}

#[test]
fn sixty_four_mebibytes_come_back_unchanged() {
    const TOTAL: usize = 64 << 20;
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let echo = far.echo();
    // Of many sizes: ticks, small ones, some of a fragment, some much larger.
    let sizes = [0, 1, 3, 100, 4095, 4096, 65_536, 1_000_000, 7];
    let pattern = noise(7, 1_000_000);
    let near = std::sync::Arc::new(near);
    let sender = {
        let (near, pattern) = (std::sync::Arc::clone(&near), pattern);
        std::thread::spawn(move || {
            let (mut sent, mut sum) = (0, 0);
            for size in sizes.iter().cycle() {
                if sent >= TOTAL {
                    break;
                }
                let packet = &pattern[pattern.len() - size..];
                sum = checksum(sum, &(*size as u32).to_be_bytes());
                sum = checksum(sum, packet);
                near.send(packet);
                sent += size;
            }
            (sent, sum)
        })
    };
    let (mut received, mut sum) = (0, 0);
    while received < TOTAL {
        let packet = near.recv().unwrap();
        received += packet.len();
        sum = checksum(sum, &(packet.len() as u32).to_be_bytes());
        sum = checksum(sum, &packet);
    }
    assert_eq!(sender.join().unwrap(), (received, sum));
    near.close();
    assert_eq!(near.ended(), StreamEnd::Local);
    assert_eq!(echo.join().unwrap(), StreamEnd::Finished);
}

#[test]
fn the_datagram_size_reaches_its_upper_bound_on_loopback() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let _echo = far.echo();
    // Probes travel beside the data, one per round trip. 200 round trips are
    // many times what the search needs.
    let mtu = || a.endpoint.links()[0].mtu;
    for _ in 0..200 {
        if mtu() == 8900 {
            break;
        }
        near.send(&[1; 3000]);
        near.recv().unwrap();
    }
    assert_eq!(mtu(), 8900);
}

#[test]
fn a_reader_that_does_not_come_stops_the_sender_and_bounds_every_queue() {
    let plan = |name| Plan {
        limits: Limits::new(256 << 10, 256 << 10),
        receive_window: 256 << 10,
        ..Plan::member(name)
    };
    let (a, b) = (plan("a@127.0.0.1").start(), plan("b@127.0.0.1").start());
    let (near, far) = a.pair(&b);
    let packet = noise(1, 10_000);
    // Everything between the two: both queues, both windows, the send window.
    let bound = (256 << 10) + (256 << 10) + 4 * (256 << 10) + (4 << 20) + (512 << 10);
    let mut sent = 0u64;
    loop {
        match near.offer(&packet) {
            Sent::Ok => sent += 1,
            Sent::Busy => {
                sent += 1;
                if (sent as usize) * packet.len() > bound {
                    panic!("{sent} packets were taken though nobody reads");
                }
                // Wait for room. There is none any more when a round trip on the
                // same link, behind the same window, moved nothing.
                if !moved(&a, &b, &near) {
                    break;
                }
            }
            Sent::Closed => panic!("closed"),
        }
    }
    assert!(near.channel().stat().queued <= (256 << 10) + packet.len() + 4);
    assert!(far.channel().stat().received < sent);
    // And as soon as somebody reads, everything arrives.
    for _ in 0..sent {
        assert_eq!(far.recv().unwrap(), packet);
    }
    near.send(b"on we go");
    assert_eq!(far.recv().unwrap(), b"on we go");
}

/// Whether the writable bell of a tube rang before ten round trips were over.
fn moved(a: &Node, b: &Node, near: &common::Tube) -> bool {
    let (ping, pong) = a.pair(b);
    for _ in 0..10 {
        if near.is_writable() {
            near.wait_writable();
            return true;
        }
        ping.send(b"ping");
        pong.recv().unwrap();
        pong.send(b"pong");
        ping.recv().unwrap();
    }
    false
}

#[test]
fn a_packet_larger_than_the_inbox_arrives_behind_a_small_one() {
    let small = Limits::new(64 << 10, 64 << 10);
    let (a, b) = (
        Node::start("a@127.0.0.1"),
        Plan {
            limits: small,
            ..Plan::member("b@127.0.0.1")
        }
        .start(),
    );
    let (near, far) = a.pair(&b);
    let large = noise(3, 3 << 20);
    for round in 0..20u8 {
        near.send(&[round; 9]);
        near.send(&large);
        assert_eq!(far.recv().unwrap(), [round; 9]);
        assert!(far.recv().unwrap() == large);
    }
}

#[test]
fn a_closed_stream_delivers_what_was_queued_first() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let packet = noise(5, 50_000);
    for _ in 0..10 {
        near.send(&packet);
    }
    near.close();
    assert_eq!(near.offer(b"too late"), Sent::Closed);
    for _ in 0..10 {
        assert_eq!(far.recv().unwrap(), packet);
    }
    assert_eq!(far.recv().unwrap_err(), StreamEnd::Finished);
    assert_eq!(far.ended(), StreamEnd::Finished);
    assert_eq!(near.ended(), StreamEnd::Local);
    assert_eq!(far.offer(b"nobody reads"), Sent::Closed);
}

#[test]
fn an_owner_can_close_while_its_reader_is_paused() {
    let tiny = Limits::new(64 << 10, 64 << 10);
    let (a, b) = (
        Node::start("a@127.0.0.1"),
        Plan {
            limits: tiny,
            ..Plan::member("b@127.0.0.1")
        }
        .start(),
    );
    let (near, far) = a.pair(&b);
    while near.offer(&[1; 60_000]) == Sent::Ok {}
    far.send(b"last words");
    far.close();
    assert_eq!(far.ended(), StreamEnd::Local);
    assert_eq!(near.recv().unwrap(), b"last words");
    assert_eq!(near.ended(), near.recv().unwrap_err());
}

#[test]
fn streams_close_and_open_again_a_hundred_times() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    for round in 0..100u8 {
        let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let (near, far) = from.pair(to);
        near.send(&[round]);
        assert_eq!(far.recv().unwrap(), [round]);
        // Closed by either end, and opened again at once by either.
        if round % 3 == 0 {
            near.close()
        } else {
            far.close()
        }
    }
    assert_eq!((a.endpoint.links().len(), b.endpoint.links().len()), (1, 1));
}

#[test]
fn a_peer_that_shuts_down_delivers_its_queue_and_says_goodbye() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let packet = noise(5, 300_000);
    while near.offer(&packet) == Sent::Ok {}
    let queued = near.channel().stat().sent;
    let reader = std::thread::spawn(move || {
        let mut packets = 0;
        loop {
            match far.recv() {
                Ok(got) => {
                    assert!(got == packet);
                    packets += 1;
                }
                Err(end) => return (packets, end),
            }
        }
    });
    a.endpoint.shut_down(Duration::from_secs(30));
    assert_eq!(reader.join().unwrap(), (queued, StreamEnd::Finished));
    assert_eq!(b.down(), LinkEnd::PeerShutdown);
    assert_eq!(near.ended(), StreamEnd::Local);
    assert_eq!(a.down(), LinkEnd::Local(barrel_quic::seam::Code::Shutdown));
    a.check_lives();
    b.check_lives();
}

#[test]
fn a_shutdown_without_grace_still_says_goodbye() {
    let a = Node::start("a@127.0.0.1");
    let b = Plan {
        receive_window: 64 << 10,
        limits: Limits::new(64 << 10, 64 << 10),
        ..Plan::member("b@127.0.0.1")
    }
    .start();
    let (near, far) = a.pair(&b);
    // The peer does not read, so the queue cannot be sent in time.
    while near.offer(&[1; 100_000]) == Sent::Ok {}
    a.endpoint.shut_down(Duration::ZERO);
    assert_eq!(b.down(), LinkEnd::PeerShutdown);
    assert_eq!(near.ended(), StreamEnd::Local);
    while far.recv().is_ok() {}
    assert_eq!(far.ended(), StreamEnd::Link(LinkEnd::PeerShutdown));
}

#[test]
fn after_shutting_down_the_port_is_free_and_opens_are_refused() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    for round in 0..20 {
        let plan = Plan {
            port: a.address().port(),
            incarnation: round + 2,
            ..a.plan.clone()
        };
        if round == 0 {
            let (_near, _far) = b.pair(&a);
            a.endpoint.shut_down(Duration::from_secs(5));
            assert_eq!(a.open(&b).err(), Some(OpenError::Closed));
            assert!(a.endpoint.links().is_empty());
        }
        let again = plan.start();
        let (near, far) = again.pair(&b);
        near.send(b"x");
        assert_eq!(far.recv().unwrap(), b"x");
        again.endpoint.shut_down(Duration::from_secs(5));
    }
}

#[test]
fn an_endpoint_dropped_without_a_word_ends_its_streams_here() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, _far) = a.pair(&b);
    let Node {
        endpoint, recorder, ..
    } = a;
    drop(endpoint);
    assert_eq!(near.ended(), StreamEnd::Local);
    recorder.events.until("the link goes down", |events| {
        events
            .iter()
            .any(|event| matches!(event, common::Event::Down(..)))
            .then_some(())
    });
}

#[test]
fn without_hints_a_peer_that_dies_silently_is_noticed_by_the_idle_timeout() {
    let b = Node::start("b@127.0.0.1");
    let quick = Plan {
        icmp_hints: false,
        idle_timeout: Duration::from_millis(500),
        keep_alive: Duration::from_millis(100),
        ..Plan::member("a@127.0.0.1")
    };
    let a = quick.start();
    let (near, _far) = a.pair(&b);
    drop(b.endpoint);
    assert_eq!(near.ended(), StreamEnd::Link(LinkEnd::Timeout));
    assert_eq!(a.down(), LinkEnd::Timeout);
    assert!(a.endpoint.links().is_empty());
}

#[test]
fn a_dial_to_a_port_where_nobody_listens_ends() {
    let quick = Plan {
        idle_timeout: Duration::from_millis(300),
        ..Plan::member("a@127.0.0.1")
    };
    let a = quick.start();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    let (request, tube) = a.request(&node("b@127.0.0.1"), &[address]);
    assert_eq!(
        a.opening(request, tube).wait().err(),
        Some(OpenError::Unreachable(vec![address]))
    );
    assert!(a.endpoint.links().is_empty());
}

#[test]
fn an_open_ends_with_its_time_while_the_dial_goes_on() {
    let a = Node::start("a@127.0.0.1");
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut request, tube) = a.request(&node("b@127.0.0.1"), &[nobody.local_addr().unwrap()]);
    request.timeout = Duration::from_millis(50);
    assert_eq!(
        a.opening(request, tube).wait().err(),
        Some(OpenError::Timeout)
    );
}

#[test]
fn of_several_addresses_the_first_that_answers_is_used() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (request, tube) = a.request(
        &b.name(),
        &[dead.local_addr().unwrap(), b.address(), b.address()],
    );
    let (_near, peer) = a.opening(request, tube).wait().unwrap();
    assert_eq!(peer.address, b.address());
    assert_eq!((a.endpoint.links().len(), b.endpoint.links().len()), (1, 1));
}

#[test]
fn an_open_with_a_new_address_does_not_fail_with_a_dial_to_the_old_one() {
    let plan = Plan {
        idle_timeout: Duration::from_millis(600),
        ..Plan::member("a@127.0.0.1")
    };
    let (a, b) = (plan.start(), Node::start("b@127.0.0.1"));
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = dead.local_addr().unwrap();
    let (request, tube) = a.request(&b.name(), &[dead]);
    let first = a.opening(request, tube);
    let second = a.begin(&b);
    assert_eq!(first.wait().err(), Some(OpenError::Unreachable(vec![dead])));
    assert!(second.wait().is_ok());
}

#[test]
fn many_opens_where_the_peer_was_and_is_all_end_as_they_should() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let closed = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    for _ in 0..20 {
        let (request, tube) = a.request(&b.name(), &[closed]);
        let there = a.opening(request, tube);
        let here = a.begin(&b);
        let (_near, _far) = (here.wait().unwrap(), b.accepted());
        // A link that came to be meanwhile serves that one, too.
        if let Err(error) = there.wait() {
            assert_eq!(error, OpenError::ClosedPort(closed));
        } else {
            b.accepted();
        }
    }
}

#[test]
fn links_work_over_ipv6() {
    let six = |name| Plan {
        ip: Some(Ipv6Addr::LOCALHOST.into()),
        ..Plan::member(name)
    };
    let (a, b) = (six("a@localhost").start(), six("b@localhost").start());
    let (near, far) = a.pair(&b);
    near.send(b"six");
    assert_eq!(far.recv().unwrap(), b"six");
    assert!(b.up().1.address.is_ipv6());
}

#[test]
fn a_dual_stack_endpoint_dials_and_accepts_both_versions() {
    let dual = |name| Plan {
        ip: None,
        ..Plan::member(name)
    };
    let (a, b) = (dual("a@localhost").start(), dual("b@localhost").start());
    let four = Node::start("c@127.0.0.1");
    let (near, far) = a.pair(&four);
    near.send(b"four");
    assert_eq!(far.recv().unwrap(), b"four");
    assert!(four.up().1.address.is_ipv4());
    let (_near, _far) = four.pair(&b);
    // Shown as the IPv4 address that it is.
    assert_eq!(b.up().1.address.ip(), Ipv4Addr::LOCALHOST);
    let six = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), b.address().port());
    let (request, tube) = a.request(&b.name(), &[six]);
    let (_near, peer) = a.opening(request, tube).wait().unwrap();
    assert_eq!(peer.address, six);
}

#[test]
fn an_endpoint_with_two_io_threads_works_the_same() {
    let two = |name| Plan {
        threads: 2,
        ..Plan::member(name)
    };
    let (a, b) = (two("a@127.0.0.1").start(), two("b@127.0.0.1").start());
    let (near, far) = a.pair(&b);
    let _echo = far.echo();
    let packet = noise(2, 200_000);
    for _ in 0..20 {
        near.send(&packet);
        assert!(near.recv().unwrap() == packet);
    }
    a.endpoint.shut_down(Duration::from_secs(5));
    assert_eq!(b.down(), LinkEnd::PeerShutdown);
}

#[test]
fn a_link_that_nothing_uses_is_given_up_and_the_next_open_dials_again() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    near.close();
    far.ended();
    let closed = barrel_quic::seam::Code::Drained;
    assert_eq!(a.down(), LinkEnd::Local(closed));
    assert_eq!(b.down(), LinkEnd::PeerClosed(closed));
    assert_eq!((a.endpoint.links().len(), b.endpoint.links().len()), (0, 0));
    let (near, far) = b.pair(&a);
    near.send(b"again");
    assert_eq!(far.recv().unwrap(), b"again");
    a.check_lives();
}

#[test]
fn a_node_that_stops_in_the_middle_of_a_bulk_transfer_says_goodbye() {
    for _ in 0..10 {
        let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
        let (near, far) = a.pair(&b);
        let reader = std::thread::spawn(move || {
            while far.recv().is_ok() {}
            far.ended()
        });
        let packet = noise(4, 500_000);
        let sender = std::thread::spawn(move || {
            loop {
                match near.offer(&packet) {
                    Sent::Closed => return near.ended(),
                    Sent::Ok | Sent::Busy => {}
                }
            }
        });
        b.up();
        a.endpoint.shut_down(Duration::from_millis(20));
        // The idle timeout is 30 s: whatever the window holds back, this is not.
        assert_eq!(b.down(), LinkEnd::PeerShutdown);
        assert_eq!(sender.join().unwrap(), StreamEnd::Local);
        reader.join().unwrap();
    }
}
