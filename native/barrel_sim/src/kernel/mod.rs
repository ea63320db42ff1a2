//! Virtual time, links and faults for any machine with the verbs of the node.

mod config;
mod conn;
mod dice;
mod fault;
mod hash;
mod latency;
mod linklog;
mod machine;
mod queue;
mod slot;
#[cfg(test)]
mod tests;
mod time;
#[cfg(test)]
mod toy;
mod walls;
mod world;
mod world_dial;
mod world_faults;
mod world_links;
mod world_view;

pub use config::{Config, Detection};
pub use dice::{Dice, mix, unmix};
pub use fault::{Act, PPM, Rule, Verdict, Whom};
pub use hash::LogHash;
pub use latency::Latency;
pub use linklog::{Life, LinkLog, Span};
pub use machine::{KINDS, Link, LinkDown, Machine, NodeNo, Now, Output};
pub use slot::Counts;
pub use time::Time;
pub use world::{Happened, World};
