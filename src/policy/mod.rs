//! The core: what may pass, and with whose identity. Pure.
//!
//! Takes data, returns data. Nothing here knows Pingora, the network, a file, the clock, randomness,
//! a log or a metric, and nothing here is async; time and random bytes come in as arguments.
//! Every enum of ours is matched without `_`, so that a new case cannot fall into an old one.
//! Modules stand in the order in which a request meets them.

pub mod time;
pub mod secret;
pub mod reason;
pub mod path;
pub mod route;
pub mod endpoint;
pub mod carrier;
pub mod kept;
pub mod trusted_origins;
pub mod limits;
pub mod credentials;
pub mod claims;
pub mod logout_token;
pub mod decide;
pub mod identity;
pub mod set_cookie;
pub mod return_to;
pub mod inject;
pub mod bounce;
