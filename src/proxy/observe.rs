//! What happens at the edge, for whoever watches: the demo's live page does.
//!
//! Events carry names, counts and reasons, never a token, cookie or key.

use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A token was verified for a request; `cached`: its verification was remembered.
    Verified { route: &'a str, cached: bool },
    /// A flight started; `trigger` is the metric's word.
    RefreshStarted { trigger: &'static str },
    /// A flight ended, for `shared_by` requests.
    RefreshFinished { result: &'static str, shared_by: u64, took_ms: u64 },
    /// A response carried a session's newest cookies.
    Delivered,
    /// The gateway answered by itself.
    Answered { route: &'a str, reason: &'static str, status: u16 },
}

/// Called on the request's own thread: must not block.
pub type Observer = Arc<dyn for<'a> Fn(Event<'a>) + Send + Sync>;
