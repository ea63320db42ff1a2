// SPDX-License-Identifier: Apache-2.0

//! What a directory of ten thousand members costs: time for each verb, memory for each
//! member.
//!
//! `cargo run --release -p barrel_members --example cost`
#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use barrel_members::{Card, Claim, Config, Members, Status};

type Key = [u8; 16];

const MEMBERS: u32 = 10_000;
const COPIES: u64 = 200;

fn key(number: u32) -> Key {
    let spread = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    spread.to_be_bytes()
}

fn cards(seq: u64) -> Vec<(Key, Arc<Card>)> {
    let card = |number: u32| Card {
        name: format!("node{number}@host{number}.example.org").into(),
        incarnation: 1_700_000_000_000,
        seq,
        ttl: Duration::from_secs(3_600),
        pinned: false,
    };
    (1..MEMBERS)
        .map(|number| (key(number), Arc::new(card(number))))
        .collect()
}

fn drain(members: &mut Members<Key>) {
    while members.poll_output().is_some() {}
}

/// The resident memory of this process in bytes. 0 where it cannot be read.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4_096
}

fn measure(what: &str, times: u32, mut verb: impl FnMut(u32)) {
    let start = Instant::now();
    for number in 0..times {
        verb(number);
    }
    let each = start.elapsed().as_nanos() / u128::from(times.max(1));
    println!("{what:<44} {each:>8} ns");
}

fn main() {
    let (first, renewed) = (cards(1), cards(2));
    let now = Duration::from_secs(1);
    let build = |seed| {
        let config = Config::default();
        let mut members = Members::new(key(0), "me@here", 1, config, seed);
        for (member, card) in &first {
            let accepted = members.handle_record(now, *member, card.clone());
            assert_eq!(accepted, Ok(()));
            drain(&mut members);
        }
        members
    };
    let before = resident();
    let built: Vec<_> = (0..COPIES).map(build).collect();
    let each = (resident() - before) / COPIES / u64::from(MEMBERS);
    println!("memory per plain member, nothing shared: {each} B");
    let mut node = built[0].clone();
    let before = resident();
    let copies: Vec<_> = (0..10 * COPIES).map(|_| node.clone()).collect();
    let each = (resident().saturating_sub(before)) / (10 * COPIES);
    println!("memory per copy of a node of {MEMBERS} members: {each} B");
    drop((copies, built));

    let at = |number: u32| first[number as usize].0;
    let claim = |number, beat, status| Claim {
        member: at(number),
        incarnation: 1_700_000_000_000,
        beat,
        status,
    };
    let most = MEMBERS - 1;
    let from = at(0);
    measure("a record that is known", most, |n| {
        let (member, card) = &first[n as usize];
        let _known = node.handle_record(now, *member, card.clone());
    });
    measure("a record that is renewed", most, |n| {
        let (member, card) = &renewed[n as usize];
        let _renewed = node.handle_record(now, *member, card.clone());
    });
    let mut later = now;
    for (beat, status, what) in [
        (0, Status::Suspect, "a suspicion"),
        (1, Status::Alive, "its refutation"),
        (1, Status::Unreachable, "a verdict of others"),
    ] {
        measure(what, most, |n| {
            // Slowly, so that the peer stays within its share.
            later += Duration::from_millis(100);
            let heard = node.handle_claim(later, from, claim(n, beat, status));
            assert!(heard.is_new());
            drain(&mut node);
        });
    }
    measure("a claim that is known", most, |n| {
        let _known = node.handle_claim(now, from, claim(n, 1, Status::Suspect));
    });
    measure("the return of one that was unreachable", 2, |n| {
        let heard = node.handle_claim(later, from, claim(n, 2, Status::Alive));
        assert!(heard.is_new());
        drain(&mut node);
    });
    let mut fresh = build(1);
    measure("a timeout (mostly: a probe is chosen)", 300, |_| {
        let at = fresh.poll_timeout().unwrap_or(now);
        fresh.handle_timeout(at);
        drain(&mut fresh);
    });
    measure("a link lost and found", 1_000, |n| {
        fresh.handle_link_up(now, at(n));
        fresh.handle_link_lost(now, at(n), true);
        drain(&mut fresh);
    });
}
