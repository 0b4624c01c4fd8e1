//! From what the rooms count to metrics, and to whoever watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prometheus::IntCounter;

use crate::admin::Unready;
use crate::clock;
use crate::listen::Connections;
use crate::metrics::Metrics;
use crate::proxy::observe::{Event, Observer};
use crate::refresh::{
    self, BudgetResult, EndReason, FlightResult, RedisStore, RefreshEvent, Refresher, Trigger,
};
use crate::session::denials::Denials;
use crate::token::Tokens;

/// Counts refresh events and tells the edge's observer of those that people watch.
pub fn refresh_observer(metrics: &Arc<Metrics>, observer: Option<Observer>) -> refresh::Observer {
    let metrics = Arc::clone(metrics);
    Arc::new(move |event| {
        count(&metrics, event);
        if let Some(observer) = &observer
            && let Some(event) = watched(event)
        {
            observer(event);
        }
    })
}

fn count(metrics: &Metrics, event: &RefreshEvent) {
    let refresh = &metrics.refresh;
    let refreshed = |issuer: &str, trigger: Trigger, result: &str| {
        refresh.total.with_label_values(&[issuer, trigger_word(trigger), result]).inc();
    };
    match event {
        RefreshEvent::Shared { issuer, trigger } => refreshed(issuer, *trigger, "shared"),
        RefreshEvent::Delivered { issuer, trigger } => refreshed(issuer, *trigger, "delivered"),
        RefreshEvent::Finished { issuer, trigger, result, took, .. } => {
            refreshed(issuer, *trigger, result_word(*result));
            refresh.seconds.observe(took.as_secs_f64());
        }
        RefreshEvent::Redelivered { .. } => refresh.redelivered.inc(),
        RefreshEvent::SpentShown { .. } => refresh.spent_token_presented.inc(),
        RefreshEvent::Ended { reason, .. } => {
            refresh.sessions_ended.with_label_values(&[end_word(*reason)]).inc();
        }
        RefreshEvent::Breaker { issuer, open } => {
            refresh.breaker_open.with_label_values(&[issuer.as_ref()]).set(i64::from(*open));
        }
        RefreshEvent::Budget { issuer, result } => {
            refresh.budget.with_label_values(&[issuer.as_ref(), budget_word(*result)]).inc();
        }
        RefreshEvent::Started { .. }
        | RefreshEvent::Rotated { .. }
        | RefreshEvent::ForeignShown { .. }
        | RefreshEvent::Failed { .. }
        | RefreshEvent::Misconfigured { .. }
        | RefreshEvent::LedgerFull { .. } => {}
    }
}

fn watched(event: &RefreshEvent) -> Option<Event<'static>> {
    match event {
        RefreshEvent::Started { trigger, .. } => {
            Some(Event::RefreshStarted { trigger: trigger_word(*trigger) })
        }
        RefreshEvent::Finished { result, shared_by, took, .. } => Some(Event::RefreshFinished {
            result: result_word(*result),
            shared_by: u64::from(*shared_by),
            took_ms: took.as_millis().try_into().unwrap_or(u64::MAX),
        }),
        RefreshEvent::Shared { .. }
        | RefreshEvent::Delivered { .. }
        | RefreshEvent::Rotated { .. }
        | RefreshEvent::Redelivered { .. }
        | RefreshEvent::SpentShown { .. }
        | RefreshEvent::ForeignShown { .. }
        | RefreshEvent::Ended { .. }
        | RefreshEvent::Failed { .. }
        | RefreshEvent::Misconfigured { .. }
        | RefreshEvent::Breaker { .. }
        | RefreshEvent::Budget { .. }
        | RefreshEvent::LedgerFull { .. } => None,
    }
}

fn trigger_word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Window => "window",
        Trigger::Expired => "expired",
        Trigger::Client { urgent: _ } => "client",
    }
}

fn result_word(result: FlightResult) -> &'static str {
    match result {
        FlightResult::Ok => "ok",
        FlightResult::Shared => "shared",
        FlightResult::Refused => "refused",
        FlightResult::Transient => "transient",
        FlightResult::Ambiguous => "ambiguous",
        FlightResult::Misconfigured => "misconfigured",
    }
}

fn budget_word(result: BudgetResult) -> &'static str {
    match result {
        BudgetResult::Queued => "queued",
        BudgetResult::Full => "full",
        BudgetResult::Postponed => "postponed",
    }
}

fn end_word(reason: EndReason) -> &'static str {
    match reason {
        EndReason::LoggedOut => "logged_out",
        EndReason::Refused => "refused",
        EndReason::WrongSubject => "wrong_subject",
        EndReason::WrongIssuer => "wrong_issuer",
        EndReason::WrongAudience => "wrong_audience",
        EndReason::Lost => "lost",
        EndReason::Reuse => "reuse",
        EndReason::Evicted => "evicted",
    }
}

/// Brings to date what is read when metrics are asked for, not counted as it happens.
pub fn observe(
    metrics: &Arc<Metrics>,
    tokens: &Arc<Tokens>,
    refresher: &Arc<Refresher>,
    denials: &Arc<Denials>,
    connections: &Connections,
    store: Option<Arc<RedisStore>>,
) -> Arc<dyn Fn() + Send + Sync> {
    let (metrics, tokens, refresher) =
        (Arc::clone(metrics), Arc::clone(tokens), Arc::clone(refresher));
    let (denials, connections) = (Arc::clone(denials), connections.clone());
    // One at a time: two scrapes at once would both raise a counter by the same difference.
    let turn = Mutex::new(());
    Arc::new(move || {
        let _turn = turn.lock();
        observe_tokens(&metrics, &tokens);
        observe_sessions(&metrics, &refresher);
        metrics.denials.set(count_of(denials.len()));
        metrics.connections.set(count_of(connections.open()));
        let degraded = store.as_ref().is_some_and(|store| store.is_degraded());
        metrics.refresh.store_degraded.set(i64::from(degraded));
    })
}

fn observe_tokens(metrics: &Metrics, tokens: &Tokens) {
    let stats = tokens.stats();
    raise(&metrics.tokens.cache_hits, stats.cache_hits());
    raise(&metrics.tokens.cache_misses, stats.cache_misses());
    for (result, count) in stats.verifications() {
        raise(&metrics.tokens.verifications.with_label_values(&[result]), count);
    }
    for issuer in tokens.issuer_stats(clock::now()) {
        let name = issuer.name.as_ref();
        let age = issuer.key_set_age_s.map_or(-1, |age| i64::try_from(age).unwrap_or(i64::MAX));
        metrics.tokens.key_set_age_seconds.with_label_values(&[name]).set(age);
        metrics.tokens.key_set_keys.with_label_values(&[name]).set(count_of(issuer.keys));
        let fetches = |result| metrics.tokens.key_set_fetches.with_label_values(&[name, result]);
        raise(&fetches("ok"), issuer.fetches_ok);
        raise(&fetches("failed"), issuer.fetches_failed);
    }
}

fn observe_sessions(metrics: &Metrics, refresher: &Refresher) {
    let gauges = refresher.gauges();
    metrics.refresh.in_flight.set(count_of(gauges.in_flight));
    metrics.refresh.waiters.set(count_of(gauges.waiters));
    let sessions = gauges.sessions;
    for (state, count) in [
        ("idle", sessions.idle),
        ("running", sessions.running),
        ("cooling", sessions.cooling),
        ("dead", sessions.dead),
        ("ended", sessions.ended),
    ] {
        metrics.refresh.sessions.with_label_values(&[state]).set(count_of(count));
    }
}

/// Raises a counter to a total that is kept elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn count_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What keeps the gateway from being ready.
///
/// `denials`: the deny list, where a gateway that has not read it must not be asked.
pub fn unready(
    tokens: &Arc<Tokens>,
    denials: Option<Arc<Denials>>,
    draining: &Arc<AtomicBool>,
) -> Unready {
    let (tokens, draining) = (Arc::clone(tokens), Arc::clone(draining));
    Arc::new(move || {
        let mut lines: Vec<String> = tokens
            .issuer_stats(clock::now())
            .into_iter()
            .filter(|issuer| !issuer.usable)
            .map(|issuer| format!("issuer {}: no keys", issuer.name))
            .collect();
        if denials.as_ref().is_some_and(|denials| !denials.is_read()) {
            lines.push("store: the deny list was not read yet".to_owned());
        }
        if draining.load(Ordering::Acquire) {
            lines.push("draining".to_owned());
        }
        lines
    })
}
