//! Every metric's name, in one file. All start with `evergate_`.
//!
//! Labels come only from configured names (routes, issuers) and from closed lists: no client can
//! grow a metric.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// From 1 ms to 30 s: what a person notices.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// From 5 µs to 50 ms: the gateway's own work.
const OVERHEAD_SECONDS: &[f64] =
    &[0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.05];

/// Everything the gateway counts.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    pub overhead_seconds: Histogram,
    decisions: IntCounterVec,
    pub tokens: TokenMetrics,
    pub refresh: RefreshMetrics,
    pub denials: IntGauge,
    pub sessions_over: IntCounterVec,
    pub revocations: IntCounterVec,
    pub backend_revocations: IntCounterVec,
    pub backchannel_logouts: IntCounterVec,
    pub connections: IntGauge,
    pub streams: StreamMetrics,
    pub script_injections: IntCounterVec,
    pub panics: IntCounter,
}

/// Open streams: WebSockets, event streams, long downloads.
#[derive(Clone)]
pub struct StreamMetrics {
    pub open: IntGauge,
    pub cut: IntCounterVec,
}

/// Tokens and the keys they are verified with.
pub struct TokenMetrics {
    pub verifications: IntCounterVec,
    pub cache_hits: IntCounter,
    pub cache_misses: IntCounter,
    pub key_set_age_seconds: IntGaugeVec,
    pub key_set_keys: IntGaugeVec,
    pub key_set_fetches: IntCounterVec,
}

/// Flights and session records.
pub struct RefreshMetrics {
    pub total: IntCounterVec,
    pub seconds: Histogram,
    pub in_flight: IntGauge,
    pub waiters: IntGauge,
    pub overlap: IntCounterVec,
    pub held_header_seconds: Histogram,
    pub redelivered: IntCounter,
    pub sessions: IntGaugeVec,
    pub spent_token_presented: IntCounter,
    pub sessions_ended: IntCounterVec,
    pub breaker_open: IntGaugeVec,
    pub budget: IntCounterVec,
    pub store_degraded: IntGauge,
}

/// One route's metrics, their labels resolved once.
pub struct RouteMetrics {
    name: Arc<str>,
    requests: IntCounterVec,
    seconds: Histogram,
    /// Those that went as they should: forwarded, or served by an endpoint.
    passed: IntCounter,
    decisions: IntCounterVec,
    /// By method and status, for the statuses that nearly every response has.
    common: [[OnceLock<IntCounter>; COMMON_STATUSES.len()]; METHODS.len()],
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const COMMON_STATUSES: [u16; 8] = [200, 204, 302, 304, 401, 403, 404, 206];

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// Two metrics share a name: a mistake of ours, found at start.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let r = Registry::new();
        Ok(Metrics {
            requests: counters(
                &r,
                "requests_total",
                "Answered requests.",
                &["route", "method", "code"],
            )?,
            request_seconds: {
                let opts = HistogramOpts::new(
                    "evergate_request_seconds",
                    "From the request's head to the end of its response.",
                )
                .buckets(SECONDS.to_vec());
                registered(&r, HistogramVec::new(opts, &["route"])?)?
            },
            overhead_seconds: histogram(
                &r,
                "overhead_seconds",
                "The gateway's own work before a request is forwarded or answered, without waiting \
                 for a refresh.",
                OVERHEAD_SECONDS,
            )?,
            decisions: counters(
                &r,
                "decisions_total",
                "Decisions by reason; `ok` was forwarded, or served by an endpoint of the gateway.",
                &["route", "decision", "reason"],
            )?,
            tokens: TokenMetrics::new(&r)?,
            refresh: RefreshMetrics::new(&r)?,
            denials: gauge(&r, "denials", "Entries of the deny list.")?,
            sessions_over: counters(
                &r,
                "sessions_over_total",
                "Sessions that a limit of their life ended, by limit; unknown: nothing told when they began.",
                &["limit"],
            )?,
            revocations: counters(
                &r,
                "revocations_total",
                "Entries that this gateway put on the deny list, by what asked for it.",
                &["source"],
            )?,
            backend_revocations: counters(
                &r,
                "backend_revocations_total",
                "Refresh tokens that the auth backend was asked to revoke at a logout.",
                &["issuer", "result"],
            )?,
            backchannel_logouts: counters(
                &r,
                "backchannel_logouts_total",
                "Logout tokens that auth backends sent.",
                &["issuer", "result"],
            )?,
            connections: gauge(&r, "connections", "Open client connections.")?,
            streams: StreamMetrics {
                open: gauge(
                    &r,
                    "streams_open",
                    "Open WebSockets, event streams and long downloads of sessions.",
                )?,
                cut: counters(&r, "streams_cut_total", "Streams cut, by reason.", &["reason"])?,
            },
            script_injections: counters(
                &r,
                "script_injections_total",
                "Pages of routes with `inject_script`: `injected`, or why they were left as they came.",
                &["result"],
            )?,
            panics: counter(&r, "panics_total", "Panics caught in request handlers.")?,
            registry: r,
        })
    }

    /// Resolves one route's labels.
    pub fn route(&self, name: &Arc<str>) -> RouteMetrics {
        self.labelled(name, "forward")
    }

    /// The same for an endpoint of the gateway's own.
    pub fn endpoint(&self, label: &Arc<str>) -> RouteMetrics {
        self.labelled(label, "serve")
    }

    fn labelled(&self, name: &Arc<str>, passes: &str) -> RouteMetrics {
        RouteMetrics {
            name: Arc::clone(name),
            requests: self.requests.clone(),
            seconds: self.request_seconds.with_label_values(&[name]),
            passed: self.decisions.with_label_values(&[name.as_ref(), passes, "ok"]),
            decisions: self.decisions.clone(),
            common: Default::default(),
        }
    }

    /// The text exposition format, version 0.0.4.
    ///
    /// # Errors
    /// A metric without a value: a mistake of ours.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

impl TokenMetrics {
    fn new(r: &Registry) -> Result<TokenMetrics, prometheus::Error> {
        Ok(TokenMetrics {
            verifications: counters(
                r,
                "verifications_total",
                "Tokens verified, by result.",
                &["result"],
            )?,
            cache_hits: counter(r, "verified_token_cache_hits_total", "Tokens found verified.")?,
            cache_misses: counter(
                r,
                "verified_token_cache_misses_total",
                "Tokens that had to be verified.",
            )?,
            key_set_age_seconds: gauges(
                r,
                "key_set_age_seconds",
                "Since the issuer's key set was fetched; -1: never.",
                &["issuer"],
            )?,
            key_set_keys: gauges(r, "key_set_keys", "Usable keys of the issuer.", &["issuer"])?,
            key_set_fetches: counters(
                r,
                "key_set_fetches_total",
                "Fetches of key sets.",
                &["issuer", "result"],
            )?,
        })
    }
}

impl RefreshMetrics {
    fn new(r: &Registry) -> Result<RefreshMetrics, prometheus::Error> {
        Ok(RefreshMetrics {
            total: counters(
                r,
                "refresh_total",
                "Refreshes by what asked for them and how they ended; `shared` joined a running flight, `delivered` was served from the session record.",
                &["issuer", "trigger", "result"],
            )?,
            seconds: histogram(r, "refresh_seconds", "Calls to the auth backend.", SECONDS)?,
            in_flight: gauge(r, "refresh_in_flight", "Flights that run now.")?,
            waiters: gauge(r, "refresh_waiters", "Requests that wait for a flight now.")?,
            overlap: counters(
                r,
                "refresh_overlap_total",
                "Flights in the window: done before the upstream's header (in_time), while it was held, or later.",
                &["result"],
            )?,
            held_header_seconds: histogram(
                r,
                "held_header_seconds",
                "How long response headers were held for new cookies.",
                SECONDS,
            )?,
            redelivered: counter(
                r,
                "redelivered_total",
                "New cookies sent again, because the browser had not shown them.",
            )?,
            sessions: gauges(r, "sessions", "Session records by state.", &["state"])?,
            spent_token_presented: counter(
                r,
                "spent_token_presented_total",
                "Refresh tokens shown after their successor was in use.",
            )?,
            sessions_ended: counters(
                r,
                "sessions_ended_total",
                "Sessions that ended, by reason.",
                &["reason"],
            )?,
            breaker_open: gauges(
                r,
                "breaker_open",
                "1 while the token endpoint is left alone.",
                &["issuer"],
            )?,
            budget: counters(
                r,
                "refresh_budget_total",
                "Refreshes that the budget did not let depart at once.",
                &["issuer", "result"],
            )?,
            store_degraded: gauge(
                r,
                "store_degraded",
                "1 while the shared store does not answer and is left alone.",
            )?,
        })
    }
}

impl RouteMetrics {
    /// A request of this route was answered with `status`, `seconds` after its head.
    pub fn answered(&self, method: &http::Method, status: u16, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        let method = method_index(method);
        let counter = COMMON_STATUSES
            .iter()
            .position(|common| *common == status)
            .and_then(|status| self.common.get(method)?.get(status));
        match counter {
            Some(counter) => counter.get_or_init(|| self.counter(method, status)).inc(),
            None => self.counter(method, status).inc(),
        }
    }

    /// It went as it should.
    pub fn passed(&self) {
        self.passed.inc();
    }

    pub fn refused(&self, reason: &'static str) {
        self.decisions.with_label_values(&[self.name.as_ref(), "answer", reason]).inc();
    }

    fn counter(&self, method: usize, status: u16) -> IntCounter {
        let method = METHODS.get(method).copied().unwrap_or("other");
        let mut digits = [0u8; 3];
        self.requests.with_label_values(&[self.name.as_ref(), method, code(status, &mut digits)])
    }
}

fn code(status: u16, digits: &mut [u8; 3]) -> &str {
    let [hundreds, tens, ones] = digits;
    *hundreds = b'0' + (status / 100 % 10) as u8;
    *tens = b'0' + (status / 10 % 10) as u8;
    *ones = b'0' + (status % 10) as u8;
    std::str::from_utf8(digits).unwrap_or("000")
}

fn method_index(method: &http::Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

fn registered<C: Collector + Clone + 'static>(r: &Registry, c: C) -> Result<C, prometheus::Error> {
    r.register(Box::new(c.clone()))?;
    Ok(c)
}

fn full(name: &str) -> String {
    format!("evergate_{name}")
}

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(r, IntCounter::new(full(name), help)?)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    registered(r, IntGauge::new(full(name), help)?)
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    registered(r, IntCounterVec::new(Opts::new(full(name), help), labels)?)
}

fn gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    registered(r, IntGaugeVec::new(Opts::new(full(name), help), labels)?)
}

fn histogram(
    r: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let opts = HistogramOpts::new(full(name), help).buckets(buckets.to_vec());
    registered(r, Histogram::with_opts(opts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_outside_the_common_ones_is_counted_under_its_own_code() {
        let metrics = Metrics::new().unwrap();
        let route = metrics.route(&Arc::from("app"));
        route.answered(&http::Method::GET, 418, Duration::from_millis(3));
        route.answered(&http::Method::from_bytes(b"BREW").unwrap(), 200, Duration::ZERO);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|l| l.starts_with("evergate_requests_total")).collect();
        assert_eq!(
            lines,
            [
                r#"evergate_requests_total{code="200",method="other",route="app"} 1"#,
                r#"evergate_requests_total{code="418",method="GET",route="app"} 1"#,
            ]
        );
    }
}
