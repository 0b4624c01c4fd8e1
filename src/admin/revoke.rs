//! `POST /sessions/revoke`: an operator ends a token, a session or a person.
//!
//! 1. The body is one JSON object with exactly one of `jti`, `sid` and `sub`, and perhaps the name of
//!    an issuer; without one it is denied for every issuer. What else is in it is refused: a
//!    misspelt limit must not revoke more or less than was meant.
//! 2. The listener is private, but a browser on the same machine reaches it, too. Browsers say where a
//!    request comes from (`Origin`, `Sec-Fetch-Site`); whatever says so is refused.
//! 3. Each revocation is an audit line, also one that failed.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, ORIGIN};
use http::{Method, StatusCode};
use pingora::protocols::http::ServerSession;
use serde::Deserialize;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::claims::IssuerId;
use crate::policy::time::Now;
use crate::session::denials::{DENIED_FOR, Denial, Denials, Denied, Full, Issued};

/// Three names of the longest kind that a token can have.
const BODY_BYTES_MAX: usize = 4 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// As in a token.
const NAME_BYTES_MAX: usize = 1_024;
/// A person's tokens are denied that were issued up to this long after: another gateway may renew one
/// before it hears, and clocks differ.
const HEARD_AFTER_S: u64 = 2;
/// How long the answer waits for the other gateways' store.
const STORE_WAIT: Duration = Duration::from_millis(500);

/// Takes revocations.
pub struct Revoker {
    pub denials: Arc<Denials>,
    /// By `IssuerId`.
    pub issuer_names: Vec<Arc<str>>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

/// What is answered: a status, and a sentence for the operator.
pub type Word = (StatusCode, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    jti: Option<Box<str>>,
    sid: Option<Box<str>>,
    sub: Option<Box<str>>,
    issuer: Option<Box<str>>,
}

impl Revoker {
    /// Reads one request and does what it says.
    pub async fn revoke(&self, session: &mut ServerSession) -> Word {
        let judged = judge_head(&session.req_header().method, &session.req_header().headers);
        let body = match judged {
            Ok(()) => read(session).await,
            Err(word) => Err(word),
        };
        let result = match body.and_then(|body| self.denials_of(&body, (self.clock)())) {
            Ok(denials) => self.deny(&denials).await,
            Err(word) => Err(word),
        };
        result.unwrap_or_else(|(status, text)| {
            tracing::warn!(target: "audit", status = status.as_u16(), problem = %text, "not revoked");
            (status, text)
        })
    }

    async fn deny(&self, denials: &[Denial]) -> Result<Word, Word> {
        let now = (self.clock)().unix;
        for denial in denials {
            self.denials.deny(denial, now).map_err(|full: Full| {
                (StatusCode::SERVICE_UNAVAILABLE, format!("{full}: entries lapse with their tokens; until then revoke at the auth backend"))
            })?;
            self.metrics.revocations.with_label_values(&["admin"]).inc();
            let issuer = self.issuer_names.get(usize::from(denial.issuer.0));
            let issuer = issuer.map_or("-", |name| name);
            let (kind, name) = match &denial.what {
                Denied::Token(id) => ("jti", id),
                Denied::Session { id, .. } => ("sid", id),
                Denied::Person { subject, .. } | Denied::Unnamed { subject, .. } => {
                    ("sub", subject)
                }
            };
            // As a debug text: what an operator's tool sends may hold control bytes.
            tracing::info!(target: "audit", issuer, kind, name = ?name, "revoked");
        }
        if self.denials.written_within(STORE_WAIT).await {
            return Ok((StatusCode::NO_CONTENT, String::new()));
        }
        let text = "revoked at this gateway; the shared store does not answer, the others follow when it does";
        Ok((StatusCode::ACCEPTED, text.to_owned()))
    }

    fn denials_of(&self, body: &[u8], now: Now) -> Result<Vec<Denial>, Word> {
        let bad = |text: String| (StatusCode::BAD_REQUEST, text);
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            bad(format!("the body must be like {{\"sid\": \"…\", \"issuer\": \"…\"}}: {error}"))
        })?;
        // Whole seconds: what was issued within this one, too.
        let issued = Issued::Before(now.unix.plus(HEARD_AFTER_S + 1));
        let named = [
            body.jti.map(Denied::Token),
            body.sid.map(|id| Denied::Session { id, issued: Issued::AnyTime }),
            body.sub.map(|subject| Denied::Person { subject, issued }),
        ];
        let mut named = named.into_iter().flatten();
        let (Some(what), None) = (named.next(), named.next()) else {
            return Err(bad("name exactly one of jti, sid and sub".to_owned()));
        };
        let (Denied::Token(name)
        | Denied::Session { id: name, .. }
        | Denied::Person { subject: name, .. }
        | Denied::Unnamed { subject: name, .. }) = &what;
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return Err(bad(format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let lapses = now.unix.plus(DENIED_FOR.as_secs());
        let issuers = (0..).map(IssuerId).zip(&self.issuer_names);
        let denials: Vec<_> = issuers
            .filter(|(_, name)| {
                body.issuer.as_ref().is_none_or(|only| only.as_ref() == name.as_ref())
            })
            .map(|(issuer, _)| Denial { issuer, what: what.clone(), lapses })
            .collect();
        if denials.is_empty() {
            return Err(bad(format!(
                "no such issuer; there are: {}",
                self.issuer_names.join(", ")
            )));
        }
        Ok(denials)
    }
}

fn judge_head(method: &Method, headers: &HeaderMap) -> Result<(), Word> {
    let says = |status, text: &str| Err((status, text.to_owned()));
    if *method != Method::POST {
        return says(StatusCode::METHOD_NOT_ALLOWED, "POST only");
    }
    if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        return says(
            StatusCode::FORBIDDEN,
            "not from a web page: send neither Origin nor Sec-Fetch-Site",
        );
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = media_type.split(';').next().unwrap_or("").trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return says(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json");
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > BODY_BYTES_MAX) {
        return says(StatusCode::PAYLOAD_TOO_LARGE, "the body has 4 KiB at most");
    }
    Ok(())
}

async fn read(session: &mut ServerSession) -> Result<Vec<u8>, Word> {
    let whole = async {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = session.read_request_body().await {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err((
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the body has 4 KiB at most".to_owned(),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    let late = Err((StatusCode::REQUEST_TIMEOUT, "the body did not come within 5 s".to_owned()));
    timeout(BODY_TIME_MAX, whole).await.unwrap_or(late)
}
