// SPDX-License-Identifier: Apache-2.0

//! Each promise by example.

use std::time::Duration;

use barrel_ormap::delta::MAX_PAIR;
use barrel_ormap::map::{Change, Config, Corrupt, Mode, PutError, RecordId, Refused};
use barrel_ormap::{Clock, LwwMap, MapDelta, Now, Pair};

use crate::cluster::{START, difference, key_of, shown, values};

/// A replica with its clocks.
#[derive(Clone)]
struct Node {
    map: LwwMap,
    clock: Clock,
    now: Now,
}

fn config() -> Config {
    Config {
        horizon: Duration::from_secs(60),
        departed_after: Duration::from_secs(60),
        persist: true,
        ..Config::default()
    }
}

fn node(number: usize, inc: u64, config: Config) -> Node {
    Node {
        map: LwwMap::new(key_of(number), inc, config),
        clock: Clock::default(),
        now: Now {
            mono: Duration::ZERO,
            wall_ms: START,
        },
    }
}

fn three() -> [Node; 3] {
    [1, 2, 3].map(|number| node(number, number as u64, config()))
}

impl Node {
    fn put(&mut self, key: &str, value: &str) {
        let written = self
            .map
            .put(self.now, &mut self.clock, key.as_bytes(), value.as_bytes());
        assert_eq!(written, Ok(()));
    }

    fn remove(&mut self, key: &str) -> bool {
        self.map.remove(self.now, &mut self.clock, key.as_bytes())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.map
            .get(key.as_bytes())
            .and_then(|value| str::from_utf8(value).ok())
    }

    fn take(&mut self, from: &Self, delta: MapDelta) -> Result<bool, Refused> {
        let applied = self
            .map
            .apply(self.now, &mut self.clock, from.map.me().origin, delta);
        applied.map(|applied| applied.new)
    }

    /// Pulls all that the other has, as in one round after the other.
    fn pull(&mut self, from: &Self) {
        for _ in 0..5 {
            let summaries = difference(&from.map, &self.map);
            let mut wants = self.map.wants(from.map.me().origin, &summaries);
            wants.extend(
                self.map
                    .repairs(from.map.me().origin, from.map.buckets(), &summaries),
            );
            for want in wants {
                for delta in from.map.answer(&want, usize::MAX) {
                    let _ = self.take(from, delta);
                }
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.now.wall_ms += 1_000 * seconds;
        self.map.handle_timeout(self.now, &mut self.clock);
    }

    fn changes(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.map.poll_change()).collect()
    }
}

fn put(key: &str, value: &str) -> Change {
    Change::Put(Pair::new(key.as_bytes(), value.as_bytes()))
}

fn removed(key: &str) -> Change {
    Change::Removed {
        key: key.as_bytes().into(),
    }
}

#[test]
fn a_value_outlives_the_restart_of_its_writer_without_a_disk() {
    let [mut a, mut b, _] = three();
    a.put("key", "value");
    b.pull(&a);
    let mut a = node(1, 10, config());
    assert_eq!(a.get("key"), None);
    a.pull(&b);
    assert_eq!(a.get("key"), Some("value"));
    a.put("key", "later");
    b.pull(&a);
    assert_eq!(b.get("key"), Some("later"));
    assert_eq!(b.map.stats().logs, 2);
}

#[test]
fn readers_hear_of_each_visible_change_once() {
    let [mut a, mut b, _] = three();
    a.put("key", "one");
    a.put("key", "two");
    assert_eq!(a.changes(), [put("key", "two")]);
    a.put("key", "two");
    assert_eq!(a.changes(), []);
    b.pull(&a);
    b.pull(&a);
    assert_eq!(b.changes(), [put("key", "two")]);
    assert!(a.remove("key"));
    assert!(!a.remove("key"));
    b.pull(&a);
    assert_eq!(b.changes(), [removed("key")]);
    a.put("brief", "value");
    a.remove("brief");
    assert_eq!(a.changes(), [removed("key")]);
}

#[test]
fn a_batch_of_writes_makes_one_delta_and_none_is_given_twice() {
    let [mut a, mut b, _] = three();
    (0..70).for_each(|n| a.put(&format!("key {n}"), "value"));
    let first = a.map.commit().expect("there is something");
    let second = a.map.commit().expect("64 operations are a batch");
    assert_eq!(a.map.commit(), None);
    assert_eq!((first.delta.to, second.delta.to), (64, 70));
    assert_eq!(b.take(&a, second), Ok(true));
    assert_eq!(b.take(&a, first.clone()), Ok(true));
    assert_eq!(b.take(&a, first), Ok(false));
    assert_eq!(a.map.root(), b.map.root());
}

#[test]
fn a_value_from_the_future_waits_beside_the_one_it_will_replace() {
    let [mut a, mut b, _] = three();
    a.put("key", "now");
    b.pull(&a);
    a.now.wall_ms += 10_000;
    a.put("key", "soon");
    b.pull(&a);
    assert_eq!((b.get("key"), b.map.stats().parked), (Some("now"), 1));
    assert_eq!(b.clock.latest().wall_time(), START);
    // Who is right may go on writing meanwhile.
    b.put("key", "mine");
    assert_eq!(b.get("key"), Some("mine"));
    let due = b.map.poll_timeout().expect("it waits");
    assert!(due > Duration::from_secs(9) && due < Duration::from_secs(10));
    b.pass(9);
    assert_eq!(b.get("key"), Some("mine"));
    b.pass(1);
    assert_eq!((b.get("key"), b.map.stats().parked), (Some("soon"), 0));
}

#[test]
fn a_rejected_value_is_passed_on_but_not_shown() {
    let [mut a, mut b, mut c] = three();
    b.map.set_validator(Some(
        (|_, value| value != b"bad") as fn(&[u8], &[u8]) -> bool,
    ));
    a.put("key", "good");
    b.pull(&a);
    assert_eq!(b.changes(), [put("key", "good")]);
    a.put("key", "bad");
    b.pull(&a);
    assert_eq!(b.changes(), [removed("key")]);
    assert_eq!(b.get("key"), None);
    c.pull(&b);
    assert_eq!(c.get("key"), Some("bad"));
    c.changes();
    c.map.reject(b"key", b"another");
    assert_eq!(c.changes(), []);
    c.map.reject(b"key", b"bad");
    assert_eq!(c.changes(), [removed("key")]);
    assert_eq!(b.map.root(), c.map.root());
    a.put("key", "better");
    b.pull(&a);
    c.pull(&b);
    assert_eq!(
        (b.get("key"), c.get("key")),
        (Some("better"), Some("better"))
    );
}

#[test]
fn values_of_unreachable_writers_are_hidden_only_where_that_is_asked_for() {
    let prune = Config {
        prune_on_peer_down: true,
        ..config()
    };
    let (mut a, mut plain, mut pruning) = (
        node(1, 1, config()),
        node(2, 2, config()),
        node(3, 3, prune),
    );
    a.put("key", "value");
    for other in [&mut plain, &mut pruning] {
        other.pull(&a);
        other.changes();
        other.map.hide(key_of(1));
    }
    assert_eq!(plain.changes(), []);
    assert_eq!(plain.get("key"), Some("value"));
    assert_eq!(pruning.changes(), [removed("key")]);
    assert_eq!(pruning.get("key"), None);
    assert_eq!(plain.map.root(), pruning.map.root());
    pruning.map.show(key_of(1));
    assert_eq!(pruning.changes(), [put("key", "value")]);
}

#[test]
fn the_values_of_the_departed_move_and_readers_do_not_notice() {
    let [mut a, mut b, mut c] = three();
    (0..100).for_each(|n| a.put(&format!("{n}"), "value"));
    a.remove("5");
    b.pull(&a);
    c.pull(&a);
    b.changes();
    c.changes();
    b.map.set_lead(true);
    b.map.depart(b.now, key_of(1));
    assert_eq!(b.map.poll_timeout(), Some(Duration::from_secs(60)));
    b.pass(59);
    assert_eq!(b.map.stats().moved, 0);
    b.pass(1);
    b.pass(0);
    assert_eq!(b.map.stats().moved, 99);
    assert_eq!(b.changes(), []);
    c.pass(60);
    c.pull(&b);
    assert_eq!(c.changes(), []);
    assert_eq!((shown(&b.map), b.map.root()), (shown(&c.map), c.map.root()));
    assert!(
        values(&c.map)
            .keys()
            .all(|(log, _)| log.origin == key_of(2))
    );
    // A newcomer that hears of the old log first does not take the values for dead.
    let mut d = node(4, 4, config());
    d.pull(&c);
    assert_eq!(shown(&d.map), shown(&b.map));
    // Its writer still decides by its stamps.
    a.put("7", "later");
    c.pull(&a);
    assert_eq!(c.get("7"), Some("later"));
}

#[test]
fn a_lead_that_was_away_does_not_bring_back_what_was_removed() {
    let [mut a, mut b, mut c] = three();
    a.put("key", "value");
    b.pull(&a);
    c.pull(&a);
    // The others remove it and forget that.
    a.remove("key");
    b.pull(&a);
    a.pass(60);
    b.pass(60);
    assert_eq!(b.map.stats().removals, 0);
    // Alone, it takes the writer for departed and moves the value.
    c.map.set_lead(true);
    c.map.depart(c.now, key_of(1));
    c.pass(60);
    assert_eq!((c.map.stats().moved, c.get("key")), (1, Some("value")));
    b.pull(&c);
    assert_eq!(b.get("key"), None);
    c.pull(&b);
    assert_eq!((c.get("key"), c.map.stats().resets), (None, 1));
    assert_eq!(b.map.root(), c.map.root());
}

#[test]
fn who_was_away_for_longer_than_the_horizon_keeps_what_it_wrote_itself() {
    let [mut a, mut b, mut c] = three();
    for key in ["gone", "stays"] {
        a.put(key, "old");
    }
    b.pull(&a);
    c.pull(&a);
    a.remove("gone");
    b.pull(&a);
    c.put("mine", "written alone");
    for node in [&mut a, &mut b, &mut c] {
        node.pass(60);
    }
    c.pull(&b);
    assert_eq!(c.get("gone"), None);
    assert_eq!(
        (c.get("stays"), c.get("mine")),
        (Some("old"), Some("written alone"))
    );
    b.pull(&c);
    a.pull(&b);
    assert_eq!(shown(&a.map), shown(&c.map));
    assert_eq!(c.map.stats().removals, 0);
}

#[test]
fn a_removal_waits_for_what_it_removed() {
    let [mut a, mut b, mut c] = three();
    a.put("key", "value");
    let value = a.map.commit().expect("a write");
    b.pull(&a);
    b.remove("key");
    let removal = b.map.commit().expect("a removal");
    assert_eq!(c.take(&b, removal), Ok(true));
    c.pass(600);
    assert_eq!((c.map.stats().removals, c.map.stats().waiting), (1, 1));
    assert_eq!(c.take(&a, value), Ok(true));
    assert_eq!(c.get("key"), None);
    c.pass(600);
    assert_eq!(c.map.stats().removals, 0);
}

#[test]
fn a_concurrent_value_outlives_a_removal_only_where_removals_are_of_what_was_seen() {
    for (mode, kept) in [(Mode::LastWrite, None), (Mode::ObservedRemove, Some("new"))] {
        let config = Config { mode, ..config() };
        let [mut a, mut b] = [1, 2].map(|n| node(n, n as u64, config.clone()));
        a.put("key", "old");
        b.pull(&a);
        b.now.wall_ms += 1;
        b.put("key", "new");
        a.now.wall_ms += 2;
        assert!(a.remove("key"));
        a.pull(&b);
        b.pull(&a);
        assert_eq!((a.get("key"), b.get("key")), (kept, kept), "{mode:?}");
        assert_eq!(a.map.root(), b.map.root());
    }
}

#[test]
fn a_life_that_was_lived_before_is_noticed_and_nothing_is_lost() {
    let [mut a, mut b, _] = three();
    a.put("before", "value");
    let old = a.map.commit().expect("a write");
    assert_eq!(b.take(&a, old.clone()), Ok(true));
    // The same life again, empty: its clock was set back.
    let mut a = node(1, 1, config());
    assert_eq!(a.map.poll_clash(), None);
    assert_eq!(a.take(&b, old), Err(Refused::Clash));
    a.put("after", "value");
    assert_eq!(a.map.poll_clash(), Some(1));
    assert_eq!(a.map.poll_clash(), None, "it is told once");
    a.map.reincarnate(2);
    a.pull(&b);
    b.pull(&a);
    assert_eq!(
        (a.get("before"), a.get("after")),
        (Some("value"), Some("value"))
    );
    assert_eq!(shown(&a.map), shown(&b.map));
}

#[test]
fn a_writer_that_restarts_often_keeps_few_logs() {
    let [_, mut b, mut c] = three();
    for life in 10..60 {
        let mut a = node(1, life, config());
        a.pull(&b);
        a.put(&format!("{life}"), "value");
        a.pass(1);
        b.pull(&a);
        assert!(
            b.map.stats().logs <= config().max_logs_per_origin,
            "{:?}",
            b.map.stats()
        );
    }
    assert_eq!(shown(&b.map).len(), 50);
    c.pull(&b);
    assert_eq!((shown(&c.map), c.map.root()), (shown(&b.map), b.map.root()));
}

#[test]
fn what_is_lost_is_taken_from_who_has_applied_the_same() {
    let [mut a, mut b, mut c] = three();
    a.put("key", "first");
    b.pull(&a);
    b.put("key", "second");
    // C hears that the first value was replaced, and not by what; then B is lost.
    let summaries = difference(&b.map, &c.map);
    let wants = c.map.wants(key_of(2), &summaries);
    let first = wants
        .iter()
        .find(|want| want.origin == key_of(1))
        .expect("its log");
    for delta in b.map.answer(first, usize::MAX) {
        assert_eq!(c.take(&b, delta), Ok(true));
    }
    assert_eq!(c.get("key"), None);
    c.pull(&a);
    assert_eq!(c.get("key"), Some("first"));
    assert_eq!((c.map.stats().repaired, a.map.root()), (1, c.map.root()));
}

#[test]
fn budgets_are_errors_that_change_nothing() {
    let small = Config {
        max_entries: 2,
        max_bytes: 20,
        ..config()
    };
    let mut a = node(1, 1, small);
    let Node { map, clock, now } = &mut a;
    assert_eq!(map.put(*now, clock, b"key", b""), Err(PutError::Empty));
    for (key, value) in [(1, MAX_PAIR), (MAX_PAIR, 1), (MAX_PAIR / 2, MAX_PAIR)] {
        let put = map.put(*now, clock, &vec![0; key], &vec![0; value]);
        assert_eq!(put, Err(PutError::TooLarge));
    }
    assert_eq!(map.put(*now, clock, b"key", &[0; 18]), Err(PutError::Full));
    map.put(*now, clock, b"1", b"value").expect("there is room");
    map.put(*now, clock, b"2", b"value").expect("there is room");
    let root = map.root();
    assert_eq!(map.put(*now, clock, b"3", b"value"), Err(PutError::Full));
    assert_eq!(map.root(), root);
    map.put(*now, clock, b"2", b"instead")
        .expect("it takes no more room");
    assert!(a.remove("1"));
}

#[test]
fn a_replica_is_restored_from_what_was_polled() {
    let [mut a, mut b, _] = three();
    let mut disk = std::collections::BTreeMap::new();
    for round in 0..20 {
        a.put(&format!("{}", round % 7), &format!("{round}"));
        a.remove(&format!("{}", round % 3));
        b.put(&format!("{}", round % 5), "other");
        a.pull(&b);
        a.pass(7);
        while let Some((id, record)) = a.map.poll_record() {
            match record {
                Some(record) => disk.insert(id, record),
                None => disk.remove(&id),
            };
        }
        let all = a
            .map
            .snapshot()
            .filter(|(id, _)| disk.contains_key(id) || *id != RecordId::Map);
        assert!(all.eq(disk.clone()), "round {round}");
        let restored = LwwMap::restore(key_of(1), 100, config(), a.now, disk.clone());
        let restored = restored.expect("it is whole");
        assert_eq!(
            (shown(&restored), restored.root()),
            (shown(&a.map), a.map.root())
        );
    }
    let again = LwwMap::restore(key_of(1), 1, config(), a.now, disk);
    assert_eq!(again.map(|_| ()), Err(Corrupt::Life(1)));
}

#[test]
fn what_was_saved_under_higher_limits_stays_and_new_values_are_refused() {
    let mut a = node(1, 1, config());
    for key in 0..5 {
        a.put(&format!("{key}"), "of an earlier life");
    }
    for number in 2..8 {
        let mut other = node(number, 1, config());
        other.put(&format!("of {number}"), "value");
        other.now.wall_ms += 60_000;
        other.put(&format!("ahead {number}"), "value");
        a.pull(&other);
    }
    assert_eq!((a.map.stats().logs, a.map.stats().parked), (7, 6));
    let lower = Config {
        max_entries: 3,
        max_bytes: 10,
        max_parked: 1,
        max_parked_per_log: 1,
        max_logs: 2,
        max_logs_per_origin: 1,
        ..config()
    };
    let saved: Vec<_> = a.map.snapshot().collect();
    let map = LwwMap::restore(key_of(1), 2, lower, a.now, saved).expect("it is whole");
    let mut again = Node { map, ..a.clone() };
    again.map.check();
    assert_eq!(shown(&again.map), shown(&a.map));
    let Node { map, clock, now } = &mut again;
    assert_eq!(map.put(*now, clock, b"6", b"value"), Err(PutError::Full));
    assert_eq!(map.put(*now, clock, b"1", b"value"), Err(PutError::Full));
    let mut stranger = node(9, 1, config());
    stranger.put("of 9", "value");
    let delta = stranger.map.commit().expect("a write");
    assert_eq!(again.take(&stranger, delta), Err(Refused::Full));
    // what goes, makes room
    for key in 0..5 {
        assert!(again.remove(&format!("{key}")));
        again.map.check();
    }
    again.pass(120);
    again.map.check();
    assert_eq!(again.map.stats().parked, 0, "their time has come");
    assert_eq!(shown(&again.map).len(), 12);
}

#[test]
fn operations_written_together_are_told_together() {
    let [mut a, mut b, mut c] = three();
    a.put("one", "1");
    a.put("two", "2");
    a.put("one", "3");
    a.remove("two");
    let whole = a.map.commit().expect("four writes");
    assert_eq!(b.take(&a, whole.clone()), Ok(true));
    let range = |node: &Node, from, to| node.map.delta(key_of(1), 1, from, to);
    assert_eq!(range(&b, 0, 4), Some(whole));
    assert_eq!(range(&b, 0, 5), None, "it is not all here");
    assert_eq!((range(&b, 2, 2), range(&b, 3, 2)), (None, None));
    let part = range(&b, 1, 4).expect("it is all here");
    assert_eq!(c.take(&b, part), Ok(true));
    assert_eq!((c.get("one"), c.get("two")), (Some("3"), None));
    // the removal is forgotten: who lacks it cannot be told any more
    b.pass(100);
    assert_eq!(b.map.stats().removals, 0);
    assert_eq!(range(&b, 1, 4), None);
    assert!(range(&b, 2, 3).is_some(), "of this nothing is forgotten");
    let large = "x".repeat(MAX_PAIR - 10);
    a.put("large 1", &large);
    a.put("large 2", &large);
    b.pull(&a);
    assert_eq!(range(&b, 4, 6), None, "it does not fit into a chunk");
    assert!(range(&b, 4, 5).is_some() && range(&b, 5, 6).is_some());
}

#[test]
fn who_was_away_until_its_log_was_closed_hears_of_it() {
    let small = Config {
        max_logs: 2,
        ..config()
    };
    let [mut a, mut b, _] = three();
    let mut c = node(3, 3, small);
    a.put("key", "value");
    c.pull(&a);
    c.map.depart(c.now, key_of(1));
    c.map.set_lead(true);
    c.pass(120);
    assert_eq!(c.map.stats().moved, 1);
    b.put("other", "value");
    c.pull(&b);
    assert_eq!(c.map.stats().logs, 2, "the log of A has made room");
    assert_eq!((a.map.is_disowned(), a.map.poll_clash()), (false, None));
    a.pull(&c);
    assert_eq!((a.map.is_disowned(), a.map.poll_clash()), (true, Some(1)));
    a.map.reincarnate(2);
    assert!(!a.map.is_disowned());
    a.put("key", "later");
    b.pull(&a);
    assert_eq!(b.get("key"), Some("later"));
}
