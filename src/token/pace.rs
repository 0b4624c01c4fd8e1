//! When an issuer may be asked for its keys: the limits, apart from the asking.
//!
//! All times are uptimes, and given.

use std::time::Duration;

use super::JwksSettings;
use super::unknown_kids::UnknownKids;

/// First pause after a failed fetch; it doubles up to the last.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
const BACK_OFF_LAST: Duration = Duration::from_secs(30);

/// Least pause between two fetches that nobody asked for, however short `ttl` is.
const AHEAD_MIN: Duration = Duration::from_secs(1);

/// What the issuer's keys are wanted for, and so which limit holds.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    /// There is no usable set: the back-off decides.
    AnyKey,
    /// A stranger's token names a key that is not there (`None`: names none). At most one fetch in
    /// `min_interval`, whatever strangers send; a failed one counts.
    Kid(Option<&'a str>),
    /// The gateway's own need: fetching ahead, and the new token of a refresh.
    Own,
}

/// What the past allows now.
#[derive(Debug, Default)]
pub struct Pace {
    pub unknown: UnknownKids,
    /// When the last fetch started.
    started_at: Option<Duration>,
    /// When the next one is due without anybody asking.
    due_at: Duration,
    failures: u32,
}

impl Pace {
    /// Is it certain that no fetch would help this wish? Then not even waiting for one does.
    pub fn is_hopeless(&self, wish: Wish<'_>, uptime: Duration) -> bool {
        match wish {
            Wish::Kid(kid) => self.unknown.contains(kid, uptime),
            Wish::AnyKey | Wish::Own => false,
        }
    }

    /// May a fetch start for this wish?
    pub fn allows(&self, wish: Wish<'_>, settings: &JwksSettings, uptime: Duration) -> bool {
        let since_last = self.started_at.map(|started_at| uptime.saturating_sub(started_at));
        match wish {
            Wish::AnyKey => self.wait(uptime).is_zero(),
            Wish::Kid(_) => since_last.is_none_or(|gap| gap >= settings.min_interval),
            Wish::Own => true,
        }
    }

    /// How long until the next fetch is due.
    pub fn wait(&self, uptime: Duration) -> Duration {
        self.due_at.saturating_sub(uptime)
    }

    /// Did the last fetch fail?
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub fn started(&mut self, uptime: Duration) {
        self.started_at = Some(uptime);
        // Its end says when the next one is due; but if it ends in a panic, that is not at once.
        self.due_at = uptime.saturating_add(BACK_OFF_FIRST);
    }

    /// The next fetch is due at 80 to 90 % of `ttl`, so that several gateways do not ask in step:
    /// `jitter` is 0 to 100.
    pub fn succeeded(&mut self, ttl: Duration, jitter: u32, uptime: Duration) {
        self.failures = 0;
        self.due_at = uptime.saturating_add((ttl / 1000 * (800 + jitter)).max(AHEAD_MIN));
    }

    /// Returns the pause until the next attempt.
    pub fn failed(&mut self, uptime: Duration) -> Duration {
        let pause = BACK_OFF_LAST.min(BACK_OFF_FIRST * (1 << self.failures.min(5)));
        self.failures = self.failures.saturating_add(1);
        self.due_at = uptime.saturating_add(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::testing::settings;

    const START: Duration = Duration::from_secs(1_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_back_off_doubles_from_one_second_to_thirty_and_starts_anew_after_a_success() {
        let mut pace = Pace::default();

        let pauses: Vec<_> = (0..7).map(|_| pace.failed(START).as_secs()).collect();
        pace.succeeded(seconds(600), 0, START);

        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pace.failed(START), BACK_OFF_FIRST);
    }

    #[test]
    fn keys_are_due_at_eight_to_nine_tenths_of_their_life() {
        let mut pace = Pace::default();
        let mut due = |ttl, jitter| {
            pace.succeeded(ttl, jitter, START);
            pace.wait(START)
        };

        assert_eq!(due(seconds(600), 0), seconds(480));
        assert_eq!(due(seconds(600), 100), seconds(540));
        assert_eq!(due(seconds(0), 50), AHEAD_MIN);
    }

    #[test]
    fn each_wish_has_its_own_limit() {
        let jwks = settings().jwks;
        let mut pace = Pace::default();
        let allowed = |pace: &Pace, at| {
            [Wish::AnyKey, Wish::Kid(None), Wish::Own].map(|wish| pace.allows(wish, &jwks, at))
        };
        assert_eq!(allowed(&pace, START), [true, true, true]);

        pace.started(START);
        pace.failed(START);

        assert_eq!(allowed(&pace, START), [false, false, true]);
        assert_eq!(allowed(&pace, START + seconds(1)), [true, false, true]);
        assert_eq!(allowed(&pace, START + seconds(30)), [true, true, true]);
    }

    #[test]
    fn an_unknown_kid_is_hopeless_for_strangers_alone() {
        let mut pace = Pace::default();
        pace.unknown.note(Some("k"), START);

        assert!(pace.is_hopeless(Wish::Kid(Some("k")), START));
        assert!(!pace.is_hopeless(Wish::Kid(Some("other")), START));
        assert!(!pace.is_hopeless(Wish::Own, START));
        assert!(!pace.is_hopeless(Wish::AnyKey, START));
    }
}
