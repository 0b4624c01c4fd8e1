//! The breaker: a store that fails is left alone, then asked once, then again by everybody.
//!
//! One failure opens it. A question costs a request up to the whole wait, so even five in a row (as
//! the breaker of an auth backend allows) would be felt; and what the store gives for a question it
//! was not asked is only a little more care.
//!
//! Except for what only this process knows, and others will miss: that *presses*, and is tried during
//! the rest, too. Its success ends the rest; its failure changes nothing, else a few of these would
//! keep everybody else away for ever.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::STORE_REST;

/// Questions that press, at one time: more would pile up before a store that is dead.
const PRESSING_MAX: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Well,
    /// Nobody asks until then (uptime).
    Resting { until: Duration },
    /// One question is on its way; what it learns counts for all.
    Probing,
}

#[derive(Default)]
pub(super) struct Health {
    state: Mutex<State>,
    pressing: AtomicUsize,
}

/// Leave to ask once. Dropped without a result (the one who asked was cancelled), it changes nothing
/// but that somebody else may probe.
pub(super) struct Pass<'a> {
    health: &'a Health,
    kind: Kind,
    open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usual,
    Probes,
    Presses,
}

impl Health {
    /// `None`: it rests. The first to come after the rest probes.
    pub fn admit(&self, uptime: Duration) -> Option<Pass<'_>> {
        let mut state = self.state.lock();
        let probes = match *state {
            State::Well => false,
            State::Resting { until } if uptime >= until => true,
            State::Resting { .. } | State::Probing => return None,
        };
        if probes {
            *state = State::Probing;
        }
        let kind = if probes { Kind::Probes } else { Kind::Usual };
        Some(Pass { health: self, kind, open: true })
    }

    /// Leave to ask even while it rests. `None`: too many have it already.
    pub fn press(&self) -> Option<Pass<'_>> {
        // Given back on drop.
        let pass = Pass { health: self, kind: Kind::Presses, open: true };
        (self.pressing.fetch_add(1, Ordering::Relaxed) < PRESSING_MAX).then_some(pass)
    }

    /// How long nobody asks; `None`: the next one may. Zero while one question probes.
    pub fn rest(&self, uptime: Duration) -> Option<Duration> {
        match *self.state.lock() {
            State::Well => None,
            State::Resting { until } => until.checked_sub(uptime).filter(|left| !left.is_zero()),
            State::Probing => Some(Duration::ZERO),
        }
    }

    pub fn is_degraded(&self) -> bool {
        *self.state.lock() != State::Well
    }
}

impl Pass<'_> {
    /// The store answered. True if it had not before.
    pub fn well(mut self) -> bool {
        self.open = false;
        let mut state = self.health.state.lock();
        // A late answer to an old question does not end a rest that a newer one began.
        let counts = match self.kind {
            Kind::Usual => false,
            Kind::Probes => true,
            Kind::Presses => *state != State::Well,
        };
        if counts {
            *state = State::Well;
        }
        counts
    }

    /// The store failed. True if it had not before.
    pub fn failed(mut self, uptime: Duration) -> bool {
        self.open = false;
        let mut state = self.health.state.lock();
        if self.kind == Kind::Presses && *state != State::Well {
            return false;
        }
        let before = std::mem::replace(&mut *state, State::Resting { until: uptime + STORE_REST });
        before == State::Well
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.kind == Kind::Presses {
            self.health.pressing.fetch_sub(1, Ordering::Relaxed);
        }
        if self.open && self.kind == Kind::Probes {
            *self.health.state.lock() = State::Resting { until: Duration::ZERO };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn resting_since_zero() -> Health {
        let health = Health::default();
        assert!(health.admit(at(0)).unwrap().failed(at(0)));
        health
    }

    #[test]
    fn one_failure_opens_it_for_two_seconds() {
        let health = resting_since_zero();
        assert!(health.admit(at(1_999)).is_none());
        assert_eq!(health.rest(at(500)), Some(at(1_500)));
        assert_eq!(health.rest(at(2_000)), None);
        assert!(health.is_degraded());
    }

    #[test]
    fn after_the_rest_one_question_probes_and_all_others_wait_for_it() {
        let health = resting_since_zero();
        let probe = health.admit(at(2_000)).unwrap();
        assert!(health.admit(at(2_001)).is_none());
        assert_eq!(health.rest(at(2_001)), Some(Duration::ZERO));
        assert!(probe.well());
        assert!(health.admit(at(2_002)).is_some());
        assert!(!health.is_degraded());
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let health = resting_since_zero();
        assert!(!health.admit(at(2_000)).unwrap().failed(at(2_050)));
        assert!(health.admit(at(4_049)).is_none());
        assert!(health.admit(at(4_050)).is_some());
    }

    #[test]
    fn a_probe_that_was_cancelled_leaves_its_place_to_the_next() {
        let health = resting_since_zero();
        drop(health.admit(at(2_000)).unwrap());
        assert!(health.admit(at(2_000)).is_some());
    }

    #[test]
    fn a_late_answer_does_not_end_a_rest() {
        let health = Health::default();
        let (slow, fails) = (health.admit(at(0)).unwrap(), health.admit(at(0)).unwrap());
        assert!(fails.failed(at(10)));
        assert!(!slow.well());
        assert!(health.is_degraded());
    }

    #[test]
    fn what_presses_is_asked_during_the_rest_and_may_end_it() {
        let health = resting_since_zero();
        assert!(health.press().unwrap().well());
        assert_eq!(health.rest(at(1)), None);
    }

    #[test]
    fn what_presses_in_vain_makes_the_rest_no_longer() {
        let health = resting_since_zero();
        assert!(!health.press().unwrap().failed(at(1_999)));
        assert!(health.admit(at(2_000)).is_some());
    }

    #[test]
    fn a_failure_of_what_presses_begins_a_rest_like_any_other() {
        let health = Health::default();
        assert!(health.press().unwrap().failed(at(0)));
        assert!(health.is_degraded());
    }

    #[test]
    fn only_a_few_press_at_once() {
        let health = resting_since_zero();
        let passes: Vec<_> = (0..PRESSING_MAX).map(|_| health.press()).collect();
        assert!(passes.iter().all(Option::is_some));
        assert!(health.press().is_none() && health.press().is_none());
        drop(passes);
        assert!((0..PRESSING_MAX).all(|_| health.press().is_some()));
    }
}
