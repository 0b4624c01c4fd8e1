//! The ledger: all sessions, all strangers, and the endpoints that renew them. Pure.
//!
//! What a request shows goes in, what to do comes out; events are noted for whoever tells them
//! ([`Ledger::take_events`]). Each method is one atomic step under the room's one lock. A lock a
//! shard was rejected: requests with a valid token never come here, a step takes about a
//! microsecond, and eviction needs one order over all sessions.
//!
//! This file is about visitors and what they are given; [`flights`] about renewing, [`elsewhere`]
//! about what other gateways know.

mod elsewhere;
mod flights;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::events::{EndReason, RefreshEvent, Trigger};
use super::hash::TokenHash;
use super::record::{Followed, Shown, State, View};
use super::sessions::{Found, SessionCounts, SessionId, Sessions};
use super::settings::OnReuse;
use super::store::Life;
use super::strangers::{Stranger, Strangers};
use super::{ForBackend, NewCookies, Prospect};
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Renewed;
use crate::policy::time::Now;

pub(super) use elsewhere::Change;
pub(super) use flights::{Begin, Job};

/// Who shows what.
#[derive(Clone)]
pub(super) struct Visitor {
    pub issuer: IssuerId,
    pub client: IpAddr,
    pub hash: TokenHash,
    /// The access token that came along, if its signature held.
    pub access: Option<Arc<Verified>>,
}

impl Visitor {
    /// Why a renewal would be asked for. `by_page`: because the page wants it.
    pub fn trigger(&self, by_page: bool, now: Now) -> Trigger {
        let valid = self.access.as_ref().is_some_and(|access| now.unix < access.expires_at);
        match (by_page, valid) {
            (true, valid) => Trigger::Client { urgent: !valid },
            (false, true) => Trigger::Window,
            (false, false) => Trigger::Expired,
        }
    }

    fn shown(&self, found: Found) -> Shown<'_> {
        Shown { generation: found.generation, access: self.access.as_deref() }
    }
}

pub(super) struct Ledger {
    sessions: Sessions,
    strangers: Strangers,
    endpoints: HashMap<IssuerId, Endpoint>,
    in_flight: usize,
    departures: u64,
    events: Vec<RefreshEvent>,
    /// Other gateways share a store with this one.
    shared: bool,
    /// What they have to be told; always empty without a store.
    changes: Vec<Change>,
}

impl Ledger {
    /// `shared`: other gateways share a store with this one.
    pub fn new(
        sessions_max: usize,
        shared: bool,
        endpoints: impl IntoIterator<Item = (IssuerId, Endpoint)>,
    ) -> Ledger {
        Ledger {
            sessions: Sessions::new(sessions_max),
            strangers: Strangers::new(),
            endpoints: endpoints.into_iter().collect(),
            in_flight: 0,
            departures: 0,
            events: Vec::new(),
            shared,
            changes: Vec::new(),
        }
    }

    /// What this visitor's token is worth, noted as shown and counted.
    /// `by_page`: a page asks to have it renewed.
    pub fn look_up(
        &mut self,
        visitor: &Visitor,
        by_page: bool,
        now: Now,
    ) -> (View, Option<SessionId>) {
        let (view, id) = self.view(visitor, now);
        let issuer = self.name(visitor.issuer);
        let token = || visitor.hash.to_string();
        match view {
            View::Fresh(_) => {
                let trigger = visitor.trigger(by_page, now);
                self.events.push(RefreshEvent::Delivered { issuer, trigger });
            }
            View::Spent => {
                self.events.push(RefreshEvent::SpentShown { issuer, token: token() });
                self.reused(visitor, now);
            }
            View::Foreign => {
                self.events.push(RefreshEvent::ForeignShown { issuer, token: token() });
            }
            View::Live | View::Running | View::Resting(_) | View::Dead | View::Ended => {}
        }
        (view, id)
    }

    /// Notes what was shown where nothing has to be decided. A spent token is one here, too. Says
    /// whether the session is known.
    pub fn note_shown(&mut self, visitor: &Visitor, now: Now) -> bool {
        if matches!(self.view(visitor, now), (View::Spent, _)) {
            self.reused(visitor, now);
        }
        self.sessions.find(visitor.hash, now).is_some()
    }

    /// Notes that a browser has kept what came with this refresh token, which it shows elsewhere. That
    /// is no use of an old one. False: its session is not known here.
    pub fn note_kept(&mut self, visitor: &Visitor, now: Now) -> bool {
        let Some(found) = self.sessions.find(visitor.hash, now) else { return false };
        let shown = visitor.shown(found);
        let confirmed = self.sessions.step(found.id, |record| {
            record.note_shown(shown, now).then(|| record.refresh_generation())
        });
        self.confirmed(found.id, confirmed.flatten());
        true
    }

    /// What it is worth, uncounted. The session is named only to those who may have its head.
    pub fn view(&mut self, visitor: &Visitor, now: Now) -> (View, Option<SessionId>) {
        let rest = self.endpoints.get(&visitor.issuer).and_then(|end| end.rest(now));
        let seen = self.sessions.find(visitor.hash, now).and_then(|found| {
            let shown = visitor.shown(found);
            self.sessions.step(found.id, |record| {
                let confirmed = record.note_shown(shown, now).then(|| record.refresh_generation());
                let proven = record.generation() > 0;
                (found.id, record.view(shown, now, rest), proven, confirmed)
            })
        });
        // Whom a backend has confirmed once is no stranger.
        let (id, view, proven) = match seen {
            Some((id, view, proven, confirmed)) => {
                self.confirmed(id, confirmed);
                (Some(id), view, proven)
            }
            None => (None, rest.map_or(View::Live, View::Resting), false),
        };
        match view {
            View::Live | View::Resting(_) if !proven => {
                match self.strangers.view(visitor.hash, visitor.client, now) {
                    Stranger::MayAsk => (view, id),
                    Stranger::Wait(rest) => (View::Resting(rest), id),
                    Stranger::Dead => (View::Dead, None),
                }
            }
            View::Live | View::Running | View::Fresh(_) | View::Resting(_) => (view, id),
            View::Dead | View::Spent | View::Ended | View::Foreign => (view, None),
        }
    }

    /// What can still come of this visitor's token. Nothing is noted: asking is no use of a session.
    pub fn prospect(&mut self, visitor: &Visitor, now: Now) -> Prospect {
        let found = self.sessions.find(visitor.hash, now);
        let known = found.and_then(|found| {
            let record = self.sessions.get(found.id)?;
            let over = match record.view(visitor.shown(found), now, None) {
                View::Dead | View::Spent | View::Ended | View::Foreign => true,
                View::Live | View::Running | View::Fresh(_) | View::Resting(_) => false,
            };
            Some(Prospect { over, life_left: record.life_left(now).filter(|_| !over) })
        });
        known.unwrap_or_else(|| {
            let over = match self.strangers.view(visitor.hash, visitor.client, now) {
                Stranger::Dead => true,
                Stranger::MayAsk | Stranger::Wait(_) => false,
            };
            Prospect { over, life_left: None }
        })
    }

    /// The head for a visitor who cannot wait for a better one.
    pub fn still_valid(&mut self, visitor: &Visitor, now: Now) -> Option<Renewed> {
        let found = self.sessions.find(visitor.hash, now)?;
        self.sessions.get(found.id)?.still_valid(visitor.shown(found), now)
    }

    /// Ends the session of this refresh token; one that is not known is refused from now on.
    pub fn end(&mut self, issuer: IssuerId, hash: TokenHash, now: Now) {
        match self.sessions.find(hash, now) {
            Some(found) => self.close(issuer, found, EndReason::LoggedOut),
            None => {
                self.strangers.refuse(hash, now);
                self.over(SessionId(hash), 0, Life::Ended);
            }
        }
    }

    /// A spent token was shown: its session ends, where the operator wants it so.
    fn reused(&mut self, visitor: &Visitor, now: Now) {
        let on_reuse = self.endpoints.get(&visitor.issuer).map(|endpoint| endpoint.on_reuse);
        match (on_reuse, self.sessions.find(visitor.hash, now)) {
            (Some(OnReuse::Revoke), Some(found)) => {
                self.close(visitor.issuer, found, EndReason::Reuse);
            }
            (Some(OnReuse::Revoke | OnReuse::Login) | None, _) => {}
        }
    }

    fn close(&mut self, issuer: IssuerId, found: Found, reason: EndReason) {
        let ended = self.sessions.step(found.id, |record| {
            let before = record.state();
            record.end();
            (before, record.generation())
        });
        let Some((before, generation)) = ended.filter(|(before, _)| *before != State::Ended) else {
            return;
        };
        // Of one that is dead, too: else a newer head could overrule that.
        self.over(found.id, generation, Life::Ended);
        if before == State::Dead {
            return;
        }
        self.events.push(RefreshEvent::Ended {
            issuer: self.name(issuer),
            session: found.id.0.to_string(),
            reason,
        });
    }

    /// The head's cookies, if this visitor's browser lacks them.
    pub fn deliver(&mut self, visitor: &Visitor, now: Now) -> Option<NewCookies> {
        let found = self.sessions.find(visitor.hash, now)?;
        let shown = visitor.shown(found);
        let (cookies, again) =
            self.sessions.step(found.id, |record| record.deliver(shown, now))??;
        if again {
            let issuer = self.name(visitor.issuer);
            self.events.push(RefreshEvent::Redelivered { issuer });
        }
        Some(cookies)
    }

    /// The session of this refresh token, if it is known.
    pub fn known(&mut self, hash: TokenHash, now: Now) -> Option<SessionId> {
        self.sessions.find(hash, now).map(|found| found.id)
    }

    /// What a request to the auth backend itself may show it.
    pub fn for_backend(&mut self, hash: TokenHash, now: Now) -> ForBackend {
        let found = self.sessions.find(hash, now);
        let told = found.and_then(|Found { id, generation }| {
            let shown = Shown { generation, access: None };
            Some(self.sessions.get(id)?.for_backend(shown, now))
        });
        told.unwrap_or(ForBackend::AsItCame)
    }

    /// What a stream must know of the session that it was opened by. Nothing counts as shown.
    pub fn followed(&mut self, visitor: &Visitor, now: Now) -> Followed {
        let Some(found) = self.sessions.find(visitor.hash, now) else {
            let refused = self.strangers.is_refused(visitor.hash, now);
            return if refused { Followed::Over } else { Followed::Unknown };
        };
        let record = self.sessions.get(found.id);
        record.map_or(Followed::Unknown, |record| record.followed(visitor.shown(found), now))
    }

    /// Changes whenever a session is over or a refresh token refused.
    pub fn ends(&self) -> u64 {
        self.sessions.ends() + self.strangers.refusals()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn session_counts(&self) -> SessionCounts {
        self.sessions.counts()
    }

    /// Issuers whose breaker is open.
    pub fn open_breakers(&self) -> Vec<Arc<str>> {
        let open = self.endpoints.values().filter(|endpoint| endpoint.is_open());
        open.map(|endpoint| endpoint.name.clone()).collect()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<RefreshEvent> {
        for (id, issuer) in self.sessions.take_evicted() {
            let event = RefreshEvent::Ended {
                issuer: self.name(issuer),
                session: id.0.to_string(),
                reason: EndReason::Evicted,
            };
            self.events.push(event);
        }
        std::mem::take(&mut self.events)
    }

    fn name(&self, issuer: IssuerId) -> Arc<str> {
        self.endpoints.get(&issuer).map_or_else(|| Arc::from("unknown"), |end| end.name.clone())
    }
}
