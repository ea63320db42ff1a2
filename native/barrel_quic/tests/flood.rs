//! Floods: from many addresses, under many names, in many words. Nothing grows
//! without bound, an honest node comes in meanwhile, and the log stays short.
//!
//! How long the honest node took is printed, not judged.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barrel_quic::gate::MAX_HANDSHAKES;
use barrel_quic::identity::Identity;
use barrel_quic::repeats::BUDGET;
use barrel_quic::seam::{Code, OpenError};
use barrel_quic::trust::{Mode, TrustStore};
use common::attack::{Forged, Warnings, close_code, framed, from};
use common::{Node, Plan, Raw, Watched, settled};

/// First packets, which are cheap to make.
const FLOOD: usize = 2000;

/// Handshakes up to the hello. Real nodes meet more of them, in a suite of their own.
const HALF_OPEN: usize = 600;

/// A node that is to be flooded, and told apart in the log by its address.
fn victim(name: &str, last: u8) -> Plan {
    Plan {
        ip: Some(Ipv4Addr::new(127, 0, 0, last).into()),
        handshake_timeout: Duration::from_secs(30),
        ..Plan::member(name)
    }
}

/// An honest node opens a stream and uses it; answers how long that took.
fn honest(b: &Node, name: &str) -> Duration {
    // However busy the machine is with everything else.
    let patient = Plan {
        handshake_timeout: common::DEADLINE,
        ..Plan::member(name)
    };
    let c = patient.start();
    let started = Instant::now();
    let (near, far) = c.pair(b);
    near.send(b"honest");
    assert_eq!(far.recv().unwrap(), b"honest");
    let took = started.elapsed();
    c.endpoint.shut_down(common::DEADLINE);
    b.wait_links(0);
    took
}

/// Dials with all of a crowd at once; `each` is done with every connection that
/// comes about, and what it answers is kept. Some may never be answered.
fn dial<T, F>(
    raw: &Raw,
    count: usize,
    each: impl Fn(usize, quinn::Connection) -> F + Send + Sync + 'static,
) -> Arc<Watched<Vec<T>>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let done = Arc::new(Watched::new(Vec::new()));
    let each = Arc::new(each);
    let _inside = raw.runtime.enter();
    for n in 0..count {
        let connecting = raw.endpoint.connect(from(n), "barrel-p2p").unwrap();
        let (done, each) = (Arc::clone(&done), Arc::clone(&each));
        raw.runtime.spawn(async move {
            if let Ok(conn) = connecting.await {
                let result = each(n, conn).await;
                done.update(|done| done.push(result));
            }
        });
    }
    done
}

#[test]
fn two_thousand_first_packets_from_as_many_addresses_cost_nearly_nothing() {
    let b = victim("b@127.0.0.1", 21).start();
    println!("before: {:?}", honest(&b, "calm@127.0.0.1"));
    let raw = Raw::crowd(b.address(), true);
    let flood: Vec<_> = {
        let _inside = raw.runtime.enter();
        (0..FLOOD)
            .map(|n| raw.endpoint.connect(from(n), "barrel-p2p").unwrap())
            .collect()
    };
    println!("meanwhile: {:?}", honest(&b, "honest@127.0.0.1"));
    assert_eq!(flood.len(), FLOOD);
    assert!(b.recorder.questions.look(|asked| asked.len() == 2));
    println!("still: {:?}", honest(&b, "again@127.0.0.1"));
}

#[test]
fn hundreds_of_half_open_handshakes_from_as_many_addresses_do_not_keep_an_honest_node_out() {
    let warnings = Warnings::listen();
    let b = victim("b@127.0.0.1", 22).start();
    println!("before: {:?}", honest(&b, "calm@127.0.0.1"));
    let raw = Raw::crowd(b.address(), false);
    // TLS is done, from an address that is proven, and then nothing is said.
    let held = dial(&raw, HALF_OPEN, |_, conn| async { conn });
    held.until("the gate is full, and more", |held| {
        (held.len() > MAX_HANDSHAKES).then_some(())
    });
    println!("meanwhile: {:?}", honest(&b, "honest@127.0.0.1"));
    held.until("most of the flood got through TLS", |held| {
        (held.len() > HALF_OPEN / 2).then_some(())
    });
    settled("all but the newest were given up", || {
        let open = |conn: &&quinn::Connection| conn.close_reason().is_none();
        let open = held.look(|held| held.iter().filter(open).count());
        // A goodbye may be lost in such a crowd, and is not repeated for long.
        (open <= MAX_HANDSHAKES + MAX_HANDSHAKES / 8).then_some(())
    });
    println!("after: {:?}", honest(&b, "again@127.0.0.1"));
    assert!(b.recorder.questions.look(|asked| asked.len() == 3));
    // One line for each kind, with an address of the crowd.
    warnings.wait(&["the oldest are given up", "address=\"127.64."]);
    // Each kind once, for each node that is flooded in this process.
    assert!(warnings.with("many handshakes at once").len() <= 4 * 3);
}

#[test]
fn a_flood_of_pins_fills_the_store_to_its_bound_and_known_nodes_still_come_in() {
    const PINS: usize = 40;
    let warnings = Warnings::listen();
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        trust: TrustStore::shared(Some(dir.path()), Mode::Tofu, PINS).unwrap(),
        ..victim("pinned@127.0.0.1", 23)
    };
    let b = plan.start();
    let known = Node::start("known@127.0.0.1");
    let _known = known.pair(&b);
    // Fresh keys under fresh names, by somebody who holds the secret.
    let raw = Raw::new();
    let mut refused = 0;
    for n in 0..200 {
        let conn = raw.connect(b.address()).unwrap();
        let hello = Forged::dialler(&conn, &format!("fresh{n}@h"), &b);
        match raw.say(&conn, &hello.proven(&Identity::generate().unwrap())) {
            Ok(_) => conn.close(0u32.into(), b""),
            Err(code) => {
                assert_eq!(code, Code::TrustStore.to_wire());
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 200 - (PINS - 1));
    let files = std::fs::read_dir(dir.path().join("trusted")).unwrap();
    let pins = files.filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".pub")
    });
    assert_eq!(pins.count(), PINS);
    b.wait_links(1);
    let (near, far) = known.pair(&b);
    near.send(b"known");
    assert_eq!(far.recv().unwrap(), b"known");
    assert_eq!(
        Node::start("newcomer@127.0.0.1").open(&b).err(),
        Some(OpenError::RefusedByPeer(Code::TrustStore))
    );
    warnings.wait(&["fresh", "max_pins", "address="]);
    assert!(warnings.with("max_pins").len() <= BUDGET as usize);
}

#[test]
fn hundreds_of_refused_peers_of_as_many_names_and_keys_are_few_lines() {
    let warnings = Warnings::listen();
    let b = victim("loud@127.0.0.1", 24).start();
    let raw = Raw::crowd(b.address(), false);
    let name = b.name();
    let refused = dial(&raw, 120, move |n, conn| {
        let hello = Forged::dialling(&conn, &format!("liar{n}@h"), name.as_str());
        let hello = hello.sealed(&Identity::generate().unwrap(), b"a guess");
        async move {
            if let Ok((mut send, _recv)) = conn.open_bi().await {
                // It may have been given up for newer ones already.
                let _ = send.write_all(&framed(&hello)).await;
                let _ = conn.closed().await;
            }
            close_code(&conn.closed().await) == Some(Code::Refused.to_wire())
        }
    });
    refused.until("more were refused than are reported", |refused| {
        let count = refused.iter().filter(|refused| **refused).count();
        (count > 2 * BUDGET as usize).then_some(())
    });
    let lines = warnings.with("liar");
    assert!(
        (1..=BUDGET as usize).contains(&lines.len()),
        "{} lines",
        lines.len()
    );
    assert!(
        lines[0].contains("address=127.64.") && lines[0].contains("cluster secret"),
        "{}",
        lines[0]
    );
    println!("honest: {:?}", honest(&b, "honest@127.0.0.1"));
}
