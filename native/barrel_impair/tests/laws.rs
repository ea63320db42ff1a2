//! Laws of one direction: on seeded runs that are long enough to count, and on
//! random settings and arrivals.

#![allow(clippy::unwrap_used)] // a test may panic

use std::time::Duration;

use barrel_impair::{Fate, Queue, Settings};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn queue(settings: &[(&str, &str)]) -> Queue<u64> {
    seeded(1, settings)
}

fn seeded(seed: u64, settings: &[(&str, &str)]) -> Queue<u64> {
    let mut queue = Queue::new(seed, 0);
    for (key, value) in settings {
        queue.settings_mut().set(key, value).unwrap();
    }
    queue
}

/// Packets of 1000 bytes, numbered, one each `gap`; what came out, and when.
fn run(queue: &mut Queue<u64>, count: u64, gap: Duration) -> Vec<(Duration, u64)> {
    let mut out = Vec::new();
    for n in 0..count {
        let now = gap * u32::try_from(n).unwrap();
        drain(queue, now, &mut out);
        let _ = queue.handle_packet(now, 1000, n);
    }
    drain(queue, Duration::MAX, &mut out);
    out
}

/// As the driver does, but exactly on time.
fn drain(queue: &mut Queue<u64>, until: Duration, out: &mut Vec<(Duration, u64)>) {
    while let Some(due) = queue.poll_timeout().filter(|due| *due <= until) {
        out.push((due, queue.poll_output(due).unwrap()));
    }
}

fn numbers(out: &[(Duration, u64)]) -> Vec<u64> {
    out.iter().map(|(_, n)| *n).collect()
}

#[test]
fn without_settings_everything_leaves_at_once_and_in_order() {
    let out = run(&mut queue(&[]), 1000, MS);
    let expected: Vec<_> = (0..1000).map(|n| (MS * n, u64::from(n))).collect();
    assert_eq!(out, expected);
}

#[test]
fn a_delay_is_exact_for_every_packet() {
    let out = run(&mut queue(&[("delay", "20")]), 1000, MS);
    assert!(out.iter().all(|&(at, n)| at == MS * n as u32 + 20 * MS));
    assert_eq!(out.len(), 1000);
}

#[test]
fn jitter_spreads_over_its_whole_range() {
    // far enough apart that nobody waits for the one before
    let out = run(
        &mut queue(&[("delay", "5"), ("jitter", "10")]),
        10_000,
        20 * MS,
    );
    let extra: Vec<f64> = out
        .iter()
        .map(|&(at, n)| (at - 20 * MS * n as u32 - 5 * MS).as_secs_f64() * 1e3)
        .collect();
    assert!(extra.iter().all(|e| (0.0..=10.0).contains(e)));
    for decile in 0..10 {
        let low = f64::from(decile);
        let count = extra
            .iter()
            .filter(|e| (low..low + 1.0).contains(*e))
            .count();
        assert!((850..1150).contains(&count), "{count} in decile {decile}");
    }
}

#[test]
fn jitter_alone_never_reorders() {
    let out = run(&mut queue(&[("jitter", "50")]), 10_000, MS);
    assert!(numbers(&out).is_sorted());
    assert_eq!(out.len(), 10_000);
}

#[test]
fn losses_are_as_frequent_as_asked_and_independent() {
    let mut queue = queue(&[("loss", "0.03")]);
    let out = numbers(&run(&mut queue, 100_000, MS));
    // five standard deviations of a binomial distribution: 5 * 54
    assert!(
        (2730..3270).contains(&queue.stats().lost),
        "{:?}",
        queue.stats()
    );
    assert_eq!(out.len() as u64 + queue.stats().lost, 100_000);
    // the mean run of independent losses is 1 / (1 - 0.03)
    let mean = mean_gap(&out);
    assert!((1.0..1.08).contains(&mean), "{mean}");
}

#[test]
fn bursts_keep_the_loss_and_have_their_length() {
    let mut queue = queue(&[("loss", "0.05"), ("burst", "5")]);
    let out = numbers(&run(&mut queue, 200_000, MS));
    assert!(
        (8500..11500).contains(&queue.stats().lost),
        "{:?}",
        queue.stats()
    );
    let mean = mean_gap(&out);
    assert!((4.5..5.5).contains(&mean), "{mean}");
}

/// Mean length of the runs of missing numbers.
fn mean_gap(out: &[u64]) -> f64 {
    let gaps: Vec<u64> = out
        .windows(2)
        .map(|w| w[1] - w[0] - 1)
        .filter(|&gap| gap > 0)
        .collect();
    gaps.iter().sum::<u64>() as f64 / gaps.len() as f64
}

#[test]
fn a_duplicate_comes_right_behind_its_original() {
    let mut queue = queue(&[("duplicate", "0.1")]);
    let out = numbers(&run(&mut queue, 10_000, MS));
    assert!(out.is_sorted());
    let doubled = out.windows(2).filter(|w| w[0] == w[1]).count() as u64;
    assert_eq!(doubled, queue.stats().duplicated);
    assert!((850..1150).contains(&doubled), "{doubled}");
    assert_eq!(out.len() as u64, 10_000 + doubled);
}

#[test]
fn a_packet_held_back_is_overtaken_and_no_other_is() {
    let mut queue = queue(&[("delay", "3"), ("reorder", "0.05"), ("hold", "10")]);
    let out = run(&mut queue, 10_000, MS);
    let late: Vec<u64> = out
        .iter()
        .filter(|&&(at, n)| at == MS * n as u32 + 13 * MS)
        .map(|(_, n)| *n)
        .collect();
    assert_eq!(late.len() as u64, queue.stats().reordered);
    assert!((390..610).contains(&late.len()), "{}", late.len());
    let others: Vec<u64> = numbers(&out)
        .into_iter()
        .filter(|n| !late.contains(n))
        .collect();
    assert!(others.is_sorted());
    assert!(!numbers(&out).is_sorted());
}

#[test]
fn the_line_carries_its_rate_and_drops_what_finds_no_room() {
    // one packet of 1000 bytes takes 1 ms; twice as many arrive
    let mut queue = queue(&[("rate", "8e6"), ("queue", "10000")]);
    let out = run(&mut queue, 10_000, MS / 2);
    assert!(out.windows(2).all(|w| w[1].0 - w[0].0 == MS));
    assert!(numbers(&out).is_sorted());
    let worst = out
        .iter()
        .map(|&(at, n)| at - MS / 2 * n as u32)
        .max()
        .unwrap();
    assert!(worst <= 11 * MS, "{worst:?}");
    let stats = queue.stats();
    assert_eq!(stats.dropped + stats.delivered, 10_000);
    assert!((4980..=5000).contains(&stats.dropped), "{stats:?}");
}

#[test]
fn an_idle_line_takes_a_packet_that_is_larger_than_its_queue() {
    let mut queue = queue(&[("rate", "8e6"), ("queue", "10")]);
    assert_eq!(queue.handle_packet(Duration::ZERO, 1000, 1), Fate::Taken);
    assert_eq!(queue.handle_packet(Duration::ZERO, 1000, 2), Fate::Dropped);
    assert_eq!(queue.handle_packet(MS, 1000, 3), Fate::Taken);
}

#[test]
fn a_lower_rate_counts_for_later_packets_and_a_lifted_one_keeps_the_order() {
    let mut queue = queue(&[("rate", "8e5")]);
    let _ = queue.handle_packet(Duration::ZERO, 1000, 1);
    queue.settings_mut().set("rate", "off").unwrap();
    let _ = queue.handle_packet(MS, 1000, 2);
    let mut out = Vec::new();
    drain(&mut queue, Duration::MAX, &mut out);
    assert_eq!(out, [(10 * MS, 1), (10 * MS, 2)]);
}

#[test]
fn too_large_and_blackout_have_fates_of_their_own() {
    let mut queue = queue(&[("mtu", "1500")]);
    assert_eq!(queue.handle_packet(Duration::ZERO, 1501, 1), Fate::TooLarge);
    assert_eq!(queue.handle_packet(Duration::ZERO, 1500, 2), Fate::Taken);
    queue.settings_mut().set("blackout", "on").unwrap();
    assert_eq!(queue.handle_packet(Duration::ZERO, 1500, 3), Fate::Blackout);
    assert_eq!(
        queue.poll_output(Duration::ZERO),
        Some(2),
        "it was on its way before the blackout"
    );
    let stats = queue.stats();
    assert_eq!(
        (stats.too_large, stats.blackout, stats.largest),
        (1, 1, 1501)
    );
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let mut queue = queue(&[("delay", "60000")]);
    let size = 1 << 20;
    let taken = (0..200).filter(|&n| queue.handle_packet(Duration::ZERO, size, n) == Fate::Taken);
    assert_eq!(taken.count(), barrel_impair::queue::MAX_HELD / size);
    assert_eq!(queue.stats().dropped, 200 - 128);
}

#[test]
fn other_settings_do_not_change_which_packets_are_lost() {
    let lost = |settings: &[(&str, &str)]| -> Vec<bool> {
        let mut queue = queue(&[&[("loss", "0.2")], settings].concat());
        (0..1000)
            .map(|n| queue.handle_packet(MS * n, 1000, 0) == Fate::Lost)
            .collect()
    };
    let alone = lost(&[]);
    assert_eq!(
        alone,
        lost(&[("jitter", "5"), ("duplicate", "0.5"), ("reorder", "0.5")])
    );
}

fn settings() -> impl Strategy<Value = Settings> {
    let rate = prop_oneof![Just(None), (10_000u64..100_000_000).prop_map(Some)];
    let mtu = prop_oneof![Just(None), (100usize..2000).prop_map(Some)];
    let fractions = (0.0..=0.5f64, 0.0..=1.0f64, 0.0..=1.0f64);
    let burst = prop_oneof![Just(None), (1.0..20.0f64).prop_map(Some)];
    (
        0..50u32,
        0..50u32,
        0..50u32,
        fractions,
        burst,
        rate,
        mtu,
        any::<bool>(),
    )
        .prop_map(
            |(delay, jitter, hold, (loss, duplicate, reorder), burst, rate, mtu, icmp)| Settings {
                delay: MS * delay,
                jitter: MS * jitter,
                hold: MS * hold,
                loss,
                burst,
                duplicate,
                reorder,
                rate,
                mtu,
                icmp,
                queue: 20_000,
                blackout: false,
            },
        )
}

/// Gaps between arrivals in microseconds, and sizes.
fn arrivals() -> impl Strategy<Value = Vec<(u64, usize)>> {
    prop::collection::vec((0..5000u64, 20..2000usize), 1..200)
}

/// Fates, and what left when.
type Trace = (Vec<Fate>, Vec<(Duration, u64)>);

fn trace(queue: &mut Queue<u64>, arrivals: &[(u64, usize)]) -> Trace {
    let (mut now, mut fates, mut out) = (Duration::ZERO, Vec::new(), Vec::new());
    for (n, &(gap, size)) in arrivals.iter().enumerate() {
        now += Duration::from_micros(gap);
        drain(queue, now, &mut out);
        fates.push(queue.handle_packet(now, size, n as u64));
    }
    drain(queue, Duration::MAX, &mut out);
    (fates, out)
}

proptest! {
    #[test]
    fn every_packet_is_accounted_for(settings in settings(), arrivals in arrivals(), seed: u64) {
        let mut queue = Queue::new(seed, 0);
        *queue.settings_mut() = settings;
        let (_, out) = trace(&mut queue, &arrivals);
        let s = queue.stats();
        prop_assert_eq!(s.received, arrivals.len() as u64);
        prop_assert_eq!(s.received + s.duplicated, s.delivered + s.lost + s.dropped + s.too_large);
        prop_assert_eq!((s.delivered, s.held), (out.len() as u64, 0));
    }

    #[test]
    fn nothing_leaves_early_nor_twice_without_need(
        settings in settings(), arrivals in arrivals(), seed: u64,
    ) {
        let mut queue = Queue::new(seed, 0);
        *queue.settings_mut() = settings.clone();
        let (_, out) = trace(&mut queue, &arrivals);
        let mut at = Duration::ZERO;
        let times: Vec<Duration> = arrivals
            .iter()
            .map(|(gap, _)| { at += Duration::from_micros(*gap); at })
            .collect();
        for (left, n) in &out {
            prop_assert!(*left >= times[*n as usize] + settings.delay);
        }
        prop_assert!(out.is_sorted_by_key(|(left, _)| *left));
        for n in 0..arrivals.len() as u64 {
            prop_assert!(out.iter().filter(|(_, m)| *m == n).count() <= 2);
        }
    }

    #[test]
    fn without_reordering_packets_keep_their_order(
        settings in settings(), arrivals in arrivals(), seed: u64,
    ) {
        let mut queue = Queue::new(seed, 0);
        *queue.settings_mut() = Settings { reorder: 0.0, ..settings };
        let (_, out) = trace(&mut queue, &arrivals);
        prop_assert!(numbers(&out).is_sorted());
    }

    #[test]
    fn the_same_seed_and_arrivals_give_the_same_decisions(
        settings in settings(), arrivals in arrivals(), seed: u64,
    ) {
        let run = || {
            let mut queue = Queue::new(seed, 0);
            *queue.settings_mut() = settings.clone();
            trace(&mut queue, &arrivals)
        };
        prop_assert_eq!(run(), run());
    }
}
