//! Renewing tokens so that nobody notices.
//!
//! A browser with an expiring access token sends many requests at once, loses responses, hangs up,
//! comes back the next morning; and its refresh token may be used once only, or the auth backend
//! kills the whole session. What holds this together:
//!
//! 1. One [`record`] a session, found by the hash of *any* refresh token it ever had. It knows
//!    the newest pair and is the only truth; requests look at it, flights change it.
//! 2. One [`flight`] a session, a detached task. It asks with the newest refresh token only.
//! 3. Whoever shows an old refresh token gets the newest pair, until the browser has shown that it
//!    has it, and a little longer. After that the old token is spent and the backend never sees it.
//! 4. New access tokens are verified completely and must be the same person's ([`verify`]).
//! 5. A failure is one of five classes ([`outcome`]); only a clear refusal ends a session.
//! 6. Everything is bounded ([`sessions`], [`strangers`], [`breaker`], [`budget`], waiters, flights).
//!
//! Files stand in the order of a call: the board and its ledger are asked, a flight departs, a
//! backend answers, the answer is judged. The pure parts (ledger, sessions, record, strangers,
//! breaker, budget, outcome) take time and chance as arguments; [`board`], [`flight`] and [`backend`] do.

mod settings;
mod concurrency;
mod edges;
mod events;
mod handle;
mod page;
mod follower;
mod board;
mod ledger;
mod hash;
mod sessions;
mod record;
mod store;
mod redis;
mod strangers;
mod endpoint;
mod breaker;
mod budget;
mod flight;
mod clearance;
mod sync;
mod backend;
mod oauth2;
mod cookie;
mod json;
mod outcome;
mod dead_when;
mod verify;
mod revoke;

#[cfg(all(test, feature = "model"))]
mod model;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;

use self::board::{Board, Issuer, Shared, Store};
use self::concurrency::{AtomicUsize, Mutex, spawn, timeout, watch};
use self::endpoint::Endpoint;
use self::hash::Hasher;
use self::ledger::{Ledger, Visitor};
use self::outcome::REFRESH_TOKEN_BYTES_MAX;
use self::record::View;
use self::store::STORE_WAIT;
use self::sync::{hear, note_elsewhere, pull, remind};
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Session;
use crate::policy::secret::Secret;
use crate::policy::time::Now;

pub use self::backend::{Ask, AuthBackend, BackendError, HttpBackend};
pub use self::dead_when::DeadWhen;
pub use self::edges::Edges;
pub use self::events::{
    BudgetResult, Detail, EndReason, FlightResult, Observer, RefreshEvent, Trigger,
};
pub use self::follower::{Follower, Standing};
pub use self::handle::{ForBackend, NewCookies, Prospect, SessionHandle};
pub use self::hash::TokenHash;
pub use self::outcome::{Answer, Outcome};
pub use self::redis::RedisStore;
pub use self::revoke::{NotRevoked, REVOCATION_MAX, Revocation};
pub use self::sessions::{SessionCounts, SessionId};
pub use self::settings::{
    ClientAuth, OnFailure, OnReuse, Protocol, RefreshLimits, RefreshSettings, RevokeAt, Rotation,
};
pub use self::store::{
    CLAIM_RENEWED_EVERY, CLAIMED_FOR, Claim, ClaimId, LOST_AFTER, Life, Publication, SENT_SLACK,
    SessionStore, Sighting, StoreAway, Stored, StoredHead,
};
pub use self::verify::Verify;

/// What a request is told to try again after, where nothing is known but that it takes a moment.
const MOMENT_S: u64 = 1;

/// What one request shows of its session.
#[derive(Clone, Debug)]
pub struct Presented {
    pub issuer: IssuerId,
    pub refresh_token: Secret,
    /// The access token that came along, if its signature held (it may have expired): a renewed
    /// token must be of the same subject.
    pub access: Option<Arc<Verified>>,
    pub client: IpAddr,
}

/// What a [`Refresher`] is made of.
pub struct Parts {
    /// Each issuer that refreshes, with its backend.
    pub issuers: Vec<(RefreshSettings, Arc<dyn AuthBackend>)>,
    pub limits: RefreshLimits,
    /// Key of the refresh tokens' hashes: random, one a process; with a shared store the store's.
    pub hash_key: [u8; 32],
    /// Where other gateways meet this one, and what happens while it is away. `None`: it is alone.
    pub store: Option<(Arc<dyn SessionStore>, OnFailure)>,
    pub verify: Arc<dyn Verify>,
    pub edges: Edges,
    /// Where flights run. It must outlive the listeners.
    pub runtime: Handle,
    pub observer: Observer,
}

/// All sessions of this gateway and the flights that renew them.
pub struct Refresher {
    shared: Arc<Shared>,
}

/// How many there are now, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauges {
    pub in_flight: usize,
    pub waiters: usize,
    pub sessions: SessionCounts,
    /// Names of the issuers whose breaker is open.
    pub open_breakers: Vec<Arc<str>>,
}

impl Refresher {
    pub fn new(parts: Parts) -> Refresher {
        let endpoints =
            parts.issuers.iter().map(|(settings, _)| (settings.issuer, Endpoint::new(settings)));
        let store = parts.store.map(|(sessions, on_failure)| Store { sessions, on_failure });
        let ledger = Ledger::new(parts.limits.sessions_max, store.is_some(), endpoints);
        let issuers = parts
            .issuers
            .into_iter()
            .map(|(settings, backend)| (settings.issuer, Issuer { settings, backend }));
        let shared = Shared {
            hasher: Hasher::new(&parts.hash_key),
            issuers: issuers.collect(),
            verify: parts.verify,
            store,
            edges: parts.edges,
            runtime: parts.runtime,
            observer: parts.observer,
            board: Mutex::new(Board { ledger, flights: HashMap::new() }),
            in_flight: watch::Sender::new(0),
            unwritten: AtomicUsize::new(0),
            waiters: AtomicUsize::new(0),
            ends: tokio::sync::watch::Sender::new(0),
            followed: Mutex::default(),
        };
        let shared = Arc::new(shared);
        spawn(&shared.runtime, remind(Arc::downgrade(&shared)));
        spawn(&shared.runtime, hear(Arc::downgrade(&shared)));
        Refresher { shared }
    }

    /// What is known of this refresh token, here and in the store; asks no backend. Notes that the
    /// browser has shown the newest token (which confirms it).
    pub async fn look_up(
        &self,
        presented: &Presented,
        now: Now,
    ) -> (Session, Option<SessionHandle>) {
        self.known(presented, false, now).await
    }

    async fn known(
        &self,
        presented: &Presented,
        by_page: bool,
        now: Now,
    ) -> (Session, Option<SessionHandle>) {
        let Some(visitor) = self.visitor(presented) else { return (Session::Absent, None) };
        let pulled = pull(&self.shared, &visitor, Some(&presented.refresh_token)).await;
        let (view, id) = self.shared.step(|board| board.ledger.look_up(&visitor, by_page, now));
        let session = match view {
            View::Live => match pulled {
                Ok(()) => Session::Live,
                Err(StoreAway) => self.without_store(presented, now),
            },
            View::Running => Session::Live,
            View::Fresh(renewed) => Session::Fresh(renewed),
            View::Resting(rest) => Session::Cooling { retry_after_s: whole_seconds(rest) },
            View::Dead => Session::Dead,
            View::Spent => Session::Spent,
            View::Ended => Session::Ended,
            View::Foreign => Session::Absent,
        };
        (session, self.handle(id, visitor, presented))
    }

    /// What the audit lines call this refresh token.
    pub fn name_of(&self, presented: &Presented) -> Option<TokenHash> {
        self.hash(presented.issuer, &presented.refresh_token)
    }

    /// Only notes that the browser has shown these tokens. For the first sight of a verified access
    /// token, where nothing has to be decided: so the grace of the old refresh token runs out even
    /// if the session is not renewed for long. The request does not wait for the store.
    pub fn note_shown(&self, presented: &Presented, now: Now) {
        let Some(visitor) = self.visitor(presented) else { return };
        let known = self.shared.step(|board| board.ledger.note_shown(&visitor, now));
        if !known && self.shared.store.is_some() {
            let refresh = Some(presented.refresh_token.clone());
            spawn(&self.shared.runtime, note_elsewhere(self.shared.clone(), visitor, refresh));
        }
    }

    /// Starts a flight as a detached task, or joins the one that runs. `None` if there is neither
    /// a flight nor anything to deliver (cooling down, breaker open, only unconfirmed records
    /// left).
    pub fn start(&self, presented: &Presented, now: Now) -> Option<SessionHandle> {
        let visitor = self.visitor(presented)?;
        let (_, id) = self.shared.board(&visitor, &presented.refresh_token, Trigger::Window, now);
        self.handle(id, visitor, presented)
    }

    /// Renews and waits at most `wait`: `Session::Renewed`, `Refused` or `Unavailable`; or what
    /// [`Refresher::look_up`] says, where that has changed meanwhile.
    pub async fn renew(
        &self,
        presented: &Presented,
        wait: Duration,
        now: Now,
    ) -> (Session, Option<SessionHandle>) {
        self.renewed(presented, Trigger::Expired, wait, now).await
    }

    async fn renewed(
        &self,
        presented: &Presented,
        trigger: Trigger,
        wait: Duration,
        now: Now,
    ) -> (Session, Option<SessionHandle>) {
        let Some(visitor) = self.visitor(presented) else { return (Session::Absent, None) };
        let Some(_waiting) = self.shared.waiting() else {
            return (Session::Unavailable { retry_after_s: MOMENT_S }, None);
        };
        let deadline = now.uptime + wait;
        let (view, id) =
            self.shared.landed(&visitor, &presented.refresh_token, trigger, deadline).await;
        let unavailable = |rest| Session::Unavailable { retry_after_s: whole_seconds(rest) };
        let session = match view {
            View::Fresh(renewed) => Session::Renewed(renewed),
            View::Live | View::Running => {
                let now = self.shared.now();
                let head = self.shared.step(|board| board.ledger.still_valid(&visitor, now));
                match head {
                    Some(head) => Session::Renewed(head),
                    None => self.store_away().unwrap_or(unavailable(Duration::ZERO)),
                }
            }
            View::Resting(rest) => unavailable(rest),
            View::Dead => Session::Refused,
            View::Spent => Session::Spent,
            View::Ended => Session::Ended,
            View::Foreign => Session::Absent,
        };
        (session, self.handle(id, visitor, presented))
    }

    /// Ends the record of this refresh token (logout, or another login took its place): no late
    /// response brings its cookies back. Not for a login that keeps the same refresh token.
    pub async fn end(&self, issuer: IssuerId, refresh_token: &Secret, now: Now) {
        let Some(visitor) = self.token_alone(issuer, refresh_token) else { return };
        // So that the session is ended under its own name. If the store is away, it is told later.
        let pulled = pull(&self.shared, &visitor, Some(refresh_token)).await;
        let end = |board: &mut Board| board.ledger.end(issuer, visitor.hash, now);
        let ((), writing) = self.shared.step_writing(end);
        // The browser is told after the other gateways, unless the store is away: one wait is enough.
        if pulled.is_ok() {
            let _ = timeout(STORE_WAIT, join_all(writing)).await;
        }
    }

    /// What a request to the auth backend itself may show it, so that it never sees a spent token.
    pub async fn for_backend(
        &self,
        issuer: IssuerId,
        refresh_token: &Secret,
        now: Now,
    ) -> ForBackend {
        let Some(visitor) = self.token_alone(issuer, refresh_token) else {
            return ForBackend::AsItCame;
        };
        // If the store is away, what is known here is the best there is.
        let _ = pull(&self.shared, &visitor, Some(refresh_token)).await;
        // The backend must not see a token from us twice, and a flight may be showing it right now.
        let known = self.shared.step(|board| board.ledger.known(visitor.hash, now));
        if let Some(mut landing) = known.and_then(|id| self.shared.flight(id)) {
            let wait =
                self.shared.issuers.get(&issuer).map_or(Duration::ZERO, |it| it.settings.wait);
            let _ = timeout(wait, landing.changed()).await;
        }
        let now = self.shared.now();
        self.shared.step(|board| board.ledger.for_backend(visitor.hash, now))
    }

    /// Waits until no flight is on its way and the store knows all, at most `deadline`; false if that
    /// was too short. For the end of the process, after the listeners.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let mut in_flight = self.shared.in_flight.subscribe();
        timeout(deadline, in_flight.wait_for(|flights| *flights == 0)).await.is_ok()
    }

    pub fn gauges(&self) -> Gauges {
        let waiters = self.shared.waiters.load(Ordering::Relaxed);
        self.shared.step(|board| Gauges {
            in_flight: board.ledger.in_flight(),
            waiters,
            sessions: board.ledger.session_counts(),
            open_breakers: board.ledger.open_breakers(),
        })
    }

    /// A session that has to be renewed while the store is away.
    fn without_store(&self, presented: &Presented, now: Now) -> Session {
        if self.shared.store.as_ref().is_some_and(|store| store.on_failure == OnFailure::Deny) {
            // Without a rest, too: the trouble may be with this session alone.
            let away = Session::StoreAway { retry_after_s: MOMENT_S };
            return self.store_away().unwrap_or(away);
        }
        // Alone, as late as is wise: the store may be back before.
        let access = presented.access.as_ref();
        let left = access.map_or(0, |access| access.expires_at.since(now.unix));
        let window = access.map_or(0, |access| access.expires_at.since(access.refresh_at));
        if left > window / 3 {
            return Session::Cooling { retry_after_s: left - window / 3 };
        }
        Session::Live
    }

    /// The word for it, if the store is away and nobody may renew without it.
    fn store_away(&self) -> Option<Session> {
        let store = self.shared.store.as_ref()?;
        match store.on_failure {
            OnFailure::Deny => {
                let rest = store.sessions.rest()?;
                Some(Session::StoreAway { retry_after_s: whole_seconds(rest) })
            }
            OnFailure::Local => None,
        }
    }

    /// A visitor of whom nothing but the token matters.
    fn token_alone(&self, issuer: IssuerId, refresh_token: &Secret) -> Option<Visitor> {
        let hash = self.hash(issuer, refresh_token)?;
        Some(Visitor { issuer, client: IpAddr::V4(Ipv4Addr::UNSPECIFIED), hash, access: None })
    }

    fn visitor(&self, presented: &Presented) -> Option<Visitor> {
        let hash = self.hash(presented.issuer, &presented.refresh_token)?;
        let (issuer, client, access) =
            (presented.issuer, presented.client, presented.access.clone());
        Some(Visitor { issuer, client, hash, access })
    }

    /// `None`: nothing refreshes for this issuer, or the token is longer than any it issued.
    fn hash(&self, issuer: IssuerId, refresh_token: &Secret) -> Option<TokenHash> {
        let name = &self.shared.issuers.get(&issuer)?.settings.issuer_name;
        let plausible = refresh_token.expose().len() <= REFRESH_TOKEN_BYTES_MAX;
        plausible.then(|| self.shared.hasher.hash(name, refresh_token))
    }

    fn handle(
        &self,
        id: Option<SessionId>,
        visitor: Visitor,
        presented: &Presented,
    ) -> Option<SessionHandle> {
        let refresh = presented.refresh_token.clone();
        Some(SessionHandle { shared: self.shared.clone(), id: id?, visitor, refresh })
    }
}

/// Rounded up, and at least one: a client that comes back too early comes in vain.
fn whole_seconds(rest: Duration) -> u64 {
    (rest.as_secs() + u64::from(rest.subsec_nanos() > 0)).max(MOMENT_S)
}
