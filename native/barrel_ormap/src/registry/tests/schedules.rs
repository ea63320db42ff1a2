// SPDX-License-Identifier: Apache-2.0

//! Many random schedules, and what they find when a rule is broken.

use super::dice::schedules;
use super::world::World;
use crate::registry::Config;

const STEPS: usize = 120;

/// Runs schedules until one fails, and tells its seed.
fn first_failure(count: u64, adjust: impl Fn(&mut Config)) -> Option<String> {
    let one = std::env::var("BARREL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = one.map_or(0..count, |seed: u64| seed..seed + 1);
    seeds.into_iter().find_map(|seed| {
        let loss = [0, 30, 80][(seed % 3) as usize];
        let run = || World::new(seed, loss, &adjust).run(STEPS);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        match result {
            Ok(Ok(())) => None,
            Ok(Err(wrong)) => Some(format!("BARREL_SEED={seed}: {wrong}")),
            Err(_) => Some(format!("BARREL_SEED={seed}: panics")),
        }
    })
}

#[test]
fn replicas_agree_with_the_owners_whatever_happens() {
    assert_eq!(first_failure(schedules(), |_| ()), None);
}

#[test]
fn replicas_agree_also_where_little_is_kept() {
    let failure = first_failure(schedules() / 4, |config| {
        config.limits.max_log = 2;
        config.limits.max_cloud = 2;
        config.limits.max_dead = 2;
        config.limits.max_changes = 4;
    });
    assert_eq!(failure, None);
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;
    use crate::registry::Mutant;

    /// So many schedules are enough to find the rarest of them several times.
    const ENOUGH: u64 = 20_000;

    fn is_found(mutant: Mutant) -> bool {
        let broken = |config: &mut Config| {
            config.mutant = Some(mutant);
            // So little that statements take the place of lists more often.
            config.limits.max_log = 1;
        };
        first_failure(ENOUGH, broken).is_some()
    }

    #[test]
    fn chunks_that_claim_too_much_are_found() {
        assert!(is_found(Mutant::OverClaim));
    }

    #[test]
    fn covering_the_dead_is_found() {
        assert!(is_found(Mutant::CoverTheDead));
    }

    #[test]
    fn forgetting_the_holes_is_found() {
        assert!(is_found(Mutant::ForgetHoles));
    }

    #[test]
    fn keeping_the_old_life_is_found() {
        assert!(is_found(Mutant::KeepOldLife));
    }
}
