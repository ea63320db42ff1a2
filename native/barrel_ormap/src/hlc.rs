// SPDX-License-Identifier: Apache-2.0

//! When did it happen: a hybrid logical clock.
//!
//! Two nodes never agree on the time. A hybrid logical clock (Kulkarni, Demirbas,
//! Madappa, Avva and Leone 2014) gives stamps that stay near the wall clock and still
//! grow along every message: what was written after something was seen has the greater
//! stamp, whatever the two wall clocks say. A stamp is one number, 48 bits of
//! milliseconds above a counter of 16 bits, so comparing is comparing numbers.
//!
//! A node that believed every stamp would follow the fastest clock of the cluster, or the
//! first broken one. So a stamp too far in the future is refused and teaches nothing
//! ([`Drift`]); what is done with the value that carried it, is the store's decision.
//!
//! The wall clock may step back, even across a restart; stamps may not. While the node
//! runs, the clock remembers its latest stamp. Across a restart it begins at a *floor*
//! that was made durable ahead of the stamps, see [`Clock::poll_floor`].

use std::fmt;
use std::time::Duration;

/// Bits of the counter.
const COUNTER: u32 = 16;

/// The last millisecond that fits, in the year 10889.
const LAST_MS: u64 = (1 << 48) - 1;

/// The default of [`Clock::new`]: how far the stamp of another node may be ahead of our
/// wall clock. A guess: hosts that run NTP are within tens of milliseconds.
pub const MAX_DRIFT_MS: u64 = 500;

/// The most that can be configured: one who is a minute off has a broken clock. A guess.
pub const DRIFT_CAP_MS: u64 = 60_000;

/// How far the durable floor is ahead of the stamps. One write of the floor serves half
/// of this time; the other half is for the disk.
const AHEAD_MS: u64 = 1_000;

/// A stamp: milliseconds since 1970 and a counter within the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(u64);

impl Hlc {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// The stamp of that millisecond and counter. A time after the last one is the last one.
    pub const fn new(wall_ms: u64, logical: u16) -> Self {
        let wall_ms = if wall_ms > LAST_MS { LAST_MS } else { wall_ms };
        Self(wall_ms << COUNTER | logical as u64)
    }

    /// Milliseconds since 1970.
    pub const fn wall_time(self) -> u64 {
        self.0 >> COUNTER
    }

    /// The counter within the millisecond.
    pub const fn logical(self) -> u16 {
        self.0 as u16
    }

    /// The stamp as a number, in the same order.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The stamp of a number. Every number is a stamp.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Big-endian, so that bytes compare as stamps do.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The stamp of these bytes. All bytes are a stamp.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// The next stamp. A counter that is used up borrows the next millisecond.
    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_time(), self.logical())
    }
}

/// What the two clocks of a host show. Time that passes is measured on the first, which
/// nobody sets; the second only ever becomes part of stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Since the node started.
    pub mono: Duration,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// A stamp from too far in the future. The clock has not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The stamp.
    pub stamp: Hlc,
    /// How many milliseconds it is ahead of our wall clock.
    pub ahead_ms: u64,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stamp {:?} is {} ms ahead", self.stamp, self.ahead_ms)
    }
}

impl std::error::Error for Drift {}

/// What breaks the clock on purpose.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Follows every stamp, however far ahead.
    AbsorbAll,
    /// Begins at the wall clock after a restart.
    ForgetFloor,
}

/// The clock of one node.
#[derive(Clone, Debug)]
pub struct Clock {
    last: Hlc,
    max_drift_ms: u64,
    /// Stamps before this millisecond are, or are about to be, covered by a durable floor.
    floor_ms: u64,
    /// The floor has risen since it was last asked for.
    floor_rose: bool,
    rejected: u64,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Clock {
    /// A clock that takes stamps up to `max_drift_ms` ahead of the wall clock, at most
    /// [`DRIFT_CAP_MS`]. `floor_ms` is the last floor that [`Clock::poll_floor`] gave and
    /// that was made durable, or 0 on a new node.
    pub fn new(max_drift_ms: u64, floor_ms: u64) -> Self {
        Self {
            last: Hlc::new(floor_ms, 0),
            max_drift_ms: max_drift_ms.min(DRIFT_CAP_MS),
            floor_ms,
            floor_rose: false,
            rejected: 0,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// Breaks the clock.
    #[cfg(feature = "mutants")]
    pub fn break_it(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
        if mutant == Mutant::ForgetFloor {
            self.last = Hlc::ZERO;
        }
    }

    /// A stamp for something that happens here now. It is greater than every stamp this
    /// clock has given or taken.
    #[must_use]
    pub fn now(&mut self, wall_ms: u64) -> Hlc {
        self.step(Hlc::new(wall_ms, 0).max(self.last.next()))
    }

    /// Takes the stamp of a message and gives the stamp of its arrival, which is greater.
    ///
    /// A stamp that is not later than our own latest one teaches nothing and is never
    /// refused: after a step back of our wall clock our own stamps are ahead of it.
    ///
    /// # Errors
    /// The stamp would bring this clock more than the permitted drift ahead of the wall
    /// clock. Nothing has changed, but the count.
    pub fn receive(&mut self, wall_ms: u64, stamp: Hlc) -> Result<Hlc, Drift> {
        let next = Hlc::new(wall_ms, 0).max(self.last.next()).max(stamp.next());
        if !self.accepts(wall_ms, stamp) {
            self.rejected += 1;
            let ahead_ms = stamp.wall_time().saturating_sub(wall_ms);
            return Err(Drift { stamp, ahead_ms });
        }
        Ok(self.step(next))
    }

    /// A stamp for something that happens here now and replaces what has that stamp. Only
    /// for a stamp that a store shows: it was near when it was taken, and a write that
    /// stayed behind it would be lost.
    #[must_use]
    pub fn above(&mut self, wall_ms: u64, stamp: Hlc) -> Hlc {
        self.step(Hlc::new(wall_ms, 0).max(self.last.next()).max(stamp.next()))
    }

    /// Whether [`Clock::receive`] would take the stamp.
    pub fn accepts(&self, wall_ms: u64, stamp: Hlc) -> bool {
        #[cfg(feature = "mutants")]
        if self.mutant == Some(Mutant::AbsorbAll) {
            return true;
        }
        let near_ms = wall_ms.saturating_add(self.max_drift_ms);
        stamp <= self.last || stamp.next().wall_time() <= near_ms
    }

    /// When the wall clock shows this millisecond, the stamp is accepted.
    pub fn accepted_at(&self, stamp: Hlc) -> u64 {
        stamp.next().wall_time().saturating_sub(self.max_drift_ms)
    }

    /// The permitted drift in milliseconds.
    pub fn max_drift_ms(&self) -> u64 {
        self.max_drift_ms
    }

    /// The latest stamp given or taken.
    pub fn latest(&self) -> Hlc {
        self.last
    }

    /// Stamps refused for being too far ahead.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// A new floor to make durable, once each. A write is acknowledged only after the
    /// floors that were given before it are durable: then no stamp of an acknowledged
    /// write is ever given again, wherever the wall clock stands after a restart.
    #[must_use]
    pub fn poll_floor(&mut self) -> Option<u64> {
        std::mem::take(&mut self.floor_rose).then_some(self.floor_ms)
    }

    /// What must hold at any time.
    pub fn check(&self) {
        let covered =
            self.last.wall_time() < self.floor_ms || self.last == Hlc::new(self.floor_ms, 0);
        assert!(
            covered || self.last == Hlc::ZERO,
            "{self:?}: a stamp above the floor"
        );
        assert!(self.max_drift_ms <= DRIFT_CAP_MS);
    }

    fn step(&mut self, next: Hlc) -> Hlc {
        self.last = next;
        if next.wall_time() + AHEAD_MS / 2 >= self.floor_ms {
            self.floor_ms = next.wall_time() + AHEAD_MS;
            self.floor_rose = true;
        }
        next
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(MAX_DRIFT_MS, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;
    const START: u64 = 1_800_000_000_000;

    #[test]
    fn a_stamp_is_its_parts_and_its_bytes() {
        let stamp = Hlc::new(START, 7);
        assert_eq!((stamp.wall_time(), stamp.logical()), (START, 7));
        assert_eq!(Hlc::from_bytes(stamp.to_bytes()), stamp);
        assert!(Hlc::new(START, u16::MAX) < Hlc::new(START + 1, 0));
        assert_eq!(Hlc::new(u64::MAX, 1).wall_time(), LAST_MS);
    }

    #[test]
    fn a_used_up_counter_borrows_the_next_millisecond() {
        let mut clock = Clock::default();
        let first = clock.now(START);
        for _ in 0..u16::MAX {
            let _ = clock.now(START);
        }
        assert_eq!(clock.latest(), Hlc::new(START, u16::MAX));
        assert_eq!(clock.now(START), Hlc::new(START + 1, 0));
        assert_eq!(first, Hlc::new(START, 0));
    }

    #[test]
    fn a_stamp_too_far_ahead_teaches_nothing() {
        let mut clock = Clock::default();
        let _ = clock.now(START);
        let before = clock.latest();
        let far = Hlc::new(START + MAX_DRIFT_MS + 1, 0);
        let refused = clock.receive(START, far);
        assert_eq!(
            refused,
            Err(Drift {
                stamp: far,
                ahead_ms: MAX_DRIFT_MS + 1
            })
        );
        assert_eq!((clock.latest(), clock.rejected()), (before, 1));
        clock
            .receive(START, Hlc::new(START + MAX_DRIFT_MS, 0))
            .unwrap();
    }

    #[test]
    fn the_last_counter_of_the_last_permitted_millisecond_is_refused() {
        let mut clock = Clock::default();
        let stamp = Hlc::new(START + MAX_DRIFT_MS, u16::MAX);
        clock.receive(START, stamp).unwrap_err();
    }

    #[test]
    fn nobody_can_configure_more_than_the_cap() {
        let mut clock = Clock::new(u64::MAX, 0);
        clock
            .receive(START, Hlc::new(START + DRIFT_CAP_MS + 1, 0))
            .unwrap_err();
    }

    #[test]
    fn the_end_of_time_overflows_nothing() {
        let mut clock = Clock::default();
        for _ in 0..3 {
            let _ = clock.now(u64::MAX);
            let _ = clock.receive(u64::MAX, Hlc::from_u64(u64::MAX));
            let _ = clock.poll_floor();
        }
        clock.check();
    }

    /// Random schedules per property.
    fn schedules() -> u32 {
        let set = std::env::var("BARREL_SCHEDULES").ok();
        set.and_then(|number| number.parse().ok()).unwrap_or(2_000)
    }

    /// What happens to a cluster of three.
    #[derive(Clone, Debug)]
    enum Step {
        Tick(usize),
        Send(usize, usize),
        /// All clocks go on.
        Pass(u64),
        /// One wall clock is set.
        Set(usize, i64),
        /// One node restarts with the floor that is durable.
        Restart(usize),
        /// A stamp that no clock gave.
        Forge(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let node = || 0usize..3;
        prop_oneof![
            4 => node().prop_map(Step::Tick),
            6 => (node(), node()).prop_map(|(from, to)| Step::Send(from, to)),
            3 => (0u64..700).prop_map(Step::Pass),
            1 => (node(), -(HOUR as i64)..HOUR as i64).prop_map(|(node, by)| Step::Set(node, by)),
            1 => node().prop_map(Step::Restart),
            1 => (node(), any::<u64>()).prop_map(|(node, stamp)| Step::Forge(node, stamp)),
        ]
    }

    struct Node {
        clock: Clock,
        offset: i64,
        durable: u64,
        given: Hlc,
        /// How far ahead the node's own wall clock has been.
        highest: u64,
    }

    /// Runs the steps and says what is wrong.
    fn run(steps: &[Step], steady: bool, prepare: impl Fn(&mut Clock)) -> Result<(), String> {
        let mut time = START;
        let fresh = |floor| {
            let mut clock = Clock::new(MAX_DRIFT_MS, floor);
            prepare(&mut clock);
            clock
        };
        let mut nodes: Vec<Node> = (0..3)
            .map(|n| Node {
                clock: fresh(0),
                offset: 50 * n,
                durable: 0,
                given: Hlc::ZERO,
                highest: 0,
            })
            .collect();
        for step in steps {
            let (at, stamp) = match *step {
                Step::Pass(ms) => {
                    time += ms;
                    continue;
                }
                Step::Set(node, by) => {
                    if !steady {
                        nodes[node].offset = by;
                    }
                    continue;
                }
                Step::Restart(node) => {
                    nodes[node].clock = fresh(nodes[node].durable);
                    continue;
                }
                Step::Tick(node) => (node, None),
                Step::Send(from, to) => (to, Some(nodes[from].given)),
                Step::Forge(node, stamp) => (node, Some(Hlc::from_u64(stamp))),
            };
            let node = &mut nodes[at];
            let wall = time.saturating_add_signed(node.offset);
            node.highest = node.highest.max(wall);
            let result = match stamp {
                None => Ok(node.clock.now(wall)),
                Some(stamp) => node.clock.receive(wall, stamp),
            };
            if let Some(floor) = node.clock.poll_floor() {
                node.durable = floor;
            }
            let Ok(given) = result else {
                if steady && !matches!(step, Step::Forge(..)) {
                    return Err(format!("{step:?}: an honest stamp was refused"));
                }
                continue;
            };
            if given <= node.given {
                return Err(format!("{step:?}: {given:?} after {:?}", node.given));
            }
            if stamp.is_some_and(|stamp| given <= stamp) {
                return Err(format!(
                    "{step:?}: {given:?} is not after what was received"
                ));
            }
            // The clock may be as far ahead as the wall clock has been, and the drift; and
            // each restart begins at the floor.
            let restarts = steps
                .iter()
                .filter(|step| matches!(step, Step::Restart(_)))
                .count() as u64;
            if given.wall_time() > node.highest + MAX_DRIFT_MS + AHEAD_MS * restarts {
                return Err(format!(
                    "{step:?}: {given:?} ran away from {}",
                    node.highest
                ));
            }
            node.given = given;
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(schedules()))]

        #[test]
        fn stamps_grow_along_messages_whatever_the_wall_clocks_do(steps in prop::collection::vec(step(), 1..60)) {
            prop_assert_eq!(run(&steps, false, |_| ()), Ok(()));
        }

        #[test]
        fn clocks_that_nobody_sets_stay_near_and_refuse_nothing_honest(steps in prop::collection::vec(step(), 1..60)) {
            let steps: Vec<_> = steps.into_iter().filter(|step| !matches!(step, Step::Restart(_))).collect();
            prop_assert_eq!(run(&steps, true, |_| ()), Ok(()));
        }
    }

    #[cfg(feature = "mutants")]
    fn kills(mutant: Mutant) -> bool {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        (0..2_000).any(|_| {
            let steps = prop::collection::vec(step(), 1..60).new_tree(&mut runner);
            let steps = steps.map(|tree| tree.current()).unwrap_or_default();
            run(&steps, false, |clock| clock.break_it(mutant)).is_err()
        })
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_clock_that_follows_everybody_is_noticed() {
        assert!(kills(Mutant::AbsorbAll));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_clock_that_forgets_its_floor_is_noticed() {
        assert!(kills(Mutant::ForgetFloor));
    }
}
