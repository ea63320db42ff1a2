// SPDX-License-Identifier: Apache-2.0

//! Laws on whole states: what is applied, what is live, and what is dead before it was
//! seen. Not in them is the record of removals, which depends on what was told by lists
//! and what by statements; the schedules see that it is true. Nor are the later chunks
//! of a statement, which count only after the earlier ones.

use proptest::prelude::*;
use proptest::sample::Index;

use super::dice::schedules;
use super::rules::key;
use crate::registry::{Config, Limits, Registry};
use crate::{Delta, Hlc, RangeSet, Want};

/// What an owner does, and what is overheard of it.
#[derive(Clone, Debug)]
enum Act {
    Put(u8),
    Remove(u8),
    Announce,
    /// What was missed, told again later.
    Repeat(Index, u64),
    /// Everything after an operation.
    Answer(Index),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..6).prop_map(Act::Put),
        2 => (0u8..6).prop_map(Act::Remove),
        3 => Just(Act::Announce),
        2 => (any::<Index>(), 1u64..5).prop_map(|(from, length)| Act::Repeat(from, length)),
        1 => any::<Index>().prop_map(Act::Answer),
    ]
}

/// The deltas of one life; the last is all of it.
fn life(acts: &[Act], max_log: usize) -> Vec<Delta> {
    let limits = Limits {
        max_log,
        ..Limits::default()
    };
    let mut owner = Registry::new(
        key(1),
        1,
        Config {
            limits,
            ..Config::default()
        },
    );
    let mut deltas = Vec::new();
    for act in acts {
        let base = owner.context(key(1)).map_or(0, |context| context.1);
        let start = |index: &Index| index.index(base as usize + 1) as u64;
        match act {
            Act::Put(name) => _ = owner.insert(&[*name], &base.to_le_bytes(), Hlc::ZERO),
            Act::Remove(name) => _ = owner.remove(&[*name]),
            Act::Announce => deltas.extend(owner.poll_delta()),
            Act::Repeat(from, length) => {
                let from = start(from);
                deltas.extend(owner.delta(key(1), 1, from, from + length));
            }
            Act::Answer(from) => {
                deltas.extend(owner.answer(&Want::after(key(1), 1, start(from)), 100_000))
            }
        }
    }
    deltas.extend(owner.answer(&Want::after(key(1), 1, 0), 100_000));
    deltas
}

type State = (u64, u64, RangeSet, RangeSet, Vec<(u64, Vec<u8>)>, u128);

fn state(registry: &Registry) -> Option<State> {
    let slot = registry.slots.slot(key(1))?;
    let live = slot
        .live()
        .iter()
        .map(|(seq, entry)| (seq, entry.pair.key().to_vec()));
    Some((
        slot.base,
        slot.heard_of(),
        slot.cloud().clone(),
        slot.dead().clone(),
        live.collect(),
        slot.audit(),
    ))
}

fn replica(deltas: &[&Delta]) -> Registry {
    let mut registry = Registry::new(key(2), 1, Config::default());
    for delta in deltas {
        assert_eq!(delta.validate(), Ok(()));
        registry.apply(key(1), delta).unwrap();
    }
    registry.check();
    registry
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(schedules() as u32) })]

    #[test]
    fn order_and_repetition_leave_no_trace(
        acts in prop::collection::vec(act(), 1..40),
        max_log in 1usize..6,
        order in any::<prop::sample::Index>(),
        twice in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        let mut deltas = life(&acts, max_log);
        // All of it would hide what the others do.
        deltas.pop();
        let forwards: Vec<&Delta> = deltas.iter().collect();
        let mut mixed = forwards.clone();
        if !forwards.is_empty() {
            mixed.extend(twice.iter().map(|index| *index.get(&forwards)));
            mixed.reverse();
            let middle = order.index(mixed.len());
            mixed.rotate_left(middle);
        }
        prop_assert_eq!(state(&replica(&forwards)), state(&replica(&mixed)));
    }

    #[test]
    fn pieces_in_any_order_are_the_whole(
        acts in prop::collection::vec(act(), 1..40),
        max_log in 1usize..6,
        order in any::<Index>(),
    ) {
        let deltas = life(&acts, max_log);
        let mut pieces: Vec<&Delta> = deltas.iter().collect();
        pieces.reverse();
        let middle = order.index(pieces.len());
        pieces.rotate_left(middle);
        let whole = deltas.last().unwrap();
        prop_assert_eq!(state(&replica(&pieces)), state(&replica(&[whole])));
    }

    #[test]
    fn what_two_replicas_know_is_the_same_either_way(
        acts in prop::collection::vec(act(), 1..40),
        max_log in 1usize..6,
        cut in any::<Index>(),
    ) {
        let mut deltas = life(&acts, max_log);
        deltas.pop();
        let (left, right) = deltas.split_at(cut.index(deltas.len() + 1));
        let (left, right): (Vec<_>, Vec<_>) = (left.iter().collect(), right.iter().collect());
        let one: Vec<&Delta> = left.iter().chain(&right).copied().collect();
        let other: Vec<&Delta> = right.iter().chain(&left).copied().collect();
        prop_assert_eq!(state(&replica(&one)), state(&replica(&other)));
    }
}
