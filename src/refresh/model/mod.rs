//! The room under a model checker: the real board, flights and handles, in many thousand orders.
//!
//! [Shuttle](https://docs.rs/shuttle) runs every task on one thread and chooses at each lock, atomic
//! and channel which task goes on. A run that fails prints its schedule, and `shuttle::replay`
//! repeats it. What is modelled instead of real is in [`primitives`] (a watch channel, sleeping,
//! starting a task) and [`world`] (time, backend, verifier); everything else is the product's code.
//!
//! Time has two shapes, and a claim says which it needs:
//! - *still*: nothing that waits for time ever goes on. A waiter that is left behind is then a
//!   deadlock, which the checker reports.
//! - *running*: the next timer may fire between any two steps, as on a machine that stands still for
//!   seconds.
//!
//! Orders are chosen at random and by priorities with few changes (PCT). All orders are too many to
//! try, even of two requests and a flight: so this finds mistakes and does not exclude them.
//! A store is the stories' fake one: each call is one step, as in the real one.
//! Run it with `cargo test --features model --lib refresh::model`.

pub(super) mod primitives;

mod claims;
mod world;
