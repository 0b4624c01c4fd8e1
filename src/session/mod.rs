//! What ends a session before its tokens expire.
//!
//! A token is proof until it expires, and a gateway that only looks at tokens cannot take one back.
//! [`denials`] is the list of what was taken back: by a logout, by an operator, by an auth backend.
//! Every request is checked against it, also where its token's verification was remembered.
//! [`shared`] makes it one list for all gateways. [`replays`] remembers which logout tokens of auth
//! backends were seen. [`seal`] is for what a browser keeps and must not read; [`held`] are tokens of
//! which it has no more than a handle; [`handed_out`] is for what it must not show without its stamp.
//!
//! This room knows no HTTP; it must never: read a clock, keep or show the name of a person.

pub mod seal;
pub mod handed_out;
pub mod denials;
pub mod held;
pub mod replays;
pub mod shared;
