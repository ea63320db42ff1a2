//! Attacks on a running node, for `ct/attacks_SUITE`.
//!
//! ```text
//! attack deaf      ADDRESS COUNT               first packets from as many addresses, and no more
//! attack half-open ADDRESS COUNT               TLS from as many addresses, and no word after it
//! attack liars     ADDRESS NODE COUNT          as many names and keys, and a wrong secret
//! attack pins      ADDRESS NODE SECRET COUNT   as many names and keys, and the right one
//! attack garbage   ADDRESS NODE SECRET COUNT   admitted: as many dist streams of garbage
//! attack streams   ADDRESS NODE SECRET COUNT   admitted: as many streams abandoned
//! attack relay     ADDRESS                     passes hellos on between two TLS sessions
//! ```
//!
//! Says on its output what happens, a line each, and goes on until it reads a line, or its input ends.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::SocketAddr;

use barrel_quic::identity::Identity;
use common::attack::{Forged, close_code, framed, from, read_framed};
use common::{Raw, noise};

const DIST: &[u8] = b"\x0fbarrel_p2p:dist";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [attack, address, rest @ ..] = arguments.as_slice() else {
        panic!("which attack, and on whom?");
    };
    let address: SocketAddr = address.parse().unwrap();
    let count = rest.last().map_or(0, |count| count.parse().unwrap_or(0));
    match (*attack, rest) {
        ("deaf", _) => deaf(address, count),
        ("half-open", _) => half_open(address, count),
        ("liars", [node, _]) => {
            names(&Target::new(address, node, "a guess"), "liar", count);
        }
        ("pins", [node, secret, _]) => {
            names(&Target::new(address, node, secret), "fresh", count);
        }
        ("garbage", [node, secret, _]) => garbage(&Target::new(address, node, secret), count),
        ("streams", [node, secret, _]) => streams(&Target::new(address, node, secret), count),
        ("relay", []) => relay(address),
        _ => panic!("no such attack: {attack} {rest:?}"),
    }
}

/// Whom to say hello to.
struct Target<'a> {
    address: SocketAddr,
    node: &'a str,
    secret: &'a str,
}

impl<'a> Target<'a> {
    fn new(address: SocketAddr, node: &'a str, secret: &'a str) -> Self {
        Self {
            address,
            node,
            secret,
        }
    }

    fn hello(&self, conn: &quinn::Connection, name: &str) -> Vec<u8> {
        let identity = Identity::generate().unwrap();
        Forged::dialling(conn, name, self.node).sealed(&identity, self.secret.as_bytes())
    }
}

fn wait_for_the_end() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn deaf(address: SocketAddr, count: usize) {
    let raw = Raw::crowd(address, true);
    let _inside = raw.runtime.enter();
    let flood: Vec<_> = (0..count)
        .map(|n| raw.endpoint.connect(from(n), "barrel-p2p").unwrap())
        .collect();
    println!("sent {}", flood.len());
    wait_for_the_end();
}

fn half_open(address: SocketAddr, count: usize) {
    let raw = Raw::crowd(address, false);
    let held = raw.runtime.block_on(async {
        let dials: Vec<_> = (0..count)
            .map(|n| raw.endpoint.connect(from(n), "barrel-p2p").unwrap())
            .map(|connecting| tokio::spawn(async { connecting.await.ok() }))
            .collect();
        println!("begun {count}");
        let mut held = Vec::new();
        for dial in dials {
            held.extend(dial.await.unwrap());
        }
        held
    });
    println!("held {}", held.len());
    wait_for_the_end();
    let closed = held.iter().filter(|conn| conn.close_reason().is_some());
    println!("closed {}", closed.count());
}

/// Each name and each key once. Only an answer counts as an admission.
fn names(target: &Target<'_>, name: &str, count: usize) {
    let raw = Raw::new();
    let admitted = raw.runtime.block_on(async {
        let mut admitted = 0;
        for n in 0..count {
            let connecting = raw.endpoint.connect(target.address, "barrel-p2p").unwrap();
            let Ok(conn) = connecting.await else { continue };
            let hello = target.hello(&conn, &format!("{name}{n}@attacker"));
            let Ok((mut send, mut recv)) = conn.open_bi().await else {
                continue;
            };
            let _ = send.write_all(&framed(&hello)).await;
            admitted += usize::from(read_framed(&mut recv).await.is_some());
            conn.close(0u32.into(), b"");
        }
        admitted
    });
    println!("admitted {admitted}");
    wait_for_the_end();
}

fn garbage(target: &Target<'_>, count: usize) {
    let raw = Raw::new();
    raw.runtime.block_on(async {
        let (conn, _control) = admitted(&raw, target).await;
        for n in 0..count {
            let (mut send, mut recv) = conn.open_bi().await.unwrap();
            send.write_all(DIST).await.unwrap();
            let mut packet = noise(n as u64, 1 + n * 7 % 300);
            // What a handshake of OTP begins with, or anything.
            packet[0] = b"Nnsra\x83"[n % 6];
            let header = match n % 4 {
                0 => u32::MAX,
                1 => 300_000,
                _ => packet.len() as u32,
            };
            // It may be reset before everything is sent.
            let _ = send.write_all(&header.to_be_bytes()).await;
            let _ = send.write_all(&packet).await;
            if n % 2 == 0 {
                let _ = send.finish();
            }
            if n % 4 != 1 {
                // Its end; those that wait for more keep it waiting.
                while let Ok(Some(_)) = recv.read(&mut [0; 1024]).await {}
            }
        }
        println!("sent {count}");
        wait_for_the_end();
    });
}

fn streams(target: &Target<'_>, count: usize) {
    let raw = Raw::new();
    raw.runtime.block_on(async {
        let (conn, _control) = admitted(&raw, target).await;
        for n in 0..count {
            let (mut send, mut recv) = conn.open_bi().await.unwrap();
            let _ = send.write_all(&DIST[..n % (DIST.len() + 1)]).await;
            let _ = send.reset(1u32.into());
            let _ = recv.stop(1u32.into());
        }
        println!("sent {count}");
        wait_for_the_end();
    });
}

type Control = (quinn::SendStream, quinn::RecvStream);

async fn admitted(raw: &Raw, target: &Target<'_>) -> (quinn::Connection, Control) {
    let connecting = raw.endpoint.connect(target.address, "barrel-p2p").unwrap();
    let conn = connecting.await.unwrap();
    let hello = target.hello(&conn, "insider@attacker");
    let (mut send, mut recv) = conn.open_bi().await.unwrap();
    send.write_all(&framed(&hello)).await.unwrap();
    read_framed(&mut recv).await.expect("admitted");
    println!("admitted 1");
    (conn, (send, recv))
}

/// Stands between a dialler and the node that it means.
fn relay(address: SocketAddr) {
    let raw = Raw::new();
    let listener = raw.listen();
    println!("port {}", listener.local_addr().unwrap().port());
    let serving = raw.runtime.spawn({
        let endpoint = raw.endpoint.clone();
        async move {
            while let Some(incoming) = listener.accept().await {
                let Ok(near) = incoming.await else { continue };
                let far = endpoint.connect(address, "barrel-p2p").unwrap();
                let far = far.await.unwrap();
                let code = pass(&near, &far).await;
                println!("refused {code}");
                near.close(3u32.into(), b"");
            }
        }
    });
    wait_for_the_end();
    serving.abort();
}

/// The hello of one session, in the other; the code that ended it.
async fn pass(near: &quinn::Connection, far: &quinn::Connection) -> u64 {
    let (mut answer, mut hello) = near.accept_bi().await.unwrap();
    let hello = read_framed(&mut hello).await.unwrap();
    let (mut send, mut recv) = far.open_bi().await.unwrap();
    send.write_all(&framed(&hello)).await.unwrap();
    if let Some(bytes) = read_framed(&mut recv).await {
        answer.write_all(&framed(&bytes)).await.unwrap();
    }
    close_code(&far.closed().await).unwrap_or(u64::MAX)
}
