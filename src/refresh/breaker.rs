//! The breaker of one token endpoint. Pure.
//!
//! Five transient failures in a row open it for two seconds; then one flight may try while the
//! others wait for what it finds. It spares a backend that is coming up, and it answers people
//! quickly while it is down. An ambiguous call (sent, never answered) says nothing about whether
//! the endpoint takes calls, so it counts neither way, except that a probe must succeed.

use std::time::Duration;

use crate::policy::time::Now;

const FAILURES_MAX: u32 = 5;
const OPEN_FOR: Duration = Duration::from_secs(2);
/// How soon a request looks again while another one's probe is out.
const PROBE_POLL: Duration = Duration::from_millis(250);

/// What one call told about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered, whatever it said.
    Answered,
    Down,
    Unclear,
}

#[derive(Debug)]
pub(super) enum Breaker {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing,
}

impl Breaker {
    pub fn new() -> Breaker {
        Breaker::Closed { failures: 0 }
    }

    /// How long no call may be made; `None` if one may now.
    pub fn rest(&self, now: Now) -> Option<Duration> {
        match self {
            Breaker::Closed { .. } => None,
            Breaker::Open { until } => until.checked_sub(now.uptime).filter(|left| !left.is_zero()),
            Breaker::Probing => Some(PROBE_POLL),
        }
    }

    /// A call is made now: the first one after the pause is the probe.
    pub fn departed(&mut self, now: Now) {
        if matches!(self, Breaker::Open { .. }) && self.rest(now).is_none() {
            *self = Breaker::Probing;
        }
    }

    pub fn learned(&mut self, health: Health, now: Now) {
        let opened = Breaker::Open { until: now.uptime + OPEN_FOR };
        *self = match (&*self, health) {
            (_, Health::Answered) => Breaker::new(),
            (Breaker::Closed { failures }, Health::Down) if failures + 1 < FAILURES_MAX => {
                Breaker::Closed { failures: failures + 1 }
            }
            (Breaker::Closed { failures }, Health::Unclear) => {
                Breaker::Closed { failures: *failures }
            }
            (Breaker::Closed { .. }, Health::Down) | (Breaker::Probing, _) => opened,
            // A call that departed before the breaker opened says nothing new.
            (Breaker::Open { until }, Health::Down | Health::Unclear) => {
                Breaker::Open { until: *until }
            }
        };
    }

    pub fn is_open(&self) -> bool {
        !matches!(self, Breaker::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now::default().later(Duration::from_millis(ms))
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::new();
        (0..5).for_each(|_| breaker.learned(Health::Down, at(0)));
        breaker
    }

    #[test]
    fn the_fifth_failure_in_a_row_opens_it_for_two_seconds() {
        let mut breaker = Breaker::new();
        (0..4).for_each(|_| breaker.learned(Health::Down, at(0)));
        assert_eq!(breaker.rest(at(0)), None);
        breaker.learned(Health::Down, at(0));
        assert_eq!(breaker.rest(at(500)), Some(Duration::from_millis(1_500)));
        assert_eq!(breaker.rest(at(2_000)), None);
    }

    #[test]
    fn any_answer_starts_the_count_again() {
        let mut breaker = Breaker::new();
        (0..4).for_each(|_| breaker.learned(Health::Down, at(0)));
        breaker.learned(Health::Answered, at(0));
        (0..4).for_each(|_| breaker.learned(Health::Down, at(0)));
        assert!(!breaker.is_open());
    }

    #[test]
    fn an_unclear_call_counts_neither_way() {
        let mut breaker = Breaker::new();
        (0..4).for_each(|_| breaker.learned(Health::Down, at(0)));
        (0..9).for_each(|_| breaker.learned(Health::Unclear, at(0)));
        assert!(!breaker.is_open());
        breaker.learned(Health::Down, at(0));
        assert!(breaker.is_open());
    }

    #[test]
    fn one_probe_goes_out_and_the_others_wait_for_it() {
        let mut breaker = open();
        breaker.departed(at(2_000));
        assert_eq!(breaker.rest(at(2_000)), Some(PROBE_POLL));
        breaker.learned(Health::Answered, at(2_100));
        assert_eq!(breaker.rest(at(2_100)), None);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_probe_that_does_not_succeed_opens_it_again() {
        for health in [Health::Down, Health::Unclear] {
            let mut breaker = open();
            breaker.departed(at(2_000));
            breaker.learned(health, at(3_000));
            assert_eq!(breaker.rest(at(3_000)), Some(OPEN_FOR));
        }
    }

    #[test]
    fn late_failures_of_earlier_calls_do_not_hold_it_open() {
        let mut breaker = open();
        breaker.learned(Health::Down, at(1_900));
        assert_eq!(breaker.rest(at(2_000)), None);
    }
}
