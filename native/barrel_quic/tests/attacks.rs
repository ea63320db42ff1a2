//! Attackers who know the protocol: in the middle, with a recording, under
//! another's name, or inside.
//!
//! Simpler ones are in `hostile.rs` (strangers, broken rules) and `admission.rs`
//! (nodes that should not be let in); floods are in `flood.rs`.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use barrel_quic::frame::MAX_PACKET;
use barrel_quic::identity::Identity;
use barrel_quic::seam::{Code, OpenError, StreamEnd};
use barrel_quic::trust::{Mode, TrustStore};
use common::attack::{Forged, Tap, Warnings, close_code, framed, in_time, read_framed};
use common::{Event, Node, Plan, Raw, SECRET, TAG, node, noise, settled, trust};
use quinn::VarInt;

fn refused() -> Option<u64> {
    Some(Code::Refused.to_wire())
}

fn plan(name: &str, mode: Mode) -> Plan {
    Plan {
        trust: trust(mode),
        ..Plan::member(name)
    }
}

/// A listener of the attacker, and what `a` makes of dialling `b` there.
fn lured(a: &Node, listener: &quinn::Endpoint) -> common::Opening {
    let (request, tube) = a.request(&node("b@127.0.0.1"), &[listener.local_addr().unwrap()]);
    a.opening(request, tube)
}

// In the middle

/// Two TLS sessions, and the honest hello of the dialler passed from one to the other.
#[test]
fn a_relay_between_two_sessions_gets_nothing_for_honest_hellos() {
    for mode in [Mode::Tofu, Mode::Strict, Mode::Off] {
        let warnings = Warnings::listen();
        let (name_a, name_b) = (format!("a-{}@h", mode.code()), "b@127.0.0.1");
        let (a, b) = (plan(&name_a, mode).start(), plan(name_b, mode).start());
        if mode == Mode::Strict {
            // Not for want of keys.
            a.plan.trust.pin(&b.name(), &b.key()).unwrap();
            b.plan.trust.pin(&a.name(), &a.key()).unwrap();
        }
        let raw = Raw::new();
        let listener = raw.listen();
        let opening = lured(&a, &listener);
        let end = in_time(&raw, async {
            let near = listener.accept().await.unwrap().await.unwrap();
            let far = raw.endpoint.connect(b.address(), "barrel-p2p").unwrap();
            let far = far.await.unwrap();
            let (_near_send, mut near_recv) = near.accept_bi().await.unwrap();
            let hello = read_framed(&mut near_recv).await.unwrap();
            let (mut far_send, mut far_recv) = far.open_bi().await.unwrap();
            far_send.write_all(&framed(&hello)).await.unwrap();
            assert_eq!(
                read_framed(&mut far_recv).await,
                None,
                "no answer to pass back"
            );
            let end = far.closed().await;
            near.close(VarInt::from_u32(3), b"");
            end
        });
        assert_eq!(close_code(&end), refused());
        assert_eq!(
            opening.wait().err(),
            Some(OpenError::RefusedByPeer(Code::Refused))
        );
        for node in [&a, &b] {
            assert!(node.events().is_empty());
            assert!(node.endpoint.links().is_empty());
            assert!(node.recorder.questions.look(Vec::is_empty));
        }
        if mode != Mode::Strict {
            assert_eq!(a.plan.trust.lookup(&b.name()).unwrap(), None);
            assert_eq!(b.plan.trust.lookup(&a.name()).unwrap(), None);
        }
        warnings.wait(&[&name_a, "replay or relay", "127.0.0.1:"]);
        // The nodes themselves find each other.
        a.open(&b).unwrap();
    }
}

/// The same, but the relay puts the exporter of its own session into the hello.
#[test]
fn a_relay_that_adapts_the_hello_breaks_its_signature() {
    let warnings = Warnings::listen();
    let (a, b) = (Node::start("adapted@h"), Node::start("b@127.0.0.1"));
    let raw = Raw::new();
    let listener = raw.listen();
    let opening = lured(&a, &listener);
    let (near, mut hello) = in_time(&raw, async {
        let near = listener.accept().await.unwrap().await.unwrap();
        let (_send, mut recv) = near.accept_bi().await.unwrap();
        let hello = read_framed(&mut recv).await.unwrap();
        (near, hello)
    });
    let far = raw.connect(b.address()).unwrap();
    hello[26..58].copy_from_slice(&barrel_quic::tls::exporter(&far).unwrap());
    assert_eq!(raw.say(&far, &hello).err(), refused());
    near.close(VarInt::from_u32(3), b"");
    assert!(opening.wait().is_err());
    assert!(b.endpoint.links().is_empty());
    warnings.wait(&["adapted@h", "the signature is not by the key shown"]);
}

/// Who answered a dial in place of the node, and was believed.
struct Impostor {
    key: barrel_quic::identity::PublicKey,
    conn: quinn::Connection,
    /// The control stream, and the one that was opened.
    _streams: Option<[(quinn::SendStream, quinn::RecvStream); 2]>,
    _raw: Raw,
}

/// The one in the middle answers the dial itself, under the name that was dialled,
/// with a key of its own.
fn answered_by_an_impostor(a: &Node, secret: &[u8]) -> Result<Impostor, OpenError> {
    let identity = Identity::generate().unwrap();
    let raw = Raw::new();
    let listener = raw.listen();
    let opening = lured(a, &listener);
    let (conn, streams) = in_time(&raw, async {
        let conn = listener.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = conn.accept_bi().await.unwrap();
        read_framed(&mut recv).await.unwrap();
        let answer = Forged::acceptor(&conn, "b@127.0.0.1").sealed(&identity, secret);
        send.write_all(&framed(&answer)).await.unwrap();
        // The dialler opens a stream on the link, or closes it.
        let Ok((mut stream, mut preamble)) = conn.accept_bi().await else {
            return (conn, None);
        };
        preamble.read_exact(&mut [0; 1 + TAG.len()]).await.unwrap();
        stream.write_all(&[0]).await.unwrap();
        (conn, Some([(send, recv), (stream, preamble)]))
    });
    opening.wait().map(|_| Impostor {
        key: identity.public(),
        conn,
        _streams: streams,
        _raw: raw,
    })
}

#[test]
fn an_impostor_without_the_secret_is_refused_also_at_first_contact() {
    for mode in [Mode::Tofu, Mode::Strict, Mode::Off] {
        let a = plan("a@127.0.0.1", mode).start();
        for secret in [b"a guess".as_slice(), b""] {
            assert_eq!(
                answered_by_an_impostor(&a, secret).err(),
                Some(OpenError::RefusedHere(Code::Refused))
            );
        }
        assert!(a.events().is_empty());
        assert!(a.plan.trust.list().unwrap().trusted.is_empty());
    }
}

/// What trust on first use does not promise: whoever holds the secret is believed
/// under a name that nobody has.
#[test]
fn an_impostor_with_the_secret_gets_a_free_name_under_tofu_and_is_found_out_by_its_owner() {
    let warnings = Warnings::listen();
    let a = plan("lured@127.0.0.1", Mode::Tofu).start();
    let impostor = answered_by_an_impostor(&a, SECRET).unwrap();
    let name = node("b@127.0.0.1");
    assert_eq!(a.plan.trust.lookup(&name).unwrap(), Some(impostor.key));
    impostor.conn.close(VarInt::from_u32(0), b"");
    a.wait_links(0);
    // The true node cannot come in, and the log of a says what to look at.
    let b = Node::start("b@127.0.0.1");
    assert_eq!(
        b.open(&a).err(),
        Some(OpenError::RefusedByPeer(Code::ChangedKey))
    );
    warnings.wait(&[
        &b.key().fingerprint(),
        &impostor.key.fingerprint(),
        "delete_key",
    ]);
}

#[test]
fn an_impostor_with_the_secret_is_refused_where_the_true_key_is_known() {
    let b = Identity::generate().unwrap().public();
    for mode in [Mode::Tofu, Mode::Strict] {
        let a = plan("a@127.0.0.1", mode).start();
        a.plan.trust.pin(&node("b@127.0.0.1"), &b).unwrap();
        assert_eq!(
            answered_by_an_impostor(&a, SECRET).err(),
            Some(OpenError::RefusedHere(Code::ChangedKey))
        );
        assert_eq!(a.plan.trust.lookup(&node("b@127.0.0.1")).unwrap(), Some(b));
    }
    let strict = plan("a@127.0.0.1", Mode::Strict).start();
    assert_eq!(
        answered_by_an_impostor(&strict, SECRET).err(),
        Some(OpenError::RefusedHere(Code::UnknownKey))
    );
    assert!(strict.plan.trust.list().unwrap().trusted.is_empty());
}

// Reflection and replay

#[test]
fn a_hello_sent_back_to_its_maker_is_refused() {
    let warnings = Warnings::listen();
    let a = Node::start("mirrored@127.0.0.1");
    let raw = Raw::new();
    let listener = raw.listen();
    let opening = lured(&a, &listener);
    let (near, hello) = in_time(&raw, async {
        let near = listener.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = near.accept_bi().await.unwrap();
        let hello = read_framed(&mut recv).await.unwrap();
        // In its own session, as the answer.
        send.write_all(&framed(&hello)).await.unwrap();
        assert_eq!(close_code(&near.closed().await), refused());
        (near, hello)
    });
    assert_eq!(
        opening.wait().err(),
        Some(OpenError::RefusedHere(Code::Refused))
    );
    warnings.wait(&["mirrored@127.0.0.1", "reflect"]);
    // In another session, as the hello of a dialler.
    let back = raw.connect(a.address()).unwrap();
    assert_eq!(raw.say(&back, &hello).err(), refused());
    assert!(a.events().is_empty());
    drop(near);
}

#[test]
fn recorded_hellos_open_nothing_on_another_connection() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let raw = Raw::new();
    let identity = Identity::generate().unwrap();
    // A whole exchange that was accepted, recorded by one of its ends.
    let conn = raw.connect(b.address()).unwrap();
    let hello = Forged::dialler(&conn, "raw@127.0.0.1", &b).proven(&identity);
    let answer = raw.say(&conn, &hello).unwrap();
    b.up();
    conn.close(VarInt::from_u32(0), b"");
    b.down();
    // The hello, to the same node.
    let again = raw.connect(b.address()).unwrap();
    assert_eq!(raw.say(&again, &hello).err(), refused());
    // The answer, to a node that dials it.
    let listener = raw.listen();
    let opening = lured(&a, &listener);
    in_time(&raw, async {
        let conn = listener.accept().await.unwrap().await.unwrap();
        let (mut send, _recv) = conn.accept_bi().await.unwrap();
        send.write_all(&framed(&answer)).await.unwrap();
        assert_eq!(close_code(&conn.closed().await), refused());
    });
    assert_eq!(
        opening.wait().err(),
        Some(OpenError::RefusedHere(Code::Refused))
    );
    assert!(a.events().is_empty());
    assert!(b.endpoint.links().is_empty());
    assert_eq!(a.plan.trust.lookup(&b.name()).unwrap(), None);
}

#[test]
fn recorded_datagrams_sent_again_open_nothing_and_say_nothing_twice() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let tap = Tap::before(&b);
    let (request, tube) = a.request(&b.name(), &[tap.address]);
    let (near, _) = a.opening(request, tube).wait().unwrap();
    let far = b.accepted();
    for number in 0..20u32 {
        near.send(&number.to_be_bytes());
        assert_eq!(far.recv().unwrap(), number.to_be_bytes());
    }
    // While the link lives.
    let recorded = tap.recorded();
    assert!(recorded.len() > 5, "{} datagrams", recorded.len());
    tap.repeat(&recorded);
    tap.repeat_from_elsewhere(&recorded);
    near.send(b"next");
    assert_eq!(far.recv().unwrap(), b"next");
    assert_eq!(far.channel().stat().received, 21);
    assert_eq!(b.endpoint.links().len(), 1);
    // After its end, to the same process and to the next one of that node.
    a.endpoint.shut_down(common::DEADLINE);
    b.down();
    let recorded = tap.recorded();
    tap.repeat(&recorded);
    tap.repeat_from_elsewhere(&recorded);
    let c = Node::start("c@127.0.0.1");
    let (near, far) = c.pair(&b);
    near.send(b"honest");
    assert_eq!(far.recv().unwrap(), b"honest");
    let ups = |node: &Node| {
        let up = |event: &Event| matches!(event, Event::Up(..));
        node.events().into_iter().filter(up).count()
    };
    assert_eq!(ups(&b), 2, "a once, c once");
    assert_eq!(b.recorder.questions.look(Vec::len), 2);
}

// Proofs, names, versions

#[test]
fn a_proof_without_the_secret_proves_nothing() {
    let warnings = Warnings::listen();
    let unknowing = Plan {
        secret: Vec::new(),
        ..Plan::member("b@127.0.0.1")
    };
    let identity = Identity::generate().unwrap();
    let raw = Raw::new();
    for plan in [Plan::member("b@127.0.0.1"), unknowing] {
        let b = plan.start();
        for secret in [b"".as_slice(), b"\0", b"another"] {
            let conn = raw.connect(b.address()).unwrap();
            let hello = Forged::dialler(&conn, "guesser@h", &b).sealed(&identity, secret);
            assert_eq!(raw.say(&conn, &hello).err(), refused());
        }
        let conn = raw.connect(b.address()).unwrap();
        let mut hello = Forged::dialler(&conn, "guesser@h", &b).proven(&identity);
        let proof = hello.len() - 32;
        hello[proof..].fill(0);
        assert_eq!(raw.say(&conn, &hello).err(), refused());
        // Left out altogether.
        let conn = raw.connect(b.address()).unwrap();
        let hello = Forged::dialler(&conn, "guesser@h", &b).proven(&identity);
        assert_eq!(raw.say(&conn, &hello[..proof]).err(), refused());
        assert!(b.events().is_empty());
        assert!(b.plan.trust.list().unwrap().trusted.is_empty());
    }
    warnings.wait(&["guesser@h", "cluster secret", "127.0.0.1:"]);
}

#[test]
fn a_valid_key_does_not_open_the_name_of_another() {
    let (a, b, c) = (
        Node::start("a@127.0.0.1"),
        Node::start("b@127.0.0.1"),
        Node::start("c@127.0.0.1"),
    );
    let _streams = a.pair(&b);
    let (near, far) = c.pair(&b);
    // The process of a is free to say anything: it claims the name of c.
    let raw = Raw::new();
    let claim = || {
        let conn = raw.connect(b.address()).unwrap();
        let hello = Forged::dialler(&conn, "c@127.0.0.1", &b).proven(&a.plan.identity);
        raw.say(&conn, &hello).err()
    };
    assert_eq!(claim(), Some(Code::ChangedKey.to_wire()));
    near.send(b"untouched");
    assert_eq!(far.recv().unwrap(), b"untouched");
    c.endpoint.shut_down(common::DEADLINE);
    b.wait_links(1);
    assert_eq!(claim(), Some(Code::ChangedKey.to_wire()));
    assert_eq!(b.plan.trust.lookup(&c.name()).unwrap(), Some(c.key()));
    // And a second name for its own key.
    let conn = raw.connect(b.address()).unwrap();
    let hello = Forged::dialler(&conn, "d@127.0.0.1", &b).proven(&a.plan.identity);
    assert_eq!(raw.say(&conn, &hello).err(), Some(Code::Conflict.to_wire()));
    assert_eq!(b.plan.trust.lookup(&node("d@127.0.0.1")).unwrap(), None);
}

/// Everything below a directory, and what its files hold.
fn tree(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.display().to_string());
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

#[test]
fn names_that_are_paths_make_no_file_and_open_nothing() {
    let warnings = Warnings::listen();
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let plan = Plan {
        trust: TrustStore::shared(Some(&keys), Mode::Tofu, 100).unwrap(),
        ..Plan::member("b@127.0.0.1")
    };
    let b = plan.start();
    // An honest pin first, so that the directories are there to be escaped from.
    let raw = Raw::new();
    let link = raw.link(&b, "honest@h", &Identity::generate().unwrap());
    let before = tree(dir.path());
    assert!(before.iter().any(|path| path.ends_with("honest@h.pub")));
    let long = [b"a@".as_slice(), &[b'h'; 253]].concat();
    let names: [&[u8]; 24] = [
        b"../../x@h",
        b"../x@h",
        b"/etc/x@h",
        b"a/b@h",
        b"a@../h",
        b"a@h/../..",
        b"a@..",
        b"a@.",
        b".",
        b"..",
        b"@",
        b"a@",
        b"@h",
        b"",
        b"a@h\0",
        b"a\0b@h",
        b"a@h\n2026 forged line",
        b"a\\b@h",
        b"a@h@h",
        "é@h".as_bytes(),
        "a@h\u{202e}bup".as_bytes(),
        // An overlong slash, a lone surrogate, a byte that is never UTF-8.
        b"a\xc0\xafb@h",
        b"a@\xed\xa0\x80",
        b"a@\xff",
    ];
    for name in names {
        for (client, as_name) in [(0, true), (1, true), (0, false)] {
            let conn = raw.connect(b.address()).unwrap();
            let mut hello = Forged::dialler(&conn, "sneaky@h", &b);
            hello.client = client;
            if as_name {
                hello.name = name.to_vec();
            } else if name.is_empty() {
                continue;
            } else {
                hello.expected = name.to_vec();
            }
            let hello = hello.proven(&Identity::generate().unwrap());
            assert_eq!(raw.say(&conn, &hello).err(), refused(), "{name:?}");
        }
    }
    // It keeps the rules, but no file can have it.
    let conn = raw.connect(b.address()).unwrap();
    let mut hello = Forged::dialler(&conn, "", &b);
    hello.name = long;
    let said = raw.say(&conn, &hello.proven(&Identity::generate().unwrap()));
    assert_eq!(said.err(), Some(Code::TrustStore.to_wire()));
    assert_eq!(tree(dir.path()), before);
    assert_eq!(b.endpoint.links().len(), 1);
    for line in warnings.with("name is refused") {
        assert!(line.chars().all(|char| !char.is_control()), "{line:?}");
    }
    warnings.wait(&["name is refused", "127.0.0.1:"]);
    drop(link);
}

#[test]
fn another_version_of_the_hello_is_refused_and_nobody_falls_back() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let raw = Raw::new();
    for version in [0, 2, 255] {
        let conn = raw.connect(b.address()).unwrap();
        let mut hello = Forged::dialler(&conn, "old@h", &b);
        hello.version = version;
        let hello = hello.proven(&Identity::generate().unwrap());
        assert_eq!(raw.say(&conn, &hello).err(), Some(Code::Version.to_wire()));
    }
    // A dialler that is told so, or answered so, gives up.
    for as_answer in [false, true] {
        let listener = raw.listen();
        let opening = lured(&a, &listener);
        let dials = in_time(&raw, async {
            let conn = listener.accept().await.unwrap().await.unwrap();
            let (mut send, _recv) = conn.accept_bi().await.unwrap();
            if as_answer {
                let mut answer = Forged::acceptor(&conn, "b@127.0.0.1");
                answer.version = 0;
                let answer = answer.proven(&Identity::generate().unwrap());
                send.write_all(&framed(&answer)).await.unwrap();
            } else {
                let version = VarInt::from_u64(Code::Version.to_wire()).unwrap();
                conn.close(version, b"");
            }
            let _ = conn.closed().await;
            let again = tokio::time::timeout(Duration::from_millis(300), listener.accept());
            again.await.is_ok()
        });
        assert!(!dials, "dialled again");
        let expected = if as_answer {
            OpenError::RefusedHere(Code::Version)
        } else {
            OpenError::RefusedByPeer(Code::Version)
        };
        assert_eq!(opening.wait().err(), Some(expected));
    }
}

#[test]
fn what_a_hello_says_of_its_features_cannot_be_changed_on_the_way() {
    let warnings = Warnings::listen();
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let identity = Identity::generate().unwrap();
    // Bits that this version does not know are no reason to refuse.
    let conn = raw.connect(b.address()).unwrap();
    let mut hello = Forged::dialler(&conn, "able@h", &b);
    hello.features = u64::MAX;
    raw.say(&conn, &hello.proven(&identity)).unwrap();
    // Stripped by somebody who knows the secret, and makes the proof again.
    let conn = raw.connect(b.address()).unwrap();
    let mut signed = Forged::dialler(&conn, "stripped@h", &b);
    signed.features = 1;
    let mut bytes = signed.proven(&identity);
    bytes[17..25].fill(0);
    assert_eq!(raw.say(&conn, &bytes).err(), refused());
    warnings.wait(&["stripped@h", "signature"]);
}

#[test]
fn no_version_of_quic_but_the_first_is_offered() {
    let b = Node::start("b@127.0.0.1");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
    // A long header of a version that nobody has (RFC 9000 section 15), padded as
    // a first packet must be.
    let mut initial = vec![0xc0, 0x0a, 0x1a, 0x2a, 0x3a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    initial.resize(1200, 0);
    socket.send_to(&initial, b.address()).unwrap();
    let mut answer = [0; 1500];
    let (len, _) = socket.recv_from(&mut answer).unwrap();
    // Flags, version 0, two connection ids, and then the versions (section 17.2.1).
    assert_eq!(answer[1..5], [0; 4], "a version negotiation");
    let ids = 5 + 1 + usize::from(answer[5]);
    let versions = &answer[ids + 1 + usize::from(answer[ids])..len];
    let offered: Vec<u32> = versions
        .chunks(4)
        .map(|version| u32::from_be_bytes(version.try_into().unwrap()))
        .filter(|version| version & 0x0f0f_0f0f != 0x0a0a_0a0a)
        .collect();
    assert_eq!(offered, [1]);
}

// Inside

#[test]
fn a_peer_that_sends_garbage_ends_its_own_streams_alone() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let raw = Raw::new();
    let (conn, _control_send, _control_recv) =
        raw.link(&b, "raw@127.0.0.1", &Identity::generate().unwrap());
    for round in 0..200u64 {
        let (mut send, _recv) = raw.stream(&conn);
        let victim = b.accepted();
        let mut garbage = noise(round, 4000);
        // The first header is beyond all bounds, or some packets come before it.
        if round % 2 == 0 {
            garbage[0] |= 0x80;
        } else {
            garbage.splice(0..0, [0, 0, 0, 2, 7, 7, 0, 0, 0, 0, 0xff, 0, 0, 0]);
        }
        in_time(&raw, async {
            // It may be stopped before it has sent everything.
            let _ = send.write_all(&garbage).await;
        });
        assert_eq!(victim.ended(), StreamEnd::Protocol("packet too large"));
    }
    near.send(b"untouched");
    assert_eq!(far.recv().unwrap(), b"untouched");
    assert!(conn.close_reason().is_none());
    settled("one stream is left, the honest one", || {
        let streams: usize = b.endpoint.links().iter().map(|link| link.streams).sum();
        (streams == 1).then_some(())
    });
}

#[test]
fn a_packet_cut_short_is_never_delivered() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let (conn, _control_send, _control_recv) =
        raw.link(&b, "raw@127.0.0.1", &Identity::generate().unwrap());
    let announced = (MAX_PACKET as u32).to_be_bytes();
    let cuts: [&[u8]; 5] = [
        &[],
        &[0],
        &[0, 0, 0],
        &[0, 0, 0, 5, 1, 2],
        // The largest that is allowed: nothing is kept ready for it.
        &[&announced, [9; 100].as_slice()].concat(),
    ];
    for cut in cuts {
        for by_reset in [false, true] {
            let (mut send, _recv) = raw.stream(&conn);
            let far = b.accepted();
            in_time(&raw, async {
                send.write_all(&[0, 0, 0, 1, 42]).await.unwrap();
                send.write_all(cut).await.unwrap();
            });
            assert_eq!(far.recv().unwrap(), [42]);
            if by_reset {
                send.reset(VarInt::from_u32(7)).unwrap();
                assert_eq!(far.recv(), Err(StreamEnd::Reset(7)));
            } else {
                send.finish().unwrap();
                assert_eq!(far.recv(), Err(StreamEnd::Finished));
            }
        }
    }
}

#[test]
fn thousands_of_streams_opened_and_abandoned_leave_nothing() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let raw = Raw::new();
    let (conn, _control_send, _control_recv) =
        raw.link(&b, "raw@127.0.0.1", &Identity::generate().unwrap());
    let starts: [&[u8]; 4] = [
        &[4],
        &[4, b't'],
        &[6, b'n', b'o', b'b', b'o', b'd', b'y'],
        b"\x04test\0\0",
    ];
    in_time(&raw, async {
        for round in 0..5000 {
            let (mut send, mut recv) = conn.open_bi().await.unwrap();
            let start = starts[round % starts.len()];
            // It may have been answered, and stopped, already.
            let _ = send.write_all(start).await;
            match round % 3 {
                0 => drop(send.reset(VarInt::from_u32(1))),
                1 => drop(send.finish()),
                _ => drop(recv.stop(VarInt::from_u32(1)).and_then(|()| send.finish())),
            }
        }
    });
    near.send(b"untouched");
    assert_eq!(far.recv().unwrap(), b"untouched");
    settled("one stream is left, the honest one", || {
        let streams: usize = b.endpoint.links().iter().map(|link| link.streams).sum();
        (streams == 1).then_some(())
    });
    // About as many as are allowed (QUIC grants new ones by the dozen), kept open
    // without a word: they are reset in time, and the peer has its streams again.
    let silent = in_time(&raw, async {
        let mut silent = Vec::new();
        for _ in 0..100 {
            let (mut send, recv) = conn.open_bi().await.unwrap();
            send.write_all(&[200]).await.unwrap();
            silent.push((send, recv));
        }
        silent
    });
    let protocol = VarInt::from_u64(Code::Protocol.to_wire()).unwrap();
    in_time(&raw, async {
        for (_send, mut recv) in silent {
            let end = recv.read(&mut [0]).await.unwrap_err();
            assert_eq!(end, quinn::ReadError::Reset(protocol));
        }
    });
    let (_send, _recv) = raw.stream(&conn);
    assert!(conn.close_reason().is_none());
}

#[test]
fn streams_abandoned_by_a_stranger_make_no_room_for_others() {
    let b = Node::start("b@127.0.0.1");
    let raw = Raw::new();
    let conn = raw.connect(b.address()).unwrap();
    let opened = in_time(&raw, async {
        let mut opened = 0;
        let patience = Duration::from_millis(200);
        while let Ok(Ok((mut send, mut recv))) =
            tokio::time::timeout(patience, conn.open_bi()).await
        {
            opened += 1;
            let _ = send.write_all(&[0]).await;
            let _ = send.reset(VarInt::from_u32(1));
            let _ = recv.stop(VarInt::from_u32(1));
            if opened > 1000 {
                break;
            }
        }
        opened
    });
    // The first stream is that of the hello, and its reset ends the connection.
    assert!(opened <= 4, "{opened} streams of a stranger");
    let end = in_time(&raw, conn.closed());
    assert_eq!(close_code(&end), refused());
    assert!(b.events().is_empty());
}

#[test]
fn a_peer_that_announces_streams_it_never_opens_holds_its_own_link_alone() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let (near, far) = a.pair(&b);
    let raw = Raw::new();
    let identity = Arc::new(Identity::generate().unwrap());
    let (conn, mut control, _answers) = raw.link(&b, "raw@127.0.0.1", &identity);
    in_time(&raw, async {
        let drain = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        // Again and again: the last one counts, and none is kept.
        for _ in 0..1000 {
            control.write_all(&drain).await.unwrap();
        }
    });
    near.send(b"untouched");
    assert_eq!(far.recv().unwrap(), b"untouched");
    // A new link of that peer is served as if nothing had been.
    let fresh = raw.link(&b, "raw@127.0.0.1", &identity);
    let (_send, _recv) = raw.stream(&fresh.0);
    b.accepted();
    drop(conn);
}
