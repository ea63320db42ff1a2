//! A path between two hosts that is worse than the one there is: it delays,
//! loses, duplicates, reorders and swallows packets, holds them to a rate and a size, and
//! changes the address of one side. For tests and measurements; nothing that runs in
//! production uses it.
//!
//! [`queue`] decides, in virtual time, what happens to a packet. [`path`] is two of them
//! and the lines that change them. [`udp`] relays datagrams and [`tun`] moves IP packets
//! between network namespaces; [`driver`] runs either.

#![forbid(unsafe_code)]

pub mod driver;
pub mod ip;
pub mod path;
pub mod queue;
pub mod settings;
#[cfg(target_os = "linux")]
pub mod tun;
pub mod udp;

pub use path::{Direction, Path};
pub use queue::{Fate, Queue, Stats};
pub use settings::Settings;
