// SPDX-License-Identifier: Apache-2.0

//! Who is alive: suspicion, refutation, probing.

mod one;

use barrel_members::{Claim, DownReason, Event, Heard, MAX_BEAT, Message, Misdeed, Output, Status};
use one::{One, claim, events, millis, pass_on, secs};

fn request(to: u32, member: u32) -> Output<u32> {
    let msg = Message::ProbeRequest { member };
    Output::Send { to, msg }
}

fn answer(to: u32, member: u32, reachable: bool) -> Output<u32> {
    let msg = Message::ProbeAnswer { member, reachable };
    Output::Send { to, msg }
}

fn down(member: u32) -> Event<u32> {
    Event::NodeDown {
        member,
        incarnation: 1,
        reason: DownReason::Unreachable,
    }
}

#[test]
fn a_failed_link_is_a_suspicion_and_a_closed_one_is_not() {
    let mut one = One::among(3);
    one.up(1);
    one.up(2);
    one.node.handle_link_lost(one.now, 1, false);
    assert_eq!(one.outputs(), []);
    one.lose(2);
    assert_eq!(one.broadcasts(), [claim(2, 0, Status::Suspect)]);
}

#[test]
fn whose_link_fails_is_dialled_once_more_before_the_cluster_hears_of_it() {
    let mut one = One::among(3);
    let wait = one.node.config().redial_wait;
    for peer in [1, 2] {
        one.up(peer);
        one.node.handle_link_lost(one.now, peer, true);
        assert_eq!(one.outputs(), [Output::Probe(peer)]);
    }
    one.up(1);
    assert_eq!(one.wait(wait - millis(1)), []);
    let said = one.wait(millis(1));
    assert_eq!(said, [Output::Broadcast(claim(2, 0, Status::Suspect))]);
    assert_eq!(one.status(1), Some(Status::Alive));
}

#[test]
fn a_dial_that_fails_after_a_failed_link_needs_no_second_opinion() {
    let mut one = One::among(4);
    one.up(1);
    one.up(2);
    one.node.handle_link_lost(one.now, 1, true);
    assert_eq!(one.outputs(), [Output::Probe(1)]);
    one.node.handle_dial_failed(one.now, 1);
    let suspect = claim(1, 0, Status::Suspect);
    assert_eq!(one.outputs(), [Output::Broadcast(suspect)]);
}

#[test]
fn a_suspicion_is_raised_once_for_each_beat() {
    let mut one = One::among(3);
    for beat in 0..3 {
        for again in [1, 0, 0] {
            one.up(1);
            one.lose(1);
            let said = vec![claim(1, beat, Status::Suspect); again];
            let broadcasts = one.broadcasts();
            assert_eq!(broadcasts, said);
        }
        let refuted = claim(1, beat + 1, Status::Alive);
        assert_eq!(one.hear(2, refuted), Heard::New);
    }
}

#[test]
fn who_has_a_link_to_the_suspect_passes_the_suspicion_on_and_does_not_answer() {
    let mut one = One::among(4);
    one.up(1);
    let suspect = claim(1, 0, Status::Suspect);
    assert_eq!(one.hear(2, suspect), Heard::New);
    assert_eq!(one.outputs(), [pass_on(suspect)]);
    assert_eq!(one.hear(3, suspect), Heard::Known);
    assert_eq!(one.outputs(), []);
}

#[test]
fn a_new_link_to_the_suspect_carries_the_suspicion() {
    let mut one = One::among(3);
    let suspect = claim(1, 0, Status::Suspect);
    assert!(one.hear(2, suspect).is_new());
    one.up(1);
    assert_eq!(one.outputs(), [pass_on(suspect)]);
}

#[test]
fn a_suspect_answers_with_the_next_beat_of_the_same_incarnation() {
    let mut one = One::among(3);
    one.passed(1, claim(0, 0, Status::Suspect));
    assert_eq!(one.broadcasts(), [claim(0, 1, Status::Alive)]);
    assert_eq!(one.hear(2, claim(0, 0, Status::Suspect)), Heard::Known);
    assert_eq!(one.broadcasts(), []);
    one.wait(secs(1));
    assert_eq!(
        one.hear(2, claim(0, 4, Status::Unreachable)),
        Heard::Unwanted
    );
    assert_eq!(one.node.beat(), 5);
    assert_eq!(one.node.incarnation(), 1);
    assert_eq!(one.node.record_of(1).false_claims, 1);
}

#[test]
fn who_missed_the_answer_gets_it_on_the_same_link() {
    let mut one = One::among(3);
    one.passed(1, claim(0, 0, Status::Suspect));
    one.outputs();
    one.passed(2, claim(0, 0, Status::Suspect));
    let msg = Message::PassOn(claim(0, 1, Status::Alive));
    assert_eq!(one.outputs(), [Output::Send { to: 2, msg }]);
}

#[test]
fn what_a_suspect_says_of_itself_over_a_link_is_told_to_all() {
    let mut one = One::among(3);
    one.up(1);
    one.lose(1);
    one.outputs();
    one.passed(1, claim(1, 1, Status::Alive));
    assert_eq!(one.broadcasts(), [claim(1, 1, Status::Alive)]);
}

#[test]
fn who_does_not_answer_in_time_is_hidden_and_told_of_once() {
    let mut one = One::among(3);
    one.up(1);
    one.lose(1);
    one.outputs();
    let time = one.node.suspect_timeout();
    assert_eq!(one.wait(time), []);
    assert!(one.node.is_up(1));
    let gone = claim(1, 0, Status::Unreachable);
    let said = one.wait(millis(200));
    assert_eq!(
        said,
        [
            Output::Hide(1),
            Output::Event(down(1)),
            Output::Broadcast(gone)
        ]
    );
    assert_eq!(one.hear(2, gone), Heard::Known);
    assert_eq!(events(one.wait(secs(60))), []);
    assert_eq!(one.node.len(), 3, "nothing is deleted");
}

#[test]
fn who_did_not_raise_the_suspicion_leaves_the_verdict_to_those_who_did() {
    let mut one = One::among(3);
    assert!(one.hear(1, claim(2, 0, Status::Suspect)).is_new());
    let time = one.node.suspect_timeout() + one.node.config().slack;
    assert_eq!(one.wait(time), []);
    assert!(one.wait(millis(200)).contains(&Output::Hide(2)));
}

#[test]
fn who_answers_in_time_is_not_told_of() {
    let mut one = One::among(3);
    one.up(1);
    one.lose(1);
    one.outputs();
    let time = one.node.suspect_timeout();
    one.wait(time);
    assert!(one.hear(2, claim(1, 1, Status::Alive)).is_new());
    assert_eq!(events(one.wait(secs(60))), []);
}

#[test]
fn slow_answers_make_the_node_patient() {
    let mut one = One::among(3);
    let before = one.node.suspect_timeout();
    one.up(1);
    one.lose(1);
    one.wait(secs(2));
    assert!(one.hear(2, claim(1, 1, Status::Alive)).is_new());
    assert_eq!(one.node.suspect_timeout(), secs(6));
    for beat in 1..40 {
        assert!(one.hear(2, claim(1, beat, Status::Suspect)).is_new());
        assert!(one.hear(2, claim(1, beat + 1, Status::Alive)).is_new());
    }
    assert_eq!(one.node.suspect_timeout(), before);
}

#[test]
fn who_comes_back_from_a_partition_is_shown_again() {
    let mut one = One::among(3);
    assert!(one.hear(2, claim(1, 0, Status::Unreachable)).is_new());
    assert_eq!(one.events(), [down(1)]);
    one.up(1);
    assert_eq!(one.outputs(), [pass_on(claim(1, 0, Status::Unreachable))]);
    one.passed(1, claim(1, 1, Status::Alive));
    let up = Event::NodeUp {
        member: 1,
        incarnation: 1,
    };
    let outputs = one.outputs();
    assert_eq!(
        outputs,
        [
            Output::Show(1),
            Output::Event(up),
            Output::Broadcast(claim(1, 1, Status::Alive))
        ]
    );
}

#[test]
fn a_failed_dial_is_repeated_by_two_others_before_it_is_a_suspicion() {
    let mut one = One::among(4);
    one.up(1);
    one.up(2);
    one.node.handle_dial_failed(one.now, 3);
    let mut asked = one.outputs();
    asked.sort_by_key(|output| *output != request(1, 3));
    assert_eq!(asked, [request(1, 3), request(2, 3)]);
    for helper in [1, 2] {
        let no = Message::ProbeAnswer {
            member: 3,
            reachable: false,
        };
        assert_eq!(one.node.handle_message(one.now, helper, no), Ok(()));
    }
    // Not before it has been silent for as long as a link would have been.
    let timeout = one.node.config().link_timeout;
    assert_eq!(one.wait(timeout - millis(1)), []);
    let said = one.wait(millis(1));
    assert_eq!(said, [Output::Broadcast(claim(3, 0, Status::Suspect))]);
}

#[test]
fn one_other_who_reaches_it_is_enough() {
    let mut one = One::among(4);
    one.up(1);
    one.up(2);
    one.node.handle_dial_failed(one.now, 3);
    one.outputs();
    for (helper, reachable) in [(1, false), (2, true)] {
        let said = Message::ProbeAnswer {
            member: 3,
            reachable,
        };
        assert_eq!(one.node.handle_message(one.now, helper, said), Ok(()));
    }
    one.wait(secs(9));
    assert_eq!(one.status(3), Some(Status::Alive));
    assert_eq!(one.node.stats().suspicions, 0);
}

#[cfg(feature = "mutants")]
#[test]
fn a_node_that_judges_alone_is_noticed() {
    let mut one = One::among(4);
    one.node.break_rule(barrel_members::Mutant::JudgeAlone);
    one.up(1);
    one.node.handle_dial_failed(one.now, 3);
    assert_ne!(one.outputs(), [request(1, 3)]);
}

#[test]
fn a_request_is_answered_from_a_live_link_or_after_one_dial() {
    let mut one = One::among(5);
    let ask = |one: &mut One, from, member| {
        let msg = Message::ProbeRequest { member };
        assert_eq!(one.node.handle_message(one.now, from, msg), Ok(()));
        one.outputs()
    };
    one.up(2);
    assert_eq!(ask(&mut one, 1, 2), [answer(1, 2, true)]);
    assert_eq!(ask(&mut one, 1, 3), [Output::Probe(3)]);
    assert_eq!(ask(&mut one, 2, 3), []);
    one.up(3);
    assert_eq!(one.outputs(), [answer(1, 3, true), answer(2, 3, true)]);
    assert_eq!(ask(&mut one, 1, 4), [Output::Probe(4)]);
    one.node.handle_dial_failed(one.now, 4);
    assert!(one.outputs().contains(&answer(1, 4, false)));
    assert_eq!(ask(&mut one, 1, 77), [], "nobody knows 77");
}

#[test]
fn a_round_probes_everybody_once_who_has_no_link() {
    let mut one = One::among(12);
    one.up(4);
    let mut probed = Vec::new();
    while probed.len() < 10 {
        one.now = one.node.poll_timeout().expect("a node always probes");
        one.node.handle_timeout(one.now);
        for output in one.outputs() {
            if let Output::Probe(member) = output {
                probed.push(member);
                one.up(member);
                one.node.handle_link_lost(one.now, member, false);
            }
        }
    }
    probed.sort_unstable();
    assert_eq!(probed, [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn after_a_death_the_next_probes_come_sooner() {
    let slots = |one: &mut One| {
        let end = one.now + secs(20);
        let before = one.node.stats().probes;
        while let Some(at) = one.node.poll_timeout().filter(|&at| at <= end) {
            one.now = at;
            one.node.handle_timeout(at);
            for output in one.outputs() {
                if let Output::Probe(member) = output {
                    one.up(member);
                    one.node.handle_link_lost(at, member, false);
                }
            }
        }
        one.now = end;
        one.node.stats().probes - before
    };
    let mut one = One::among(100);
    assert!(slots(&mut one) <= 3);
    assert!(one.hear(2, claim(1, 0, Status::Unreachable)).is_new());
    assert!(slots(&mut one) >= 7);
    slots(&mut one);
    assert!(slots(&mut one) <= 3);
}

#[test]
fn who_slept_judges_nobody_for_a_second() {
    let mut one = One::among(3);
    one.up(1);
    one.lose(1);
    one.outputs();
    one.now = secs(100);
    one.node.handle_timeout(one.now);
    assert_eq!(one.node.stats().late, 1);
    assert_eq!(one.status(1), Some(Status::Suspect));
    one.wait(millis(500));
    assert!(one.hear(2, claim(1, 1, Status::Alive)).is_new());
    one.wait(secs(20));
    assert_eq!(one.status(1), Some(Status::Alive));
}

#[test]
fn a_majority_lost_at_once_is_a_partition_until_a_majority_is_back() {
    let mut one = One::among(5);
    for member in 1..4 {
        assert!(one.hear(4, claim(member, 0, Status::Unreachable)).is_new());
    }
    let partitioned = Event::Partitioned { lost: 3, of: 5 };
    assert_eq!(one.events(), [down(1), down(2), down(3), partitioned]);
    assert!(one.node.is_partitioned());
    assert!(one.hear(4, claim(1, 1, Status::Alive)).is_new());
    let up = Event::NodeUp {
        member: 1,
        incarnation: 1,
    };
    assert_eq!(one.events(), [up, Event::Healed]);
    assert!(!one.node.is_partitioned());
}

#[test]
fn a_peer_that_says_too_much_is_refused_and_named_once() {
    let mut one = One::among(3);
    let mut refused = 0;
    for beat in 1..2_000 {
        if one.hear(1, claim(2, beat, Status::Alive)) == Heard::Refused {
            refused += 1;
        }
    }
    assert!(refused > 1_000);
    assert_eq!(one.node.record_of(1).refused, refused);
    assert_eq!(one.events(), [Event::Misbehaves { peer: 1 }]);
    assert!(
        one.hear(2, claim(1, 1, Status::Alive)).is_new(),
        "others may speak"
    );
}

#[test]
fn a_slanderer_costs_its_victim_four_answers_a_second_at_most() {
    let mut one = One::among(3);
    let mut answers = 0;
    for beat in 0..200 {
        assert_eq!(
            one.hear(1, claim(0, beat * 10, Status::Suspect)),
            Heard::Unwanted
        );
        let outputs = one.wait(millis(10));
        answers += outputs
            .iter()
            .filter(|o| matches!(o, Output::Broadcast(_)))
            .count();
    }
    assert!((7..=9).contains(&answers), "{answers}");
    assert_eq!(one.node.record_of(1).false_claims, 200);
    assert_eq!(one.node.incarnation(), 1);
}

#[test]
fn a_beat_that_no_member_reaches_is_refused_and_the_last_one_answered_anew() {
    let mut one = One::among(3);
    assert_eq!(
        one.hear(1, claim(2, MAX_BEAT + 1, Status::Suspect)),
        Heard::Refused
    );
    assert_eq!(
        one.hear(1, claim(0, MAX_BEAT, Status::Suspect)),
        Heard::Unwanted
    );
    assert!(one.outputs().contains(&Output::Bump { incarnation: 2 }));
    assert_eq!(one.node.beat(), 0);
}

#[test]
fn a_claim_that_concerns_neither_side_is_not_passed_on() {
    let mut one = One::among(4);
    let msg = Message::PassOn(claim(2, 0, Status::Suspect));
    let result = one.node.handle_message(one.now, 1, msg);
    let what = result.expect_err("it concerns neither 0 nor 1").what;
    assert_eq!(what, Misdeed::WrongAddressee);
    assert_eq!(one.status(2), Some(Status::Alive));
}

#[test]
fn equal_digests_mean_equal_exceptions() {
    let (mut a, mut b) = (One::among(4), One::among(4));
    let said = [
        claim(1, 0, Status::Suspect),
        claim(2, 3, Status::Alive),
        claim(1, 0, Status::Unreachable),
        claim(3, 0, Status::Left),
    ];
    for claim in said {
        assert!(a.hear(2, claim).is_new());
    }
    assert_ne!(a.node.digest(), b.node.digest());
    let exceptions: Vec<Claim<u32>> = a.node.exceptions().collect();
    for claim in exceptions {
        assert!(b.hear(2, claim).is_new());
    }
    assert_eq!(a.node.digest(), b.node.digest());
    assert!(a.node.exceptions().eq(b.node.exceptions()));
}
