//! Random sequences of everything that can happen, on the real ledger, against a reference.
//!
//! [`play`] moves people, browsers, a strict backend and time as the numbers of [`choices`] say. After
//! each step the ledger must have said what [`reference`] says, and these claims must hold:
//!
//! 1. A refresh token that may be spent is not shown to the backend again; one whose answer was lost
//!    is, but only after no answer can come any more. (For a request to the auth backend's own
//!    route see [`play::visits`].)
//! 2. Nothing but the newest pair is delivered, and nothing after the end.
//! 3. A newest pair that the browser has not shown reaches whoever shows an older one, at any later
//!    time.
//! 4. A token goes to its own person only.
//! 5. Only the backend's clear word, a token of somebody else, a logout and (where that is wanted)
//!    reuse end a session.
//! 6. Nobody rests longer than the failure allows, and nothing is asked before.
//! 7. Counts are what they count, and bounds hold.
//! 8. At the end, when trouble is over, each session that should live is renewed.
//!
//! These plays know one gateway. Several are several ledgers over one store: see `SEVERAL GATEWAYS`
//! in [`play`] for where they belong.

mod choices;
mod play;
mod reference;

use std::num::NonZeroU32;

use self::choices::check;
use self::play::{Network, Scene};
use crate::refresh::settings::{OnReuse, RefreshSettings};
use crate::refresh::tests::fake::settings;

const ROOM: usize = 10_000;

#[test]
fn every_promise_holds_in_any_order_of_events() {
    let scene = Scene { settings: settings(), room: ROOM, network: Network::Good };
    check(|choices, story| scene.play(choices, story));
}

#[test]
fn every_promise_holds_where_answers_get_lost() {
    let scene = Scene { settings: settings(), room: ROOM, network: Network::Bad };
    check(|choices, story| scene.play(choices, story));
}

#[test]
fn every_promise_holds_where_flights_wait_for_their_turn() {
    let settings = RefreshSettings { budget: NonZeroU32::new(1), ..settings() };
    let scene = Scene { settings, room: ROOM, network: Network::Bad };
    check(|choices, story| scene.play(choices, story));
}

#[test]
fn every_promise_holds_where_reuse_ends_a_session() {
    let settings = RefreshSettings { on_reuse: OnReuse::Revoke, ..settings() };
    let scene = Scene { settings, room: ROOM, network: Network::Bad };
    check(|choices, story| scene.play(choices, story));
}

#[test]
fn every_promise_holds_with_room_for_two_sessions_only() {
    let scene = Scene { settings: settings(), room: 2, network: Network::Bad };
    check(|choices, story| scene.play(choices, story));
}
