//! `POST {gateway_path}/backchannel-logout`: an auth backend says whose sessions have ended there
//! (OpenID Connect Back-Channel Logout 1.0).
//!
//! 1. The backend asks, no browser: there is no cookie, no session and no page to protect. The
//!    signature is what counts, and who sends the token does not matter.
//! 2. Tokens that were issued later stay good, so a logout that comes late, or twice, ends nothing that
//!    it was not about. A `sid` is the exception: the backend says that this session is over, so what it
//!    still signs for it is no proof.
//! 3. Nothing is revoked by a token with one defect.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use pingora::proxy::Session as Request;
use serde::Serialize;
use tokio::time::timeout;

use super::{BODY_BYTES_MAX, Ending, client_of, refusal};
use crate::policy::claims::IssuerId;
use crate::policy::decide::{Answer, Client};
use crate::policy::logout_token::{LogoutToken, Whom, in_form};
use crate::policy::reason::Reason;
use crate::policy::time::Now;
use crate::proxy::Gateway;
use crate::proxy::context::Context;
use crate::proxy::respond::{Reply, Served};
use crate::session::denials::{DENIED_FOR, Denial, Denied, Full, Issued};
use crate::token::LogoutVerdict;

/// How long the body may take to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the answer waits until the other gateways can know; they are told later, too.
const STORE_WAIT: Duration = Duration::from_millis(500);
/// A full list empties as its entries lapse: asking at once is of no use.
const FULL_RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

pub(super) async fn serve(gateway: &Gateway, request: &mut Request, ctx: &Context) -> Ending {
    if gateway.issuer_names.is_empty() {
        return Err(refusal(ctx, Reason::NoRoute));
    }
    let since = (gateway.clock)();
    let form = match is_form(&request.req_header().headers) {
        true => read(request, ctx).await?.and_then(|body| in_form(&body)),
        false => Err("the body is not application/x-www-form-urlencoded"),
    };
    let token = match form {
        Ok(token) => token,
        Err(defect) => return Ok(invalid(gateway, ctx, None, defect)),
    };
    // The token is judged at the moment at which it was there.
    let took = (gateway.clock)().uptime.saturating_sub(since.uptime);
    let now = ctx.received.later(took);
    match gateway.tokens.verify_logout(&token, now).await {
        LogoutVerdict::Bad(issuer, defect) => Ok(invalid(gateway, ctx, issuer, defect)),
        LogoutVerdict::KeysUnavailable(issuer, seconds) => {
            count(gateway, Some(issuer), "keys_unavailable");
            let answer = Answer::unrouted(Client::Program, Reason::KeysUnavailable);
            let answer = Answer { retry_after_s: Some(seconds), ..answer };
            Err(Box::new(Reply::new(answer, ctx.request_id)))
        }
        LogoutVerdict::Good(issuer, token) => Ok(end(gateway, ctx, issuer, &token, now).await),
    }
}

async fn end(
    gateway: &Gateway,
    ctx: &Context,
    issuer: IssuerId,
    token: &LogoutToken,
    now: Now,
) -> Served {
    if !gateway.replays.is_new(issuer, &token.id, token.good_until, now.unix) {
        count(gateway, Some(issuer), "replayed");
        return problem(400, "invalid_request", "this logout token was seen before");
    }
    if let Err(full) = deny(gateway, issuer, token, now) {
        gateway.replays.forget(issuer, &token.id, token.good_until);
        count(gateway, Some(issuer), "full");
        tracing::error!(issuer = name(gateway, Some(issuer)), "not logged out: {full}");
        let mut served = problem(503, "temporarily_unavailable", "the deny list is full");
        served.headers.push((RETRY_AFTER, FULL_RETRY_AFTER));
        return served;
    }
    gateway.denials.written_within(STORE_WAIT).await;
    count(gateway, Some(issuer), "ok");
    let (kind, whom) = match &token.subject {
        Whom::Session { id, .. } => ("sid", id),
        Whom::Person(subject) => ("sub", subject),
    };
    let issuer = name(gateway, Some(issuer));
    let client = client_of(ctx);
    // As a debug text: a name may hold control bytes.
    tracing::info!(target: "audit", issuer, kind, name = ?whom, %client, "logged out by the auth backend");
    Served { status: 200, headers: Vec::new(), body: Bytes::new(), set_cookies: Vec::new() }
}

/// Puts on the deny list what this token is about.
///
/// Where it names a session and a person, access tokens of that person that name no session may be of
/// this one: they end, too. Who is logged out too much logs in again; who is logged out too little is
/// still in after a logout.
fn deny(gateway: &Gateway, issuer: IssuerId, token: &LogoutToken, now: Now) -> Result<(), Full> {
    // Whole seconds: what was issued within this one, too.
    let issued = Issued::Before(token.issued_at.plus(1));
    let (first, second) = match &token.subject {
        Whom::Session { id, person } => (
            Denied::Session { id: id.clone(), issued: Issued::AnyTime },
            person.clone().map(|subject| Denied::Unnamed { subject, issued }),
        ),
        Whom::Person(subject) => (Denied::Person { subject: subject.clone(), issued }, None),
    };
    let lapses = now.unix.plus(DENIED_FOR.as_secs());
    for what in [Some(first), second].into_iter().flatten() {
        gateway.denials.deny(&Denial { issuer, what, lapses }, now.unix)?;
        gateway.metrics.revocations.with_label_values(&["backchannel"]).inc();
    }
    Ok(())
}

fn is_form(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = media_type.split(';').next().unwrap_or("").trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The body, or why it cannot be read.
///
/// # Errors
/// The refusal of one that is too large.
async fn read(
    request: &mut Request,
    ctx: &Context,
) -> Result<Result<Vec<u8>, &'static str>, Box<Reply>> {
    let downstream = request.as_downstream_mut();
    let whole = async {
        let mut body = Vec::new();
        loop {
            match downstream.read_request_body().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(Ok(body)),
                Err(_) => return Ok(Err("the body broke off")),
            }
            if body.len() as u64 > BODY_BYTES_MAX {
                return Err(refusal(ctx, Reason::BodyTooLarge));
            }
        }
    };
    let late = Ok(Err("the body did not come within 5 seconds"));
    timeout(BODY_TIME_MAX, whole).await.unwrap_or(late)
}

/// The refusal of a token that is not good (§2.8), with a line for whoever set the provider up.
fn invalid(
    gateway: &Gateway,
    ctx: &Context,
    issuer: Option<IssuerId>,
    defect: &'static str,
) -> Served {
    count(gateway, issuer, "invalid");
    let client = client_of(ctx);
    let issuer = name(gateway, issuer);
    tracing::info!(target: "audit", issuer, %client, defect, "logout token refused");
    problem(400, "invalid_request", defect)
}

fn problem(status: u16, error: &'static str, description: &'static str) -> Served {
    #[derive(Serialize)]
    struct Body {
        error: &'static str,
        error_description: &'static str,
    }
    // Strings only: serialising cannot fail.
    let body = serde_json::to_vec(&Body { error, error_description: description });
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Served { status, headers, body: body.unwrap_or_default().into(), set_cookies: Vec::new() }
}

fn count(gateway: &Gateway, issuer: Option<IssuerId>, result: &str) {
    let issuer = name(gateway, issuer);
    gateway.metrics.backchannel_logouts.with_label_values(&[issuer, result]).inc();
}

/// `-`: nobody knows whose the token is.
fn name(gateway: &Gateway, issuer: Option<IssuerId>) -> &str {
    let name = issuer.and_then(|issuer| gateway.issuer_names.get(usize::from(issuer.0)));
    name.map_or("-", |name| name)
}
