//! A whole fake world in one process, every part on a free loopback port: a strict auth backend, an
//! app that records what it gets, the real gateway between, and clients that show every byte.
//!
//! A story reads: arrange a [`World`], act through [`client`], assert on the reply and on what the
//! backend and the app have seen.

pub mod backend;
pub mod client;
pub mod fleet;
pub mod gateway;
pub mod keys;
pub mod parts;
pub mod redis;
pub mod upstream;
pub mod wire;
pub mod world;

pub use backend::{Backend, Fault};
pub use client::{Ask, Browser, Reply, get, post, raw};
pub use gateway::Gateway;
pub use keys::{SigningKey, Token, tampered};
pub use redis::{Redis, RedisCluster, Sentinels};
pub use upstream::Upstream;
pub use world::{STANDARD, World};

use std::time::Duration;

/// Waits until `holds` does, at most five seconds; for what happens soon, but not before a reply.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

/// A set of lines, for comparing whole sets of headers, cookies and metrics.
pub fn set<const N: usize>(lines: [&str; N]) -> std::collections::BTreeSet<String> {
    lines.map(str::to_string).into()
}
