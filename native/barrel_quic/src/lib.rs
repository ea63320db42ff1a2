//! The outside world of a barrel_p2p node: authenticated QUIC links.
#![forbid(unsafe_code)]

pub mod certs;
pub mod fsutil;
pub mod hello;
pub mod identity;
pub mod keydir;
pub mod lease;
pub mod name;
pub mod repeats;
pub mod tls;
pub mod trust;
