// SPDX-License-Identifier: Apache-2.0

//! Random schedules: joins, departures, crashes, links that fail, close and cross, and
//! messages that wait. Whatever happened, once nothing is under way links are symmetric.
//!
//! `BARREL_SCHEDULES` is the number of schedules (2,000), `BARREL_SEED` chooses others. A
//! failure prints the shortest list of steps that was found.

mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestError, TestRng, TestRunner};

use barrel_hyparview::{AntiHub, Config, EvictionCap, Switch};
use world::{Step, World};

fn number(name: &str, default: u32) -> u32 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect(name))
}

fn runner(schedules: u32) -> TestRunner {
    // not ChaCha, which is slow where it is not optimised
    let mut seed = [7; 16];
    seed[..4].copy_from_slice(&number("BARREL_SEED", 1).to_le_bytes());
    let runs = Runs {
        cases: schedules,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Runs::default()
    };
    TestRunner::new_with_rng(runs, TestRng::from_seed(RngAlgorithm::XorShift, &seed))
}

/// So small that everything is full and everybody is in somebody's way.
fn tight(config: Config) -> Config {
    Config {
        active_size: Some(2),
        passive_size: 4,
        arwl: 3,
        prwl: 1,
        ..config
    }
}

/// Which additions are on.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Paper,
    Mixing,
    Shipped,
    Open,
}

fn config(kind: Kind) -> Config {
    let switch = Switch {
        percent: 100,
        ..Switch::default()
    };
    let cap = EvictionCap {
        keep_oldest: 1,
        ..EvictionCap::default()
    };
    let anti_hub = AntiHub {
        joins: 1,
        ..AntiHub::default()
    };
    let paper = tight(Config::paper());
    let shipped = Config {
        switch: Some(switch.clone()),
        eviction_cap: Some(cap),
        anti_hub: Some(anti_hub),
        rate_limit: None,
        ..tight(Config::default())
    };
    match kind {
        Kind::Paper => paper,
        Kind::Mixing => Config {
            switch: Some(switch),
            ..paper
        },
        Kind::Shipped => shipped,
        Kind::Open => Config {
            active_size: None,
            ..shipped
        },
    }
}

type Schedule = (Kind, usize, Vec<Step>);

fn schedules() -> impl Strategy<Value = Schedule> {
    let kinds = [Kind::Paper, Kind::Mixing, Kind::Shipped, Kind::Open];
    let steps = prop::collection::vec(Step::any(), 0..120);
    (prop::sample::select(kinds.to_vec()), 2..7_usize, steps)
}

fn run((kind, size, steps): Schedule) -> Result<(), TestCaseError> {
    let world = World::new(size, &config(kind));
    world.run(&steps).map_err(TestCaseError::fail)
}

/// On one line, to be given to [`run`].
fn explain(failure: TestError<Schedule>) -> String {
    match failure {
        TestError::Fail(reason, schedule) => format!("{reason}: run({schedule:?})"),
        TestError::Abort(reason) => reason.to_string(),
    }
}

#[test]
fn links_are_symmetric_when_all_is_quiet() {
    let outcome = runner(number("BARREL_SCHEDULES", 2000)).run(&schedules(), run);
    outcome.unwrap_or_else(|failure| panic!("{}", explain(failure)));
}

#[cfg(feature = "mutants")]
mod mutants {
    use barrel_hyparview::Mutant;

    use super::*;

    fn is_noticed(mutant: Mutant) -> bool {
        let outcome = runner(20_000).run(&schedules(), |(kind, size, steps)| {
            let config = Config {
                mutant: Some(mutant),
                ..config(kind)
            };
            let world = World::new(size, &config);
            world.run(&steps).map_err(TestCaseError::fail)
        });
        outcome.is_err()
    }

    #[test]
    fn silent_evictions_are_noticed() {
        assert!(is_noticed(Mutant::SilentEviction));
    }

    #[test]
    fn late_accepts_without_an_answer_are_noticed() {
        assert!(is_noticed(Mutant::LateAcceptIgnored));
    }

    #[test]
    fn messages_of_old_links_are_noticed() {
        assert!(is_noticed(Mutant::OldLinks));
    }

    #[test]
    fn refusals_that_end_nothing_are_noticed() {
        assert!(is_noticed(Mutant::RefusalIgnored));
    }
}
