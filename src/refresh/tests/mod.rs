//! Stories over a whole room: the real board, ledger and flights, a strict fake backend, a fake
//! verifier, and time that moves by hand.

pub(super) mod fake;
pub(super) mod fake_store;
mod http;
mod sharing;
mod trouble;
mod ends;
mod bounds;
mod budget;
mod gateways;
mod any_order;
