//! The front page of the demo, as an ordinary upstream behind the gateway.
//!
//! One HTML file, the stream of events, and the few switches that the page has. The gateway decides
//! who may press them (see the routes in `config_file.rs`); this server checks only that a press came
//! from its own page. It sees no token: what it knows of a person it reads from identity headers.
//!
//! A page cannot break its own HttpOnly cookie. To show that a broken token is refused, this server
//! makes broken ones from a token of a session that exists nowhere, and presents them to the
//! gateway itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use serde_json::json;

use super::auth_backend::AuthBackend;
use super::controls::{Availability, Stats};
use super::forge::{Forgery, forgeries};
use super::html::{content_security_policy, is_same_origin};
use super::http_client::reason;
use super::tokens::TokenError;
use super::users::ALICE;

const PAGE: &str = include_str!("front.html");

/// The gateway's cookie name with `secure: false`, as the generated configuration leaves it.
pub(super) const ACCESS_COOKIE: &str = "evergate_access";

/// Keeps the stream of events alive through proxies that close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The front page's state.
pub struct Front {
    backend: Arc<AuthBackend>,
    /// Presents forged tokens.
    client: reqwest::Client,
    /// Known once the gateway runs.
    gateway: OnceLock<SocketAddr>,
    policy: HeaderValue,
}

/// What the gateway said to one forged token.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    what: &'static str,
    status: u16,
    reason: Option<String>,
}

impl Front {
    pub fn new(backend: Arc<AuthBackend>, client: reqwest::Client) -> Front {
        // Base64 and constants: this cannot fail, and if it did, the page could do nothing.
        let policy = HeaderValue::try_from(content_security_policy(PAGE))
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Front { backend, client, gateway: OnceLock::new(), policy }
    }

    /// Says where the gateway listens; the first answer counts.
    pub fn gateway_is(&self, address: SocketAddr) {
        let _ = self.gateway.set(address);
    }
}

/// Everything the front server answers.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/demo/events", get(events))
        .route("/demo/me", get(me))
        .route("/demo/stats", get(stats))
        .route("/demo/start", post(start))
        .route("/demo/control/stop", post(stop))
        .route("/demo/control/rotate", post(rotate))
        .route("/demo/control/tamper", post(tamper))
        .layer(middleware::from_fn(own_page_only))
        .with_state(front)
}

/// What changes something must come from our own page.
async fn own_page_only(request: Request, next: Next) -> Response {
    if request.method() == Method::POST && !is_same_origin(request.headers()) {
        return (StatusCode::FORBIDDEN, "This did not come from our own page.\n").into_response();
    }
    next.run(request).await
}

async fn page(State(front): State<Arc<Front>>) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, front.policy.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Html(PAGE)).into_response()
}

/// Everything that happens from now on, as server-sent events.
async fn events(
    State(front): State<Arc<Front>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let watcher = front.backend.controls.events.watch();
    let stream = stream::unfold(watcher, |mut watcher| async {
        let happened = watcher.next().await?;
        // Our events are plain data: they always have a JSON form.
        let event = Event::default().json_data(happened).unwrap_or_default();
        Some((Ok(event), watcher))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Who asks, as the gateway says it.
async fn me(headers: HeaderMap) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let body = json!({
        "user": text("x-forwarded-user"),
        "roles": text("x-demo-roles"),
        "exp": text("x-demo-expires").and_then(|exp| exp.parse::<u64>().ok()),
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn stats(State(front): State<Arc<Front>>) -> Json<Stats> {
    Json(front.backend.controls.stats())
}

async fn start(State(front): State<Arc<Front>>) -> Json<Stats> {
    front.backend.controls.start();
    Json(front.backend.controls.stats())
}

async fn stop(State(front): State<Arc<Front>>) -> Json<Stats> {
    front.backend.controls.stop(Availability::Refusing);
    Json(front.backend.controls.stats())
}

async fn rotate(State(front): State<Arc<Front>>) -> Result<Json<Stats>, TokenError> {
    front.backend.controls.rotate_key()?;
    Ok(Json(front.backend.controls.stats()))
}

/// Presents forged tokens to the gateway and tells what it said.
async fn tamper(State(front): State<Arc<Front>>) -> Result<Response, TokenError> {
    let Some(gateway) = front.gateway.get() else {
        let why = "The gateway does not run in this process.\n";
        return Ok((StatusCode::SERVICE_UNAVAILABLE, why).into_response());
    };
    let good = front.backend.throwaway_token(&ALICE)?;
    let mut outcomes = Vec::new();
    for forgery in forgeries(&good) {
        match present(&front.client, *gateway, &forgery).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(_) => {
                let why = "The gateway did not answer.\n";
                return Ok((StatusCode::BAD_GATEWAY, why).into_response());
            }
        }
    }
    Ok(Json(outcomes).into_response())
}

async fn present(
    client: &reqwest::Client,
    gateway: SocketAddr,
    forgery: &Forgery,
) -> Result<Outcome, reqwest::Error> {
    let answer = client
        .get(format!("http://{gateway}/app/"))
        .header(header::COOKIE, format!("{ACCESS_COOKIE}={}", forgery.token.expose()))
        .send()
        .await?;
    let status = answer.status().as_u16();
    let reason = reason(&answer.text().await?);
    Ok(Outcome { what: forgery.what, status, reason })
}

#[cfg(test)]
mod tests;
