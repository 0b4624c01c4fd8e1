//! One session's record: a pure state machine.
//!
//! A browser shows refresh tokens; some are the newest, some are old because a response was lost,
//! late, or crossed another on the way. The record knows the newest pair (the *head*) and says
//! what a shown token is worth:
//!
//! 1. The head's refresh token is the browser's: from then on the head is *confirmed*.
//! 2. An old one is as good as the head's until the browser has shown a newer one (however long: a
//!    laptop may be closed for the night), and for a grace after that. Then it is spent, for good:
//!    the next rotation does not make it welcome again. With `rotation: none` it is never spent.
//! 3. Only the head's refresh token is ever sent to the auth backend, so no token is used twice.
//! 4. What the backend answers is noted *before* its access token is checked: the new refresh
//!    token is the only one that still works, whatever the access token is worth.
//! 5. Cookies leave while the head is unconfirmed, or to a browser that shows the head's refresh
//!    token without its access token (a backend that keeps refresh tokens; a lost cookie). Never
//!    an older generation, never after the end.
//!
//! Every method is one atomic step over plain values, so that a shared store can do the same with
//! one script a step. It must never: read a clock, draw a random number, wait, log.
//!
//! This file is about what is shown; [`giving`] about what is given for it, [`followed`] about what
//! open streams ask, [`flying`] about what flights change, [`merging`] about what other gateways know.

mod flying;
mod followed;
mod giving;
mod merging;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::hash::TokenHash;
use super::settings::Rotation;
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Renewed;
use crate::policy::secret::Secret;
use crate::policy::time::{Now, UnixSeconds};

pub(super) use flying::{Landing, Work};
pub(super) use followed::{Followed, Newest};

/// How long an old refresh token serves after the browser has shown the newest one.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Two rotations of a session are this far apart, or a quarter of the token's life if less.
const ROTATION_GAP_MAX: Duration = Duration::from_secs(15);
/// A record's life after its last use, where the backend does not say how long its token lives.
pub(super) const LIFE_UNTOLD: Duration = Duration::from_secs(24 * 3600);

/// Confirmations within one grace; with more, some old tokens serve a little longer.
pub(super) const CONFIRMATIONS_MAX: usize = 16;

/// What one request shows of a session: which of its refresh tokens, and the access token that
/// came along, if its signature held.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    /// The generation that brought this refresh token.
    pub generation: u64,
    pub access: Option<&'a Verified>,
}

/// What a shown refresh token is worth now.
#[derive(Debug)]
pub(super) enum View {
    /// A flight may depart.
    Live,
    /// A flight is on its way.
    Running,
    /// Served from the head; nobody need be asked, or nobody can be and the head is still valid.
    Fresh(Renewed),
    /// No flight may depart for so long, and the head does not serve.
    Resting(Duration),
    Dead,
    Spent,
    Ended,
    /// The access token that came along is another person's.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Running,
    Cooling { until: Duration },
    Dead,
    Ended,
}

/// Who is forgotten first when there is no room, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Dead,
    Ended,
    /// No backend has ever confirmed that this session exists.
    Unproven,
    /// The browser holds the newest pair, or a shared store does: nothing is lost but a cool-down or
    /// a grace.
    Confirmed,
    /// Holds the only copy of a working refresh token, or awaits one. Never forgotten for room.
    Kept,
}

struct Access {
    token: Secret,
    verified: Arc<Verified>,
}

struct Person {
    subject: Box<str>,
    session_id: Option<Box<str>>,
}

/// How a shown refresh token stands to the head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is the head's.
    Newest,
    /// Older, and still as good.
    Old,
    Spent,
    Foreign,
}

pub(super) struct Record {
    issuer: IssuerId,
    rotation: Rotation,
    refresh: Secret,
    hash: TokenHash,
    /// The newest access token that was verified; `None` before the first rotation.
    access: Option<Access>,
    /// An access token that arrived and has not been checked yet.
    unchecked: Option<Secret>,
    /// Counts what the backend answered; 0 is what the browser first showed.
    generation: u64,
    /// The generation that brought the head's refresh token.
    refresh_generation: u64,
    /// Which refresh tokens the browser has shown, and the uptime at which the older ones are spent
    /// for that; newest last. All but the first are within their grace.
    confirmations: VecDeque<(u64, Duration)>,
    /// The head's cookies have left at least once.
    delivered: bool,
    state: State,
    /// A flight has not landed yet. One that ended meanwhile is remembered until it has: forgotten
    /// and founded again, the session would depart a second time with the refresh token that is in
    /// the air, and take the first flight's landing for its own.
    airborne: bool,
    failures: u32,
    rotated_at: Option<Duration>,
    person: Option<Person>,
    /// Until when some browser can get by without a flight.
    access_ends: UnixSeconds,
    last_used: Duration,
    life_end: Option<Duration>,
    /// A store that gateways share has this head, too.
    stored: bool,
    /// When a store was last asked about this session.
    synced_at: Option<Duration>,
}

impl State {
    /// Dead or ended: no token of the session is left.
    pub fn is_over(self) -> bool {
        match self {
            State::Dead | State::Ended => true,
            State::Idle | State::Running | State::Cooling { .. } => false,
        }
    }
}

impl Record {
    /// A session seen for the first time: all that is known is what the browser showed.
    pub fn new(
        issuer: IssuerId,
        rotation: Rotation,
        refresh: Secret,
        hash: TokenHash,
        now: Now,
    ) -> Record {
        Record {
            issuer,
            rotation,
            refresh,
            hash,
            access: None,
            unchecked: None,
            generation: 0,
            refresh_generation: 0,
            confirmations: VecDeque::from([(0, now.uptime + GRACE)]),
            delivered: false,
            state: State::Idle,
            airborne: false,
            failures: 0,
            rotated_at: None,
            person: None,
            access_ends: UnixSeconds::default(),
            last_used: now.uptime,
            life_end: None,
            stored: false,
            synced_at: None,
        }
    }

    /// Notes that a browser showed this: use prolongs the record, the head's token confirms it.
    ///
    /// Says whether it has confirmed the head just now.
    pub fn note_shown(&mut self, shown: Shown, now: Now) -> bool {
        let standing = self.standing(shown, now);
        if self.is_over() || matches!(standing, Standing::Spent | Standing::Foreign) {
            return false;
        }
        let confirms = standing == Standing::Newest && !self.is_confirmed();
        if confirms {
            self.confirm(self.refresh_generation, now.uptime + GRACE, now);
        }
        self.last_used = now.uptime;
        // Whose a stored head is that has yet to be checked says the head, not who comes first.
        let unchecked = self.stored && self.unchecked.is_some();
        if let Some(verified) = shown.access.filter(|_| !unchecked) {
            self.know(verified);
        }
        confirms
    }

    /// What the shown token is worth. `rest`: how long the endpoint takes no calls.
    pub fn view(&self, shown: Shown, now: Now, rest: Option<Duration>) -> View {
        match self.state {
            State::Dead => return View::Dead,
            State::Ended => return View::Ended,
            State::Idle | State::Running | State::Cooling { .. } => {}
        }
        match self.standing(shown, now) {
            Standing::Newest | Standing::Old => {}
            Standing::Spent => return View::Spent,
            Standing::Foreign => return View::Foreign,
        }
        if let Some(head) = self.head_until(|verified| verified.refresh_at, now) {
            return View::Fresh(head);
        }
        if self.state == State::Running {
            return View::Running;
        }
        let Some(rest) = self.rest(now, rest) else { return View::Live };
        self.still_valid(shown, now).map_or(View::Resting(rest), View::Fresh)
    }

    /// The head for a request that cannot wait for a better one: valid, if only just.
    pub fn still_valid(&self, shown: Shown, now: Now) -> Option<Renewed> {
        match self.standing(shown, now) {
            Standing::Newest | Standing::Old => {
                self.head_until(|verified| verified.expires_at, now)
            }
            Standing::Spent | Standing::Foreign => None,
        }
    }

    /// Ends the session, whatever flies: no cookie of it leaves any more.
    pub fn end(&mut self) {
        self.close(State::Ended);
    }

    pub fn issuer(&self) -> IssuerId {
        self.issuer
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation that brought the head's refresh token.
    pub fn refresh_generation(&self) -> u64 {
        self.refresh_generation
    }

    /// The hash of the head's refresh token.
    pub fn hash(&self) -> TokenHash {
        self.hash
    }

    pub fn class(&self) -> Class {
        if self.airborne {
            return Class::Kept;
        }
        match self.state {
            State::Dead => Class::Dead,
            State::Ended => Class::Ended,
            State::Running => Class::Kept,
            State::Idle | State::Cooling { .. } if self.generation == 0 => Class::Unproven,
            State::Idle | State::Cooling { .. } => {
                let elsewhere = self.stored || self.is_confirmed() && self.unchecked.is_none();
                if elsewhere { Class::Confirmed } else { Class::Kept }
            }
        }
    }

    /// Uptime at which the record may be forgotten; never while a flight is on its way.
    pub fn expires(&self) -> Duration {
        if self.airborne {
            return Duration::MAX;
        }
        self.life_end.unwrap_or(self.last_used + LIFE_UNTOLD)
    }

    /// What is left of the head's refresh token, if the backend told how long it lives.
    pub fn life_left(&self, now: Now) -> Option<Duration> {
        self.life_end.map(|end| end.saturating_sub(now.uptime))
    }

    fn standing(&self, shown: Shown, now: Now) -> Standing {
        if shown.access.is_some_and(|verified| self.is_foreign(verified)) {
            return Standing::Foreign;
        }
        if shown.generation == self.refresh_generation {
            return Standing::Newest;
        }
        let outlived = self
            .confirmations
            .iter()
            .any(|(newer, lapses)| shown.generation < *newer && now.uptime >= *lapses);
        if outlived && self.rotation != Rotation::None { Standing::Spent } else { Standing::Old }
    }

    /// A browser has shown the refresh token of this generation; the older ones serve until `lapses`.
    fn confirm(&mut self, generation: u64, lapses: Duration, now: Now) {
        // What is older than the newest lapsed confirmation adds nothing to it.
        while self.confirmations.get(1).is_some_and(|(_, lapses)| now.uptime >= *lapses) {
            self.confirmations.pop_front();
        }
        if self.confirmations.len() >= CONFIRMATIONS_MAX {
            // Not the first: it keeps what was spent long ago spent.
            self.confirmations.remove(1);
        }
        self.confirmations.push_back((generation, lapses));
    }

    /// Has the browser shown the head's refresh token?
    fn is_confirmed(&self) -> bool {
        self.confirmations.back().is_some_and(|(shown, _)| *shown == self.refresh_generation)
    }

    /// Another subject, or another `sid` where both have one.
    fn is_foreign(&self, verified: &Verified) -> bool {
        self.person.as_ref().is_some_and(|person| {
            person.subject != verified.subject
                || matches!((&person.session_id, &verified.session_id), (Some(a), Some(b)) if a != b)
        })
    }

    fn know(&mut self, verified: &Verified) {
        let person = self
            .person
            .get_or_insert_with(|| Person { subject: verified.subject.clone(), session_id: None });
        if person.session_id.is_none() {
            person.session_id.clone_from(&verified.session_id);
        }
        self.access_ends = self.access_ends.max(verified.expires_at);
    }

    fn head_until(&self, end: impl Fn(&Verified) -> UnixSeconds, now: Now) -> Option<Renewed> {
        let access = self.access.as_ref().filter(|access| now.unix < end(&access.verified))?;
        Some(Renewed { verified: access.verified.clone(), access: access.token.clone() })
    }

    /// The longest of what keeps a flight on the ground: cool-down, rotation gap, endpoint.
    fn rest(&self, now: Now, endpoint: Option<Duration>) -> Option<Duration> {
        let cooling = match self.state {
            State::Cooling { until } => Some(until),
            State::Idle | State::Running | State::Dead | State::Ended => None,
        };
        let gap = self.rotated_at.zip(self.access.as_ref()).map(|(rotated_at, access)| {
            let quarter = Duration::from_secs(access.verified.life_s) / 4;
            rotated_at + quarter.min(ROTATION_GAP_MAX)
        });
        let own = cooling.max(gap).and_then(|until| until.checked_sub(now.uptime));
        let endpoint = endpoint.filter(|_| self.unchecked.is_none());
        own.max(endpoint).filter(|left| !left.is_zero())
    }

    /// Dead or ended: no token of it is left.
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// Nothing secret outlives the session; its hashes do, so that old tokens are known.
    fn close(&mut self, state: State) {
        self.state = state;
        self.refresh = Secret::default();
        self.access = None;
        self.unchecked = None;
    }
}

#[cfg(test)]
mod tests;
