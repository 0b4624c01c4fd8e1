//! What pages ask for themselves: what is left of a session, and to have it renewed.
//!
//! The same records and flights as for every request; metrics tell them apart (`trigger="client"`).

use std::time::Duration;

use super::handle::{Prospect, SessionHandle};
use super::{Presented, Refresher};
use crate::policy::decide::Session;
use crate::policy::time::Now;

impl Refresher {
    /// What can still come of this refresh token, as far as this gateway knows. It notes nothing and
    /// asks neither a backend nor the store, whose records every look prolongs: asking keeps nothing
    /// alive.
    pub fn prospect(&self, presented: &Presented, now: Now) -> Prospect {
        let Some(visitor) = self.visitor(presented) else {
            return Prospect { over: true, life_left: None };
        };
        self.shared.step(|board| board.ledger.prospect(&visitor, now))
    }

    /// [`Refresher::look_up`] for a page that asks to have its session renewed.
    pub async fn look_up_for_page(
        &self,
        presented: &Presented,
        now: Now,
    ) -> (Session, Option<SessionHandle>) {
        self.known(presented, true, now).await
    }

    /// [`Refresher::renew`] for a page that asks for it. One whose access token still holds does not
    /// queue for the issuer's budget.
    pub async fn renew_for_page(
        &self,
        presented: &Presented,
        wait: Duration,
        now: Now,
    ) -> (Session, Option<SessionHandle>) {
        let Some(visitor) = self.visitor(presented) else { return (Session::Absent, None) };
        self.renewed(presented, visitor.trigger(true, now), wait, now).await
    }
}
