// SPDX-License-Identifier: Apache-2.0

//! Who is a member: records, names, lives, goodbyes.

mod one;

use barrel_members::{Card, Claim, Config, DownReason, Event, Heard, Output, Refused, Status};
use one::{One, card, claim, events, millis, pass_on, secs};

fn up(member: u32, incarnation: u64) -> Event<u32> {
    Event::NodeUp {
        member,
        incarnation,
    }
}

fn down(member: u32, reason: DownReason) -> Event<u32> {
    let incarnation = 1;
    Event::NodeDown {
        member,
        incarnation,
        reason,
    }
}

fn of_incarnation(incarnation: u64, claim: Claim<u32>) -> Claim<u32> {
    Claim {
        incarnation,
        ..claim
    }
}

#[test]
fn a_record_makes_a_member_and_the_same_record_changes_nothing() {
    let mut one = One::among(1);
    assert_eq!(one.node.handle_record(one.now, 1, card("a", 1, 1)), Ok(()));
    assert_eq!(one.outputs(), [Output::Show(1), Output::Event(up(1, 1))]);
    assert_eq!(one.node.handle_record(one.now, 1, card("a", 1, 1)), Ok(()));
    assert_eq!(one.outputs(), []);
    assert_eq!(one.node.by_name("a"), Some(1));
    let stale = one.node.handle_record(one.now, 1, card("a", 1, 0));
    assert_eq!(stale, Err(Refused::Stale));
}

#[test]
fn a_restart_is_a_new_life_and_what_was_said_of_the_old_one_is_overtaken() {
    let mut one = One::among(3);
    assert!(one.hear(2, claim(1, 0, Status::Suspect)).is_new());
    assert_eq!(one.node.handle_record(one.now, 1, card("n1", 2, 1)), Ok(()));
    assert_eq!(one.events(), [down(1, DownReason::Restarted), up(1, 2)]);
    assert_eq!(one.hear(2, claim(1, 7, Status::Unreachable)), Heard::Known);
    assert_eq!(one.events(), []);
    let old = one.node.handle_record(one.now, 1, card("n1", 1, 9));
    assert_eq!(old, Err(Refused::Stale));
}

#[test]
fn the_first_key_of_a_name_stays_and_both_sides_are_told_once() {
    let mut one = One::among(2);
    for seq in 1..4 {
        let second = one.node.handle_record(one.now, 9, card("n1", 5, seq));
        assert_eq!(second, Err(Refused::NameTaken { by: 1 }));
    }
    let clash = |kept, refused, name: &str| Event::NameClash {
        name: name.into(),
        kept,
        refused,
    };
    assert_eq!(one.events(), [clash(1, 9, "n1")]);
    // The other side: somebody has our name.
    let ours = one.node.handle_record(one.now, 8, card("n0", 1, 1));
    assert_eq!(ours, Err(Refused::NameTaken { by: 0 }));
    assert_eq!(one.events(), [clash(0, 8, "n0")]);
}

#[test]
fn the_key_that_the_operator_placed_gets_the_name() {
    let mut one = One::among(2);
    let placed = Card {
        pinned: true,
        ..card("n1", 1, 1)
    };
    assert_eq!(one.node.handle_record(one.now, 9, placed.clone()), Ok(()));
    let outputs = one.outputs();
    assert!(outputs.contains(&Output::Hide(1)));
    assert_eq!(
        events(outputs)[1..],
        [down(1, DownReason::Displaced), up(9, 1)]
    );
    assert_eq!(one.node.by_name("n1"), Some(9));
    let third = one.node.handle_record(one.now, 10, placed);
    assert_eq!(third, Err(Refused::NameTaken { by: 9 }));
}

#[test]
fn a_name_is_free_when_its_member_has_left() {
    let mut one = One::among(3);
    assert!(one.hear(2, claim(1, 0, Status::Left)).is_new());
    assert_eq!(one.node.handle_record(one.now, 9, card("n1", 1, 1)), Ok(()));
    assert_eq!(one.node.by_name("n1"), Some(9));
}

#[test]
fn a_full_directory_and_a_bad_name_are_refused() {
    let config = Config {
        max_members: 3,
        ..Config::default()
    };
    let mut one = One::with(3, config);
    let full = one.node.handle_record(one.now, 9, card("n9", 1, 1));
    assert_eq!(full, Err(Refused::Full));
    let known = one.node.handle_record(one.now, 1, card("n1", 1, 2));
    assert_eq!(known, Ok(()), "those who are in it may renew");
    for name in [String::new(), "n".repeat(256)] {
        let bad = one.node.handle_record(one.now, 1, card(&name, 1, 3));
        assert_eq!(bad, Err(Refused::BadName));
    }
}

#[test]
fn a_goodbye_is_final_for_its_life_and_told_once() {
    let mut one = One::among(3);
    let goodbye = claim(1, 0, Status::Left);
    assert!(one.hear(1, goodbye).is_new());
    let depart = Output::Depart {
        member: 1,
        incarnation: 1,
    };
    let told = Output::Event(down(1, DownReason::Left));
    assert_eq!(one.outputs(), [depart, told]);
    assert_eq!(one.hear(2, goodbye), Heard::Known);
    assert_eq!(one.hear(2, claim(1, 9, Status::Alive)), Heard::Known);
    let old = one.node.handle_record(one.now, 1, card("n1", 1, 9));
    assert_eq!(old, Err(Refused::Departed));
    assert_eq!(one.node.handle_record(one.now, 1, card("n1", 2, 1)), Ok(()));
    assert_eq!(one.events(), [up(1, 2)]);
}

#[test]
fn whoever_speaks_of_one_that_has_left_hears_the_goodbye_in_the_next_exchange() {
    let mut one = One::among(3);
    let goodbye = claim(1, 0, Status::Left);
    assert!(one.hear(2, goodbye).is_new());
    assert!(one.node.exceptions().eq([goodbye]));
    one.wait(one.node.config().goodbye_listed);
    assert_eq!((one.node.exceptions().count(), one.node.digest()), (0, 0));
    assert_eq!(one.hear(2, claim(1, 0, Status::Suspect)), Heard::Known);
    assert!(one.node.exceptions().eq([goodbye]));
}

#[test]
fn a_goodbye_of_a_later_life_counts_where_the_member_is_gone_anyway() {
    let later = of_incarnation(5, claim(1, 0, Status::Left));
    let mut one = One::among(3);
    assert_eq!(one.hear(2, later), Heard::Unwanted);
    assert!(one.node.is_up(1), "nobody has signed it");
    let mut one = One::among(3);
    assert!(one.hear(2, claim(1, 0, Status::Unreachable)).is_new());
    assert_eq!(one.hear(2, later), Heard::New);
    assert_eq!(one.status(1), None);
}

#[test]
fn who_leaves_says_so_and_is_quiet_until_it_comes_back_in_a_new_life() {
    let mut one = One::among(3);
    one.up(1);
    one.node.leave(one.now);
    assert_eq!(
        one.outputs(),
        [Output::Broadcast(claim(0, 0, Status::Left))]
    );
    one.lose(1);
    assert_eq!(one.hear(2, claim(0, 0, Status::Unreachable)), Heard::Known);
    assert_eq!(one.wait(secs(100)), []);
    one.node.rejoin(one.now);
    assert_eq!(one.outputs(), [Output::Bump { incarnation: 2 }]);
    assert_eq!(one.node.state(0).map(|state| state.incarnation), Some(2));
}

#[test]
fn a_claim_waits_for_the_record_and_is_spread_then() {
    let mut one = One::among(2);
    let early = claim(5, 0, Status::Unreachable);
    assert_eq!(one.hear(1, early), Heard::Unwanted);
    assert_eq!(one.hear(1, early), Heard::Known);
    assert_eq!(one.node.handle_record(one.now, 5, card("n5", 1, 1)), Ok(()));
    assert_eq!(one.outputs(), [Output::Hide(5), Output::Broadcast(early)]);
    assert!(!one.node.is_up(5));
}

#[test]
fn a_claim_about_nobody_is_forgotten_after_a_while() {
    let mut one = One::among(2);
    assert_eq!(
        one.hear(1, claim(5, 0, Status::Unreachable)),
        Heard::Unwanted
    );
    one.wait(one.node.config().early_life);
    assert_eq!(one.node.handle_record(one.now, 5, card("n5", 1, 1)), Ok(()));
    assert!(one.node.is_up(5));
}

#[test]
fn a_claim_about_a_life_to_come_silences_nobody() {
    let mut one = One::among(3);
    let lie = of_incarnation(2, claim(1, 0, Status::Alive));
    assert_eq!(one.hear(2, lie), Heard::Unwanted);
    assert!(one.hear(2, claim(1, 0, Status::Suspect)).is_new());
}

#[test]
fn the_life_of_a_record_counts_from_the_first_sight_of_its_version() {
    let mut one = One::among(3);
    one.wait(secs(3_000));
    for (member, seq) in [(1, 1), (2, 2)] {
        let card = card(&format!("n{member}"), 1, seq);
        assert_eq!(one.node.handle_record(one.now, member, card), Ok(()));
    }
    let said = one.wait(secs(601));
    assert!(said.contains(&Output::Broadcast(claim(1, 0, Status::Unreachable))));
    assert_eq!(one.status(2), Some(Status::Alive));
}

#[test]
fn who_does_not_renew_is_unreachable_first_and_dropped_long_after() {
    let mut one = One::among(2);
    one.wait(secs(3_601));
    assert_eq!(one.status(1), Some(Status::Unreachable));
    one.wait(one.node.config().drop_after - secs(10));
    assert_eq!(one.status(1), Some(Status::Unreachable));
    let said = one.wait(secs(12));
    assert!(said.contains(&Output::Depart {
        member: 1,
        incarnation: 1
    }));
    assert_eq!(one.status(1), None);
    // It comes back, and hears that it has to begin anew.
    one.up(1);
    assert_eq!(one.outputs(), [pass_on(claim(1, 0, Status::Left))]);
}

#[test]
fn the_own_record_is_renewed_well_before_it_ends() {
    let mut one = One::among(1);
    let said = one.wait(secs(3_600));
    let renewed = said.iter().filter(|o| **o == Output::Refresh).count();
    assert!((2..=3).contains(&renewed), "{renewed}");
    assert_eq!(one.status(0), Some(Status::Alive));
}

#[test]
fn who_hears_that_it_is_unreachable_renews_its_record_but_not_all_the_time() {
    let mut one = One::among(2);
    let mut renewed = 0;
    for _ in 0..40 {
        let beat = one.node.beat();
        let heard = one.hear(1, claim(0, beat, Status::Unreachable));
        assert_eq!(heard, Heard::Unwanted);
        let said = one.wait(secs(1));
        renewed += said.iter().filter(|o| **o == Output::Refresh).count();
    }
    assert!((4..=5).contains(&renewed), "{renewed}");
}

#[test]
fn a_later_incarnation_of_our_own_makes_us_begin_a_later_one() {
    let mut one = One::among(2);
    let ours = one.node.handle_record(one.now, 0, card("n0", 40, 1));
    assert_eq!(ours, Err(Refused::Clash));
    let outputs = one.outputs();
    assert_eq!(
        outputs,
        [
            Output::Event(Event::IdentityClash { theirs: 40 }),
            Output::Bump { incarnation: 41 }
        ]
    );
    // The next within `costly_gap` waits, however often it is said.
    for incarnation in 41..60 {
        let lie = of_incarnation(incarnation, claim(0, 0, Status::Left));
        let _heard = one.hear(1, lie);
    }
    let bumps = |said: Vec<Output<u32>>| -> Vec<Output<u32>> {
        let bumps = said.into_iter();
        bumps.filter(|o| matches!(o, Output::Bump { .. })).collect()
    };
    assert_eq!(bumps(one.wait(secs(9))), []);
    assert_eq!(bumps(one.wait(secs(2))), [Output::Bump { incarnation: 60 }]);
}

#[test]
fn an_incarnation_beyond_belief_is_refused() {
    let mut one = One::among(2);
    let lie = of_incarnation(u64::MAX, claim(0, 0, Status::Alive));
    assert_eq!(one.hear(1, lie), Heard::Refused);
    assert_eq!(one.node.incarnation(), 1);
    // Signed by our own key it is true, and there is no later one.
    one.node.handle_clash(one.now, u64::MAX);
    assert_eq!(one.node.incarnation(), 1);
    one.node.check();
}

#[test]
fn who_is_said_to_have_left_begins_a_new_life() {
    let mut one = One::among(2);
    one.wait(millis(1));
    assert_eq!(one.hear(1, claim(0, 0, Status::Left)), Heard::Unwanted);
    assert!(one.outputs().contains(&Output::Bump { incarnation: 2 }));
    assert_eq!(one.node.record_of(1).false_claims, 1);
}

#[test]
fn a_forgotten_member_leaves_no_trace() {
    let mut one = One::among(2);
    one.node.handle_record_gone(one.now, 1);
    let told = Output::Event(down(1, DownReason::Forgotten));
    assert_eq!(one.outputs(), [Output::Hide(1), told]);
    assert_eq!(one.node.handle_record(one.now, 1, card("n1", 1, 1)), Ok(()));
    assert_eq!(one.events(), [up(1, 1)]);
}
