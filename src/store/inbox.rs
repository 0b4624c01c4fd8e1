//! Messages from other gateways, kept for those who wait.
//!
//! A message is a hint: it may come late, twice, or never. Whoever waits has set a time after which
//! it looks for itself. Some are for one gateway, about what it has said it waits for; *news* are for
//! all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

/// News kept for a listener that is behind; it misses the older ones.
const NEWS_MAX: usize = 1_024;
/// Words awaited at once; whoever comes when it is full does without hints.
const AWAITED_MAX: usize = 10_000;

pub(super) struct Inbox {
    awaited: Mutex<HashMap<Box<str>, Arc<Notify>>>,
    news: broadcast::Sender<Arc<str>>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox { awaited: Mutex::default(), news: broadcast::Sender::new(NEWS_MAX) }
    }
}

impl Inbox {
    pub fn expect(&self, word: &str) {
        let mut awaited = self.awaited.lock();
        if awaited.len() >= AWAITED_MAX {
            // Those that nobody waits for any more: their asker was cancelled.
            awaited.retain(|_, notify| Arc::strong_count(notify) > 1);
        }
        if awaited.len() < AWAITED_MAX {
            awaited.entry(word.into()).or_default();
        }
    }

    pub fn forget(&self, word: &str) {
        self.awaited.lock().remove(word);
    }

    /// A message came. It is kept for one who expects it and does not wait yet.
    pub fn arrived(&self, word: &str) {
        if let Some(notify) = self.awaited.lock().get(word) {
            notify.notify_waiters();
            notify.notify_one();
        }
    }

    /// News for all gateways came.
    pub fn news_arrived(&self, word: &str) {
        // An error only says that nobody listens.
        let _ = self.news.send(Arc::from(word));
    }

    pub fn news(&self) -> broadcast::Receiver<Arc<str>> {
        self.news.subscribe()
    }

    pub async fn told(&self, word: &str, at_most: Duration) {
        self.expect(word);
        let notify = self.awaited.lock().get(word).cloned();
        match notify {
            Some(notify) => _ = timeout(at_most, notify.notified()).await,
            None => tokio::time::sleep(at_most).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_message_that_came_before_anybody_waited_is_kept() {
        let inbox = Inbox::default();
        inbox.expect("a");
        inbox.arrived("a");
        let started = tokio::time::Instant::now();
        inbox.told("a", LONG).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        inbox.told("a", LONG).await;
        assert_eq!(started.elapsed(), LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_are_told() {
        let inbox = Inbox::default();
        let started = tokio::time::Instant::now();
        let arrives = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            inbox.arrived("a");
        };
        tokio::join!(inbox.told("a", LONG), inbox.told("a", LONG), arrives);
        assert_eq!(started.elapsed(), Duration::from_secs(1));
    }

    #[test]
    fn what_nobody_waits_for_makes_room() {
        let inbox = Inbox::default();
        for number in 0..=AWAITED_MAX {
            inbox.expect(&number.to_string());
        }
        assert_eq!(inbox.awaited.lock().len(), 1);
    }
}
