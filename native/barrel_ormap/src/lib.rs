// SPDX-License-Identifier: Apache-2.0

//! What do we all agree on.

#![forbid(unsafe_code)]

pub mod audit;
mod chunk;
pub mod delta;
pub mod digest;
pub mod hlc;
pub mod key;
mod live;
mod log;
pub mod map;
mod origin;
pub mod pair;
pub mod ranges;
pub mod registry;
mod slots;

pub use audit::AuditKey;
pub use delta::{Add, Delta, LiveSet, Malformed, Removal, Removes};
pub use digest::{Digest, Summary, Sweep, Want};
pub use hlc::{Clock, Hlc, Now};
pub use key::OriginKey;
pub use map::{LwwMap, MapDelta};
pub use pair::Pair;
pub use ranges::{Coverage, RangeSet, TooManyRanges};
pub use registry::{Applied, Budget, Change, Config, Limits, Refused, Registry, Snapshot, Stats};
