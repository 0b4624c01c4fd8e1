//! The live key set of one issuer: read without a lock, replaced as a whole, fetched by one flight
//! at a time.
//!
//! 1. Readers never wait: the set is behind `arc_swap`.
//! 2. A fetch is a detached task that everybody shares: a client that hangs up cannot cancel it, and
//!    a thousand requests start one.
//! 3. Strangers cause at most one fetch in `min_interval`, whatever they send; a failed one counts.
//!    The gateway's own refreshes have their own allowance ([`Wish::Own`]).
//! 4. While the issuer is down the last good set serves up to `max_stale`. A set that arrives and
//!    drops a key takes effect at once, also if nothing usable is left in it: then its routes answer
//!    `keys_unavailable` until it is put right. Keeping withdrawn keys was rejected: it would fail
//!    open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::watch;

use super::discovery::Discovered;
use super::fetch::Fetcher;
use super::jwk::KeySetDocument;
use super::key_set::{Change, KeySet};
use super::pace::{Pace, Wish};
use super::source::{self, Fetched};
use super::{IssuerSettings, KeySource};
use crate::policy::time::Now;

/// How long a whole fetch may take: discovery and the set behind it.
const FLIGHT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a wish was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// The limit forbids a fetch now.
    Not,
    /// By a fetch that was under way already.
    Joined,
    /// By a fetch of its own.
    Fetched,
}

/// What is known of a key that the set does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The issuer answered lately, and does not have it.
    Certain,
    /// The issuer did not answer: it may have it.
    Doubtful,
}

/// Counters of one issuer's keys.
#[derive(Debug, Default)]
pub struct FetchCounts {
    pub ok: AtomicU64,
    pub failed: AtomicU64,
}

pub struct LiveKeys {
    settings: Arc<IssuerSettings>,
    fetcher: Option<Arc<Fetcher>>,
    set: ArcSwapOption<KeySet>,
    discovered: ArcSwapOption<Discovered>,
    flight: Mutex<Flight>,
    pub counts: FetchCounts,
}

#[derive(Debug, Default)]
struct Flight {
    /// A fetch is under way until this channel's sender is gone; a panic ends it too.
    running: Option<watch::Receiver<()>>,
    pace: Pace,
}

impl LiveKeys {
    /// Keys of `settings`, starting with what this machine has of them.
    pub fn new(
        settings: Arc<IssuerSettings>,
        fetcher: Option<Arc<Fetcher>>,
        local: KeySetDocument,
        now: Now,
    ) -> LiveKeys {
        let keys = LiveKeys {
            settings,
            fetcher,
            set: ArcSwapOption::empty(),
            discovered: ArcSwapOption::empty(),
            flight: Mutex::default(),
            counts: FetchCounts::default(),
        };
        if !local.keys.is_empty() {
            keys.publish(local, now);
            keys.flight().pace.succeeded(keys.settings.jwks.ttl, jitter(), now.uptime);
        }
        keys
    }

    /// The set, if it has keys and is not too old to be trusted. No lock, no allocation.
    pub fn current(&self, now: Now) -> Option<Guard<Option<Arc<KeySet>>>> {
        let set = self.set.load();
        let serves = set.as_ref().is_some_and(|set| {
            !set.keys.is_empty() && (self.is_fixed() || self.age(set, now) <= self.age_max())
        });
        serves.then_some(set)
    }

    /// What the issuer's document said when the set came that is used now; nothing without discovery.
    pub fn discovered(&self, now: Now) -> Option<Arc<Discovered>> {
        self.current(now)?;
        self.discovered.load_full()
    }

    /// Keys in the set and its age; `None` before the first one came.
    pub fn size_and_age(&self, now: Now) -> Option<(usize, Duration)> {
        self.set.load().as_ref().map(|set| (set.keys.len(), self.age(set, now)))
    }

    /// Fetches, or waits for the fetch that runs, if the limit of `wish` lets it.
    pub async fn fetch(self: &Arc<Self>, wish: Wish<'_>, now: Now) -> Met {
        let Some((mut over, met)) = self.join_or_start(wish, now) else { return Met::Not };
        // Nothing is ever sent: the error of a lost sender is the news.
        let _ = over.changed().await;
        met
    }

    /// What does it mean that the key that was wished for is not in the set that `met` brought?
    pub fn absence(&self, wish: Wish<'_>, met: Met, now: Now) -> Absence {
        let mut flight = self.flight();
        if self.is_fixed() || flight.pace.is_hopeless(wish, now.uptime) {
            return Absence::Certain;
        }
        if flight.pace.is_failing() {
            return Absence::Doubtful;
        }
        match (wish, met) {
            (Wish::Kid(kid), Met::Joined | Met::Fetched) => {
                flight.pace.unknown.note(kid, now.uptime);
            }
            (Wish::Kid(_), Met::Not) | (Wish::AnyKey | Wish::Own, _) => {}
        }
        Absence::Certain
    }

    /// Whole seconds until it is worth asking again; at least one.
    pub fn retry_after_s(&self, now: Now) -> u64 {
        let wait = self.flight().pace.wait(now.uptime);
        (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
    }

    /// Keeps the set fresh; returns at once for keys that never change. Cancel by dropping.
    pub async fn keep_fresh(self: Arc<Self>, clock: impl Fn() -> Now) {
        while !self.is_fixed() {
            let now = clock();
            let wait = self.flight().pace.wait(now.uptime);
            if wait.is_zero() {
                self.fetch(Wish::Own, now).await;
            } else {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// PEM and shared secrets stand in the configuration itself: there is nothing to ask.
    fn is_fixed(&self) -> bool {
        match self.settings.keys {
            KeySource::Discovery | KeySource::Url(_) | KeySource::File(_) => false,
            KeySource::Pem(_) | KeySource::Secret(_) => true,
        }
    }

    fn age(&self, set: &KeySet, now: Now) -> Duration {
        now.uptime.saturating_sub(set.fetched_at)
    }

    fn age_max(&self) -> Duration {
        self.settings.jwks.max_stale.max(self.settings.jwks.ttl)
    }

    fn join_or_start(
        self: &Arc<Self>,
        wish: Wish<'_>,
        now: Now,
    ) -> Option<(watch::Receiver<()>, Met)> {
        if self.is_fixed() {
            return None;
        }
        let mut flight = self.flight();
        if flight.pace.is_hopeless(wish, now.uptime) {
            return None;
        }
        if let Some(running) = flight.running.as_ref().filter(|over| over.has_changed().is_ok()) {
            return Some((running.clone(), Met::Joined));
        }
        if !flight.pace.allows(wish, &self.settings.jwks, now.uptime) {
            return None;
        }
        let (running, over) = watch::channel(());
        flight.running = Some(over.clone());
        flight.pace.started(now.uptime);
        let keys = Arc::clone(self);
        tokio::spawn(async move {
            keys.fly(now).await;
            drop(running);
        });
        Some((over, Met::Fetched))
    }

    async fn fly(&self, started: Now) {
        let stopwatch = tokio::time::Instant::now();
        let load = source::fetch(&self.settings, self.fetcher.as_deref());
        let loaded = tokio::time::timeout(FLIGHT_TIMEOUT, load).await;
        let now = started.later(stopwatch.elapsed());
        match loaded {
            Ok(Ok(Fetched { keys, .. })) if keys.keys.is_empty() => {
                let left_out = keys.left_out.join("; ");
                self.publish(keys, now);
                self.failed(&format!("no usable key in the set: {left_out}"), now);
            }
            Ok(Ok(Fetched { keys, discovered })) => {
                self.publish(keys, now);
                self.discovered.store(Some(Arc::new(discovered)));
                self.counts.ok.fetch_add(1, Ordering::Relaxed);
                self.flight().pace.succeeded(self.settings.jwks.ttl, jitter(), now.uptime);
            }
            Ok(Err(error)) => self.failed(&error.to_string(), now),
            Err(_) => self.failed("no answer in time", now),
        }
    }

    /// Only one flight runs at a time, so nobody replaces the set between the load and the store.
    fn publish(&self, document: KeySetDocument, now: Now) {
        let old = self.set.load_full();
        let (set, change) = KeySet::following(old.as_deref(), document.keys, now.uptime);
        let generation = set.generation;
        self.set.store(Some(Arc::new(set)));
        if change.is_none() {
            return;
        }
        self.flight().pace.unknown.clear();
        let Change { added, dropped } = change;
        let issuer = &*self.settings.name;
        tracing::info!(issuer, generation, ?added, ?dropped, "key set changed");
        if !document.left_out.is_empty() {
            tracing::info!(issuer, left_out = ?document.left_out, "keys left out of the key set");
        }
    }

    fn failed(&self, error: &str, now: Now) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let retry_in = self.flight().pace.failed(now.uptime);
        let age_s = self.size_and_age(now).map(|(_, age)| age.as_secs());
        tracing::warn!(
            issuer = &*self.settings.name,
            error,
            age_s,
            retry_in_s = retry_in.as_secs(),
            "key set not fetched"
        );
    }

    /// A panic while it was held left nothing half done that matters: every field stands alone.
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 0 to 100. Without randomness there is no jitter, and no harm.
fn jitter() -> u32 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_be_bytes(bytes) % 101
}
