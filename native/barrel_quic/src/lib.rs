//! The outside world of a barrel_p2p node: authenticated QUIC links.
//!
//! A node has one [`endpoint`]: one UDP socket, one I/O thread. To each peer it
//! keeps one *link*, a QUIC connection whose two ends have proven an Ed25519
//! key and the cluster secret in a [`hello`] before anything else passed. A
//! link carries *streams*, each with a tag that says what it is for.
//!
//! ```text
//! seam      what the layers above see: links, streams, no QUIC type
//!   channel   whole packets over one stream, with bounded queues
//!     frame     packets on a byte stream
//! endpoint  socket, I/O thread, life
//!   gate      which incoming connections may start a handshake
//!   hub       dialling, admission, opening
//!     handshake  the exchange of hellos       links  which link serves whom
//!   link      one connection and its streams
//!     stream    one stream, byte by byte
//!     doubt    is it still there, when its port is said to be closed
//!   socket    UDP under quinn      congestion    when it may send
//!     patience   what a loss means
//!     burst     more datagrams with one call
//!     errqueue  what ICMP says of datagrams that were sent
//!     quotes    whether they were sent
//! hello, identity, keydir, trust, certs, tls, name, lease: what is proven, and
//!   where it is kept
//! watch     no panic is swallowed      repeats  no log is flooded
//! faults    panics on purpose, in tests      fuzzing   decoders for fuzzers
//! ```
#![forbid(unsafe_code)]

mod burst;
pub mod certs;
pub mod channel;
mod congestion;
mod doubt;
pub mod endpoint;
mod errqueue;
#[cfg(feature = "faults")]
pub mod faults;
pub mod frame;
pub mod fsutil;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
mod handshake;
pub mod hello;
mod hub;
pub mod identity;
pub mod keydir;
pub mod lease;
mod link;
pub mod links;
pub mod name;
mod patience;
mod probe;
mod quotes;
pub mod repeats;
pub mod seam;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod trust;
pub mod watch;
