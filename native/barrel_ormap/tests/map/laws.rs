// SPDX-License-Identifier: Apache-2.0

//! Joining replicas is like joining sets, as long as nothing is collected.

use std::collections::BTreeMap;

use barrel_ormap::map::{Config, Record, RecordId};
use barrel_ormap::{Clock, LwwMap, MapDelta, Now, OriginKey};
use proptest::prelude::*;

use crate::cluster::{Cluster, NODES, START, Step, difference, key_of, schedules};

const NOW: Now = Now {
    mono: std::time::Duration::from_secs(1),
    wall_ms: START + 10_000,
};

/// All of a replica but what it owes, which says when removals may go.
fn whole(map: &LwwMap) -> BTreeMap<RecordId, Record> {
    let records = map.snapshot().filter(|(id, _)| *id != RecordId::Map);
    let plain = records.map(|(id, record)| match record {
        Record::Entry {
            pair,
            hlc,
            writer,
            parked,
            ..
        } => {
            let births = Vec::new();
            let entry = Record::Entry {
                pair,
                hlc,
                writer,
                births,
                parked,
            };
            (id, entry)
        }
        record => (id, record),
    });
    plain.collect()
}

fn apply(map: &mut LwwMap, from: OriginKey, delta: MapDelta) {
    let applied = map.apply(NOW, &mut Clock::default(), from, delta);
    assert!(applied.is_ok(), "{applied:?}");
}

/// The first with all that the second has.
fn join(a: &LwwMap, b: &LwwMap) -> LwwMap {
    let mut joined = a.clone();
    let from = b.me().origin;
    loop {
        let wants = joined.wants(from, &difference(b, &joined));
        let deltas: Vec<_> = wants.iter().flat_map(|want| b.answer(want, 300)).collect();
        if deltas.is_empty() {
            return joined;
        }
        deltas
            .into_iter()
            .for_each(|delta| apply(&mut joined, from, delta));
    }
}

fn node() -> impl Strategy<Value = usize> {
    0..NODES
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (node(), any::<u8>()).prop_map(|(node, key)| Step::Put(node, key)),
        2 => (node(), any::<u8>()).prop_map(|(node, key)| Step::Remove(node, key)),
        6 => any::<usize>().prop_map(Step::Deliver),
        4 => any::<usize>().prop_map(Step::Lose),
        1 => (node(), node()).prop_map(|(to, from)| Step::Sync(to, from)),
        1 => (0u64..50).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

fn replicas(steps: &[Step]) -> Vec<LwwMap> {
    let mut cluster = Cluster::new(Config::default(), |_| ());
    steps.iter().for_each(|step| cluster.run(step));
    cluster.nodes.into_iter().map(|node| node.map).collect()
}

proptest! {
    #![proptest_config(schedules())]

    #[test]
    fn joining_is_commutative_associative_and_idempotent(steps in steps()) {
        let maps = replicas(&steps);
        let (a, b, c) = (&maps[0], &maps[1], &maps[2]);
        let ab = join(a, b);
        prop_assert_eq!(whole(&ab), whole(&join(b, a)));
        prop_assert_eq!(ab.root(), join(b, a).root());
        prop_assert_eq!(whole(&join(&ab, c)), whole(&join(a, &join(b, c))));
        prop_assert_eq!(whole(&join(&ab, b)), whole(&ab));
        prop_assert_eq!(whole(&join(a, a)), whole(a));
    }

    #[test]
    fn chunks_in_any_order_and_twice_are_the_whole(
        steps in steps(),
        order in prop::collection::vec(any::<usize>(), 0..64),
        budget in 1usize..400,
    ) {
        let maps = replicas(&steps);
        let empty = || LwwMap::new(key_of(9), 99, Config::default());
        for map in &maps {
            let mut copy = empty();
            let mut deltas = Vec::new();
            for want in copy.wants(map.me().origin, &difference(map, &copy)) {
                let mut want = want;
                // Piece by piece, as an asker would that applies each.
                loop {
                    let answer = map.answer(&want, budget);
                    let Some(last) = answer.last() else { break };
                    if last.delta.from < want.base {
                        break;
                    }
                    want.base = last.delta.to;
                    deltas.extend(answer);
                }
            }
            for at in &order {
                if !deltas.is_empty() {
                    let at = at % deltas.len();
                    apply(&mut copy, map.me().origin, deltas[at].clone());
                    deltas.rotate_left(at);
                }
            }
            deltas.into_iter().for_each(|delta| apply(&mut copy, map.me().origin, delta));
            prop_assert_eq!(whole(&copy), whole(&join(&empty(), map)));
            prop_assert_eq!(whole(&copy), whole(map));
        }
    }

    #[test]
    fn what_is_restored_is_what_was(steps in steps()) {
        for map in replicas(&steps) {
            let life = map.me().inc + 100;
            let restored = LwwMap::restore(map.me().origin, life, Config::default(), NOW, map.snapshot());
            let restored = restored.expect("a snapshot is whole");
            prop_assert_eq!(whole(&restored), whole(&map));
            prop_assert_eq!(restored.root(), map.root());
        }
    }
}
