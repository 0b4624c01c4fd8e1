//! What happened, as the front page tells it: the gateway's events and the auth backend's.
//!
//! Events are for people who watch. They carry route names, reasons and counts, never a token, a
//! cookie or a key. A watcher that is too slow loses the oldest ones and is told how many; nobody
//! ever waits for a watcher.

use serde::Serialize;
use tokio::sync::broadcast;

/// Events kept for a watcher that lags behind.
const BACKLOG_MAX: usize = 256;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Event {
    Gateway(GatewayEvent),
    Backend(BackendEvent),
    /// This many events were lost, because the watcher was too slow.
    Lagged {
        lost: u64,
    },
}

/// What the gateway says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GatewayEvent {
    /// An access token was verified for a request; `cached`: its verification was remembered.
    Verified { route: String, cached: bool },
    /// A flight started: `window` (alongside a request) or `expired` (before it).
    RefreshStarted { trigger: String },
    /// A flight ended. `shared_by`: how many requests took part in it.
    RefreshFinished { result: String, shared_by: u64, ms: u64 },
    /// A response carried the new cookies.
    Delivered,
    /// The gateway answered by itself.
    Decision { route: String, reason: String, status: u16 },
}

/// What the auth backend did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BackendEvent {
    LoggedIn {
        user: String,
    },
    LoggedOut {
        user: String,
    },
    /// A refresh token was exchanged for a new pair; `generation` counts the pairs of one login.
    Granted {
        user: String,
        generation: u64,
    },
    /// An unknown or ended refresh token.
    Refused,
    /// A spent refresh token came back: its family was ended.
    ReuseDetected {
        user: String,
    },
    KeyRotated {
        key: String,
    },
    Stopped,
    Started,
}

/// Carries events to everybody who watches. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Bus(broadcast::Sender<Event>);

/// One watcher's place in the stream of events.
#[derive(Debug)]
pub struct Watcher(broadcast::Receiver<Event>);

impl Bus {
    pub fn new() -> Bus {
        Bus(broadcast::Sender::new(BACKLOG_MAX))
    }

    /// Tells all watchers. Without any the event is gone, which is fine.
    pub fn gateway(&self, event: GatewayEvent) {
        let _ = self.0.send(Event::Gateway(event));
    }

    /// Tells all watchers what the auth backend did.
    pub fn backend(&self, event: BackendEvent) {
        let _ = self.0.send(Event::Backend(event));
    }

    /// A watcher sees what happens from now on.
    pub fn watch(&self) -> Watcher {
        Watcher(self.0.subscribe())
    }
}

impl Default for Bus {
    fn default() -> Bus {
        Bus::new()
    }
}

impl Watcher {
    /// The next event; `None` once the demo has ended.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Event::Lagged { lost }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_flat_json_that_names_its_source_and_kind() {
        let event = Event::Gateway(GatewayEvent::RefreshFinished {
            result: "ok".into(),
            shared_by: 20,
            ms: 3,
        });

        let json = serde_json::to_value(event).unwrap();

        let expected = serde_json::json!({
            "source": "gateway", "kind": "refresh_finished", "result": "ok", "shared_by": 20, "ms": 3
        });
        assert_eq!(json, expected);
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_how_much_it_missed_and_goes_on() {
        let bus = Bus::new();
        let mut watcher = bus.watch();
        for _ in 0..BACKLOG_MAX + 3 {
            bus.gateway(GatewayEvent::Delivered);
        }

        assert_eq!(watcher.next().await, Some(Event::Lagged { lost: 3 }));
        assert_eq!(watcher.next().await, Some(Event::Gateway(GatewayEvent::Delivered)));
    }

    #[tokio::test]
    async fn the_stream_ends_with_the_demo() {
        let bus = Bus::new();
        let mut watcher = bus.watch();
        drop(bus);

        assert_eq!(watcher.next().await, None);
    }
}
