//! Flights: the detached tasks that renew sessions.
//!
//! 1. A flight belongs to nobody. A client that hangs up drops a waiter, never a flight; and the
//!    call may take longer than any waiter waits, so that a late answer is still harvested.
//! 2. What was sent is not sent again. Only a request that found no connection is tried again; and,
//!    once, one whose answer was lost while the backend surely still takes the token
//!    ([`Rotation::Grace`]).
//! 3. Where a budget makes a flight wait for its turn it waits in the air: one place a session, and
//!    whoever wants the session renewed joins it.
//! 4. The answer is noted before it is checked, see [`super::record`].
//! 5. A flight always lands: a panic or a dying runtime lands it as ambiguous.
//! 6. Waiters learn only *that* it landed and look at the record again, each with what its own
//!    request showed. Handing them the result was rejected: it would reach one whose access token
//!    is another person's, or who logged out meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::backend::Ask;
use super::board::{Issuer, Shared};
use super::breaker::Health;
use super::events::Detail;
use super::ledger::Job;
use super::outcome::{Answer, Outcome};
use super::record::{Landing, Work};
use super::settings::Rotation;
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
const GRACE_SURE: Duration = Duration::from_secs(5);

/// How a flight came out, and a word for the log if it did not go well.
type Arrival = (Landing, Option<Detail>);

/// Flies one job from departure to landing.
pub(super) async fn fly(mut pilot: Pilot, mut work: Work) {
    let Pilot { shared, job: Some(job) } = &pilot else { return };
    let (shared, job) = (shared.clone(), *job);
    let Some(issuer) = shared.issuers.get(&job.issuer) else { return };
    if !job.delay.is_zero() {
        sleep(job.delay).await;
        let now = shared.now();
        if let Err(landing) = shared.step(|board| board.ledger.take_off(&job, now)) {
            return pilot.land(landing, None);
        }
    }
    let (landing, detail) = loop {
        work = match work {
            Work::Ask { refresh, access } => {
                match ask(&shared, issuer, &Ask { refresh, access }).await {
                    Ok(answer) => match harvest(&shared, issuer, &job, answer) {
                        Some(check) => check,
                        None => break (Landing::Unwanted, None),
                    },
                    Err(arrival) => break arrival,
                }
            }
            Work::Check { access, kept } => match check(&shared, issuer, &access).await {
                Verdict::Expired(verified) if kept => {
                    let outlived = verified.clone();
                    match shared.step(|board| board.ledger.outlived(&job, outlived)) {
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
async fn ask(shared: &Shared, issuer: &Issuer, ask: &Ask) -> Result<Answer, Arrival> {
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

/// Notes new tokens, and says what is left to do with them if they are still wanted.
fn harvest(shared: &Shared, issuer: &Issuer, job: &Job, answer: Answer) -> Option<Work> {
    let name = &issuer.settings.issuer_name;
    let hash = answer.refresh.as_ref().map(|refresh| shared.hasher.hash(name, refresh));
    let now = shared.now();
    shared.step(|board| board.ledger.harvest(job, answer, hash, now))
}

/// Verifies a new access token, in bounded time.
async fn check(shared: &Shared, issuer: &Issuer, access: &Secret) -> Verdict {
    let verdict = shared.verify.verify(access, issuer.settings.issuer, shared.now());
    let verdict = timeout(issuer.settings.timeout, verdict).await;
    verdict.unwrap_or(Verdict::KeysUnavailable { retry_after_s: 1 })
}

/// Lands the flight, if nothing else does when it is dropped.
pub(super) struct Pilot {
    shared: Arc<Shared>,
    job: Option<Job>,
}

impl Pilot {
    pub fn new(shared: Arc<Shared>, job: Job) -> Pilot {
        Pilot { shared, job: Some(job) }
    }

    fn land(&mut self, landing: Landing, detail: Option<Detail>) {
        let Some(job) = self.job.take() else { return };
        let now = self.shared.now();
        let jitter = self.shared.jitter();
        self.shared.step(|board| {
            let flight = board.flights.remove(&job.id);
            let shared_by = flight.as_ref().map_or(0, |flight| flight.shared_by);
            board.ledger.land(&job, landing, detail, shared_by, now, jitter);
        });
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let Some(job) = self.job else { return };
        let timeout = self.shared.issuers.get(&job.issuer).map(|issuer| issuer.settings.timeout);
        let settled_at = self.shared.now().uptime + timeout.unwrap_or_default();
        self.land(Landing::Ambiguous { settled_at }, Some(Detail::new("abandoned")));
    }
}
