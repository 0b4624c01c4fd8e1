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
mod edges;
mod events;
mod handle;
mod board;
mod ledger;
mod hash;
mod sessions;
mod record;
mod strangers;
mod endpoint;
mod breaker;
mod budget;
mod flight;
mod backend;
mod oauth2;
mod cookie;
mod json;
mod outcome;
mod dead_when;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::board::{Board, Boarding, Issuer, Shared};
use self::endpoint::Endpoint;
use self::hash::{Hasher, TokenHash};
use self::ledger::{Ledger, Visitor};
use self::outcome::REFRESH_TOKEN_BYTES_MAX;
use self::record::View;
use self::sessions::SessionId;
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
pub use self::handle::{ForBackend, NewCookies, SessionHandle};
pub use self::outcome::{Answer, Outcome};
pub use self::sessions::SessionCounts;
pub use self::settings::{ClientAuth, OnReuse, Protocol, RefreshLimits, RefreshSettings, Rotation};
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
    /// Key of the refresh tokens' hashes: random, one a process.
    pub hash_key: [u8; 32],
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
        let ledger = Ledger::new(parts.limits.sessions_max, endpoints);
        let issuers = parts
            .issuers
            .into_iter()
            .map(|(settings, backend)| (settings.issuer, Issuer { settings, backend }));
        let shared = Shared {
            hasher: Hasher::new(&parts.hash_key),
            issuers: issuers.collect(),
            verify: parts.verify,
            edges: parts.edges,
            runtime: parts.runtime,
            observer: parts.observer,
            board: Mutex::new(Board { ledger, flights: HashMap::new() }),
            in_flight: watch::Sender::new(0),
            waiters: AtomicUsize::new(0),
        };
        Refresher { shared: Arc::new(shared) }
    }

    /// What is known of this refresh token; asks nobody. Notes that the browser has shown the
    /// newest token (which confirms it).
    pub fn look_up(&self, presented: &Presented, now: Now) -> (Session, Option<SessionHandle>) {
        let Some(visitor) = self.visitor(presented) else { return (Session::Absent, None) };
        let (view, id) = self.shared.step(|board| board.ledger.look_up(&visitor, now));
        let session = match view {
            View::Live | View::Running => Session::Live,
            View::Fresh(renewed) => Session::Fresh(renewed),
            View::Resting(rest) => Session::Cooling { retry_after_s: whole_seconds(rest) },
            View::Dead => Session::Dead,
            View::Spent => Session::Spent,
            View::Ended => Session::Ended,
            View::Foreign => Session::Absent,
        };
        (session, self.handle(id, visitor))
    }

    /// Only notes that the browser has shown these tokens. For the first sight of a verified access
    /// token, where nothing has to be decided: so the grace of the old refresh token runs out even
    /// if the session is not renewed for long.
    pub fn note_shown(&self, presented: &Presented, now: Now) {
        if let Some(visitor) = self.visitor(presented) {
            self.shared.step(|board| board.ledger.note_shown(&visitor, now));
        }
    }

    /// Starts a flight as a detached task, or joins the one that runs. `None` if there is neither
    /// a flight nor anything to deliver (cooling down, breaker open, only unconfirmed records
    /// left).
    pub fn start(&self, presented: &Presented, now: Now) -> Option<SessionHandle> {
        let visitor = self.visitor(presented)?;
        let (_, id) = self.shared.board(&visitor, &presented.refresh_token, Trigger::Window, now);
        self.handle(id, visitor)
    }

    /// Renews and waits at most `wait`: `Session::Renewed`, `Refused` or `Unavailable`; or what
    /// [`Refresher::look_up`] says, where that has changed meanwhile.
    pub async fn renew(
        &self,
        presented: &Presented,
        wait: Duration,
        now: Now,
    ) -> (Session, Option<SessionHandle>) {
        let Some(visitor) = self.visitor(presented) else { return (Session::Absent, None) };
        let Some(_waiting) = self.shared.waiting() else {
            return (Session::Unavailable { retry_after_s: MOMENT_S }, None);
        };
        let deadline = now.uptime + wait;
        let (view, id) = self.landed(&visitor, &presented.refresh_token, deadline).await;
        let unavailable = |rest| Session::Unavailable { retry_after_s: whole_seconds(rest) };
        let session = match view {
            View::Fresh(renewed) => Session::Renewed(renewed),
            View::Live | View::Running => {
                let now = self.shared.now();
                let head = self.shared.step(|board| board.ledger.still_valid(&visitor, now));
                head.map_or(unavailable(Duration::ZERO), Session::Renewed)
            }
            View::Resting(rest) => unavailable(rest),
            View::Dead => Session::Refused,
            View::Spent => Session::Spent,
            View::Ended => Session::Ended,
            View::Foreign => Session::Absent,
        };
        (session, self.handle(id, visitor))
    }

    /// Ends the record of this refresh token (logout, or another login took its place): no late
    /// response brings its cookies back. Not for a login that keeps the same refresh token.
    pub fn end(&self, issuer: IssuerId, refresh_token: &Secret, now: Now) {
        if let Some(hash) = self.hash(issuer, refresh_token) {
            self.shared.step(|board| board.ledger.end(issuer, hash, now));
        }
    }

    /// What a request to the auth backend itself may show it, so that it never sees a spent token.
    pub fn for_backend(&self, issuer: IssuerId, refresh_token: &Secret, now: Now) -> ForBackend {
        let Some(hash) = self.hash(issuer, refresh_token) else { return ForBackend::AsItCame };
        self.shared.step(|board| board.ledger.for_backend(hash, now))
    }

    /// Waits until no flight is on its way, at most `deadline`; false if some still are. For the
    /// end of the process, after the listeners.
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

    /// Waits for this visitor's session to be renewed, until `deadline` (uptime) at most.
    ///
    /// A rest that ends in time is waited for; a longer one is told at once, as nothing can change
    /// before it is over. After a flight there is no second try.
    async fn landed(
        &self,
        visitor: &Visitor,
        refresh: &Secret,
        deadline: Duration,
    ) -> (View, Option<SessionId>) {
        loop {
            let now = self.shared.now();
            let left = deadline.saturating_sub(now.uptime);
            let (boarding, id) = self.shared.board(visitor, refresh, Trigger::Expired, now);
            match boarding {
                Boarding::Grounded(View::Resting(rest)) if rest < left => {
                    sleep(rest).await;
                }
                Boarding::Grounded(view) => return (view, id),
                Boarding::Flying(mut landing) => {
                    // An error is the landing: the other end was dropped.
                    if timeout(left, landing.changed()).await.is_err() {
                        return (View::Running, id);
                    }
                    let now = self.shared.now();
                    return self.shared.step(|board| board.ledger.view(visitor, now));
                }
            }
        }
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

    fn handle(&self, id: Option<SessionId>, visitor: Visitor) -> Option<SessionHandle> {
        Some(SessionHandle { shared: self.shared.clone(), id: id?, visitor })
    }
}

/// Rounded up, and at least one: a client that comes back too early comes in vain.
fn whole_seconds(rest: Duration) -> u64 {
    (rest.as_secs() + u64::from(rest.subsec_nanos() > 0)).max(MOMENT_S)
}
