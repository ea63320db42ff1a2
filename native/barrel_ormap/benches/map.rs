// SPDX-License-Identifier: Apache-2.0

//! What the map costs: 100 writers with 1,000 keys of 130 bytes each.

#![allow(clippy::print_stdout, reason = "a bench tells what it has measured")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use barrel_ormap::map::Config;
use barrel_ormap::{Clock, LwwMap, MapDelta, Now, OriginKey, Pair};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Counts the bytes asked for; what the allocator adds to each piece is not in it.
struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

// SAFETY: all is left to the system's allocator; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait demands of the caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WRITERS: u128 = 100;
const KEYS: u32 = 1_000;
const CHUNK: usize = 64 * 1024;
const NOW: Now = Now {
    mono: Duration::from_secs(1),
    wall_ms: 1_800_000_000_000,
};

fn key(number: u128) -> OriginKey {
    OriginKey::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn node(number: u128) -> (LwwMap, Clock) {
    (
        LwwMap::new(key(number), 1, Config::default()),
        Clock::default(),
    )
}

fn name(number: u128, entry: u32) -> String {
    format!("some_key_of_{number:08}_{entry:09}")
}

fn write((map, clock): &mut (LwwMap, Clock), key: &str, value: u8) {
    let written = map.put(NOW, clock, key.as_bytes(), &[value; 100]);
    assert_eq!(written, Ok(()));
    while map.poll_change().is_some() {}
}

fn deltas(map: &mut LwwMap) -> Vec<MapDelta> {
    std::iter::from_fn(|| map.commit()).collect()
}

/// With entries of its own, as from the wire.
fn copied(delta: &MapDelta) -> MapDelta {
    let mut delta = delta.clone();
    for add in &mut delta.delta.adds {
        add.pair = Pair::new(add.pair.key(), add.pair.value());
    }
    delta
}

fn apply((map, clock): &mut (LwwMap, Clock), from: OriginKey, delta: MapDelta) {
    assert!(map.apply(NOW, clock, from, delta).is_ok());
    while map.poll_change().is_some() {}
}

/// A replica with everything.
fn full(me: u128) -> (LwwMap, Clock) {
    let mut replica = node(me);
    for number in 1..=WRITERS {
        let mut writer = node(number);
        (0..KEYS).for_each(|entry| write(&mut writer, &name(number, entry), 7));
        for delta in deltas(&mut writer.0) {
            apply(&mut replica, key(number), copied(&delta));
        }
    }
    replica
}

fn different(a: &LwwMap, b: &LwwMap) -> impl Iterator<Item = u8> + use<> {
    let (a, b) = (*a.buckets(), *b.buckets());
    (0..=u8::MAX).filter(move |bucket| a[usize::from(*bucket)] != b[usize::from(*bucket)])
}

/// From nothing to everything; how long each call took, and the number of chunks.
fn cold_sync(from: &LwwMap) -> (LwwMap, Vec<Duration>, usize) {
    let (mut replica, mut clock) = node(5_000);
    let (mut steps, mut chunks) = (Vec::new(), 0);
    let mut timed = |began: Instant| steps.push(began.elapsed());
    for bucket in different(from, &replica) {
        loop {
            let began = Instant::now();
            let wants = replica.wants(from.me().origin, &from.summaries(bucket));
            timed(began);
            if wants.is_empty() {
                break;
            }
            for want in wants {
                let began = Instant::now();
                let answer = from.answer(&want, CHUNK);
                timed(began);
                for delta in answer {
                    let began = Instant::now();
                    let applied = replica.apply(NOW, &mut clock, from.me().origin, delta);
                    timed(began);
                    assert!(applied.is_ok());
                    chunks += 1;
                    while replica.poll_change().is_some() {}
                }
            }
        }
    }
    assert_eq!(replica.root(), from.root());
    (replica, steps, chunks)
}

fn figures(everything: &LwwMap) {
    let before = HELD.load(Relaxed);
    let replica = full(4_000).0;
    let held = HELD.load(Relaxed) - before;
    let entries = replica.stats().entries as isize;
    println!(
        "memory: {} bytes per entry, payload of 130 included",
        held / entries
    );
    // The same calls each time: the shortest run of each is the one nobody interrupted.
    let (_, mut steps, chunks) = cold_sync(everything);
    for _ in 0..9 {
        for (step, again) in steps.iter_mut().zip(cold_sync(everything).1) {
            *step = again.min(*step);
        }
    }
    let (longest, all) = (steps.iter().max(), steps.iter().sum::<Duration>());
    println!(
        "cold sync: {chunks} chunks, longest step {longest:?}, all steps {all:?} (best of ten)"
    );
}

/// The shortest of ten runs, by piece.
fn best<T>(
    setup: impl Fn() -> Vec<T>,
    mut run: impl FnMut(&mut (LwwMap, Clock), T),
    on: &(LwwMap, Clock),
) -> Duration {
    let runs = (0..10).map(|_| {
        let (mut node, pieces) = (on.clone(), setup());
        let count = pieces.len() as u32;
        let began = Instant::now();
        pieces.into_iter().for_each(|piece| run(&mut node, piece));
        began.elapsed() / count
    });
    runs.min().unwrap_or_default()
}

fn map(c: &mut Criterion) {
    let everything = full(2_000);
    figures(&everything.0);
    let mut group = c.benchmark_group("map");
    group.throughput(Throughput::Elements(u64::from(KEYS)));
    group.bench_function("put 1,000 times", |b| {
        let put = |(node, names): &mut ((LwwMap, Clock), Vec<String>)| {
            names.iter().for_each(|name| write(node, name, 8));
        };
        let names: Vec<String> = (0..KEYS)
            .map(|n| name(u128::from(n % 100) + 1, n))
            .collect();
        b.iter_batched_ref(
            || (everything.clone(), names.clone()),
            put,
            BatchSize::PerIteration,
        );
    });

    let mut writer = node(1);
    let one_by_one: Vec<MapDelta> = (0..KEYS)
        .flat_map(|entry| {
            let number = u128::from(entry % 100) + 1;
            write(&mut writer, &name(number, entry * 7 % KEYS), 9);
            deltas(&mut writer.0)
        })
        .collect();
    // Another life of the writer than the one whose values are there.
    let one_by_one: Vec<MapDelta> = one_by_one
        .into_iter()
        .map(|mut delta| {
            delta.delta.inc = 2;
            delta
        })
        .collect();
    let copies = || one_by_one.iter().map(copied).collect();
    let took = best(
        copies,
        |node, delta| apply(node, key(1), delta),
        &everything,
    );
    println!("apply a delta: {took:?} (best of ten)");
    let names = || {
        (0..KEYS)
            .map(|n| name(u128::from(n % 100) + 1, n))
            .collect()
    };
    let took = best(
        names,
        |node, name: String| write(node, &name, 8),
        &everything,
    );
    println!("put: {took:?} (best of ten)");
    group.bench_function("apply 1,000 deltas", |b| {
        let take = |(node, deltas): &mut ((LwwMap, Clock), Vec<MapDelta>)| {
            deltas
                .drain(..)
                .for_each(|delta| apply(node, key(1), delta));
        };
        let setup = || (everything.clone(), one_by_one.iter().map(copied).collect());
        b.iter_batched_ref(setup, take, BatchSize::PerIteration);
    });

    group.throughput(Throughput::Elements(1));
    let mut same = cold_sync(&everything.0).0;
    group.bench_function("equal roots", |b| {
        b.iter(|| black_box(same.root() == everything.0.root()));
    });
    group.bench_function("equal, all summaries compared", |b| {
        b.iter(|| {
            for bucket in 0..=255 {
                let wants = same.wants(key(2_000), &everything.0.summaries(bucket));
                assert!(black_box(wants).is_empty());
            }
        });
    });
    group.sample_size(10);
    group.bench_function("cold sync of 100,000 entries", |b| {
        b.iter_with_large_drop(|| cold_sync(&everything.0).0);
    });
}

criterion_group!(benches, map);
criterion_main!(benches);
