//! One tagged stream: its handle for the layer above, and the task that moves
//! bytes between that layer and QUIC.
//!
//! A bidirectional QUIC stream starts with a preamble of its opener and one
//! byte of answer:
//!
//! ```text
//! opener:   | tag length: u8 (1..=255) | tag |  then data
//! acceptor: | answer: u8, 0 accepted, 1 no acceptor |  then data
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::link;
use crate::seam::{Offer, StreamEnd, StreamEvents};

/// Bytes offered to the layer above at once: enough to fill several sends of
/// the socket, small enough that a turn takes well under a millisecond.
const OFFER: usize = 256 << 10;

/// Chunks read at once, at most one datagram each.
const BURST: usize = 64;

/// How long a closed stream may take to send what is queued. Matches the time
/// that OTP's carriers give a dying connection (`death_row`).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const ACCEPTED: u8 = 0;
const NO_ACCEPTOR: u8 = 1;

/// The handle of the layer above. Cheap to clone; calls never block.
#[derive(Clone, Debug)]
pub struct Stream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    poke: Notify,
    resume: Notify,
    /// What the layer above decided: `OPEN`, `FINISH`, or `RESET` + code.
    decision: AtomicU64,
    decided: Notify,
}

const OPEN: u64 = 0;
const FINISH: u64 = 1;
const RESET: u64 = 2;

impl Stream {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            poke: Notify::new(),
            resume: Notify::new(),
            decision: AtomicU64::new(OPEN),
            decided: Notify::new(),
        }))
    }

    /// There is something to write.
    pub fn poke(&self) {
        self.0.poke.notify_one();
    }

    /// Something is wanted again.
    pub fn resume(&self) {
        self.0.resume.notify_one();
    }

    /// Send what is queued, then end the stream.
    pub fn finish(&self) {
        self.decide(FINISH);
    }

    /// Drop what is queued and reset the stream with `code`.
    pub fn reset(&self, code: u64) {
        self.decide(RESET.saturating_add(code));
    }

    fn decide(&self, decision: u64) {
        self.0.decision.fetch_max(decision, Ordering::AcqRel);
        self.0.decided.notify_one();
        self.poke();
    }

    /// What the transport would be woken by: `resume` was called since.
    #[cfg(test)]
    pub(crate) fn was_resumed(&self) -> bool {
        let mut resumed = pin!(self.0.resume.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        resumed.as_mut().poll(&mut context).is_ready()
    }

    /// The layer above has decided to end the stream in some way.
    #[cfg(test)]
    pub(crate) fn was_decided(&self) -> bool {
        self.decision() != OPEN
    }

    fn decision(&self) -> u64 {
        self.0.decision.load(Ordering::Acquire)
    }
}

/// What the peer answered to a preamble.
pub(crate) enum Answer {
    Accepted,
    NoAcceptor,
}

/// Sends the preamble and reads the answer.
///
/// # Errors
/// The stream or the link ended first.
pub(crate) async fn open(
    send: &mut SendStream,
    recv: &mut RecvStream,
    tag: &[u8],
) -> Result<Answer, StreamEnd> {
    debug_assert!((1..=255).contains(&tag.len()), "the caller checks the tag");
    let mut preamble = Vec::with_capacity(1 + tag.len());
    preamble.push(tag.len() as u8);
    preamble.extend_from_slice(tag);
    send.write_all(&preamble).await.map_err(write_end)?;
    let mut answer = [0];
    read_exact(recv, &mut answer).await?;
    Ok(if answer[0] == ACCEPTED {
        Answer::Accepted
    } else {
        Answer::NoAcceptor
    })
}

/// Reads the preamble of a stream that the peer opened.
///
/// # Errors
/// The stream or the link ended first, or the tag is empty.
pub(crate) async fn read_tag(recv: &mut impl Source) -> Result<Vec<u8>, StreamEnd> {
    let mut len = [0];
    recv.fill(&mut len).await?;
    if len[0] == 0 {
        return Err(StreamEnd::Protocol("empty tag"));
    }
    let mut tag = vec![0; usize::from(len[0])];
    recv.fill(&mut tag).await?;
    Ok(tag)
}

/// Answers the preamble.
///
/// # Errors
/// The stream or the link ended first.
pub(crate) async fn answer(send: &mut SendStream, answer: Answer) -> Result<(), StreamEnd> {
    let byte = match answer {
        Answer::Accepted => ACCEPTED,
        Answer::NoAcceptor => NO_ACCEPTOR,
    };
    send.write_all(&[byte]).await.map_err(write_end)
}

/// Where a decoder gets its bytes: the stream of a peer, or the input of a fuzzer.
pub(crate) trait Source {
    /// Reads exactly `target.len()` bytes.
    ///
    /// # Errors
    /// The stream or the link ended first.
    async fn fill(&mut self, target: &mut [u8]) -> Result<(), StreamEnd>;
}

impl Source for RecvStream {
    async fn fill(&mut self, target: &mut [u8]) -> Result<(), StreamEnd> {
        read_exact(self, target).await
    }
}

/// Reads exactly `target.len()` bytes.
///
/// # Errors
/// The stream or the link ended first.
pub(crate) async fn read_exact(recv: &mut RecvStream, target: &mut [u8]) -> Result<(), StreamEnd> {
    recv.read_exact(target).await.map_err(|error| match error {
        quinn::ReadExactError::FinishedEarly(_) => StreamEnd::Finished,
        quinn::ReadExactError::ReadError(error) => read_end(error),
    })
}

/// Moves bytes until the stream ends. The caller reports the end.
pub(crate) async fn serve(
    stream: &Stream,
    mut send: SendStream,
    mut recv: RecvStream,
    events: &dyn StreamEvents,
) -> StreamEnd {
    let end = {
        let mut reading = pin!(read_loop(stream, &mut recv, events));
        tokio::select! {
            biased;
            end = &mut reading => end,
            end = write_loop(stream, &mut send, events) => match end {
                StreamEnd::Local => end,
                // Nothing more can be sent, but what has arrived is still to be
                // delivered, as fast as the layer above wants it.
                _ => tokio::select! {
                    end = reading => end,
                    () = decided(stream, FINISH) => StreamEnd::Local,
                },
            },
        }
    };
    let decision = stream.decision();
    if decision >= RESET {
        let code = VarInt::from_u64(decision - RESET).unwrap_or(VarInt::MAX);
        // Fails when the stream is closed already, which is what is wanted.
        let _ = send.reset(code);
        let _ = recv.stop(code);
    }
    // The peer, or the link, may have ended while this side was closing.
    if decision == OPEN {
        end
    } else {
        StreamEnd::Local
    }
}

async fn read_loop(stream: &Stream, recv: &mut RecvStream, events: &dyn StreamEvents) -> StreamEnd {
    let mut chunks: [Bytes; BURST] = std::array::from_fn(|_| Bytes::new());
    loop {
        if events.want() == 0 {
            stream.0.resume.notified().await;
            continue;
        }
        match recv.read_chunks(&mut chunks).await {
            Ok(Some(count)) => {
                #[cfg(feature = "faults")]
                crate::faults::strike(crate::faults::Fault::Read);
                for chunk in &mut chunks[..count] {
                    events.data(std::mem::take(chunk));
                }
                events.flush();
            }
            Ok(None) => return StreamEnd::Finished,
            Err(error) => return read_end(error),
        }
    }
}

async fn write_loop(
    stream: &Stream,
    send: &mut SendStream,
    events: &dyn StreamEvents,
) -> StreamEnd {
    let moving = async {
        loop {
            // Looked at first: what was queued before the decision is sent.
            let decision = stream.decision();
            let mut offer = Offer::new(OFFER);
            events.write(&mut offer);
            if !offer.is_empty() {
                #[cfg(feature = "faults")]
                crate::faults::strike(crate::faults::Fault::Write);
                if let Err(error) = send.write_all_chunks(offer.chunks_mut()).await {
                    return write_end(error);
                }
            } else if decision == OPEN {
                tokio::select! {
                    () = stream.0.poke.notified() => {}
                    end = stopped(send) => return end,
                }
            } else {
                // Finished before is fine too.
                let _ = send.finish();
                return stopped(send).await;
            }
        }
    };
    let deadline = async {
        decided(stream, FINISH).await;
        tokio::select! {
            () = decided(stream, RESET) => {}
            () = sleep(CLOSE_TIMEOUT) => {
                // What could not be sent in time is given up: not a clean end.
                stream.0.decision.fetch_max(RESET, Ordering::AcqRel);
            }
        }
    };
    tokio::select! {
        end = moving => match end {
            StreamEnd::Finished => StreamEnd::Local,
            end => end,
        },
        () = deadline => StreamEnd::Local,
    }
}

/// Ends once the layer above has decided on `least` or something stronger.
/// Awaited by one task at a time: the notification has one permit.
async fn decided(stream: &Stream, least: u64) {
    while stream.decision() < least {
        stream.0.decided.notified().await;
    }
}

/// Ends when the peer stops the stream, when everything was acknowledged after
/// `finish`, or with the link.
async fn stopped(send: &mut SendStream) -> StreamEnd {
    match send.stopped().await {
        Ok(Some(code)) => StreamEnd::Reset(code.into_inner()),
        Ok(None) => StreamEnd::Finished,
        Err(quinn::StoppedError::ConnectionLost(error)) => StreamEnd::Link(link::end_of(&error)),
        Err(quinn::StoppedError::ZeroRttRejected) => StreamEnd::Reset(0),
    }
}

fn read_end(error: ReadError) -> StreamEnd {
    match error {
        ReadError::Reset(code) => StreamEnd::Reset(code.into_inner()),
        ReadError::ConnectionLost(error) => StreamEnd::Link(link::end_of(&error)),
        ReadError::ClosedStream | ReadError::ZeroRttRejected => StreamEnd::Local,
        ReadError::IllegalOrderedRead => StreamEnd::Protocol("unordered read"),
    }
}

fn write_end(error: WriteError) -> StreamEnd {
    match error {
        WriteError::Stopped(code) => StreamEnd::Reset(code.into_inner()),
        WriteError::ConnectionLost(error) => StreamEnd::Link(link::end_of(&error)),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamEnd::Local,
    }
}
