// SPDX-License-Identifier: Apache-2.0

//! Who is a member, and who is alive.

#![forbid(unsafe_code)]

mod card;
mod claims;
mod config;
mod departed;
mod directory;
mod early;
mod exceptions;
mod members;
mod message;
#[cfg(feature = "mutants")]
mod mutant;
mod own;
mod partition;
mod probes;
mod probing;
mod records;
mod round;
mod senders;
mod sorted;

pub use card::{Card, Claim, MAX_BEAT, MAX_NAME, Status};
pub use config::Config;
pub use directory::Directory;
pub use members::Members;
pub use message::{DownReason, Event, Heard, Message, Misbehaved, Misdeed, Output, Refused, Stats};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use senders::Record;
