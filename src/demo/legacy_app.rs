//! An honest page of 1999: the app behind the gateway.
//!
//! It believes the header `X-Forwarded-User`, because whoever put it on the intranet promised that a
//! proxy sets it. It must never learn of tokens, cookies or the gateway: that is the point of it.
//! Its links are relative, so it can be put under any prefix.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};

use super::html::escape;

/// How the app takes its time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long `/slow` takes.
    pub slow: Duration,
    /// How often `/events` ticks.
    pub tick: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { slow: Duration::from_secs(3), tick: Duration::from_secs(1) }
    }
}

struct App {
    pace: Pace,
    visitors: AtomicU64,
}

/// The whole app.
pub fn router(pace: Pace) -> Router {
    let app = Arc::new(App { pace, visitors: AtomicU64::new(0) });
    Router::new()
        .route("/", get(home))
        .route("/admin/", get(admin))
        .route("/slow", get(slow))
        .route("/clock.html", get(clock))
        .route("/events", get(events))
        .route("/upload", post(upload))
        .route("/cgi-bin/printenv", get(printenv))
        .fallback(not_found)
        .with_state(app)
}

async fn home(State(app): State<Arc<App>>, headers: HeaderMap) -> Html<String> {
    let visitor = app.visitors.fetch_add(1, Ordering::Relaxed) + 1;
    let rows: String = headers
        .iter()
        .map(|(name, value)| {
            let value = escape(&String::from_utf8_lossy(value.as_bytes()));
            format!("<tr><td><tt>{name}</tt></td><td><tt>{value}</tt></td></tr>\n")
        })
        .collect();
    page(
        "Welcome",
        "",
        &format!(
            "<h1>Welcome, {user}!</h1>
<p>You are visitor number <b>{visitor:06}</b> since this server was started.</p>
<h2>Send us a file</h2>
<form action=\"upload\" method=\"post\" enctype=\"multipart/form-data\">
<input type=\"file\" name=\"file\" aria-label=\"The file\"> <input type=\"submit\" value=\"Send\"></form>
<h2>What your browser told us</h2>
<table border=\"1\" cellpadding=\"3\" cellspacing=\"0\" width=\"100%\">
<tr bgcolor=\"#CCCC99\"><th align=\"left\" width=\"40%\">Header</th><th align=\"left\">Value</th></tr>
{rows}</table>",
            user = user(&headers)
        ),
    )
}

async fn admin(headers: HeaderMap) -> Html<String> {
    page(
        "Administration",
        "../",
        &format!(
            "<h1>Administration</h1>
<p>Hello, {}. Whoever sees this page was let in by somebody else: this server asks nobody.</p>
<ul><li>Disk space: 1.2 GB free</li><li>Modem: on line</li><li>Year 2000: we are ready</li></ul>",
            user(&headers)
        ),
    )
}

async fn slow(State(app): State<Arc<App>>, headers: HeaderMap) -> Html<String> {
    tokio::time::sleep(app.pace.slow).await;
    let body = format!("<h1>Here it is</h1>\n<p>Thank you for waiting, {}.</p>", user(&headers));
    page("A slow page", "", &body)
}

async fn clock() -> Html<String> {
    let script = "<h1>The clock</h1>
<p>Seconds since you came: <b id=\"tick\">0</b></p>
<script>new EventSource('events').onmessage = function (event) {
  document.getElementById('tick').firstChild.data = event.data;
};</script>";
    page("The clock", "", script)
}

/// Ticks until the browser goes away.
async fn events(State(app): State<Arc<App>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let tick = app.pace.tick;
    Sse::new(stream::unfold(0_u64, move |count| async move {
        tokio::time::sleep(tick).await;
        Some((Ok(Event::default().data((count + 1).to_string())), count + 1))
    }))
}

/// Counts what arrives, piece by piece; keeps nothing.
async fn upload(headers: HeaderMap, body: Body) -> Response {
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut count) = (0_u64, 0_u64);
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else {
            return (StatusCode::BAD_REQUEST, "The file did not arrive whole.\n").into_response();
        };
        bytes = bytes.saturating_add(piece.len() as u64);
        count += 1;
    }
    let body = format!(
        "<h1>Thank you, {}</h1>\n<p><b>{bytes}</b> bytes arrived, in {count} pieces. \
         (They were counted and thrown away.)</p>",
        user(&headers)
    );
    page("Thank you", "", &body).into_response()
}

/// The request's headers as plain text, as such scripts did.
async fn printenv(headers: HeaderMap) -> Response {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response()
}

async fn not_found() -> Response {
    let body = "<h1>Not found</h1>\n<p>The document you asked for is not on this server.</p>";
    (StatusCode::NOT_FOUND, page("Not found", "", body)).into_response()
}

/// Who the proxy says it is, ready for HTML.
fn user(headers: &HeaderMap) -> String {
    match headers.get("x-forwarded-user") {
        Some(name) => escape(&String::from_utf8_lossy(name.as_bytes())),
        None => "stranger".into(),
    }
}

/// A page in the layout of its day. `up` leads from this page to the root.
fn page(title: &str, up: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01 Transitional//EN\" \"http://www.w3.org/TR/html4/loose.dtd\">
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - The Intranet</title>
<meta name=\"viewport\" content=\"width=device-width\">
<style type=\"text/css\">body, td, th {{ font-family: \"Times New Roman\", Times, serif }} tt {{ word-break: break-all }}</style></head>
<body bgcolor=\"#FFFFFF\" text=\"#000000\" link=\"#0000EE\" vlink=\"#551A8B\">
<table border=\"0\" cellpadding=\"8\" cellspacing=\"0\" width=\"100%\">
<tr><td colspan=\"2\" bgcolor=\"#000066\"><font color=\"#FFFFFF\" size=\"5\"><b><i>The Intranet</i></b></font></td></tr>
<tr valign=\"top\"><td bgcolor=\"#CCCC99\" width=\"22%\">
<p><a href=\"{up}./\">Home</a></p><p><a href=\"{up}slow\">Slow page</a></p><p><a href=\"{up}clock.html\">Clock</a></p>
<p><a href=\"{up}cgi-bin/printenv\">printenv</a></p><p><a href=\"{up}admin/\">Admin</a></p></td>
<td>
{body}
</td></tr></table>
<hr><p align=\"center\"><font size=\"2\">Best viewed at 800 x 600. Last updated 31 December 1999.</font></p>
</body></html>
"
    ))
}

#[cfg(test)]
mod tests;
