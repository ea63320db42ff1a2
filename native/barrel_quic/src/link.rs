//! One link: a QUIC connection to an authenticated peer, and its streams.
//!
//! The stream that carried the hellos stays open as the control stream. It has
//! two messages:
//!
//! ```text
//! | 1: u8 | streams opened: u64, BE |      DRAIN
//! | 2: u8 | 0: u64                  |      PING
//! ```
//!
//! *DRAIN* says: I open no more streams on this link; I opened so many. A link
//! is drained when it lost a tie, or when nothing used it for a while. Its
//! dialler closes it once both sides said DRAIN, every announced stream has
//! arrived, and the last one has ended. So no stream is ever cut off by a peer
//! that thought the link idle: the count says what is still on its way.
//!
//! *PING* says nothing. QUIC acknowledges it, and that is what a peer in
//! [doubt](crate::doubt) is asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::congestion;
use crate::doubt::{Doubt, Verdict};
use crate::seam::{
    Code, LinkEnd, LinkId, LinkStats, OpenError, Peer, StreamEnd, StreamEvents, Upper,
};
use crate::stream::{self, Answer, Stream};
use crate::watch::{guarded, watched};

/// A link without a stream is kept this long: long enough for a reconnect to
/// find it, short enough not to keep a socket busy. A guess.
const LINGER: Duration = Duration::from_secs(10);

/// Time a peer has to send the preamble of a stream it opened.
const PREAMBLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams of a peer at once on one link. QUIC keeps a table entry for each.
const MAX_STREAMS: u32 = 128;

const DRAIN: u8 = 1;
const PING: u8 = 2;

/// One live link.
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) peer: Peer,
    conn: Connection,
    /// Guards the counts that decide when a drained link is done.
    counts: Mutex<Counts>,
    /// A count changed; heard by `watch_counts` alone.
    changed: Notify,
    /// The link has begun or ended, or its last stream has ended.
    turned: Notify,
    doubt: Doubt,
    /// A PING is to be sent; heard by `watch_counts` alone.
    ping: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Both sides have accepted the hellos, and `up` was told.
    begun: bool,
    /// Opens that may still become a stream.
    opening: usize,
    opened: u64,
    accepted: u64,
    /// Streams alive, either side's, by a number of our own. `None` while the
    /// preamble is under way.
    active: BTreeMap<u64, Option<Stream>>,
    next: u64,
    /// No more opens.
    draining: bool,
    /// The endpoint closes: no more streams, of either side.
    closing: bool,
    /// The peer's DRAIN.
    peer_opened: Option<u64>,
    ended: bool,
    /// The code of our own close.
    closed_with: Option<Code>,
}

/// Keeps one stream counted while it lives.
struct Active {
    link: Arc<Link>,
    number: u64,
}

impl Active {
    /// Counts a stream that has just come to be.
    fn count(link: &Arc<Link>, counts: &mut Counts) -> Self {
        counts.next += 1;
        counts.active.insert(counts.next, None);
        Self {
            link: Arc::clone(link),
            number: counts.next,
        }
    }

    /// From now on [`Link::finish_streams`] reaches it.
    fn begin(&self, stream: &Stream) {
        let mut counts = self.link.counts.lock();
        counts.active.insert(self.number, Some(stream.clone()));
        if counts.closing {
            stream.finish();
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let last = {
            let mut counts = self.link.counts.lock();
            counts.active.remove(&self.number);
            counts.active.is_empty()
        };
        self.link.changed.notify_one();
        if last {
            self.link.turned.notify_waiters();
        }
    }
}

impl Link {
    pub(crate) fn new(id: LinkId, peer: Peer, conn: Connection) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            conn,
            counts: Mutex::default(),
            changed: Notify::new(),
            turned: Notify::new(),
            doubt: Doubt::default(),
            ping: Notify::new(),
        })
    }

    /// Opens a tagged stream and starts to serve it, once the link has begun.
    ///
    /// # Errors
    /// No stream was opened, or the peer refused it.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the stream; the link is unaffected.
    pub(crate) async fn open(
        self: &Arc<Self>,
        tag: &[u8],
        events: Arc<dyn StreamEvents>,
        started: impl FnOnce(Stream),
    ) -> Result<(), OpenError> {
        self.wait_for(|counts| counts.begun || counts.ended).await;
        let opening = Opening::begin(self)?;
        let (mut send, mut recv) = self
            .conn
            .open_bi()
            .await
            .map_err(|error| OpenError::Link(end_of(&error)))?;
        let active = opening.opened();
        match stream::open(&mut send, &mut recv, tag).await {
            Ok(Answer::Accepted) => {}
            Ok(Answer::NoAcceptor) => return Err(OpenError::NoAcceptor),
            Err(StreamEnd::Link(end)) => return Err(OpenError::Link(end)),
            Err(_) => return Err(OpenError::NoAcceptor),
        }
        let stream = Stream::new();
        active.begin(&stream);
        started(stream.clone());
        let ending = Ending::new(events);
        tokio::spawn(serve_stream(active, stream, send, recv, ending));
        Ok(())
    }

    /// Gives the link up in good order.
    pub(crate) fn drain(&self) {
        self.counts.lock().draining = true;
        self.changed.notify_one();
    }

    /// Opens no more streams, whichever side decided so.
    pub(crate) fn is_draining(&self) -> bool {
        self.counts.lock().draining
    }

    /// From now on streams may be opened. The peer is no stranger any more, so
    /// its streams and windows are those of the configuration.
    pub(crate) fn begin(&self, receive_window: u32) {
        self.conn
            .set_receive_window(VarInt::from_u32(receive_window.saturating_mul(4)));
        self.conn
            .set_max_concurrent_bi_streams(VarInt::from_u32(MAX_STREAMS));
        self.counts.lock().begun = true;
        self.turned.notify_waiters();
    }

    /// The link is no more: nothing is opened on it, and nobody waits for it.
    pub(crate) fn end(&self) {
        {
            let mut counts = self.counts.lock();
            counts.draining = true;
            counts.ended = true;
        }
        self.turned.notify_waiters();
    }

    /// Closes the link at once.
    pub(crate) fn close(&self, code: Code) {
        self.counts.lock().closed_with.get_or_insert(code);
        congestion::close(&self.conn, wire(code), code.as_str().as_bytes());
    }

    /// Ends every stream once what it took is sent, and lets no other begin.
    pub(crate) fn finish_streams(&self) {
        let mut counts = self.counts.lock();
        counts.closing = true;
        for stream in counts.active.values().flatten() {
            stream.finish();
        }
    }

    /// Waits until the link and all its streams have ended.
    pub(crate) async fn wait_gone(&self) {
        self.wait_for(|counts| counts.ended && counts.active.is_empty())
            .await;
    }

    /// Waits until no stream is left.
    pub(crate) async fn wait_streamless(&self) {
        self.wait_for(|counts| counts.active.is_empty()).await;
    }

    async fn wait_for(&self, reached: impl Fn(&Counts) -> bool) {
        loop {
            let mut turned = pin!(self.turned.notified());
            turned.as_mut().enable();
            if reached(&self.counts.lock()) {
                return;
            }
            turned.await;
        }
    }

    /// Somebody said that the port of the peer is closed. Whoever is told `true`
    /// must [find out](Self::settle_doubt).
    pub(crate) fn refused(&self) -> bool {
        self.doubt.refused()
    }

    /// Asks the peer, and closes the link when it is gone.
    pub(crate) async fn settle_doubt(&self) {
        let heard = || {
            let frames = self.conn.stats().frame_rx;
            frames.acks + frames.stream + frames.ping
        };
        let wait = async |pause| {
            let began = Instant::now();
            sleep(pause).await;
            began.elapsed()
        };
        let rtt = self.conn.rtt();
        let verdict = self
            .doubt
            .settle(rtt, heard, || self.ping.notify_one(), wait)
            .await;
        if verdict == Verdict::Gone {
            self.close(Code::Unanswered);
        }
    }

    /// Where the peer is now.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.conn.remote_address()
    }

    pub(crate) fn stats(&self) -> LinkStats {
        let stats = self.conn.stats();
        let counts = self.counts.lock();
        LinkStats {
            peer: self.peer.clone(),
            remote: self.remote(),
            streams: counts.active.len(),
            draining: counts.draining,
            rtt: stats.path.rtt,
            mtu: stats.path.current_mtu,
            cwnd: stats.path.cwnd,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            doubts: self.doubt.begun(),
        }
    }

    /// Serves the link until it ends.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        upper: &Arc<dyn Upper>,
        control: (SendStream, RecvStream),
    ) -> LinkEnd {
        let (send, recv) = control;
        let served = watched("link", async {
            tokio::select! {
                error = self.conn.closed() => end_of(&error),
                error = self.accept_streams(upper) => end_of(&error),
                () = self.read_control(recv) => end_of(&self.conn.closed().await),
                () = self.watch_counts(send) => end_of(&self.conn.closed().await),
            }
        })
        .await;
        let end = served.unwrap_or_else(|_| {
            self.close(Code::Internal);
            LinkEnd::Panicked
        });
        self.closed_here(end)
    }

    /// An end with the code of our own close, which quinn does not remember.
    fn closed_here(&self, end: LinkEnd) -> LinkEnd {
        match (&end, self.counts.lock().closed_with) {
            (LinkEnd::Local(_), Some(code)) => LinkEnd::Local(code),
            _ => end,
        }
    }

    async fn accept_streams(self: &Arc<Self>, upper: &Arc<dyn Upper>) -> ConnectionError {
        loop {
            match self.conn.accept_bi().await {
                Ok((send, recv)) => {
                    #[cfg(feature = "faults")]
                    crate::faults::strike(crate::faults::Fault::Link);
                    let active = {
                        let mut counts = self.counts.lock();
                        counts.accepted += 1;
                        Active::count(self, &mut counts)
                    };
                    tokio::spawn(accept_stream(active, Arc::clone(upper), send, recv));
                }
                Err(error) => return error,
            }
        }
    }

    /// Ends with the control stream, or when the peer breaks its grammar.
    async fn read_control(&self, mut recv: RecvStream) {
        loop {
            let mut message = [0; 9];
            match stream::read_exact(&mut recv, &mut message).await {
                Ok(()) if message[0] == DRAIN => {
                    let [_, count @ ..] = message;
                    {
                        let mut counts = self.counts.lock();
                        counts.peer_opened = Some(u64::from_be_bytes(count));
                        counts.draining = true;
                    }
                    self.changed.notify_one();
                }
                Ok(()) if message[0] == PING => {}
                Ok(()) => return self.close(Code::Protocol),
                Err(StreamEnd::Link(_)) => return,
                Err(_) => return self.close(Code::Protocol),
            }
        }
    }

    /// Drains an idle link, says DRAIN, and closes the link when all is done.
    async fn watch_counts(&self, mut send: SendStream) {
        let mut said = false;
        loop {
            let (idle, say, done) = {
                let counts = self.counts.lock();
                let idle = counts.active.is_empty() && counts.opening == 0;
                let arrived = counts
                    .peer_opened
                    .is_some_and(|count| counts.accepted >= count);
                let say = counts.draining && counts.opening == 0 && !said;
                (
                    idle && !counts.draining,
                    say.then_some(counts.opened),
                    said && idle && arrived,
                )
            };
            if let Some(opened) = say {
                if send.write_all(&control(DRAIN, opened)).await.is_err() {
                    // The peer stopped its control stream; or the link has
                    // ended, and this changes nothing.
                    return self.close(Code::Protocol);
                }
                said = true;
                continue;
            }
            if done && self.peer.dialled {
                return self.close(Code::Drained);
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.ping.notified() => {
                    if send.write_all(&control(PING, 0)).await.is_err() {
                        return self.close(Code::Protocol);
                    }
                }
                () = sleep(LINGER), if idle => {
                    let mut counts = self.counts.lock();
                    if counts.active.is_empty() && counts.opening == 0 {
                        counts.draining = true;
                    }
                }
            }
        }
    }
}

/// A message of the control stream.
fn control(kind: u8, value: u64) -> [u8; 9] {
    let mut message = [kind; 9];
    message[1..].copy_from_slice(&value.to_be_bytes());
    message
}

/// Keeps DRAIN from being said while an open may still become a stream.
struct Opening(Option<Arc<Link>>);

impl Opening {
    fn begin(link: &Arc<Link>) -> Result<Self, OpenError> {
        let mut counts = link.counts.lock();
        if counts.closing {
            return Err(OpenError::Closed);
        }
        if counts.draining {
            return Err(OpenError::Link(LinkEnd::Local(Code::Drained)));
        }
        counts.opening += 1;
        Ok(Self(Some(Arc::clone(link))))
    }

    fn opened(mut self) -> Active {
        let link = self.0.take().expect("taken once, here");
        let active = {
            let mut counts = link.counts.lock();
            counts.opening -= 1;
            counts.opened += 1;
            Active::count(&link, &mut counts)
        };
        link.changed.notify_one();
        active
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.counts.lock().opening -= 1;
            link.changed.notify_one();
        }
    }
}

async fn accept_stream(
    active: Active,
    upper: Arc<dyn Upper>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let Ok(Ok(tag)) = timeout(PREAMBLE_TIMEOUT, stream::read_tag(&mut recv)).await else {
        let code = wire(Code::Protocol);
        // Closed streams need no reset.
        let _ = send.reset(code);
        let _ = recv.stop(code);
        return;
    };
    let stream = Stream::new();
    let closing = active.link.counts.lock().closing;
    let offered = guarded("incoming stream", || {
        if closing {
            return None;
        }
        upper.incoming(&active.link.peer, &tag, stream.clone())
    });
    match offered {
        Ok(Some(events)) => {
            let ending = Ending::new(events);
            active.begin(&stream);
            // A failure here shows again in the stream's own task.
            let _ = stream::answer(&mut send, Answer::Accepted).await;
            serve_stream(active, stream, send, recv, ending).await;
        }
        Ok(None) => {
            let _ = stream::answer(&mut send, Answer::NoAcceptor).await;
            let _ = send.finish();
        }
        Err(_) => active.link.close(Code::Internal),
    }
}

async fn serve_stream(
    active: Active,
    stream: Stream,
    send: SendStream,
    recv: RecvStream,
    mut ending: Ending,
) {
    let events = Arc::clone(&ending.events);
    let served = watched(
        "stream",
        stream::serve(&stream, send, recv, events.as_ref()),
    )
    .await;
    ending.end = match served {
        Ok(StreamEnd::Link(end)) => StreamEnd::Link(active.link.closed_here(end)),
        Ok(end) => end,
        Err(_) => {
            active.link.close(Code::Internal);
            StreamEnd::Panicked
        }
    };
    drop(ending);
    // Only now: who waits for the link to be quiet has heard of every end.
    drop(active);
}

/// Tells the end of a stream, also when its task is dropped with the runtime.
struct Ending {
    events: Arc<dyn StreamEvents>,
    end: StreamEnd,
}

impl Ending {
    /// From here on the layer above will be told.
    fn new(events: Arc<dyn StreamEvents>) -> Self {
        Self {
            events,
            end: StreamEnd::Local,
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let end = self.end.clone();
        // A panic in `closed` is logged; there is nothing left to close.
        let _ = guarded("stream end", || self.events.closed(end));
    }
}

/// The number of a code, for quinn.
pub(crate) fn wire(code: Code) -> VarInt {
    VarInt::from_u64(code.to_wire()).unwrap_or(VarInt::MAX)
}

/// What ended a connection.
pub(crate) fn end_of(error: &ConnectionError) -> LinkEnd {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            match Code::from_wire(close.error_code.into_inner()) {
                Code::Shutdown => LinkEnd::PeerShutdown,
                code => LinkEnd::PeerClosed(code),
            }
        }
        ConnectionError::TimedOut => LinkEnd::Timeout,
        ConnectionError::Reset => LinkEnd::Reset,
        ConnectionError::LocallyClosed => LinkEnd::Local(Code::Shutdown),
        other => LinkEnd::Transport(other.to_string()),
    }
}
