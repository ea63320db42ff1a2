//! Who is let in, which link stays, and what both sides are told.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use barrel_quic::channel::{Limits, Sent};
use barrel_quic::identity::Identity;
use barrel_quic::name::PeerName;
use barrel_quic::seam::{Code, LinkEnd, OpenError, StreamEnd};
use barrel_quic::trust::Mode;
use common::{Event, Node, Plan, SECRET, node, settled, trust};

/// Opens from `a` to `b` under the name `dialled`, and checks that both refuse
/// as they should and that neither keeps anything.
#[track_caller]
fn refused(a: &Node, b: &Node, dialled: &str, expected: OpenError) {
    let (links_a, links_b) = (a.endpoint.links().len(), b.endpoint.links().len());
    let events = (a.events().len(), b.events().len());
    let (request, tube) = a.request(&node(dialled), &[b.address()]);
    assert_eq!(
        a.opening(request, tube).wait().err(),
        Some(expected.clone())
    );
    assert_eq!(a.endpoint.links().len(), links_a, "links of the dialler");
    if !matches!(expected, OpenError::RefusedHere(_)) {
        assert_eq!(b.endpoint.links().len(), links_b, "links of the acceptor");
        assert_eq!(
            (a.events().len(), b.events().len()),
            events,
            "nobody heard of a link"
        );
    }
}

#[test]
fn a_wrong_secret_is_refused_without_a_reason_and_nothing_is_pinned() {
    let a = Plan {
        secret: b"another secret".into(),
        ..Plan::member("a@127.0.0.1")
    }
    .start();
    let b = Node::start("b@127.0.0.1");
    refused(
        &a,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::Refused),
    );
    assert_eq!(b.plan.trust.lookup(&a.name()).unwrap(), None);
    assert_eq!(a.plan.trust.lookup(&b.name()).unwrap(), None);
    assert_eq!(
        b.recorder.questions.look(Clone::clone),
        [PeerName::Member(a.name())],
        "the secret was asked for once"
    );
}

#[test]
fn an_acceptor_without_a_secret_refuses_in_the_same_words() {
    let a = Node::start("a@127.0.0.1");
    let b = Plan {
        secret: Vec::new(),
        ..Plan::member("b@127.0.0.1")
    }
    .start();
    refused(
        &a,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::Refused),
    );
}

#[test]
fn a_node_that_is_not_the_dialled_one_refuses() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    refused(
        &a,
        &b,
        "c@127.0.0.1",
        OpenError::RefusedByPeer(Code::Refused),
    );
    assert!(
        b.recorder.questions.look(Vec::is_empty),
        "no secret was asked for"
    );
    assert_eq!(b.plan.trust.lookup(&a.name()).unwrap(), None);
    // The right name is served as if nothing had been.
    a.open(&b).unwrap();
}

#[test]
fn the_own_key_is_refused() {
    let a = Node::start("a@127.0.0.1");
    let b = Plan {
        identity: Arc::clone(&a.plan.identity),
        ..Plan::member("b@127.0.0.1")
    }
    .start();
    refused(
        &a,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::Refused),
    );
    refused(
        &a,
        &a,
        "a@127.0.0.1",
        OpenError::RefusedByPeer(Code::Refused),
    );
}

#[test]
fn the_own_name_is_refused() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("a@127.0.0.1"));
    refused(
        &a,
        &b,
        "a@127.0.0.1",
        OpenError::RefusedByPeer(Code::Refused),
    );
}

#[test]
fn strict_trust_refuses_a_key_that_was_not_placed() {
    let a = Node::start("a@127.0.0.1");
    let b = Plan {
        trust: trust(Mode::Strict),
        ..Plan::member("b@127.0.0.1")
    }
    .start();
    refused(
        &a,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::UnknownKey),
    );
    b.plan.trust.pin(&a.name(), &a.key()).unwrap();
    a.open(&b).unwrap();
}

#[test]
fn a_strict_dialler_refuses_too_and_the_acceptor_is_told() {
    let a = Plan {
        trust: trust(Mode::Strict),
        ..Plan::member("a@127.0.0.1")
    }
    .start();
    let b = Node::start("b@127.0.0.1");
    refused(
        &a,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedHere(Code::UnknownKey),
    );
    assert_eq!(b.down(), LinkEnd::PeerClosed(Code::UnknownKey));
    assert!(a.events().is_empty());
    b.check_lives();
}

#[test]
fn a_changed_key_is_refused_by_either_side() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let other = Identity::generate().unwrap().public();
    b.plan.trust.pin(&a.name(), &other).unwrap();
    refused(
        &a,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::ChangedKey),
    );
    a.plan.trust.pin(&b.name(), &other).unwrap();
    b.plan.trust.delete(&a.name()).unwrap();
    refused(
        &a,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedHere(Code::ChangedKey),
    );
    assert_eq!(b.down(), LinkEnd::PeerClosed(Code::ChangedKey));
}

#[test]
fn a_name_that_a_live_node_holds_is_refused() {
    let b = Plan {
        trust: trust(Mode::Off),
        ..Plan::member("b@127.0.0.1")
    }
    .start();
    let (first, second) = (Node::start("a@127.0.0.1"), Node::start("a@127.0.0.1"));
    let (near, far) = first.pair(&b);
    refused(
        &second,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::Conflict),
    );
    near.send(b"untouched");
    assert_eq!(far.recv().unwrap(), b"untouched");
    // Once the first has gone the name is free.
    first.endpoint.shut_down(common::DEADLINE);
    b.down();
    second.open(&b).unwrap();
}

#[test]
fn a_key_that_a_live_node_uses_under_another_name_is_refused() {
    let b = Plan {
        trust: trust(Mode::Off),
        ..Plan::member("b@127.0.0.1")
    }
    .start();
    let first = Node::start("a@127.0.0.1");
    let second = Plan {
        identity: Arc::clone(&first.plan.identity),
        ..Plan::member("c@127.0.0.1")
    }
    .start();
    let (_near, far) = first.pair(&b);
    refused(
        &second,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::Conflict),
    );
    assert!(far.is_open());
}

#[test]
fn an_older_incarnation_is_refused() {
    let b = Node::start("b@127.0.0.1");
    let new = Plan {
        incarnation: 7,
        ..Plan::member("a@127.0.0.1")
    }
    .start();
    let old = Plan {
        incarnation: 6,
        ..new.plan.clone()
    }
    .start();
    let (near, far) = new.pair(&b);
    refused(
        &old,
        &b,
        "b@127.0.0.1",
        OpenError::RefusedByPeer(Code::Stale),
    );
    near.send(b"untouched");
    assert_eq!(far.recv().unwrap(), b"untouched");
}

#[test]
fn a_newer_incarnation_takes_the_place_of_the_older_at_once() {
    let b = Node::start("b@127.0.0.1");
    let old = Node::start("a@127.0.0.1");
    let new = Plan {
        incarnation: 2,
        ..old.plan.clone()
    }
    .start();
    let (old_near, old_far) = old.pair(&b);
    let (near, far) = new.pair(&b);
    // The old stream has ended before the new one was accepted.
    assert!(!old_far.is_open());
    assert_eq!(
        old_far.ended(),
        StreamEnd::Link(LinkEnd::Local(Code::Superseded))
    );
    assert_eq!(
        old_near.ended(),
        StreamEnd::Link(LinkEnd::PeerClosed(Code::Superseded))
    );
    assert_eq!(b.down(), LinkEnd::Local(Code::Superseded));
    near.send(b"new");
    assert_eq!(far.recv().unwrap(), b"new");
    assert_eq!(b.endpoint.links().len(), 1);
    b.check_lives();
}

#[test]
fn a_handshake_given_up_after_its_admission_leaves_nothing_behind() {
    // The streams of the old incarnation do not end, because nobody reads them:
    // the handshake of the new one waits for that, longer than it may take.
    let tiny = Limits::new(64 << 10, 64 << 10);
    let b = Plan {
        handshake_timeout: Duration::from_millis(200),
        limits: tiny,
        ..Plan::member("b@127.0.0.1")
    }
    .start();
    let old = Node::start("a@127.0.0.1");
    let (near, far) = old.pair(&b);
    while near.offer(&[1; 60_000]) == Sent::Ok {}
    settled("the reader of b is stopped", || {
        (far.channel().stat().received > 1).then_some(())
    });
    let new = Plan {
        incarnation: 2,
        ..old.plan.clone()
    }
    .start();
    assert_eq!(
        new.open(&b).err(),
        Some(OpenError::RefusedByPeer(Code::Refused))
    );
    b.wait_links(0);
    b.check_lives();
    let (near, far) = new.pair(&b);
    near.send(b"second try");
    assert_eq!(far.recv().unwrap(), b"second try");
}

/// A node that died and was started again on its port: nobody said goodbye.
fn restarted(a: Node) -> Node {
    let port = a.address().port();
    restarted_on(a, port)
}

/// The same on another port; 0 is any.
fn restarted_on(a: Node, port: u16) -> Node {
    let plan = Plan {
        port,
        incarnation: a.plan.incarnation + 1,
        ..a.plan.clone()
    };
    let Node {
        endpoint, recorder, ..
    } = a;
    drop(endpoint);
    // The last one to hold the recorder is the I/O thread that has just ended,
    // after the socket was closed.
    recorder.events.until("the old process is gone", |events| {
        events
            .iter()
            .any(|event| matches!(event, Event::Down(..)))
            .then_some(())
    });
    loop {
        match plan.try_start() {
            Ok(node) => return node,
            Err(barrel_quic::endpoint::StartError::Bind(_)) => std::thread::yield_now(),
            Err(error) => panic!("not started: {error}"),
        }
    }
}

#[test]
fn the_peer_of_a_restarted_node_learns_of_it_from_its_next_packet() {
    for _ in 0..10 {
        let b = Node::start("b@127.0.0.1");
        let a = Node::start("a@127.0.0.1");
        let (_near, far) = a.pair(&b);
        let _a = restarted(a);
        // The idle timeout is 30 s; this says a stateless reset was believed.
        far.send(b"are you there?");
        assert_eq!(far.ended(), StreamEnd::Link(LinkEnd::Reset));
        assert_eq!(b.down(), LinkEnd::Reset);
    }
}

#[test]
fn an_open_to_a_restarted_node_succeeds_at_once() {
    for _ in 0..10 {
        let b = Node::start("b@127.0.0.1");
        let a = Node::start("a@127.0.0.1");
        let (_near, old) = a.pair(&b);
        let a = restarted(a);
        // The old link looks alive still.
        let (near, far) = b.pair(&a);
        assert_eq!(old.ended(), StreamEnd::Link(LinkEnd::Reset));
        near.send(b"welcome back");
        assert_eq!(far.recv().unwrap(), b"welcome back");
    }
}

#[test]
fn an_open_to_a_node_restarted_on_another_port_succeeds_long_before_the_idle_timeout() {
    let b = Node::start("b@127.0.0.1");
    let a = Node::start("a@127.0.0.1");
    let (_near, _old) = a.pair(&b);
    let a = restarted_on(a, 0);
    // The old link looks alive, nobody answers on it, and its idle timeout is longer
    // than an open may take.
    let (near, far) = b.pair(&a);
    near.send(b"so this is where you are");
    assert_eq!(far.recv().unwrap(), b"so this is where you are");
}

#[test]
fn a_restarted_node_can_open_at_once_itself() {
    for _ in 0..10 {
        let b = Node::start("b@127.0.0.1");
        let a = Node::start("a@127.0.0.1");
        let (_near, old) = a.pair(&b);
        let a = restarted(a);
        let (near, far) = a.pair(&b);
        assert!(!old.is_open());
        near.send(b"back");
        assert_eq!(far.recv().unwrap(), b"back");
        b.wait_links(1);
    }
}

#[test]
fn clients_may_share_a_host_and_nobody_dials_them() {
    let b = Node::start("b@127.0.0.1");
    let (one, two) = (
        Plan::client("127.0.0.1").start(),
        Plan::client("127.0.0.1").start(),
    );
    let (near_one, far_one) = one.pair(&b);
    let (near_two, far_two) = two.pair(&b);
    near_one.send(b"one");
    near_two.send(b"two");
    assert_eq!(far_one.recv().unwrap(), b"one");
    assert_eq!(far_two.recv().unwrap(), b"two");
    assert!(b.up().1.name.is_client());
    assert_eq!(b.endpoint.links().len(), 2);
    assert!(
        b.plan.trust.list().unwrap().trusted.is_empty(),
        "clients are not pinned"
    );
    // A client does not listen.
    let quick = Plan {
        idle_timeout: Duration::from_millis(300),
        ..Plan::member("c@127.0.0.1")
    };
    let c = quick.start();
    let (request, tube) = c.request(&node("d@127.0.0.1"), &[one.address()]);
    assert!(matches!(
        c.opening(request, tube).wait(),
        Err(OpenError::Unreachable(_))
    ));
}

#[test]
fn nodes_that_dial_each_other_at_once_keep_one_link_and_every_stream() {
    let mut ties = 0;
    for round in 0..100u64 {
        let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
        let (from_a, from_b) = (a.begin(&b), b.begin(&a));
        let near_a = from_a
            .wait()
            .unwrap_or_else(|error| panic!("round {round}: {error}"))
            .0;
        let near_b = from_b
            .wait()
            .unwrap_or_else(|error| panic!("round {round}: {error}"))
            .0;
        let (far_a, far_b) = (b.accepted(), a.accepted());
        // Both streams work, whichever link they are on.
        near_a.send(&round.to_be_bytes());
        near_b.send(&round.to_be_bytes());
        assert_eq!(far_a.recv().unwrap(), round.to_be_bytes());
        assert_eq!(far_b.recv().unwrap(), round.to_be_bytes());
        // New streams of either side work, whatever is being decided below.
        let (new_a, new_far_a) = a.pair(&b);
        let (new_b, new_far_b) = b.pair(&a);
        for (near, far) in [(&new_a, &new_far_a), (&new_b, &new_far_b)] {
            near.send(b"new");
            assert_eq!(far.recv().unwrap(), b"new");
        }
        for near in [near_a, near_b, new_a, new_b] {
            near.close();
            assert_eq!(near.ended(), StreamEnd::Local);
        }
        // The loser goes with its last stream; one link stays, the same at both ends.
        let only = |node: &Node| match node.endpoint.links().as_slice() {
            [link] if !link.draining => Some(link.peer.dialled),
            _ => None,
        };
        let by_a = settled("one and the same link is left", || {
            let (by_a, by_b) = (only(&a)?, only(&b)?);
            (by_a != by_b).then_some(by_a)
        });
        let (events_a, events_b) = (a.events(), b.events());
        for event in events_a.iter().chain(&events_b) {
            if let Event::Down(.., end) = event {
                let drained = [
                    LinkEnd::Local(Code::Drained),
                    LinkEnd::PeerClosed(Code::Drained),
                ];
                assert!(drained.contains(end), "round {round}: {end}");
            }
        }
        let ups = |events: &[Event]| {
            let up = |event: &&Event| matches!(event, Event::Up(..));
            events.iter().filter(up).count()
        };
        if (ups(&events_a), ups(&events_b)) == (2, 2) {
            ties += 1;
            assert_eq!(by_a, a.key() < b.key(), "the smaller key stays the dialler");
        }
        a.endpoint.shut_down(Duration::ZERO);
        b.endpoint.shut_down(Duration::ZERO);
        a.check_lives();
        b.check_lives();
    }
    assert!(ties > 0, "no round had two links at once");
}

#[test]
fn many_opens_at_once_share_one_dial() {
    let (a, b) = (Node::start("a@127.0.0.1"), Node::start("b@127.0.0.1"));
    let openings: Vec<_> = (0..50).map(|_| a.begin(&b)).collect();
    let tubes: Vec<_> = openings
        .into_iter()
        .map(|opening| opening.wait().unwrap().0)
        .collect();
    assert_eq!(a.endpoint.links().len(), 1);
    assert_eq!(a.endpoint.links()[0].streams, 50);
    for tube in &tubes {
        tube.send(b"x");
    }
    for _ in &tubes {
        assert_eq!(b.accepted().recv().unwrap(), b"x");
    }
    assert_eq!(a.events().len(), 1);
    assert_eq!(a.plan.secret, SECRET);
}
