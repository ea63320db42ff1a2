//! Faults on purpose, for tests. Compiled with the feature `faults` alone, which
//! no shipped library has.
//!
//! A test in this process arms a fault with [`arm`]. A test of a whole node sets
//! the environment variable `BARREL_P2P_FAULT`, which every start of an endpoint
//! reads:
//!
//! ```text
//! panic_read:N    the task of a stream panics at the N-th burst of data read
//! panic_write:N   the task of a stream panics at the N-th offer it would send
//! panic_link:N    the task of a link panics at the N-th stream that a peer opens
//! ```
//!
//! The counts are those of the whole process; each fault strikes once.

use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable.
pub const VARIABLE: &str = "BARREL_P2P_FAULT";

/// What can be made to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The task of a stream, with data that was just read.
    Read,
    /// The task of a stream, with data that it took to send.
    Write,
    /// The task of a link, as a peer opens a stream.
    Link,
}

/// How many more times each place is passed until it panics; 0 is never.
static LEFT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Lets the `nth` pass panic, counted from now; 0 disarms.
pub fn arm(fault: Fault, nth: u64) {
    LEFT[fault as usize].store(nth, Ordering::SeqCst);
}

/// Arms what the environment says.
pub(crate) fn arm_from_environment() {
    let Ok(value) = std::env::var(VARIABLE) else {
        return;
    };
    match parse(&value) {
        Some((fault, nth)) => {
            arm(fault, nth);
            tracing::warn!(fault = %value, "a fault is armed: this node is for tests");
        }
        None => tracing::error!(fault = %value, "an unknown fault was asked for"),
    }
}

fn parse(value: &str) -> Option<(Fault, u64)> {
    let (name, nth) = value.split_once(':')?;
    let fault = match name {
        "panic_read" => Fault::Read,
        "panic_write" => Fault::Write,
        "panic_link" => Fault::Link,
        _ => return None,
    };
    Some((fault, nth.parse().ok()?))
}

/// A place where `fault` can strike.
pub(crate) fn strike(fault: Fault) {
    let passed = LEFT[fault as usize].fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    });
    assert!(passed != Ok(1), "{fault:?} on purpose");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_name_and_a_count() {
        assert_eq!(parse("panic_read:3"), Some((Fault::Read, 3)));
        assert_eq!(parse("panic_write:1"), Some((Fault::Write, 1)));
        assert_eq!(parse("panic_link:12"), Some((Fault::Link, 12)));
        for bad in [
            "",
            "panic_read",
            "panic_read:",
            "panic_read:x",
            "panic:1",
            "panic_read:-1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
