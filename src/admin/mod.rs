//! The private listener: is the process alive, is it ready, what has it counted.
//!
//! `/livez` says that the process runs; `/readyz` says 503 while an issuer's keys were never fetched
//! or the gateway drains, with a line for each; `/metrics` is Prometheus' text format. One path changes
//! something: `POST /sessions/revoke` ([`revoke`]).

mod revoke;

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::metrics::Metrics;

pub use self::revoke::Revoker;

/// What is not ready, one line each; none means ready.
pub type Unready = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

pub struct Admin {
    pub metrics: Arc<Metrics>,
    /// Brings gauges up to date before they are rendered.
    pub observe: Arc<dyn Fn() + Send + Sync>,
    pub unready: Unready,
    pub revoker: Revoker,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        if session.req_header().uri.path() == "/sessions/revoke" {
            let (status, word) = self.revoker.revoke(session).await;
            if status.is_client_error() {
                // What it may not have read of the body must not become the next request.
                session.set_keepalive(None);
            }
            let body = if word.is_empty() { word } else { word + "\n" };
            return text(status, body.into_bytes(), false);
        }
        let request = session.req_header();
        let head = request.method == Method::HEAD;
        if !head && request.method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into(), head);
        }
        match request.uri.path() {
            "/livez" => text(StatusCode::OK, "alive\n".into(), head),
            "/readyz" => {
                let unready = (self.unready)();
                if unready.is_empty() {
                    text(StatusCode::OK, "ready\n".into(), head)
                } else {
                    let lines = unready.join("\n") + "\n";
                    text(StatusCode::SERVICE_UNAVAILABLE, lines.into_bytes(), head)
                }
            }
            "/metrics" => {
                (self.observe)();
                match self.metrics.render() {
                    Ok(metrics) => text(StatusCode::OK, metrics, head),
                    Err(error) => {
                        tracing::error!(%error, "cannot render metrics");
                        text(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n".into(), head)
                    }
                }
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "/livez /readyz /metrics, POST /sessions/revoke\n".into(),
                head,
            ),
        }
    }
}

fn text(status: StatusCode, body: Vec<u8>, head: bool) -> Response<Vec<u8>> {
    let length = body.len();
    let mut response = Response::new(if head { Vec::new() } else { body });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; version=0.0.4"));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, http::HeaderValue::from(length));
    response
}
