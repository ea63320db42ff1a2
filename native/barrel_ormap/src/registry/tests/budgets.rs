// SPDX-License-Identifier: Apache-2.0

//! What a stranger cannot make us keep.

use std::time::Duration;

use super::dice::Dice;
use super::rules::{key, put};
use crate::registry::{Budget, Change, Config, Limits, Refused, Registry};
use crate::{Add, Delta, Hlc, LiveSet, OriginKey, Pair, Removal, Removes, Summary};

fn tight() -> Config {
    let limits = Limits {
        max_origins: 6,
        max_origin_entries: 10,
        max_origin_bytes: 1_500,
        max_entries: 20,
        max_bytes: 3_000,
        max_cloud: 4,
        max_dead: 4,
        max_log: 4,
        max_departed: 3,
        max_doubts: 2,
        max_changes: 30,
    };
    Config {
        limits,
        ..Config::default()
    }
}

/// A delta that keeps the form and means nothing.
fn noise(dice: &mut Dice) -> Delta {
    let from = dice.below(60) as u64;
    let to = from + dice.below(6) as u64;
    let as_of = to + dice.below(20) as u64;
    let adds = (from + 1..=to)
        .filter(|_| dice.percent(60))
        .collect::<Vec<_>>();
    let adds: Vec<Add> = adds
        .into_iter()
        .map(|seq| Add {
            seq,
            hlc: Hlc::from_u64(seq),
            writer: None,
            pair: Pair::new(&[dice.below(9) as u8], &vec![0; dice.below(300)]),
        })
        .collect();
    let removes = if from == to || dice.percent(40) {
        let above = dice.below(3) as u64 * 5;
        let until = (to + dice.below(5) as u64).max(above).min(as_of.max(above));
        let live = (above + 1..=until).filter(|_| dice.percent(50)).collect();
        let whole = from == to && dice.percent(30);
        Removes::LiveSet(LiveSet {
            above,
            until,
            complete: as_of,
            live,
            whole,
        })
    } else {
        let mut list: Vec<Removal> = (from + 2..=to)
            .map(|by| Removal {
                by,
                seq: 1 + dice.below(by as usize - 1) as u64,
            })
            .collect();
        list.retain(|removal| adds.iter().all(|add| add.seq != removal.seq));
        Removes::List(list)
    };
    let (origin, inc) = (key(dice.below(9) as u8), 1 + dice.below(2) as u64);
    Delta {
        origin,
        inc,
        from,
        to,
        as_of,
        adds,
        removes,
    }
}

#[test]
fn noise_stays_within_the_budgets() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut registry = Registry::new(key(0), 1, tight());
        for step in 0..100u64 {
            let delta = noise(&mut dice);
            let _ = registry.apply(key(dice.below(9) as u8), &delta);
            let summary = Summary {
                origin: key(dice.below(12) as u8),
                inc: 1,
                base: dice.below(60) as u64,
                cloud: 0,
                audit: 0,
                settled: true,
            };
            let _ = registry.wants(key(1), &[summary]);
            match dice.below(20) {
                0 => registry.depart(key(dice.below(200) as u8), 1),
                1 => registry.hide(Duration::from_secs(step), key(dice.below(200) as u8)),
                2 => registry.show(key(dice.below(9) as u8)),
                3 => registry.handle_timeout(Duration::from_secs(step * 3_600)),
                _ => {}
            }
            registry.check();
            assert!(
                registry.stats().changes <= 30 + 10,
                "changes wait within bounds"
            );
        }
    }
}

#[test]
fn each_budget_is_named_when_it_is_used_up() {
    let fill = |limits: Limits| {
        let mut registry = Registry::new(
            key(1),
            1,
            Config {
                limits,
                ..Config::default()
            },
        );
        let mut write = |n: u8| registry.insert(&[n], b"12345", Hlc::ZERO);
        (0..9).find_map(|n| write(n).err())
    };
    let all = Limits::default();
    let full = |budget| Some(Refused::Full(budget));
    assert_eq!(
        fill(Limits {
            max_origin_entries: 3,
            ..all.clone()
        }),
        full(Budget::OriginEntries)
    );
    assert_eq!(
        fill(Limits {
            max_origin_bytes: 400,
            ..all.clone()
        }),
        full(Budget::OriginBytes)
    );
    assert_eq!(
        fill(Limits {
            max_entries: 3,
            ..all.clone()
        }),
        full(Budget::Entries)
    );
    assert_eq!(
        fill(Limits {
            max_bytes: 400,
            ..all.clone()
        }),
        full(Budget::Bytes)
    );
    assert_eq!(fill(all), None);
}

#[test]
fn a_full_registry_still_replaces_and_removes() {
    let mut registry = Registry::new(key(1), 1, tight());
    for n in 0..10u8 {
        registry.insert(&[n], b"1", Hlc::ZERO).unwrap();
    }
    let full = Refused::Full(Budget::OriginEntries);
    assert_eq!(registry.insert(b"x", b"1", Hlc::ZERO), Err(full));
    assert_eq!(registry.insert(&[3], b"2", Hlc::ZERO), Ok(()));
    assert!(registry.remove(&[4]));
    assert_eq!(registry.insert(b"x", b"1", Hlc::ZERO), Ok(()));
    registry.check();
}

#[test]
fn one_origin_more_than_allowed_is_refused() {
    let mut registry = Registry::new(key(0), 1, tight());
    let mut apply = |n: u8| {
        let delta = put(&mut Registry::new(key(n), 1, Config::default()), "a", "1");
        registry.apply(key(n), &delta).map(|_| ())
    };
    assert!((1..6).all(|n| apply(n).is_ok()));
    assert_eq!(apply(6), Err(Refused::Full(Budget::Origins)));
}

#[test]
fn too_many_holes_stop_the_log_until_it_is_pulled() {
    let (mut owner, mut other) = (
        Registry::new(key(1), 1, Config::default()),
        Registry::new(key(2), 1, tight()),
    );
    let deltas: Vec<Delta> = (0..10)
        .map(|n| put(&mut owner, &format!("{n}"), ""))
        .collect();
    let results: Vec<_> = deltas
        .iter()
        .skip(1)
        .step_by(2)
        .map(|delta| other.apply(key(1), delta).err())
        .collect();
    assert_eq!(
        results,
        [None, None, None, None, Some(Refused::TooManyHoles)]
    );
    super::rules::catch_up(&mut other, &owner, 10_000);
    assert_eq!(other.summaries(1), owner.summaries(1));
}

#[test]
fn a_reader_that_is_too_slow_begins_anew_and_misses_nothing() {
    let mut registry = Registry::new(key(1), 1, tight());
    for n in 0..40u8 {
        registry.insert(&[n % 8], &[n], Hlc::ZERO).unwrap();
    }
    let changes: Vec<Change> = std::iter::from_fn(|| registry.poll_change()).collect();
    assert_eq!(changes[0], Change::Reset);
    let mut seen = std::collections::BTreeMap::new();
    for change in changes {
        if let Change::Added { pair, .. } | Change::Replaced { pair, .. } = change {
            seen.insert(pair.key().to_vec(), pair.value().to_vec());
        }
    }
    let all: std::collections::BTreeMap<_, _> = registry
        .entries(key(1))
        .map(|(pair, _)| (pair.key().to_vec(), pair.value().to_vec()))
        .collect();
    assert_eq!(seen, all);
    assert_eq!(registry.stats().resets, 1);
}

#[test]
fn a_log_without_entries_takes_forty_bytes() {
    let mut registry = Registry::new(key(1), 1, Config::default());
    registry
        .apply(
            key(2),
            &put(&mut Registry::new(key(2), 1, Config::default()), "a", "1"),
        )
        .unwrap();
    if size_of::<usize>() == 8 {
        assert_eq!(size_of::<crate::origin::Slot>(), 40);
    }
    let shared = registry.clone();
    let origin: OriginKey = key(2);
    let bodies = [&registry, &shared]
        .map(|registry| registry.slots.slot(origin).and_then(|slot| slot.share()));
    let [Some(one), Some(other)] = bodies else {
        unreachable!("both have the entry");
    };
    assert!(
        std::sync::Arc::ptr_eq(&one, &other),
        "a copy shares the entries"
    );
}
