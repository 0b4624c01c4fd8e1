//! What everybody sees of a row: the client, the backend, the app, and who counts.

use std::collections::BTreeMap;

use super::super::support::backend::{Counts, Pair};
use super::super::support::*;
use super::arrange::FIRST;

/// What the client got.
pub fn answered(reply: &Reply, from_app: bool, world: &World) -> String {
    let mut told = reply.status.to_string();
    let header = |name| reply.head.get(name);
    let json = header("content-type") == Some("application/json");
    if !from_app && json && !reply.body.is_empty() {
        told += &format!(" {}", reply.reason());
    } else if !from_app && header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
    {
        told += if reply.text().contains("http-equiv=\"refresh\"") {
            " page, reloads"
        } else {
            " page"
        };
    } else if !from_app && reply.text().starts_with("retry: ") {
        told += " retry: and the end";
    }
    for name in ["location", "retry-after"] {
        told += &header(name).map(|value| format!(" {name}={value}")).unwrap_or_default();
    }
    assert!(!reply.cookies().values().any(client::SetCookie::clears), "a cookie was cleared");
    match reply.new_pair() {
        None => assert!(reply.cookies().is_empty(), "half a pair"),
        Some(Pair { refresh, .. }) if refresh.is_empty() => told += " +access",
        Some(Pair { refresh, .. }) => {
            assert!(world.backend.is_alive(&refresh), "a dead token was delivered");
            told += " +pair";
        }
    }
    told
}

/// What can be seen from outside at one moment.
pub struct Look {
    calls: usize,
    pub served: usize,
    counted: BTreeMap<String, f64>,
    counts: Counts,
}

impl Look {
    pub async fn at(world: &World) -> Look {
        let text = world.gateway.metrics().await.0;
        let counted = text.lines().filter_map(series).collect();
        let (calls, served) = (world.backend.token_calls(), served(world).len());
        Look { calls, served, counted, counts: world.backend.counts() }
    }

    /// When no flight is on its way any more.
    pub async fn settled(world: &World) -> Look {
        eventually("every flight has landed", async || {
            world.gateway.metrics().await.value("evergate_refresh_in_flight") == 0.0
        })
        .await;
        // What a landing counts is counted right after it.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        Look::at(world).await
    }

    /// Calls to the backend, who was served, and what was counted, from this look to `after`.
    pub fn until(&self, after: &Look, world: &World) -> String {
        let calls = match (after.calls - self.calls, after.counts.grants - self.counts.grants) {
            (0, 0) => "not asked".to_string(),
            (0, 1) => "joined a call".to_string(),
            (1, 0) => "1 call".to_string(),
            (1, 1) => "1 grant".to_string(),
            (calls, grants) => format!("{calls} calls, {grants} grants"),
        };
        let served = &served(world)[self.served..after.served];
        let who: Vec<String> = served.iter().map(identity).collect();
        let who = if who.is_empty() { "nobody".to_string() } else { who.join(", ") };
        let moved = after.counted.iter().filter_map(|(name, value)| {
            let by = value - self.counted.get(name).copied().unwrap_or(0.0);
            (by != 0.0).then(|| format!("{name}{by:+}"))
        });
        let moved: Vec<String> = moved.collect();
        let moved = if moved.is_empty() { "nothing".to_string() } else { moved.join(" ") };
        format!("{calls} | {who} | {moved}")
    }
}

/// What the app served of the row's own requests.
pub fn served(world: &World) -> Vec<upstream::Seen> {
    let mut seen = world.upstream.record.all();
    seen.retain(|seen| seen.target != FIRST);
    seen
}

/// The app's idea of who asks: `alice`, and by which token (its roles say when it was made).
fn identity(seen: &upstream::Seen) -> String {
    let user = seen.head.get("x-forwarded-user").unwrap_or("anonymous");
    let roles = seen.head.get("x-forwarded-groups").unwrap_or_default();
    format!("{user} {}", roles.trim_start_matches("staff").trim_start_matches(',')).trim().into()
}

/// The metrics of refreshing in few letters. Whether a flight was done before the app's answer or
/// while it was held is chance here (`window.rs` has both).
fn series(line: &str) -> Option<(String, f64)> {
    let short = [
        ("evergate_refresh_total{issuer=\"default\",", "refresh{"),
        ("evergate_refresh_overlap_total{", "overlap{"),
        ("evergate_redelivered_total", "redelivered"),
        ("evergate_sessions{", "sessions{"),
        ("evergate_spent_token_presented_total", "spent"),
        ("evergate_sessions_ended_total{", "ended{"),
        ("evergate_breaker_open{", "breaker_open{"),
    ];
    let (series, value) = line.rsplit_once(' ')?;
    let (long, short) = short.iter().find(|(long, _)| series.starts_with(long))?;
    let name = series.replacen(long, short, 1).replace('"', "");
    let name = name.replace("result=in_time", "in time").replace("result=held", "in time");
    let labels = ["result=", "trigger=", "state=", "reason=", "issuer=default"];
    let name = labels.iter().fold(name, |name, label| name.replace(label, ""));
    Some((name.replace("{}", ""), value.parse().ok()?))
}
