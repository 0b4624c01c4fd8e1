//! Flights: the detached tasks that renew sessions.
//!
//! 1. A flight belongs to nobody. A client that hangs up drops a waiter, never a flight; and the
//!    call may take longer than any waiter waits, so that a late answer is still harvested.
//! 2. What was sent is not sent again. Only a request that found no connection is tried again; and,
//!    once, one whose answer was lost while the backend surely still takes the token
//!    ([`Rotation::Grace`]).
//! 3. Where a budget, or another gateway's flight, makes a flight wait, it waits in the air: one place a
//!    session, and whoever wants the session renewed joins it ([`super::clearance`]).
//! 4. The answer is noted before it is checked, see [`super::record`]; and other gateways are told.
//! 5. A flight always lands: a panic or a dying runtime lands it as ambiguous.
//! 6. Waiters learn only *that* it landed and look at the record again, each with what its own
//!    request showed. Handing them the result was rejected: it would reach one whose access token
//!    is another person's, or who logged out meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::backend::Ask;
use super::board::{Issuer, Shared};
use super::breaker::Health;
use super::clearance::{Clearance, clear};
use super::concurrency::{sleep, spawn, timeout};
use super::events::Detail;
use super::ledger::Job;
use super::outcome::{Answer, Outcome};
use super::record::{Landing, Work};
use super::settings::Rotation;
use super::store::{Life, StoreAway};
use super::sync::{publish, publish_later, publish_soon, release};
use super::verify::judge;
use crate::policy::secret::Secret;
use crate::token::Verdict;

/// How often a request that found no connection is tried again.
const CONNECT_RETRIES: u32 = 2;
/// The pause before the first of these, doubled before the second; up to as much again is added.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How soon after sending a lost answer may be asked for again under [`Rotation::Grace`]. The
/// shortest grace in wide use is 10 s and counts from when the backend took the first call, which is
/// no earlier than when it was sent; half of it is left for the second call to arrive in.
pub(super) const GRACE_SURE: Duration = Duration::from_secs(5);

/// How a flight came out, and a word for the log if it did not go well.
type Arrival = (Landing, Option<Detail>);

/// Flies one job from departure to landing.
pub(super) async fn fly(mut pilot: Pilot, mut work: Work) {
    let shared = pilot.shared.clone();
    let Some(issuer) = shared.issuers.get(&pilot.job.issuer) else { return };
    let (landing, detail) = loop {
        work = match work {
            Work::Ask { refresh, access } => match clear(&mut pilot, issuer).await {
                Clearance::Ask => match ask(&shared, issuer, &Ask { refresh, access }).await {
                    Ok(answer) => match harvest(&mut pilot, issuer, answer).await {
                        Some(check) => check,
                        None => break (Landing::Unwanted, None),
                    },
                    Err((Landing::Refused, detail)) => match refused(&mut pilot).await {
                        Some(work) => work,
                        None => break (Landing::Refused, detail),
                    },
                    Err(arrival) => break arrival,
                },
                Clearance::Instead(work) => work,
                Clearance::Land(landing) => break (landing, None),
            },
            Work::Check { access, kept } => match check(&shared, issuer, &access).await {
                Verdict::Expired(verified) if kept => {
                    let (outlived, job) = (verified.clone(), &mut pilot.job);
                    match shared.step(|board| board.ledger.outlived(job, outlived)) {
                        Some(ask) => ask,
                        None => break judge(Verdict::Expired(verified), kept),
                    }
                }
                verdict => break judge(verdict, kept),
            },
        };
    };
    pilot.land(landing, detail);
}

/// Asks the backend for new tokens; what it says about the endpoint is noted.
async fn ask(shared: &Arc<Shared>, issuer: &Issuer, ask: &Ask) -> Result<Answer, Arrival> {
    let mut pause = CONNECT_PAUSE;
    let mut retries = CONNECT_RETRIES;
    let grace = issuer.settings.rotation == Rotation::Grace;
    // When the answer of an earlier call can no longer come, if one was lost.
    let mut lost = None;
    let (outcome, settled_at) = loop {
        let sent = shared.now();
        let answered = timeout(issuer.settings.timeout, issuer.backend.renew(ask, sent)).await;
        let outcome = answered.unwrap_or(Outcome::Ambiguous(Detail::new("timeout")));
        match outcome {
            Outcome::Transient { unsent: true, .. } if retries > 0 => retries -= 1,
            Outcome::Ambiguous(_)
                if grace && lost.is_none() && shared.now().uptime < sent.uptime + GRACE_SURE =>
            {
                lost = Some(sent.uptime + issuer.settings.timeout);
            }
            outcome => break (outcome, sent.uptime + issuer.settings.timeout),
        }
        sleep(pause.mul_f64(1.0 + shared.jitter())).await;
        pause *= 2;
    };
    let (health, result) = match outcome {
        Outcome::Renewed(answer) => (Health::Answered, Ok(answer)),
        Outcome::Refused => (Health::Answered, Err((Landing::Refused, None))),
        Outcome::Misconfigured(detail) => {
            (Health::Answered, Err((Landing::Misconfigured, Some(detail))))
        }
        Outcome::Transient { detail, retry_after, unsent: _ } => {
            (Health::Down, Err((Landing::Transient { retry_after }, Some(detail))))
        }
        Outcome::Ambiguous(detail) => {
            (Health::Unclear, Err((Landing::Ambiguous { settled_at }, Some(detail))))
        }
    };
    let now = shared.now();
    shared.step(|board| board.ledger.learned(issuer.settings.issuer, health, now));
    match (result, lost) {
        // The first call may have spent the token, whatever kept the second from being answered.
        (Err((Landing::Transient { .. } | Landing::Misconfigured, detail)), Some(settled_at)) => {
            Err((Landing::Ambiguous { settled_at }, detail))
        }
        (result, _) => result,
    }
}

/// Notes new tokens here and in the store, and says what is left to do with them if they are still
/// wanted. The store comes before the landing: no browser may show a token that it does not know.
async fn harvest(pilot: &mut Pilot, issuer: &Issuer, answer: Answer) -> Option<Work> {
    let shared = pilot.shared.clone();
    // The token is spent: only a store that knows the answer may let another flight depart. Without a
    // claim (the operator's leave to renew alone) nobody waits for it there.
    let awaited = std::mem::replace(&mut pilot.claimed, false);
    let name = &issuer.settings.issuer_name;
    let hash = answer.refresh.as_ref().map(|refresh| shared.hasher.hash(name, refresh));
    let now = shared.now();
    let work = shared.step(|board| board.ledger.harvest(&mut pilot.job, answer, hash, now))?;
    match publish(&shared, pilot.job.id, awaited).await {
        Ok(None) => Some(work),
        Ok(Some(newer)) => shared.overtaken(&mut pilot.job, &newer),
        Err(StoreAway) => {
            let id = pilot.job.id;
            match awaited {
                true => spawn(&shared.runtime, publish_soon(shared.clone(), id)),
                false => spawn(&shared.runtime, publish_later(shared.clone(), id)),
            };
            Some(work)
        }
    }
}

/// The backend refused the session: unless another gateway has a newer head, it is over for all.
async fn refused(pilot: &mut Pilot) -> Option<Work> {
    let shared = pilot.shared.clone();
    let store = shared.store.as_ref()?;
    let Job { id, generation, .. } = pilot.job;
    match store.sessions.close(id, generation, Life::Dead).await {
        Ok(newer) => shared.overtaken(&mut pilot.job, &newer?),
        Err(StoreAway) => {
            shared.step(|board| board.ledger.over(id, generation, Life::Dead));
            None
        }
    }
}

/// Verifies a new access token, in bounded time.
async fn check(shared: &Shared, issuer: &Issuer, access: &Secret) -> Verdict {
    let verdict = shared.verify.verify(access, issuer.settings.issuer, shared.now());
    let verdict = timeout(issuer.settings.timeout, verdict).await;
    verdict.unwrap_or(Verdict::KeysUnavailable { retry_after_s: 1 })
}

/// Lands the flight, if nothing else does when it is dropped.
pub(super) struct Pilot {
    pub shared: Arc<Shared>,
    pub job: Job,
    /// The store holds a claim of this flight.
    pub claimed: bool,
    landed: bool,
}

impl Pilot {
    pub fn new(shared: Arc<Shared>, job: Job) -> Pilot {
        Pilot { shared, job, claimed: false, landed: false }
    }

    fn land(&mut self, landing: Landing, detail: Option<Detail>) {
        if std::mem::replace(&mut self.landed, true) {
            return;
        }
        let (job, now, jitter) = (self.job, self.shared.now(), self.shared.jitter());
        let rest = self.shared.step(|board| {
            let flight = board.flights.remove(&job.id);
            let shared_by = flight.as_ref().map_or(0, |flight| flight.shared_by);
            board.ledger.land(&job, landing, detail, shared_by, now, jitter);
            board.ledger.cooling(job.id, now)
        });
        if let (true, Some(rest)) = (self.claimed, rest) {
            spawn(&self.shared.runtime, release(self.shared.clone(), job, rest));
        }
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let issuer = self.shared.issuers.get(&self.job.issuer);
        let timeout = issuer.map(|issuer| issuer.settings.timeout);
        let now = self.shared.now();
        let settled_at = now.uptime + timeout.unwrap_or_default();
        // Were it the breaker's probe, the others would wait for its word for ever.
        self.shared.step(|board| board.ledger.learned(self.job.issuer, Health::Unclear, now));
        self.land(Landing::Ambiguous { settled_at }, Some(Detail::new("abandoned")));
    }
}
