//! The breaker: a store that fails is left alone, then asked once, then again by everybody.
//!
//! One failure opens it. A question costs a request up to the whole wait, so even five in a row (as
//! the breaker of an auth backend allows) would be felt; and what the store gives for a question it
//! was not asked is only a little more care.

use std::time::Duration;

use parking_lot::Mutex;

use super::STORE_REST;

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
}

/// Leave to ask once. Dropped without a result (the one who asked was cancelled), it changes nothing
/// but that somebody else may probe.
pub(super) struct Pass<'a> {
    health: &'a Health,
    probes: bool,
    open: bool,
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
        Some(Pass { health: self, probes, open: true })
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
        if self.probes {
            *state = State::Well;
        }
        self.probes
    }

    /// The store failed. True if it had not before.
    pub fn failed(mut self, uptime: Duration) -> bool {
        self.open = false;
        let mut state = self.health.state.lock();
        let before = std::mem::replace(&mut *state, State::Resting { until: uptime + STORE_REST });
        before == State::Well
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.open && self.probes {
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
}
