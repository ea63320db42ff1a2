//! What the simulator can run: the verbs of the gossip node.

use std::fmt::Debug;
use std::time::Duration;

use super::hash::LogHash;

/// A node of the world, by number.
pub type NodeNo = u32;

/// One connection, as its ends number it. Later links have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub u64);

/// The clocks of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since this node started. It never jumps.
    pub mono: Duration,
    /// What its wall clock shows: skewed and stepped as the scenario wants.
    pub wall_ms: u64,
}

/// Why a link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkDown {
    /// The other side was silent for too long, or a reset came.
    Failed,
    /// The other side closed it, or a newer link between the two took its place.
    Closed,
}

/// Kinds of messages that are counted apart, at most.
pub const KINDS: usize = 32;

/// What a machine wants.
#[derive(Clone, Debug)]
pub enum Output<M: Machine> {
    /// A link to there. It is answered by `handle_link_up` with the same contact or by
    /// `handle_dial_failed`.
    Dial(M::Contact),
    /// There is something to send: `poll_send` is called until it has nothing more.
    Ready(Link),
    /// An end of this link, once what was sent is on its way.
    Close(Link),
    /// Bytes for the disk; `handle_persisted` says when they are there.
    Persist {
        /// What to keep.
        batch: M::Batch,
        /// Comes back.
        token: u64,
    },
    /// Something for those who watch.
    Event(M::Event),
}

/// A node without a socket.
pub trait Machine: Clone + Debug {
    /// Where to dial.
    type Contact: Clone + Debug + PartialEq;
    /// What goes over a link.
    type Message: Clone + Debug;
    /// What those who watch see.
    type Event: Clone + Debug;
    /// What is written to the disk.
    type Batch: Clone + Debug;

    /// Which node listens there, if any.
    fn place(&self, contact: &Self::Contact) -> Option<NodeNo>;
    /// A link is there. `dialled` is what this node had asked for, if it had.
    ///
    /// A dial to a peer to whom there is a link already is answered by naming that link again.
    fn handle_link_up(
        &mut self,
        now: Now,
        peer: NodeNo,
        link: Link,
        dialled: Option<Self::Contact>,
    );
    /// The round trip to a peer whose link is up.
    fn handle_rtt(&mut self, peer: NodeNo, rtt: Duration) {
        let _ = (peer, rtt);
    }
    /// A link is gone, and nothing more comes over it. It is not said of a link that this node closed itself.
    fn handle_link_down(&mut self, now: Now, link: Link, reason: LinkDown);
    /// Nobody answered there.
    fn handle_dial_failed(&mut self, now: Now, contact: Self::Contact);
    /// A message came.
    fn handle_message(&mut self, now: Now, link: Link, message: Self::Message);
    /// The next message for this link.
    fn poll_send(&mut self, link: Link) -> Option<Self::Message>;
    /// This batch is on the disk.
    fn handle_persisted(&mut self, now: Now, token: u64);
    /// The time named by `poll_timeout` has come.
    fn handle_timeout(&mut self, now: Now);
    /// When to call `handle_timeout`, as a time since this node started.
    fn poll_timeout(&self) -> Option<Duration>;
    /// The next wish.
    fn poll_output(&mut self) -> Option<Output<Self>>;

    /// Sorts messages for the counts: below [`KINDS`].
    fn kind(message: &Self::Message) -> usize;
    /// How many bytes it has on the wire.
    fn length(message: &Self::Message) -> usize;
    /// Puts all that a message says into the log hash.
    fn fold(message: &Self::Message, hash: &mut LogHash);
    /// A number for the log hash.
    fn digest(event: &Self::Event) -> u64;
}
