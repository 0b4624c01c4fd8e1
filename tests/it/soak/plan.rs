//! What one run is: how long, how many, how much, and with which faults.

use std::time::Duration;

/// The access token's life, and the window in which it is renewed alongside.
pub const TOKEN_LIFE: Duration = Duration::from_secs(20);
pub const WINDOW: Duration = Duration::from_secs(8);
/// The longest nap of a browser, well past its token's end.
pub const NAP_MAX: Duration = Duration::from_secs(40);
/// A refresh token's life. Longer than any nap; short enough that a gateway forgets ended sessions
/// within a run, so that its memory can be flat.
pub const REFRESH_LIFE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub struct Plan {
    pub length: Duration,
    pub sessions: usize,
    /// Requests a second of all browsers together, roughly.
    pub rate: u32,
    pub gateways: usize,
    /// The gateways share a Redis server, which has its bad moments too.
    pub redis: bool,
    pub seed: u64,
}

impl Plan {
    /// The minute that every run of the tests takes; or what `./dev soak` was asked for.
    pub fn asked() -> Plan {
        match std::env::var("EVERGATE_SOAK") {
            Ok(words) => Plan::long().with(&words),
            Err(_) => {
                Plan { length: Duration::from_secs(60), sessions: 300, rate: 100, ..Plan::long() }
            }
        }
    }

    fn long() -> Plan {
        let seed = evergate::clock::now().unix.0;
        let length = Duration::from_secs(600);
        Plan { length, sessions: 2000, rate: 400, gateways: 3, redis: true, seed }
    }

    fn with(mut self, words: &str) -> Plan {
        let mut words = words.split_whitespace();
        while let Some(name) = words.next() {
            let value: u64 = words
                .next()
                .and_then(|value| value.parse().ok())
                .unwrap_or_else(|| panic!("{name} wants a number"));
            let small = usize::try_from(value).expect("a number of things");
            match name {
                "--seconds" => self.length = Duration::from_secs(value),
                "--sessions" => self.sessions = small,
                "--rate" => self.rate = u32::try_from(value).expect("requests a second"),
                "--gateways" => self.gateways = small,
                "--redis" => self.redis = value != 0,
                "--seed" => self.seed = value,
                _ => panic!("{name}? --seconds, --sessions, --rate, --gateways, --redis, --seed"),
            }
        }
        assert!(self.gateways == 1 || self.redis, "several gateways need --redis 1");
        self
    }

    /// How long a browser thinks between two actions, on average. An action is 1.5 requests.
    pub fn think(&self) -> Duration {
        let sessions = u32::try_from(self.sessions).expect("a number of sessions");
        Duration::from_millis(1500) * sessions / self.rate.max(1)
    }

    /// Over how long the browsers come in.
    pub fn ramp(&self) -> Duration {
        self.think().max(Duration::from_secs(5))
    }
}
