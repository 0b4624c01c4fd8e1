//! The hands on the demo's auth backend: stop it, slow it, rotate its key, count its grants.
//!
//! Held only inside the process. What of it the front page may touch is decided in `front.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::events::{BackendEvent, Bus};
use super::tokens::{Signer, TokenError};

/// How long a hanging backend keeps a caller before it gives up on it.
const HANG_MAX: Duration = Duration::from_secs(60);

/// Whether the auth backend answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Running,
    /// Answers everything with 503.
    Refusing,
    /// Takes the request and says nothing.
    Hanging,
}

/// Shared by the auth backend, the front page and the script.
pub struct Controls {
    pub signer: Signer,
    pub events: Bus,
    availability: watch::Sender<Availability>,
    token_life_s: u64,
    grants: AtomicU64,
    refusals: AtomicU64,
    reuses: AtomicU64,
}

/// The auth backend in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub running: bool,
    pub token_life_s: u64,
    /// The `kid` of the signing key.
    pub key: String,
    /// Refresh tokens exchanged for a new pair.
    pub grants: u64,
    /// Refresh tokens that were unknown.
    pub refusals: u64,
    /// Refresh tokens that had been spent before: the gateway must never cause one.
    pub reuses: u64,
}

impl Controls {
    /// A running backend whose access tokens live `token_life`.
    pub fn new(signer: Signer, events: Bus, token_life: Duration) -> Controls {
        Controls {
            signer,
            events,
            availability: watch::Sender::new(Availability::Running),
            token_life_s: token_life.as_secs(),
            grants: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            reuses: AtomicU64::new(0),
        }
    }

    pub fn token_life_s(&self) -> u64 {
        self.token_life_s
    }

    /// Stops answering, with a 503 or with silence.
    pub fn stop(&self, how: Availability) {
        if self.availability.send_replace(how) == Availability::Running {
            self.events.backend(BackendEvent::Stopped);
        }
    }

    /// Answers again, also those who hang.
    pub fn start(&self) {
        if self.availability.send_replace(Availability::Running) != Availability::Running {
            self.events.backend(BackendEvent::Started);
        }
    }

    pub fn is_running(&self) -> bool {
        *self.availability.borrow() == Availability::Running
    }

    /// Signs with a new key from now on; the old one leaves the key set at once.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn rotate_key(&self) -> Result<String, TokenError> {
        let key = self.signer.rotate()?;
        self.events.backend(BackendEvent::KeyRotated { key: key.clone() });
        Ok(key)
    }

    pub fn stats(&self) -> Stats {
        Stats {
            running: self.is_running(),
            token_life_s: self.token_life_s,
            key: self.signer.key_id(),
            grants: self.grants.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
            reuses: self.reuses.load(Ordering::Relaxed),
        }
    }

    /// Waits as the controls say; `false` if the backend is stopped and must answer 503.
    pub(super) async fn admit(&self) -> bool {
        if *self.availability.borrow() == Availability::Hanging {
            let mut availability = self.availability.subscribe();
            let over = availability.wait_for(|now| *now != Availability::Hanging);
            // Either way the state is read again below.
            let _ = tokio::time::timeout(HANG_MAX, over).await;
        }
        self.is_running()
    }

    /// Counts an event of the token endpoint and tells it.
    pub(super) fn record(&self, event: BackendEvent) {
        let counter = match event {
            BackendEvent::Granted { .. } => Some(&self.grants),
            BackendEvent::Refused => Some(&self.refusals),
            BackendEvent::ReuseDetected { .. } => Some(&self.reuses),
            BackendEvent::LoggedIn { .. }
            | BackendEvent::LoggedOut { .. }
            | BackendEvent::KeyRotated { .. }
            | BackendEvent::Stopped
            | BackendEvent::Started => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.events.backend(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::demo::events::Event;

    fn controls() -> Controls {
        let signer = Signer::new("http://127.0.0.1:4000".into()).unwrap();
        Controls::new(signer, Bus::new(), Duration::from_secs(20))
    }

    #[tokio::test]
    async fn stopping_twice_is_told_once() {
        let controls = controls();
        let mut watcher = controls.events.watch();

        controls.stop(Availability::Refusing);
        controls.stop(Availability::Hanging);
        controls.start();

        assert_eq!(watcher.next().await, Some(Event::Backend(BackendEvent::Stopped)));
        assert_eq!(watcher.next().await, Some(Event::Backend(BackendEvent::Started)));
    }

    #[tokio::test]
    async fn a_hanging_caller_is_let_in_when_the_backend_starts() {
        let controls = Arc::new(controls());
        controls.stop(Availability::Hanging);
        let caller = tokio::spawn({
            let controls = Arc::clone(&controls);
            async move { controls.admit().await }
        });

        tokio::task::yield_now().await;
        assert!(!caller.is_finished());
        controls.start();

        assert!(caller.await.unwrap());
    }

    #[test]
    fn the_stats_count_what_the_token_endpoint_did() {
        let controls = controls();
        controls.record(BackendEvent::Granted { user: "alice".into(), generation: 2 });
        controls.record(BackendEvent::Refused);
        controls.record(BackendEvent::ReuseDetected { user: "alice".into() });
        controls.record(BackendEvent::LoggedOut { user: "alice".into() });

        let expected = Stats {
            running: true,
            token_life_s: 20,
            key: controls.signer.key_id(),
            grants: 1,
            refusals: 1,
            reuses: 1,
        };
        assert_eq!(controls.stats(), expected);
    }
}
