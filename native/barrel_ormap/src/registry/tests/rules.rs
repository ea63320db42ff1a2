// SPDX-License-Identifier: Apache-2.0

//! Each rule by a script.

use std::time::Duration;

use crate::registry::{Applied, Change, Config, Limits, Refused, Registry};
use crate::{Add, Delta, Hlc, LiveSet, Malformed, OriginKey, Pair, Removes, Sweep, Want};

pub(super) fn key(number: u8) -> OriginKey {
    OriginKey([number; 16])
}

pub(super) fn node(number: u8) -> Registry {
    Registry::new(key(number), 1, config())
}

fn config() -> Config {
    let limits = Limits {
        max_log: 8,
        ..Limits::default()
    };
    Config {
        limits,
        ..Config::default()
    }
}

pub(super) fn put(registry: &mut Registry, name: &str, value: &str) -> Delta {
    registry
        .insert(name.as_bytes(), value.as_bytes(), Hlc::from_u64(7))
        .unwrap();
    registry.poll_delta().unwrap()
}

fn del(registry: &mut Registry, name: &str) -> Delta {
    assert!(registry.remove(name.as_bytes()));
    registry.poll_delta().unwrap()
}

fn names(registry: &Registry, origin: u8) -> Vec<String> {
    let name = |pair: &Pair| String::from_utf8(pair.key().to_vec()).unwrap();
    registry
        .entries(key(origin))
        .map(|(pair, _)| name(pair))
        .collect()
}

fn changes(registry: &mut Registry) -> Vec<String> {
    let text = |change| match change {
        Change::Added { pair, .. } => format!("+{pair:?}"),
        Change::Replaced { pair, .. } => format!("={pair:?}"),
        Change::Removed { pair, .. } => format!("-{pair:?}"),
        Change::Reset => "reset".into(),
    };
    std::iter::from_fn(|| registry.poll_change())
        .map(text)
        .collect()
}

/// Fetches from the other until nothing is lacking.
pub(super) fn catch_up(asker: &mut Registry, other: &Registry, budget: usize) -> usize {
    let mut chunks = 0;
    loop {
        let summaries: Vec<_> = (0..=255)
            .flat_map(|bucket| other.summaries(bucket))
            .collect();
        let wants = asker.wants(other.me, &summaries);
        let answers: Vec<_> = wants
            .iter()
            .flat_map(|want| other.answer(want, budget))
            .collect();
        if answers.is_empty() {
            return chunks;
        }
        chunks += answers.len();
        for delta in answers {
            asker.apply(other.me, &delta).unwrap();
        }
    }
}

#[test]
fn a_removal_that_comes_first_is_remembered() {
    let (mut owner, mut other) = (node(1), node(2));
    let (add, remove) = (put(&mut owner, "a", "1"), del(&mut owner, "a"));
    let gap = Applied {
        new: true,
        gap: true,
    };
    assert_eq!(other.apply(key(1), &remove), Ok(gap));
    assert_eq!(
        other.apply(key(1), &add),
        Ok(Applied {
            new: true,
            gap: false
        })
    );
    assert!(names(&other, 1).is_empty());
    assert_eq!(other.apply(key(1), &add), Ok(Applied::default()));
    assert_eq!(other.context(key(1)), Some((1, 2)));
}

/// The second operation both replaces an entry and is replaced. Taken for applied before
/// it came, its own removal would be lost.
#[test]
fn what_is_dead_still_removes_others() {
    let (mut owner, mut other) = (node(1), node(2));
    let first = put(&mut owner, "a", "1");
    let second = put(&mut owner, "a", "2");
    let third = put(&mut owner, "a", "3");
    for delta in [&third, &first, &second] {
        other.apply(key(1), delta).unwrap();
    }
    let values: Vec<_> = other
        .entries(key(1))
        .map(|(pair, _)| pair.value().to_vec())
        .collect();
    assert_eq!(values, [b"3"]);
    assert!(other.slots.slot(key(1)).unwrap().dead().is_empty());
}

/// A replica that has missed the first operation hears by a statement, of one that has
/// forgotten what each operation removed, that nothing is left of it.
fn hole_below_a_statement(other: &mut Registry) {
    let mut owner = node(1);
    let late = put(&mut owner, "a", "1");
    put(&mut owner, "b", "2");
    for _ in 0..6 {
        put(&mut owner, "a", "3");
        put(&mut owner, "b", "3");
    }
    let (inc, base) = owner.context(key(1)).unwrap();
    let statement = owner.delta(key(1), inc, 1, base).unwrap();
    assert!(matches!(statement.removes, Removes::LiveSet(_)));
    other.apply(key(1), &statement).unwrap();
    assert_eq!(other.context(key(1)), Some((inc, 0)));
    other.apply(key(1), &late).unwrap();
    assert_eq!(other.context(key(1)), Some((inc, base)));
}

#[test]
fn a_hole_below_a_statement_is_dead() {
    let mut other = node(2);
    hole_below_a_statement(&mut other);
    assert_eq!(names(&other, 1), ["a", "b"]);
}

#[cfg(feature = "mutants")]
#[test]
fn a_forgotten_hole_comes_back_to_life() {
    let mutant = Some(crate::registry::Mutant::ForgetHoles);
    let mut other = Registry::new(key(2), 1, Config { mutant, ..config() });
    hole_below_a_statement(&mut other);
    assert_eq!(names(&other, 1), ["a", "a", "b"]);
}

#[test]
fn a_new_life_ends_the_old_one_at_once_and_for_ever() {
    let (mut old, mut other) = (node(1), node(2));
    let past = put(&mut old, "a", "1");
    other.apply(key(1), &past).unwrap();
    let mut new = Registry::new(key(1), 2, config());
    let present = put(&mut new, "b", "1");
    other.apply(key(1), &present).unwrap();
    assert_eq!(other.apply(key(1), &past), Err(Refused::Old));
    assert_eq!(names(&other, 1), ["b"]);
    assert_eq!(changes(&mut other), ["+a = 1", "-a = 1", "+b = 1"]);
    assert!(other.covers(key(1), 1, 5, 6));
}

#[test]
fn a_new_life_without_a_word_ends_the_old_one_too() {
    let (mut old, mut other, mut third) = (node(1), node(2), node(3));
    let past = put(&mut old, "a", "1");
    other.apply(key(1), &past).unwrap();
    third.apply(key(1), &past).unwrap();
    let new = Registry::new(key(1), 2, config());
    assert_eq!(catch_up(&mut other, &new, 1000), 1);
    third.begin(key(1), 2).unwrap();
    for registry in [&other, &third] {
        assert!(names(registry, 1).is_empty());
        assert_eq!(registry.context(key(1)), Some((2, 0)));
    }
}

#[test]
fn a_name_used_twice_is_noticed_and_left_behind() {
    let (mut one, mut two, mut other) = (node(1), node(1), node(2));
    put(&mut one, "a", "1");
    put(&mut one, "b", "1");
    let theirs = put(&mut two, "c", "1");
    assert_eq!(one.apply(key(1), &theirs), Ok(Applied::default()));
    put(&mut two, "d", "1");
    let ahead = put(&mut two, "e", "1");
    assert_eq!(one.apply(key(1), &ahead), Err(Refused::Clash(1)));
    assert_eq!(one.poll_clash(), Some(1));
    assert_eq!(one.poll_clash(), None);
    one.restart(2);
    one.check();
    assert_eq!(changes(&mut one), ["+a = 1", "+b = 1"]);
    let again = one.poll_delta().unwrap();
    other.apply(key(1), &again).unwrap();
    assert_eq!(names(&other, 1), ["a", "b"]);
    assert_eq!(two.apply(key(1), &again), Err(Refused::Clash(2)));
    assert_eq!(one.own(b"a"), Some(&b"1"[..]));
}

#[test]
fn a_summary_ahead_of_our_own_log_is_a_clash_too() {
    let (mut one, mut two) = (node(1), node(1));
    put(&mut two, "a", "1");
    assert!(one.wants(key(1), &two.summaries(1)).is_empty());
    assert_eq!(one.poll_clash(), Some(1));
}

#[test]
fn all_writes_of_a_turn_go_together_but_not_too_many() {
    let mut owner = node(1);
    for n in 0..100u8 {
        owner.insert(&[n], b"v", Hlc::ZERO).unwrap();
    }
    let (first, second) = (owner.poll_delta().unwrap(), owner.poll_delta().unwrap());
    assert_eq!((first.from, first.to, first.adds.len()), (0, 64, 64));
    assert_eq!((second.from, second.to, second.adds.len()), (64, 100, 36));
    assert_eq!(owner.poll_delta(), None);
}

#[test]
fn big_writes_of_a_turn_go_in_chunks() {
    let mut owner = node(1);
    for n in 0..10u8 {
        owner.insert(&[n], &[0; 30_000], Hlc::ZERO).unwrap();
    }
    let deltas: Vec<_> = std::iter::from_fn(|| owner.poll_delta()).collect();
    assert_eq!(deltas.len(), 5);
    assert!(
        deltas
            .iter()
            .all(|delta| delta.encoded_len() <= crate::delta::MAX_CHUNK)
    );
}

#[test]
fn who_is_far_behind_is_told_what_is_live() {
    let (mut owner, mut other) = (node(1), node(2));
    for n in 0..200u8 {
        let delta = put(&mut owner, &n.to_string(), "v");
        other.apply(key(1), &delta).unwrap();
    }
    for n in (0..200u8).filter(|n| n % 3 > 0) {
        del(&mut owner, &n.to_string());
    }
    put(&mut owner, "last", "v");
    // So little at a time that the statement itself takes several chunks.
    assert!(catch_up(&mut other, &owner, 110) > 3);
    assert_eq!(names(&other, 1), names(&owner, 1));
    assert_eq!((other.root(), other.stats().with_holes), (owner.root(), 0));
    assert_eq!(other.summaries(1), owner.summaries(1));
}

#[test]
fn an_operation_nobody_has_any_more_holds_up_only_itself() {
    let (mut owner, mut one, mut two) = (node(1), node(2), node(3));
    let first = put(&mut owner, "a", "1");
    put(&mut owner, "lost", "1");
    let third = put(&mut owner, "c", "1");
    one.apply(key(1), &first).unwrap();
    one.apply(key(1), &third).unwrap();
    catch_up(&mut two, &one, 1000);
    assert_eq!(names(&two, 1), ["a", "c"]);
    assert_eq!(one.summaries(1), two.summaries(1));
    assert_eq!(catch_up(&mut two, &one, 1000), 0);
}

#[test]
fn who_answers_keeps_nothing_in_mind() {
    let mut owner = node(1);
    put(&mut owner, "a", "1");
    let before = owner.clone();
    let want = Want::after(key(1), 1, 0);
    assert_eq!(owner.answer(&want, 1000), owner.answer(&want, 1000));
    assert_eq!(format!("{before:?}"), format!("{owner:?}"));
}

#[test]
fn who_is_unreachable_is_hidden_and_comes_back_without_traffic() {
    let (mut owner, mut other) = (node(1), node(2));
    let first = put(&mut owner, "a", "1");
    other.apply(key(1), &first).unwrap();
    let root = other.root();
    other.hide(Duration::ZERO, key(1));
    assert_eq!(other.root(), root);
    let second = put(&mut owner, "b", "1");
    other.apply(key(1), &second).unwrap();
    other.show(key(1));
    assert_eq!(
        changes(&mut other),
        ["+a = 1", "-a = 1", "+a = 1", "+b = 1"]
    );
}

#[test]
fn who_is_forgotten_leaves_no_trace_and_may_come_again() {
    let (mut owner, mut other) = (node(1), node(2));
    let delta = put(&mut owner, "a", "1");
    let before = (other.root(), other.known());
    for hidden in [false, true] {
        other.apply(key(1), &delta).unwrap();
        assert_eq!((other.known(), names(&other, 1).len()), (2, 1));
        if hidden {
            other.hide(Duration::ZERO, key(1));
        }
        other.forget(key(1));
        other.check();
        assert_eq!((other.root(), other.known()), before);
    }
    other.forget(key(2));
    assert_eq!(other.known(), 1, "nobody forgets himself");
    assert_eq!(
        changes(&mut other),
        ["+a = 1", "-a = 1", "+a = 1", "-a = 1"]
    );
}

#[test]
fn who_is_away_for_too_long_is_first_kept_quiet_and_then_given_up() {
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let (mut owner, mut other, mut third) = (node(1), node(2), node(3));
    let delta = put(&mut owner, "a", "1");
    other.apply(key(1), &delta).unwrap();
    third.apply(key(1), &delta).unwrap();
    other.hide(hours(1), key(1));
    assert_eq!(other.poll_timeout(), Some(hours(13)));
    other.handle_timeout(hours(13));
    other.check();
    assert!(other.summaries(1).is_empty());
    assert!(other.answer(&Want::after(key(1), 1, 0), 1000).is_empty());
    assert_eq!(names(&other, 1), ["a"]);
    assert_eq!(other.poll_timeout(), Some(hours(25)));
    other.handle_timeout(hours(25));
    other.check();
    assert_eq!((names(&other, 1).len(), other.poll_timeout()), (0, None));
    // A copy that somebody still has does not bring it back.
    assert_eq!(catch_up(&mut other, &third, 1000), 1);
    assert_eq!(names(&other, 1).len(), 0);
    assert_eq!(other.apply(key(1), &delta), Err(Refused::Old));
    // It comes back itself.
    other.show(key(1));
    catch_up(&mut other, &owner, 1000);
    assert_eq!(names(&other, 1), ["a"]);
    assert_eq!(changes(&mut other), ["+a = 1", "-a = 1", "+a = 1"]);
}

#[test]
fn who_was_given_up_is_told_of_again_in_a_new_life() {
    let mut other = node(2);
    let delta = put(&mut node(1), "a", "1");
    other.apply(key(1), &delta).unwrap();
    other.hide(Duration::ZERO, key(1));
    other.handle_timeout(Duration::from_secs(90_000));
    let mut new = Registry::new(key(1), 2, config());
    let delta = put(&mut new, "b", "1");
    other.apply(key(1), &delta).unwrap();
    other.check();
    assert_eq!(other.summaries(1), new.summaries(1));
    assert_eq!(changes(&mut other), ["+a = 1", "-a = 1"]);
    other.show(key(1));
    assert_eq!(changes(&mut other), ["+b = 1"]);
}

#[test]
fn who_has_left_is_gone_until_it_lives_again() {
    let (mut owner, mut other) = (node(1), node(2));
    let delta = put(&mut owner, "a", "1");
    other.apply(key(1), &delta).unwrap();
    other.depart(key(1), 1);
    other.check();
    assert_eq!(changes(&mut other), ["+a = 1", "-a = 1"]);
    assert_eq!(other.apply(key(1), &delta), Err(Refused::Old));
    other.show(key(1));
    assert_eq!(catch_up(&mut other, &owner, 1000), 0);
    owner.restart(2);
    catch_up(&mut other, &owner, 1000);
    assert_eq!(names(&other, 1), ["a"]);
}

/// A copy that has lost an entry, has one too many and has changed another.
fn damage(registry: &mut Registry) {
    let config = registry.config.clone();
    registry.change_slot(key(1), |slot, _| {
        let mut adds: Vec<_> = [(1, "x"), (2, "y")]
            .into_iter()
            .map(|(seq, value)| Add {
                seq,
                hlc: Hlc::ZERO,
                writer: None,
                pair: Pair::new(b"wrong", value.as_bytes()),
            })
            .collect();
        adds.sort_by_key(|add| add.seq);
        let live = Vec::new();
        let complete = slot.base;
        let set = LiveSet {
            above: 0,
            until: complete,
            complete,
            live,
            whole: true,
        };
        let (origin, inc, from, to, as_of) = (slot.origin, slot.inc, complete, complete, complete);
        let delta = Delta {
            origin,
            inc,
            from,
            to,
            as_of,
            adds,
            removes: Removes::LiveSet(set),
        };
        let terms = config.terms((100, 100_000), true);
        let (_, result) = slot.merge(&delta, &terms);
        assert_eq!(result, Ok(()));
    });
}

#[test]
fn a_damaged_copy_is_noticed_and_made_good_by_the_origin_alone() {
    let (mut owner, mut one, mut two) = (node(1), node(2), node(3));
    let deltas = [
        put(&mut owner, "a", "1"),
        put(&mut owner, "b", "1"),
        put(&mut owner, "c", "1"),
        del(&mut owner, "b"),
    ];
    for delta in &deltas {
        one.apply(key(1), delta).unwrap();
        two.apply(key(1), delta).unwrap();
    }
    damage(&mut one);
    assert_eq!(names(&one, 1), ["wrong", "wrong"]);
    assert!(one.wants(key(3), &two.summaries(1)).is_empty());
    assert_eq!(one.stats().mismatches, 1);
    let want = one.poll_doubt().unwrap();
    assert_eq!(one.poll_doubt(), None);
    assert!(two.answer(&want, 1000).is_empty());
    // So little at a time that the origin has to be asked twice.
    for delta in owner.answer(&want, 1) {
        assert_eq!(delta.validate(), Ok(()));
        one.apply(key(1), &delta).unwrap();
    }
    let want = one.poll_doubt().unwrap();
    for delta in owner.answer(&want, 1000) {
        one.apply(key(1), &delta).unwrap();
    }
    assert_eq!(
        (names(&one, 1), one.stats().repaired),
        (names(&owner, 1), 1)
    );
    assert_eq!(one.summaries(1), owner.summaries(1));
    one.check();
}

#[test]
fn damage_is_found_although_somebody_lies_about_later_operations() {
    let (mut owner, mut one, mut two) = (node(1), node(2), node(3));
    let deltas = [put(&mut owner, "a", "1"), put(&mut owner, "b", "1")];
    for delta in &deltas {
        one.apply(key(1), delta).unwrap();
        two.apply(key(1), delta).unwrap();
    }
    let lie = Delta {
        as_of: crate::delta::MAX_SEQ,
        ..deltas[0].clone()
    };
    let is_settled = |registry: &Registry| registry.summaries(1)[0].settled;
    damage(&mut one);
    one.apply(key(9), &lie).unwrap();
    assert!(!is_settled(&one));
    // it may be true, so nothing is counted; but the origin is asked
    assert!(one.wants(key(3), &two.summaries(1)).is_empty());
    assert_eq!(one.stats().mismatches, 0);
    let want = one.poll_doubt().unwrap();
    one.apply(key(1), &owner.answer(&want, 1000)[0]).unwrap();
    assert_eq!(names(&one, 1), ["a", "b"]);
    assert_eq!((one.stats().mismatches, one.stats().repaired), (1, 1));
    assert!(is_settled(&one));
    // what the origin says of itself in any comparison is enough
    one.apply(key(9), &lie).unwrap();
    assert!(one.wants(key(3), &owner.summaries(1)).is_empty() && !is_settled(&one));
    assert!(one.wants(key(1), &owner.summaries(1)).is_empty() && is_settled(&one));
    one.check();
}

#[test]
fn who_knows_of_later_removals_is_not_taken_for_damaged() {
    let (mut owner, mut one, mut two, mut three) = (node(1), node(2), node(3), node(4));
    let deltas = [
        put(&mut owner, "a", "1"),
        put(&mut owner, "b", "1"),
        del(&mut owner, "a"),
    ];
    for delta in &deltas {
        two.apply(key(1), delta).unwrap();
    }
    for delta in &deltas[..2] {
        three.apply(key(1), delta).unwrap();
    }
    let part = two.delta(key(1), 1, 0, 2).expect("it is all there");
    one.apply(key(3), &part).unwrap();
    assert!(one.wants(key(4), &three.summaries(1)).is_empty());
    let want = one.poll_doubt().expect("only the origin knows");
    one.apply(key(1), &owner.answer(&want, 1000)[0]).unwrap();
    assert_eq!((one.stats().mismatches, one.stats().repaired), (0, 0));
    assert_eq!(names(&one, 1), ["b"]);
}

#[test]
fn the_word_of_the_origin_counts_only_from_the_origin_and_while_it_is_new() {
    let (mut owner, mut one) = (node(1), node(2));
    one.apply(key(1), &put(&mut owner, "a", "1")).unwrap();
    let want = Want {
        repair: Some(0),
        ..Want::after(key(1), 1, 1)
    };
    let word = owner.answer(&want, 1000).remove(0);
    one.apply(key(1), &del(&mut owner, "a")).unwrap();
    one.apply(key(1), &word).unwrap();
    assert!(names(&one, 1).is_empty());
    damage(&mut one);
    one.apply(key(3), &owner.answer(&want, 1000)[0]).unwrap();
    assert_eq!(names(&one, 1), ["wrong", "wrong"]);
}

#[test]
fn a_restored_registry_has_everything_but_its_own_past() {
    let (mut owner, mut one) = (node(1), node(2));
    for n in 0..30 {
        one.apply(key(1), &put(&mut owner, &format!("{}", n % 10), "v"))
            .unwrap();
    }
    put(&mut one, "mine", "1");
    one.depart(key(9), 4);
    let again = Registry::restore(key(2), 2, config(), &one.snapshot());
    again.check();
    assert_eq!(again.summaries(1), one.summaries(1));
    assert!(names(&again, 2).is_empty());
    assert!(again.covers(key(9), 4, 0, 1));
}

#[test]
fn what_no_honest_node_sends_changes_nothing() {
    let mut other = node(2);
    let good = put(&mut node(1), "a", "1");
    let set = |above, until, complete, live| {
        Removes::LiveSet(LiveSet {
            above,
            until,
            complete,
            live,
            whole: false,
        })
    };
    let broken = [
        (
            Malformed::Interval,
            Delta {
                from: 2,
                ..good.clone()
            },
        ),
        (
            Malformed::Interval,
            Delta {
                to: u64::MAX,
                as_of: u64::MAX,
                ..good.clone()
            },
        ),
        (
            Malformed::Interval,
            Delta {
                as_of: 0,
                ..good.clone()
            },
        ),
        (
            Malformed::Entry,
            Delta {
                adds: vec![good.adds[0].clone(); 2],
                ..good.clone()
            },
        ),
        (
            Malformed::Entry,
            Delta {
                adds: vec![Add {
                    seq: 2,
                    ..good.adds[0].clone()
                }],
                ..good.clone()
            },
        ),
        (
            Malformed::Entry,
            Delta {
                adds: vec![Add {
                    writer: Some(key(3)),
                    ..good.adds[0].clone()
                }],
                ..good.clone()
            },
        ),
        (
            Malformed::Entry,
            Delta {
                adds: vec![Add {
                    pair: Pair::new(&[0; crate::delta::MAX_PAIR], b"1"),
                    ..good.adds[0].clone()
                }],
                ..good.clone()
            },
        ),
        (
            Malformed::Removal,
            Delta {
                removes: Removes::List(vec![crate::Removal { by: 1, seq: 1 }]),
                ..good.clone()
            },
        ),
        (
            Malformed::Removal,
            Delta {
                to: 0,
                adds: vec![],
                ..good.clone()
            },
        ),
        (
            Malformed::Statement,
            Delta {
                removes: set(0, 0, 1, vec![]),
                ..good.clone()
            },
        ),
        (
            Malformed::Statement,
            Delta {
                removes: set(0, 1, 2, vec![]),
                ..good.clone()
            },
        ),
        (
            Malformed::Statement,
            Delta {
                removes: set(0, 1, 1, vec![2]),
                ..good.clone()
            },
        ),
    ];
    let before = format!("{:?}", other.slots);
    for (what, delta) in broken {
        assert_eq!(
            other.apply(key(1), &delta),
            Err(Refused::Malformed(what)),
            "{delta:?}"
        );
    }
    assert_eq!(format!("{:?}", other.slots), before);
    assert_eq!(other.stats().malformed, 12);
}

#[test]
fn a_want_may_ask_for_anything() {
    let mut owner = node(1);
    for n in 0..40 {
        put(&mut owner, &(n % 4).to_string(), "v");
    }
    let sweep = Sweep {
        upto: u64::MAX,
        as_of: u64::MAX,
    };
    for base in [0, 20, 40, u64::MAX] {
        let have = vec![(0, u64::MAX), (7, 3), (u64::MAX, u64::MAX)];
        let want = Want {
            have,
            sweep,
            repair: None,
            ..Want::after(key(1), 1, base)
        };
        for delta in owner.answer(&want, 0) {
            assert_eq!(delta.validate(), Ok(()));
        }
        let whole = Want {
            repair: Some(base),
            ..want
        };
        assert_eq!(owner.answer(&whole, 0)[0].validate(), Ok(()));
    }
    assert_eq!(owner.delta(key(1), 1, u64::MAX, u64::MAX), None);
    assert_eq!(owner.delta(key(1), 1, 3, u64::MAX), None);
}
