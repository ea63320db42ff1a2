//! Whether a peer is still there when its port is said to be closed.
//!
//! A process that was killed says nothing, but its host answers for it: *port
//! unreachable*. That is worth asking the peer at once, and no proof, since
//! anybody who sees the packets can send such an answer. So a link in doubt sends
//! PINGs, and ends only when a row of them stays unanswered *and* refusals went on:
//! one alone, however silent the peer, leaves the link to the idle timeout. Silence
//! counts only while this machine itself keeps time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// PINGs in a row that must stay unanswered. At 3 % loss each way all are lost
/// once in a billion doubts.
const SILENT: u32 = 5;

/// PINGs after which the peer is there or, if it answers only now and then,
/// doubted again by the next refusal.
const ASKED: u32 = 3 * SILENT;

/// Time that all answers together have, beside two round trips. With a
/// keep-alive each second a peer that was killed is given up within 1.5 s.
const ANSWER: Duration = Duration::from_millis(400);

/// A round trip that took longer says more about a queue than about the path.
const MAX_RTT: Duration = Duration::from_secs(2);

/// The doubt about one link.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// Refusals since the doubt began; 0: there is none.
    refusals: AtomicU32,
    /// How often one began.
    begun: AtomicU64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The peer answered, or nothing speaks against it but silence.
    There,
    /// Nobody answers, and the port is closed.
    Gone,
}

impl Doubt {
    /// Counts a refusal. Whoever is told `true` must [`settle`](Self::settle) it.
    pub(crate) fn refused(&self) -> bool {
        let first = self.refusals.fetch_add(1, Ordering::Relaxed) == 0;
        self.begun.fetch_add(u64::from(first), Ordering::Relaxed);
        first
    }

    /// How often there was one.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Asks until it is clear. `heard` counts what came from the peer, `ask` sends
    /// a PING, `wait` lets the time of an answer pass and answers how much passed.
    pub(crate) async fn settle(
        &self,
        rtt: Duration,
        heard: impl Fn() -> u64,
        ask: impl Fn(),
        wait: impl AsyncFn(Duration) -> Duration,
    ) -> Verdict {
        let pause = (ANSWER + 2 * rtt.min(MAX_RTT)) / SILENT;
        let mut silent = 0;
        let mut answers = 0;
        for _ in 0..ASKED {
            let before = heard();
            ask();
            let passed = wait(pause).await;
            if heard() == before {
                // Late: with so little time to run on, peers on this machine, or
                // what they sent, may be late as well.
                if passed <= 2 * pause {
                    silent += 1;
                }
            } else {
                silent = 0;
                answers += 1;
            }
            // The first answer may have been on its way when the peer died.
            if answers == 2 || silent == SILENT {
                break;
            }
        }
        let refusals = self.refusals.swap(0, Ordering::Relaxed);
        if silent == SILENT && refusals > 1 {
            Verdict::Gone
        } else {
            Verdict::There
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A peer in virtual time: what it does with each PING.
    #[derive(Clone, Copy, Debug)]
    enum Act {
        Answer,
        Silence,
        Refusal,
        /// A refusal, and this machine is busy with other things.
        Late,
    }

    /// Plays a doubt that began with one refusal. Answers the verdict, and the time
    /// it took.
    fn play(rtt: Duration, acts: &[Act]) -> (Verdict, Duration) {
        let doubt = Doubt::default();
        let (heard, time) = (Cell::new(0), Cell::new(Duration::ZERO));
        let acts = RefCell::new(acts.iter());
        assert!(doubt.refused());
        let late = Cell::new(false);
        let ask = || {
            let act = *acts.borrow_mut().next().unwrap_or(&Act::Silence);
            late.set(matches!(act, Act::Late));
            match act {
                Act::Answer => heard.set(heard.get() + 1),
                Act::Silence => {}
                Act::Refusal | Act::Late => assert!(!doubt.refused(), "in doubt already"),
            }
        };
        let wait = async |pause| {
            let passed = if late.get() { 3 * pause } else { pause };
            time.set(time.get() + passed);
            passed
        };
        let verdict = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(doubt.settle(rtt, || heard.get(), ask, wait));
        assert!(doubt.refused(), "the doubt is over, another may begin");
        (verdict, time.get())
    }

    #[test]
    fn a_silent_peer_whose_port_stays_closed_is_gone() {
        let (verdict, time) = play(Duration::ZERO, &[Act::Refusal; 5]);
        assert_eq!((verdict, time), (Verdict::Gone, ANSWER));
    }

    #[test]
    fn one_refusal_alone_ends_nothing() {
        let (verdict, _) = play(Duration::ZERO, &[Act::Silence; 5]);
        assert_eq!(verdict, Verdict::There);
    }

    #[test]
    fn a_peer_that_answers_is_there_whatever_others_say() {
        for lost in 0..SILENT as usize {
            let mut acts = vec![Act::Refusal; lost];
            acts.extend([Act::Answer; 2]);
            assert_eq!(play(Duration::ZERO, &acts).0, Verdict::There);
        }
    }

    #[test]
    fn an_answer_that_was_on_its_way_does_not_save_a_dead_peer() {
        let acts = [&[Act::Answer][..], &[Act::Refusal; 5]].concat();
        assert_eq!(play(Duration::ZERO, &acts).0, Verdict::Gone);
    }

    #[test]
    fn a_long_way_has_more_time() {
        let rtt = Duration::from_millis(300);
        let (verdict, time) = play(rtt, &[Act::Refusal; 5]);
        assert_eq!((verdict, time), (Verdict::Gone, ANSWER + 2 * rtt));
        let (_, time) = play(Duration::from_secs(3600), &[Act::Refusal; 5]);
        assert_eq!(time, ANSWER + 2 * MAX_RTT);
    }

    #[test]
    fn silence_while_this_machine_is_late_does_not_count() {
        let acts = [&[Act::Late; 9][..], &[Act::Answer; 2]].concat();
        assert_eq!(play(Duration::ZERO, &acts).0, Verdict::There);
        let acts = [&[Act::Late; 9][..], &[Act::Refusal; 5]].concat();
        assert_eq!(play(Duration::ZERO, &acts).0, Verdict::Gone);
    }

    #[test]
    fn it_comes_to_an_end() {
        let turns = [Act::Silence, Act::Silence, Act::Answer, Act::Silence];
        let (_, time) = play(Duration::ZERO, &turns.repeat(10));
        assert!(time <= ANSWER * ASKED / SILENT);
    }
}
