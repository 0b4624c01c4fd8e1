//! Evergate: a reverse-proxy authentication gateway.
//!
//! It stands before an app that knows nothing of tokens. A person who is logged in never notices that
//! tokens expire; a person who is not never gets through.
//!
//! # One request
//!
//! 1. [`proxy`] looks at the head: framing, limits, who asks and from where.
//! 2. [`policy::path`] finds the one reading of its path, [`policy::route`] the route for it.
//! 3. [`policy::credentials`] finds the token, [`token`] verifies it.
//! 4. [`policy::decide`] says what happens: forward, look up, renew or answer. [`proxy`] does that
//!    one thing and asks again; [`refresh`] renews, beside the request or before it.
//! 5. With a [`policy::decide::Permit`], and only with one, the request goes on: what only the gateway
//!    may say is taken away, then said ([`policy::identity`]).
//! 6. Every response leaves through one seal, which puts the session's newest cookies on it
//!    ([`policy::set_cookie`]).
//! 7. One log line and the [`metrics`] are written from the same facts.
//!
//! # Rooms
//!
//! Imports run one way: cli → server → proxy → token, refresh, session → policy. Only [`cli`] and [`server`]
//! know [`config`]; [`clock`], [`log`] and [`metrics`] are leaves, and so is the shared [`store`]. `tests/house.rs` holds to it.

pub mod policy;
pub mod token;
pub mod refresh;
pub mod session;
pub mod proxy;
pub mod config;
pub mod listen;
pub mod metrics;
pub mod log;
pub mod store;
pub mod admin;
pub mod server;
pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;
pub mod clock;
