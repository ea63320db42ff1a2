//! What streams do: send, count, ask, answer. All of it on the I/O thread.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use barrel_quic::seam::{Offer, StreamEnd, StreamEvents};
use barrel_quic::stream::Stream;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::Failure;
use crate::node::Above;

/// Bytes of a round trip, each way: about what a small message between two
/// processes takes in a dist channel.
pub(crate) const PING: usize = 64;

/// Longest wait for one answer; longer ones mean that nothing flows any more.
const STALL: Duration = Duration::from_secs(120);

/// More than ever arrives at once, so that reading never stops.
const WANT: usize = 1 << 30;

/// Counts what arrives, and drops it.
pub(crate) struct Sink(pub(crate) std::sync::Arc<AtomicU64>);

impl StreamEvents for Sink {
    fn want(&self) -> usize {
        WANT
    }

    fn data(&self, bytes: Bytes) {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    fn flush(&self) {}

    fn write(&self, _offer: &mut Offer) {}

    fn closed(&self, _end: StreamEnd) {}
}

/// Sends one message again and again from its start to its stop.
pub(crate) struct Source {
    message: Bytes,
    running: AtomicBool,
    stream: OnceLock<Stream>,
}

impl Source {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            message: vec![b'b'; size].into(),
            running: AtomicBool::new(false),
            stream: OnceLock::new(),
        }
    }

    pub(crate) fn start(&self) {
        self.running.store(true, Ordering::Release);
        if let Some(stream) = self.stream.get() {
            stream.poke();
        }
    }

    pub(crate) fn stop(&self) {
        self.running.store(false, Ordering::Release);
    }
}

impl Above for Source {
    fn attach(&self, stream: Stream) {
        // There is one only.
        let _ = self.stream.set(stream);
    }
}

impl StreamEvents for Source {
    fn want(&self) -> usize {
        WANT
    }

    fn data(&self, _bytes: Bytes) {}

    fn flush(&self) {}

    fn write(&self, offer: &mut Offer) {
        while offer.room() > 0 && self.running.load(Ordering::Acquire) {
            offer.put(self.message.clone());
        }
    }

    fn closed(&self, _end: StreamEnd) {}
}

/// Answers what arrives with what `answer` makes of it.
pub(crate) struct Echo<F> {
    answer: F,
    /// Guards the answers that were not sent yet.
    waiting: Mutex<VecDeque<Bytes>>,
    stream: Stream,
}

impl<F: Fn(Bytes) -> Bytes> Echo<F> {
    pub(crate) fn new(stream: Stream, answer: F) -> Self {
        Self {
            answer,
            waiting: Mutex::default(),
            stream,
        }
    }
}

impl<F: Fn(Bytes) -> Bytes + Send + Sync + 'static> StreamEvents for Echo<F> {
    fn want(&self) -> usize {
        WANT
    }

    fn data(&self, bytes: Bytes) {
        self.waiting.lock().push_back((self.answer)(bytes));
    }

    fn flush(&self) {
        self.stream.poke();
    }

    fn write(&self, offer: &mut Offer) {
        self.waiting
            .lock()
            .drain(..)
            .for_each(|bytes| offer.put(bytes));
    }

    fn closed(&self, _end: StreamEnd) {}
}

/// Asks and waits for the answer, as often as it is told to.
pub(crate) struct Asker {
    /// Guards the question under way, and what is known of its answer.
    state: Mutex<Asking>,
    answered: Condvar,
    stream: OnceLock<Stream>,
}

#[derive(Default)]
struct Asking {
    question: Option<Bytes>,
    /// Bytes of the answer still to come.
    missing: usize,
    answer: Vec<u8>,
    /// Questions that follow the one under way until then, without a thread in between.
    until: Option<Instant>,
    asked: Option<Instant>,
    times: Vec<Duration>,
    closed: bool,
}

impl Asker {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            answered: Condvar::new(),
            stream: OnceLock::new(),
        }
    }

    /// One question, and its answer of `len` bytes.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn ask(&self, len: usize) -> Result<Vec<u8>, Failure> {
        self.begin(None, len);
        self.wait().map(|(answer, _)| answer)
    }

    /// Round trips one after the other for some time; the last one counts in full.
    ///
    /// # Errors
    /// One of them was not answered.
    pub(crate) fn round_trips(&self, run: Duration) -> Result<Vec<Duration>, Failure> {
        self.begin(Some(Instant::now() + run), PING);
        self.wait().map(|(_, times)| times)
    }

    fn begin(&self, until: Option<Instant>, len: usize) {
        let mut state = self.state.lock();
        state.until = until;
        state.times.clear();
        state.put_question(len);
        drop(state);
        self.poke();
    }

    fn wait(&self) -> Result<(Vec<u8>, Vec<Duration>), Failure> {
        let mut state = self.state.lock();
        while state.asked.is_some() {
            if state.closed {
                return Err("the stream has ended".into());
            }
            let known = state.times.len();
            let late = self.answered.wait_for(&mut state, STALL).timed_out();
            if late && state.times.len() == known {
                return Err(format!("no answer within {STALL:?}").into());
            }
        }
        Ok((
            std::mem::take(&mut state.answer),
            std::mem::take(&mut state.times),
        ))
    }

    fn poke(&self) {
        if let Some(stream) = self.stream.get() {
            stream.poke();
        }
    }
}

impl Asking {
    fn put_question(&mut self, len: usize) {
        self.question = Some(Bytes::from_static(&[b'p'; PING]));
        self.missing = len;
        self.answer.clear();
        self.asked = Some(Instant::now());
    }

    /// Answers whether another question is to be sent.
    fn on_answer(&mut self) -> bool {
        let now = Instant::now();
        if let Some(asked) = self.asked.take() {
            self.times.push(now - asked);
        }
        let more = self.until.is_some_and(|until| now < until);
        if more {
            self.put_question(PING);
        }
        more
    }
}

impl Above for Asker {
    fn attach(&self, stream: Stream) {
        // There is one only.
        let _ = self.stream.set(stream);
    }
}

impl StreamEvents for Asker {
    fn want(&self) -> usize {
        WANT
    }

    fn data(&self, bytes: Bytes) {
        let mut state = self.state.lock();
        state.answer.extend_from_slice(&bytes);
        state.missing = state.missing.saturating_sub(bytes.len());
        if state.missing > 0 || state.asked.is_none() {
            return;
        }
        if state.on_answer() {
            drop(state);
            self.poke();
        } else {
            self.answered.notify_all();
        }
    }

    fn flush(&self) {}

    fn write(&self, offer: &mut Offer) {
        if let Some(question) = self.state.lock().question.take() {
            offer.put(question);
        }
    }

    fn closed(&self, _end: StreamEnd) {
        let mut state = self.state.lock();
        state.closed = true;
        self.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_fills_every_offer_between_its_start_and_its_stop() {
        let source = Source::new(100);
        let mut offer = Offer::new(250);
        source.write(&mut offer);
        assert!(offer.is_empty());
        source.start();
        source.write(&mut offer);
        assert_eq!(offer.chunks_mut().len(), 3);
        source.stop();
        let mut offer = Offer::new(250);
        source.write(&mut offer);
        assert!(offer.is_empty());
    }

    #[test]
    fn an_asker_counts_round_trips_until_its_time_is_over() {
        let asker = Asker::new();
        asker.begin(Some(Instant::now() + Duration::from_secs(3600)), PING);
        for answered in 1..=3 {
            let mut offer = Offer::new(1000);
            asker.write(&mut offer);
            assert_eq!(offer.chunks_mut()[0].len(), PING);
            // in two parts, as a network may bring it
            asker.data(Bytes::from_static(&[0; PING - 1]));
            assert_eq!(asker.state.lock().times.len(), answered - 1);
            asker.data(Bytes::from_static(&[0]));
            assert_eq!(asker.state.lock().times.len(), answered);
        }
        asker.state.lock().until = Some(Instant::now());
        asker.data(Bytes::from_static(&[0; PING]));
        assert_eq!(asker.wait().expect("answered").1.len(), 4);
    }

    #[test]
    fn an_asker_hears_that_its_stream_has_ended() {
        let asker = Asker::new();
        asker.begin(None, 1);
        asker.closed(StreamEnd::Finished);
        assert!(asker.wait().is_err());
    }
}
