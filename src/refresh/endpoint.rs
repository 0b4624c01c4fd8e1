//! One issuer's token endpoint, as its calls show it. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::{Breaker, Health};
use super::budget::Budget;
use super::events::{FlightResult, Trigger};
use super::sessions::SessionId;
use super::settings::{OnReuse, RefreshSettings, Rotation};
use crate::policy::time::Now;

/// So many different sessions in a row must be misconfigured before the operator is called: one
/// odd session is not the configuration's fault.
const MISCONFIGURED_ALARM: u32 = 3;

pub(super) struct Endpoint {
    pub name: Arc<str>,
    pub rotation: Rotation,
    pub on_reuse: OnReuse,
    breaker: Breaker,
    budget: Option<Budget>,
    last_misconfigured: Option<SessionId>,
    misconfigured: u32,
}

impl Endpoint {
    pub fn new(settings: &RefreshSettings) -> Endpoint {
        Endpoint {
            name: settings.issuer_name.clone(),
            rotation: settings.rotation,
            on_reuse: settings.on_reuse,
            breaker: Breaker::new(),
            budget: settings.budget.map(|per_second| Budget::new(per_second, settings.wait)),
            last_misconfigured: None,
            misconfigured: 0,
        }
    }

    /// How long no call may be made; `None` if one may now.
    pub fn rest(&self, now: Now) -> Option<Duration> {
        self.breaker.rest(now)
    }

    /// How long until a call may be made that takes a turn now.
    ///
    /// # Errors
    /// It may not take one: how long until one is free at once.
    pub fn turn(&self, trigger: Trigger, now: Now) -> Result<Duration, Duration> {
        self.budget.as_ref().map_or(Ok(Duration::ZERO), |budget| budget.turn(trigger, now))
    }

    pub fn take_turn(&mut self, now: Now) {
        if let Some(budget) = &mut self.budget {
            budget.take(now);
        }
    }

    pub fn departed(&mut self, now: Now) {
        self.breaker.departed(now);
    }

    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Notes a call; says whether the breaker is open now, if that has changed.
    pub fn learned(&mut self, health: Health, now: Now) -> Option<bool> {
        let was_open = self.breaker.is_open();
        self.breaker.learned(health, now);
        let open = self.breaker.is_open();
        (open != was_open).then_some(open)
    }

    /// Notes a landing; true once, when so many sessions agree that it is the operator's turn.
    pub fn landed(&mut self, session: SessionId, result: FlightResult) -> bool {
        match result {
            FlightResult::Ok | FlightResult::Refused => {
                (self.last_misconfigured, self.misconfigured) = (None, 0);
                false
            }
            FlightResult::Misconfigured if self.last_misconfigured != Some(session) => {
                self.last_misconfigured = Some(session);
                self.misconfigured = self.misconfigured.saturating_add(1);
                self.misconfigured == MISCONFIGURED_ALARM
            }
            FlightResult::Shared
            | FlightResult::Misconfigured
            | FlightResult::Transient
            | FlightResult::Ambiguous => false,
        }
    }
}
