//! A channel: whole packets both ways over one stream, with bounded queues.
//!
//! This is the layer above the [seam](crate::seam) for a distribution channel.
//! Two parties meet here under short locks: the I/O thread, and whoever calls
//! [`Channel::send`] and [`Channel::recv`] (in a node, schedulers inside a NIF).
//!
//! ```text
//! send ─► Outbox ─► write(offer) ─► transport          budget: Limits::high
//!   `busy` once the budget is used ┄┄┄► writable bell at Limits::low
//!
//! transport ─► data() ─► Incoming ─► recv              limit: Limits::inbox
//!   want() = 0 when full, the window closes ◄┄┄ resume at half
//! ```
//!
//! *Ring once, drain until empty*: each bell rings once and is armed again by
//! the call that found nothing ([`Channel::recv`]) or was told `busy`.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::frame::{Outbox, Reader, Scanner};
use crate::seam::{Offer, StreamEnd, StreamEvents};
use crate::stream::Stream;

/// Who hears the bells. Called on the I/O thread only.
pub trait Bell: Send + Sync + 'static {
    /// Packets wait: call [`Channel::recv`] until it is empty.
    fn readable(&self);
    /// There is room again after `busy`.
    fn writable(&self);
    /// The stream has ended. Exactly once, and last.
    fn closed(&self, end: &StreamEnd);
}

/// Sizes of the queues of one channel, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A send that leaves this much queued is answered `busy`.
    pub high: usize,
    /// The writable bell rings when no more than this is left. The wide gap to
    /// `high` is what keeps small senders from starving beside bulk ones.
    pub low: usize,
    /// Reading stops while this much waits to be taken.
    pub inbox: usize,
}

impl Limits {
    /// Limits for a pull budget (see the configuration) and a receive limit.
    pub fn new(pull_budget: usize, inbox: usize) -> Self {
        Self {
            high: pull_budget.max(64 << 10),
            low: pull_budget.max(64 << 10) / 4,
            inbox: inbox.max(64 << 10),
        }
    }
}

/// The answer to a send. The packets were taken unless it says `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// There is room for more.
    Ok,
    /// Wait for the writable bell.
    Busy,
    /// The stream has ended.
    Closed,
}

/// What [`Channel::stat`] answers, as `mf_getstat` of a carrier wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Packets received, ticks included. A burst that completed none counts
    /// one, so that a slow link still shows signs of life.
    pub received: u64,
    /// Packets taken for sending, ticks included.
    pub sent: u64,
    /// Bytes queued here.
    pub queued: usize,
}

/// One channel.
pub struct Channel<B> {
    bell: B,
    limits: Limits,
    /// Guards what is queued for sending.
    out: Mutex<Out>,
    /// Guards what arrived and was not taken over by the reader.
    incoming: Mutex<Incoming>,
    /// Guards the reader's own part of what arrived; never held together with
    /// a wait, and by one caller at a time.
    reader: Mutex<Reader>,
    /// Bytes that arrived and were not taken yet, in `incoming` and `reader`.
    waiting: AtomicUsize,
    /// The transport found `want() == 0` and waits to be resumed.
    paused: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    stream: OnceLock<Stream>,
    /// Closed before there was a stream.
    closing: AtomicBool,
}

#[derive(Default)]
struct Out {
    outbox: Outbox,
    /// Bytes of the latest offer, still with the transport.
    offered: usize,
    /// The sender was told `busy`.
    blocked: bool,
    closed: bool,
}

struct Incoming {
    scanner: Scanner,
    chunks: VecDeque<Bytes>,
    ended: usize,
    /// The bell may ring.
    armed: bool,
    /// Packets that ended in the current burst.
    burst: u64,
    end: Option<StreamEnd>,
}

impl<B: Bell> Channel<B> {
    /// A channel without a stream: sends are queued, nothing is received.
    pub fn new(bell: B, limits: Limits) -> Self {
        Self {
            bell,
            limits,
            out: Mutex::default(),
            incoming: Mutex::new(Incoming {
                scanner: Scanner::default(),
                chunks: VecDeque::new(),
                ended: 0,
                armed: true,
                burst: 0,
                end: None,
            }),
            reader: Mutex::default(),
            waiting: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            stream: OnceLock::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// Gives the channel its stream, once.
    pub fn attach(&self, stream: Stream) {
        // A second stream would be a bug of the caller; the first one stays.
        let _ = self.stream.set(stream);
        // With the fence of `close`: of two threads that attach and close at
        // once, one at least sees what the other did.
        fence(Ordering::SeqCst);
        if self.closing.load(Ordering::Acquire) {
            self.close();
        }
        self.poke();
    }

    /// The bell it was made with.
    pub fn bell(&self) -> &B {
        &self.bell
    }

    /// Queues packets: `fill` writes them to the outbox and answers how many.
    pub fn send(&self, fill: impl FnOnce(&mut Outbox) -> u64) -> Sent {
        let answer = {
            let mut out = self.out.lock();
            if out.closed || self.closing.load(Ordering::Acquire) {
                return Sent::Closed;
            }
            let packets = fill(&mut out.outbox);
            self.sent.fetch_add(packets, Ordering::Relaxed);
            if out.outbox.queued() + out.offered >= self.limits.high {
                out.blocked = true;
                Sent::Busy
            } else {
                Sent::Ok
            }
        };
        self.poke();
        answer
    }

    /// Queues an empty packet, unless something is queued anyway.
    pub fn tick(&self) {
        {
            let mut out = self.out.lock();
            let closed = out.closed || self.closing.load(Ordering::Acquire);
            if closed || out.outbox.queued() + out.offered > 0 {
                return;
            }
            out.outbox.start(0);
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        self.poke();
    }

    /// Takes whole packets, oldest first, until about `max_bytes` or
    /// `max_packets` are taken.
    /// `visit` gets the length of each and the reader to copy it from; a tick has
    /// length 0. Taking none arms the bell.
    ///
    /// # Errors
    /// The stream has ended and everything before its end was taken.
    pub fn recv(
        &self,
        max_bytes: usize,
        max_packets: usize,
        mut visit: impl FnMut(usize, &mut Reader),
    ) -> Result<(), StreamEnd> {
        let mut reader = self.reader.lock();
        let (mut bytes, mut visited) = (0, 0);
        while bytes < max_bytes && visited < max_packets {
            let Some(len) = reader.next_len() else {
                if self.take_over(&mut reader, visited == 0)? {
                    continue;
                }
                break;
            };
            visit(len, &mut reader);
            visited += 1;
            bytes += len + crate::frame::HEADER;
        }
        drop(reader);
        self.took(bytes);
        Ok(())
    }

    /// Moves what arrived to the reader. Without anything whole, arms the bell
    /// if `arm`, or answers how the stream ended.
    fn take_over(&self, reader: &mut Reader, arm: bool) -> Result<bool, StreamEnd> {
        let mut incoming = self.incoming.lock();
        let ended = std::mem::take(&mut incoming.ended);
        if ended > 0 {
            reader.extend(&mut incoming.chunks, ended);
            return Ok(true);
        }
        if !arm {
            return Ok(false);
        }
        match &incoming.end {
            Some(end) => Err(end.clone()),
            None => {
                incoming.armed = true;
                drop(incoming);
                // What still waits is the beginning of one packet, however
                // large: only reading on can complete it.
                self.unpause();
                Ok(false)
            }
        }
    }

    fn took(&self, bytes: usize) {
        let waiting = self.waiting.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if waiting <= self.limits.inbox / 2 {
            self.unpause();
        }
    }

    fn unpause(&self) {
        if self.paused.swap(false, Ordering::SeqCst)
            && let Some(stream) = self.stream.get()
        {
            stream.resume();
        }
    }

    /// Bytes that may arrive now. `None`: the reader must come first.
    fn room(&self) -> Option<usize> {
        let waiting = self.waiting.load(Ordering::SeqCst);
        match self.limits.inbox.saturating_sub(waiting) {
            // Everything that waits may be one packet larger than the inbox:
            // then only its rest can make progress.
            0 => self.incoming.lock().armed.then_some(self.limits.inbox),
            free => Some(free),
        }
    }

    /// Counters for `mf_getstat`.
    pub fn stat(&self) -> Stat {
        let queued = {
            let out = self.out.lock();
            out.outbox.queued() + out.offered
        };
        Stat {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            queued,
        }
    }

    /// Sends what is queued, then ends the stream.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if let Some(stream) = self.stream.get() {
            stream.finish();
        }
    }

    fn poke(&self) {
        if let Some(stream) = self.stream.get() {
            stream.poke();
        }
    }
}

impl<B: Bell> StreamEvents for Channel<B> {
    fn want(&self) -> usize {
        if let Some(room) = self.room() {
            return room;
        }
        // Sequentially consistent, as what the reader does is: either it sees
        // `paused` after it made room, or the room is seen here.
        self.paused.store(true, Ordering::SeqCst);
        self.room().unwrap_or(0)
    }

    fn data(&self, bytes: Bytes) {
        let mut incoming = self.incoming.lock();
        if incoming.end.is_some() {
            return;
        }
        match incoming.scanner.scan(&bytes) {
            Ok(ended) => {
                self.waiting.fetch_add(bytes.len(), Ordering::SeqCst);
                incoming.chunks.push_back(bytes);
                incoming.ended += ended;
                incoming.burst += ended as u64;
            }
            Err(_) => {
                incoming.end = Some(StreamEnd::Protocol("packet too large"));
                drop(incoming);
                if let Some(stream) = self.stream.get() {
                    stream.reset(crate::seam::Code::Protocol.to_wire());
                }
            }
        }
    }

    fn flush(&self) {
        let ring = {
            let mut incoming = self.incoming.lock();
            let burst = std::mem::take(&mut incoming.burst);
            self.received.fetch_add(burst.max(1), Ordering::Relaxed);
            incoming.ended > 0 && std::mem::take(&mut incoming.armed)
        };
        if ring {
            self.bell.readable();
        }
    }

    fn write(&self, offer: &mut Offer) {
        let ring = {
            let mut out = self.out.lock();
            let mut offered = 0;
            while offer.room() > 0 {
                let Some(chunk) = out.outbox.pop() else { break };
                offered += chunk.len();
                offer.put(chunk);
            }
            out.offered = offered;
            let low = out.outbox.queued() + offered <= self.limits.low;
            low && std::mem::take(&mut out.blocked)
        };
        if ring {
            self.bell.writable();
        }
    }

    fn closed(&self, end: StreamEnd) {
        {
            let mut out = self.out.lock();
            out.closed = true;
            out.outbox.clear();
            out.offered = 0;
        }
        let (end, ring) = {
            let mut incoming = self.incoming.lock();
            let end = incoming.end.get_or_insert(end).clone();
            (end, std::mem::take(&mut incoming.armed))
        };
        if ring {
            // The reader finds the end behind the last packet.
            self.bell.readable();
        }
        self.bell.closed(&end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{HEADER, MAX_PACKET};
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Counts the bells.
    #[derive(Default)]
    struct Counter {
        readable: AtomicUsize,
        writable: AtomicUsize,
        ends: Mutex<Vec<StreamEnd>>,
    }

    impl Counter {
        fn readable(&self) -> usize {
            self.readable.load(Ordering::SeqCst)
        }

        fn writable(&self) -> usize {
            self.writable.load(Ordering::SeqCst)
        }
    }

    impl Bell for Counter {
        fn readable(&self) {
            assert!(self.ends.lock().is_empty(), "the end is told last");
            self.readable.fetch_add(1, Ordering::SeqCst);
        }

        fn writable(&self) {
            assert!(self.ends.lock().is_empty(), "the end is told last");
            self.writable.fetch_add(1, Ordering::SeqCst);
        }

        fn closed(&self, end: &StreamEnd) {
            self.ends.lock().push(end.clone());
        }
    }

    const LIMITS: Limits = Limits {
        high: 100,
        low: 25,
        inbox: 100,
    };

    fn channel() -> Channel<Counter> {
        Channel::new(Counter::default(), LIMITS)
    }

    fn attached() -> (Channel<Counter>, Stream) {
        let (channel, stream) = (channel(), Stream::new());
        channel.attach(stream.clone());
        (channel, stream)
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        let mut bytes = (packet.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(packet);
        bytes
    }

    fn deliver(channel: &Channel<Counter>, bytes: &[u8]) {
        channel.data(Bytes::copy_from_slice(bytes));
        channel.flush();
    }

    fn send(channel: &Channel<Counter>, packet: &[u8]) -> Sent {
        channel.send(|outbox| {
            outbox.start(packet.len());
            outbox.copy(packet);
            1
        })
    }

    /// One call of `recv`, as an owner makes it.
    fn recv(channel: &Channel<Counter>, max: usize) -> Result<Vec<Vec<u8>>, StreamEnd> {
        let mut packets = Vec::new();
        channel.recv(max, 1000, |len, reader| {
            let mut packet = vec![0; len];
            reader.copy_to(&mut packet);
            packets.push(packet);
        })?;
        Ok(packets)
    }

    fn offered(channel: &Channel<Counter>, room: usize) -> Vec<u8> {
        let mut offer = Offer::new(room);
        channel.write(&mut offer);
        offer.chunks_mut().concat()
    }

    #[test]
    fn a_sender_is_busy_at_high_and_hears_once_at_low() {
        let channel = channel();
        assert_eq!(send(&channel, &[1; 50]), Sent::Ok);
        assert_eq!(send(&channel, &[2; 42]), Sent::Busy);
        assert_eq!(channel.stat().queued, 100);
        // Taken by the transport, and not yet accepted by it: still queued.
        assert_eq!(offered(&channel, 1000).len(), 100);
        assert_eq!((channel.stat().queued, channel.bell.writable()), (100, 0));
        assert_eq!(offered(&channel, 1000).len(), 0);
        assert_eq!((channel.stat().queued, channel.bell.writable()), (0, 1));
        offered(&channel, 1000);
        assert_eq!(channel.bell.writable(), 1);
    }

    #[test]
    fn a_sender_that_was_never_busy_hears_nothing() {
        let channel = channel();
        assert_eq!(send(&channel, &[1; 90]), Sent::Ok);
        offered(&channel, 1000);
        offered(&channel, 1000);
        assert_eq!(channel.bell.writable(), 0);
    }

    #[test]
    fn the_readable_bell_rings_once_until_a_reader_finds_nothing() {
        let (channel, _stream) = attached();
        deliver(&channel, &framed(b"one"));
        deliver(&channel, &framed(b"two"));
        assert_eq!(channel.bell.readable(), 1);
        assert_eq!(recv(&channel, 1).unwrap(), [b"one"]);
        deliver(&channel, &framed(b"three"));
        assert_eq!(channel.bell.readable(), 1, "the reader is still at it");
        assert_eq!(recv(&channel, 1000).unwrap(), [&b"two"[..], b"three"]);
        assert!(recv(&channel, 1000).unwrap().is_empty());
        deliver(&channel, &framed(b"four"));
        assert_eq!(channel.bell.readable(), 2);
    }

    #[test]
    fn part_of_a_packet_rings_no_bell() {
        let (channel, _stream) = attached();
        let bytes = framed(b"whole");
        deliver(&channel, &bytes[..6]);
        assert_eq!(channel.bell.readable(), 0);
        assert!(recv(&channel, 1000).unwrap().is_empty());
        deliver(&channel, &bytes[6..]);
        assert_eq!(channel.bell.readable(), 1);
        assert_eq!(recv(&channel, 1000).unwrap(), [b"whole"]);
    }

    #[test]
    fn a_full_inbox_stops_the_transport_and_half_an_empty_one_resumes_it() {
        let (channel, stream) = attached();
        assert_eq!(channel.want(), 100);
        for _ in 0..4 {
            deliver(&channel, &framed(&[7; 21]));
        }
        assert_eq!(channel.want(), 0);
        assert_eq!(recv(&channel, 1).unwrap().len(), 1);
        assert!(!stream.was_resumed(), "three quarters are still full");
        assert_eq!(recv(&channel, 1).unwrap().len(), 1);
        assert!(stream.was_resumed());
        assert_eq!(channel.want(), 50);
        assert_eq!(recv(&channel, 1000).unwrap().len(), 2);
        assert!(!stream.was_resumed(), "nobody is stopped");
    }

    #[test]
    fn a_packet_larger_than_the_inbox_makes_progress() {
        let (channel, stream) = attached();
        let packet = vec![5; 1000];
        let bytes = framed(&packet);
        for part in bytes.chunks(90) {
            assert!(channel.want() > 0 || stream.was_resumed());
            deliver(&channel, part);
        }
        assert_eq!(recv(&channel, 1000).unwrap(), [packet]);
    }

    #[test]
    fn a_packet_larger_than_the_inbox_makes_progress_behind_a_small_one() {
        let (channel, stream) = attached();
        let mut bytes = framed(b"small");
        bytes.extend(framed(&[5; 1000]));
        deliver(&channel, &bytes[..120]);
        // The bell has rung for the small one, so the transport stops.
        assert_eq!(channel.want(), 0);
        assert_eq!(recv(&channel, 1000).unwrap(), [b"small"]);
        // The reader found all there is; what waits is still over the limit.
        assert!(recv(&channel, 1000).unwrap().is_empty());
        assert!(stream.was_resumed());
        assert!(channel.want() > 0);
    }

    #[test]
    fn a_tick_is_sent_only_when_nothing_else_is() {
        let channel = channel();
        channel.tick();
        channel.tick();
        assert_eq!(offered(&channel, 1000), [0; HEADER]);
        assert_eq!(channel.stat().sent, 1);
        offered(&channel, 1000);
        send(&channel, b"data");
        channel.tick();
        assert_eq!(offered(&channel, 1000).len(), HEADER + 4);
        assert_eq!(channel.stat().sent, 2);
    }

    #[test]
    fn every_burst_counts_as_a_sign_of_life() {
        let (channel, _stream) = attached();
        deliver(&channel, &framed(b""));
        assert_eq!(channel.stat().received, 1);
        channel.data(Bytes::from(framed(b"a")));
        channel.data(Bytes::from(framed(b"b")));
        channel.flush();
        assert_eq!(channel.stat().received, 3);
        // Part of a large packet over a slow link.
        deliver(&channel, &[0, 0]);
        assert_eq!(channel.stat().received, 4);
        assert_eq!(recv(&channel, 1000).unwrap(), [&b""[..], b"a", b"b"]);
    }

    #[test]
    fn the_end_waits_behind_the_last_packet() {
        let (channel, _stream) = attached();
        deliver(&channel, &framed(b"last"));
        channel.closed(StreamEnd::Finished);
        assert_eq!(recv(&channel, 1000).unwrap(), [b"last"]);
        assert_eq!(recv(&channel, 1000), Err(StreamEnd::Finished));
        assert_eq!(recv(&channel, 1000), Err(StreamEnd::Finished));
        assert_eq!(*channel.bell.ends.lock(), [StreamEnd::Finished]);
        assert_eq!(send(&channel, b"x"), Sent::Closed);
        channel.tick();
        assert_eq!(channel.stat().queued, 0);
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_the_end() {
        let (channel, _stream) = attached();
        assert!(recv(&channel, 1000).unwrap().is_empty());
        channel.closed(StreamEnd::Reset(4));
        assert_eq!(channel.bell.readable(), 1);
        assert_eq!(recv(&channel, 1000), Err(StreamEnd::Reset(4)));
    }

    #[test]
    fn a_channel_closed_before_it_has_a_stream_closes_the_stream() {
        let (channel, stream) = (channel(), Stream::new());
        channel.close();
        assert_eq!(send(&channel, b"x"), Sent::Closed);
        channel.attach(stream.clone());
        assert!(stream.was_decided());
    }

    #[test]
    fn attach_and_close_at_once_never_miss_each_other() {
        for _ in 0..2000 {
            let (channel, stream) = (Arc::new(channel()), Stream::new());
            let closing = {
                let channel = Arc::clone(&channel);
                std::thread::spawn(move || channel.close())
            };
            channel.attach(stream.clone());
            closing.join().unwrap();
            assert!(stream.was_decided());
        }
    }

    #[test]
    fn a_packet_over_the_limit_ends_the_channel() {
        let (channel, stream) = attached();
        deliver(&channel, &(MAX_PACKET as u32 + 1).to_be_bytes());
        assert!(stream.was_decided());
        deliver(&channel, &framed(b"ignored"));
        // What the transport answers to a reset.
        channel.closed(StreamEnd::Local);
        let end = StreamEnd::Protocol("packet too large");
        assert_eq!(recv(&channel, 1000), Err(end.clone()));
        assert_eq!(*channel.bell.ends.lock(), [end]);
    }

    /// Transport and reader on two threads: neither may sleep for ever.
    #[test]
    fn a_transport_and_a_reader_never_wait_for_each_other() {
        const PACKETS: u32 = 100_000;
        let (channel, stream) = attached();
        let channel = Arc::new(channel);
        let deadline = Instant::now() + Duration::from_secs(60);
        let transport = {
            let channel = Arc::clone(&channel);
            std::thread::spawn(move || {
                for n in 0..PACKETS {
                    while channel.want() == 0 {
                        while !stream.was_resumed() {
                            assert!(Instant::now() < deadline, "never resumed");
                            std::thread::yield_now();
                        }
                    }
                    deliver(&channel, &framed(&n.to_be_bytes()));
                }
            })
        };
        let (mut next, mut heard) = (0u32, 0);
        while next < PACKETS {
            while channel.bell.readable() == heard {
                assert!(Instant::now() < deadline, "never rung");
                std::thread::yield_now();
            }
            heard += 1;
            loop {
                let packets = recv(&channel, 30).unwrap();
                if packets.is_empty() {
                    break;
                }
                for packet in packets {
                    assert_eq!(packet, next.to_be_bytes());
                    next += 1;
                }
            }
        }
        transport.join().unwrap();
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The transport reads up to so many bytes, if it may.
        Data(usize),
        Flush,
        /// The owner, once the bell rang, takes up to so many bytes.
        Recv(usize),
        Send(usize),
        Write(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..70usize).prop_map(Step::Data),
            Just(Step::Flush),
            (1..200usize).prop_map(Step::Recv),
            (0..120usize).prop_map(Step::Send),
            (1..150usize).prop_map(Step::Write),
        ]
    }

    /// Both parties of one channel, doing what the real ones do.
    struct Model {
        channel: Channel<Counter>,
        stream: Stream,
        /// Bytes that the peer sent and the transport has not read.
        coming: Vec<u8>,
        stopped: bool,
        unflushed: bool,
        /// Bells heard.
        heard: usize,
        reading: bool,
        received: Vec<Vec<u8>>,
        /// Bytes taken for sending, and bytes that left.
        taken: Vec<u8>,
        left: Vec<u8>,
        busy: bool,
    }

    impl Model {
        /// Whether something happened.
        fn step(&mut self, step: Step) -> bool {
            match step {
                Step::Data(len) => self.data(len),
                Step::Flush => self.flush(),
                Step::Recv(max) => self.recv(max),
                Step::Send(len) => self.send(len),
                Step::Write(room) => self.write(room),
            }
        }

        fn data(&mut self, len: usize) -> bool {
            if self.stopped && !self.stream.was_resumed() {
                return false;
            }
            // `want` is asked between bursts only.
            if !self.unflushed {
                self.stopped = self.channel.want() == 0;
            }
            if self.stopped || self.coming.is_empty() {
                return false;
            }
            let part = self
                .coming
                .drain(..len.min(self.coming.len()))
                .collect::<Vec<_>>();
            self.channel.data(part.into());
            self.unflushed = true;
            true
        }

        fn flush(&mut self) -> bool {
            let flushed = std::mem::take(&mut self.unflushed);
            if flushed {
                self.channel.flush();
            }
            flushed
        }

        fn recv(&mut self, max: usize) -> bool {
            let rung = self.channel.bell.readable();
            assert!(rung <= self.heard + 1, "rung once until it was heard");
            if rung > self.heard {
                assert!(!self.reading, "armed by an empty answer alone");
                self.heard = rung;
                self.reading = true;
            }
            if !self.reading {
                return false;
            }
            let packets = recv(&self.channel, max).unwrap();
            self.reading = !packets.is_empty();
            self.received.extend(packets);
            true
        }

        fn send(&mut self, len: usize) -> bool {
            if self.busy {
                return false;
            }
            let packet = vec![self.taken.len() as u8; len];
            let sent = send(&self.channel, &packet);
            self.taken.extend(framed(&packet));
            let queued = self.channel.stat().queued;
            assert_eq!(sent == Sent::Busy, queued >= LIMITS.high);
            self.busy = sent == Sent::Busy;
            true
        }

        fn write(&mut self, room: usize) -> bool {
            let before = self.channel.bell.writable();
            let bytes = offered(&self.channel, room);
            self.left.extend(&bytes);
            let rung = self.channel.bell.writable() - before;
            let low = self.channel.stat().queued <= LIMITS.low;
            assert_eq!(
                rung,
                usize::from(self.busy && low),
                "rung once, at low, after busy"
            );
            self.busy &= !low;
            !bytes.is_empty() || rung > 0
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nobody_is_left_waiting(
            sizes in prop::collection::vec(prop_oneof![0..20usize, 0..400usize], 0..30),
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let (channel, stream) = attached();
            let sent: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
            let mut model = Model {
                channel,
                stream,
                coming: sent.iter().flat_map(|packet| framed(packet)).collect(),
                stopped: false,
                unflushed: false,
                heard: 0,
                reading: false,
                received: Vec::new(),
                taken: Vec::new(),
                left: Vec::new(),
                busy: false,
            };
            for step in steps {
                model.step(step);
            }
            // Both go on with what they were told, until neither can.
            let all = [Step::Data(64), Step::Flush, Step::Recv(50), Step::Write(50)];
            while all.iter().filter(|step| model.step((*step).clone())).count() > 0 {}
            prop_assert_eq!(model.received, sent);
            prop_assert_eq!(model.left, model.taken);
            prop_assert!(!model.busy);
            prop_assert_eq!(model.channel.stat().queued, 0);
            prop_assert_eq!(model.channel.waiting.load(Ordering::SeqCst), 0);
        }
    }
}
