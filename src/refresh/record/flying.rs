//! A record in the air: departure, the backend's answer, landing.
//!
//! A failed flight never ends a session by itself: the record cools down and keeps what it has.
//! Only the backend's clear word, or a token made for somebody else, ends it.

use std::sync::Arc;
use std::time::Duration;

use super::{Access, LIFE_UNTOLD, Record, State};
use crate::policy::claims::Verified;
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::refresh::events::{EndReason, FlightResult};
use crate::refresh::hash::TokenHash;
use crate::refresh::outcome::Answer;
use crate::refresh::settings::Rotation;

/// What a backend may say at most (400 days, as browsers cap cookies): keeps sums from overflowing.
const LIFE_TOLD_MAX_S: u64 = 400 * 24 * 3600;
const COOL_DOWN_FIRST: Duration = Duration::from_secs(1);
const COOL_DOWN_MAX: Duration = Duration::from_secs(30);
/// A `Retry-After` is honoured up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// After an ambiguous call the next one starts this long before the access token ends.
const LAST_CALL: Duration = Duration::from_secs(5);
/// What is believed of an access token's end (a claim may say anything).
const ACCESS_LEFT_MAX: Duration = LIFE_UNTOLD;

/// What a flight has to do.
#[derive(Debug)]
pub(in crate::refresh) enum Work {
    /// Ask the backend for a new pair.
    Ask { refresh: Secret, access: Option<Secret> },
    /// Check an access token that has arrived; `kept`: in an earlier flight.
    Check { access: Secret, kept: bool },
}

/// How a flight's work came out.
#[derive(Debug)]
pub(in crate::refresh) enum Landing {
    /// The new access token holds.
    Good(Arc<Verified>),
    /// It holds, but had expired when it arrived: a clock is wrong.
    ExpiredOnArrival(Arc<Verified>),
    /// It was made for somebody else; the refresh token is spent all the same.
    Wrong(EndReason),
    /// It can never be accepted as the gateway is configured.
    Unusable,
    /// Keys to check it with are out of reach.
    KeysAway {
        retry_after: Duration,
    },
    /// It arrived after the session had ended.
    Unwanted,
    Refused,
    /// Another gateway showed the refresh token and was never heard of again. Showing it once more
    /// might be its second use.
    Lost,
    /// The store that gateways share does not answer, and without it nobody may ask.
    StoreAway,
    /// The store knows the session under another name, which the next look-up brings.
    Renamed,
    Misconfigured,
    Transient {
        retry_after: Option<Duration>,
    },
    /// Sent, never answered. `settled_at`: uptime after which no answer can still come.
    Ambiguous {
        settled_at: Duration,
    },
}

impl Landing {
    /// Under which label the flight is counted.
    pub fn result(&self) -> FlightResult {
        match self {
            Landing::Good(_) | Landing::Unwanted => FlightResult::Ok,
            Landing::Refused => FlightResult::Refused,
            Landing::ExpiredOnArrival(_)
            | Landing::Wrong(_)
            | Landing::Unusable
            | Landing::Misconfigured => FlightResult::Misconfigured,
            Landing::KeysAway { .. }
            | Landing::Transient { .. }
            | Landing::StoreAway
            | Landing::Renamed => FlightResult::Transient,
            Landing::Ambiguous { .. } | Landing::Lost => FlightResult::Ambiguous,
        }
    }
}

/// What became of a flight, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::refresh) struct Landed {
    pub result: FlightResult,
    pub ended: Option<EndReason>,
}

impl Record {
    /// Whether the next flight asks the backend, or only checks what it has answered.
    pub fn asks(&self) -> bool {
        self.unchecked.is_none()
    }

    /// A flight departs.
    pub fn depart(&mut self) -> Work {
        self.state = State::Running;
        self.airborne = true;
        self.work()
    }

    /// The backend answered: the new refresh token counts from now on. `asked`: the generation whose
    /// refresh token it was shown. Says whether the answer is still wanted: the session may have ended
    /// meanwhile, or another gateway may have brought a newer head.
    pub fn harvest(
        &mut self,
        answer: Answer,
        hash: Option<TokenHash>,
        asked: u64,
        now: Now,
    ) -> bool {
        if self.state != State::Running || asked != self.generation {
            return false;
        }
        self.generation += 1;
        self.stored = false;
        self.delivered = false;
        self.unchecked = Some(answer.access);
        let told =
            answer.max_age_s.map(|s| now.uptime + Duration::from_secs(s.min(LIFE_TOLD_MAX_S)));
        match answer.refresh.zip(hash) {
            Some((refresh, hash)) if hash != self.hash => {
                self.refresh = refresh;
                self.hash = hash;
                self.refresh_generation = self.generation;
                self.life_end = told;
            }
            // The same refresh token lives on, as long as was said before.
            Some(_) | None => self.life_end = told.or(self.life_end),
        }
        true
    }

    /// A kept access token could be checked at last, but has expired by now: on with asking, or with
    /// nothing if it was another person's or the session has ended. `generation`: of the head whose
    /// token it was; what was learned of it says nothing about one that came meanwhile.
    pub fn outlived(&mut self, generation: u64, verified: Arc<Verified>) -> Option<Work> {
        if self.state != State::Running || self.is_foreign(&verified) {
            return None;
        }
        if generation == self.generation {
            self.accept(verified);
        }
        Some(self.work())
    }

    /// A flight is back. `generation`: of the head that its landing is about; `jitter` lies in 0 to 1.
    ///
    /// Nothing changes if the session has ended, or if another gateway brought a newer head meanwhile:
    /// what an older refresh token is told says nothing about the newer one.
    pub fn land(&mut self, generation: u64, landing: Landing, now: Now, jitter: f64) -> Landed {
        let result = landing.result();
        let unchanged = Landed { result, ended: None };
        self.airborne = false;
        if self.state != State::Running {
            return unchanged;
        }
        if generation != self.generation {
            self.state = State::Idle;
            return unchanged;
        }
        let at_least = match landing {
            Landing::Good(verified) | Landing::ExpiredOnArrival(verified)
                if self.is_foreign(&verified) =>
            {
                return self.end_by(EndReason::WrongSubject);
            }
            Landing::Wrong(reason) => return self.end_by(reason),
            Landing::Refused => {
                self.close(State::Dead);
                return Landed { result, ended: Some(EndReason::Refused) };
            }
            Landing::Lost => {
                self.close(State::Dead);
                return Landed { result, ended: Some(EndReason::Lost) };
            }
            Landing::StoreAway | Landing::Renamed => {
                // Nothing was learned of this session; the store has a rest of its own.
                self.state = State::Idle;
                return unchanged;
            }
            Landing::Good(verified) => {
                self.accept(verified);
                self.rotated_at = Some(now.uptime);
                self.failures = 0;
                self.state = State::Idle;
                return unchanged;
            }
            Landing::ExpiredOnArrival(verified) => {
                self.accept(verified);
                Duration::ZERO
            }
            Landing::Unusable => {
                self.unchecked = None;
                Duration::ZERO
            }
            Landing::Misconfigured | Landing::Unwanted => Duration::ZERO,
            Landing::KeysAway { retry_after } => retry_after.min(RETRY_AFTER_MAX),
            Landing::Transient { retry_after } => {
                retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)
            }
            Landing::Ambiguous { settled_at } => match self.rotation {
                Rotation::Strict | Rotation::Grace => self.as_late_as_possible(settled_at, now),
                // The token is as good as before: like any other failure.
                Rotation::ReuseOk | Rotation::None => Duration::ZERO,
            },
        };
        self.cool(at_least, now, jitter);
        unchanged
    }

    /// After an ambiguous call the refresh token may be spent, and using it twice may kill the
    /// session. So the next call waits until no answer can come any more, and further for as long
    /// as people get by with the access token they have.
    fn as_late_as_possible(&self, settled_at: Duration, now: Now) -> Duration {
        let access_left =
            Duration::from_secs(self.access_ends.since(now.unix)).min(ACCESS_LEFT_MAX);
        settled_at.saturating_sub(now.uptime).max(access_left.saturating_sub(LAST_CALL))
    }

    fn cool(&mut self, at_least: Duration, now: Now, jitter: f64) {
        let doubled = COOL_DOWN_FIRST.saturating_mul(1 << self.failures.min(5)).min(COOL_DOWN_MAX);
        // Spread over the last quarter, so that sessions that failed together do not return so.
        let spread = doubled.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Cooling { until: now.uptime + spread.max(at_least) };
    }

    /// The backend renewed the session with a token that is not this session's. The refresh token
    /// is spent, so there is no way back.
    fn end_by(&mut self, reason: EndReason) -> Landed {
        self.close(State::Ended);
        Landed { result: FlightResult::Misconfigured, ended: Some(reason) }
    }

    fn accept(&mut self, verified: Arc<Verified>) {
        self.know(&verified);
        if let Some(token) = self.unchecked.take() {
            self.access = Some(Access { token, verified });
        }
    }

    /// What is to do first: what has arrived is checked before more is asked for.
    pub(super) fn work(&self) -> Work {
        match &self.unchecked {
            Some(access) => Work::Check { access: access.clone(), kept: true },
            None => self.ask(),
        }
    }

    fn ask(&self) -> Work {
        Work::Ask {
            refresh: self.refresh.clone(),
            access: self.access.as_ref().map(|access| access.token.clone()),
        }
    }
}
