//! What this room's concurrency is made of, under one name each.
//!
//! In the product these are the standard library's and Tokio's own. With the feature `model`, in
//! tests, they are a model checker's (`model`): then the very same board and flights run
//! under a scheduler that chooses the order of every step, and tries many.
//!
//! What board, flights and handles wait with, lock, count or start comes from here, and from
//! nowhere else: what does not is invisible to the checker.

#[cfg(not(all(test, feature = "model")))]
mod real {
    pub use std::sync::Mutex;
    pub use std::sync::atomic::AtomicUsize;

    pub use tokio::sync::watch;
    pub use tokio::task::JoinHandle;
    pub use tokio::time::{sleep, timeout};

    /// Starts a detached task; who wants to may wait for it.
    pub fn spawn(
        runtime: &tokio::runtime::Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        runtime.spawn(task)
    }
}

#[cfg(not(all(test, feature = "model")))]
pub(super) use real::*;

#[cfg(all(test, feature = "model"))]
pub(super) use super::model::primitives::*;
