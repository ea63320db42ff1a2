//! What the registry costs, with a hundred thousand entries of a hundred owners (C2).
//!
//! The only figures that come from a real clock. The machine does other things too, so each is the shortest of
//! several rounds of the same work.

use std::time::{Duration, Instant};

use barrel_node::NodeId;
use barrel_ormap::{Config, Delta, Hlc, Pair, Registry};

use super::Plan;
use crate::adapter::id;
use crate::kernel::NodeNo;
use crate::measure::heap;
use crate::report::{Findings, Limit};

/// Entries of each owner; there are as many owners as nodes.
const ENTRIES: u32 = 1000;

/// Rounds of which the shortest counts.
const ROUNDS: usize = 5;

/// Bytes of one answer: what fits into a frame.
const CHUNK: usize = 64 * 1024;

/// A name and a process id with a few words: about 130 bytes with what the wire adds.
const VALUE: [u8; 80] = [7; 80];

/// The replicas, beyond the owners.
const FULL: NodeNo = 1_000_000;
const EMPTY: NodeNo = 1_000_001;

pub(super) fn run(plan: Plan) -> Findings {
    let mut findings = Findings::default();
    let owners: Vec<Registry> = (0..plan.nodes).map(owner).collect();
    let answers: Vec<Vec<Delta>> = owners.iter().map(all_of).collect();
    let (everything, bytes) = heap::of(|| replica(FULL, &answers));
    let entries = everything.stats().entries as f64;
    findings.note("-", "entries", entries, Limit::Shown);
    findings.note(
        "C2",
        "memory of an entry, B",
        bytes.unwrap_or(f64::NAN) / entries,
        Limit::AtMost(300.0),
    );
    apply(&owners[0], &everything, &mut findings);
    compare(&everything, &mut findings);
    cold_sync(&everything, &mut findings);
    findings
}

/// A node that has registered all its services.
fn owner(node: NodeNo) -> Registry {
    let mut owner = Registry::new(id(node), 1, Config::default());
    (0..ENTRIES).for_each(|entry| write(&mut owner, entry, u64::from(entry)));
    owner
}

fn write(owner: &mut Registry, entry: u32, time: u64) {
    let name = format!("a_registered_service_{entry:06}");
    let written = owner.insert(name.as_bytes(), &VALUE, Hlc::from_u64(time));
    debug_assert!(written.is_ok(), "an entry is not taken: {written:?}");
    read(owner);
}

/// Somebody reads what changed.
fn read(registry: &mut Registry) {
    while registry.poll_change().is_some() {}
}

/// The log of an owner, in as many pieces as broadcasts take.
fn all_of(owner: &Registry) -> Vec<Delta> {
    let mut owner = owner.clone();
    std::iter::from_fn(|| owner.poll_delta()).collect()
}

fn replica(me: NodeNo, answers: &[Vec<Delta>]) -> Registry {
    let mut replica = Registry::new(id(me), 1, Config::default());
    for delta in answers.iter().flatten() {
        let applied = replica.apply(delta.origin, &received(delta));
        debug_assert!(applied.is_ok(), "a delta is refused: {applied:?}");
        read(&mut replica);
    }
    replica
}

/// As it comes from the wire: in memory of its own.
fn received(delta: &Delta) -> Delta {
    let mut delta = delta.clone();
    for add in &mut delta.adds {
        add.pair = Pair::new(add.pair.key(), add.pair.value());
    }
    delta
}

/// One entry after the other is replaced, and each is one delta.
fn apply(owner: &Registry, everything: &Registry, findings: &mut Findings) {
    let mut owner = owner.clone();
    while owner.poll_delta().is_some() {}
    let deltas: Vec<Delta> = (0..ENTRIES)
        .filter_map(|entry| {
            write(
                &mut owner,
                entry * 7 % ENTRIES,
                1_000_000 + u64::from(entry),
            );
            owner.poll_delta()
        })
        .collect();
    let round = || {
        let mut replica = everything.clone();
        // the first write copies what is shared with the other replica
        let (first, others) = deltas.split_first()?;
        replica.apply(first.origin, first).ok()?;
        read(&mut replica);
        let begun = now();
        for delta in others {
            replica.apply(delta.origin, delta).ok()?;
            read(&mut replica);
        }
        Some(begun.elapsed() / others.len() as u32)
    };
    let best = (0..ROUNDS).filter_map(|_| round()).min();
    findings.note(
        "C2",
        "apply one delta, us",
        micros(best),
        Limit::AtMost(2.0),
    );
}

/// Two equal replicas find that out: by their roots, and, were these not there, log by log.
fn compare(everything: &Registry, findings: &mut Findings) {
    let mut same = everything.seen_by(id(EMPTY), 1);
    let mut other = everything.clone();
    // the same logs on both sides
    for registry in [&mut same, &mut other] {
        for node in [FULL, EMPTY] {
            let _known = registry.begin(id(node), 1);
        }
    }
    findings.must("-", "the replicas are equal", same.root() == other.root());
    let by_root = best(|| usize::from(same.root() == other.root()));
    findings.note(
        "C2",
        "a round between equal replicas, us",
        micros(by_root),
        Limit::AtMost(50.0),
    );
    let by_log = best(|| {
        (0..=u8::MAX)
            .map(|bucket| same.wants(id(FULL), &other.summaries(bucket)).len())
            .sum()
    });
    findings.note(
        "C2",
        "a round between equal replicas, log by log, us",
        micros(by_log),
        Limit::AtMost(50.0),
    );
}

fn best(mut work: impl FnMut() -> usize) -> Option<Duration> {
    let round = |_| {
        let begun = now();
        std::hint::black_box(work());
        begun.elapsed()
    };
    (0..ROUNDS * 20).map(round).min()
}

/// From nothing to everything. The steps are the same in each round.
fn cold_sync(everything: &Registry, findings: &mut Findings) {
    let (replica, mut steps) = sync(everything, id(FULL));
    findings.must(
        "-",
        "a cold sync brings everything",
        replica.stats().entries == everything.stats().entries,
    );
    for _ in 1..ROUNDS {
        let (_, again) = sync(everything, id(FULL));
        steps
            .iter_mut()
            .zip(again)
            .for_each(|(step, again)| *step = again.min(*step));
    }
    let all: Duration = steps.iter().sum();
    findings.note(
        "C2",
        "cold sync of all, ms of one processor",
        micros(Some(all)) / 1000.0,
        Limit::AtMost(500.0),
    );
    let longest = steps.into_iter().max();
    findings.note(
        "C2",
        "its longest step, ms",
        micros(longest) / 1000.0,
        Limit::AtMost(1.0),
    );
}

fn sync(from: &Registry, peer: NodeId) -> (Registry, Vec<Duration>) {
    let mut replica = Registry::new(id(EMPTY), 1, Config::default());
    let mut steps = Vec::new();
    for bucket in 0..=u8::MAX {
        let begun = now();
        let wants = replica.wants(peer, &from.summaries(bucket));
        steps.push(begun.elapsed());
        for mut want in wants {
            // asked again behind each piece, as the link takes it
            loop {
                let begun = now();
                let answer = from.answer(&want, CHUNK);
                steps.push(begun.elapsed());
                let Some(delta) = answer.first().filter(|delta| delta.to > want.base) else {
                    break;
                };
                want.base = delta.to;
                let delta = received(delta);
                let begun = now();
                let applied = replica.apply(peer, &delta);
                read(&mut replica);
                steps.push(begun.elapsed());
                debug_assert!(applied.is_ok(), "a chunk is refused: {applied:?}");
            }
        }
    }
    (replica, steps)
}

fn now() -> Instant {
    Instant::now()
}

fn micros(time: Option<Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_sync_brings_what_there_is() {
        let answers: Vec<Vec<Delta>> = [owner(1), owner(2)].iter().map(all_of).collect();
        let everything = replica(FULL, &answers);
        assert_eq!(everything.stats().entries, 2 * ENTRIES as usize);
        let (copy, steps) = sync(&everything, id(FULL));
        assert_eq!(copy.stats().entries, everything.stats().entries);
        assert!(steps.len() > 256);
        assert_eq!(copy.summaries(id(1).0[0]), everything.summaries(id(1).0[0]));
    }
}
