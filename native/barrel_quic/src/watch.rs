//! Panics must not be swallowed.
//!
//! tokio drops a task that panics and goes on; the link it served would look
//! alive for ever. Every task of this crate runs under [`watched`], which turns
//! a panic into a value and a log entry; the caller closes what was served.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The future panicked and was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs `future`; a panic inside it is logged under `what` and answered.
///
/// # Errors
/// The future panicked.
pub async fn watched<F: Future>(what: &'static str, future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    // Unwind safety: the future is never polled again, and what it shares with
    // others is behind locks that do not poison and hold whole values.
    poll_fn(
        move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => {
                report(what, payload.as_ref());
                Poll::Ready(Err(Panicked))
            }
        },
    )
    .await
}

/// Calls `f` on behalf of `what` under the same rule.
///
/// # Errors
/// `f` panicked.
pub fn guarded<T>(what: &'static str, f: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        report(what, payload.as_ref());
        Panicked
    })
}

fn report(what: &'static str, payload: &(dyn Any + Send)) {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(
        task = what,
        panic = message,
        remedy = "a bug in barrel_p2p: please report it with this entry",
        "a native task panicked; what it served is closed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_value() {
        assert_eq!(watched("test", async { 1 }).await, Ok(1));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        };
        assert_eq!(watched("test", panics).await, Err::<(), _>(Panicked));
    }
}
