//! What is asked of a session beside requests: what is left of it, to have it renewed, where its token
//! is from.
//!
//! The same records and flights as for every request; metrics tell them apart (`trigger="client"`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::concurrency::spawn;
use super::handle::{NewCookies, Prospect, SessionHandle};
use super::hash::TokenHash;
use super::ledger::Visitor;
use super::sync::note_elsewhere;
use super::{Presented, Refresher};
use crate::policy::claims::Verified;
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

    /// What names the refresh token of these cookies.
    pub fn name_of_new(&self, new: &NewCookies) -> Option<TokenHash> {
        self.hash(new.issuer, new.refresh.as_ref()?)
    }

    /// As [`Refresher::note_shown`], of a browser that shows its refresh token elsewhere: what it shows
    /// here is the access token that came along.
    pub fn note_kept(&self, access: &Arc<Verified>, refresh: TokenHash, now: Now) {
        let visitor = Visitor {
            issuer: access.issuer,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            hash: refresh,
            access: Some(Arc::clone(access)),
        };
        let known = self.shared.step(|board| board.ledger.note_kept(&visitor, now));
        if !known && self.shared.store.is_some() {
            spawn(&self.shared.runtime, note_elsewhere(self.shared.clone(), visitor, None));
        }
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
