// SPDX-License-Identifier: Apache-2.0

//! Who is a member, and who is alive.

#![forbid(unsafe_code)]

mod card;
mod config;
mod members;
mod message;

pub use card::{Card, Claim, MAX_BEAT, MAX_NAME, Status};
pub use config::Config;
pub use members::Members;
pub use message::{DownReason, Event, Heard, Message, Misbehaved, Misdeed, Output, Refused, Stats};
