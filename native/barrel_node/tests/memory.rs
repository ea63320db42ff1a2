// SPDX-License-Identifier: Apache-2.0

//! What a decoder takes while it reads is a small multiple of what has come.

mod net;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use barrel_node::{NodeId, fuzzing};
use net::words::{self, Delta, Name, REGISTRY, Words};

/// Bytes in memory for each byte that came: numbers of one byte become eight, pairs of
/// them sixteen, and a list that grows has up to twice its size for a moment.
const TIMES: usize = 32;

/// And so much in any case.
const ALWAYS: usize = 4096;

/// Counts what the thread asks for; what the allocator adds to each piece is not in it.
struct Counting;

thread_local! {
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(change: impl Fn(usize) -> usize) {
    // the thread may be at its end
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = change(now);
        held.set((now, most.max(now)));
    });
}

// SAFETY: all is left to the system's allocator; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|now| now + layout.size());
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait demands of the caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(|now| now.saturating_sub(layout.size()));
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that the thread had more than before while it did this.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    drop(work());
    HELD.get().1 - before
}

fn stays_small(what: &str, bytes: &[u8], decode: impl Fn(&[u8]) -> bool) {
    let mut understood = false;
    let peak = peak(|| understood = decode(bytes));
    let limit = TIMES * bytes.len() + ALWAYS;
    assert!(
        peak <= limit,
        "{what}: {peak} bytes for {}, understood: {understood}",
        bytes.len()
    );
}

fn frame(bytes: &[u8]) -> bool {
    fuzzing::frame(bytes).is_some()
}

fn nobody() -> NodeId {
    barrel_ormap::OriginKey([0; 16])
}

#[test]
fn small_things_in_great_numbers_take_no_more_than_they_are_worth() {
    let name = Name {
        topic: 0,
        origin: nobody(),
        incarnation: 0,
        seq: 0,
        span: 0,
    };
    let many = |n| vec![nobody(); n];
    let removes: Vec<(u64, u64)> = (0..3000).map(|n| (n + 2, 1)).collect();
    let mut adds = Delta::of(nobody(), 0, 0, 1300);
    for seq in 1..=1300 {
        adds = adds.add(seq, 0, b"", b"");
    }
    let live = Words::default()
        .id(nobody())
        .n(0)
        .n(0)
        .n(0)
        .n(60_000)
        .n(0)
        .u8(1);
    let live = live
        .n(0)
        .n(60_000)
        .n(60_000)
        .u8(0)
        .each(&[1; 60_000], |out, step| out.n(*step))
        .done();
    for (what, bytes) in [
        ("names", words::ihave(&vec![name; 1024])),
        ("wants", words::wants(REGISTRY, &many(1000), 0)),
        ("ranges", words::wants(REGISTRY, &many(1), 1024)),
        (
            "summaries",
            words::summaries(REGISTRY, &many(1000), 0, 0, &[]),
        ),
        (
            "removals",
            Delta {
                removes,
                ..Delta::of(nobody(), 0, 0, 4000)
            }
            .chunk(REGISTRY),
        ),
        ("entries", adds.chunk(REGISTRY)),
        (
            "what is live",
            Words::kind(69).n(REGISTRY).raw(&live).done(),
        ),
        ("empty records", words::join(&vec![Vec::new(); 66])),
    ] {
        stays_small(what, &bytes, frame);
        assert!(frame(&bytes), "{what} of an honest number are understood");
    }
}

#[test]
fn a_count_without_its_things_takes_nothing() {
    for kind in 0..=127u8 {
        for count in [1, 66, 1000, 1024, 65_536, 1 << 40, u64::MAX] {
            for zeroes in [0, 40, 2000, 60_000] {
                let head = [
                    Words::kind(kind),
                    Words::kind(kind).n(2),
                    Words::kind(kind).n(2).u8(0).u8(0).n(0),
                ];
                for head in head {
                    let bytes = head.n(count).raw(&vec![0; zeroes]).done();
                    stays_small("a count", &bytes, frame);
                }
            }
        }
    }
}

#[test]
fn samples_and_their_parts_stay_small() {
    let samples = fuzzing::samples();
    for sample in samples
        .frames
        .iter()
        .flat_map(|all| (0..=all.len()).map(|until| &all[..until]))
    {
        stays_small("a frame", sample, frame);
    }
    for sample in &samples.records {
        stays_small("a record", sample, |bytes| fuzzing::record(bytes).is_some());
    }
    for (key, value) in &samples.kept {
        stays_small("a record of a map", value, |value| {
            fuzzing::kept(key, value).is_some()
        });
    }
}

#[test]
fn ranges_on_the_disk_take_what_they_are_worth() {
    let key = [&[1][..], &[7; 24]].concat();
    let ranges: Vec<u64> = (0..60_000).map(|at| 2 + 2 * at).collect();
    let value = Words::kind(1)
        .n(0)
        .n(0)
        .each(&ranges, |out, at| out.n(*at).n(*at))
        .n(0)
        .done();
    stays_small("ranges", &value, |value| {
        fuzzing::kept(&key, value).is_some()
    });
    assert!(fuzzing::kept(&key, &value).is_some());
}
