//! Strangers, and peers that break the protocol.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use barrel_quic::frame::MAX_PACKET;
use barrel_quic::identity::Identity;
use barrel_quic::seam::{Code, LinkEnd, StreamEnd};
use common::{Node, Plan, Raw, noise};
use quinn::{ConnectionError, ReadError, VarInt};

fn application_code(error: &ConnectionError) -> Option<u64> {
    match error {
        ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

#[test]
fn garbage_in_place_of_a_hello_is_refused_without_a_reason() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let hello = |bytes: Vec<u8>| {
        let conn = raw.connect(b.address()).unwrap();
        raw.runtime.block_on(async {
            let (mut send, _recv) = conn.open_bi().await.unwrap();
            send.write_all(&bytes).await.unwrap();
            send.finish().unwrap();
            application_code(&conn.closed().await)
        })
    };
    let refused = Some(Code::Refused.to_wire());
    // Too long, cut short, empty, and of the right length but noise.
    assert_eq!(hello(vec![0xff, 0xff, 0, 0]), refused);
    assert_eq!(hello(vec![0, 200, 1, 2, 3]), refused);
    assert_eq!(hello(vec![0, 0]), refused);
    let mut noisy = vec![0, 250];
    noisy.extend(noise(1, 250));
    assert!(
        matches!(hello(noisy), Some(code) if code == Code::Refused.to_wire() || code == Code::Version.to_wire())
    );
    assert!(b.events().is_empty());
    assert!(b.recorder.questions.look(Vec::is_empty));
    assert!(b.endpoint.links().is_empty());
    let a = Node::start("a@127.0.0.1");
    a.open(&b).unwrap();
}

#[test]
fn a_stream_without_a_tag_is_reset_and_the_link_stays() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let identity = Identity::generate().unwrap();
    let (conn, _control_send, _control_recv) = raw.link(&b, "raw@127.0.0.1", &identity);
    raw.runtime.block_on(async {
        let (mut send, mut recv) = conn.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        let mut answer = [0];
        let error = recv.read(&mut answer).await.unwrap_err();
        let protocol = VarInt::from_u64(Code::Protocol.to_wire()).unwrap();
        assert_eq!(error, ReadError::Reset(protocol));
    });
    let (_send, _recv) = raw.stream(&conn);
    assert_eq!(b.accepted().offer(b"x"), barrel_quic::channel::Sent::Ok);
    assert_eq!(b.endpoint.links().len(), 1);
}

#[test]
fn a_packet_header_over_the_limit_ends_the_stream_with_a_protocol_error() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let identity = Identity::generate().unwrap();
    let (conn, _control_send, _control_recv) = raw.link(&b, "raw@127.0.0.1", &identity);
    let (mut send, mut recv) = raw.stream(&conn);
    let far = b.accepted();
    let protocol = VarInt::from_u64(Code::Protocol.to_wire()).unwrap();
    raw.runtime.block_on(async {
        send.write_all(&[0, 0, 0, 1, 7]).await.unwrap();
        send.write_all(&(MAX_PACKET as u32 + 1).to_be_bytes())
            .await
            .unwrap();
        let mut nothing = [0];
        assert_eq!(
            recv.read(&mut nothing).await.unwrap_err(),
            ReadError::Reset(protocol)
        );
        assert_eq!(send.stopped().await.unwrap(), Some(protocol));
    });
    assert_eq!(far.ended(), StreamEnd::Protocol("packet too large"));
    // The link and its other streams live on.
    let (_send, _recv) = raw.stream(&conn);
    assert!(b.accepted().is_open());
}

#[test]
fn a_broken_control_stream_ends_the_link_with_a_protocol_error() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let protocol = Some(Code::Protocol.to_wire());
    type Control = (quinn::SendStream, quinn::RecvStream);
    let breaks: [fn(&mut Control); 4] = [
        |control| control.0.finish().unwrap(),
        |control| control.0.reset(VarInt::from_u32(3)).unwrap(),
        // The acceptor notices as soon as it has something to say.
        |control| {
            control.1.stop(VarInt::from_u32(3)).unwrap();
        },
        |_| {},
    ];
    for (n, break_it) in breaks.into_iter().enumerate() {
        let identity = Identity::generate().unwrap();
        let name = format!("raw{n}@127.0.0.1");
        let (conn, send, recv) = raw.link(&b, &name, &identity);
        let mut control = (send, recv);
        break_it(&mut control);
        let ended = raw.runtime.block_on(async {
            if n >= 2 {
                // DRAIN without a stream, which is answered; or no message at all.
                let message = if n == 2 {
                    [1, 0, 0, 0, 0, 0, 0, 0, 0]
                } else {
                    [9; 9]
                };
                control.0.write_all(&message).await.unwrap();
            }
            conn.closed().await
        });
        assert_eq!(application_code(&ended), protocol, "break {n}");
    }
    b.wait_links(0);
    b.check_lives();
}

#[test]
fn a_drained_link_waits_for_streams_that_are_still_on_their_way() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let identity = Identity::generate().unwrap();
    let (conn, mut control, mut answers) = raw.link(&b, "raw@127.0.0.1", &identity);
    // Two streams announced, none there yet.
    raw.runtime.block_on(async {
        control
            .write_all(&[1, 0, 0, 0, 0, 0, 0, 0, 2])
            .await
            .unwrap();
        let mut drain = [9; 9];
        answers.read_exact(&mut drain).await.unwrap();
        assert_eq!(
            drain,
            [1, 0, 0, 0, 0, 0, 0, 0, 0],
            "it opened none and says so"
        );
    });
    for _ in 0..2 {
        let (mut send, _recv) = raw.stream(&conn);
        let far = b.accepted();
        raw.runtime.block_on(async {
            send.write_all(&[0, 0, 0, 1, 5]).await.unwrap();
            send.finish().unwrap();
        });
        assert_eq!(far.recv().unwrap(), [5]);
        assert_eq!(far.ended(), StreamEnd::Finished);
    }
    // The dialler closes, not the acceptor.
    assert!(conn.close_reason().is_none());
    conn.close(VarInt::from_u64(Code::Drained.to_wire()).unwrap(), b"");
    assert_eq!(b.down(), LinkEnd::PeerClosed(Code::Drained));
}

#[test]
fn a_dialler_closes_a_drained_link_only_after_every_stream_that_was_announced() {
    let a = Node::start("a@127.0.0.1");
    let raw = Raw::new();
    let listener = raw.listen();
    let identity = Identity::generate().unwrap();
    let (request, tube) = a.request(
        &common::node("raw@127.0.0.1"),
        &[listener.local_addr().unwrap()],
    );
    let opening = a.opening(request, tube);
    let (conn, mut control, mut answers) = raw.accept(&listener, "raw@127.0.0.1", &identity);
    raw.runtime.block_on(async {
        let (mut send, mut recv) = conn.accept_bi().await.unwrap();
        let mut preamble = [0; 5];
        recv.read_exact(&mut preamble).await.unwrap();
        send.write_all(&[0]).await.unwrap();
        // One stream is on its way, it says; and then it ends the other one.
        control
            .write_all(&[1, 0, 0, 0, 0, 0, 0, 0, 1])
            .await
            .unwrap();
        let mut drain = [9; 9];
        answers.read_exact(&mut drain).await.unwrap();
        assert_eq!(drain, [1, 0, 0, 0, 0, 0, 0, 0, 1], "one was opened");
        send.finish().unwrap();
    });
    let (tube, _) = opening.wait().unwrap();
    assert_eq!(tube.ended(), StreamEnd::Finished);
    let (mut send, _recv) = raw.stream(&conn);
    let far = a.accepted();
    raw.runtime.block_on(async {
        send.write_all(&[0, 0, 0, 1, 5]).await.unwrap();
        assert!(conn.close_reason().is_none());
        send.finish().unwrap();
        let ended = conn.closed().await;
        assert_eq!(application_code(&ended), Some(Code::Drained.to_wire()));
    });
    assert_eq!(far.recv().unwrap(), [5]);
    assert_eq!(far.ended(), StreamEnd::Finished);
    assert_eq!(a.down(), LinkEnd::Local(Code::Drained));
}

#[test]
fn a_peer_may_have_only_so_many_links() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let identity = Identity::generate().unwrap();
    // Each link keeps a stream, so that none is drained to its end.
    let held: Vec<_> = (0..20)
        .map(|_| {
            let link = raw.link(&b, "raw@127.0.0.1", &identity);
            let stream = raw.stream(&link.0);
            (link, stream)
        })
        .collect();
    b.wait_links(barrel_quic::links::MAX_PER_PEER);
    let alive = held
        .iter()
        .filter(|(link, _)| link.0.close_reason().is_none())
        .count();
    assert!(alive >= barrel_quic::links::MAX_PER_PEER);
    // The newest is among them.
    assert!(held.last().unwrap().0.0.close_reason().is_none());
}

#[test]
fn three_hundred_silent_handshakes_do_not_keep_an_honest_peer_out() {
    let plan = Plan {
        handshake_timeout: Duration::from_secs(30),
        ..Plan::member("b@127.0.0.1")
    };
    let (a, b) = (Node::start("a@127.0.0.1"), plan.start());
    let raw = Raw::new();
    // TLS is done, and then nothing is said.
    let silent: Vec<_> = (0..300).map(|_| raw.connect(b.address())).collect();
    let connected = silent.iter().filter(|conn| conn.is_ok()).count();
    assert!(
        connected >= barrel_quic::gate::MAX_HANDSHAKES,
        "{connected} connected"
    );
    let (near, far) = a.pair(&b);
    near.send(b"honest");
    assert_eq!(far.recv().unwrap(), b"honest");
    assert!(b.recorder.questions.look(|asked| asked.len() == 1));
    // The oldest were given up for the newer.
    let closed = silent
        .iter()
        .flatten()
        .filter(|conn| conn.close_reason().is_some())
        .count();
    assert!(
        closed >= 300 - barrel_quic::gate::MAX_HANDSHAKES,
        "{closed} were given up"
    );
}

#[test]
fn a_handshake_that_stalls_is_given_up() {
    let plan = Plan {
        handshake_timeout: Duration::from_millis(200),
        ..Plan::member("b@127.0.0.1")
    };
    let b = plan.start();
    let raw = Raw::new();
    let conn = raw.connect(b.address()).unwrap();
    let ended = raw.runtime.block_on(conn.closed());
    assert_eq!(application_code(&ended), Some(Code::Refused.to_wire()));
}

#[test]
fn a_dialler_gives_up_an_acceptor_that_says_nothing() {
    // An endpoint with our TLS that accepts and never speaks.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let material = barrel_quic::certs::ephemeral(std::time::SystemTime::now()).unwrap();
    let crypto = barrel_quic::tls::server_crypto(&material).unwrap();
    let mute = quinn::Endpoint::server(
        quinn::ServerConfig::with_crypto(crypto),
        (std::net::Ipv4Addr::LOCALHOST, 0).into(),
    )
    .unwrap();
    let address = mute.local_addr().unwrap();
    let serving = runtime.spawn(async move {
        let mut held = Vec::new();
        while let Some(incoming) = mute.accept().await {
            held.push(incoming.await);
        }
    });
    let a = Plan {
        handshake_timeout: Duration::from_millis(500),
        ..Plan::member("a@127.0.0.1")
    }
    .start();
    let (request, tube) = a.request(&common::node("b@127.0.0.1"), &[address]);
    assert_eq!(
        a.opening(request, tube).wait().err(),
        Some(barrel_quic::seam::OpenError::Unreachable(vec![address]))
    );
    assert!(a.endpoint.links().is_empty());
    assert!(a.events().is_empty());
    serving.abort();
}

#[test]
fn garbage_datagrams_change_nothing() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..2000u64 {
        let len = (round as usize * 7) % 1500;
        let mut datagram = noise(round, len);
        // Long and short headers, and first packets of every kind of version.
        if let Some(first) = datagram.first_mut() {
            match round % 4 {
                0 => *first |= 0x80,
                1 => *first = 0xc3,
                2 => *first = 0x43,
                _ => {}
            }
        }
        if round % 8 == 1 && len > 20 {
            datagram[1..5].copy_from_slice(&1u32.to_be_bytes());
            datagram[5] = 8;
        }
        // A full buffer drops what it cannot take, as a network does.
        let _ = socket.send_to(&datagram, b.address());
    }
    near.send(b"still here");
    assert_eq!(far.recv().unwrap(), b"still here");
    assert_eq!(b.endpoint.links().len(), 1);
    let c = Node::start("c@127.0.0.1");
    let (near, far) = c.pair(&b);
    near.send(b"and newcomers too");
    assert_eq!(far.recv().unwrap(), b"and newcomers too");
}

#[test]
fn a_stranger_gets_two_streams_and_a_small_window() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let conn = raw.connect(b.address()).unwrap();
    raw.runtime.block_on(async {
        let (mut hello, _unread) = conn.open_bi().await.unwrap();
        hello.write_all(&[0]).await.unwrap();
        let (mut other, _unread) = conn.open_bi().await.unwrap();
        let flood = vec![0; 1 << 20];
        let pouring = async {
            let mut poured = 0;
            while let Ok(Ok(count)) =
                tokio::time::timeout(Duration::from_millis(500), other.write(&flood)).await
            {
                poured += count;
            }
            poured
        };
        assert!(pouring.await <= 16 << 10);
        let third = tokio::time::timeout(Duration::from_millis(100), conn.open_bi());
        assert!(third.await.is_err(), "a stranger opened a third stream");
    });
}
