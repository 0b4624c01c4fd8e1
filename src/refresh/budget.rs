//! How many refreshes a second one issuer is asked for. Pure.
//!
//! A bucket of one second's worth, refilled evenly. A flight in the window has time: it takes what is
//! there or does not start. One for an expired token queues: it gets its turn at once and departs
//! when the turn has come, so that nobody polls, nobody is overtaken, and a client that hangs up
//! leaves a session that will be renewed. The queue is as long as a request waits, and bounded.
//!
//! The bucket is one point in time: up to when what was taken is paid for (a "generic cell rate
//! algorithm"). Counting tokens was rejected: it needs fractions, or loses them.

use std::num::NonZeroU32;
use std::time::Duration;

use super::events::Trigger;
use crate::policy::time::Now;

/// What may depart at once after a pause.
const BURST: Duration = Duration::from_secs(1);
/// Flights that wait for their turn, per issuer. Half of all flights, so that one issuer's queue
/// leaves room for the others.
pub(super) const QUEUE_MAX: u32 = 512;

#[derive(Debug)]
pub(super) struct Budget {
    /// Between two turns.
    interval: Duration,
    /// How long a turn is waited for.
    wait: Duration,
    /// Uptime up to which the turns that were taken are paid for.
    paid_until: Duration,
}

impl Budget {
    pub fn new(per_second: NonZeroU32, wait: Duration) -> Budget {
        let interval = Duration::from_secs(1) / per_second.get();
        Budget { interval, wait, paid_until: Duration::ZERO }
    }

    /// How long until a flight that takes a turn now may depart.
    ///
    /// # Errors
    /// It may not take one: how long until it may depart at once, if nobody else takes a turn.
    pub fn turn(&self, trigger: Trigger, now: Now) -> Result<Duration, Duration> {
        let ahead = self.paid_until.saturating_sub(now.uptime);
        let delay = (ahead + self.interval).saturating_sub(BURST);
        let may = match trigger.is_urgent() {
            false => delay.is_zero(),
            true => delay <= self.wait && delay <= self.interval * QUEUE_MAX,
        };
        if may { Ok(delay) } else { Err(delay) }
    }

    /// A flight takes the next turn.
    pub fn take(&mut self, now: Now) {
        self.paid_until = self.paid_until.max(now.uptime) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);
    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(ms: u64) -> Now {
        Now::default().later(Duration::from_millis(ms))
    }

    fn budget(per_second: u32) -> Budget {
        Budget::new(NonZeroU32::new(per_second).unwrap(), WAIT)
    }

    /// Takes turns as long as there are any: the delays.
    fn take_all(budget: &mut Budget, trigger: Trigger, now: Now) -> Vec<Duration> {
        let mut delays = Vec::new();
        while let Ok(delay) = budget.turn(trigger, now) {
            budget.take(now);
            delays.push(delay);
        }
        delays
    }

    #[test]
    fn a_seconds_worth_may_depart_at_once_and_no_more() {
        for per_second in [1, 3, 10, 1_000] {
            let mut budget = budget(per_second);
            let delays = take_all(&mut budget, Trigger::Window, at(60_000));
            assert!(delays.iter().all(Duration::is_zero));
            assert_eq!(delays.len(), per_second as usize);
        }
    }

    #[test]
    fn a_pause_saves_up_a_second_and_not_an_hour() {
        let mut budget = budget(10);
        take_all(&mut budget, Trigger::Window, at(0));
        assert_eq!(take_all(&mut budget, Trigger::Window, at(99)).len(), 0);
        assert_eq!(take_all(&mut budget, Trigger::Window, at(100)).len(), 1);
        assert_eq!(take_all(&mut budget, Trigger::Window, at(600)).len(), 5);
        assert_eq!(take_all(&mut budget, Trigger::Window, at(3_600_000)).len(), 10);
    }

    #[test]
    fn the_expired_queue_in_order_as_long_as_they_wait() {
        let mut budget = budget(2);
        let delays = take_all(&mut budget, Trigger::Expired, at(0));
        let expected = [0, 0, 500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000, 4_500, 5_000];
        assert_eq!(delays, expected.map(MS));
        assert_eq!(budget.turn(Trigger::Expired, at(0)), Err(MS(5_500)));
        assert_eq!(budget.turn(Trigger::Expired, at(500)), Ok(MS(5_000)));
    }

    #[test]
    fn the_queue_is_bounded_where_turns_are_quick() {
        let mut budget = budget(1_000);
        let delays = take_all(&mut budget, Trigger::Expired, at(0));
        assert_eq!(delays.iter().filter(|delay| !delay.is_zero()).count(), QUEUE_MAX as usize);
        assert_eq!(delays.last(), Some(&MS(512)));
    }

    #[test]
    fn a_flight_in_the_window_does_not_jump_the_queue() {
        let mut budget = budget(1);
        take_all(&mut budget, Trigger::Expired, at(0));
        assert_eq!(budget.turn(Trigger::Window, at(5_000)), Err(MS(1_000)));
        assert_eq!(budget.turn(Trigger::Window, at(6_000)), Ok(MS(0)));
    }
}
