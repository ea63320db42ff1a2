// SPDX-License-Identifier: Apache-2.0

//! What do we all agree on.

#![forbid(unsafe_code)]

pub mod audit;
pub mod delta;
pub mod digest;
pub mod hlc;
pub mod key;
pub mod pair;
pub mod ranges;

pub use audit::AuditKey;
pub use delta::{Add, Delta, LiveSet, Malformed, Removal, Removes};
pub use digest::{Digest, Summary, Sweep, Want};
pub use hlc::Hlc;
pub use key::OriginKey;
pub use pair::Pair;
pub use ranges::{Coverage, RangeSet, TooManyRanges};
