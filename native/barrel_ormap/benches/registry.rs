// SPDX-License-Identifier: Apache-2.0

//! What the registry costs: 100 owners with 1,000 entries of 130 bytes each.

#![allow(clippy::print_stdout, reason = "a bench tells what it has measured")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use barrel_ormap::{Config, Delta, Hlc, OriginKey, Registry};
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

const OWNERS: u128 = 100;
const ENTRIES: u32 = 1_000;
const CHUNK: usize = 64 * 1024;

fn key(number: u128) -> OriginKey {
    OriginKey::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn node(number: u128) -> Registry {
    let config = Config {
        give_up_after: Duration::from_secs(86_400),
        ..Config::default()
    };
    Registry::new(key(number), 1, config)
}

fn write(owner: &mut Registry, entry: u32, time: u64) {
    let name = format!("a_registered_service_{entry:09}");
    let written = owner.insert(name.as_bytes(), &[7; 100], Hlc::from_u64(time));
    assert_eq!(written, Ok(()));
    while owner.poll_change().is_some() {}
}

fn deltas(owner: &mut Registry) -> Vec<Delta> {
    std::iter::from_fn(|| owner.poll_delta()).collect()
}

/// A replica with everything.
fn full(me: u128) -> Registry {
    let mut replica = node(me);
    for number in 1..=OWNERS {
        let mut owner = node(number);
        (0..ENTRIES).for_each(|entry| write(&mut owner, entry, u64::from(entry)));
        for delta in deltas(&mut owner) {
            // The entries are copied, as from the wire.
            assert!(replica.apply(key(number), &copied(&delta)).is_ok());
        }
        while replica.poll_change().is_some() {}
    }
    replica
}

fn copied(delta: &Delta) -> Delta {
    let mut delta = delta.clone();
    for add in &mut delta.adds {
        add.pair = barrel_ormap::Pair::new(add.pair.key(), add.pair.value());
    }
    delta
}

/// From nothing to everything; how long each call took, and the number of chunks.
fn cold_sync(from: &Registry, peer: OriginKey) -> (Registry, Vec<Duration>, usize) {
    let mut replica = node(5_000);
    let (mut steps, mut chunks) = (Vec::new(), 0);
    let mut timed = |began: Instant| steps.push(began.elapsed());
    loop {
        let began = Instant::now();
        let different: Vec<u8> = replica.digest().different(&from.buckets()).collect();
        timed(began);
        let mut done = true;
        for bucket in different {
            let began = Instant::now();
            let wants = replica.wants(peer, &from.summaries(bucket));
            timed(began);
            for want in wants {
                let began = Instant::now();
                let answer = from.answer(&want, CHUNK);
                timed(began);
                for delta in answer {
                    let began = Instant::now();
                    done &= replica.apply(peer, &delta).is_err();
                    timed(began);
                    chunks += 1;
                    while replica.poll_change().is_some() {}
                }
            }
        }
        if done {
            return (replica, steps, chunks);
        }
    }
}

fn figures(everything: &Registry) {
    let before = HELD.load(Relaxed);
    let replica = full(4_000);
    let held = HELD.load(Relaxed) - before;
    let entries = replica.stats().entries as isize;
    println!(
        "memory: {} bytes per entry, payload of 130 included",
        held / entries
    );
    let before = HELD.load(Relaxed);
    let copies: Vec<Registry> = vec![replica.clone(); 100];
    println!(
        "a copy of it that shares: {} bytes",
        (HELD.load(Relaxed) - before) / copies.len() as isize
    );
    drop(copies);

    let before = HELD.load(Relaxed);
    let mut directory = node(3_000);
    for number in 0..10_000 {
        let mut owner = node(10_000 + number);
        assert_eq!(owner.insert(b"", &[7; 170], Hlc::ZERO), Ok(()));
        for delta in deltas(&mut owner) {
            assert!(
                directory
                    .apply(key(10_000 + number), &copied(&delta))
                    .is_ok()
            );
        }
        while directory.poll_change().is_some() {}
    }
    println!(
        "directory: {} bytes per member, with a record of 170",
        (HELD.load(Relaxed) - before) / 10_000
    );
    let before = HELD.load(Relaxed);
    let mut empty = node(3_001);
    for number in 0..10_000 {
        assert_eq!(empty.begin(key(10_000 + number), 1), Ok(()));
    }
    println!(
        "context: {} bytes per origin without services",
        (HELD.load(Relaxed) - before) / 10_000
    );

    // The same calls each time: the shortest run of each is the one nobody interrupted.
    let (_, mut steps, chunks) = cold_sync(everything, key(2_000));
    for _ in 0..9 {
        let (_, again, _) = cold_sync(everything, key(2_000));
        for (step, again) in steps.iter_mut().zip(again) {
            *step = again.min(*step);
        }
    }
    let (longest, all) = (steps.iter().max(), steps.iter().sum::<Duration>());
    println!(
        "cold sync: {chunks} chunks, longest step {longest:?}, all steps {all:?} (best of ten)"
    );
}

fn registry(c: &mut Criterion) {
    let everything = full(2_000);
    figures(&everything);

    let mut owner = node(1);
    (0..ENTRIES).for_each(|entry| write(&mut owner, entry, u64::from(entry)));
    let base = deltas(&mut owner);
    let one_by_one: Vec<Delta> = (0..ENTRIES)
        .flat_map(|entry| {
            write(
                &mut owner,
                entry * 7 % ENTRIES,
                1_000_000 + u64::from(entry),
            );
            deltas(&mut owner)
        })
        .collect();
    let mut replica = full(2_000);
    for delta in &base {
        assert!(replica.apply(key(1), delta).is_ok());
    }

    let mut group = c.benchmark_group("registry");
    group.throughput(Throughput::Elements(u64::from(ENTRIES)));
    group.bench_function("apply 1,000 deltas", |b| {
        // A copy of its own: the first write to a shared one would be measured.
        let own = || Registry::restore(key(2_000), 2, Config::default(), &replica.snapshot());
        let apply = |replica: &mut Registry| {
            while replica.poll_change().is_some() {}
            for delta in &one_by_one {
                let _ = black_box(replica.apply(key(1), delta));
                while replica.poll_change().is_some() {}
            }
        };
        b.iter_batched_ref(
            || {
                let mut own = own();
                while own.poll_change().is_some() {}
                own
            },
            apply,
            BatchSize::PerIteration,
        );
    });

    group.throughput(Throughput::Elements(1));
    let mut same = cold_sync(&everything, key(2_000)).0;
    assert_eq!(same.root(), everything.root());
    group.bench_function("equal roots", |b| {
        b.iter(|| black_box(same.root() == everything.root()))
    });
    group.bench_function("equal, all summaries compared", |b| {
        b.iter(|| {
            for bucket in 0..=255 {
                let wants = same.wants(key(2_000), &everything.summaries(bucket));
                assert!(black_box(wants).is_empty());
            }
        });
    });
    group.sample_size(10);
    group.bench_function("cold sync of 100,000 entries", |b| {
        b.iter_with_large_drop(|| cold_sync(&everything, key(2_000)).0);
    });
}

criterion_group!(benches, registry);
criterion_main!(benches);
