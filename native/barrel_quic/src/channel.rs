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
