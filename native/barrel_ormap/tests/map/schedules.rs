// SPDX-License-Identifier: Apache-2.0

//! Random schedules.

use std::time::Duration;

use barrel_ormap::LwwMap;
use barrel_ormap::map::{Config, Mode};
use proptest::prelude::*;

use crate::cluster::{Cluster, NODES, Step, schedules, values};

const HORIZON: Duration = Duration::from_secs(60);

fn node() -> impl Strategy<Value = usize> {
    0..NODES
}

fn write() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (node(), any::<u8>()).prop_map(|(node, key)| Step::Put(node, key)),
        1 => (node(), any::<u8>()).prop_map(|(node, key)| Step::Remove(node, key)),
    ]
}

fn travel() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<usize>().prop_map(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Duplicate),
        2 => any::<usize>().prop_map(Step::Lose),
        2 => (node(), node()).prop_map(|(to, from)| Step::Sync(to, from)),
        1 => any::<u8>().prop_map(Step::Split),
        1 => Just(Step::Heal),
        1 => (0u64..2_000).prop_map(Step::Pass),
    ]
}

/// Nothing is forgotten: nodes keep what is durable.
fn durable() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => write(),
        12 => travel(),
        2 => (node(), node(), 0..6usize).prop_map(|(to, from, n)| Step::Pull(to, from, n)),
        1 => (node(), -3_600_000i64..3_600_000).prop_map(|(node, by)| Step::Skew(node, by)),
        1 => (node(), -400i64..400).prop_map(|(node, by)| Step::Skew(node, by)),
        3 => node().prop_map(Step::Flush),
        2 => node().prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

/// Nodes have no disk.
fn volatile() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => write(),
        12 => travel(),
        1 => (node(), -400i64..400).prop_map(|(node, by)| Step::Skew(node, by)),
        1 => node().prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..80)
}

/// Partitions last longer than removals are remembered, and values are moved.
fn long() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => write(),
        12 => travel(),
        2 => (0u64..90_000).prop_map(Step::Pass),
        1 => any::<u8>().prop_map(Step::Split),
        1 => (node(), node(), 0..6usize).prop_map(|(to, from, n)| Step::Pull(to, from, n)),
        1 => (node(), node()).prop_map(|(node, other)| Step::Depart(node, other)),
        1 => node().prop_map(Step::Flush),
        1 => node().prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..100)
}

fn config(mode: Mode) -> Config {
    Config {
        mode,
        persist: true,
        ..Config::default()
    }
}

fn long_config(mode: Mode) -> Config {
    Config {
        horizon: HORIZON,
        departed_after: 2 * HORIZON,
        ..config(mode)
    }
}

fn run(steps: &[Step], config: Config, prepare: fn(&mut LwwMap)) -> Cluster {
    let mut cluster = Cluster::new(config, prepare);
    for step in steps {
        // Who has no disk, or whose disk is in question elsewhere, writes through.
        cluster.run(step);
    }
    // The clocks that were ahead become right, and what was parked is due.
    cluster.settle();
    cluster.run(&Step::Pass(1));
    cluster
}

/// Last write wins: all that was acknowledged is there, nothing comes back.
fn exact(steps: &[Step], prepare: fn(&mut LwwMap)) -> Result<(), String> {
    let mut cluster = run(steps, config(Mode::LastWrite), prepare);
    // Skews of an hour: values from the future count after that hour, removals do not go.
    cluster.nodes.iter_mut().for_each(|node| {
        node.map.check();
    });
    for _ in 0..3 {
        cluster.run(&Step::Pass(3_600_000 / 2 - 1_000));
        if cluster
            .nodes
            .iter()
            .all(|node| node.map.stats().parked == 0)
        {
            break;
        }
    }
    cluster.settle();
    let wrong = cluster.disagreement().or_else(|| cluster.wrong_winner());
    wrong.map_or(Ok(()), Err)
}

/// Beyond the horizon: agreement, no value is lost that nobody removed, and what was
/// removed by somebody who saw it does not come back.
fn beyond(steps: &[Step], mode: Mode, prepare: fn(&mut LwwMap)) -> Result<(), String> {
    let mut through: Vec<Step> = Vec::new();
    for step in steps {
        through.push(step.clone());
        // Every write is durable at once, so that every write counts.
        if let Step::Put(node, _) | Step::Remove(node, _) = step {
            through.push(Step::Flush(*node));
        }
    }
    let mut cluster = run(&through, long_config(mode), prepare);
    // A node that restarts often is ahead by a second each time.
    cluster.run(&Step::Pass(1_000 * steps.len() as u64));
    cluster.settle();
    if cluster.disagreement().is_some() {
        // Who relied on a node that had caught up in part only, waits for a horizon.
        cluster.run(&Step::Pass(HORIZON.as_millis() as u64));
        cluster.settle();
    }
    if let Some(wrong) = cluster.disagreement() {
        return Err(wrong);
    }
    let map = &cluster.nodes[0].map;
    for write in &cluster.writes {
        let own = cluster.writes.iter().filter(|other| other.key == write.key);
        let shown = map.get(&write.key);
        if shown.is_some() && shown == Some(&write.value) {
            let removed = own.clone().find(|other| other.removed == Some(write.stamp));
            if let Some(removed) = removed {
                return Err(format!("{write:?} is back after {removed:?}"));
            }
        }
        let alone = own.clone().count() == 1;
        if alone && !write.value.is_empty() && shown != Some(&write.value) {
            return Err(format!("{write:?} is lost: {shown:?}"));
        }
        // A key that nobody ever removed has its last value.
        let never = own.clone().all(|other| !other.value.is_empty());
        let last = own.max_by_key(|other| other.stamp);
        if never && shown != last.map(|last| &last.value[..]) {
            return Err(format!("{shown:?} instead of {last:?}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(schedules())]

    #[test]
    fn no_acknowledged_write_is_lost_and_none_comes_back(steps in durable()) {
        prop_assert_eq!(exact(&steps, |_| ()), Ok(()));
    }

    #[test]
    fn what_anybody_still_holds_survives_restarts_without_a_disk(steps in volatile()) {
        prop_assert_eq!(exact(&steps, |_| ()), Ok(()));
    }

    #[test]
    fn removals_outlive_their_horizon_by_resets(steps in long()) {
        prop_assert_eq!(beyond(&steps, Mode::LastWrite, |_| ()), Ok(()));
    }

    #[test]
    fn the_same_when_removals_are_of_what_was_seen(steps in long()) {
        prop_assert_eq!(beyond(&steps, Mode::ObservedRemove, |_| ()), Ok(()));
    }

    #[test]
    fn equal_roots_mean_equal_values(steps in durable()) {
        let mut cluster = Cluster::new(config(Mode::LastWrite), |_| ());
        for step in &steps {
            cluster.run(step);
            for a in &cluster.nodes {
                for b in &cluster.nodes {
                    if a.map.root() == b.map.root() {
                        prop_assert_eq!(values(&a.map), values(&b.map));
                    }
                }
            }
        }
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;
    use barrel_ormap::map::Mutant;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    /// Whether one of the schedules notices.
    fn kills(
        steps: impl Strategy<Value = Vec<Step>>,
        property: impl Fn(&[Step]) -> Result<(), String>,
    ) -> bool {
        let mut runner = TestRunner::deterministic();
        (0..2_000).any(|_| {
            let steps = steps.new_tree(&mut runner).map(|tree| tree.current());
            steps.is_ok_and(|steps| property(&steps).is_err())
        })
    }

    #[test]
    fn a_map_without_resets_is_noticed() {
        let prepare = |map: &mut LwwMap| map.break_it(Mutant::NoReset);
        assert!(kills(long(), |steps| beyond(
            steps,
            Mode::LastWrite,
            prepare
        )));
    }

    #[test]
    fn a_map_that_drops_what_a_writer_wrote_before_its_restart_is_noticed() {
        let prepare = |map: &mut LwwMap| map.break_it(Mutant::NoSealedLog);
        assert!(kills(durable(), |steps| exact(steps, prepare)));
    }

    #[test]
    fn a_map_that_claims_too_much_is_noticed() {
        let prepare = |map: &mut LwwMap| map.break_it(Mutant::ClaimTooMuch);
        assert!(kills(durable(), |steps| exact(steps, prepare)));
    }
}
