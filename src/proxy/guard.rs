//! A panic in a hook must not take the connection, and with it the answer, along.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use pingora::{Error, ErrorType, Result};
use prometheus::IntCounter;

/// Runs a hook; a panic becomes an internal error, which is answered with 500 and counted.
///
/// # Errors
/// The hook's own, or `InternalError` after a panic.
///
/// No `async fn`: that would hold the hook twice, as it came and as it is guarded, and each request moves
/// the whole of it.
pub fn guarded<T>(
    panics: &IntCounter,
    hook: impl Future<Output = Result<T>>,
) -> impl Future<Output = Result<T>> {
    // The request's context may be half-written after a panic. That is safe: without a permit
    // nothing is forwarded, and a permit is the last thing that deciding writes.
    AssertUnwindSafe(hook).catch_unwind().map(|outcome| {
        outcome.unwrap_or_else(|_| {
            panics.inc();
            Error::e_explain(ErrorType::InternalError, "panic in a hook")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_counted_internal_error() {
        let panics = IntCounter::new("panics", "panics").unwrap();
        let hook = async { if panics.get() == 0 { panic!("boom") } else { Ok(()) } };
        let error = guarded(&panics, hook).await.unwrap_err();
        assert_eq!(*error.etype(), ErrorType::InternalError);
        assert_eq!(panics.get(), 1);
    }
}
