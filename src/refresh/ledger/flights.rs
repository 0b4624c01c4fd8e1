//! Flights in the ledger: who may depart, what came back, what that says of the endpoint.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Ledger, Visitor};
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::refresh::breaker::Health;
use crate::refresh::events::{BudgetResult, Detail, FlightResult, RefreshEvent, Trigger};
use crate::refresh::hash::TokenHash;
use crate::refresh::outcome::Answer;
use crate::refresh::record::{Landing, Record, State, View, Work};
use crate::refresh::sessions::{Found, SessionId};
use crate::refresh::store::ClaimId;

/// Flights at one time. Each holds a connection to an auth backend, or will when its turn comes.
const FLIGHTS_MAX: usize = 1_024;
/// When to look again if a flight could not depart for want of room.
const NO_ROOM_POLL: Duration = Duration::from_secs(1);

/// One flight, from departure to landing.
#[derive(Clone, Copy, Debug)]
pub(in crate::refresh) struct Job {
    pub id: SessionId,
    pub claim: ClaimId,
    pub issuer: IssuerId,
    pub trigger: Trigger,
    /// How long it waits for its turn, before it asks.
    pub delay: Duration,
    pub departed: Duration,
    /// Of the refresh token that was the head's at departure.
    pub hash: TokenHash,
    /// Of the head that its work is about now.
    pub generation: u64,
    /// Another gateway brought the head that its work is about.
    pub overtaken: bool,
    /// No backend had ever confirmed this session at departure.
    stranger: bool,
    client: IpAddr,
}

/// What became of the wish to fly.
pub(in crate::refresh) enum Begin {
    Depart(Job, Work),
    Join(SessionId),
    Grounded(View),
}

impl Ledger {
    /// A flight departs for this visitor, or joins the one on its way, or stays on the ground.
    pub fn begin(
        &mut self,
        visitor: &Visitor,
        refresh: &Secret,
        trigger: Trigger,
        now: Now,
    ) -> (Begin, Option<SessionId>) {
        let (view, known) = self.view(visitor, now);
        let issuer = self.name(visitor.issuer);
        match (view, known) {
            (View::Live, known) => {
                let turn = self.turn(visitor.issuer, trigger, known, now);
                let runway = turn.and_then(|delay| {
                    let id = self.runway(visitor, refresh, trigger, known, now);
                    id.map(|id| (id, delay)).ok_or(NO_ROOM_POLL)
                });
                let (id, delay) = match runway {
                    Ok(runway) => runway,
                    Err(rest) => {
                        let view = self.still_valid(visitor, now);
                        let view = view.map_or(View::Resting(rest), View::Fresh);
                        return (Begin::Grounded(view), known);
                    }
                };
                self.events.push(RefreshEvent::Started { issuer, trigger });
                match self.depart(id, visitor, trigger, delay, now) {
                    Some((job, work)) => (Begin::Depart(job, work), Some(id)),
                    None => (Begin::Grounded(View::Resting(NO_ROOM_POLL)), None),
                }
            }
            (View::Running, Some(id)) => {
                self.events.push(RefreshEvent::Shared { issuer, trigger });
                (Begin::Join(id), Some(id))
            }
            (view, known) => (Begin::Grounded(view), known),
        }
    }

    /// The turn of a flight that had to wait for it has come: it may ask, unless that makes no sense
    /// any more.
    pub fn take_off(&mut self, job: &Job, now: Now) -> Result<(), Landing> {
        let now_is = self.sessions.get(job.id).map(|it| (it.state(), it.generation()));
        // Another gateway may have brought a newer head while it waited: this one's token is spent.
        if now_is != Some((State::Running, job.generation)) {
            return Err(Landing::Unwanted);
        }
        let Some(endpoint) = self.endpoints.get_mut(&job.issuer) else { return Ok(()) };
        if let Some(rest) = endpoint.rest(now) {
            return Err(Landing::Transient { retry_after: Some(rest) });
        }
        endpoint.departed(now);
        Ok(())
    }

    /// The endpoint's health, as one call showed it.
    pub fn learned(&mut self, issuer: IssuerId, health: Health, now: Now) {
        let Some(endpoint) = self.endpoints.get_mut(&issuer) else { return };
        if let Some(open) = endpoint.learned(health, now) {
            let issuer = endpoint.name.clone();
            self.events.push(RefreshEvent::Breaker { issuer, open });
        }
    }

    /// The backend answered with tokens: what is left to do with them, if they are still wanted.
    pub fn harvest(
        &mut self,
        job: &mut Job,
        answer: Answer,
        hash: Option<TokenHash>,
        now: Now,
    ) -> Option<Work> {
        let access = answer.access.clone();
        let (new, since, generation) = self.sessions.step(job.id, |record| {
            let wanted = record.harvest(answer, hash, job.generation, now);
            wanted.then(|| (record.hash(), record.refresh_generation(), record.generation()))
        })??;
        (job.generation, job.overtaken) = (generation, false);
        self.sessions.add_alias(job.id, new, since);
        self.events.push(RefreshEvent::Rotated {
            issuer: self.name(job.issuer),
            old: job.hash.to_string(),
            new: new.to_string(),
            generation,
        });
        Some(Work::Check { access, kept: false })
    }

    /// A kept access token has expired while it waited: on with asking, if still wanted.
    pub fn outlived(&mut self, job: &mut Job, verified: Arc<Verified>) -> Option<Work> {
        let (work, generation) = self.sessions.step(job.id, |record| {
            (record.outlived(job.generation, verified), record.generation())
        })?;
        job.overtaken |= generation != job.generation;
        job.generation = generation;
        work
    }

    /// A flight is back, with what came of it and a word for the log.
    pub fn land(
        &mut self,
        job: &Job,
        landing: Landing,
        detail: Option<Detail>,
        shared_by: u32,
        now: Now,
        jitter: f64,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let refused = matches!(landing, Landing::Refused);
        let mut result = landing.result();
        let stranger = job.stranger;
        if stranger {
            self.strangers.answered(job.client, refused, now);
        }
        let issuer = self.name(job.issuer);
        let landed = self.sessions.step(job.id, |record| {
            let landed = record.land(job.generation, landing, now, jitter);
            (landed, record.state() == State::Dead)
        });
        // No record: the session ended in mid-air and was forgotten since.
        if let Some((landed, dead)) = landed {
            result = match landed.result {
                FlightResult::Ok if job.overtaken => FlightResult::Shared,
                result => result,
            };
            if let Some(reason) = landed.ended {
                self.over_for(job.id, reason);
                let session = job.id.0.to_string();
                self.events.push(RefreshEvent::Ended { issuer: issuer.clone(), session, reason });
            }
            if stranger && dead {
                // Not worth a record: strangers could fill the ledger with these.
                self.sessions.forget(job.id);
                self.strangers.refuse(job.hash, now);
            }
        }
        let took = now.uptime.saturating_sub(job.departed);
        let trigger = job.trigger;
        self.events.push(RefreshEvent::Finished {
            issuer: issuer.clone(),
            trigger,
            result,
            shared_by,
            took,
        });
        let endpoint = self.endpoints.get_mut(&job.issuer);
        let alarm = endpoint.is_some_and(|endpoint| endpoint.landed(job.id, result));
        if let Some(detail) = detail {
            self.events.push(RefreshEvent::Failed { issuer: issuer.clone(), result, detail });
            if alarm {
                self.events.push(RefreshEvent::Misconfigured { issuer, detail });
            }
        }
    }

    /// How long a flight must wait for its turn, or a rest if it gets none.
    fn turn(
        &mut self,
        issuer: IssuerId,
        trigger: Trigger,
        known: Option<SessionId>,
        now: Now,
    ) -> Result<Duration, Duration> {
        // An answer that only has to be checked costs the backend nothing.
        let asks = known.and_then(|id| self.sessions.get(id)).is_none_or(Record::asks);
        let Some(endpoint) = self.endpoints.get(&issuer).filter(|_| asks) else {
            return Ok(Duration::ZERO);
        };
        let turn = endpoint.turn(trigger, now);
        let result = match (turn, trigger.is_urgent()) {
            (Ok(Duration::ZERO), _) => return turn,
            (Ok(_), _) => BudgetResult::Queued,
            (Err(_), true) => BudgetResult::Full,
            (Err(_), false) => BudgetResult::Postponed,
        };
        let issuer = endpoint.name.clone();
        self.events.push(RefreshEvent::Budget { issuer, result });
        turn
    }

    /// A record from which a flight may depart: the known one, or a new one if there is room.
    fn runway(
        &mut self,
        visitor: &Visitor,
        refresh: &Secret,
        trigger: Trigger,
        known: Option<SessionId>,
        now: Now,
    ) -> Option<SessionId> {
        if self.in_flight >= FLIGHTS_MAX {
            return None;
        }
        if known.is_some() {
            return known;
        }
        if !self.sessions.make_room(trigger.is_urgent()) {
            let issuer = self.name(visitor.issuer);
            self.events.push(RefreshEvent::LedgerFull { issuer });
            return None;
        }
        let rotation = self.endpoints.get(&visitor.issuer)?.rotation;
        let record = Record::new(visitor.issuer, rotation, refresh.clone(), visitor.hash, now);
        let id = SessionId(visitor.hash);
        self.sessions.add(id, record);
        let shown = visitor.shown(Found { id, generation: 0 });
        self.sessions.step(id, |record| record.note_shown(shown, now));
        Some(id)
    }

    fn depart(
        &mut self,
        id: SessionId,
        visitor: &Visitor,
        trigger: Trigger,
        delay: Duration,
        now: Now,
    ) -> Option<(Job, Work)> {
        let (hash, generation, work) = self
            .sessions
            .step(id, |record| (record.hash(), record.generation(), record.depart()))?;
        let (issuer, client) = (visitor.issuer, visitor.client);
        if let (Work::Ask { .. }, Some(endpoint)) = (&work, self.endpoints.get_mut(&issuer)) {
            endpoint.take_turn(now);
            // With a store, a flight may find that it need not ask.
            if delay.is_zero() && !self.shared {
                endpoint.departed(now);
            }
        }
        let stranger = generation == 0;
        if stranger {
            self.strangers.asked(client);
        }
        self.in_flight += 1;
        self.departures += 1;
        let claim = ClaimId(self.departures);
        let departed = now.uptime + delay;
        let job = Job {
            id,
            claim,
            issuer,
            trigger,
            delay,
            departed,
            hash,
            generation,
            overtaken: false,
            stranger,
            client,
        };
        Some((job, work))
    }
}
