//! Writes the seeds of every target: messages as nodes send them.
//!
//! `seeds DIR` makes `DIR/<target>/` with one file each.

use std::path::Path;
use std::{env, fs, io};

use barrel_node::fuzzing::{self, Fire};
use barrel_quic::frame::Outbox;
use barrel_quic::hello::{Hello, Role, Secret};
use barrel_quic::identity::Identity;
use barrel_quic::name::{HostName, NodeName, PeerName};
use bytes::Bytes;
// The library is built for fuzzing, so whatever uses it needs what counts.
use libfuzzer_sys as _;

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).expect("the directory for the seeds");
    let dir = Path::new(&dir);
    write(dir, "hello", hellos())?;
    write(dir, "frame", frames())?;
    write(dir, "preamble", preambles())?;
    let samples = fuzzing::samples();
    write(dir, "node_message", conversations(&samples.frames))?;
    write(dir, "node_frame", samples.frames)?;
    write(dir, "node_record", samples.records)?;
    write(dir, "node_piece", [samples.log_pieces, samples.map_pieces].concat())?;
    write(dir, "node_claim", samples.claims)?;
    write(dir, "node_kept", vec![shelf(&samples.kept)])
}

fn write(dir: &Path, target: &str, seeds: Vec<Vec<u8>>) -> io::Result<()> {
    let dir = dir.join(target);
    fs::create_dir_all(&dir)?;
    for (number, seed) in seeds.into_iter().enumerate() {
        fs::write(dir.join(format!("seed{number:02}")), seed)?;
    }
    Ok(())
}

/// Each as it stands in a stream, alone, and without its seals.
fn hellos() -> Vec<Vec<u8>> {
    let member = |name: &str| PeerName::Member(NodeName::parse(name).expect("a node name"));
    let longest = format!("a@{}", "h".repeat(253));
    let names = [
        (Role::Dialler, member("a@h"), Some("b@h")),
        (Role::Dialler, member("a@10.0.0.1"), None),
        (Role::Acceptor, member("node_1-x@host.example.org"), None),
        (
            Role::Dialler,
            PeerName::Client(HostName::parse("fe80::1").expect("a host")),
            Some("b@h"),
        ),
        (Role::Dialler, member(&longest), Some(longest.as_str())),
    ];
    let seal = |(role, name, expected): (Role, PeerName, Option<&str>)| {
        let hello = Hello {
            features: 0,
            role,
            exporter: [0x5a; 32],
            incarnation: 1_700_000_000_000,
            name,
            expected: expected.map(|name| NodeName::parse(name).expect("a node name")),
        };
        let secret = Secret::new(*b"the secret of this cluster").expect("a secret");
        hello.seal(&Identity::from_seed(&[1; 32]), &secret)
    };
    names
        .map(seal)
        .into_iter()
        .flat_map(|hello| {
            let framed = [&(hello.len() as u16).to_be_bytes(), hello.as_slice()].concat();
            let body = hello[..hello.len() - 96].to_vec();
            [framed, hello, body]
        })
        .collect()
}

/// Where to cut, then packets: ticks, small ones, one by reference, one too large.
fn frames() -> Vec<Vec<u8>> {
    let large = Bytes::from(vec![7; 5000]);
    let streams = [
        vec![Bytes::new(); 3],
        vec![
            Bytes::from_static(b"\x83D\x02"),
            Bytes::new(),
            Bytes::from_static(b"packet"),
        ],
        vec![large.clone(), Bytes::from_static(b"x"), large],
    ];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for packets in streams {
        let mut outbox = Outbox::default();
        for packet in packets {
            outbox.start(packet.len());
            outbox.copy(&packet);
        }
        let stream: Vec<u8> = std::iter::from_fn(|| outbox.pop()).flatten().collect();
        for cuts in [[0].as_slice(), &[4, 1, 3, 4, 200], &[3, 2, 2, 2]] {
            seeds.push([cuts, &stream].concat());
        }
    }
    seeds.push(vec![2, 1, 5, 0, 0, 0, 1, 9, 0xff, 0xff, 0xff, 0xff, 1, 2]);
    seeds
}

fn preambles() -> Vec<Vec<u8>> {
    let tagged = |tag: &[u8], rest: &[u8]| [&[tag.len() as u8], tag, rest].concat();
    vec![
        tagged(b"barrel_p2p:dist", b""),
        tagged(b"barrel_p2p:dist", &[0, 0, 0, 1, 9]),
        tagged(&[b'x'; 255], b"rest"),
        tagged(b"", b""),
        vec![5, b'c', b'u', b't'],
    ]
}

/// Each frame alone, and all together, with time between and a link that is lost.
fn conversations(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| Fire::words(std::slice::from_ref(frame)))
        .collect();
    let all = Fire::words(frames);
    seeds.push([&all[..], &[2, 0x20, 0, 3, 0, 1], &all].concat());
    seeds
}

/// All records, each with the lengths of its key and its value before it.
fn shelf(kept: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut shelf = Vec::new();
    for (key, value) in kept {
        shelf.push(key.len() as u8);
        shelf.extend((value.len() as u16).to_be_bytes());
        shelf.extend([&key[..], value].concat());
    }
    shelf
}
