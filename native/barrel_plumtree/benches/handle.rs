// SPDX-License-Identifier: Apache-2.0

//! What one message costs a node: `cargo bench -p barrel_plumtree`.

#![allow(missing_docs, reason = "the macros of criterion write functions")]

use std::hint::black_box;
use std::time::Duration;

use barrel_plumtree::{CacheConfig, Config, IdCache, Message, Output, Plumtree, Verdict};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// As long as the id of an operation: origin, incarnation and number.
type Id = [u64; 4];

const NOW: Duration = Duration::from_secs(1);

fn id(n: u64) -> Id {
    [n % 100, 7, 7, n]
}

fn body() -> Bytes {
    Bytes::from_static(&[7; 130])
}

/// A node with five neighbours that has seen a thousand messages.
fn node() -> (Plumtree<u32, Id>, IdCache<Id>) {
    let mut tree = Plumtree::new(Config::default(), 1);
    let mut cache = IdCache::new(CacheConfig::default());
    for peer in 0..5 {
        tree.handle_neighbor_up(NOW, peer);
        tree.handle_rtt(peer, Duration::from_millis(10));
    }
    for n in 0..1000 {
        gossip(&mut tree, &mut cache, n);
    }
    (tree, cache)
}

/// A new message arrives and goes on.
fn gossip(tree: &mut Plumtree<u32, Id>, cache: &mut IdCache<Id>, n: u64) {
    let (id, body) = (id(n), body());
    let msg = Message::Gossip { id, round: 3, body };
    let heard = tree.handle_message(NOW, 0, msg, cache);
    assert!(heard.is_ok());
    while let Some(output) = tree.poll_output() {
        match black_box(output) {
            Output::Deliver { from, id, body, .. } => {
                cache.insert(NOW, id, body);
                tree.handle_verdict(NOW, from, id, Verdict::New);
            }
            Output::Send { .. } | Output::Event(_) => {}
        }
    }
}

fn handle(c: &mut Criterion) {
    c.bench_function("gossip, new", |b| {
        let (mut tree, mut cache) = node();
        let mut n = 1000;
        b.iter(|| {
            gossip(&mut tree, &mut cache, n);
            n += 1;
        });
    });
    for (name, first) in [("ihave of 1, known", 500), ("ihave of 1, unknown", 5000)] {
        c.bench_function(name, |b| announce(b, first, 1));
    }
    for (name, first) in [("ihave of 32, known", 500), ("ihave of 32, unknown", 5000)] {
        c.bench_function(name, |b| announce(b, first, 32));
    }
}

fn announce(b: &mut criterion::Bencher<'_>, first: u64, count: u64) {
    let (tree, cache) = node();
    let ids: Vec<_> = (first..first + count).map(|n| (id(n), 4)).collect();
    b.iter_batched_ref(
        || (tree.clone(), Message::IHave { ids: ids.clone() }),
        |(tree, msg)| black_box(tree.handle_message(NOW, 1, msg.clone(), &cache)),
        BatchSize::SmallInput,
    );
}

criterion_group!(benches, handle);
criterion_main!(benches);
