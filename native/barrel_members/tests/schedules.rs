// SPDX-License-Identifier: Apache-2.0

//! Random schedules: whatever happens to a few members, afterwards all agree, and
//! nobody was told anything twice.
//!
//! `BARREL_SCHEDULES=100000 cargo test --release -p barrel_members` runs many. A failure
//! prints its schedule.

mod net;

use std::collections::BTreeSet;
use std::time::Duration;

use barrel_members::{Claim, Config, Status};
use net::{Id, Net, millis};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

/// What happens, and to whom. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Crash(Id),
    Restart {
        node: Id,
        remembers: bool,
    },
    Freeze {
        node: Id,
        millis: u64,
    },
    Part {
        node: Id,
        island: u8,
    },
    Leave(Id),
    Rejoin(Id),
    BreakLink(Id),
    Loss(u32),
    Lie {
        from: Id,
        about: Id,
        ahead: u32,
        status: u8,
    },
}

fn step(lies: bool) -> impl Strategy<Value = Step> {
    let node = 0..8u32;
    let lie =
        (0..8u32, 0..8u32, 0..3u32, 0..4u8).prop_map(|(from, about, ahead, status)| Step::Lie {
            from,
            about,
            ahead,
            status,
        });
    prop_oneof![
        6 => (0..8_000u64).prop_map(Step::Wait),
        2 => node.clone().prop_map(Step::Crash),
        2 => (node.clone(), any::<bool>())
            .prop_map(|(node, remembers)| Step::Restart { node, remembers }),
        2 => (node.clone(), 0..15_000u64).prop_map(|(node, millis)| Step::Freeze { node, millis }),
        2 => (node.clone(), 0..2u8).prop_map(|(node, island)| Step::Part { node, island }),
        1 => node.clone().prop_map(Step::Leave),
        1 => node.clone().prop_map(Step::Rejoin),
        2 => node.prop_map(Step::BreakLink),
        1 => (0..300u32).prop_map(Step::Loss),
        if lies { 3 } else { 0 } => lie,
    ]
}

fn mesh(nodes: u32) -> BTreeSet<(Id, Id)> {
    (0..nodes)
        .flat_map(|b| (0..b).map(move |a| (a, b)))
        .collect()
}

fn ring(nodes: u32) -> BTreeSet<(Id, Id)> {
    (0..nodes)
        .map(|a| (a.min((a + 1) % nodes), a.max((a + 1) % nodes)))
        .collect()
}

fn take(net: &mut Net, step: &Step) {
    let nodes = net.peers.len() as Id;
    let is = |net: &mut Net, node: Id, up: bool| net.peer(node).up == up;
    match *step {
        Step::Wait(time) => net.run(millis(time)),
        Step::Crash(node) if is(net, node % nodes, true) => net.crash(node % nodes),
        Step::Restart { node, remembers } if is(net, node % nodes, false) => {
            net.restart(node % nodes, remembers);
        }
        Step::Freeze { node, millis: time } => net.freeze(node % nodes, millis(time)),
        Step::Part { node, island } => net.part(node % nodes, island),
        Step::Leave(node) if net.responds(node % nodes) => net.leave(node % nodes),
        Step::Rejoin(node) if is(net, node % nodes, false) => {
            if net.peer(node % nodes).members.has_left() {
                net.rejoin(node % nodes);
            }
        }
        Step::BreakLink(node) => net.break_link(node % nodes),
        Step::Loss(loss) => net.loss = loss,
        Step::Lie {
            from,
            about,
            ahead,
            status,
        } => {
            let of = &net.peer(about % nodes).members;
            let claim = Claim {
                member: about % nodes,
                incarnation: of.incarnation() + u64::from(ahead) / 2,
                beat: of.beat() + ahead,
                status: [
                    Status::Alive,
                    Status::Suspect,
                    Status::Unreachable,
                    Status::Left,
                ][usize::from(status)],
            };
            net.lie(from % nodes, claim);
        }
        Step::Crash(_) | Step::Restart { .. } | Step::Leave(_) | Step::Rejoin(_) => {}
    }
}

/// Nobody knows more of a member than the member itself, unless somebody lies.
fn only_the_member_raises_its_numbers(net: &Net) -> Result<(), TestCaseError> {
    for observer in &net.peers {
        for (member, card) in observer.members.iter() {
            let own = &net.peers[member as usize];
            let beat = observer.members.state(member).map_or(0, |state| state.beat);
            let of = own.members.incarnation();
            prop_assert!(card.incarnation < of || beat <= own.members.beat());
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Schedule {
    nodes: u32,
    sparse: bool,
    seed: u64,
    steps: Vec<Step>,
}

fn schedule(lies: bool) -> impl Strategy<Value = Schedule> {
    let steps = prop::collection::vec(step(lies), 1..40);
    (2..7u32, any::<bool>(), any::<u64>(), steps).prop_map(|(nodes, sparse, seed, steps)| {
        Schedule {
            nodes,
            sparse,
            seed,
            steps,
        }
    })
}

fn begin(schedule: &Schedule) -> Net {
    let neighbours = if schedule.sparse {
        ring(schedule.nodes)
    } else {
        mesh(schedule.nodes)
    };
    Net::new(schedule.nodes, neighbours, Config::default(), schedule.seed)
}

fn end(net: &mut Net) -> Result<(), TestCaseError> {
    net.loss = 0;
    for id in net.ids() {
        net.part(id, 0);
    }
    let nobody = net.peers.iter().all(|peer| !peer.up);
    let disagreement = net.converge(Duration::from_secs(300));
    prop_assert!(nobody || disagreement.is_none(), "{disagreement:?}");
    for peer in &net.peers {
        peer.members.check();
    }
    Ok(())
}

fn run(cases: u32, property: impl Fn(&Schedule) -> Result<(), TestCaseError>, lies: bool) {
    let cases = match std::env::var("BARREL_SCHEDULES") {
        Ok(number) => number.parse().expect("BARREL_SCHEDULES is a number"),
        Err(_) => cases,
    };
    let mut runner = TestRunner::new(Cases {
        cases,
        failure_persistence: None,
        ..Cases::default()
    });
    let result = runner.run(&schedule(lies), |schedule| property(&schedule));
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Without lies: the tables converge on the truth, only a member raises its own
/// numbers, and its incarnation changes only when it starts, comes back after it left,
/// or has lost its memory.
#[test]
fn honest_members_agree_afterwards() {
    run(2_000, honest, false);
}

fn honest(schedule: &Schedule) -> Result<(), TestCaseError> {
    honest_in(begin(schedule), schedule)
}

fn honest_in(mut net: Net, schedule: &Schedule) -> Result<(), TestCaseError> {
    let mut may_bump = [0; 8];
    for step in &schedule.steps {
        match *step {
            Step::Restart {
                node,
                remembers: false,
            } => may_bump[(node % schedule.nodes) as usize] += 100,
            Step::Rejoin(node) => may_bump[(node % schedule.nodes) as usize] += 1,
            _ => {}
        }
        take(&mut net, step);
        let amnesia = schedule.steps.iter().any(|s| {
            matches!(
                s,
                Step::Restart {
                    remembers: false,
                    ..
                }
            )
        });
        if !amnesia {
            only_the_member_raises_its_numbers(&net)?;
        }
    }
    end(&mut net)?;
    for (peer, most) in net.peers.iter().zip(may_bump) {
        prop_assert!(peer.bumps <= most, "a suspicion changes no incarnation");
    }
    Ok(())
}

/// With lies about anybody, in anything: the same, in the end.
#[test]
fn liars_do_not_keep_the_others_from_agreeing() {
    run(2_000, lied_to, true);
}

fn lied_to(schedule: &Schedule) -> Result<(), TestCaseError> {
    let mut net = begin(schedule);
    for step in &schedule.steps {
        take(&mut net, step);
    }
    end(&mut net)
}

/// A test that no broken rule fails proves nothing.
#[cfg(feature = "mutants")]
mod mutants {
    use barrel_members::Mutant;
    use proptest::test_runner::{RngAlgorithm, TestRng};

    use super::*;

    fn survives(mutant: Mutant) -> bool {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let cases = Cases {
            cases: 300,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Cases::default()
        };
        let run = TestRunner::new_with_rng(cases, rng).run(&schedule(false), |schedule| {
            let mut net = begin(&schedule);
            net.break_rule(mutant);
            honest_in(net, &schedule)
        });
        run.is_ok()
    }

    #[test]
    fn all_rules_kept_survive() {
        assert!(survives(Mutant::None));
    }

    #[test]
    fn one_number_in_place_of_two_is_noticed() {
        assert!(!survives(Mutant::RefuteByIncarnation));
    }

    #[test]
    fn an_answer_in_the_place_of_the_suspect_is_noticed() {
        assert!(!survives(Mutant::AnswerForSuspect));
    }

    #[test]
    fn no_return_from_unreachable_is_noticed() {
        assert!(!survives(Mutant::NoReturn));
    }
}
