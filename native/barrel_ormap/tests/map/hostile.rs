// SPDX-License-Identifier: Apache-2.0

//! Whatever is sent, nothing panics and nothing grows beyond its budget.

use std::time::Duration;

use barrel_ormap::map::{Birth, Collected, Config, LogName, Record, RecordId, Refused};
use barrel_ormap::{
    Add, Clock, Delta, Hlc, LiveSet, LwwMap, MapDelta, Now, OriginKey, Pair, Removes, Summary, Want,
};
use proptest::prelude::*;

use crate::cluster::{START, key_of, schedules};

fn config() -> Config {
    Config {
        horizon: Duration::from_secs(60),
        departed_after: Duration::from_secs(60),
        max_entries: 20,
        max_bytes: 400,
        max_parked: 6,
        max_parked_per_log: 3,
        max_logs: 8,
        max_logs_per_origin: 3,
        persist: true,
        ..Config::default()
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..12, 1 => Just(u64::MAX), 1 => Just(1 << 62), 1 => any::<u64>()]
}

fn log() -> impl Strategy<Value = LogName> {
    (0usize..5, prop_oneof![4 => 0u64..6, 1 => any::<u64>()]).prop_map(|(node, inc)| LogName {
        origin: key_of(node),
        inc,
    })
}

fn birth() -> impl Strategy<Value = Birth> {
    (log(), number(), 0u32..3).prop_map(|(log, seq, moves)| Birth { log, seq, moves })
}

fn add() -> impl Strategy<Value = Add> {
    let hlc =
        prop_oneof![3 => START..START + 1_000, 1 => Just(START + 3_600_000), 1 => Just(1 << 47)];
    let writer = prop::option::of((0usize..5).prop_map(key_of));
    let value = prop::collection::vec(any::<u8>(), 0..60);
    (number(), hlc, writer, 0u8..30, value).prop_map(|(seq, ms, writer, key, value)| Add {
        seq,
        hlc: Hlc::new(ms, 0),
        writer,
        pair: Pair::new(&[key], &value),
    })
}

fn removes() -> impl Strategy<Value = Removes> {
    let set = (
        number(),
        number(),
        number(),
        prop::collection::vec(number(), 0..6),
        any::<bool>(),
    );
    prop_oneof![
        3 => Just(Removes::List(Vec::new())),
        2 => set.prop_map(|(above, until, complete, mut live, whole)| {
            live.sort_unstable();
            Removes::LiveSet(LiveSet { above, until, live, whole, complete })
        }),
    ]
}

fn delta() -> impl Strategy<Value = MapDelta> {
    let births = prop::collection::vec((0u64..12, birth()), 0..3);
    let unknown = prop::collection::vec((number(), number()), 0..2);
    let adds = prop::collection::vec(add(), 0..6);
    let head = (log(), 0u64..12, number(), number());
    let collected = (number(), 0u64..3);
    let parts = (head, adds, removes(), births, unknown, collected);
    parts.prop_map(
        |((log, from, to, as_of), mut adds, removes, mut births, unknown, collected)| {
            adds.sort_by_key(|add| add.seq);
            adds.dedup_by_key(|add| add.seq);
            births.sort_by_key(|birth| birth.0);
            let delta = Delta {
                origin: log.origin,
                inc: log.inc,
                from,
                to: if matches!(removes, Removes::List(_)) {
                    to
                } else {
                    from
                },
                as_of,
                adds,
                removes,
            };
            let (upto, epoch) = collected;
            let collected = Collected { upto, epoch };
            MapDelta {
                delta,
                births,
                unknown,
                collected,
            }
        },
    )
}

fn within(map: &LwwMap) {
    let (stats, config) = (map.stats(), config());
    assert!(stats.entries <= config.max_entries, "{stats:?}");
    assert!(stats.bytes <= config.max_bytes, "{stats:?}");
    assert!(stats.parked <= config.max_parked, "{stats:?}");
    assert!(stats.logs <= config.max_logs, "{stats:?}");
    assert!(stats.holes <= 1024 * config.max_logs, "{stats:?}");
    map.check();
}

proptest! {
    #![proptest_config(schedules())]

    #[test]
    fn nothing_that_is_sent_panics_or_grows_beyond_its_budget(
        deltas in prop::collection::vec((delta(), 0usize..5, 0u64..40_000), 1..40),
        wants in prop::collection::vec((log(), number(), prop::option::of(number()), number()), 0..6),
    ) {
        let mut map = LwwMap::new(key_of(0), 3, config());
        let mut clock = Clock::default();
        let (mut time, mut honest) = (0, 0);
        for (delta, from, wait) in deltas {
            time += wait;
            let now = Now { mono: Duration::from_millis(time), wall_ms: START + time };
            let _ = map.apply(now, &mut clock, key_of(from), delta);
            honest += u64::from(map.put(now, &mut clock, &[200], &[1]).is_ok());
            map.depart(now, key_of(from));
            map.set_lead(true);
            map.handle_timeout(now, &mut clock);
            within(&map);
            while map.commit().is_some() {}
            while map.poll_change().is_some() {}
            while map.poll_record().is_some() {}
        }
        prop_assert!(clock.latest().wall_time() <= START + time + clock.max_drift_ms() + honest);
        for (log, base, repair, until) in wants {
            let mut want = Want::after(log.origin, log.inc, base);
            want.repair = repair;
            want.have = vec![(until, base), (base, until)];
            for budget in [0, 100, usize::MAX] {
                let answer = map.answer(&want, budget);
                prop_assert!(answer.iter().all(|delta| delta.validate().is_ok()));
            }
            let summary = Summary {
                origin: log.origin,
                inc: log.inc,
                base,
                cloud: until,
                audit: 7,
                settled: true,
            };
            let _ = map.wants(log.origin, &[summary]);
            let _ = map.repairs(log.origin, &[0; 256], &[summary]);
            within(&map);
        }
    }

    #[test]
    fn what_the_disk_holds_is_an_error_or_a_map(
        logs in prop::collection::vec((log(), number(), number()), 0..4),
        adds in prop::collection::vec((log(), add(), birth(), any::<bool>()), 0..6),
    ) {
        let mut records = Vec::new();
        for (name, base, collected) in logs {
            let applied = barrel_ormap::Coverage { base: base.min(100), cloud: Default::default() };
            let dead = Default::default();
            let collected = collected.min(base.min(100));
            records.push((RecordId::Log(name), Record::Log { applied, dead, collected }));
        }
        for (name, add, birth, parked) in adds {
            let Add { seq, hlc, writer, pair } = add;
            let births = vec![birth];
            let record = Record::Entry { pair, hlc, writer, births, parked };
            records.push((RecordId::Entry(name, seq), record));
        }
        let now = Now { mono: Duration::ZERO, wall_ms: START };
        if let Ok(map) = LwwMap::restore(key_of(0), 99, Config::default(), now, records) {
            map.check();
        }
    }
}

/// A claim of one operation per stamp.
fn claim(origin: OriginKey, from: u64, stamps: &[u64]) -> MapDelta {
    let adds = stamps.iter().zip(from + 1..).map(|(ms, seq)| Add {
        seq,
        hlc: Hlc::new(*ms, 0),
        writer: None,
        pair: Pair::new(&[seq as u8], b"value"),
    });
    let adds: Vec<Add> = adds.collect();
    let to = from + adds.len() as u64;
    let delta = Delta {
        origin,
        inc: 1,
        from,
        to,
        as_of: to,
        adds,
        removes: Removes::List(Vec::new()),
    };
    MapDelta {
        delta,
        births: Vec::new(),
        unknown: Vec::new(),
        collected: Collected::default(),
    }
}

#[test]
fn a_flood_from_the_future_stops_at_its_budget_and_only_its_log() {
    let mut map = LwwMap::new(key_of(0), 1, config());
    let mut clock = Clock::default();
    let now = Now {
        mono: Duration::ZERO,
        wall_ms: START,
    };
    let flood = claim(
        key_of(1),
        0,
        &[START, 1 << 47, 1 << 47, 1 << 47, 1 << 47, START],
    );
    let applied = map.apply(now, &mut clock, key_of(1), flood);
    assert_eq!(applied, Err(Refused::TooFarAhead));
    assert_eq!(map.stats().parked, 3);
    assert!(map.covers(key_of(1), 1, 4) && !map.covers(key_of(1), 1, 5));
    let honest = claim(key_of(2), 0, &[START + 100]);
    assert!(map.apply(now, &mut clock, key_of(2), honest).is_ok());
    assert_eq!(clock.latest().wall_time(), START + 100);
    within(&map);
}

#[test]
fn holes_without_end_are_refused() {
    let mut map = LwwMap::new(key_of(0), 1, Config::default());
    let mut clock = Clock::default();
    let now = Now {
        mono: Duration::ZERO,
        wall_ms: START,
    };
    let refused = (1..2_000u64).find_map(|n| {
        let delta = claim(key_of(1), 2 * n, &[START]);
        map.apply(now, &mut clock, key_of(1), delta).err()
    });
    assert_eq!(refused, Some(Refused::TooManyHoles));
    assert_eq!(map.stats().holes, 1024);
}
